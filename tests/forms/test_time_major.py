"""`time_major=True`: sequences come and go with time first, and no transpose is left."""

from collections.abc import Callable
from typing import Any

import pytest
from keras import layers

import lstm_toolkit
from tests.helpers.calls import assert_agrees
from tests.helpers.files import op_counts
from tests.helpers.forms import (
    BI,
    FORBIDDEN,
    UNI,
    assert_ops,
    bidirectional,
    call,
    draw,
    functional,
    masked_model,
)
from tests.helpers.pairwise import pairwise

TIME_MAJOR: dict[str, tuple[Callable[[], list[Any]], dict[str, int], dict[str, str]]] = {
    "one": (lambda: [layers.LSTM(6, return_sequences=True)], {UNI: 1}, {}),
    "last step": (lambda: [layers.LSTM(6)], {UNI: 1}, {}),
    "backwards": (lambda: [layers.LSTM(6, return_sequences=True, go_backwards=True)], {UNI: 1}, {}),
    "two": (lambda: [layers.LSTM(6, return_sequences=True), layers.LSTM(4, return_sequences=True)], {UNI: 2}, {}),
    "dense between": (
        lambda: [
            layers.LSTM(6, return_sequences=True),
            layers.Dense(8, activation="relu"),
            layers.LSTM(4, return_sequences=True),
            layers.Dense(2),
        ],
        {UNI: 2},
        {},
    ),
    "both directions": (lambda: [bidirectional(6, return_sequences=True)], {BI: 1}, {}),
    "both directions, split": (lambda: [bidirectional(6, return_sequences=True)], {UNI: 2}, {"bidirectional": "split"}),
    "both directions, sum": (lambda: [bidirectional(6, return_sequences=True, merge_mode="sum")], {BI: 1}, {}),
    "both directions, last step": (lambda: [bidirectional(6), layers.Dense(4)], {BI: 1}, {}),
    "both directions, two": (
        lambda: [bidirectional(6, return_sequences=True), layers.Dense(4), bidirectional(2, return_sequences=True)],
        {BI: 2},
        {},
    ),
}


# Keras writes a Dense over open time as a product of reshaped tensors, which keeps its transposes.
KEEPS_TRANSPOSES = ("dense between", "both directions, two")
CASES = pairwise(
    TIME_MAJOR, (1, 3), (7, None), where=lambda form, batch, time: time is not None or form not in KEEPS_TRANSPOSES
)


@pytest.mark.parametrize(("form", "batch", "time"), CASES)
def test_time_major(form, batch, time):
    make, recurrent, options = TIME_MAJOR[form]
    model = functional(*make(), time=time)
    conversion = lstm_toolkit.convert(model, batch_size=batch, time_major=True, verify=False, **options)
    assert_ops(conversion.tflite, recurrent, absent={*FORBIDDEN, "TRANSPOSE"})
    summary = lstm_toolkit.inspect(conversion)
    assert summary.inputs[0].shape == (time or -1, batch, 5)
    assert {node.layout for node in summary.lstm_nodes} == {"time_major"}

    times = (7, 7, 7) if time else (7, 2, 12)
    calls = [draw(model, batch=batch, time=steps, seed=seed) for seed, steps in enumerate(times)]
    expected = [
        {name: value.swapaxes(0, 1) if value.ndim > 2 else value for name, value in call(model, arrays).items()}
        for arrays in calls
    ]
    assert_agrees(conversion.tflite, [{"steps": arrays["steps"].swapaxes(0, 1)} for arrays in calls], expected)


@pytest.mark.parametrize("form", KEEPS_TRANSPOSES)
def test_time_major_with_a_dense_layer_agrees_also_where_transposes_are_left(form):
    make, recurrent, options = TIME_MAJOR[form]
    model = functional(*make(), time=None)
    conversion = lstm_toolkit.convert(model, batch_size=3, time_major=True, verify=False, **options)
    assert_ops(conversion.tflite, recurrent)
    calls = [draw(model, batch=3, time=steps, seed=seed) for seed, steps in enumerate((7, 2, 12))]
    expected = [
        {name: value.swapaxes(0, 1) if value.ndim > 2 else value for name, value in call(model, arrays).items()}
        for arrays in calls
    ]
    assert_agrees(conversion.tflite, [{"steps": arrays["steps"].swapaxes(0, 1)} for arrays in calls], expected)


def test_time_major_layout_at_batch_one():
    model = functional(layers.LSTM(6, return_sequences=True))
    conversion = lstm_toolkit.convert(model, batch_size=1, time_major=True, verify=False)
    assert lstm_toolkit.inspect(conversion).lstm_nodes[0].layout == "time_major"
    assert "RESHAPE" not in op_counts(conversion.tflite)


def test_time_major_tokens_with_padding():
    """Masks and embeddings work on [batch, time], so that this file may transpose; the numbers have to hold."""
    model = masked_model("embedding", lambda: bidirectional(6, return_sequences=True))
    conversion = lstm_toolkit.convert(model, batch_size=3, time_major=True, verify=False)
    assert_ops(conversion.tflite, {BI: 1})
    calls = [draw(model, batch=3, time=7, seed=seed, masked=True) for seed in range(3)]
    expected = [{"output_0": call(model, arrays)["output_0"].swapaxes(0, 1)} for arrays in calls]
    assert_agrees(conversion.tflite, [{"tokens": arrays["tokens"].T.copy()} for arrays in calls], expected)
