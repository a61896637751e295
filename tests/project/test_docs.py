"""What is read without Jupyter: the codelabs as pages (`make html`), the reference (`make docs`), and the container."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest
from bs4 import BeautifulSoup

import lstm_toolkit
from lstm_toolkit import lingvo, widgets
from lstm_toolkit.cli import main
from lstm_toolkit.doctor.faults import FAULTS
from lstm_toolkit.symptoms.entries import SYMPTOMS
from tests.helpers.jupyterlab import browse, needs_chromium
from tests.helpers.tools import tool

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lstm_toolkit"
NOTEBOOKS = tool("render_notebooks").all_notebooks()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = ("micro", "errors", "codelab", "models", "exercises")
# What a browser fetches by itself, and the attribute with its address.
FETCHED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "image": "href",
    "img": "src",
    "input": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "track": "src",
    "use": "href",
    "video": "src",
}
# The same inside of styles and scripts.
FETCHED_BY_CODE = re.compile(
    r"""(?:@import\s|url\(|\bimport\b[^;'"(]*\(?|\bfetch\(|\bsrc\s*=)\s*['"]?((?:https?:)?//[^\s'")]+)"""
)


def fetched_from_elsewhere(page):
    """Addresses on other hosts that a browser would fetch for a page."""
    tags = page.find_all(True)
    addresses = [str(tag.get(FETCHED.get(tag.name, ""), "")) for tag in tags]
    addresses += [part.split()[0] for tag in tags if tag.has_attr("srcset") for part in str(tag["srcset"]).split(",")]
    found = [address for address in addresses if urlsplit(address).netloc]
    code = [tag.get_text() if tag.name in ("style", "script") else str(tag.get("style", "")) for tag in tags]
    return found + [match for text in code for match in FETCHED_BY_CODE.findall(text)]


def test_what_a_page_fetches_is_seen():
    inner = 'import x from "https://h/d.js"; fetch("https://h/e")'
    text = f"""<script src="https://h/a.js"></script><link href="//h/b.css"><img src="c.png"><a href="https://h/"></a>
    <script>{inner}</script><style>p {{ background: url(https://h/f.png) }} @import "https://h/g.css";</style>
    <img srcset="https://h/i.png 2x" src="data:image/png;base64,AA"><iframe src="https://h/j"></iframe>"""
    found = {address.rpartition("/")[2] for address in fetched_from_elsewhere(BeautifulSoup(text, "html.parser"))}
    assert found == {"a.js", "b.css", "d.js", "e", "f.png", "g.css", "i.png", "j"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder that `make html` makes."""
    folder = tmp_path_factory.mktemp("html")
    assert tool("render_notebooks").render(folder, NOTEBOOKS) == [page_of(folder, path) for path in NOTEBOOKS]
    return folder


def page_of(folder, notebook):
    return folder / notebook.relative_to(ROOT / "notebooks").with_suffix(".html")


@pytest.fixture(scope="module")
def pages(folder):
    """Each page by its path, parsed."""
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in folder.rglob("*.html")}


def test_pages_are_whole(folder, pages):
    for path in NOTEBOOKS:
        page = pages[page_of(folder, path)]
        cells = json.loads(path.read_text())["cells"]
        assert page.html["lang"] == "en"
        assert page.title.get_text() in page.h1.get_text()
        assert len(page.select("main .jp-Cell")) == len(cells)


def test_hints_are_folded(folder, pages):
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        hints = sum("".join(cell["source"]).count("<details>") for cell in cells if cell["cell_type"] == "markdown")
        every = pages[page_of(folder, path)].select("details")
        folded = [each for each in every if each.summary.get_text().startswith("Hint")]
        assert len(folded) == hints
        assert all(len(each.get_text()) > 40 for each in folded), path.name


def test_hidden_folders_are_not_rendered(tmp_path, monkeypatch):
    render = tool("render_notebooks")
    for name in ("a.ipynb", "solutions/b.ipynb", ".ipynb_checkpoints/a.ipynb", "solutions/.old/b.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(render, "NOTEBOOKS", tmp_path)
    assert render.all_notebooks() == [tmp_path / "a.ipynb", tmp_path / "solutions/b.ipynb"]


def test_pages_ask_no_other_host(pages):
    found = {path.name: addresses for path, page in pages.items() if (addresses := fetched_from_elsewhere(page))}
    assert not found


def test_pages_have_no_mathematics_that_needs_a_script():
    markdown = [
        (path.name, line)
        for path in NOTEBOOKS
        for cell in json.loads(path.read_text())["cells"]
        for line in re.sub(r"`[^`]*`", "", "".join(cell["source"])).splitlines()
        if cell["cell_type"] == "markdown" and re.search(r"\$\S|\\[(\[]", line)
    ]
    assert not markdown


def test_pictures_of_pages_are_embedded_and_have_texts(pages):
    for path, page in pages.items():
        for picture in page.find_all("img"):
            assert picture["src"].startswith("data:image/"), (path.name, picture["src"][:80])
            assert picture["alt"].strip(), path.name
            assert not picture["alt"].startswith("No description"), path.name
    assert sum(len(page.find_all("img")) for page in pages.values()) >= len(NOTEBOOKS) / 2


def test_links_between_pages_lead_somewhere(pages):
    places = {path: {"", *(tag["id"] for tag in page.find_all(id=True))} for path, page in pages.items()}
    broken, followed = [], set()
    for path, page in pages.items():
        for link in page.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            followed.add(target)
            if not {parts.fragment, unquote(parts.fragment)} & places.get(target, set()):
                broken.append((str(path), link["href"]))
    assert not broken
    assert len(followed) > len(pages) / 2


@needs_chromium
def test_browser_finds_all_in_the_page(folder):
    chosen = [page_of(folder, path) for path in (NOTEBOOKS[0], NOTEBOOKS[-1], ROOT / "notebooks" / "index.ipynb")]
    asked, said = [], []
    with browse(1000, 800) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        for path in chosen:
            page.goto(path.as_uri())
            page.wait_for_load_state("networkidle")
            assert page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth)"), path.name
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path.name
        page.get_by_role("link", name=re.compile("00_quickstart|Quickstart", re.IGNORECASE)).first.click()
        page.wait_for_load_state("networkidle")
        assert page.url == page_of(folder, NOTEBOOKS[0]).as_uri()
    assert not [address for address in asked if not address.startswith(("file:", "data:"))]
    assert not said


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The pages that `make docs` makes, parsed; a warning of Sphinx is an error."""
    folder = tmp_path_factory.mktemp("docs")
    arguments = ["-W", "--keep-going", "-q", "-d", str(folder / "doctrees"), "docs", str(folder / "html")]
    code = (
        f"import sys; from sphinx.cmd.build import main; failed = main({arguments!r}); "
        "sys.exit(failed or ('tensorflow.python' in sys.modules and 'TensorFlow was imported'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in (folder / "html").rglob("*.html")
        if "_modules" not in path.parts
    }


def public_names():
    """Names that users may rely on, as they are imported."""
    yield from (f"lstm_toolkit.{name}" for name in lstm_toolkit._MODULES)
    for module in (lingvo, widgets):
        yield from (f"{module.__name__}.{name}" for name in module.__all__)
    for module in MODULES:
        place = PACKAGE / f"{module}.py"
        files = [place] if place.exists() else sorted((PACKAGE / module).glob("*.py"))
        for file in files:
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            tree = ast.parse(file.read_text())
            for node in tree.body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                    yield f"{name}.{node.name}"


def test_every_public_name_is_in_the_reference(reference):
    described = {tag["id"] for page in reference.values() for tag in page.select("dt[id]")}
    names = set(public_names())
    assert len(names) > 60
    assert sorted(names - described) == []


def test_the_reference_asks_no_other_host(reference):
    assert not {path.name: found for path, page in reference.items() if (found := fetched_from_elsewhere(page))}


def test_pictures_of_the_reference_have_texts(reference):
    pictures = [(path, tag) for path, page in reference.items() for tag in page.find_all("img")]
    assert pictures
    for path, tag in pictures:
        assert (path.parent / tag["src"]).is_file()
        assert len(tag["alt"]) > 20


def test_nothing_of_the_docstrings_is_left_as_markup(reference):
    """A section that Sphinx did not recognize stays a word with a colon at the start of a paragraph."""
    for path, page in reference.items():
        left = [
            p.get_text() for p in page.select("dd p") if re.match(r"(Args|Returns|Attributes|Raises):", p.get_text())
        ]
        assert not left, path.name


def test_commands_faults_and_codelabs_are_in_the_pages(reference):
    texts = {path.stem: page.get_text() for path, page in reference.items()}
    assert isinstance(main, click.Group)
    for name, command in main.commands.items():
        assert f"lstm-toolkit {name}" in texts["command_line"]
        options = [option for each in command.params if isinstance(each, click.Option) for option in each.opts]
        assert not [option for option in options if option not in texts["command_line"]]
    assert not [fault.code for fault in FAULTS if fault.code not in texts["files"]]
    codelabs = [path.stem for path in NOTEBOOKS if path.parent.name == "notebooks"]
    assert not [name for name in codelabs if name not in texts["codelabs"]]


def test_all_symptoms_are_on_their_page(reference):
    (page,) = (page for path, page in reference.items() if path.stem == "symptoms")
    text = " ".join(page.get_text().split())
    for symptom in SYMPTOMS:
        for part in (symptom.title, *symptom.messages, symptom.meaning, symptom.see, symptom.mend, symptom.after):
            assert " ".join(part.replace("`", "").split()) in text.replace("`", ""), part
        assert {*symptom.addresses} <= {link["href"] for link in page.find_all("a")}
    assert "ERROR: " not in text


def test_container():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    version = re.fullmatch(r"mcr\.microsoft\.com/devcontainers/python:(\d+)\.(\d+)", container["image"])
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert (version[1], int(low) <= int(version[2]) < int(high)) == ("3", True)
    extras = re.search(r"pip install --editable '\.\[([a-z,]+)\]'", container["postCreateCommand"])[1].split(",")
    assert "codelabs" in extras
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    opened = container["postAttachCommand"].split()
    assert opened[:3] == ["python", "-m", "jupyterlab"]
    assert container["forwardPorts"] == [8888]
    options = dict(option.split("=") for option in opened if "=" in option)
    assert options["--port"] == "8888"
    assert options["--ip"] == "127.0.0.1"
    first = f"{options['--ServerApp.root_dir']}/{options['--LabApp.default_url'].removeprefix('/lab/tree/')}"
    for name in (first, *container["customizations"]["codespaces"]["openFiles"]):
        assert (ROOT / name).is_file()
