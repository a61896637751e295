"""Streaming chunk by chunk, with carried and with explicit state, and what `Runner.state` reads and sets."""

import itertools
import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import lstm_toolkit
from lstm_toolkit import Runner
from tests.helpers.models import randomized
from tests.helpers.pairwise import ALL

STEPS, BATCH = 24, 3
EXACT = 1e-6

FORMS = {
    "one": lambda: [layers.LSTM(6, return_sequences=True, name="first")],
    "stacked": lambda: [
        layers.LSTM(6, return_sequences=True, name="first"),
        layers.LSTM(4, return_sequences=True, name="second"),
    ],
    "cells": lambda: [layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)], return_sequences=True, name="first")],
    "simple": lambda: [layers.SimpleRNN(6, return_sequences=True, name="first")],
}
STATE_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "one": {"first_h": (BATCH, 6), "first_c": (BATCH, 6)},
    "stacked": {"first_h": (BATCH, 6), "first_c": (BATCH, 6), "second_h": (BATCH, 4), "second_c": (BATCH, 4)},
    "cells": {
        "first_cell0_h": (BATCH, 6),
        "first_cell0_c": (BATCH, 6),
        "first_cell1_h": (BATCH, 4),
        "first_cell1_c": (BATCH, 4),
    },
    "simple": {"first_h": (BATCH, 6)},
}


def build(form: str) -> Any:
    model = randomized(keras.Sequential([keras.Input((None, 5), name="steps"), *FORMS[form]()]))
    if form == "simple":
        # With a larger recurrent kernel nothing damps the rounding errors of earlier steps.
        kernel = model.trainable_variables[1]
        kernel.assign(kernel * (0.9 / float(np.linalg.norm(np.asarray(kernel), 2))))
    return model


def sequence(seed: int, *, steps: int = STEPS) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 1.0, (BATCH, steps, 5)).astype(np.float32)


def split(seed: int) -> list[slice]:
    """Chunks of random lengths that make up the whole sequence, single steps among them."""
    random = np.random.default_rng(seed)
    cuts = np.sort(random.choice(np.arange(1, STEPS), size=random.integers(1, 9), replace=False))
    edges = [0, *map(int, cuts), STEPS]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


@pytest.fixture(scope="module")
def streams():
    """For each form: the model, the file with carried and the one with explicit state."""
    made: dict[str, Any] = {}

    def get(form: str) -> tuple[Any, bytes, bytes]:
        if form not in made:
            model = build(form)
            files = [
                lstm_toolkit.convert(model, batch_size=BATCH, state=state).tflite for state in ("carry", "explicit")
            ]
            made[form] = (model, *files)
        return made[form]

    return get


@pytest.mark.parametrize("seed", range(20 if ALL else 6))
@pytest.mark.parametrize("form", FORMS)
def test_chunks_with_carried_state_equal_the_whole(streams, form, seed):
    model, carried, _ = streams(form)
    whole, chunks = sequence(seed), split(seed)
    runner = Runner(carried, xnnpack=seed % 2 == 0)
    outputs = np.concatenate([runner(whole[:, chunk]) for chunk in chunks], axis=1)
    np.testing.assert_allclose(outputs, Runner(carried)(whole), atol=EXACT, rtol=0)
    np.testing.assert_allclose(outputs, model(whole), atol=EXACT, rtol=0)


