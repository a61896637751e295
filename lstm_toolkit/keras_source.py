"""Traces a Keras 3 model into a TensorFlow function in which every LSTM is marked for fusing."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import annotation
from .errors import ConversionError, InvalidModelError
from .graft import FUSED_OP
from .report import LayerReport

_ACTIVATION_NAMES: dict[Any, str] = {
    function: name
    for name in annotation.ACTIVATIONS
    for function in (getattr(keras.activations, name), getattr(keras.ops, name, None), annotation.ACTIVATIONS[name])
    if function is not None
}
_SIGMOIDS = (keras.activations.sigmoid, keras.ops.sigmoid, tf.sigmoid)

_patch_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class TracedModel:
    """A model that is ready for the converter.

    Attributes:
        function: the concrete function; its LSTMs are marked composite ops.
        trackable: holds the variables that the function reads; the converter freezes only those.
        input_names: the model's own input names, in the order of the function's arguments.
        layers: the recurrent layers, in the order in which they were called.
        source: calls the model as its author made it, on one array per input, and returns {output name: array}.
        integer_bound: integer inputs must stay below it.
    """

    function: Any
    trackable: Any
    input_names: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    source: Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]
    integer_bound: int


def load(path: Path) -> Any:
    """Loads a `.keras` file in Keras's safe mode, which runs no code out of the file.

    Raises:
        InvalidModelError: if there is no such file, or it is not a Keras model.
        ConversionError: if it needs code that the file alone cannot give (a Lambda layer or a custom class).
    """
    if not path.is_file():
        raise InvalidModelError(f"there is no file {str(path)!r}")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise InvalidModelError(
            f"{str(path)!r} is not a .keras file (a zip archive named *.keras); load the model yourself and pass it"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras passes on what its layers, zipfile, json and h5py raise
        text = str(error)
        code = re.search(r"Could not locate class '[^']+'|a `Lambda` layer", text)
        if code:
            raise ConversionError(
                f"{str(path)!r} needs code that is not in the file, or that would have to be run out of it "
                f"({code[0]}); load the model yourself, with custom_objects or safe_mode=False if you trust the file, "
                "and pass the object"
            ) from error
        raise InvalidModelError(f"{str(path)!r} is not a model that Keras can load: {_first_line(text)}") from error


def trace(model: Any, *, batch_size: int | None, time_steps: int | None, on_unsupported: str) -> TracedModel:
    """Traces a model in inference mode, with every LSTM marked.

    Args:
        model: a Keras 3 model that knows its inputs.
        batch_size: None keeps the model's own, and 1 where that is None.
        time_steps: size of axis 1 of the inputs where the model leaves it open; None leaves it dynamic.
        on_unsupported: "raise", or "keep" for the stock lowering of a recurrent layer that cannot be fused.

    Raises:
        ConversionError: naming the layer and the reason.
    """
    if keras.backend.backend() != "tensorflow":
        raise ConversionError(
            f"Keras runs on {keras.backend.backend()!r} here, and only its TensorFlow backend can be converted; set "
            "the environment variable KERAS_BACKEND=tensorflow before Keras is imported"
        )
    if not isinstance(model, keras.Model):
        raise ConversionError(f"expected a Keras 3 model or the path of a .keras file, got {type(model).__name__}")
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise ConversionError(
            f"model {model.name!r} does not know its inputs; make it a Sequential model with an Input, or a "
            "functional model"
        )
    specs = [
        tf.TensorSpec(_shape(tensor, batch_size, time_steps), tensor.dtype, name=f"input_{number:04d}")
        for number, tensor in enumerate(inputs)
    ]

    def call(*tensors: Any) -> Any:
        return model(_packed(model, tensors), training=False)

    with _marking_lstms() as layers:
        try:
            function = tf.function(call, autograph=False).get_concrete_function(*specs)
        except Exception as error:  # whatever the layers of a model raise when they are called
            _refuse_unfused(layers, on_unsupported)
            raise ConversionError(f"model {model.name!r} cannot be traced: {_first_line(str(error))}") from error
    _refuse_unfused(layers, on_unsupported)
    holder = tf.Module()
    holder.variables_of_model = [variable.value for variable in model.variables]
    embeddings = [layer.input_dim for layer in _sublayers(model) if isinstance(layer, keras.layers.Embedding)]

    def source(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return _named(call(*(tf.convert_to_tensor(array) for array in arrays)))

    return TracedModel(
        function=function,
        trackable=holder,
        input_names=tuple(tensor.name for tensor in inputs),
        layers=tuple(layers),
        source=source,
        integer_bound=min(embeddings, default=2),
    )


def _refuse_unfused(layers: Sequence[LayerReport], on_unsupported: str) -> None:
    refused = [f"layer {each.name!r} ({each.layer_class}): {each.reason}" for each in layers if each.reason]
    if refused and on_unsupported == "raise":
        remedy = 'or pass on_unsupported="keep" for the stock lowering of what cannot be fused'
        raise ConversionError(f"{'; '.join(refused)}; {remedy}")


def _shape(tensor: Any, batch_size: int | None, time_steps: int | None) -> list[int | None]:
    batch, *rest = tensor.shape
    if batch_size is not None and batch not in (None, batch_size):
        raise ConversionError(f"input {tensor.name!r} has the fixed batch {batch}; batch_size={batch_size} is not it")
    if rest and time_steps is not None:
        if rest[0] not in (None, time_steps) and len(rest) > 1:
            raise ConversionError(f"input {tensor.name!r} has {rest[0]} time steps; time_steps={time_steps} is not it")
        rest[0] = rest[0] or time_steps
    return [batch_size or batch or 1, *rest]


def _packed(model: Any, tensors: Sequence[Any]) -> Any:
    structure = getattr(model, "_inputs_struct", None)
    if structure is None:
        return tensors[0] if len(tensors) == 1 else list(tensors)
    return keras.tree.pack_sequence_as(structure, list(tensors))


def _named(outputs: Any) -> dict[str, np.ndarray]:
    """Names a model's outputs as the saved signature does: dict keys, or output_0, output_1, ..."""
    if isinstance(outputs, dict):
        return {name: np.asarray(value) for name, value in outputs.items()}
    return {f"output_{number}": np.asarray(value) for number, value in enumerate(keras.tree.flatten(outputs))}


