"""Reads and writes `.tflite` files as the schema's mutable objects, which never leave this package.

The codec is `ai_edge_litert.tools.flatbuffer_utils`; the objects are those of `ai_edge_litert.schema_py_generated`.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import struct
from collections.abc import Collection
from typing import Any

from ai_edge_litert.tools import flatbuffer_utils

from lstm_toolkit._version import __version__
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite.bytes_check import check_bytes
from lstm_toolkit.tflite.graph import listed, text
from lstm_toolkit.tflite.model_check import check_model
from lstm_toolkit.tflite.paths import MAX_BYTES, read_regular, setting
from lstm_toolkit.tflite.run_check import check_runnable
from lstm_toolkit.tflite.types import Model
from lstm_toolkit.weights.operands import ABSENT

FILE_IDENTIFIER = b"TFL3"

_runnable: set[bytes] = set()
"""Digests of the files that this process has checked by `check_runnable`."""

LARGEST = 2 << 30
"""Bytes that the offsets of a `.tflite` file reach."""


def read_bytes(model: bytes | bytearray | memoryview | str | os.PathLike[str]) -> bytes:
    """Returns the bytes of a model that is given as bytes or as a path.

    Raises:
        InvalidModelError: if the path is not that of a regular file, or the file cannot be read or is larger than the
            2 GiB that such a file can have; or if the bytes are not a `.tflite` file.
    """
    if isinstance(model, (str, os.PathLike)):
        data = read_regular(model, setting(MAX_BYTES, LARGEST))
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


def require_runnable(data: bytes) -> None:
    """Reads the bytes of a file and checks that it can run, unless this process has checked or written the same before.

    Raises:
        InvalidModelError: as `read_model` and `check_runnable`.
    """
    digest = hashlib.sha256(data).digest()
    if digest not in _runnable:
        check_runnable(read_model(data))
        _runnable.add(digest)


def write_model(model: Model) -> bytes:
    """Packs a `ModelT`, after dropping the tensors, buffers and operator codes that nothing refers to.

    Raises:
        InvalidModelError: if a size has become larger than a file can say.
    """
    prune(model)
    try:
        data = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    except (TypeError, ValueError, struct.error) as error:  # the codec has no errors of its own
        raise InvalidModelError(
            f"the new file would have a number that the format cannot hold ({error}); the sizes in the given one are "
            "no real ones, so get it again from where it comes"
        ) from error
    with contextlib.suppress(InvalidModelError):
        check_runnable(model)
        # Reading the file for this would take far longer.
        _runnable.add(hashlib.sha256(data).digest())
    return data


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all: into a temporary file beside it, which then takes its name.

    A file that is replaced gives the new one its permissions and, where that is allowed, its owner; its other names
    (hard links) keep the old contents. A symbolic link stays, and what it points to is replaced. What is there and is
    no regular file, such as a device or a FIFO, is written to.

    Raises:
        OSError: as writing does; nothing is left behind then.
    """
    try:
        before = _status(path)
        target = os.path.realpath(path)
        if before is None or (stat.S_ISREG(before.st_mode) and os.path.exists(target)):
            _replace(target, data, before)
        else:
            with os.fdopen(os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0)), "wb") as stream:
                stream.write(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Finds out, before any work is done, whether `write_whole` could write, as far as that can be told.

    Raises:
        OSError: with the reason.
    """
    status, folder = _status(path), os.path.dirname(os.path.realpath(path))
    if status is None or stat.S_ISREG(status.st_mode):
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, f"there is no writable folder {folder!r}", os.fspath(path))
    elif stat.S_ISDIR(status.st_mode) or not os.access(path, os.W_OK):
        number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EACCES
        raise OSError(number, os.strerror(number), os.fspath(path))


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _replace(target: str, data: bytes, before: os.stat_result | None) -> None:
    # The name of the target may be too long for one more letter.
    temporary = os.path.join(os.path.dirname(target), f".lstm_toolkit-{secrets.token_hex(8)}")
    mode = 0o666 if before is None else 0o600
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
            file.write(data)
        if before is not None:
            if hasattr(os, "chown"):
                with contextlib.suppress(OSError):
                    os.chown(temporary, before.st_uid, before.st_gid)
            os.chmod(temporary, stat.S_IMODE(before.st_mode))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
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
