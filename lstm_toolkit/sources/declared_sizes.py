"""Checks what a Keras file claims to hold before Keras unpacks it: sizes, and what else of the machine it points to."""

import copy
import io
import math
import os
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

import h5py

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite.paths import MAX_BYTES, check_size, regular_size, setting

FREE_BYTES, TIMES = 256 << 20, 10
"""What a file may claim: so many bytes, and so many times its own size, and never more than the machine's memory."""

MOST_MEMBERS = 10_000
"""Members of an archive. Keras writes three, and one for each vocabulary or other file of a layer."""

_CHUNK = 1 << 20


def most_bytes(path: Path) -> int:
    """The bytes that a file may claim.

    Raises:
        InvalidModelError: if it is not a regular file.
        ValueError: if the environment variable for it is not a number.
    """
    return setting(MAX_BYTES, min(FREE_BYTES + TIMES * regular_size(path), _memory()))


def _memory() -> int:
    if sys.platform == "win32":
        return sys.maxsize
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check(path: Path) -> None:
    """Checks a `.keras` or `.h5` file.

    Raises:
        InvalidModelError: if it claims more than it may, or points to anything outside of it.
        Exception: what zipfile and h5py raise where it is damaged.
    """
    most = most_bytes(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, str(path), most)
    else:
        with open(path, "rb") as file:
            _check_hdf5(file, str(path), most)


def _check_archive(archive: zipfile.ZipFile, name: str, most: int) -> None:
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise InvalidModelError(f"{name!r} has {len(members):,} members, more than {MOST_MEMBERS:,}; save it again")
    check_size(name, "claims", sum(each.file_size for each in members), most)
    seen = set()
    for each in members:
        path = PurePosixPath(each.filename.replace("\\", "/"))
        if path in seen or path.is_absolute() or ".." in path.parts:
            raise InvalidModelError(
                f"{name!r} has a member {each.filename!r}, which is there twice or leads out of it; save it again"
            )
        seen.add(path)
        _check_size_of(archive, each, name)
        if path.suffix in (".h5", ".npz"):
            with archive.open(each) as member:
                content = io.BytesIO(member.read(each.file_size))
            inside = f"{name}/{each.filename}"
            if path.suffix == ".h5":
                _check_hdf5(content, inside, most)
            else:
                with zipfile.ZipFile(content) as arrays:
                    _check_archive(arrays, inside, most)


def _check_size_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> None:
    """Raises InvalidModelError if a member has another size than it claims; readers may take in all of it."""
    if member.compress_type == zipfile.ZIP_STORED:
        size = member.compress_size
    elif member.compress_type == zipfile.ZIP_DEFLATED:
        # zipfile stops at the size that is claimed, and compares checksums there, after it has read a little ahead; so
        # much more is claimed here.
        longer = copy.copy(member)
        longer.file_size += _CHUNK
        size = 0
        with archive.open(longer) as stream:
            while size <= member.file_size and (chunk := stream.read(min(_CHUNK, member.file_size + 1 - size))):
                size += len(chunk)
    else:
        raise InvalidModelError(
            f"{name!r} has a member {member.filename!r} in a compression that Keras does not use; save it again"
        )
    if size != member.file_size:
        raise InvalidModelError(
            f"{name!r} has a member {member.filename!r} that claims {member.file_size:,} bytes and has others; save it "
            "again"
        )


def _check_hdf5(content: IO[bytes], name: str, most: int) -> None:
    links: list[tuple[bytes, int]] = []
    claimed = 0
    with h5py.File(content, "r") as file:
        # It follows no link that leads elsewhere, and enters a group once.
        file.id.links.visit(lambda place, info: links.append((place, info.type)), info=True)
        for place, kind in links:
            value = file[place] if kind == h5py.h5l.TYPE_HARD else None
            outside = _outside(value)
            if outside is not None:
                raise InvalidModelError(
                    f"{name!r} has {outside} at {place.decode(errors='replace')!r}, which leads elsewhere; if you "
                    "trust where it comes from, load the model yourself, save it again, and pass the new file"
                )
            if isinstance(value, h5py.Dataset):
                claimed += math.prod(value.shape or ()) * value.dtype.itemsize
        check_size(name, "claims", claimed, most)


def _outside(value: Any) -> str | None:
    """What an HDF5 object is that has its content elsewhere, or None; a link that was not followed is None itself."""
    if value is None:
        return "a link"
    if isinstance(value, h5py.Dataset) and value.external:
        return "a dataset in another file"
    return "a virtual dataset" if isinstance(value, h5py.Dataset) and value.is_virtual else None
