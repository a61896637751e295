"""Traces and converts a Keras model of another backend where Keras runs on TensorFlow, and compares it here.

The model is saved into a folder of this call alone. What comes back is a `TracedModel` whose function is the file that
TensorFlow's converter made; the passes, the comparison and what is quantized are as for any other source.
"""

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from lstm_toolkit.conversion.owners import nodes_of
from lstm_toolkit.conversion.stock_file import stock_file
from lstm_toolkit.errors import ConversionError, LstmToolkitError
from lstm_toolkit.process_state import load_tensorflow
from lstm_toolkit.runtime.scratch import scratch_folder
from lstm_toolkit.runtime.worker import WorkerEndedError
from lstm_toolkit.sources.array_source import Layout
from lstm_toolkit.sources.backend_source import BackendSource, States
from lstm_toolkit.sources.keras_calls import inputs_structure
from lstm_toolkit.sources.keras_files import first_line
from lstm_toolkit.sources.other_backends import CustomObject, custom_objects, plain_signature, savable
from lstm_toolkit.sources.source import trace
from lstm_toolkit.sources.traced import Node, StockFile, TracedModel, TraceOptions
from lstm_toolkit.stock import worker

logger = logging.getLogger("lstm_toolkit")


def trace_elsewhere(model: Any, options: TraceOptions) -> TracedModel:
    """Traces a Keras model whose backend is not TensorFlow, and has it converted.

    Raises:
        ConversionError: if it cannot be saved and loaded, or not be traced with its recurrent layers marked.
        ValueError: if the signature does not fit the model.
    """
    # It imports TensorFlow while this process does, since Keras does when it saves.
    worker.start()
    load_tensorflow()
    _refuse_stepwise_states(model, options)
    signature = plain_signature(options.input_signature)
    whole = savable(model, signature)
    customs = custom_objects(whole)
    logger.info("converting on the TensorFlow backend")
    with scratch_folder() as folder:
        path = Path(folder) / "model.keras"
        whole.save(path)
        traced = _asked(path, model.name, customs, dataclasses.replace(options, input_signature=signature))
    axes = traced.random_inputs.time_axes
    names = traced.input_names[len(axes) :]
    turned = tuple(axis == 0 for axis in axes) + (False,) * len(names)
    kept = frozenset(each.name for each in traced.layers or () if each.reason)
    source = BackendSource(
        model,
        inputs_structure(model) if signature is None else signature,
        Layout(turned, traced.batch or 0, time_major=options.time_major),
        States(options.state, names, kept),
    )
    return dataclasses.replace(traced, source=source, backend=keras.backend.backend())


def _refuse_stepwise_states(model: Any, options: TraceOptions) -> None:
    layers = model._flatten_layers() if options.state == "explicit" else ()
    for layer in (each for each in layers if isinstance(each, keras.layers.TimeDistributed)):
        if any(isinstance(each, keras.layers.RNN) for each in layer._flatten_layers()):
            raise ConversionError(
                f"layer {layer.name!r} (TimeDistributed) calls a recurrent layer once a step, so that on "
                f"{keras.backend.backend()} there is nothing to compare its explicit states with; convert the model "
                "with KERAS_BACKEND=tensorflow"
            )


def _asked(path: Path, name: str, customs: Sequence[CustomObject], options: TraceOptions) -> TracedModel:
    try:
        answer = worker.call_elsewhere(attempt, path, name, customs, options)
    except WorkerEndedError as error:
        raise ConversionError(
            f"the process that converts model {name!r} on the TensorFlow backend ended: {error}; convert it with "
            "KERAS_BACKEND=tensorflow to see where"
        ) from error
    finally:
        if customs:
            # The next model may come with another version of these modules.
            worker.stop()
    if isinstance(answer, Exception):
        raise answer
    traced: TracedModel = answer
    return traced


def _told(error: Exception) -> str:
    """What the innermost of Keras's errors says; those around it show a whole configuration."""
    return first_line(re.split("(?:Exception|Error) encountered:", str(error))[-1])


def attempt(
    path: Path, name: str, customs: Sequence[CustomObject], options: TraceOptions
) -> TracedModel | LstmToolkitError | ValueError:
    """Traces and converts a saved model in this process, which has Keras's TensorFlow backend.

    Args:
        path: of the model.
        name: of the model, for messages.
        customs: what it takes to load it.
        options: how it is traced, with a signature of `InputSpec`s.

    Returns:
        The traced model without its source and what only this process can hold, or why there is none.
    """
    import tensorflow as tf

    try:
        found = {each.registered: each.imported() for each in customs}
        model = keras.saving.load_model(path, custom_objects=found, compile=False, safe_mode=True)
    except Exception as error:  # Keras passes on what its layers raise, and modules what they please
        return ConversionError(
            f"model {name!r} was saved, but cannot be loaded on the TensorFlow backend, where it is converted: "
            f"{_told(error)}; write its own classes and functions with keras.ops, which run on every backend"
        )
    try:
        if options.input_signature is not None:
            signature = keras.tree.map_structure(
                lambda each: tf.TensorSpec(each.shape, each.dtype, each.name or None), options.input_signature
            )
            options = dataclasses.replace(options, input_signature=signature)
        traced = trace(model, options)
        tflite = stock_file(traced)
    except LstmToolkitError as error:
        # Here the model may well be called on such inputs.
        where = "with KERAS_BACKEND=tensorflow, " if str(error).startswith(f"model {name!r} cannot be ") else ""
        return type(error)(f"{where}{error}")
    except ValueError as error:
        return ValueError(str(error))
    nodes = tuple(Node(each.name, each.op) for each in nodes_of(traced.function))
    nothing: Any = None
    return dataclasses.replace(traced, function=StockFile(tflite, nodes), trackable=nothing, source=nothing)
