"""What a path may lead to, and how much a model that somebody else made may hold."""

import os
import stat

from lstm_toolkit.errors import InvalidModelError

MAX_BYTES = "LSTM_TOOLKIT_MAX_MODEL_BYTES"
"""The environment variable with the most bytes that a model may hold."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def regular_size(path: str | os.PathLike[str]) -> int:
    """The size in bytes of a regular file. Nothing is opened: a FIFO would wait for somebody to write into it.

    Raises:
        InvalidModelError: if there is no such file, or it is a folder, a FIFO, a device or a socket.
    """
    name = os.fspath(path)
    try:
        found = os.stat(name)
    except (OSError, ValueError) as error:  # a path with a zero in it is a ValueError
        raise InvalidModelError(f"cannot read {name!r}: {getattr(error, 'strerror', None) or error}") from error
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is not None:
        raise InvalidModelError(
            f"{name!r} is {kind}, and models are read from regular files alone; write what it gives "
            "into a file, and pass that"
        )
    return found.st_size


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """Reads a regular file.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        InvalidModelError: if it is no regular file, cannot be read, or is larger.
    """
    size = regular_size(path)
    check_size(os.fspath(path), "has", size, most)
    try:
        with open(path, "rb") as file:
            return file.read(size)  # Python takes as much memory as it is told to read, before it reads
    except OSError as error:
        raise InvalidModelError(f"cannot read {os.fspath(path)!r}: {error.strerror or error}") from error


def check_size(name: str, verb: str, size: int, most: int) -> None:
    """Raises InvalidModelError if something of a model, `name`, "has" or "claims" more bytes than it may."""
    if size > most:
        raise InvalidModelError(
            f"{name!r} {verb} {size:,} bytes, more than {most:,}; if you trust where it comes from, set the "
            f"environment variable {MAX_BYTES} to {size}"
        )


def setting(name: str, default: int) -> int:
    """The number that an environment variable has, or else the default.

    Raises:
        ValueError: if it is not a whole number above zero.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"the environment variable {name} must be a whole number above 0, got {text!r}; unset it")
    return int(text)