@pytest.mark.parametrize("seed", range(20 if ALL else 6))
@pytest.mark.parametrize("form", FORMS)
def test_chunks_with_explicit_state_equal_the_whole(streams, form, seed):
    model, carried, explicit = streams(form)
    whole, chunks = sequence(seed), split(seed)
    runner = Runner(explicit, xnnpack=seed % 2 == 0)
    state = {name: np.zeros(shape, np.float32) for name, shape in STATE_SHAPES[form].items()}
    outputs = []
    for chunk in chunks:
        results = runner(steps=whole[:, chunk], **state)
        outputs.append(results["output_0"])
        state = {name: results[name] for name in state}
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), model(whole), atol=EXACT, rtol=0)

    streaming = Runner(carried)
    for chunk in chunks:
        streaming(whole[:, chunk])
    for name, value in streaming.state.items():
        np.testing.assert_allclose(value, state[name], atol=EXACT, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_interface_of_explicit_state(streams, form):
    _, carried, explicit = streams(form)
    summary = lstm_toolkit.inspect(explicit)
    assert {tensor.name: tensor.shape for tensor in summary.inputs} == {"steps": (BATCH, -1, 5)} | STATE_SHAPES[form]
    names = {tensor.name: tensor.shape for tensor in summary.outputs}
    assert names.keys() == {"output_0", *STATE_SHAPES[form]}
    assert {name: names[name] for name in STATE_SHAPES[form]} == STATE_SHAPES[form]
    assert [tensor.name for tensor in lstm_toolkit.inspect(carried).inputs] == ["steps"]


@pytest.mark.parametrize("form", ["one", "stacked", "cells"])
def test_inspect_says_how_state_is_handled(streams, form):
    _, carried, explicit = streams(form)
    for file, state in ((carried, "carry"), (explicit, "explicit")):
        nodes = lstm_toolkit.inspect(file).lstm_nodes
        assert [node.state for node in nodes] == [state] * (1 if form == "one" else 2)


@pytest.mark.parametrize("form", FORMS)
def test_names_and_shapes_of_carried_state(streams, form):
    _, carried, explicit = streams(form)
    runner = Runner(carried)
    state = runner.state
    assert {name: value.shape for name, value in state.items()} == STATE_SHAPES[form]
    assert not any(value.any() for value in state.values())
    assert Runner(explicit).state == {}


def test_carried_state_is_what_keras_returns(streams):
    model, carried, _ = streams("one")
    layer = model.layers[0]
    twin = layers.LSTM(6, return_sequences=True, return_state=True)
    twin.build((BATCH, None, 5))
    twin.set_weights(layer.get_weights())
    runner, whole = Runner(carried), sequence(1)
    runner(whole)
    _, h, c = twin(whole)
    np.testing.assert_allclose(runner.state["first_h"], h, atol=EXACT, rtol=0)
    np.testing.assert_allclose(runner.state["first_c"], c, atol=EXACT, rtol=0)


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_reset_starts_a_new_stream(streams, form, xnnpack):
    _, carried, _ = streams(form)
    runner, whole = Runner(carried, xnnpack=xnnpack), sequence(1)
    first = runner(whole)
    assert np.abs(runner(whole) - first).max() > 1e-3
    runner.reset()
    assert not any(value.any() for value in runner.state.values())
    np.testing.assert_array_equal(runner(whole), first)
    runner(whole[:, :5])
    runner.reset()
    np.testing.assert_array_equal(runner(whole), first)


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_two_streams_take_turns_on_one_runner(streams, form, xnnpack):
    model, carried, _ = streams(form)
    runner = Runner(carried, xnnpack=xnnpack)
    wholes, chunks = [sequence(1), sequence(2)], [split(3), split(4)]
    saved, outputs = [runner.state, runner.state], [[], []]
    for turn in range(max(map(len, chunks))):
        for stream in (0, 1):
            if turn < len(chunks[stream]):
                runner.state = saved[stream]
                outputs[stream].append(runner(wholes[stream][:, chunks[stream][turn]]))
                saved[stream] = runner.state
    for whole, parts in zip(wholes, outputs, strict=True):
        np.testing.assert_allclose(np.concatenate(parts, axis=1), model(whole), atol=EXACT, rtol=0)


def test_what_was_read_is_a_copy(streams):
    _, carried, _ = streams("one")
    runner, whole = Runner(carried), sequence(1)
    runner(whole)
    before = runner.state
    kept = {name: value.copy() for name, value in before.items()}
    runner(whole)
    for name, value in before.items():
        np.testing.assert_array_equal(value, kept[name])
    before["first_h"][:] = 7.0
    assert np.abs(runner.state["first_h"]).max() <= 1.0


def test_some_of_the_states_may_be_set(streams):
    _, carried, _ = streams("stacked")
    runner = Runner(carried)
    runner(sequence(1))
    before = runner.state
    runner.state = {"second_c": np.full((BATCH, 4), 0.25)}
    after = runner.state
    assert (after.pop("second_c") == 0.25).all()
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name])


