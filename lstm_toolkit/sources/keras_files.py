"""Loads the files that Keras saves models in, each with the library that wrote it: Keras 3, or tf_keras for Keras 2."""

import contextlib
import importlib
import json
import os
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any, NoReturn

from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.process_state import prepare_tensorflow
from lstm_toolkit.sources import declared_sizes
from lstm_toolkit.versions import numbers

_CODE = re.compile(
    r"Could not (?:locate|deserialize) class '[^']+'|Cannot deserialize object of type `\w+`|Unknown layer: '?[\w>]+'?|"
    "(?:a|this) `?Lambda`? layer"
)
"""What the libraries say where a file needs code of its own."""


def import_keras() -> Any:
    """The module `keras`.

    Raises:
        ConversionError: if it cannot be imported, since its backend cannot; or in a process that was forked when
            TensorFlow was in use.
        ImportError: if it, or TensorFlow, is not installed.
    """
    prepare_tensorflow()
    try:
        return importlib.import_module("keras")
    except (ImportError, ValueError) as error:
        if str(getattr(error, "name", "")).partition(".")[0] in ("keras", "tensorflow"):
            raise
        backend = os.environ.get("KERAS_BACKEND")
        where = f"KERAS_BACKEND={backend}" if backend else "the backend of its keras.json"
        raise ConversionError(
            f"Keras cannot be imported with {where}: {first_line(str(error))}; set the environment variable "
            "KERAS_BACKEND=tensorflow before Keras is imported"
        ) from error


def backend_of(model: Any) -> str | None:
    """The backend of a Keras 3 model or layer, if it is not TensorFlow; None for anything else."""
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.layers.Layer):
        return None
    name: str = keras.backend.backend()
    return None if name == "tensorflow" else name


def load(path: Path) -> Any:
    """Loads a `.keras` or `.h5` file in safe mode, which runs no code out of the file.

    Files of Keras 2 are loaded with tf_keras, if that is installed, and else with Keras 3 as far as it reads them.

    Raises:
        InvalidModelError: if there is no such file, or it is not a Keras model.
        ConversionError: if it needs tf_keras, or code that the file alone cannot give (a Lambda layer, a custom class).
    """
    version, config = _read(path)
    of_keras_2 = version.partition(".")[0] in ("1", "2")
    tf_keras = _tf_keras() if of_keras_2 else None
    library = tf_keras or import_keras()
    needs_tf_keras = (
        f"{str(path)!r} was written by Keras {version}, which Keras 3 cannot read{{}}; install tf_keras, with which "
        'such files are loaded (pip install "lstm_toolkit[legacy]")'
    )
    if of_keras_2 and tf_keras is None and '"hard_sigmoid"' in config:
        raise ConversionError(needs_tf_keras.format(" as it was: its hard_sigmoid is another function"))
    # Safe mode is for .keras files alone there (CVE-2025-9905).
    if not of_keras_2 and '"Lambda"' in config and path.suffix != ".keras" and _has_holes(library.__version__):
        _refuse_code(path, "a Lambda layer", None)
    try:
        with _safe(tf_keras):
            return library.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras passes on what its layers, zipfile, json and h5py raise
        text = str(error)
        code = _CODE.search(text)
        if of_keras_2 and tf_keras is None:
            raise ConversionError(needs_tf_keras.format("")) from error
        if code:
            _refuse_code(path, code[0], error)
        _refuse_damaged(path, error)


def _refuse_code(path: Path, code: str, error: Exception | None) -> NoReturn:
    raise ConversionError(
        f"{str(path)!r} needs code that is not in the file, or that would have to be run out of it ({code}); load the "
        "model yourself, with custom_objects or safe_mode=False if you trust the file, and pass the object"
    ) from error


def warn_of_holes(version: str | None) -> None:
    """Warns where Keras's safe mode does not keep a crafted file from running code."""
    if version and _has_holes(version):
        warnings.warn(
            f"a crafted file can run code in Keras {version}, in spite of its safe mode (CVE-2025-1550, CVE-2025-9906, "
            "CVE-2025-49655); load only files that you trust, or install Keras 3.11.3 or newer",
            stacklevel=2,
        )


def _has_holes(version: str) -> bool:
    return numbers(version, 3) < (3, 11, 3)


def _refuse_damaged(path: Path, error: Exception) -> NoReturn:
    raise InvalidModelError(
        f"{str(path)!r} is not a model that Keras can load: {first_line(str(error))}; save it again, or load it "
        "yourself and pass the object"
    ) from error


def _read(path: Path) -> tuple[str, str]:
    """The version of the Keras that wrote a file, and the model's configuration as JSON; empty where it has none."""
    is_archive = path.suffix == ".keras" and zipfile.is_zipfile(path)
    if not is_archive and not (path.suffix in (".h5", ".hdf5") and _begins_as_hdf5(path)):
        raise InvalidModelError(
            f"{str(path)!r} is not a Keras model: neither a .keras file (a zip archive), nor a .h5 file (HDF5), nor "
            "the folder of a SavedModel; load the model yourself and pass it"
        )
    try:
        declared_sizes.check(path)
    except InvalidModelError:
        raise
    except Exception as error:  # zipfile and h5py raise whatever the damaged bytes lead them to
        _refuse_damaged(path, error)
    return _read_archive(path) if is_archive else _read_hdf5(path)


def _read_archive(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read("metadata.json"))
            return str(metadata.get("keras_version", "")), archive.read("config.json").decode()
    except (KeyError, ValueError, AttributeError, RecursionError, zipfile.BadZipFile):
        return "", ""


def _begins_as_hdf5(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _read_hdf5(path: Path) -> tuple[str, str]:
    import h5py

    try:
        with h5py.File(path) as file:
            version, config = (file.attrs.get(each, "") for each in ("keras_version", "model_config"))
            has_model = "model_config" in file.attrs
    except OSError:
        return "", ""
    if not has_model:
        raise InvalidModelError(
            f"{str(path)!r} has no model in it, but at most the weights of one, as save_weights writes them; build the "
            "model in Python, call its load_weights on this file, and convert the model, or the file that its "
            'save("model.keras") writes'
        )
    return _text(version), _text(config)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _tf_keras() -> Any:
    """The module `tf_keras`, or None if it is not installed."""
    try:
        return importlib.import_module("tf_keras")
    except ImportError:
        return None


def _safe(tf_keras: Any) -> contextlib.AbstractContextManager[Any]:
    """While it is open, tf_keras runs no code out of a file; its own safe_mode is for `.keras` files alone."""
    if tf_keras is None:
        return contextlib.nullcontext()
    scope: Any = importlib.import_module("tf_keras.src.saving.serialization_lib").SafeModeScope(True)
    return scope


def first_line(text: str) -> str:
    """The line of a message of Keras or TensorFlow that says what is wrong, without colors and the lines around it."""
    lines = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in text.splitlines()]
    if "in user code:" in lines:
        lines = [line.partition(": ")[2] for line in lines if re.match(r"\w+(Error|Exception): ", line)]
    telling = (line for line in lines if line and not line.startswith("Exception encountered when calling"))
    return next(telling, "no reason given")
