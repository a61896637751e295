"""Samples for int8 ranges out of a file: what the command line takes as `representative_dataset`."""

import io
import os
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.tflite.paths import MAX_BYTES, check_size, read_regular, setting

LARGEST = 2 << 30
"""Bytes that samples may have, if the environment sets no other limit."""


def load_samples(path: str | os.PathLike[str]) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    """Reads samples out of a file that `numpy.savez` or `numpy.save` wrote.

    Args:
        path: of a `.npz` file with an array [samples, ...] for each input, under its name, or with one array that was
            saved without a name; or of a `.npy` file, for a model with one input.

    Returns:
        The array, or the arrays by input name, as `convert` takes them. Nothing is unpickled.

    Raises:
        InvalidModelError: if it is no regular file, cannot be read, or is too large.
        ValueError: if it is no such file, holds objects, or no samples.
    """
    most = setting(MAX_BYTES, LARGEST)
    content = io.BytesIO(read_regular(path, most))
    wrong = f"representative_dataset {os.fspath(path)!r}"
    try:
        if zipfile.is_zipfile(content):
            with zipfile.ZipFile(content) as archive:
                check_size(os.fspath(path), "claims", sum(each.file_size for each in archive.infolist()), most)
        content.seek(0)
        loaded = np.load(content, allow_pickle=False)
        arrays = {"arr_0": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if "Object arrays" in str(error):
            raise ValueError(
                f"{wrong} holds Python objects, which could run code and are not loaded; make arrays of numbers of "
                "one shape of them, as numpy.stack does, and save these"
            ) from error
        raise ValueError(
            f"{wrong} is no .npz file of NumPy ({error}); save it by numpy.savez, an array [samples, ...] for each "
            "input under its name"
        ) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            raise ValueError(
                f"{wrong} has no array [samples, ...] under {name!r}; save one for each input of the model, under its "
                "name, and nothing else"
            )
    return arrays["arr_0"] if set(arrays) == {"arr_0"} else arrays
