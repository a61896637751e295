"""Padded sequences: masks of every origin, over every form of layer."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import lstm_toolkit
from lstm_toolkit.quantization.quantize import QuantizationWarning
from lstm_toolkit.sources.masks import ValidSteps
from tests.helpers.calls import assert_agrees
from tests.helpers.forms import (
    BI,
    DIRECTIONS,
    FORBIDDEN,
    MERGES,
    SEQUENCES,
    STATE_KINDS,
    UNI,
    UNI_RNN,
    assert_ops,
    bidirectional,
    bidirectional_ops,
    call,
    check,
    draw,
    draw_states,
    explicit_twin,
    functional,
    masked_decoder,
    masked_model,
)
from tests.helpers.masks import blanked, mask_of
from tests.helpers.models import randomized
from tests.helpers.pairwise import pairwise

MASKS = ("embedding", "masking", "explicit")
MASK_CASES = pairwise(MASKS, DIRECTIONS, SEQUENCES, (False, True))


@pytest.mark.parametrize(("source", "direction", "return_sequences", "zeros"), MASK_CASES)
def test_mask(source, direction, return_sequences, zeros):
    make, recurrent = DIRECTIONS[direction]
    model = masked_model(source, lambda: make(return_sequences=return_sequences, zero_output_for_mask=zeros))
    check(model, recurrent, masked=True)


@pytest.mark.parametrize("return_sequences", SEQUENCES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_mask_with_returned_states(direction, return_sequences):
    make, recurrent = DIRECTIONS[direction]
    model = masked_model("masking", lambda: make(return_sequences=return_sequences, return_state=True))
    check(model, recurrent, masked=True)


@pytest.mark.parametrize("merge_mode", MERGES)
@pytest.mark.parametrize("option", ["fused", "split"])
def test_mask_with_merge_mode(option, merge_mode):
    model = masked_model("masking", lambda: bidirectional(6, merge_mode=merge_mode, return_sequences=True))
    check(model, bidirectional_ops(option), masked=True, bidirectional=option)


@pytest.mark.parametrize(("direction", "return_sequences", "zeros"), pairwise(DIRECTIONS, SEQUENCES, (False, True)))
def test_mask_unrolled(direction, return_sequences, zeros):
    make, recurrent = DIRECTIONS[direction]
    options = {"return_sequences": return_sequences, "zero_output_for_mask": zeros, "unroll": True}
    check(masked_model("masking", lambda: make(**options)), recurrent, masked=True)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_mask_with_dynamic_time(direction):
    make, recurrent = DIRECTIONS[direction]
    model = masked_model("embedding", lambda: make(return_sequences=True), time=None)
    check(model, recurrent, masked=True, times=(7, 12, 9))


MASKED_STACKS: dict[str, tuple[Callable[[], list[Any]], dict[str, int]]] = {
    "lstms": (lambda: [layers.LSTM(6, return_sequences=True), layers.LSTM(4)], {UNI: 2}),
    "directions": (lambda: [bidirectional(6, return_sequences=True), bidirectional(4)], {BI: 2}),
    "unequal directions": (lambda: [bidirectional(6, backward_units=4, return_sequences=True)], {BI: 1}),
    "cells": (lambda: [layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)], return_sequences=True)], {UNI: 2}),
    "cells backwards": (
        lambda: [layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)], return_state=True, go_backwards=True)],
        {UNI: 2},
    ),
    "simple": (lambda: [layers.SimpleRNN(6, return_sequences=True)], {UNI_RNN: 1}),
    "simple, backwards": (lambda: [layers.SimpleRNN(6, go_backwards=True)], {UNI_RNN: 1}),
    "simple, both directions": (
        lambda: [layers.Bidirectional(layers.SimpleRNN(6, return_sequences=True))],
        {UNI_RNN: 2},
    ),
    "simple, last step": (lambda: [layers.SimpleRNN(6)], {UNI_RNN: 1}),
    "simple, with its state": (lambda: [layers.SimpleRNN(6, return_state=True)], {UNI_RNN: 1}),
    "unrolled": (lambda: [layers.LSTM(6, unroll=True, return_sequences=True)], {UNI: 1}),
    "unrolled, last step": (lambda: [layers.LSTM(6, unroll=True)], {UNI: 1}),
    "unrolled, zeros": (lambda: [layers.LSTM(6, unroll=True, zero_output_for_mask=True)], {UNI: 1}),
    "dense between": (
        lambda: [bidirectional(6, return_sequences=True), layers.Dense(8), layers.Dropout(0.2), layers.LSTM(4)],
        {BI: 1, UNI: 1},
    ),
    "tagger": (
        lambda: [bidirectional(6, return_sequences=True), layers.TimeDistributed(layers.Dense(4))],
        {BI: 1},
    ),
}


@pytest.mark.parametrize("stack", MASKED_STACKS)
def test_mask_through_several_layers(stack):
    make, recurrent = MASKED_STACKS[stack]
    check(functional(layers.Masking(), *make()), recurrent, masked=True)


@pytest.mark.parametrize("return_sequences", SEQUENCES)
@pytest.mark.parametrize("kind", ["one", "stacked", "cells", "backwards", "both directions", "simple, both directions"])
@pytest.mark.parametrize("lowering", ["fused", "unrolled"])
def test_mask_with_explicit_state(lowering, kind, return_sequences):
    make, recurrent = STATE_KINDS[kind]
    # Over padding that it reads first, an op cannot hold a state that is not zero: two ops read each its own order.
    recurrent = {"both directions": {UNI: 2}, "simple, both directions": {UNI_RNN: 2}}.get(kind, recurrent)
    recurrent = recurrent if lowering == "fused" else {}
    model = functional(layers.Masking(), *make(return_sequences=return_sequences))
    conversion = lstm_toolkit.convert(model, batch_size=3, state="explicit", lowering=lowering, verify=False)
    assert_ops(conversion.tflite, recurrent)
    twin = explicit_twin(model, kind, return_sequences=return_sequences)
    calls = [
        draw(model, batch=3, time=7, seed=seed, masked=True) | draw_states(model, batch=3, seed=seed)
        for seed in range(3)
    ]
    expected = [twin(arrays["steps"], arrays, (arrays["steps"] != 0).any(axis=2)) for arrays in calls]
    assert_agrees(conversion.tflite, calls, expected)


@pytest.mark.parametrize("both", [False, True])
def test_masked_encoder_and_decoder(both):
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    steps = keras.Input((7, 2), name="steps")
    x = layers.Embedding(11, 5, mask_zero=True)(tokens)
    if both:
        _, fh, fc, bh, bc = layers.Bidirectional(layers.LSTM(6, return_state=True))(x)
        start = [layers.Concatenate()([fh, bh]), layers.Concatenate()([fc, bc])]
    else:
        _, *start = layers.LSTM(12, return_state=True)(x)
    # Keras drops the mask that comes with a sequence where initial states are passed as well.
    mask = keras.ops.any(keras.ops.not_equal(steps, 0.0), axis=2)
    decoded = layers.LSTM(12, return_sequences=True)(steps, initial_state=start, mask=mask)
    check(randomized(keras.Model([tokens, steps], decoded)), {BI: 1, UNI: 1} if both else {UNI: 2}, masked=True)


@pytest.mark.parametrize(("return_sequences", "go_backwards"), itertools.product(SEQUENCES, (False, True)))
@pytest.mark.parametrize(("cell", "recurrent"), [("LSTM", {UNI: 1}), ("SimpleRNN", {UNI_RNN: 1})])
def test_mask_with_given_states(cell, recurrent, return_sequences, go_backwards):
    """A row that is padded whole ends where it started, which is not zero here."""
    options = {"return_sequences": return_sequences, "go_backwards": go_backwards, "return_state": True}
    model = masked_decoder(getattr(layers, cell)(6, **options), states=2 if cell == "LSTM" else 1)
    conversion = lstm_toolkit.convert(model, batch_size=3, verify=False)
    assert_ops(conversion.tflite, recurrent)
    calls = [draw(model, batch=3, time=7, seed=seed) for seed in range(3)]
    for seed, arrays in enumerate(calls):
        arrays["valid"] = mask_of(seed, 3, 7)
    assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls])


def test_padding_of_any_value():
    """What stands at padded steps is never read, be it large or no number."""
    model = masked_model("explicit", lambda: bidirectional(6, return_sequences=True))
    conversion = lstm_toolkit.convert(model, batch_size=3, verify=False)
    calls = [draw(model, batch=3, time=7, seed=seed) for seed in range(3)]
    for seed, (arrays, value) in enumerate(zip(calls, (1e6, np.nan, np.inf), strict=True)):
        arrays["valid"] = mask_of(seed, 3, 7)
        arrays["steps"] = blanked(arrays["steps"], arrays["valid"], value)
    assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls])


CONSTANT = np.arange(7)[np.newaxis]
CONSTANTS = {
    "right": np.array([[4], [7], [0]]) > CONSTANT,
    "left": np.array([[2], [0], [6]]) <= CONSTANT,
    "hole": np.ones((3, 7), bool) & (CONSTANT != 3),
    "all": np.ones((3, 7), bool),
}


@pytest.mark.parametrize("mask", CONSTANTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_constant_mask(direction, mask):
    make, recurrent = DIRECTIONS[direction]
    x = keras.Input((7, 5), batch_size=3, name="steps")
    outputs = make(return_sequences=True)(x, mask=CONSTANTS[mask])
    check(randomized(keras.Model(x, outputs)), recurrent, absent=FORBIDDEN | {"TOPK_V2", "CUMSUM"})


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_mask_of_lengths_is_as_cheap_as_padding_on_the_right(direction):
    make, recurrent = DIRECTIONS[direction]
    steps, lengths = keras.Input((7, 5), name="steps"), keras.Input((1,), dtype="int32", name="lengths")
    outputs = make(return_sequences=True)(steps, mask=keras.ops.less(np.arange(7)[None], lengths))
    check(randomized(keras.Model([steps, lengths], outputs)), recurrent, absent=FORBIDDEN | {"TOPK_V2"})


def test_mask_of_lengths_from_the_end_is_padding_on_the_left():
    steps, lengths = keras.Input((7, 5), name="steps"), keras.Input((1,), dtype="int32", name="lengths")
    outputs = layers.LSTM(6, return_sequences=True)(steps, mask=keras.ops.less(np.arange(7)[::-1][None], lengths))
    check(randomized(keras.Model([steps, lengths], outputs)), {UNI: 1})


def test_backwards_over_padding_with_an_activation_that_is_not_zero_at_zero():
    """The padding comes first there, and h has to stay zero over it."""
    steps, lengths = keras.Input((7, 5), name="steps"), keras.Input((1,), dtype="int32", name="lengths")
    layer = layers.LSTM(6, activation="sigmoid", go_backwards=True, return_sequences=True)
    outputs = layer(steps, mask=keras.ops.less(np.arange(7)[None], lengths))
    model = randomized(keras.Model([steps, lengths], outputs))
    check(model, {}, absent=FORBIDDEN | {"TOPK_V2"}, lowering="unrolled")


def test_marked_export_with_a_mask(tmp_path):
    """What `fusable_lstms` exports runs in TensorFlow as Keras does, and so does its file."""
    model = masked_model("embedding", lambda: bidirectional(6, return_sequences=True))
    with lstm_toolkit.fusable_lstms():
        model.export(tmp_path, verbose=False)
    conversion = lstm_toolkit.convert(tmp_path, batch_size=3, verify=False)
    assert_ops(conversion.tflite, {UNI: 2})
    exported = tf.saved_model.load(str(tmp_path))
    calls = [draw(model, batch=3, time=7, seed=seed, masked=True) for seed in range(3)]
    expected = [call(model, arrays) for arrays in calls]
    for arrays, wanted in zip(calls, expected, strict=True):
        np.testing.assert_allclose(exported.serve(arrays["tokens"]), wanted["output_0"], atol=1e-6)
    assert_agrees(conversion.tflite, calls, expected)


@pytest.mark.parametrize("lowering", ["fused", "loop"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_mask_on_a_microcontroller(direction, lowering):
    """TensorFlow Lite Micro sorts nothing and adds up no integers; `convert` runs the file there too."""
    make, recurrent = DIRECTIONS[direction]
    recurrent = {UNI: sum(recurrent.values()) + (direction == "both")} if lowering == "fused" else {}
    absent = FORBIDDEN - ({"WHILE"} if lowering == "loop" else set()) | {"TOPK_V2"}
    model = masked_model("explicit", lambda: make(return_sequences=True))
    check(model, recurrent, masked=True, absent=absent, target="micro", lowering=lowering)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("time", [1, 2, 3, 5, 8, 13])
def test_counting_without_sums_finds_the_valid_steps(time, backwards):
    random = np.random.default_rng(time)
    mask = random.random((6, time)) < 0.5
    mask[0], mask[1] = False, True
    x = random.normal(size=(6, time, 2)).astype(np.float32)
    steps = ValidSteps(tf.constant(mask), backwards=backwards, for_micro=True)
    gathered, before = steps.gathered(tf.constant(x)).numpy(), -np.ones((6, 2), np.float32)
    last, held = (each(gathered, before).numpy() for each in (steps.last, steps.held))
    turn = -1 if backwards else 1
    for row, valid in enumerate(mask):
        wanted = x[row][valid][::turn]
        np.testing.assert_array_equal(gathered[row][: len(wanted)], wanted)
        np.testing.assert_array_equal(last[row], wanted[-1] if len(wanted) else before[row])
        places = np.cumsum(valid[::turn])
        shown = np.where(places[:, None] > 0, wanted[places - 1] if len(wanted) else 0, before[row])
        np.testing.assert_array_equal(held[row], shown)


def test_a_mask_with_holes_in_int8_on_a_microcontroller():
    """What counts stays exact beside weights of 8 bits, so that both runtimes agree, and with the float file."""
    model = masked_model("masking", lambda: DIRECTIONS["forward"][0](return_sequences=True))
    random = np.random.default_rng(7)
    samples = [draw(model, batch=1, time=7, seed=seed) for seed in range(15)]
    for arrays in samples:
        arrays["steps"][:, random.random(7) < 0.3] = 0
    options = {"target": "micro", "quantization": "int8", "representative_dataset": lambda: samples}
    with pytest.warns(QuantizationWarning, match="samples only"):
        conversion = lstm_toolkit.convert(model, **options)
    assert "TOPK_V2" not in conversion.report.ops
    assert conversion.report.quantization.relative_error < 0.05
    wanted = np.concatenate([call(model, arrays)["output_0"] for arrays in samples])
    runner = conversion.runner()
    given = np.concatenate([runner(**arrays) for arrays in samples])
    assert np.abs(given - wanted).max() < 0.05 * np.abs(wanted).max()
