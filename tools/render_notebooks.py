"""Renders notebooks as HTML for readers without Jupyter.

    python tools/render_notebooks.py FOLDER [NOTEBOOK ...]

Without notebooks all of `notebooks/` are rendered. A page holds all that it shows and asks no other host for anything:
images are embedded, and the scripts that nbconvert's template loads are left out. Links to notebooks become links to
their pages, and links to other files of the repository lead to GitHub.
"""

import base64
import mimetypes
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
FILES = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"] + "/blob/main/"
"""Address of the repository's files."""

TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
main { max-width: 62rem; margin: 0 auto; }
main img { max-width: 100%; height: auto; }
</style>
{%- endblock -%}
"""
"""JupyterLab's template of nbconvert, less what it loads from elsewhere."""


def render(folder: Path, paths: list[Path]) -> list[Path]:
    """Renders notebooks into a folder, in the places that they have in `notebooks/`; returns the pages."""
    # Its own way to embed images closes each <details> before what is to be folded.
    exporter = HTMLExporter(raw_template=TEMPLATE, embed_images=False)
    pages = []
    for path in (each.resolve() for each in paths):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata["title"] = _title(notebook) or path.stem
        resources = {"metadata": {"name": path.stem, "path": str(path.parent)}}
        text, _ = exporter.from_notebook_node(notebook, resources)
        pages.append(folder / path.relative_to(NOTEBOOKS).with_suffix(".html"))
        pages[-1].parent.mkdir(parents=True, exist_ok=True)
        pages[-1].write_text(_complete(text, path), encoding="utf-8")
    return pages


def _title(notebook: Any) -> str:
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return next((line[2:].strip() for text in texts for line in text.splitlines() if line.startswith("# ")), "")


def _complete(text: str, path: Path) -> str:
    """A page with its images in it, and its links to files led to where they are for its reader."""
    soup = BeautifulSoup(text, "html.parser")
    for link in soup.select("a[href]"):
        link["href"] = _address(str(link["href"]), path)
    for image in soup.select("img[src]"):
        if not urlsplit(source := str(image["src"])).scheme:
            data = base64.b64encode((path.parent / unquote(source)).read_bytes()).decode()
            image["src"] = f"data:{mimetypes.guess_type(source)[0]};base64,{data}"
    return str(soup)


def all_notebooks() -> list[Path]:
    """The notebooks of the repository, without the copies that Jupyter keeps in hidden folders."""
    found = (path.relative_to(NOTEBOOKS) for path in sorted(NOTEBOOKS.rglob("*.ipynb")))
    return [NOTEBOOKS / path for path in found if not any(part.startswith(".") for part in path.parts)]


def _address(href: str, path: Path) -> str:
    parts = urlsplit(href)
    if parts.scheme or parts.netloc or not parts.path:
        return href
    target = (path.parent / unquote(parts.path)).resolve()
    if target.suffix == ".ipynb" and target.is_relative_to(NOTEBOOKS):
        return urlunsplit(parts._replace(path=parts.path.removesuffix(".ipynb") + ".html"))
    return FILES + target.relative_to(ROOT).as_posix() + (f"#{parts.fragment}" if parts.fragment else "")


if __name__ == "__main__":
    chosen = [Path(each) for each in sys.argv[2:]] or all_notebooks()
    for page in render(Path(sys.argv[1]), chosen):
        print(page)
