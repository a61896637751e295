"""The refusals of the package: which messages its source holds, and tests that meet them and do what they advise."""

import ast
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lstm_toolkit.errors import LstmToolkitError

PACKAGE = Path(__file__).parents[2] / "lstm_toolkit"


@dataclasses.dataclass(frozen=True)
class Message:
    """A message in the source of the package.

    Attributes:
        place: the module and the function, such as "conversion/plans.py:_for_micro".
        line: where it is raised or returned.
        text: what is constant of it, with {} for everything else.
    """

    place: str
    line: int
    text: str


@functools.cache
def messages() -> tuple[Message, ...]:
    """Every message that the package raises, and every reason that a function called `..why..` returns."""
    return tuple(message for path in sorted(PACKAGE.rglob("*.py")) for message in _messages_of(path))


def _messages_of(path: Path) -> Iterator[Message]:
    tree = ast.parse(path.read_text())
    module = path.relative_to(PACKAGE).as_posix()
    texts = _texts(tree.body)
    for function, node in _statements(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            said = node.exc.args
        elif isinstance(node, ast.Return) and node.value is not None and "why" in getattr(function, "name", ""):
            said = [node.value]
        else:
            continue
        known = {**texts, **_texts(ast.walk(function))}
        text = "".join(_constants(each, known) for each in said)
        if text.replace("{}", "").strip(" :;.,"):
            yield Message(f"{module}:{getattr(function, 'name', '')}", node.lineno, text)


def _statements(tree: ast.AST, function: Any = None) -> Iterator[tuple[Any, ast.stmt]]:
    """Every statement that raises or returns, with the innermost function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Raise, ast.Return)):
            yield function or tree, node
        yield from _statements(node, node if isinstance(node, ast.FunctionDef) else function)


def _texts(nodes: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    """The texts that names stand for: all that are assigned to a name."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.JoinedStr, ast.IfExp)):
            for target in node.targets:
                found.setdefault(getattr(target, "id", ""), []).append(node.value)
    return found


def _constants(node: ast.AST, texts: dict[str, list[ast.expr]]) -> str:
    """The constant text of an expression, with {} for what is computed."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.Name):
        return "".join(_constants(each, {}) for each in texts.get(node.id, ())) or "{}"
    if isinstance(node, ast.FormattedValue):
        return _constants(node.value, texts) or "{}"
    return "".join(_constants(child, texts) for child in ast.iter_child_nodes(node)) or "{}"


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A message, how to meet it, and what it advises.

    Attributes:
        words: what the message has of layer or argument, fact and remedy. The first are constant in the source, and no
            other message has them.
        meet: what is refused.
        remedies: each does what the message advises, and fails unless that helps.
        at: the beginning of the message's `place`, where others have the same words.
    """

    words: tuple[str, ...]
    meet: Callable[[], Any]
    remedies: tuple[Callable[[], Any], ...]
    at: str = ""

    def __init__(self, words: str | tuple[str, ...], meet: Any, *remedies: Any, at: str = "") -> None:
        given = (words,) if isinstance(words, str) else words
        for name, value in {"words": given, "meet": meet, "remedies": remedies, "at": at}.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return re.sub(r"[^\w.]+", " ", f"{self.at} {self.words[0]}").strip()

    def covers(self, message: Message) -> bool:
        """Whether it is this message of the source."""
        return message.place.startswith(self.at) and self.words[0] in message.text

    def follow(self) -> None:
        """Meets the refusal, and does what it advises."""
        with pytest.raises((LstmToolkitError, ValueError, TypeError, LookupError, ImportError)) as met:
            self.meet()
        message = met.value.args[0]
        for each in self.words:
            assert each in message, message
        assert "verify=False" not in message
        assert len(message) < LONGEST, message
        assert self.remedies
        for remedy in self.remedies:
            remedy()


LONGEST = 700
"""Characters of a message that somebody still reads; a dump of a configuration takes more."""
