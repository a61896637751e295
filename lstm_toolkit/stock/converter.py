"""Runs TensorFlow's converter without its chatter."""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from lstm_toolkit import process_state
from lstm_toolkit.errors import ConversionError


def stock_conversion(model: Any, *, batch_size: int | None = None) -> bytes:
    """Converts a sequential Keras model with TensorFlow's own converter, for comparison.

    Args:
        model: a `keras.Sequential` with an `Input`.
        batch_size: fixes the batch; None leaves it open.

    Returns:
        The bytes of the `.tflite` file.

    Raises:
        ConversionError: with the converter's reason.
    """
    process_state.prepare_tensorflow()
    import keras
    import tensorflow as tf

    fixed = keras.Sequential(
        [keras.Input(model.input_shape[1:], batch_size=batch_size, name=model.inputs[0].name), *model.layers]
    )
    return run_converter(tf.lite.TFLiteConverter.from_keras_model(fixed))


def run_converter(converter: Any) -> bytes:
    """Runs a `tf.lite.TFLiteConverter` without its chatter; what it printed before an error is a note of the error.

    Raises:
        ConversionError: with the converter's reason.
    """
    with process_state.captured_stderr():
        return run_converter_in_worker(converter)


def run_converter_in_worker(converter: Any) -> bytes:
    """The same in a process whose standard error is kept already, and must hold its last words if it crashes.

    Raises:
        ConversionError: with the converter's reason.
    """
    try:
        with process_state.alone(), quiet_tensorflow():
            return converter.convert()
    except Exception as error:  # the converter's own error type is not public
        raise ConversionError(f"TensorFlow's converter refuses the model: {converter_reason(str(error))}") from error


def not_read_back() -> contextlib.AbstractContextManager[None]:
    """While it is open, the converter of a concrete function does not load the SavedModel that it has just written.

    That takes a fifth of a small conversion, and says what lines of Python made the ops, which the function knows too.
    """
    from tensorflow.lite.python import lite

    return process_state.replaced_here({(lite, "_load"): lambda _: lambda *_: None})


def converter_reason(message: str) -> str:
    """The line of the converter's message that names the op it cannot convert, or else the first line."""
    found = re.search(r"'[\w.]+' op .*", message)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return found[0] if found else lines[0] if lines else "no reason given"


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps this thread's log lines of TensorFlow and prints of Keras, which hold paths of files, from the caller."""
    keras = sys.modules.get("keras")
    printed = keras is not None and keras.config.is_interactive_logging_enabled()
    # Keras has this setting for each thread.
    if keras is not None:
        keras.config.disable_interactive_logging()
    try:
        with process_state.quiet_here("tensorflow"):
            yield
    finally:
        if keras is not None and printed:
            keras.config.enable_interactive_logging()
