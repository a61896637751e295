"""The gates of Keras's LSTM layers, wherever in a model they are: what goes into a layer is seen while the model runs.

It works for Keras 3 and for tf_keras (Keras 2), whose layers have the same attributes.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lstm_toolkit.activations.compute import Call, Cell, chosen_number, computed
from lstm_toolkit.activations.values import Array, GateActivations
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.process_state import Place, replaced_here
from lstm_toolkit.sources.keras_calls import inference_arguments, refuse_other_backends
from lstm_toolkit.sources.reference import OwnVariables
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.reference import ACTIVATIONS


@dataclasses.dataclass(frozen=True, eq=False)
class _Seen:
    """A call of a recurrent layer, or the two of a `Bidirectional`.

    Attributes:
        name: of the layer, or of the wrapper.
        layer: the layer itself.
        x, mask, start, result: what it took, the states that it started from (None for zeros), and what it gave.
        backward: the backward half.
    """

    name: str
    layer: Any
    x: Any
    mask: Any
    start: Any
    result: Any
    backward: _Seen | None = None

    @property
    def is_lstm(self) -> bool:
        return type(self.layer.cell).__name__ == "LSTMCell"


def of_keras(source: Any, inputs: Sequence[Any], chosen: str | int | None) -> GateActivations:
    """The gates of one LSTM of a model or layer. Arguments and errors as for `gate_activations`."""
    if not source.built:
        raise ConversionError(f"{source.name!r} has no weights yet; call it once on such inputs")
    tf_keras = sys.modules.get("tf_keras")
    of_keras_2 = tf_keras is not None and isinstance(source, tf_keras.layers.Layer)
    if not of_keras_2:
        refuse_other_backends()
    library: Any = tf_keras if of_keras_2 else keras
    arguments = {"training": False} if of_keras_2 else inference_arguments(source)
    layers = [each for each in source._flatten_layers() if isinstance(each, library.layers.RNN)]
    states = [each for one in layers if one.stateful for each in tf.nest.flatten(one.states)]
    own_variables = OwnVariables(source.non_trainable_variables, [each for each in states if each is not None])
    calls: list[list[_Seen]] = []
    for x in inputs:
        calls.append([])
        places = _replacements(library, layers, calls[-1])
        with own_variables.continued(), replaced_here(places):
            source(tf.nest.map_structure(tf.convert_to_tensor, x), **arguments)
    number = _chosen(source, calls[0], chosen)
    rows = [[each for each in seen if each.is_lstm][number] for seen in calls]
    forward = computed(_cell(rows[0]), [_call(each) for each in rows])
    halves = [each.backward for each in rows if each.backward is not None]
    if not halves:
        return forward
    return dataclasses.replace(forward, backward=computed(_cell(halves[0]), [_call(each) for each in halves]))


def _chosen(source: Any, seen: Sequence[_Seen], chosen: str | int | None) -> int:
    """The number of the chosen LSTM among those that were called."""
    others = {each.name: type(each.layer.cell).__name__ for each in seen if not each.is_lstm}
    names = [each.name for each in seen if each.is_lstm]
    if not names or chosen in others:
        what = ", ".join(f"{name!r} has a {cell}" for name, cell in others.items()) or "it has no recurrent layer"
        raise ConversionError(
            f"{source.name!r}: {what}, and i, f, g, o and c are those of an LSTM; give a model with a keras.layers.LSTM"
        )
    return chosen_number(names, chosen, "model")


def _replacements(
    library: Any, layers: Sequence[Any], seen: list[_Seen]
) -> dict[Place, Callable[[Any], Callable[..., Any]]]:
    """What notes the calls of recurrent layers, in every class that has a say in them."""
    inside = [0]
    classes = {cls for each in layers for cls in type(each).__mro__ if issubclass(cls, library.layers.RNN)}
    places: dict[Place, Callable[[Any], Callable[..., Any]]] = {
        (cls, "call"): lambda original: _watched(original, seen, inside) for cls in classes if "call" in vars(cls)
    }
    return places | {(library.layers.Bidirectional, "call"): lambda original: _watched_pair(original, seen)}


def _watched(original: Callable[..., Any], seen: list[_Seen], inside: list[int]) -> Callable[..., Any]:
    """The call of a recurrent layer, of which is noted what goes in and comes out."""

    def call(layer: Any, sequences: Any, initial_state: Any = None, mask: Any = None, **others: Any) -> Any:
        start = initial_state
        if start is None and layer.stateful:
            start = layer.states
        start = None if start is None else [np.asarray(each) for each in tf.nest.flatten(start)]
        inside[0] += 1  # a class may call its base
        try:
            result = original(layer, sequences, initial_state=initial_state, mask=mask, **others)
        finally:
            inside[0] -= 1
        if not inside[0]:
            seen.append(_Seen(layer.name, layer, sequences, mask, start, result))
        return result

    return call


def _watched_pair(original: Callable[..., Any], seen: list[_Seen]) -> Callable[..., Any]:
    def call(wrapper: Any, *arguments: Any, **others: Any) -> Any:
        before = len(seen)
        result = original(wrapper, *arguments, **others)
        forward, backward = seen[before:]
        seen[before:] = [dataclasses.replace(forward, name=wrapper.name, backward=backward)]
        return result

    return call


def _cell(seen: _Seen) -> Cell:
    layer, cell = seen.layer, seen.layer.cell
    names = [getattr(each, "__name__", str(each)) for each in (cell.activation, cell.recurrent_activation)]
    if names[0] not in ACTIVATIONS or names[1] != "sigmoid":
        raise ConversionError(
            f"layer {layer.name!r} has the activation {names[0]!r} and the recurrent_activation {names[1]!r}; gates "
            f"can be told of an LSTM with one of {', '.join(ACTIVATIONS)}, and sigmoid"
        )
    weights, backwards = GateWeights.from_keras(cell), bool(layer.go_backwards)
    return Cell(kind="layer", name=seen.name, weights=weights, activation=names[0], backwards=backwards)


def _call(seen: _Seen) -> Call:
    layer, x = seen.layer, _array(seen.x)
    if seen.mask is not None and not np.asarray(seen.mask).all():
        raise ConversionError(
            f"layer {layer.name!r} gets a mask, and at the steps that it leaves out there are no gates; give sequences "
            "without padding, those of other lengths one by one"
        )
    sizes = (seen.layer.cell.units,) * 2
    h, c = [np.zeros((len(x), size), np.float32) for size in sizes] if seen.start is None else seen.start
    first = _array(tf.nest.flatten(seen.result)[0])
    return Call(x=x, h=h, c=c, output=first if layer.return_sequences else first[:, np.newaxis])


def _array(tensor: Any) -> Array:
    return np.asarray(tensor, np.float32)
