"""How Keras's models and layers are called, whatever their backend: arguments, structures, precision."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.process_state import Place, seen_here


def refuse_other_backends() -> None:
    """Raises ConversionError if Keras does not run on TensorFlow, for what only TensorFlow computes."""
    if keras.backend.backend() != "tensorflow":
        raise ConversionError(
            f"Keras runs on {keras.backend.backend()!r} here, where convert alone takes its models; save it, set "
            "the environment variable KERAS_BACKEND=tensorflow before Keras is imported, and load it"
        )


def inference_arguments(model: Any) -> dict[str, bool]:
    """What a Keras 3 model takes beside its inputs, to be called for inference: nothing, unless its `call` asks it."""
    training = inspect.signature(model.call).parameters.get("training")
    return {} if training is None or training.default in (None, False) else {"training": False}


def like(layer: Any, **values: bool) -> Any:
    """A layer that shares everything with another one, which other threads may call, but for some attributes."""
    other = object.__new__(type(layer))
    vars(other).update(vars(layer))
    for name, value in values.items():
        setattr(other, name, value)
    return other


def without_dropout_masks(rnn: Any) -> dict[Place, Callable[[Any], Callable[..., Any]]]:
    """Replacements with which Keras's RNN makes no dropout masks; none in Keras 2, which makes them elsewhere.

    A mask draws on a seed variable, even when the layer is not training, and hangs on the cell, where another thread
    may train with it.
    """
    names = ("_maybe_config_dropout_masks", "_maybe_reset_dropout_masks")
    return {(rnn, name): lambda _: lambda *_: None for name in names if hasattr(rnn, name)}


def inputs_structure(model: Any) -> Any:
    """The inputs of a model as it takes them: a tensor, or a list, a tuple or a dict of tensors; None if unknown."""
    return getattr(model, "_inputs_struct", getattr(model, "_nested_inputs", None))


def packing(structure: Any) -> Callable[[Sequence[Any]], Any]:
    """What makes a model's one argument of its tensors in their order.

    Args:
        structure: as the model takes them; None for a list, or the tensor itself where there is one.
    """

    def packed(tensors: Sequence[Any]) -> Any:
        if structure is None:
            return tensors[0] if len(tensors) == 1 else list(tensors)
        return keras.tree.pack_sequence_as(structure, list(tensors))

    return packed


def named(outputs: Any) -> dict[str, Any]:
    """Names a model's outputs as the saved signature does: dict keys, or output_0, output_1, ..."""
    if isinstance(outputs, dict) and not any(keras.tree.is_nested(value) for value in outputs.values()):
        return dict(outputs)
    return {f"output_{number}": value for number, value in enumerate(keras.tree.flatten(outputs))}


@contextlib.contextmanager
def in_float32(layers: Sequence[Any]) -> Iterator[None]:
    """While it is open, layers with float32 weights and half-precision arithmetic compute in float32."""
    half = {id(layer) for layer in layers if layer.compute_dtype != layer.variable_dtype}
    float32 = keras.dtype_policies.get("float32")

    def seen(layer: Any, policy: Any) -> Any:
        return float32 if id(layer) in half else policy

    with seen_here({(keras.layers.Layer, "_dtype_policy"): seen} if half else {}):
        yield
