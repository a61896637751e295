"""`gate_activations`: the gates of a trained LSTM over a sequence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_toolkit.activations.compute import Call, Cell, computed
from lstm_toolkit.activations.values import GateActivations
from lstm_toolkit.weights.gate_weights import GateWeights


def gate_activations(
    source: Any, x: Any, *, layer: str | int | None = None, node: int | None = None
) -> GateActivations:
    """What the gates of an LSTM do at every step of a sequence.

    The gates are computed in float64 from the weights and from what really goes into the LSTM, and the outputs are
    compared with those that the source itself computes, so that no gate is shown that is not the source's.

    Args:
        source: a Keras model with an LSTM anywhere in it, or an LSTM layer; a `.tflite` file with a fused LSTM op
            (bytes, path or `Conversion`); or `GateWeights`. A model or layer must have been built, and stays as it is.
        x: what the source takes, [batch, time, ...], or a dict of its inputs by name; and a list of these for several
            calls in a row. Floats are quantized where a file takes integers. For a file of fixed length, a longer
            array is cut into calls of that length.
        layer: name or number of the LSTM in a model or file, in the order in which they run; the first where None.
        node: the same for a file, as for `plot_gates`.

    Returns:
        All gates over all calls. At the start of the first call carried states are zero. Later calls start as the
        source does: from zero where it resets its state, or from where the call before ended where it carries it.
        In int8 files, and in those with int8 weights, the gates are those of float arithmetic on the file's own
        weights and inputs; `max_abs_error` is how far the file's integers are from that.

    Raises:
        ParityError: if the outputs are not those of the source: in float32 by more than 1e-5, with integers by more
            than `files.INTEGER_TOLERANCE` of the largest; the message names layer or node.
        InvalidModelError: if the file cannot be read or run, or has no fused LSTM op outside of loops.
        ConversionError: if the layer is not one whose gates can be told, or gets a mask; with the remedy.
        ValueError: for another name or number, or inputs that do not fit.
        TypeError: for another kind of source.
    """
    chosen = node if layer is None else layer
    calls = list(x) if isinstance(x, (list, tuple)) else [x]
    if not calls:
        raise ValueError("x holds no call; give an array [batch, time, input], or a list of at least one")
    if isinstance(source, GateWeights):
        return _of_weights(source, calls)
    if isinstance(source, (bytes, bytearray, memoryview, str, os.PathLike)) or hasattr(source, "tflite"):
        from lstm_toolkit.activations.files import of_file  # needs LiteRT, which the other sources do not

        return of_file(source, calls, chosen)
    if hasattr(source, "get_weights"):
        from lstm_toolkit.activations.keras_layers import of_keras

        return of_keras(source, calls, chosen)
    raise TypeError(
        "expected a Keras model or LSTM layer, a .tflite file (bytes or path) or GateWeights, got "
        f"{type(source).__name__}; of Lingvo cells and PyTorch LSTMs, give GateWeights.from_lingvo or "
        "GateWeights.from_torch"
    )


def _of_weights(weights: GateWeights, calls: Sequence[Any]) -> GateActivations:
    made = []
    for x in calls:
        array = np.asarray(x, np.float32)
        if array.ndim != 3 or array.shape[2] != weights.input_size:
            size, given = weights.input_size, list(array.shape)
            raise ValueError(f"x must be an array [batch, time, {size}] for these weights, got {given}")
        zeros = [np.zeros((len(array), size), np.float32) for size in (weights.output_size, weights.units)]
        made.append(Call(x=array, h=zeros[0], c=zeros[1]))
    return computed(Cell(kind="weights", name="GateWeights", weights=weights), made)
