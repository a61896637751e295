"""Finds out what kind of source a model is, and traces it."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.sources import first_load
from lstm_toolkit.sources.keras_files import import_keras
from lstm_toolkit.sources.traced import TracedModel, TraceOptions
from lstm_toolkit.stock.worker import start
from lstm_toolkit.tflite.paths import regular_size

logger = logging.getLogger("lstm_toolkit")


def loaded(model: Any) -> Any:
    """The model of a path; anything else as it is.

    Args:
        model: as `convert` takes it.

    Raises:
        InvalidModelError: if there is no such file, or it is not a model, or larger than it may be.
        ConversionError: if it cannot be loaded without what the file does not have, or cannot be converted.
    """
    if not isinstance(model, (str, os.PathLike)):
        return model
    path = Path(model)
    if not os.path.lexists(path):
        raise InvalidModelError(f"there is no file {str(path)!r}")
    is_folder = path.is_dir()
    if not is_folder:
        regular_size(path)
        if path.suffix in (".pt", ".pth", ".pt2", ".ckpt"):
            raise ConversionError(
                f"{str(path)!r} is a file of PyTorch, which can hold code that runs when it is loaded; if you trust "
                "it, load it yourself, and pass the module with example inputs (of a .pt2 file, "
                "torch.export.load(path).module())"
            )
        # It imports TensorFlow while this process does.
        start()
    import_keras()
    if is_folder:
        from lstm_toolkit.sources import functions

        return functions.load_saved_model(path)
    logger.info("loading %s", path)
    return first_load.load(path)


def is_torch_module(model: Any, input_signature: Any) -> bool:
    """Whether a model is called in PyTorch: a module, but no `nn.LSTM` without examples, whose weights are enough."""
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if torch is None or not isinstance(model, torch.nn.Module):
        return False
    if keras is not None and isinstance(model, keras.layers.Layer):  # on Keras's PyTorch backend
        return False
    return not isinstance(model, torch.nn.LSTM) or any(
        isinstance(each, (torch.Tensor, np.ndarray)) for each in torch.utils._pytree.tree_leaves(input_signature)
    )


def trace(model: Any, options: TraceOptions) -> TracedModel:
    """Traces a model, whichever kind of source it is.

    Args:
        model: what `loaded` returns.
        options: how it is traced.

    Raises:
        ConversionError: if the model cannot be traced with its recurrent layers marked, or not with these options.
    """
    if is_torch_module(model, options.input_signature):
        from lstm_toolkit.sources import torch_modules

        logger.info("exporting and converting by litert-torch")
        return torch_modules.trace(model, options)
    keras = import_keras()
    import tensorflow as tf

    from lstm_toolkit.sources import bare_weights, functions, keras_models, lingvo_models
    from lstm_toolkit.sources import lingvo_modules as lingvo

    logger.info("tracing")
    # An RNN with a call of its own is a function like any other.
    is_own = isinstance(model, lingvo.RNN) and type(model).__call__ is not lingvo.RNN.__call__
    if isinstance(model, (lingvo.RNN, lingvo.LSTMCellSimple)) and not is_own:
        return lingvo_models.trace(model, options)
    layers_of_gates = bare_weights.layers_of(model)
    if layers_of_gates is not None:
        return bare_weights.trace(layers_of_gates, options)
    tf_keras = sys.modules.get("tf_keras")
    layers = (keras.layers.Layer, *([tf_keras.layers.Layer] if tf_keras else []))
    if isinstance(model, layers) or not callable(model):
        return keras_models.trace(model, options)
    fixed = {"state": "auto", "time_major": False}
    changed = [name for name, value in fixed.items() if getattr(options, name) != value]
    if changed:
        raise ConversionError(
            f"{', '.join(changed)} must be settled when a function is traced; convert the Keras model itself, or pass "
            "state to fusable_lstms"
        )
    if isinstance(model, tf.types.experimental.ConcreteFunction):
        return functions.trace_concrete(model, options)
    return functions.trace(model, options)
