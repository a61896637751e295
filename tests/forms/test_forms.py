"""Every form of recurrent layer that people write in Keras: the file's ops, and its numbers against Keras's own."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from keras import layers

import lstm_toolkit
from lstm_toolkit.errors import ConversionError
from tests.helpers.models import RESOLVERS, randomized

UNI, BI = "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM"
UNI_RNN, BI_RNN = "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN"
RECURRENT = {UNI, BI, UNI_RNN, BI_RNN, "LSTM", "RNN", "SVDF"}
FORBIDDEN = {"WHILE", "IF", "CUSTOM", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}
TOLERANCE = 1e-5

Arrays = dict[str, np.ndarray]


def op_counts(tflite: bytes) -> Counter[str]:
    """Operators of a file by name, read without the package's own reader."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    return Counter(
        flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)
        for subgraph in model.subgraphs
        for op in subgraph.operators
    )


def named(outputs: Any) -> Arrays:
    """What a Keras model returned, under the names that the file's signature gives."""
    if isinstance(outputs, Mapping):
        return {name: np.asarray(value) for name, value in outputs.items()}
    return {f"output_{number}": np.asarray(value) for number, value in enumerate(keras.tree.flatten(outputs))}


def assert_ops(tflite: bytes, recurrent: Mapping[str, int], *, absent: set[str] = FORBIDDEN) -> None:
    counts = op_counts(tflite)
    assert {name: count for name, count in counts.items() if name in RECURRENT} == dict(recurrent)
    assert not absent & set(counts)


def assert_agrees(
    tflite: bytes, calls: Sequence[Arrays], expected: Sequence[Arrays], *, relative: bool = False
) -> float:
    """Runs the calls in a row on one interpreter per resolver; returns the largest error."""
    assert len(calls) == len(expected) >= 3
    largest = 0.0
    for resolver in RESOLVERS:
        runner = Interpreter(model_content=tflite, experimental_op_resolver_type=resolver).get_signature_runner()
        for call, (given, wanted) in enumerate(zip(calls, expected, strict=True)):
            outputs = runner(**given)
            assert set(outputs) == set(wanted)
            for name, value in wanted.items():
                assert outputs[name].shape == value.shape
                assert np.isfinite(value).all()
                allowed = TOLERANCE * (max(1.0, float(np.abs(value).max())) if relative else 1.0)
                error = float(np.abs(outputs[name] - value).max())
                assert error < allowed, f"{resolver}, call {call}, {name}: {error:.3g}"
                largest = max(largest, error)
    return largest


def padded(array: np.ndarray, lengths: Sequence[int], value: float) -> np.ndarray:
    for row, length in zip(array, lengths, strict=True):
        row[length:] = value
    return array


LENGTHS = ((0, 4, 7), (7, 3, 1), (2, 0, 5))
"""Valid steps of each row, call by call; rows of nothing among them."""


def draw(model: Any, *, batch: int, time: int, seed: int, lengths: Sequence[int] | None = None) -> Arrays:
    """One array per input of a model, by name: tokens from 1 on, floats, masks; padded to the right on request."""
    random, arrays = np.random.default_rng(seed), {}
    for tensor in model.inputs:
        shape = (batch, *(time if size is None else size for size in tensor.shape[1:]))
        if tensor.dtype == "bool":
            array = np.ones(shape, bool)
        elif tensor.dtype == "int32":
            array = random.integers(1, 11, shape).astype(np.int32)
        else:
            array = random.normal(0.0, 1.0, shape).astype(np.float32)
        arrays[tensor.name] = array if lengths is None else padded(array, lengths, 0)
    return arrays


def call(model: Any, arrays: Arrays) -> Arrays:
    tensors = [tf.convert_to_tensor(array) for array in arrays.values()]
    return named(model(tensors[0] if len(tensors) == 1 else tensors))


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
    calls = [
        draw(model, batch=batch, time=time, seed=seed, lengths=LENGTHS[seed] if masked else None)
        for seed, time in enumerate(times)
    ]
    assert_agrees(conversion.tflite, calls, [call(oracle or model, arrays) for arrays in calls])


