"""Cells, stacks, shared and nested layers, `SimpleRNN`, mixed precision, and models of every kind."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import lstm_toolkit
from tests.helpers.calls import assert_agrees, by_output
from tests.helpers.forms import (
    BI,
    BI_RNN,
    SEQUENCES,
    UNI,
    UNI_RNN,
    Joined,
    OneInput,
    assert_ops,
    bidirectional,
    check,
    copied_weights,
    functional,
)
from tests.helpers.masks import blanked, mask_of
from tests.helpers.models import randomized
from tests.helpers.pairwise import ALL, pairwise


def nested_model() -> Any:
    inner = keras.Sequential([keras.Input((7, 5)), layers.Dense(4), layers.LSTM(6, return_sequences=True)])
    outer = keras.Sequential([keras.Input((7, 6)), bidirectional(4, return_sequences=True)])
    return functional(inner, outer, layers.LSTM(2))


def shared_layer(make: Callable[[], Any]) -> Any:
    shared = make()
    a, b = keras.Input((7, 5), name="a"), keras.Input((9, 5), name="b")
    return randomized(keras.Model([a, b], layers.Concatenate()([shared(a), shared(b)])))


def shared_in_a_row() -> Any:
    shared = layers.LSTM(5, return_sequences=True)
    return functional(shared, shared)


def shared_model() -> Any:
    inner = keras.Sequential([keras.Input((None, 5)), bidirectional(6), layers.Dense(4)])
    return shared_layer(lambda: inner)


def many_inputs_and_outputs() -> Any:
    steps, tokens = keras.Input((7, 5), name="steps"), keras.Input((9,), dtype="int32", name="tokens")
    facts = keras.Input((2,), name="facts")
    left = layers.LSTM(6, return_sequences=True)(steps)
    right = bidirectional(4)(layers.Embedding(11, 3)(tokens))
    joined = layers.Concatenate()([layers.GlobalAveragePooling1D()(left), right, facts])
    return randomized(keras.Model([steps, tokens, facts], [left, layers.Dense(3)(joined), right]))


def outputs_by_name() -> Any:
    steps = keras.Input((7, 5), name="steps")
    left, right = bidirectional(6, merge_mode=None, return_sequences=True)(steps)
    return randomized(keras.Model(steps, {"sum": left + right, "last": layers.LSTM(4)(right), "left": left}))


def sequence_and_last_step() -> Any:
    steps = keras.Input((7, 5), name="steps")
    x = layers.LSTM(6, return_sequences=True)(steps)
    return randomized(keras.Model(steps, [x, x[:, -1], layers.LSTM(4, go_backwards=True)(x)]))


def time_distributed(layer: Any, *, time: int | None = 7) -> Any:
    clips = keras.Input((4, time, 5), name="clips")
    return randomized(keras.Model(clips, layers.TimeDistributed(layer)(clips)))


REST: dict[str, tuple[Callable[[], Any], dict[str, int]]] = {
    "RNN(LSTMCell)": (lambda: functional(layers.RNN(layers.LSTMCell(6))), {UNI: 1}),
    "RNN(LSTMCell), sequences": (lambda: functional(layers.RNN(layers.LSTMCell(6), return_sequences=True)), {UNI: 1}),
    "RNN([cell, cell])": (lambda: functional(layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)])), {UNI: 2}),
    "RNN([cell, cell, cell])": (
        lambda: functional(layers.RNN([layers.LSTMCell(n) for n in (6, 4, 2)], return_sequences=True)),
        {UNI: 3},
    ),
    "StackedRNNCells": (
        lambda: functional(
            layers.RNN(layers.StackedRNNCells([layers.LSTMCell(6), layers.LSTMCell(4)]), return_sequences=True)
        ),
        {UNI: 2},
    ),
    "StackedRNNCells of one": (lambda: functional(layers.RNN([layers.LSTMCell(6)])), {UNI: 1}),
    "RNN([cell, cell]) backwards": (
        lambda: functional(layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)], go_backwards=True)),
        {UNI: 2},
    ),
    "Bidirectional(RNN(cell))": (lambda: functional(layers.Bidirectional(layers.RNN(layers.LSTMCell(6)))), {BI: 1}),
    "Bidirectional of unlike activations": (
        lambda: functional(
            layers.Bidirectional(
                layers.LSTM(6, return_sequences=True),
                backward_layer=layers.LSTM(6, return_sequences=True, go_backwards=True, activation="hard_tanh"),
            )
        ),
        {UNI: 2},
    ),
    "unroll": (lambda: functional(layers.LSTM(6, unroll=True)), {UNI: 1}),
    "unroll, sequences backwards": (
        lambda: functional(layers.LSTM(6, unroll=True, return_sequences=True, go_backwards=True)),
        {UNI: 1},
    ),
    "unroll, both directions": (lambda: functional(bidirectional(6, unroll=True)), {BI: 1}),
    "unroll, cells": (lambda: functional(layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)], unroll=True)), {UNI: 2}),
    "recurrent_dropout": (lambda: functional(layers.LSTM(6, dropout=0.2, recurrent_dropout=0.5, seed=1)), {UNI: 1}),
    "recurrent_dropout, both directions": (
        lambda: functional(bidirectional(6, recurrent_dropout=0.5, dropout=0.1, return_sequences=True)),
        {BI: 1},
    ),
    "recurrent_dropout, cell": (lambda: functional(layers.RNN(layers.LSTMCell(6, recurrent_dropout=0.5))), {UNI: 1}),
    "implementation 1": (lambda: functional(layers.LSTM(6, implementation=1)), {UNI: 1}),
    "no bias": (lambda: functional(bidirectional(6, use_bias=False)), {BI: 1}),
    "one unit": (lambda: functional(layers.LSTM(1, return_sequences=True), bidirectional(1)), {UNI: 1, BI: 1}),
    "shared": (lambda: shared_layer(lambda: layers.LSTM(6)), {UNI: 2}),
    "shared, both directions": (lambda: shared_layer(lambda: bidirectional(6)), {BI: 2}),
    "shared, unequal directions": (lambda: shared_layer(lambda: bidirectional(6, backward_units=4)), {BI: 2}),
    "shared, simple": (lambda: shared_layer(lambda: layers.SimpleRNN(6)), {UNI_RNN: 2}),
    "shared in a row": (shared_in_a_row, {UNI: 2}),
    "shared model": (shared_model, {BI: 2}),
    "nested": (nested_model, {UNI: 2, BI: 1}),
    "TimeDistributed(LSTM)": (lambda: time_distributed(layers.LSTM(6)), {UNI: 1}),
    "TimeDistributed(LSTM), sequences": (lambda: time_distributed(layers.LSTM(6, return_sequences=True)), {UNI: 1}),
    "TimeDistributed(LSTM), inner time dynamic": (lambda: time_distributed(layers.LSTM(6), time=None), {UNI: 1}),
    "TimeDistributed(Bidirectional)": (lambda: time_distributed(bidirectional(6)), {BI: 1}),
    "TimeDistributed(Bidirectional), sequences": (
        lambda: time_distributed(bidirectional(6, return_sequences=True, merge_mode="sum")),
        {BI: 1},
    ),
    "TimeDistributed(model)": (
        lambda: time_distributed(keras.Sequential([keras.Input((7, 5)), layers.LSTM(6), layers.Dense(2)])),
        {UNI: 1},
    ),
    "several inputs and outputs": (many_inputs_and_outputs, {UNI: 1, BI: 1}),
    "outputs by name": (outputs_by_name, {UNI: 1, BI: 1}),
    "sequence and last step": (sequence_and_last_step, {UNI: 2}),
    "SimpleRNN": (lambda: functional(layers.SimpleRNN(6)), {UNI_RNN: 1}),
    "SimpleRNN, sequences": (lambda: functional(layers.SimpleRNN(6, return_sequences=True)), {UNI_RNN: 1}),
    "SimpleRNN backwards": (
        lambda: functional(layers.SimpleRNN(6, return_sequences=True, go_backwards=True)),
        {UNI_RNN: 1},
    ),
    "SimpleRNN, no bias": (lambda: functional(layers.SimpleRNN(6, use_bias=False)), {UNI_RNN: 1}),
    "SimpleRNN, relu6": (lambda: functional(layers.SimpleRNN(6, activation="relu6")), {UNI_RNN: 1}),
    "SimpleRNN, dynamic time": (
        lambda: functional(layers.SimpleRNN(6, return_sequences=True), time=None),
        {UNI_RNN: 1},
    ),
    "RNN(SimpleRNNCell)": (lambda: functional(layers.RNN(layers.SimpleRNNCell(6))), {UNI_RNN: 1}),
    **{
        f"Bidirectional(SimpleRNN), {merge_mode}, {'sequences' if sequences else 'last step'}": (
            lambda merge_mode=merge_mode, sequences=sequences: functional(
                layers.Bidirectional(layers.SimpleRNN(6, return_sequences=sequences), merge_mode=merge_mode)
            ),
            {BI_RNN: 1},
        )
        for merge_mode, sequences in itertools.product(("concat", "mul", None), SEQUENCES)
    },
}


# One row and several take turns.
REST_CASES = [(form, batch) for n, form in enumerate(REST) for batch in ((1, 3) if ALL else (1 + 2 * (n % 2),))]


@pytest.mark.parametrize(("form", "batch"), REST_CASES)
def test_the_rest_of_keras(form, batch):
    make, recurrent = REST[form]
    check(make(), recurrent, batch=batch)


MIXED: dict[str, tuple[Callable[..., list[Any]], dict[str, int]]] = {
    "one": (lambda **options: [layers.LSTM(6, **options)], {UNI: 1}),
    "stacked": (
        lambda **options: [
            layers.LSTM(6, return_sequences=True, **options),
            layers.Dense(8, **options),
            layers.LSTM(4, **options),
            layers.Dense(2, **options),
        ],
        {UNI: 2},
    ),
    "both directions": (lambda **options: [bidirectional(6, return_sequences=True, **options)], {BI: 1}),
    "whole of both directions": (
        lambda **options: [layers.Bidirectional(layers.LSTM(6, **options), **options), layers.Dense(2)],
        {BI: 1},
    ),
    "masked": (lambda **options: [layers.Masking(**options), layers.LSTM(6, return_state=True, **options)], {UNI: 1}),
    "cells": (
        lambda **options: [layers.RNN([layers.LSTMCell(6, **options), layers.LSTMCell(4, **options)], **options)],
        {UNI: 2},
    ),
    "simple": (lambda **options: [layers.SimpleRNN(6, **options)], {UNI_RNN: 1}),
}


def rounding_its_input(oracle):
    """Reads what float16 holds of the inputs."""
    steps = keras.Input(batch_shape=oracle.inputs[0].shape, name="steps")
    return keras.Model(steps, oracle(keras.ops.cast(keras.ops.cast(steps, "float16"), "float32")))


@pytest.mark.parametrize("form", MIXED)
def test_mixed_precision_computes_in_float32(form):
    make, recurrent = MIXED[form]
    model, oracle = functional(*make(dtype="mixed_float16")), functional(*make())
    assert any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
    oracle = copied_weights(oracle, model)
    # Keras 3.8 makes the cast of what the first layer reads an op of the model, which stays one.
    if type(model.layers[1].input._keras_history.operation).__name__ == "Cast":
        oracle = rounding_its_input(oracle)
    check(model, recurrent, oracle=oracle, masked=form == "masked")


class Tagger(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(11, 5, mask_zero=True)
        self.both = bidirectional(6, return_sequences=True)
        self.last = layers.LSTM(4)
        self.dense = layers.Dense(2)

    def call(self, tokens, training=False):
        x = self.both(self.embedding(tokens))
        return {"tags": self.dense(x), "summary": self.last(x)}


def test_subclassed_model_with_a_mask():
    model = Tagger()
    model(np.ones((3, 7), np.int32))
    randomized(model)
    signature = tf.TensorSpec([3, 7], tf.int32, name="tokens")
    conversion = lstm_toolkit.convert(model, input_signature=signature, verify=False)
    assert_ops(conversion.tflite, {BI: 1, UNI: 1})
    random = np.random.default_rng(1)
    tokens = [random.integers(1, 11, (3, 7)).astype(np.int32) for _ in range(3)]
    calls = [{"tokens": blanked(each, mask_of(seed, 3, 7))} for seed, each in enumerate(tokens)]
    assert_agrees(conversion.tflite, calls, [by_output(model(arrays["tokens"])) for arrays in calls])


def test_subclassed_model_with_a_dict_of_inputs():
    model, sizes = Joined(), {"left": (7, 5), "right": (9, 2)}
    model({name: np.ones((3, *size), np.float32) for name, size in sizes.items()})
    randomized(model)
    signature = {name: tf.TensorSpec([None, *size], tf.float32, name=name) for name, size in sizes.items()}
    conversion = lstm_toolkit.convert(model, input_signature=signature, batch_size=3, verify=False)
    assert_ops(conversion.tflite, {BI: 1, UNI: 1})
    random = np.random.default_rng(1)
    calls = [
        {name: random.normal(size=(3, *size)).astype(np.float32) for name, size in sizes.items()} for _ in range(3)
    ]
    assert_agrees(conversion.tflite, calls, [by_output(model(arrays)) for arrays in calls])


BARE: dict[str, tuple[Callable[[], Any], dict[str, int]]] = {
    "model": (OneInput, {UNI: 1}),
    "LSTM": (lambda: layers.LSTM(6, return_sequences=True), {UNI: 1}),
    "LSTM with its state": (lambda: layers.LSTM(6, return_state=True), {UNI: 1}),
    "Bidirectional": (lambda: bidirectional(6), {BI: 1}),
    "RNN": (lambda: layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)]), {UNI: 2}),
    "SimpleRNN": (lambda: layers.SimpleRNN(6), {UNI_RNN: 1}),
    "Sequential": (lambda: keras.Sequential([layers.LSTM(6), layers.Dense(2)]), {UNI: 1}),
}


@pytest.mark.parametrize(("form", "time", "listed"), pairwise(BARE, (7, None), (True, False)))
def test_input_signature(form, time, listed):
    make, recurrent = BARE[form]
    model = make()
    model(np.ones((3, 7, 5), np.float32))
    randomized(model)
    spec = tf.TensorSpec([None, time, 5], tf.float32, name="steps")
    conversion = lstm_toolkit.convert(model, input_signature=[spec] if listed else spec, batch_size=3, verify=False)
    assert_ops(conversion.tflite, recurrent)
    random = np.random.default_rng(1)
    calls = [{"steps": random.normal(size=(3, steps, 5)).astype(np.float32)} for steps in (7, time or 2, time or 12)]
    assert_agrees(conversion.tflite, calls, [by_output(model(arrays["steps"])) for arrays in calls])
