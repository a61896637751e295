"""`convert`: from a Keras model to a checked `.tflite` file with fused LSTM ops."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import graft, parity, reset
from . import tflite_file as tf_file
from .errors import ConversionError
from .report import Conversion, ConversionReport

if TYPE_CHECKING:
    from .keras_source import TracedModel

logger = logging.getLogger("lstm_toolkit")


def convert(
    model: Any,
    *,
    batch_size: int | None = None,
    time_steps: int | None = None,
    on_unsupported: str = "raise",
    verify: bool = True,
) -> Conversion:
    """Converts a Keras 3 model to a `.tflite` file in which every LSTM is one fused op.

    Args:
        model: a sequential or functional Keras 3 model, or the path of a `.keras` file, which is loaded in Keras's
            safe mode.
        batch_size: None keeps the model's own, and 1 where that is None; a fused LSTM needs a fixed batch.
        time_steps: None keeps the model's own; dynamic time stays dynamic.
        on_unsupported: "raise", or "keep": the stock lowering stands for a recurrent layer that cannot be fused
            exactly, and the report says so.
        verify: whether to compare the file with the source model, on random inputs, several calls in a row.

    Returns:
        The file and the report. Inputs and outputs are float32 as in the model, their names are the model's own
        (outputs without names are `output_0`, `output_1`, ...), and every call starts from a zero state.

    Raises:
        ConversionError: if something cannot be converted exactly; names the layer, the reason and the remedy.
        InvalidModelError: if the path is not a Keras model.
        ParityError: if the file computes something else than the model.
    """
    _check_options(batch_size, time_steps, on_unsupported)
    logger.info("loading TensorFlow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from . import keras_source

    if isinstance(model, (str, os.PathLike)):
        logger.info("loading %s", os.fspath(model))
        model = keras_source.load(Path(model))
    logger.info("tracing")
    traced = keras_source.trace(model, batch_size=batch_size, time_steps=time_steps, on_unsupported=on_unsupported)
    if not traced.layers:
        raise ConversionError(
            f"model {model.name!r} calls no LSTM, so there is nothing to fuse; convert it with "
            "tf.lite.TFLiteConverter.from_keras_model"
        )
    logger.info("converting")
    tflite, ops = _lowered(traced)
    error = None
    if verify:
        logger.info("verifying")
        dtypes = [spec.dtype.as_numpy_dtype for spec in traced.function.inputs[: len(traced.input_names)]]
        error = parity.verify(tflite, traced.source, traced.input_names, dtypes, integer_bound=traced.integer_bound)
    return Conversion(tflite, ConversionReport(traced.layers, ops, error))


def _check_options(batch_size: int | None, time_steps: int | None, on_unsupported: str) -> None:
    for name, value in (("batch_size", batch_size), ("time_steps", time_steps)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be a positive integer or None, got {value!r}")
    if on_unsupported not in ("raise", "keep"):
        raise ValueError(f'on_unsupported must be "raise" or "keep", got {on_unsupported!r}')


def _lowered(traced: TracedModel) -> tuple[bytes, Any]:
    """Runs TensorFlow's converter on the traced model and grafts the fused ops."""
    model = tf_file.read_model(_stock_conversion(traced))
    grafted = graft.graft_lstms(model)
    missing = [layer.name for layer in traced.layers if layer.reason is None and layer.name not in grafted]
    if missing:
        raise ConversionError(f"layers {missing} did not reach the file: their outputs do not depend on the inputs")
    reset.reset_states(model)
    _name_inputs(model, traced.input_names)
    ops = tf_file.count_operators(model)
    builtin = set(vars(tf_file.schema.BuiltinOperator))
    foreign = sorted(set(ops) - builtin)
    if foreign:
        raise ConversionError(
            f"TensorFlow Lite has no op for {foreign}, which other layers of the model use; replace these layers"
        )
    return tf_file.write_model(model), ops


def _stock_conversion(traced: TracedModel) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.function], traced.trackable)
    converter.allow_custom_ops = True
    return run_converter(converter)


def run_converter(converter: Any) -> bytes:
    """Runs a `tf.lite.TFLiteConverter` without its chatter (log lines and the paths of temporary folders).

    Raises:
        ConversionError: with the converter's reason.
    """
    import tensorflow as tf

    tf_logger = tf.get_logger()
    level = tf_logger.level
    tf_logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return converter.convert()
    except Exception as error:  # the converter's own error type is not public
        raise ConversionError(f"TensorFlow's converter refuses the model: {converter_reason(str(error))}") from error
    finally:
        tf_logger.setLevel(level)


def converter_reason(message: str) -> str:
    """What the converter says of the op that it stumbled on, or else its first line."""
    found = re.search(r"'[\w.]+' op .*", message)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return found[0] if found else lines[0] if lines else "no reason given"


def _name_inputs(model: Any, names: tuple[str, ...]) -> None:
    """Gives the inputs the model's own names, which may hold characters that a traced function cannot have."""
    for signature in model.signatureDefs:
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        for entry in signature.inputs:
            name = names[int(tf_file.text(entry.name).removeprefix("input_"))]
            entry.name = name.encode()
            tensors[entry.tensorIndex].name = f"serving_default_{name}:0".encode()
