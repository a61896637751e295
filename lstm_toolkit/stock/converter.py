"""Runs TensorFlow's converter without its chatter."""

import contextlib
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    fixed = keras.Sequential(
        [keras.Input(model.input_shape[1:], batch_size=batch_size, name=model.inputs[0].name), *model.layers]
    )
    return run_converter(tf.lite.TFLiteConverter.from_keras_model(fixed))


def run_converter(converter: Any) -> bytes:
    """Runs a `tf.lite.TFLiteConverter` without its chatter (log lines and the paths of temporary folders).

    Raises:
        ConversionError: with the converter's reason.
    """
    try:
        with quiet_tensorflow():
            return converter.convert()
    except Exception as error:  # the converter's own error type is not public
        raise ConversionError(f"TensorFlow's converter refuses the model: {converter_reason(str(error))}") from error


def converter_reason(message: str) -> str:
    """The line of the converter's message that names the op it cannot convert, or else the first line."""
    found = re.search(r"'[\w.]+' op .*", message)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return found[0] if found else lines[0] if lines else "no reason given"


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's log lines, prints and warnings, which hold paths of files, out of the caller's output."""
    import tensorflow as tf

    tf_logger = tf.get_logger()
    level = tf_logger.level
    tf_logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        tf_logger.setLevel(level)