def functional(*parts: Any, time: int | None = 7, batch: int | None = None) -> Any:
    inputs = x = keras.Input((time, 5), batch_size=batch, name="steps")
    for part in parts:
        x = part(x)
    return randomized(keras.Model(inputs, x))


# Both directions

MERGES = ("concat", "sum", "mul", "ave", None)
PLAIN_BIDIRECTIONAL = list(itertools.product(MERGES, (True, False), ("fused", "split"), (1, 3)))
UNEQUAL_BIDIRECTIONAL = list(itertools.product(("concat", None), (True, False), ("fused", "split"), (1, 3)))
STACKED_BIDIRECTIONAL = list(itertools.product(("concat", "sum"), (True, False), ("fused", "split"), (1, 3)))


def bidirectional_ops(option: str, number: int = 1) -> dict[str, int]:
    return {BI: number} if option == "fused" else {UNI: 2 * number}


def bidirectional(units: int, *, backward_units: int | None = None, merge_mode: str | None = "concat", **options: Any):
    backward = layers.LSTM(backward_units, go_backwards=True, **options) if backward_units else None
    return layers.Bidirectional(layers.LSTM(units, **options), backward_layer=backward, merge_mode=merge_mode)


@pytest.mark.parametrize(("merge_mode", "return_sequences", "option", "batch"), PLAIN_BIDIRECTIONAL)
def test_bidirectional(merge_mode, return_sequences, option, batch):
    # Fixed and dynamic time take turns, so that each meets every merge mode.
    dynamic = (batch == 3) == return_sequences
    model = functional(
        bidirectional(6, merge_mode=merge_mode, return_sequences=return_sequences), time=None if dynamic else 7
    )
    times = (7, 2, 12) if dynamic else (7, 7, 7)
    check(model, bidirectional_ops(option), batch=batch, times=times, bidirectional=option)


@pytest.mark.parametrize(("merge_mode", "return_sequences", "option", "batch"), UNEQUAL_BIDIRECTIONAL)
def test_bidirectional_with_unequal_units(merge_mode, return_sequences, option, batch):
    sizes = (6, 4) if return_sequences else (2, 8)
    layer = bidirectional(sizes[0], backward_units=sizes[1], merge_mode=merge_mode, return_sequences=return_sequences)
    check(functional(layer), bidirectional_ops(option), batch=batch, bidirectional=option)


@pytest.mark.parametrize(("merge_mode", "return_sequences", "option", "batch"), STACKED_BIDIRECTIONAL)
def test_bidirectional_stacked(merge_mode, return_sequences, option, batch):
    model = functional(
        bidirectional(6, merge_mode=merge_mode, return_sequences=True),
        layers.Dropout(0.3),
        bidirectional(4, merge_mode=merge_mode, return_sequences=return_sequences),
        time=None if batch == 1 else 7,
    )
    times = (7, 12, 2) if batch == 1 else (7, 7, 7)
    check(model, bidirectional_ops(option, 2), batch=batch, times=times, bidirectional=option)


# Time first

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
TIME_MAJOR_CASES = [
    case
    for case in itertools.product(TIME_MAJOR, (1, 3), (7, None))
    if case[2] is not None or case[0] not in ("dense between", "both directions, two")
]


@pytest.mark.parametrize(("form", "batch", "time"), TIME_MAJOR_CASES)
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


@pytest.mark.parametrize("form", TIME_MAJOR)
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
    calls = [draw(model, batch=3, time=7, seed=seed, lengths=LENGTHS[seed]) for seed in range(3)]
    expected = [{"output_0": call(model, arrays)["output_0"].swapaxes(0, 1)} for arrays in calls]
    assert_agrees(conversion.tflite, [{"tokens": arrays["tokens"].T.copy()} for arrays in calls], expected)


# State

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
SEQUENCES = (True, False)


def copied_weights(target: Any, source: Any) -> Any:
    for one, other in zip(target.trainable_variables, source.trainable_variables, strict=True):
        one.assign(other)
    return target


