"""The refusals of the package: which messages its source holds, and tests that meet them and do what they advise."""

import ast
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lstm_toolkit
from lstm_toolkit.errors import LstmToolkitError
from tests.helpers.calls import TOLERANCE, assert_agrees
from tests.helpers.forms import call, draw

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
    """Every message that the package raises, and every reason that a function returns whose name has why or refusal."""
    return tuple(message for path in sorted(PACKAGE.rglob("*.py")) for message in _messages_of(path))


def _messages_of(path: Path) -> Iterator[Message]:
    tree = ast.parse(path.read_text())
    module = path.relative_to(PACKAGE).as_posix()
    texts = _texts(tree.body)
    for function, node in _statements(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            said = node.exc.args
        elif (
            isinstance(node, ast.Return)
            and node.value is not None
            and re.search("why|refusal", getattr(function, "name", ""))
        ):
            said = [node.value]
        else:
            continue
        known = {**texts, **_texts(ast.walk(function))}
        text = re.sub(r"(\{\})+", "{}", "".join(_constants(each, known) for each in said))
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
        return "{}" if isinstance(node.value, ast.Call) else _constants(node.value, texts) or "{}"
    return "".join(_constants(child, texts) for child in ast.iter_child_nodes(node)) or "{}"


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A message, how to meet it, and what it advises.

    Attributes:
        words: what the message has of layer or argument, fact and remedy. The first are in the source too, with {} for
            what is computed, and no other message has them.
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
            assert re.search(re.escape(each).replace(r"\{\}", ".*"), message, re.DOTALL), message
        assert "verify=False" not in message
        assert len(message) < LONGEST, message
        assert self.remedies
        for remedy in self.remedies:
            remedy()


LONGEST = 700
"""Characters of a message that somebody still reads; a dump of a configuration takes more."""


def exact(model: Any, **options: Any) -> Any:
    """Converts a model with its comparison, and compares a stateless Keras model once more, by other code."""
    conversion = lstm_toolkit.convert(model, **options)
    report = conversion.report
    if report.quantization is not None:
        assert report.quantization.relative_error < LARGEST_QUANTIZATION_ERROR
        return conversion
    assert report.max_abs_error < TOLERANCE
    if getattr(model, "inputs", None) and {"state", "time_major", "input_signature"}.isdisjoint(options):
        shapes = lstm_toolkit.Runner(conversion.tflite).input_shapes
        batch = next(iter(shapes.values()))[0]
        calls = [draw(model, batch=batch, time=options.get("time_steps", 6), seed=seed) for seed in range(3)]
        assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls])
    return conversion


def refused(
    words: str | tuple[str, ...],
    make: Callable[[], Any],
    options: dict[str, Any],
    *remedies: dict[str, Any] | Callable[[], Any],
    at: str = "",
) -> Refusal:
    """A conversion that is refused. A remedy is a function, or options that the message names; then they are taken."""
    named = [each for each in remedies if isinstance(each, dict)]
    told = [word for each in named for name, value in each.items() for word in (name, _shown(value))]
    given = (words,) if isinstance(words, str) else words

    def remedied(changes: dict[str, Any]) -> Any:
        return exact(make(), **{name: value for name, value in (options | changes).items() if value is not LEAVE_OUT})

    followed = (functools.partial(remedied, each) if isinstance(each, dict) else each for each in remedies)
    return Refusal((*given, *told), lambda: lstm_toolkit.convert(make(), **options), *followed, at=at)


LEAVE_OUT: Any = "leave"
"""The value of an option that a remedy leaves out."""

LARGEST_QUANTIZATION_ERROR = 0.2


def _shown(value: Any) -> str:
    """How a message shows the value of an option, as far as it does."""
    if value is LEAVE_OUT:
        return LEAVE_OUT
    return f'"{value}"' if isinstance(value, str) else ""
