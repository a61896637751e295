"""Checks the bytes of a `.tflite` file from a stranger before they are unpacked.

The codec stays inside the bytes, but it follows every offset as often as the file says. A small file whose vectors
claim each other's bytes would unpack to gigabytes, so what all vectors and tables claim together is added up first.
The work is in proportion to the size of the file then.
"""

import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from flatbuffers.table import Table

from lstm_toolkit.errors import InvalidModelError

MOST_TABLES = 200_000
"""Tables (operators, tensors, buffers and the rest) of the largest file that is read."""

_BYTES_PER_TABLE = 16
"""A tensor or an operator takes 40 bytes or more of its file, an empty buffer 8; files have 36 or more a table."""

_UNIONS = {"Details": "QuantizationDetails", "ArraySegments": "SparseIndexVector", "ArrayIndices": "SparseIndexVector"}
"""The union type of a field that does not have its name."""


def check_bytes(data: bytes) -> None:
    """Walks through the tables of a file without unpacking it.

    Raises:
        InvalidModelError: if an offset or a vector leaves the file, or if all of them together claim more than a file
            of this size can hold.
    """
    try:
        _walk(data)
    except InvalidModelError:
        raise
    except struct.error as error:  # the reader met an offset that leaves the file
        message = f"the .tflite file is damaged: it ends, after {len(data):,} bytes, before its tables do"
        raise InvalidModelError(message) from error
    except Exception as error:  # the reader raises whatever the damaged bytes lead it to
        raise InvalidModelError(f"the .tflite file is damaged: {type(error).__name__}: {error}") from error


def _walk(data: bytes) -> None:
    """Adds up the tables, and the bytes of vectors, strings and buffers, each as often as something refers to it."""
    most = min(MOST_TABLES, len(data) // _BYTES_PER_TABLE)
    tables, claimed, waiting = 1, 0, [schema.Model.GetRootAs(data, 0)]
    while waiting:
        for part in _parts(waiting.pop()):
            if isinstance(part, int):
                claimed += part
            else:
                tables += 1
                waiting.append(part)
            if tables > most:
                size = f"{len(data):,} bytes"
                raise InvalidModelError(f"the .tflite file is damaged or too large: over {most:,} tables in {size}")
            if claimed > 2 * len(data):
                raise InvalidModelError(
                    f"the .tflite file is damaged: its vectors claim over twice its {len(data):,} bytes"
                )


def _parts(table: Any) -> Iterator[Any]:
    """The tables below a table, and for every vector, string and outside buffer its number of bytes."""
    kind: Any = type(table)
    for name, is_vector in _fields(kind):
        if is_vector:
            length = getattr(table, f"{name}Length")()
            if not length:
                continue
            if hasattr(kind, f"{name}AsNumpy"):
                yield int(getattr(table, f"{name}AsNumpy")().nbytes)
                continue
            yield 4 * length
            yield from (getattr(table, name)(place) for place in range(length))
            continue
        value = getattr(table, name)()
        if isinstance(value, bytes):
            yield len(value)
        elif isinstance(value, Table):
            union = getattr(schema, _UNIONS.get(name, name))
            number = getattr(table, f"{name}Type")()
            chosen = next((key for key, code in vars(union).items() if code == number and key != "NONE"), None)
            if chosen is not None:
                reader = getattr(schema, chosen)()
                reader.Init(value.Bytes, value.Pos)
                yield reader
        elif hasattr(value, "_tab"):
            yield value
    if kind is schema.Buffer and table.Offset():
        yield min(int(table.Size()), len(table._tab.Bytes))
    elif kind is schema.Operator and table.LargeCustomOptionsOffset():
        yield min(int(table.LargeCustomOptionsSize()), len(table._tab.Bytes))


@cache
def _fields(kind: Any) -> tuple[tuple[str, bool], ...]:
    """The fields of a reader class of the schema by name, and whether each is a vector."""
    names = vars(kind)
    methods = [name for name in names if name[0].isupper() and not name.startswith(("Init", "GetRootAs"))]
    suffixes = ("AsNumpy", "IsNone", "BufferHasIdentifier")
    fields = [name for name in methods if not name.endswith(suffixes)]
    return tuple(
        (name, f"{name}Length" in names)
        for name in fields
        if not (name.endswith("Length") and name.removesuffix("Length") in names)
    )
