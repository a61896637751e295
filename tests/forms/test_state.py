"""State that is carried, that is reset, that is explicit, and that a model returns or is given."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import lstm_toolkit
from tests.helpers.calls import assert_agrees
from tests.helpers.forms import (
    BI,
    FORBIDDEN,
    SEQUENCES,
    STATE_KINDS,
    UNI,
    UNI_RNN,
    assert_ops,
    call,
    check,
    copied_weights,
    draw,
    draw_states,
    explicit_twin,
    functional,
    state_sizes,
)
from tests.helpers.models import randomized
from tests.helpers.pairwise import pairwise


def stateful_twin(kind: str, source: Any, *, return_sequences: bool, **options: Any) -> Any:
    """Keras's own stateful model with the weights of another, at the start of a stream."""
    make, _ = STATE_KINDS[kind]
    twin = functional(*make(return_sequences=return_sequences, stateful=True, **options), batch=3)
    copied_weights(twin, source)
    # `reset_state` of Keras 3.15 fails on stacked cells.
    for variable in {id(each): each for each in twin.non_trainable_variables}.values():
        variable.assign(np.zeros(variable.shape))
    return twin


@pytest.mark.parametrize(("way", "kind", "return_sequences"), pairwise(("carry", "stateful"), STATE_KINDS, SEQUENCES))
def test_carried_state(way, kind, return_sequences):
    make, recurrent = STATE_KINDS[kind]
    stateful = way == "stateful"
    model = functional(*make(return_sequences=return_sequences, stateful=stateful), batch=3)
    conversion = lstm_toolkit.convert(model, state="auto" if stateful else "carry", verify=False)
    assert_ops(conversion.tflite, recurrent, absent={*FORBIDDEN, "ZEROS_LIKE"})
    calls = [draw(model, batch=3, time=7, seed=seed) for seed in range(3)]
    twin = stateful_twin(kind, model, return_sequences=return_sequences)
    assert_agrees(conversion.tflite, calls, [call(twin, arrays) for arrays in calls])


@pytest.mark.parametrize("kind", ["one", "stacked", "cells", "simple"])
def test_carried_state_equals_the_whole_sequence(kind):
    make, recurrent = STATE_KINDS[kind]
    model = functional(*make(return_sequences=True), time=None)
    conversion = lstm_toolkit.convert(model, batch_size=3, time_steps=4, state="carry", verify=False)
    assert_ops(conversion.tflite, recurrent)
    (whole,) = draw(model, batch=3, time=12, seed=1).values()
    outputs = call(model, {"steps": whole})["output_0"]
    chunks = [slice(start, start + 4) for start in (0, 4, 8)]
    assert_agrees(
        conversion.tflite,
        [{"steps": whole[:, chunk]} for chunk in chunks],
        [{"output_0": outputs[:, chunk]} for chunk in chunks],
    )


@pytest.mark.parametrize("kind", STATE_KINDS)
def test_a_stateful_model_can_be_made_to_start_from_zero(kind):
    make, recurrent = STATE_KINDS[kind]
    model = functional(*make(return_sequences=True, stateful=True), batch=3)
    oracle = copied_weights(functional(*make(return_sequences=True)), model)
    check(model, recurrent, state="reset", oracle=oracle)


def ops_with_states(kind: str) -> Mapping[str, int]:
    """Unequal directions whose states are read or set stay two ops: only states that are reset can grow."""
    return {UNI: 2} if kind == "unequal directions" else STATE_KINDS[kind][1]


@pytest.mark.parametrize("return_sequences", SEQUENCES)
@pytest.mark.parametrize("kind", STATE_KINDS)
def test_explicit_state(kind, return_sequences):
    explicit_state_agrees(kind, ops_with_states(kind), return_sequences=return_sequences)


@pytest.mark.parametrize("return_sequences", SEQUENCES)
@pytest.mark.parametrize("kind", ["both directions", "unequal directions"])
def test_explicit_state_of_split_directions(kind, return_sequences):
    explicit_state_agrees(kind, {UNI: 2}, return_sequences=return_sequences, bidirectional="split")


def explicit_state_agrees(kind: str, recurrent: Mapping[str, int], *, return_sequences: bool, **options: Any) -> None:
    make, _ = STATE_KINDS[kind]
    model = functional(*make(return_sequences=return_sequences))
    conversion = lstm_toolkit.convert(model, batch_size=3, state="explicit", verify=False, **options)
    assert_ops(conversion.tflite, recurrent)
    twin = explicit_twin(model, kind, return_sequences=return_sequences)
    calls = [draw(model, batch=3, time=7, seed=seed) | draw_states(model, batch=3, seed=seed) for seed in range(3)]
    assert_agrees(conversion.tflite, calls, [twin(arrays["steps"], arrays) for arrays in calls])


@pytest.mark.parametrize("kind", STATE_KINDS)
def test_returned_states(kind):
    make, _ = STATE_KINDS[kind]
    *parts, _ = make(return_sequences=True)
    last = make(return_sequences=True, return_state=True)[-1]
    model = functional(*parts, last)
    assert len(keras.tree.flatten(model.outputs)) == 1 + len(state_sizes(last))
    check(model, ops_with_states(kind))


def encoder_and_decoder(kind: str) -> Any:
    source, target = keras.Input((7, 5), name="source"), keras.Input((9, 2), name="target")
    if kind == "both directions":
        _, *states = layers.Bidirectional(layers.LSTM(6, return_state=True))(source)
        decoded = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(target, initial_state=states)
    elif kind == "joined directions":
        _, fh, fc, bh, bc = layers.Bidirectional(layers.LSTM(6, return_state=True))(source)
        start = [layers.Concatenate()([fh, bh]), layers.Concatenate()([fc, bc])]
        decoded = layers.LSTM(12, return_sequences=True)(target, initial_state=start)
    elif kind == "simple":
        _, h = layers.SimpleRNN(6, return_state=True)(source)
        decoded = layers.SimpleRNN(6, return_sequences=True)(target, initial_state=h)
    elif kind == "cells":
        _, *states = layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)], return_state=True)(source)
        decoded = layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)], return_sequences=True)(
            target, initial_state=list(states)
        )
    else:
        _, *states = layers.LSTM(6, return_state=True)(source)
        decoder = layers.LSTM(6, return_sequences=True, return_state=True, go_backwards=kind == "backwards")
        decoded, *_ = decoder(target, initial_state=states)
    return randomized(keras.Model([source, target], layers.Dense(3)(decoded)))


@pytest.mark.parametrize(
    ("kind", "recurrent"),
    [
        ("one", {UNI: 2}),
        ("backwards", {UNI: 2}),
        ("both directions", {BI: 2}),
        ("joined directions", {BI: 1, UNI: 1}),
        ("simple", {UNI_RNN: 2}),
        ("cells", {UNI: 4}),
    ],
)
def test_encoder_and_decoder(kind, recurrent):
    check(encoder_and_decoder(kind), recurrent)


def test_states_that_are_inputs_of_the_model():
    steps, h, c = keras.Input((7, 5), name="steps"), keras.Input((6,), name="h"), keras.Input((6,), name="c")
    outputs, *states = layers.LSTM(6, return_sequences=True, return_state=True)(steps, initial_state=[h, c])
    check(randomized(keras.Model([steps, h, c], [outputs, *states])), {UNI: 1})