def test_state_that_was_set_is_where_the_next_call_starts(streams):
    model, carried, explicit = streams("stacked")
    random = np.random.default_rng(5)
    state = {name: random.normal(size=shape).astype(np.float32) for name, shape in STATE_SHAPES["stacked"].items()}
    runner, whole = Runner(carried), sequence(1)
    runner.state = state
    expected = Runner(explicit)(steps=whole, **state)
    np.testing.assert_allclose(runner(whole), expected["output_0"], atol=EXACT, rtol=0)
    assert np.abs(expected["output_0"] - np.asarray(model(whole))).max() > 1e-3


@pytest.mark.parametrize("xnnpack", [True, False])
def test_state_survives_a_change_of_the_chunk_length(streams, xnnpack):
    _, carried, _ = streams("stacked")
    runner, whole = Runner(carried, xnnpack=xnnpack), sequence(1)
    one_length = Runner(carried, xnnpack=xnnpack)
    steps = [one_length(whole[:, step : step + 1]) for step in range(STEPS)]
    edges = [0, 1, 2, 9, 10, 10 + 7, STEPS]
    chunks = [runner(whole[:, start:stop]) for start, stop in itertools.pairwise(edges)]
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), np.concatenate(steps, axis=1), atol=EXACT, rtol=0)


