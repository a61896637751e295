"""Keras models of every form, what they are compared with, and which ops their files hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import lstm_toolkit
from tests.helpers.calls import Arrays, assert_agrees, by_output
from tests.helpers.files import op_counts
from tests.helpers.masks import blanked, mask_of
from tests.helpers.models import randomized

UNI, BI = "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM"
UNI_RNN, BI_RNN = "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN"
RECURRENT = {UNI, BI, UNI_RNN, BI_RNN, "LSTM", "RNN", "SVDF"}
FORBIDDEN = {"WHILE", "IF", "CUSTOM", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}
MERGES = ("concat", "sum", "mul", "ave", None)
SEQUENCES = (True, False)


def assert_ops(tflite: bytes, recurrent: Mapping[str, int], *, absent: set[str] = FORBIDDEN) -> None:
    counts = op_counts(tflite)
    assert {name: count for name, count in counts.items() if name in RECURRENT} == dict(recurrent)
    assert not absent & set(counts)


def draw(model: Any, *, batch: int, time: int, seed: int, masked: bool = False) -> Arrays:
    """One array per input of a model, by name: tokens from 1 on, floats, masks; on request with masks of every kind."""
    random, arrays = np.random.default_rng(seed), {}
    for tensor in model.inputs:
        shape = (batch, *(time if size is None else size for size in tensor.shape[1:]))
        if tensor.dtype == "bool":
            array = np.ones(shape, bool)
        elif tensor.dtype == "int32":
            array = random.integers(1, 11, shape).astype(np.int32)
        else:
            array = random.normal(0.0, 1.0, shape).astype(np.float32)
        arrays[tensor.name] = blanked(array, mask_of(seed, batch, shape[1])) if masked else array
    return arrays


def call(model: Any, arrays: Arrays) -> Arrays:
    tensors = [tf.convert_to_tensor(array) for array in arrays.values()]
    return by_output(model(tensors[0] if len(tensors) == 1 else tensors))


def check(
    model: Any,
    recurrent: Mapping[str, int],
    *,
    batch: int = 3,
    times: Sequence[int] = (7, 7, 7),
    masked: bool = False,
    absent: set[str] = FORBIDDEN,
    oracle: Any = None,
    **options: Any,
) -> None:
    """Converts a stateless model and compares it with Keras, or with another Keras model that stands for it."""
    conversion = lstm_toolkit.convert(model, batch_size=batch, verify=False, **options)
    assert_ops(conversion.tflite, recurrent, absent=absent)
    calls = [draw(model, batch=batch, time=time, seed=seed, masked=masked) for seed, time in enumerate(times)]
    assert_agrees(conversion.tflite, calls, [call(oracle or model, arrays) for arrays in calls])


def functional(*parts: Any, time: int | None = 7, batch: int | None = None) -> Any:
    inputs = x = keras.Input((time, 5), batch_size=batch, name="steps")
    for part in parts:
        x = part(x)
    return randomized(keras.Model(inputs, x))


def bidirectional_ops(option: str, number: int = 1) -> dict[str, int]:
    return {BI: number} if option == "fused" else {UNI: 2 * number}


def bidirectional(units: int, *, backward_units: int | None = None, merge_mode: str | None = "concat", **options: Any):
    backward = layers.LSTM(backward_units, go_backwards=True, **options) if backward_units else None
    return layers.Bidirectional(layers.LSTM(units, **options), backward_layer=backward, merge_mode=merge_mode)


def copied_weights(target: Any, source: Any) -> Any:
    for one, other in zip(target.trainable_variables, source.trainable_variables, strict=True):
        one.assign(other)
    return target


CELLS = (6, 4)
STATE_KINDS: dict[str, tuple[Callable[..., list[Any]], dict[str, int]]] = {
    "one": (lambda **last: [layers.LSTM(6, **last)], {UNI: 1}),
    "backwards": (lambda **last: [layers.LSTM(6, go_backwards=True, **last)], {UNI: 1}),
    "stacked": (lambda **last: [layers.LSTM(6, **last | {"return_sequences": True}), layers.LSTM(4, **last)], {UNI: 2}),
    "both directions": (lambda **last: [bidirectional(6, **last)], {BI: 1}),
    "unequal directions": (lambda **last: [bidirectional(6, backward_units=4, **last)], {BI: 1}),
    "stacked directions": (
        lambda **last: [bidirectional(6, **last | {"return_sequences": True}), bidirectional(4, **last)],
        {BI: 2},
    ),
    "cell": (lambda **last: [layers.RNN(layers.LSTMCell(6), **last)], {UNI: 1}),
    "cells": (lambda **last: [layers.RNN([layers.LSTMCell(units) for units in CELLS], **last)], {UNI: 2}),
    "simple": (lambda **last: [layers.SimpleRNN(6, **last)], {UNI_RNN: 1}),
    "simple, both directions": (lambda **last: [layers.Bidirectional(layers.SimpleRNN(6, **last))], {BI_RNN: 1}),
}


def state_names(layer: Any) -> list[str]:
    """Names of the explicit states of a layer, in Keras's order."""
    if isinstance(layer, layers.Bidirectional):
        return [*state_names(layer.forward_layer), *state_names(layer.backward_layer)]
    if isinstance(layer.cell, layers.StackedRNNCells):
        return [f"{layer.name}_cell{number}_{kind}" for number in range(len(layer.cell.cells)) for kind in "hc"]
    return [f"{layer.name}_{kind}" for kind in ("h" if isinstance(layer.cell, layers.SimpleRNNCell) else "hc")]


