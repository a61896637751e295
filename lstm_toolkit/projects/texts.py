"""The files of a project, made of the templates beside this module and of what was measured and recorded."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from lstm_toolkit import _version
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.projects.recording import STEPS_ALLOWED, Edge, Recording
from lstm_toolkit.runtime.trial import FLOAT_TOLERANCE, INTEGER_TOLERANCE

KINDS = ("esp-idf", "arduino", "generic")
"""What a project can be for: ESP-IDF, the Arduino IDE, and a Makefile for a computer."""

_FILES = {
    "esp-idf": {
        "CMakeLists.txt": "esp-idf/CMakeLists.txt",
        "sdkconfig.defaults": "esp-idf/sdkconfig.defaults",
        "main/CMakeLists.txt": "esp-idf/main/CMakeLists.txt",
        "main/idf_component.yml": "esp-idf/main/idf_component.yml",
        "main/main.cpp": "esp-idf/main/main.cpp",
    },
    "arduino": {"{name}/{name}.ino": "arduino/sketch.ino"},
    "generic": {"main.cpp": "generic/main.cpp", "Makefile": "generic/Makefile"},
}
"""Where each kind has which template. The Arduino IDE asks for a folder with the name of the sketch."""

_SOURCES = {"esp-idf": "main/", "arduino": "{name}/", "generic": ""}
"""The folder that each kind has its sources in."""

NOT_IN_ARDUINO = frozenset(
    ("BATCH_MATMUL", "DYNAMIC_UPDATE_SLICE", "EMBEDDING_LOOKUP", "REDUCE_ALL", "REDUCE_MIN", "REVERSE_V2")
)
"""Ops of today's TensorFlow Lite Micro that Chirale_TensorFLowLite 2.0.0, of July 2024, lacks
(`src/tensorflow/lite/micro/micro_mutable_op_resolver.h`)."""

_TYPES = {
    "float32": ("float", "kTfLiteFloat32"),
    "int8": ("int8_t", "kTfLiteInt8"),
    "uint8": ("uint8_t", "kTfLiteUInt8"),
    "int16": ("int16_t", "kTfLiteInt16"),
    "int32": ("int32_t", "kTfLiteInt32"),
    "int64": ("int64_t", "kTfLiteInt64"),
    "bool": ("bool", "kTfLiteBool"),
}
"""The type in C and in TensorFlow Lite of each dtype."""


def check_kind(kind: str, ops: Mapping[str, int] | None = None) -> None:
    """Refuses a kind that is not one, or whose library lacks an op.

    Raises:
        ValueError: for an unknown kind.
        InvalidModelError: for an op that the library for Arduino lacks.
    """
    if kind not in KINDS:
        raise ValueError(f"project must be one of {', '.join(KINDS)}, got {kind!r}")
    missing = sorted(NOT_IN_ARDUINO & set(ops or ()))
    if kind == "arduino" and missing:
        raise InvalidModelError(
            f"the library for Arduino, Chirale_TensorFLowLite 2.0.0, has no op {missing[0]}, which this model uses; "
            'pass project="esp-idf" or "generic", whose library has it'
        )


def project_files(kind: str, name: str, recording: Recording, values: Mapping[str, Any]) -> dict[str, str]:
    """The text of each file of a project but the model itself, by its path in the folder.

    Args:
        kind: of `KINDS`.
        name: of the project, an identifier of C.
        recording: the calls to compare.
        values: what the templates name beside that: `array`, `resolver`, `op_count`, `measured`, `arena`, `file_size`.
    """
    commands = _filled(f"{kind}/commands.md", {"name": name, **values}).rstrip("\n")
    words = {"name": name, "commands": commands, **values, **_of_calls(recording), **_of_readme(recording)}
    words["resolver"] = textwrap.indent("static " + values["resolver"].rstrip("\n"), "  ")
    own = {path.format(name=name): template for path, template in _FILES[kind].items()}
    shared = {sources_of(kind, name) + each: each for each in ("check.h", "check.cpp", "calls.h", "calls.cpp")}
    return {path: _filled(template, words) for path, template in ({"README.md": "README.md"} | own | shared).items()}


def sources_of(kind: str, name: str) -> str:
    """The folder of a project that its sources lie in, as the beginning of their paths."""
    return _SOURCES[kind].format(name=name)


def plain(text: str) -> str:
    """A name out of a file as letters, digits and signs that mean nothing in C, CMake, Markdown and a format."""
    return re.sub(r"[^A-Za-z0-9_.:/ -]", "_", text)[:60]


def _filled(template: str, words: Mapping[str, Any]) -> str:
    text = resources.files(__package__).joinpath(f"templates/{template}").read_text(encoding="utf-8")
    # Neither a dollar, which Makefiles and CMake are full of, nor a percent sign.
    return re.sub(r"@\{(\w+)\}", lambda place: str(words[place[1]]), text)


def _of_calls(recording: Recording) -> dict[str, Any]:
    arrays = [_array(f"input_{k}", edge) for k, edge in enumerate(recording.inputs)]
    arrays += [_array(f"output_{k}", edge) for k, edge in enumerate(recording.outputs)]
    return {
        "calls": len(recording.inputs[0].values),
        "inputs": len(recording.inputs),
        "outputs": len(recording.outputs),
        "arrays": "\n".join(arrays),
        "input_rows": _rows("input", recording.inputs),
        "output_rows": _rows("output", recording.outputs),
    }


def _array(name: str, edge: Edge) -> str:
    lines = []
    for call in edge.values:
        numbers = ", ".join(map(_literal, call))
        lines.append("    {" + textwrap.fill(numbers, 110, subsequent_indent=" " * 5) + "},")
    size = edge.values.shape[1]
    head = f"// {plain(edge.name)}\nconst {_TYPES[edge.values.dtype.name][0]} {name}[kCallCount][{size}] = {{"
    return "\n".join([head, *lines, "};"]) + "\n"


def _literal(value: Any) -> str:
    """A number in C that is the same one."""
    if value.dtype.kind == "f":
        if not np.isfinite(value):
            return "NAN" if np.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
        digits = f"{value:.9g}"
        return f"{digits}f" if set(digits) & set(".e") else f"{digits}.0f"
    if value.dtype == np.int64:
        # The smallest one is no literal: it would be the negative of a number that is too large.
        return f"{value}LL" if value > np.iinfo(np.int64).min else f"{int(value) + 1}LL - 1"
    return str(int(value))


def _rows(kind: str, edges: Sequence[Edge]) -> str:
    rows = []
    for k, edge in enumerate(edges):
        size, bytes_ = edge.values.shape[1], edge.values[0].nbytes
        code = _TYPES[edge.values.dtype.name][1]
        name = f"{kind} {k}, {plain(edge.name)}"
        rows.append(f'    {{"{name}", {code}, {size}, {bytes_}, {edge.tolerance!r}, {kind}_{k}}},')
    return "\n".join(rows)


def _of_readme(recording: Recording) -> dict[str, Any]:
    state = (
        "which carries its state from call to call. So the last call, which has the inputs of the first, has other "
        "expected outputs."
        if recording.carries_state
        else "and the last call has the inputs of the first, so that state which leaks from call to call would be seen."
    )
    edges = [*recording.inputs, *recording.outputs]
    return {
        "origin": textwrap.fill(f"{recording.origin} They run in a row on one interpreter, {state}", 120),
        "version": _version.__version__,
        "input_table": "\n".join(_row(edge) for edge in recording.inputs),
        "output_table": "\n".join(f"{_row(edge)} {edge.tolerance:.3g} |" for edge in recording.outputs),
        "call_size": f"{sum(edge.values.nbytes for edge in edges):,}",
        "float_tolerance": f"{FLOAT_TOLERANCE:.2%}",
        "integer_tolerance": f"{INTEGER_TOLERANCE:.0%}",
        "steps": STEPS_ALLOWED,
    }


def _row(edge: Edge) -> str:
    scale = f"{edge.scale:.6g} | {edge.zero_point}" if edge.scale else "- | -"
    return f"| `{plain(edge.name)}` | {edge.values.dtype} | {list(edge.shape)} | {scale} |"
