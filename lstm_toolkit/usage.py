"""The words of the command line: examples, which a test runs from the first to the last, and messages."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import click

from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.escapes import printable

PYTHON_ONLY = ("input_signature",)
"""Arguments of `convert` that the command line cannot give."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "lstm-toolkit": ("convert model.keras -o model.tflite", "inspect model.tflite", "convert --help"),
    "convert": (
        "convert model.keras -o model.tflite",
        "convert model.keras -o loop.tflite --lowering loop --target compiled",
        "convert model.keras -o stream.tflite --state carry --batch-size 2",
        "convert model.keras -o int8.tflite --quantization int8 --representative-dataset samples.npz",
    ),
    "lower": (
        "lower model.tflite -o plain.tflite",
        "lower model.tflite -o plain.tflite --form loop --steps-per-turn 4",
    ),
    "inspect": ("inspect model.tflite", "inspect model.tflite --json"),
    "diagnose": ("diagnose model.keras", "diagnose model.tflite --target litert --run"),
    "repair": ("repair model.tflite -o mended.tflite", "repair model.tflite -o mended.tflite --keep state-leak"),
    "plot": ("plot model.tflite", "plot model.tflite -o gates.svg --gate forget"),
    "export": (
        "export int8.tflite -o src --name gesture --no-run",
        "export int8.tflite -o flash --project esp-idf --representative-dataset samples.npz",
    ),
    "explain": ('explain "TensorListReserve requires element_shape to be static"',),
    "environment": ("environment", "environment --json"),
    "bench": ("bench model.tflite loop.tflite", "bench model.tflite int8.tflite --runs 20 --csv times.csv"),
}
"""What follows the name of the program; `model.keras` and `samples.npz` are the user's own files."""


def examples_of(name: str) -> str | None:
    """The examples of a command as the end of its help, or None where it has none."""
    if name not in EXAMPLES:
        return None
    # Click leaves a paragraph that begins with this sign as it is.
    return "\n".join(["\b", "For example:", *(f"  lstm-toolkit {example}" for example in EXAMPLES[name])])


class Command(click.Command):
    """A command with its examples below its help."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, epilog=examples_of(name), **options)


def in_options(text: str, command: click.Command) -> str:
    """A text of the package, which names arguments of a function, in the words of its command, which has options.

    `--time-steps` stands for `time_steps`, and `--lowering unrolled or loop` for `lowering="unrolled" or "loop"`. What
    no option can give stays as it is.
    """
    options = {str(each.name): each for each in command.params if isinstance(each, click.Option)}

    def valued(match: re.Match[str]) -> str:
        option, values = options[match[1]], re.findall(r"\w[\w.-]*", match[2].replace('" or "', " "))
        if isinstance(option.type, click.Choice) and not set(values) <= set(option.type.choices):
            return match[0]
        if not option.is_flag:
            return f"{option.opts[0]} {' or '.join(values)}"
        return (option.opts if values == ["True"] else option.secondary_opts or [match[0]])[0]

    names = "|".join(options)
    text = re.sub(rf'\b({names})=("[\w-]+"(?: or "[\w-]+")*|\w[\w.]*)', valued, text)
    # A name of one word is a word of its own too, but for where a message is about its value.
    compound = "|".join(name for name in options if "_" in name) or "(?!)"
    bare = rf"(?<![\w'\"-])({compound})(?![\w'\"])|^({names})(?= must be )"
    return re.sub(bare, lambda match: options[match[1] or match[2]].opts[0], text)


def in_words_of_the_command(error: Exception) -> str:
    """What is wrong, in the words of the command; says at its end what only the Python function takes."""
    text = in_options(printable(str(error)), click.get_current_context().command)
    only = dict.fromkeys(re.findall(rf"\b(?:{'|'.join(PYTHON_ONLY)})", text))
    return f"{text} ({', '.join(only)}: only in Python, as an argument of lstm_toolkit.convert)" if only else text


@contextlib.contextmanager
def reporting_errors(wrong_value: Callable[[str], click.ClickException] = click.UsageError) -> Iterator[None]:
    """Turns errors into one line: those of the package and of writing a file with exit code 1, and wrong values too."""
    try:
        yield
    except LstmToolkitError as error:
        raise click.ClickException(in_words_of_the_command(error)) from error
    except ValueError as error:
        raise wrong_value(in_words_of_the_command(error)) from error
    except OSError as error:
        where = error.filename or "a file"
        raise click.ClickException(f"cannot write {where!r}: {error.strerror or error}") from error