def state_sizes(layer: Any) -> list[int]:
    if isinstance(layer, layers.Bidirectional):
        return [*state_sizes(layer.forward_layer), *state_sizes(layer.backward_layer)]
    return keras.tree.flatten(layer.cell.state_size)


def explicit_twin(model: Any, kind: str, *, return_sequences: bool) -> Callable[..., Arrays]:
    """Keras's own layers called with initial states; gives the output and the new states under the file's names."""
    make, _ = STATE_KINDS[kind]
    recurrent = model.layers[-len(make(return_sequences=True)) :]
    twins = make(return_sequences=return_sequences, return_state=True)

    def run(sequence: np.ndarray, states: Arrays, mask: np.ndarray | None = None) -> Arrays:
        x, new = tf.convert_to_tensor(sequence), {}
        for layer, twin in zip(recurrent, twins, strict=True):
            names = state_names(layer)
            start: list[Any] = [tf.convert_to_tensor(states[name]) for name in names]
            if isinstance(layer, layers.RNN) and isinstance(layer.cell, layers.StackedRNNCells):
                start = [start[:2], start[2:]]
            if not twin.built:
                twin.build(x.shape)
                copied_weights(twin, layer)
            x, *ends = twin(x, initial_state=start, mask=None if mask is None else tf.convert_to_tensor(mask))
            new |= zip(names, map(np.asarray, keras.tree.flatten(ends)), strict=True)
        return {"output_0": np.asarray(x)} | new

    return run


def draw_states(model: Any, *, batch: int, seed: int) -> Arrays:
    random, states = np.random.default_rng(100 + seed), {}
    for layer in model.layers:
        if isinstance(layer, (layers.RNN, layers.Bidirectional)):
            for name, size in zip(state_names(layer), state_sizes(layer), strict=True):
                states[name] = random.normal(0.0, 1.0, (batch, size)).astype(np.float32)
    return states


DIRECTIONS: dict[str, tuple[Callable[..., Any], dict[str, int]]] = {
    "forward": (lambda **options: layers.LSTM(6, **options), {UNI: 1}),
    "backwards": (lambda **options: layers.LSTM(6, go_backwards=True, **options), {UNI: 1}),
    "both": (lambda **options: bidirectional(6, **options), {BI: 1}),
}


def masked_model(source: str, make: Callable[[], Any], *, time: int | None = 7) -> Any:
    layer = make()
    if source == "embedding":
        tokens = keras.Input((time,), dtype="int32", name="tokens")
        inputs, outputs = tokens, layer(layers.Embedding(11, 5, mask_zero=True)(tokens))
    elif source == "masking":
        inputs = keras.Input((time, 5), name="steps")
        outputs = layer(layers.Masking()(inputs))
    else:
        steps, mask = keras.Input((time, 5), name="steps"), keras.Input((time,), dtype="bool", name="valid")
        inputs, outputs = [steps, mask], layer(steps, mask=mask)
    return randomized(keras.Model(inputs, outputs))


def masked_decoder(layer: Any, *, states: int = 2) -> Any:
    steps, valid = keras.Input((7, 5), name="steps"), keras.Input((7,), dtype="bool", name="valid")
    start = [keras.Input((6,), name=f"state_{number}") for number in range(states)]
    return randomized(keras.Model([steps, valid, *start], layer(steps, initial_state=start, mask=valid)))


def time_of_images(layer: Any, library: Any = keras) -> Any:
    x, layers = library.Input((4, 7, 5)), library.layers
    return randomized(library.Model(x, layers.LSTM(6, name="fine")(layers.Reshape((4, -1))(as_sequence(layer)(x)))))


def as_sequence(layer: Any) -> Any:
    layer.return_sequences = True
    return layer


class Joined(keras.Model):
    """Subclassed, with two inputs by name; knows neither until it is called."""

    def __init__(self):
        super().__init__()
        self.left, self.right = layers.LSTM(6), bidirectional(4)

    def call(self, inputs):
        return self.left(inputs["left"]), self.right(inputs["right"])


class OneInput(keras.Model):
    """Subclassed; knows its input only when it is called."""

    def __init__(self):
        super().__init__()
        self.lstm, self.dense = layers.LSTM(6, return_sequences=True), layers.Dense(2)

    def call(self, x):
        return self.dense(self.lstm(x))
