"""Reads and writes `.tflite` files as the schema's mutable objects, which never leave this package.

The codec is `ai_edge_litert.tools.flatbuffer_utils`; the objects are those of `ai_edge_litert.schema_py_generated`.
"""

import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ai_edge_litert.tools import flatbuffer_utils

from lstm_toolkit._version import __version__
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite.bytes_check import check_bytes
from lstm_toolkit.tflite.graph import listed, text
from lstm_toolkit.tflite.model_check import check_model
from lstm_toolkit.tflite.types import Model
from lstm_toolkit.weights.operands import ABSENT

FILE_IDENTIFIER = b"TFL3"


def read_bytes(model: bytes | bytearray | memoryview | str | os.PathLike[str]) -> bytes:
    """Returns the bytes of a model that is given as bytes or as a path.

    Raises:
        InvalidModelError: if the path cannot be read, or the bytes are not a `.tflite` file.
    """
    if isinstance(model, (str, os.PathLike)):
        try:
            data = Path(model).read_bytes()
        except OSError as error:
            raise InvalidModelError(f"cannot read {os.fspath(model)!r}: {error.strerror or error}") from error
        origin = repr(os.fspath(model))
    elif isinstance(model, (bytes, bytearray, memoryview)):
        data, origin = bytes(model), "the model"
    else:
        raise InvalidModelError(f"expected the bytes or the path of a .tflite file, got {type(model).__name__}")
    if data[4:8] != FILE_IDENTIFIER:
        raise InvalidModelError(f"{origin} is not a .tflite file: its bytes 4 to 8 are not {FILE_IDENTIFIER.decode()}")
    return data


def read_model(data: bytes) -> Model:
    """Unpacks the bytes of a `.tflite` file into a `ModelT` and checks that it is whole (`check_model`).

    Raises:
        InvalidModelError: if the bytes cannot be unpacked, or the model contradicts itself.
    """
    data = read_bytes(data)
    check_bytes(data)
    try:
        model = flatbuffer_utils.read_model_from_bytearray(data)
    except Exception as error:  # the codec raises whatever the damaged bytes lead it to
        raise InvalidModelError(f"the .tflite file is damaged: {type(error).__name__}: {error}") from error
    check_model(model)
    return model


def write_model(model: Model) -> bytes:
    """Packs a `ModelT`, after dropping the tensors, buffers and operator codes that nothing refers to."""
    prune(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all: into a temporary file beside it, which then takes its name.

    Raises:
        OSError: as writing does; nothing is left behind then.
    """
    target, temporary = Path(path), None
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def sign(model: Model) -> None:
    """Says in the description of a `ModelT` that this package wrote it, so that what it holds was asked for."""
    model.description = f"lstm_toolkit {__version__}".encode()


def is_own(model: Model) -> bool:
    """Whether this package wrote the file."""
    return text(model.description).startswith("lstm_toolkit ")


def prune(model: Model) -> None:
    """Drops the tensors, buffers and operator codes that nothing refers to."""
    for number, subgraph in enumerate(model.subgraphs):
        signatures = [each for each in model.signatureDefs or [] if each.subgraphIndex == number]
        entries = [entry for each in signatures for entry in [*listed(each.inputs), *listed(each.outputs)]]
        fields: list[tuple[Any, str]] = [(subgraph, "inputs"), (subgraph, "outputs")]
        fields += [(op, name) for op in subgraph.operators for name in ("inputs", "outputs", "intermediates")]
        fields = [(holder, name) for holder, name in fields if getattr(holder, name) is not None]
        used = {int(index) for holder, name in fields for index in getattr(holder, name)}
        subgraph.tensors, moved = renumbered(subgraph.tensors, used | {entry.tensorIndex for entry in entries})
        for holder, name in fields:
            setattr(holder, name, [moved[index] for index in getattr(holder, name)])
        for entry in entries:
            entry.tensorIndex = moved[entry.tensorIndex]
    holders: list[Any] = [tensor for subgraph in model.subgraphs for tensor in subgraph.tensors] + listed(
        model.metadata
    )
    model.buffers, moved = renumbered(model.buffers, {0, *(holder.buffer for holder in holders)})
    for holder in holders:
        holder.buffer = moved[holder.buffer]
    operators = [op for subgraph in model.subgraphs for op in subgraph.operators]
    model.operatorCodes, moved = renumbered(model.operatorCodes, {op.opcodeIndex for op in operators})
    for op in operators:
        op.opcodeIndex = moved[op.opcodeIndex]


def renumbered(items: list[Any], used: Collection[int]) -> tuple[list[Any], dict[int, int]]:
    """The items whose index is used, in their order, and the new index of each by its old one."""
    kept = sorted({*used} - {ABSENT})
    return [items[index] for index in kept], {ABSENT: ABSENT} | {old: new for new, old in enumerate(kept)}
