"""Runs the entry points on damaged files, one after the other, in a process that may die of it.

    python fuzz_worker.py FOLDER FIRST LAST

FOLDER has the whole `.tflite` files; the mutants have the numbers FIRST to LAST - 1, and each number always gives the
same mutant. Before each mutant a line with its number is printed. An exception that is not the package's own ends the
process with its traceback, more than two seconds of processor time in one entry point with SIGPROF, and more memory
than the limit with a MemoryError.
"""

import json
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

import lstm_toolkit as lt
from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.gate_pictures.layout import gate_layout
from lstm_toolkit.inspection import read
from lstm_toolkit.passes import bidirectional
from lstm_toolkit.passes.loops import fuse
from lstm_toolkit.runtime.targets import TARGETS

SECONDS = 2.0
MEMORY = 512 * 2**20
"""What a mutant may take beside what the imports took."""

HOSTILE = b"\xff\xfe<script>alert(1)</script>\"'&]]>\x00\x1b[31m"
"""A name that is not UTF-8, carries markup, and would move a terminal's cursor."""

ODD_NUMBERS = (-(2**31), -2, -1, 0, 1, 2, 3, 7, 127, 255, 4096, 65535, 2**24, 2**31 - 1)
ODD_WORDS = (0, 1, 2, 4, 0xFF, 0xFFFF, 0x10000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFC, 0xFFFFFFFF)


def show(data: bytes) -> None:
    """Everything that shows a file."""
    summary = read.inspect(data)
    drawing = summary.drawing()
    json.dumps(summary.to_dict(), allow_nan=False)
    shown = [str(summary), str(summary.op_table()), drawing.alt]
    assert "\x1b" not in "".join(shown)
    ElementTree.fromstring(drawing.svg)
    for page in (summary._repr_html_(), drawing._repr_html_()):
        assert "<script" not in page


def diagnose(data: bytes) -> None:
    """The doctor, for every runtime, and what it shows."""
    for target in (None, *TARGETS):
        found = lt.diagnose(data, target=target)
    json.dumps(found.to_dict(), allow_nan=False)
    assert "\x1b" not in str(found)
    assert "<script" not in found._repr_html_()


def repair(data: bytes) -> None:
    """Repairs, and reads what came of it."""
    repaired = lt.repair(data)
    assert "<script" not in repaired._repr_html_()
    read.inspect(repaired.tflite)


def gates(data: bytes) -> None:
    """The slots of the first LSTM."""
    layout = gate_layout(data)
    assert "\x1b" not in str(layout)
    assert "<script" not in layout._repr_html_()


ENTRY_POINTS: tuple[Callable[[bytes], Any], ...] = (show, diagnose, repair, gates, fuse.fuse, bidirectional.merge)
"""What takes a stranger's file. Only the errors of lstm_toolkit may come out."""


def mutant(files: list[bytes], number: int) -> bytes:
    """The damaged file with a number."""
    random = np.random.default_rng(number)
    data = files[number % len(files)]
    kinds = (flipped, truncated, spliced, wild, wild, random_bytes, restructured, restructured, restructured, renamed)
    return kinds[(number // len(files)) % len(kinds)](random, data)


def flipped(random: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for place in random.integers(len(data), size=random.integers(1, 9)):
        changed[place] ^= 1 << int(random.integers(8))
    return bytes(changed)


def truncated(random: np.random.Generator, data: bytes) -> bytes:
    return data[: random.integers(len(data))]


def spliced(random: np.random.Generator, data: bytes) -> bytes:
    start, end, target = (*sorted(random.integers(8, len(data), 2)), random.integers(8, len(data)))
    end = min(end, start + 200)
    way = random.integers(3)
    return data[:target] + data[start:end] + data[target + (end - start if way == 0 else 0 if way == 1 else 4) :]


def wild(random: np.random.Generator, data: bytes) -> bytes:
    """Odd numbers where offsets, lengths and indices stand, most of them at the structures, not in the weights."""
    changed = bytearray(data)
    words = np.frombuffer(data[: len(data) // 4 * 4], np.uint32)
    structures = np.flatnonzero((words > 0) & (words < len(data)))
    for place in random.choice(structures, size=random.integers(1, 4)):
        word = random.choice(ODD_WORDS) if random.random() < 0.7 else int(words[place]) + random.integers(-8, 9)
        changed[4 * place : 4 * place + 4] = (int(word) % 2**32).to_bytes(4, "little")
    return bytes(changed)


def random_bytes(random: np.random.Generator, data: bytes) -> bytes:
    noise = random.integers(256, size=random.integers(400), dtype=np.uint8).tobytes()
    return (data[:8] if random.random() < 0.8 else b"") + noise


def restructured(random: np.random.Generator, data: bytes) -> bytes:
    """A whole file that says something odd: an index, a shape, a type, an op code, an option."""
    for _ in range(20):
        model = flatbuffer_utils.read_model_from_bytearray(data)
        fields = [(owner, name) for owner in _owners(model) for name in vars(owner)]
        for place in random.integers(len(fields), size=random.integers(1, 4)):
            owner, name = fields[place]
            setattr(owner, name, _odd(random, getattr(owner, name)))
        try:
            return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
        except Exception:
            continue  # the codec cannot write it
    return data


def renamed(random: np.random.Generator, data: bytes) -> bytes:
    model = flatbuffer_utils.read_model_from_bytearray(data)
    for owner in _owners(model):
        for name in ("name", "signatureKey", "customCode", "description"):
            if hasattr(owner, name) and random.random() < 0.8:
                setattr(owner, name, HOSTILE)
    for code in model.operatorCodes:
        if random.random() < 0.2:
            code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM, schema.BuiltinOperator.CUSTOM
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _owners(value: Any) -> list[Any]:
    """The schema's objects below a value, itself included; of the options a few times as many, as they matter most."""
    if isinstance(value, list):
        return [owner for each in value for owner in _owners(each)]
    if not hasattr(value, "__dict__"):
        return []
    weight = 4 if type(value).__name__.endswith("OptionsT") else 1
    return [value] * weight + [owner for each in vars(value).values() for owner in _owners(each)]


def _odd(random: np.random.Generator, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return float(random.choice([np.nan, np.inf, -1.0, 0.0, 1e30]))
    if isinstance(value, (int, np.integer)):
        return int(random.choice(ODD_NUMBERS) if random.random() < 0.6 else value + random.integers(-2, 3))
    if isinstance(value, (bytes, str)):
        return HOSTILE
    if isinstance(value, list) and value:
        place, way = int(random.integers(len(value))), random.integers(5)
        replaced = [*value[:place], _odd(random, value[place]), *value[place + 1 :]]
        return [None, [], value[:place], [*value, value[place]], replaced][way]
    if type(value).__name__.endswith("OptionsT"):
        return [None, schema.AddOptionsT(), schema.LSTMOptionsT(), schema.WhileOptionsT()][random.integers(4)]
    return None if value is not None else [int(random.choice(ODD_NUMBERS))] if random.random() < 0.3 else None


def main(folder: str, first: int, last: int) -> None:
    files = [path.read_bytes() for path in sorted(Path(folder).glob("*.tflite"))]
    for data in files:
        show(data)
    with open("/proc/self/statm") as status:
        taken = int(status.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, last):
        data, refusals = mutant(files, number), []
        print(number, flush=True)
        for entry_point in ENTRY_POINTS:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                entry_point(data)
            except LstmToolkitError as error:
                refusals.append(str(error))
        signal.setitimer(signal.ITIMER_PROF, 0)
        assert all(reason.isprintable() for reason in refusals), refusals
        print("refused" if refusals else "read", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
