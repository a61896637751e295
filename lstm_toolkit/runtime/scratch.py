"""`scratch_folder`: a temporary folder that the next one removes if its process could not do so itself."""

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator

if sys.platform != "win32":
    import fcntl

PREFIX = "lstm_toolkit.scratch."
"""How the names of the folders begin."""

_NAME = re.compile(re.escape(PREFIX) + r"\w{8}")
"""The names that `mkdtemp` gives them, and nobody else a folder of theirs."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """Makes a folder for temporary files and removes it at the end.

    A process that is killed cannot remove its folder. So the folder is locked for as long as the process lives, and
    folders of this user that nobody locks are removed here. Windows has no such locks, and so no such removal.

    Returns:
        The path of the folder, as a context.

    Raises:
        OSError: if there is no place for temporary files.
    """
    _remove_abandoned()
    folder, lock = _locked_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked_folder() -> tuple[str, int | None]:
    while True:
        folder = tempfile.mkdtemp(prefix=PREFIX)
        lock = _lock(folder, wait=True)
        # Another process may have taken it for an abandoned one before it was locked.
        if os.path.isdir(folder):
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: str, *, wait: bool) -> int | None:
    """The open folder, locked; None if it cannot be locked."""
    if sys.platform == "win32":
        return None
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(opened)
        return None
    return opened


def _remove_abandoned() -> None:
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            is_folder = _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            if not is_folder or entry.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            lock = _lock(entry.path, wait=False)
            if lock is not None:
                shutil.rmtree(entry.path, ignore_errors=True)
                os.close(lock)