def _sublayers(model: Any) -> list[Any]:
    return list(model._flatten_layers())


@contextlib.contextmanager
def _marking_lstms() -> Iterator[list[LayerReport]]:
    """While it is open, each recurrent layer that is called marks itself for fusing and is listed.

    Every class that has an `inner_loop` of its own gets the same wrapper: at that point of the layer's call, dropout,
    masks and initial states are settled, and models of every kind (nested, subclassed, wrapped) come through it.
    """
    layers: list[LayerReport] = []
    base = keras.layers.RNN
    with _patch_lock, contextlib.ExitStack() as undo:
        # A dropout mask draws on a seed variable, even when the layer is not training; it must not reach the file.
        _replace_attribute(undo, base, "_maybe_config_dropout_masks", lambda *_: None)
        for cls in _with_subclasses(base):
            if "inner_loop" in vars(cls):
                _replace_attribute(undo, cls, "inner_loop", _wrapped(vars(cls)["inner_loop"], layers))
        yield layers


def _replace_attribute(undo: contextlib.ExitStack, owner: type, name: str, value: Any) -> None:
    undo.callback(setattr, owner, name, vars(owner)[name])
    setattr(owner, name, value)


def _with_subclasses(cls: type) -> set[type]:
    subclasses: list[type] = cls.__subclasses__()
    return {cls}.union(*map(_with_subclasses, subclasses))


_ORIGINAL_LSTM_LOOP = keras.layers.LSTM.inner_loop


def _wrapped(original: Callable[..., Any], layers: list[LayerReport]) -> Callable[..., Any]:
    def inner_loop(self: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        if getattr(_inside_original, "depth", 0):
            return original(self, sequences, initial_state, mask, training=training)
        name = _unique(self.name, layers)
        reason = _why_not(self, original, mask)
        if reason is None:
            layers.append(LayerReport(name, type(self).__name__, FUSED_OP))
            return _marked_loop(self, sequences, initial_state, name)
        layers.append(LayerReport(name, type(self).__name__, "stock lowering", reason))
        _inside_original.depth = 1
        try:
            return original(self, sequences, initial_state, mask, training=training)
        finally:
            _inside_original.depth = 0

    return inner_loop


_inside_original = threading.local()


def _unique(name: str, layers: list[LayerReport]) -> str:
    taken = {layer.name for layer in layers}
    return next(each for each in (name, *(f"{name}_call{n}" for n in range(1, len(taken) + 1))) if each not in taken)


def _why_not(layer: Any, original: Callable[..., Any], mask: Any) -> str | None:
    """Why a recurrent layer cannot be fused exactly, and what to use instead; None if it can."""
    if not isinstance(layer, keras.layers.LSTM):
        return "it is not an LSTM, and there is no fused op for it; use keras.layers.LSTM"
    if original is not _ORIGINAL_LSTM_LOOP or type(layer.cell) is not keras.layers.LSTMCell:
        return "it overrides the computation of keras.layers.LSTM; use that class itself"
    if layer.recurrent_activation not in _SIGMOIDS:
        name = keras.activations.serialize(layer.recurrent_activation)
        return f"its recurrent activation is {name!r}, and the gates of the fused op are sigmoid; use 'sigmoid'"
    if layer.activation not in _ACTIVATION_NAMES:
        name = keras.activations.serialize(layer.activation)
        return f"its activation is {name!r}, and the fused op has only {', '.join(annotation.ACTIVATIONS)}; use one"
    if layer.stateful:
        return "it is stateful, and every call of the file starts from zero; build it with stateful=False"
    if layer.compute_dtype != "float32":
        return f"it computes in {layer.compute_dtype}, and the fused op in float32; use dtype='float32'"
    if mask is not None:
        return "it gets a mask, and the fused op takes none; remove what makes the mask (mask_zero, Masking)"
    return None


def _marked_loop(layer: Any, sequences: Any, initial_state: Any, name: str) -> tuple[Any, Any, list[Any]]:
    cell = layer.cell
    if layer.go_backwards:
        sequences = tf.reverse(sequences, axis=[1])
    h0, c0 = initial_state
    outputs, h, c = annotation.lstm(
        sequences,
        h0,
        c0,
        tf.convert_to_tensor(cell.kernel),
        tf.convert_to_tensor(cell.recurrent_kernel),
        tf.convert_to_tensor(cell.bias) if cell.use_bias else tf.zeros([4 * cell.units]),
        layer=name,
        activation=_ACTIVATION_NAMES[cell.activation],
    )
    return outputs[:, -1], outputs, [h, c]


def _first_line(text: str) -> str:
    """The line of a message of Keras that says what is wrong, without its frame and colors."""
    lines = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in text.splitlines()]
    telling = (line for line in lines if line and not line.startswith("Exception encountered when calling"))
    return next(telling, "no reason given")
