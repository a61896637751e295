"""Examples of each command, which stand below its help; a test runs them from the first to the last."""

from typing import Any

import click

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
    "export": ("export int8.tflite -o src --name gesture --no-run",),
    "explain": ('explain "TensorListReserve requires element_shape to be static"',),
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
