"""`write_folder`: writes a folder of texts whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from lstm_toolkit.tflite.files import check_writable


def check_folder(folder: Path) -> None:
    """Finds out before any work is done whether a folder could be written, as far as that can be told.

    Raises:
        OSError: if there is something that is no empty folder, or its own folder cannot be written to.
    """
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise FileExistsError(
            errno.EEXIST,
            "there is something already, and a project overwrites nothing; name a new folder",
            os.fspath(folder),
        )
    # What is beside the folder, since the folder is made there under another name first.
    check_writable(folder.parent / f"{folder.name}.new")


def write_folder(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes texts, by their paths in a folder that is new or empty: into a temporary one, which takes its name.

    Raises:
        OSError: as writing does, and as `check_folder`; nothing is left behind then.
    """
    check_folder(folder)
    temporary = folder.parent / f".lstm_toolkit-{secrets.token_hex(8)}"
    try:
        for path, text in texts.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_bytes(text.encode())
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(folder)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