def stateful_twin(kind: str, source: Any, *, return_sequences: bool, **options: Any) -> Any:
    """Keras's own stateful model with the weights of another, at the start of a stream."""
    make, _ = STATE_KINDS[kind]
    twin = functional(*make(return_sequences=return_sequences, stateful=True, **options), batch=3)
    copied_weights(twin, source)
    # `reset_state` of Keras 3.15 fails on stacked cells.
    for variable in {id(each): each for each in twin.non_trainable_variables}.values():
        variable.assign(np.zeros(variable.shape))
    return twin


@pytest.mark.parametrize("return_sequences", SEQUENCES)
@pytest.mark.parametrize("kind", STATE_KINDS)
@pytest.mark.parametrize("way", ["carry", "stateful"])
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


# Masks

DIRECTIONS: dict[str, tuple[Callable[..., Any], dict[str, int]]] = {
    "forward": (lambda **options: layers.LSTM(6, **options), {UNI: 1}),
    "backwards": (lambda **options: layers.LSTM(6, go_backwards=True, **options), {UNI: 1}),
    "both": (lambda **options: bidirectional(6, **options), {BI: 1}),
}
MASKS = ("embedding", "masking", "explicit")
MASK_CASES = list(itertools.product(MASKS, DIRECTIONS, SEQUENCES, (False, True)))


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


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("return_sequences", SEQUENCES)
@pytest.mark.parametrize("direction", DIRECTIONS)
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
@pytest.mark.parametrize("kind", ["one", "stacked", "cells"])
def test_mask_with_explicit_state(kind, return_sequences):
    make, recurrent = STATE_KINDS[kind]
    model = functional(layers.Masking(), *make(return_sequences=return_sequences))
    conversion = lstm_toolkit.convert(model, batch_size=3, state="explicit", verify=False)
    assert_ops(conversion.tflite, recurrent)
    twin = explicit_twin(model, kind, return_sequences=return_sequences)
    calls = [
        draw(model, batch=3, time=7, seed=seed, lengths=LENGTHS[seed]) | draw_states(model, batch=3, seed=seed)
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


@pytest.mark.parametrize("return_sequences", SEQUENCES)
@pytest.mark.parametrize(("cell", "recurrent"), [("LSTM", {UNI: 1}), ("SimpleRNN", {UNI_RNN: 1})])
def test_mask_with_given_states(cell, recurrent, return_sequences):
    """A row that is padded whole ends where it started, which is not zero here."""
    layer = getattr(layers, cell)(6, return_sequences=return_sequences, return_state=True)
    model = masked_decoder(layer, states=2 if cell == "LSTM" else 1)
    conversion = lstm_toolkit.convert(model, batch_size=3, verify=False)
    assert_ops(conversion.tflite, recurrent)
    calls = [draw(model, batch=3, time=7, seed=seed) for seed in range(3)]
    for arrays, lengths in zip(calls, LENGTHS, strict=True):
        padded(arrays["valid"], lengths, False)
    assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_constant_mask_with_padding_on_the_right(direction):
    make, recurrent = DIRECTIONS[direction]
    x = keras.Input((7, 5), batch_size=3, name="steps")
    outputs = make(return_sequences=True)(x, mask=np.arange(7)[np.newaxis] < np.array([[4], [7], [0]]))
    check(randomized(keras.Model(x, outputs)), recurrent)


# The rest of Keras


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
        # Keras calls the model step by step; the four ops share their weights.
        {UNI: 4},
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


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("form", REST)
def test_the_rest_of_keras(form, batch):
    make, recurrent = REST[form]
    check(make(), recurrent, batch=batch)


def test_simple_rnns_in_both_directions_are_split_on_request():
    model = functional(layers.Bidirectional(layers.SimpleRNN(6, return_sequences=True)))
    check(model, {UNI_RNN: 2}, bidirectional="split")


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


@pytest.mark.parametrize("form", MIXED)
def test_mixed_precision_computes_in_float32(form):
    make, recurrent = MIXED[form]
    model, oracle = functional(*make(dtype="mixed_float16")), functional(*make())
    assert any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
    check(model, recurrent, oracle=copied_weights(oracle, model), masked=form == "masked")


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


class Joined(keras.Model):
    def __init__(self):
        super().__init__()
        self.left, self.right = layers.LSTM(6), bidirectional(4)

    def call(self, inputs):
        return self.left(inputs["left"]), self.right(inputs["right"])


class OneInput(keras.Model):
    def __init__(self):
        super().__init__()
        self.lstm, self.dense = layers.LSTM(6, return_sequences=True), layers.Dense(2)

    def call(self, x):
        return self.dense(self.lstm(x))


def test_subclassed_model_with_a_mask():
    model = Tagger()
    model(np.ones((3, 7), np.int32))
    randomized(model)
    signature = tf.TensorSpec([3, 7], tf.int32, name="tokens")
    conversion = lstm_toolkit.convert(model, input_signature=signature, verify=False)
    assert_ops(conversion.tflite, {BI: 1, UNI: 1})
    random = np.random.default_rng(1)
    calls = [{"tokens": padded(random.integers(1, 11, (3, 7)).astype(np.int32), lengths, 0)} for lengths in LENGTHS]
    assert_agrees(conversion.tflite, calls, [named(model(arrays["tokens"])) for arrays in calls])


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
    assert_agrees(conversion.tflite, calls, [named(model(arrays)) for arrays in calls])


BARE: dict[str, tuple[Callable[[], Any], dict[str, int]]] = {
    "model": (OneInput, {UNI: 1}),
    "LSTM": (lambda: layers.LSTM(6, return_sequences=True), {UNI: 1}),
    "LSTM with its state": (lambda: layers.LSTM(6, return_state=True), {UNI: 1}),
    "Bidirectional": (lambda: bidirectional(6), {BI: 1}),
    "RNN": (lambda: layers.RNN([layers.LSTMCell(6), layers.LSTMCell(4)]), {UNI: 2}),
    "SimpleRNN": (lambda: layers.SimpleRNN(6), {UNI_RNN: 1}),
    "Sequential": (lambda: keras.Sequential([layers.LSTM(6), layers.Dense(2)]), {UNI: 1}),
}


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("time", [7, None])
@pytest.mark.parametrize("form", BARE)
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
    assert_agrees(conversion.tflite, calls, [named(model(arrays["steps"])) for arrays in calls])


# What is refused

LEFT_PADDED = np.arange(7)[np.newaxis] >= np.array([[2], [0], [6]])
HOLE = np.ones((3, 7), bool) & (np.arange(7) != 3)


def masked_functional(layer: Any, mask: np.ndarray) -> Any:
    x = keras.Input((7, 5), batch_size=3, name="steps")
    return keras.Model(x, layer(x, mask=mask))


class ConstantMask(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.LSTM(6, name="inner")

    def call(self, x):
        return self.inner(x, mask=tf.constant(LEFT_PADDED))


def masked_decoder(layer: Any, *, states: int = 2) -> Any:
    steps, valid = keras.Input((7, 5), name="steps"), keras.Input((7,), dtype="bool", name="valid")
    start = [keras.Input((6,), name=f"state_{number}") for number in range(states)]
    return randomized(keras.Model([steps, valid, *start], layer(steps, initial_state=start, mask=valid)))


def over_padding(*parts: Any) -> Any:
    return functional(layers.Masking(), *parts)


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "mask, backwards, given state": (
        lambda: masked_decoder(layers.LSTM(6, go_backwards=True, name="decoder")),
        {},
        r"layer 'decoder' \(LSTM\): it runs backwards over a mask from a given state, which the padding would change",
    ),
    "mask, backwards, explicit state": (
        lambda: over_padding(layers.LSTM(6, go_backwards=True, name="reader")),
        {"state": "explicit"},
        r"layer 'reader' \(LSTM\): it runs backwards over a mask from a explicit state",
    ),
    "mask, both directions, explicit state": (
        lambda: over_padding(layers.Bidirectional(layers.LSTM(6, name="reader"))),
        {"state": "explicit"},
        r"layer 'backward_reader' \(LSTM\): it runs backwards over a mask from a explicit state",
    ),
    "mask, carried state": (
        lambda: over_padding(layers.LSTM(6, name="stream")),
        {"state": "carry"},
        r"layer 'stream' \(LSTM\): it carries its state past the padding of a mask; pass state=\"reset\"",
    ),
    "mask, stateful": (
        lambda: functional(layers.Masking(), layers.LSTM(6, stateful=True, name="stream"), batch=3),
        {},
        r"layer 'stream' \(LSTM\): it carries its state past the padding of a mask; pass state=\"reset\"",
    ),
    "mask, carried state of a simple RNN": (
        lambda: over_padding(layers.SimpleRNN(6, name="stream")),
        {"state": "carry"},
        r"layer 'stream' \(SimpleRNN\): it carries its state past the padding of a mask",
    ),
    "constant mask, padded on the left": (
        lambda: masked_functional(layers.LSTM(6, name="left"), LEFT_PADDED),
        {},
        r"layer 'left' \(LSTM\): its mask has padding before a valid step; only padding on the right",
    ),
    "constant mask with a hole": (
        lambda: masked_functional(layers.LSTM(6, name="hole", return_sequences=True), HOLE),
        {},
        r"layer 'hole' \(LSTM\): its mask has padding before a valid step; only padding on the right",
    ),
    "constant mask, padded on the left, both directions": (
        lambda: masked_functional(layers.Bidirectional(layers.LSTM(6, name="both")), LEFT_PADDED),
        {},
        r"layer 'forward_both' \(LSTM\): its mask has padding before.*layer 'backward_both' \(LSTM\): its mask has",
    ),
    "constant mask in a subclassed model": (
        ConstantMask,
        {"input_signature": tf.TensorSpec([3, 7, 5], name="steps")},
        r"layer 'inner' \(LSTM\): its mask has padding before a valid step; only padding on the right",
    ),
    "simple RNN backwards over a mask": (
        lambda: over_padding(layers.SimpleRNN(6, go_backwards=True, name="simple")),
        {},
        r"layer 'simple' \(SimpleRNN\): it runs backwards over a mask, and a simple RNN cannot stand still; use",
    ),
    "simple RNN in both directions over a mask": (
        lambda: over_padding(layers.Bidirectional(layers.SimpleRNN(6, name="simple"))),
        {},
        r"layer 'backward_simple' \(SimpleRNN\): it runs backwards over a mask, and a simple RNN cannot stand still",
    ),
    "simple RNN backwards over a mask from a given state": (
        lambda: masked_decoder(layers.SimpleRNN(6, go_backwards=True, name="simple"), states=1),
        {},
        r"layer 'simple' \(SimpleRNN\): it runs backwards over a mask from a given state",
    ),
    "GRU": (
        lambda: functional(layers.GRU(6, name="gated")),
        {},
        r"layer 'gated' \(GRU\): it is not an LSTM, and there is no fused op for a GRUCell",
    ),
    "GRU in both directions": (
        lambda: functional(layers.Bidirectional(layers.GRU(6, name="gated"))),
        {},
        r"layer 'forward_gated' \(GRU\): it is not an LSTM.*layer 'backward_gated' \(GRU\): it is not an LSTM",
    ),
    "ConvLSTM": (
        lambda: time_of_images(layers.ConvLSTM1D(4, 3, name="images")),
        {},
        r"layer 'images' \(ConvLSTM1D\): it is not an LSTM, and there is no fused op for a ConvLSTMCell",
    ),
    "mixed stack of cells": (
        lambda: functional(layers.RNN([layers.LSTMCell(6), layers.GRUCell(4)], name="mixed")),
        {},
        r"layer 'mixed' \(RNN\): it overrides the computation",
    ),
    "stack of simple cells": (
        lambda: functional(layers.RNN([layers.SimpleRNNCell(6), layers.SimpleRNNCell(4)], name="simple")),
        {},
        r"layer 'simple' \(RNN\): it stacks cells other than LSTMCell; stack layers instead",
    ),
    "activation of a simple RNN": (
        lambda: functional(layers.SimpleRNN(6, activation="gelu", name="odd")),
        {},
        r"layer 'odd' \(SimpleRNN\): its activation is 'gelu', and the fused op has only tanh",
    ),
    "activation in one direction": (
        lambda: functional(
            layers.Bidirectional(
                layers.LSTM(6, name="ahead"),
                backward_layer=layers.LSTM(6, go_backwards=True, recurrent_activation="hard_sigmoid", name="back"),
            )
        ),
        {},
        r"layer 'back' \(LSTM\): its recurrent activation is 'hard_sigmoid'",
    ),
    "subclassed model without a signature": (
        OneInput,
        {},
        r"does not know its inputs; pass input_signature, one tf.TensorSpec an input",
    ),
    "layer without a signature": (
        lambda: layers.LSTM(6),
        {},
        r"does not know its inputs; pass input_signature, one tf.TensorSpec an input",
    ),
    "two inputs of one name": (
        Joined,
        {
            "input_signature": {
                "left": tf.TensorSpec([3, 7, 5], name="steps"),
                "right": tf.TensorSpec([3, 9, 2], name="steps"),
            }
        },
        r"the inputs \['steps', 'steps'\] share a name; give each tf.TensorSpec of input_signature its own",
    ),
    "open batch behind TimeDistributed": (
        lambda: open_time_distributed(layers.LSTM(6, name="folded")),
        {},
        r"layer 'folded': the batch is open, and a fused op needs a fixed one; pass batch_size",
    ),
    "open batch behind TimeDistributed, both directions": (
        lambda: open_time_distributed(layers.Bidirectional(layers.LSTM(6, name="folded"))),
        {},
        r"layer '(forward|backward)_folded': the batch is open, and a fused op needs a fixed one; pass batch_size",
    ),
}


def time_of_images(layer: Any) -> Any:
    x = keras.Input((4, 7, 5))
    return randomized(keras.Model(x, layers.LSTM(6, name="fine")(layers.Reshape((4, -1))(as_sequence(layer)(x)))))


def as_sequence(layer: Any) -> Any:
    layer.return_sequences = True
    return layer


def open_time_distributed(layer: Any) -> Any:
    clips = keras.Input((None, 7, 5), name="clips")
    return keras.Model(clips, layers.TimeDistributed(layer)(clips))


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_exact_is_refused_with_the_reason(form):
    make, options, reason = REFUSED[form]
    with pytest.raises(ConversionError, match=reason):
        lstm_toolkit.convert(make(), **options)


KEPT: dict[str, tuple[Callable[[], Any], str]] = {
    "GRU": (lambda: functional(layers.GRU(6, return_sequences=True, name="kept"), layers.LSTM(4)), "GRUCell"),
    "ConvLSTM": (lambda: time_of_images(layers.ConvLSTM1D(4, 3, name="kept")), "ConvLSTMCell"),
    "simple RNN": (
        lambda: functional(layers.SimpleRNN(6, activation="gelu", return_sequences=True, name="kept"), layers.LSTM(4)),
        "gelu",
    ),
}


@pytest.mark.parametrize("form", KEPT)
def test_what_cannot_be_fused_is_kept_on_request_and_reported(form):
    make, reason = KEPT[form]
    model = make()
    conversion = lstm_toolkit.convert(model, batch_size=3, on_unsupported="keep", verify=False)
    counts = op_counts(conversion.tflite)
    assert counts["WHILE"] == counts[UNI] == 1
    assert not {"CUSTOM", "VAR_HANDLE"} & set(counts)
    kept, fused = conversion.report.layers
    assert (kept.name, kept.op) == ("kept", "stock lowering")
    assert reason in kept.reason
    assert (fused.op, fused.reason) == (UNI, None)
    calls = [draw(model, batch=3, time=7, seed=seed) for seed in range(3)]
    assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls])


def test_both_directions_of_a_gru_are_kept():
    model = functional(layers.Bidirectional(layers.GRU(6, return_sequences=True)), layers.LSTM(4))
    conversion = lstm_toolkit.convert(model, batch_size=3, on_unsupported="keep", verify=False)
    assert op_counts(conversion.tflite)["WHILE"] == 2
    calls = [draw(model, batch=3, time=7, seed=seed) for seed in range(3)]
    assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls])
