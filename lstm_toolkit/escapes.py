"""Text out of files, made fit to be shown: what does not show, or moves other text, becomes an escape.

That is what Unicode calls control, format, surrogate, private or unassigned characters, and all separators but the
space. Inside the package names stay as they are in the file, since the runtimes know them by these.
"""

import html
import json
import re
from typing import Any

_PERHAPS = re.compile(r"[^ -~]")


def printable(text: str) -> str:
    """The text in one line, with escapes for what does not show or would move other text."""
    return _PERHAPS.sub(lambda match: _shown(match[0]), text)


def printable_lines(text: str) -> str:
    """The same line by line."""
    return "\n".join(map(printable, text.split("\n")))


def in_html(text: str) -> str:
    """The text for an element or an attribute of HTML and SVG."""
    return html.escape(printable(text))


def in_figure(text: str) -> str:
    """The text for matplotlib, which finds no formula in it."""
    return printable(text).replace("$", r"\$")


def in_csv(value: Any) -> Any:
    """A value for a cell of CSV: no spreadsheet takes a text for a formula."""
    if not isinstance(value, str):
        return value
    shown = printable_lines(value)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def json_text(value: Any, *, indent: int | None = None, encoding: str = "utf-8") -> str:
    """A value as JSON, in which the same is escaped as JSON does it, so that a program reads the true text.

    Args:
        value: what JSON can hold.
        indent: as of `json.dumps`.
        encoding: of the stream that the text goes to; with any but UTF-8, all but ASCII is escaped.
    """
    is_unicode = encoding.lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not is_unicode, indent=indent)
    return "\n".join(_PERHAPS.sub(lambda match: _shown_in_json(match[0]), line) for line in text.split("\n"))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _shown_in_json(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
