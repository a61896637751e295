"""Sphinx's settings. `make docs` builds into build/docs; nothing is downloaded, and no TensorFlow is needed."""

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sphinx.ext.autodoc import mock
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature

import lstm_toolkit
from lstm_toolkit.symptoms.entries import CHAPTERS
from lstm_toolkit.symptoms.values import Symptom

# What is slow to import, or in no package that the base installation brings. Sphinx's own setting for this holds while
# a module is imported; later it looks for the sources of base classes, and would import TensorFlow then.
_mocked = mock(["tensorflow", "keras", "tf_keras", "ipywidgets"])
_mocked.__enter__()

project = "lstm_toolkit"
author = "The lstm_toolkit authors"
release = version = lstm_toolkit.__version__
language = "en"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_click"]
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_type_aliases = {"npt.ArrayLike": "ArrayLike", "npt.DTypeLike": "DTypeLike"}
# Names in docstrings stand in single backquotes: links where there is something to link to, code elsewhere.
default_role = "py:obj"
napoleon_numpy_docstring = False
# Names that share a description stay together.
napoleon_use_param = False
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 100
add_module_names = False
highlight_language = "none"
# Dashes only: what stands in quotes is mostly a value, and three dots are Python's.
smartquotes_action = "D"

html_theme = "furo"
html_title = f"lstm_toolkit {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_domain_indices = False

_QUOTED = re.compile(r"(?<!`)`([^`]+)`(?![`_])")
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_SHORTER = {
    r"~numpy\._typing\._array_like\._Buffer \|.*?\[complex \| bytes \| str\]": "ArrayLike",
    r"TypeAliasForwardRef\('(\w+)'\)": r"\1",
    r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[~\w+\.(\w+)\]\]": r"NDArray[\1]",
    r"\bnpt\.|\bnp\.(?=float|int)": "",
}
"""Types of arrays as Sphinx spells them out, and as one writes them."""


def _as_napoleon_reads(
    app: Any, what: str, name: str, described: Any, options: Any, lines: list[str]
) -> None:  # the arguments of Sphinx's event
    """Mends what Sphinx would read otherwise than it is meant, before napoleon does its part."""
    text = _QUOTED.sub(lambda found: found[0] if _NAME.fullmatch(found[1]) else f"`{found[0]}`", "\n".join(lines))
    lines[:] = text.split("\n")
    if what in ("attribute", "data", "property"):
        # Napoleon takes what stands before a colon in the first line for a type, and sees no sections.
        read = GoogleDocstring(lines, app.config, app, "method", name, described, options)
        lines[:] = ["..", "", *str(read).split("\n")]


def _as_one_writes(
    app: Any, what: str, name: str, described: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Writes signatures as one does."""
    if what == "class" and signature and signature.startswith("(*args"):
        # It has a base that is not there, and this is how that is made.
        own = signature_of(described.__init__, bound_method=True)
        signature = stringify_signature(own, show_return_annotation=False, unqualified_typehints=True)
    for long, short in _SHORTER.items():
        signature, returned = (text and re.sub(long, short, text) for text in (signature, returned))
    return signature, returned


def _block(text: str, language: str) -> str:
    return f".. code-block:: {language}\n\n" + "".join(f"    {line}\n" for line in text.strip().splitlines())


def _of_symptom(symptom: Symptom) -> str:
    """A section about one symptom."""
    mending = "sh" if symptom.mend.startswith("lstm-toolkit") else "python"
    prose = {name: re.sub(r"`([^`]+)`", r"``\1``", getattr(symptom, name)) for name in ("title", "meaning", "after")}
    links = ", ".join(
        f"`{thread.split('/blob/')[0]} <{address}>`__"
        for thread, address in zip(symptom.threads, symptom.addresses, strict=True)
    )
    parts = [
        f".. _symptom-{symptom.code}:\n\n{prose['title']}\n{'~' * 100}",
        *(_block("\n".join(textwrap.wrap(message, 84)), "none") for message in symptom.messages),
        prose["meaning"],
        symptom.see and f"In your own file, look for ``{symptom.shows}``:\n\n{_block(symptom.see, 'sh')}",
        f"What mends it:\n\n{_block(symptom.mend, mending)}",
        prose["after"],
        f"Reported in {links}.",
    ]
    return "\n\n".join(part for part in parts if part)


def _with_symptoms(app: Any, name: str, source: list[str]) -> None:
    """Puts the symptoms in their place on their page."""
    if name == "symptoms":
        chapters = (
            f"{title}\n{'-' * 100}\n\n" + "\n\n".join(map(_of_symptom, each)) for title, each in CHAPTERS.items()
        )
        source[0] = source[0].replace("SYMPTOMS\n", "\n\n".join(chapters) + "\n")


def setup(app: Any) -> None:
    """Napoleon's own priority is 500."""
    app.connect("source-read", _with_symptoms)
    app.connect("autodoc-process-docstring", _as_napoleon_reads, priority=400)
    app.connect("autodoc-process-signature", _as_one_writes)