def test_a_refused_call_leaves_the_state_as_it_was(streams):
    _, carried, _ = streams("one")
    runner, whole = Runner(carried), sequence(1)
    runner(whole[:, :9])
    before = runner.state
    with pytest.raises(ValueError):
        runner(whole[0])
    with pytest.raises(ValueError):
        runner.state = {"first_h": np.ones((BATCH, 6)), "first_c": np.ones((BATCH, 5))}
    for name, value in runner.state.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"first_h": np.zeros((BATCH, 5))}, "state 'first_h' has shape [3, 6], got [3, 5]"),
        ({"first_c": np.zeros((1, 6))}, "state 'first_c' has shape [3, 6], got [1, 6]"),
        ({"first_c": np.zeros(6)}, "state 'first_c' has shape [3, 6], got [6]"),
        ({"first_h": 0.0}, "state 'first_h' has shape [3, 6], got []"),
        ({"third_h": np.zeros((BATCH, 6))}, "the model carries the states ['first_h', 'first_c'], got ['third_h']"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(streams, value, expected):
    _, carried, _ = streams("one")
    runner = Runner(carried)
    with pytest.raises(ValueError, match=re.escape(expected)):
        runner.state = value


@pytest.mark.parametrize(
    ("shape", "actual"),
    [((4, 5), "[4, 5]"), ((3, 4, 5, 1), "[3, 4, 5, 1]"), ((2, 4, 5), "[2, 4, 5]"), ((3, 4, 6), "[3, 4, 6]")],
)
@pytest.mark.parametrize("file", ["carry", "explicit"])
def test_a_chunk_that_does_not_fit_is_refused(streams, file, shape, actual):
    _, carried, explicit = streams("one")
    runner = Runner(carried if file == "carry" else explicit)
    zeros = {} if file == "carry" else {name: np.zeros(size) for name, size in STATE_SHAPES["one"].items()}
    with pytest.raises(ValueError, match=re.escape(f"input 'steps' has shape [3, -1, 5] (-1 is any), got {actual}")):
        runner(steps=np.zeros(shape, np.float32), **zeros)


def test_an_explicit_state_that_does_not_fit_is_refused(streams):
    _, _, explicit = streams("one")
    runner, states = Runner(explicit), {name: np.zeros(size) for name, size in STATE_SHAPES["one"].items()}
    with pytest.raises(ValueError, match=r"input 'first_c' has shape \[3, 6\].*got \[3, 5\]"):
        runner(steps=sequence(1), **states | {"first_c": np.zeros((3, 5))})
    with pytest.raises(ValueError, match=r"the model has the inputs .*'first_h'.*, got \['steps'\]"):
        runner(steps=sequence(1))


STATES_OF_NODES = [("reset", "reset"), ("carry", "carry"), ("explicit", "explicit"), ("auto", "reset")]


@pytest.mark.parametrize(("form", "state"), [("one", "reset"), ("stacked", "auto"), ("cells", "reset")])
def test_inspect_says_that_state_is_reset(form, state):
    nodes = lstm_toolkit.inspect(lstm_toolkit.convert(build(form), state=state, verify=False)).lstm_nodes
    assert [node.state for node in nodes] == ["reset"] * (1 if form == "one" else 2)


@pytest.mark.parametrize("option", ["fused", "split"])
@pytest.mark.parametrize(("state", "expected"), STATES_OF_NODES)
def test_inspect_says_how_the_state_of_both_directions_is_handled(state, expected, option):
    model = keras.Sequential([keras.Input((7, 5)), layers.Bidirectional(layers.LSTM(6, name="both"))])
    conversion = lstm_toolkit.convert(model, state=state, bidirectional=option, verify=False)
    nodes = lstm_toolkit.inspect(conversion).lstm_nodes
    assert [node.state for node in nodes] == [expected] * (1 if option == "fused" else 2)
    names = {f"{direction}_both_{kind}" for direction in ("forward", "backward") for kind in "hc"}
    assert set(Runner(conversion.tflite).state) == (names if state == "carry" else set())
    assert set(Runner(conversion.tflite).input_shapes) - {"input_layer"} >= (names if state == "explicit" else set())


def test_each_layer_handles_state_as_it_says():
    steps = keras.Input((7, 5), batch_size=BATCH, name="steps")
    x = layers.LSTM(6, return_sequences=True, stateful=True, name="kept")(steps)
    _, *states = layers.LSTM(4, return_state=True, name="fresh")(x)
    x = layers.LSTM(4, name="given")(x, initial_state=states)
    conversion = lstm_toolkit.convert(keras.Model(steps, x))
    summary = lstm_toolkit.inspect(conversion)
    assert {node.name: node.state for node in summary.lstm_nodes} == {
        "kept": "carry",
        "fresh": "reset",
        "given": "explicit",
    }
    assert set(Runner(conversion.tflite).state) == {"kept_h", "kept_c"}


def test_a_stateful_model_streams_as_keras_does():
    lstm = layers.LSTM(6, return_sequences=True, stateful=True, name="kept")
    model = keras.Sequential([keras.Input((None, 5), batch_size=BATCH, name="steps"), lstm])
    for variable, seed in zip(model.trainable_variables, range(3), strict=True):
        variable.assign(np.random.default_rng(seed).normal(0.0, 0.6, variable.shape))
    runner, whole = lstm_toolkit.convert(model).runner(), sequence(1)
    for chunk in split(1):
        np.testing.assert_allclose(runner(whole[:, chunk]), model(whole[:, chunk]), atol=EXACT, rtol=0)
    lstm.reset_state()
    runner.reset()
    np.testing.assert_allclose(runner(whole), model(whole), atol=EXACT, rtol=0)


def test_converting_leaves_the_state_of_the_model_alone():
    lstm = layers.LSTM(6, stateful=True)
    model = keras.Sequential([keras.Input((7, 5), batch_size=BATCH), lstm])
    model(sequence(1, steps=7))
    before = [np.asarray(state).copy() for state in lstm.states]
    assert all(state.any() for state in before)
    lstm_toolkit.convert(model)
    for state, kept in zip(lstm.states, before, strict=True):
        np.testing.assert_array_equal(state, kept)
