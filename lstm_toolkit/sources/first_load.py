"""Loads a Keras file in another process first, where it may take too long, want too much memory, or crash."""

import contextlib
import gc
import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lstm_toolkit import versions
from lstm_toolkit.errors import InvalidModelError, LstmToolkitError
from lstm_toolkit.runtime.worker import WorkerEndedError
from lstm_toolkit.sources import keras_files
from lstm_toolkit.sources.declared_sizes import most_bytes
from lstm_toolkit.stock.worker import call_elsewhere
from lstm_toolkit.tflite.paths import MAX_BYTES, regular_size, setting

MAX_SECONDS = "LSTM_TOOLKIT_MAX_LOAD_SECONDS"
"""The environment variable with the most seconds that loading a file may take."""

SECONDS, BYTES_PER_SECOND = 30, 50 << 20
"""The seconds without it: so many, and one for so many bytes of the file."""

MEMORY_TIMES = 4
"""The memory that loading may take, as a multiple of what the file may claim: Keras holds weights more than once."""

OWN_MEMORY = 64 << 20
"""The memory that Keras may take beside it, whatever the size of a file."""

_INSTEAD = "or load the model yourself and pass the object"


class Outcome(NamedTuple):
    """How the other process has fared.

    Attributes:
        error: what to raise, or None.
        is_final: whether that is so whatever classes are registered here.
    """

    error: LstmToolkitError | None = None
    is_final: bool = False


def load(path: Path) -> Any:
    """Loads a `.keras` or `.h5` file, as `keras_files.load` does, if another process can within limits.

    Raises:
        InvalidModelError: if there is no such file, or it is not a Keras model; if it claims or takes more memory than
            it may, or takes too long.
        ConversionError: if it needs tf_keras, or code that the file alone cannot give.
    """
    keras_files.warn_of_holes(versions.installed("keras"))
    memory = MEMORY_TIMES * most_bytes(path)
    seconds = setting(MAX_SECONDS, SECONDS + regular_size(path) // BYTES_PER_SECOND)
    try:
        outcome = call_elsewhere(attempt, path.absolute(), memory, seconds=seconds, memory=memory + OWN_MEMORY)
    except TimeoutError as error:
        raise InvalidModelError(
            f"{str(path)!r} takes more than {seconds} seconds to load; if you trust where it comes from, set the "
            f"environment variable {MAX_SECONDS} to more, {_INSTEAD}"
        ) from error
    except WorkerEndedError as error:
        raise InvalidModelError(
            f"{str(path)!r} ends the process that loads it: {error}; save it again, {_INSTEAD}"
        ) from error
    if outcome.error is not None and (outcome.is_final or not _has_custom_objects()):
        raise outcome.error
    return keras_files.load(path)


def attempt(path: Path, most: int) -> Outcome:
    """Loads a file in this process, and says how that went.

    Args:
        path: of the file.
        most: bytes of the largest result that a layer may have.
    """
    try:
        model = keras_files.load(path)
        name, size = _largest_result(model)
        _trace_unrolled(model)
    except LstmToolkitError as error:
        if not any(map(_is_of_memory, _causes(error))):
            return Outcome(error)
        what = "to load"
    except MemoryError:
        what = "to load"
    else:
        if size <= most:
            return Outcome()
        what = f"for the result of {name!r}, which has {size:,}"
    finally:
        _forget()
    text = f"{str(path)!r} needs more than {most:,} bytes of memory {what}; if you trust where it comes from, set the "
    text += f"environment variable {MAX_BYTES} to more than a {MEMORY_TIMES}th of what it needs, {_INSTEAD}"
    return Outcome(InvalidModelError(text), is_final=True)


def _largest_result(model: Any) -> tuple[str, int]:
    """The layer or operation with the largest result at one call, and its bytes; sizes that are open are 1."""
    parts = {id(part): part for layer in model._flatten_layers() for part in (layer, *getattr(layer, "operations", ()))}
    sizes = (
        (part.name, 4 * math.prod(size or 1 for size in tensor.shape))
        for part in parts.values()
        for node in part._inbound_nodes
        for tensor in _leaves(node.outputs)
    )
    return max(sizes, key=lambda each: each[1], default=("", 0))


def _trace_unrolled(model: Any) -> None:
    """Calls a model once, without numbers, if it has unrolled layers: what takes forever then is found here."""
    import tensorflow as tf

    if not getattr(model, "inputs", None) or not any(
        getattr(each, "unroll", False) for each in model._flatten_layers()
    ):
        return
    specs = [tf.TensorSpec([size or 1 for size in each.shape], each.dtype) for each in model.inputs]
    function = tf.function(lambda *tensors: model(tensors[0] if len(tensors) == 1 else list(tensors)), autograph=False)
    # What cannot be called is said by the source, and by name.
    with contextlib.suppress(ValueError, TypeError):
        function.get_concrete_function(*specs)


def _leaves(value: Any) -> Iterator[Any]:
    """The tensors in what a layer gives."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        yield value
        return
    for each in value:
        yield from _leaves(each)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def _forget() -> None:
    """Gives back what a model took in this process."""
    with contextlib.suppress(Exception):  # what cannot be imported was said before
        keras_files.import_keras().backend.clear_session()
    gc.collect()


def _has_custom_objects() -> bool:
    """Whether anything is registered here that the other process cannot know."""
    keras = keras_files.import_keras()
    state = importlib.import_module("keras.src.backend.common.global_state")
    known = [keras.saving.get_custom_objects(), state.get_global_attribute("custom_objects_scope_dict") or {}]
    if "tf_keras" in sys.modules:
        of_keras_2 = importlib.import_module("tf_keras.src.saving.object_registration")
        known += [of_keras_2.get_custom_objects(), vars(of_keras_2._THREAD_LOCAL_CUSTOM_OBJECTS)]
    modules = (str(getattr(each, "__module__", "")) for registered in known for each in registered.values())
    return any(module.partition(".")[0] not in ("keras", "tf_keras") for module in modules)
