"""Lingvo's cells through `convert`: against numbers that Lingvo itself computed, and a loop in NumPy and float64."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

import lstm_toolkit
from lstm_toolkit import lingvo
from lstm_toolkit.errors import ConversionError
from tests.helpers.calls import run_in_a_row
from tests.helpers.files import fused_lstm
from tests.helpers.lingvo_cells import GOLDEN, TOLERANCE, golden, loop, random_cell
from tests.helpers.masks import mask_of

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"
EXACT = {"atol": 1e-6, "rtol": 0}
BATCH, TIME, INPUTS = 3, 9, 5
LOOPS_AND_CUSTOM = {"WHILE", "CUSTOM", "lstm_toolkit.LSTM", "VAR_HANDLE", "READ_VARIABLE"}

OPERANDS = {
    **{f"input_to_{gate}": 1 + number for number, gate in enumerate(("input", "forget", "cell", "output"))},
    **{f"recurrent_to_{gate}": 5 + number for number, gate in enumerate(("input", "forget", "cell", "output"))},
    **{f"{gate}_bias": 12 + number for number, gate in enumerate(("input", "forget", "cell", "output"))},
    "projection": 16,
    "projection_bias": 17,
    **{f"{gate}_layer_norm": 20 + number for number, gate in enumerate(("input", "forget", "cell", "output"))},
}
"""Where the op takes what: kernel documentation in `lstm_shared.h`."""


def states_of(cell, h, c):
    return {f"{cell.name}_h": h, f"{cell.name}_c": c}


def zero_states(cell, batch=BATCH):
    return states_of(cell, np.zeros((batch, cell.output_size)), np.zeros((batch, cell.hidden_size)))


def trailing_padding(lengths, time):
    return (np.arange(time) >= np.array(lengths)[:, np.newaxis]).astype(np.float32)


@functools.cache
def converted(path, state):
    """A conversion of a golden file with the file's batch and dynamic time."""
    cell, arrays = golden(path)
    return cell, arrays, lstm_toolkit.convert(lingvo.RNN(cell), batch_size=BATCH, state=state, verify=False)


# Golden files


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_file_equals_lingvo(random, path):
    """Explicit states give y, m_final and c_final of one file; a random call stands between two golden ones."""
    cell, arrays, conversion = converted(path, "explicit")
    assert conversion.report.ops[FUSED] == 1
    assert not LOOPS_AND_CUSTOM & set(conversion.report.ops)
    assert [(layer.op, layer.reason) for layer in conversion.report.layers] == [(FUSED, None)]
    other = random.normal(0, 3, arrays["x"].shape).astype(np.float32)
    calls = [{"inputs": x, **zero_states(cell)} for x in (arrays["x"], other, arrays["x"])]
    other_y, other_c = loop(cell, other, np.zeros(other.shape[:2]))
    golden_results = (arrays["y"], arrays["m_final"], arrays["c_final"])
    expected = [golden_results, (other_y, other_y[:, -1], other_c), golden_results]
    results = run_in_a_row(conversion.tflite, calls)
    assert len(results) == 6
    for result, (y, m, c) in zip(results, expected * 2, strict=True):
        np.testing.assert_allclose(result["output_0"], y, **TOLERANCE)
        np.testing.assert_allclose(result[f"{cell.name}_h"], m, **TOLERANCE)
        np.testing.assert_allclose(result[f"{cell.name}_c"], c, **TOLERANCE)


@pytest.mark.parametrize("path", GOLDEN[::3], ids=lambda path: path.stem)
def test_by_default_every_call_starts_from_zero(path):
    _, arrays, conversion = converted(path, "auto")
    assert set(conversion.report.ops) == {FUSED, "ZEROS_LIKE"}
    assert lstm_toolkit.inspect(conversion).lstm_nodes[0].state == "reset"
    for result in run_in_a_row(conversion.tflite, [{"inputs": arrays["x"]}] * 3):
        np.testing.assert_allclose(result["output_0"], arrays["y"], **TOLERANCE)


@pytest.mark.parametrize("path", GOLDEN[::9], ids=lambda path: path.stem)
def test_explicit_states_join_pieces_of_a_sequence(path):
    """The golden sequence in pieces of 4, 1 and 4 steps; two streams take turns on one interpreter."""
    cell, arrays, conversion = converted(path, "explicit")
    edges = ((0, 4), (4, 5), (5, 9))
    states, outputs = zero_states(cell), []
    for start, stop in edges:
        piece = {"inputs": arrays["x"][:, start:stop], **states}
        disturbing = {"inputs": arrays["x"][:, :3] + 1, **zero_states(cell)}
        result = run_in_a_row(conversion.tflite, [piece, disturbing])[0]
        outputs.append(result.pop("output_0"))
        states = result
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), arrays["y"], **TOLERANCE)
    np.testing.assert_allclose(states[f"{cell.name}_c"], arrays["c_final"], **TOLERANCE)


# The guide's conversion contract, point by point. `operands` reads the file with the schema's own classes.


def full_cell(random, **options):
    """Layer norm, projection, bias, cap and forget gate bias, with all sizes different: 5 in, 6 cells, 4 out."""
    defaults = {"num_hidden_nodes": 6, "forget_gate_bias": 0.5, "cell_value_cap": 0.9, "normalized": True}
    return random_cell(random, **defaults | options)


def operands(conversion):
    """The arrays of the fused op by the keys of `OPERANDS`, None where it has none, and its options."""
    op, constants = fused_lstm(conversion.tflite)
    assert len(op.inputs) == 24
    assert all((op.inputs[place] < 0) == (place not in constants) for place in OPERANDS.values())
    return {name: constants.get(place) for name, place in OPERANDS.items()}, op.builtinOptions


@pytest.fixture(scope="module", params=[False, True], ids=["four gates", "coupled"])
def contract(request):
    """A cell, its theta, its file's operands, and the columns of each gate as Lingvo orders them."""
    cell = full_cell(np.random.default_rng(20), couple_input_forget_gates=request.param)
    order = ("cell", "forget", "output") if request.param else ("cell", "input", "forget", "output")
    columns = {gate: slice(6 * number, 6 * (number + 1)) for number, gate in enumerate(order)}
    theta = {name: variable.numpy() for name, variable in cell.theta.items()}
    found, _ = operands(lstm_toolkit.convert(lingvo.RNN(cell), batch_size=2))
    return theta, found, columns


def test_point_1_the_wrapped_function_is_the_interface(random):
    """Point 1: uses of the cell are wrapped into a function with an `_implements` annotation, whose arguments are the
    contract: the input, then theta, all of known rank."""
    rnn = lingvo.RNN(full_cell(random))
    graph = tf.function(lambda x: rnn(x)).get_concrete_function(tf.TensorSpec([2, None, INPUTS])).graph
    definition = graph.as_graph_def()
    marked = {f.signature.name: f.attr["_implements"].func for f in definition.library.function}
    marked = {name: function for name, function in marked.items() if function.name}
    calls = [node for node in definition.node if node.attr["f"].func.name in marked]
    assert len(calls) == len(marked) == 1
    (annotation,) = marked.values()
    assert annotation.name == "lstm_toolkit.LSTM"
    assert annotation.attr["tfl_fusable_op"].b is True
    assert annotation.attr["weights"].s == b"joint_kernel,bias,projection,layer_norm"
    assert annotation.attr["gates"].s == b"cell,input,forget,output"
    arguments = [graph.get_tensor_by_name(f"{name}:0" if ":" not in name else name) for name in calls[0].input[:5]]
    shapes = [tensor.shape.as_list() for tensor in arguments]
    assert shapes == [[2, None, INPUTS], [9, 24], [24], [6, 4], [24]]


def test_point_2_the_composite_becomes_the_fused_op(random):
    """Point 2: the pass takes the composite operation out of the converted graph and puts one fused LSTM there."""
    conversion = lstm_toolkit.convert(lingvo.RNN(full_cell(random)), batch_size=2)
    assert dict(conversion.report.ops) == {FUSED: 1, "ZEROS_LIKE": 2}
    _, options = operands(conversion)
    assert (options.cellClip, options.projClip, options.timeMajor) == (np.float32(0.9), 0.0, False)
    assert options.fusedActivationFunction == schema.ActivationFunctionType.TANH


def test_point_3_weight_and_projection_are_transposed(contract):
    """Point 3: the weight and the projection tensor are transposed."""
    theta, found, columns = contract
    both = [np.concatenate([found[f"input_to_{gate}"], found[f"recurrent_to_{gate}"]], axis=1) for gate in columns]
    np.testing.assert_array_equal(np.concatenate(both, axis=0), theta["wm"].T)
    np.testing.assert_array_equal(found["projection"], theta["w_proj"].T)


@pytest.mark.parametrize("gate", ["cell", "input", "forget", "output"])
def test_point_4_input_and_recurrent_slices(contract, gate):
    """Point 4: {input, recurrent} to {cell, input, forget, output} gate are slices of the transposed weight."""
    theta, found, columns = contract
    if gate not in columns:
        assert found[f"input_to_{gate}"] is found[f"recurrent_to_{gate}"] is None
        return
    rows = theta["wm"].T[columns[gate]]
    np.testing.assert_array_equal(found[f"input_to_{gate}"], rows[:, :INPUTS])
    np.testing.assert_array_equal(found[f"recurrent_to_{gate}"], rows[:, INPUTS:])


@pytest.mark.parametrize("gate", ["cell", "input", "forget", "output"])
def test_point_5_bias_slices(contract, gate):
    """Point 5: the bias of the {cell, input, forget, output} gate is a slice of the bias, and the forget gate's has
    the cell's forget_gate_bias added."""
    theta, found, columns = contract
    if gate not in columns:
        assert found[f"{gate}_bias"] is None
        return
    added = np.float32(0.5 if gate == "forget" else 0.0)
    np.testing.assert_array_equal(found[f"{gate}_bias"], theta["b"][columns[gate]] + added)


def test_point_5_without_bias_the_op_has_zeros(random):
    """Point 5, of a cell without bias: only the forget gate's is not zero."""
    cell = full_cell(random, normalized=False, enable_lstm_bias=False)
    found, _ = operands(lstm_toolkit.convert(lingvo.RNN(cell)))
    for gate in ("cell", "input", "forget", "output"):
        np.testing.assert_array_equal(found[f"{gate}_bias"], [0.5 if gate == "forget" else 0.0] * 6)


def test_point_6_projection(contract):
    """Point 6: the projection is taken from the transposed projection tensor: [outputs, cells], and has no bias."""
    theta, found, _ = contract
    assert found["projection"].shape == (4, 6)
    for unit in range(6):
        np.testing.assert_array_equal(found["projection"][:, unit], theta["w_proj"][unit])
    assert found["projection_bias"] is None


def test_point_6_no_projection_where_the_cell_has_none(random):
    """Point 6, of a cell without projection: the operand is absent."""
    found, _ = operands(lstm_toolkit.convert(lingvo.RNN(full_cell(random, num_hidden_nodes=0))))
    assert found["projection"] is found["projection_bias"] is None
    assert found["recurrent_to_cell"].shape == (4, 4)


@pytest.mark.parametrize("gate", ["cell", "input", "forget", "output"])
def test_point_7_layer_norm_slices(contract, gate):
    """Point 7: LayerNormalizedLSTMCellSimple converts alike; its ln_scale is sliced like the bias."""
    theta, found, columns = contract
    if gate not in columns:
        assert found[f"{gate}_layer_norm"] is None
        return
    np.testing.assert_array_equal(found[f"{gate}_layer_norm"], theta["ln_scale"][columns[gate]])


def test_point_7_no_layer_norm_where_the_cell_has_none(random):
    """Point 7, of LSTMCellSimple: the operands are absent."""
    found, _ = operands(lstm_toolkit.convert(lingvo.RNN(full_cell(random, normalized=False))))
    assert all(found[name] is None for name in found if name.endswith("layer_norm"))


def test_point_8_the_rest_of_the_converter_is_reused(random):
    """Point 8: everything else of the converter serves as it is: other ops around the LSTM are converted and fused by
    TensorFlow's own passes, variables are frozen, and the export gives names and a signature."""
    first, second = lingvo.RNN(random_cell(random)), lingvo.RNN(full_cell(random, normalized=False))
    second.cell.load_theta({name: random.normal(0, 0.7, v.shape) for name, v in second.cell.theta.items()})
    kernel, bias = (tf.Variable(random.normal(size=size).astype(np.float32)) for size in ((7, INPUTS), (INPUTS,)))
    head = tf.Variable(random.normal(size=(8, 2)).astype(np.float32))

    def model(tokens):
        x = tf.nn.relu(tf.matmul(tf.reshape(tokens, [-1, 7]), kernel) + bias)
        x = tf.reshape(x, [2, 6, INPUTS])
        return {"probabilities": tf.nn.softmax(tf.concat([first(x), second(x)], axis=2) @ head)}

    conversion = lstm_toolkit.convert(model, input_signature=[tf.TensorSpec([2, 6, 7], name="tokens")])
    ops = conversion.report.ops
    assert (ops[FUSED], ops["SOFTMAX"], ops["CONCATENATION"]) == (2, 1, 1)
    assert ops["RELU"] == 0  # it went into the fully connected op
    assert not LOOPS_AND_CUSTOM & set(ops)
    calls = [random.normal(size=(2, 6, 7)).astype(np.float32) for _ in range(3)]
    for x, result in zip(calls * 2, run_in_a_row(conversion.tflite, [{"tokens": x} for x in calls]), strict=True):
        embedded = np.maximum(x.astype(np.float64) @ kernel.numpy() + bias.numpy(), 0.0)
        both = [loop(rnn.cell, embedded, np.zeros((2, 6)))[0] for rnn in (first, second)]
        logits = np.concatenate(both, axis=2) @ head.numpy()
        expected = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5, rtol=0)


# Single steps


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_a_stream_of_single_steps_equals_the_whole(random, normalized, coupled, batch):
    cell = full_cell(random, normalized=normalized, couple_input_forget_gates=coupled)
    x = random.normal(size=(batch, TIME, INPUTS)).astype(np.float32)
    whole, last_c = loop(cell, x, np.zeros((batch, TIME)))

    carried = lstm_toolkit.convert(cell, batch_size=batch)
    assert dict(carried.report.ops) == {"LSTM": 1}
    (node,) = lstm_toolkit.inspect(carried).lstm_nodes
    assert (node.layout, node.state, node.cell_clip) == ("step", "carry", np.float32(0.9))
    results = run_in_a_row(carried.tflite, [{"inputs": x[:, step]} for step in range(TIME)])
    for stream in (results[:TIME], results[TIME:]):
        outputs = np.stack([result["output_0"] for result in stream], axis=1)
        np.testing.assert_allclose(outputs, whole, **EXACT)

    explicit = lstm_toolkit.convert(cell, batch_size=batch, state="explicit")
    assert explicit.report.ops["LSTM"] == 1
    assert not LOOPS_AND_CUSTOM & set(explicit.report.ops)
    runner, states, outputs = explicit.runner(), zero_states(cell, batch), []
    for step in range(TIME):
        states = runner(inputs=x[:, step], **states)
        outputs.append(states.pop("output_0"))
    np.testing.assert_allclose(np.stack(outputs, axis=1), whole, **EXACT)
    np.testing.assert_allclose(states[f"{cell.name}_h"], whole[:, -1], **EXACT)
    np.testing.assert_allclose(states[f"{cell.name}_c"], last_c, **EXACT)


def test_explicit_single_steps_in_a_row_start_where_they_are_told(random):
    cell = full_cell(random)
    calls = [
        {"inputs": random.normal(size=(2, INPUTS)).astype(np.float32)}
        | states_of(cell, random.normal(size=(2, 4)).astype("f"), random.normal(0, 0.3, (2, 6)).astype("f"))
        for _ in range(3)
    ]
    conversion = lstm_toolkit.convert(cell, batch_size=2, state="explicit")
    for call, result in zip(calls * 2, run_in_a_row(conversion.tflite, calls), strict=True):
        m, c = cell.step(call[f"{cell.name}_h"], call[f"{cell.name}_c"], call["inputs"])
        for name, value in (("output_0", m), (f"{cell.name}_h", m), (f"{cell.name}_c", c)):
            np.testing.assert_allclose(result[name], value, **EXACT)


def test_a_single_step_may_start_from_zero(random):
    cell = full_cell(random)
    conversion = lstm_toolkit.convert(cell, batch_size=2, state="reset")
    x = random.normal(size=(2, INPUTS)).astype(np.float32)
    expected, _ = loop(cell, x[:, np.newaxis], np.zeros((2, 1)))
    for result in run_in_a_row(conversion.tflite, [{"inputs": x}] * 3):
        np.testing.assert_allclose(result["output_0"], expected[:, 0], **EXACT)


# Sequences


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_any_batch_and_any_length(random, batch):
    cell, size = full_cell(random), batch or 1
    conversion = lstm_toolkit.convert(lingvo.RNN(cell), batch_size=batch)
    assert lstm_toolkit.inspect(conversion).inputs[0].shape == (size, -1, INPUTS)
    calls = [random.normal(size=(size, time, INPUTS)).astype(np.float32) for time in (7, 1, 40, 7)]
    for x, result in zip(calls * 2, run_in_a_row(conversion.tflite, [{"inputs": x} for x in calls]), strict=True):
        np.testing.assert_allclose(result["output_0"], loop(cell, x, np.zeros(x.shape[:2]))[0], **TOLERANCE)


def test_a_fixed_length_is_in_the_file(random):
    conversion = lstm_toolkit.convert(lingvo.RNN(full_cell(random)), batch_size=2, time_steps=11)
    summary = lstm_toolkit.inspect(conversion)
    assert (summary.inputs[0].shape, summary.outputs[0].shape) == ((2, 11, INPUTS), (2, 11, 4))


@pytest.mark.parametrize("time_steps", [None, TIME])
def test_carried_state_goes_on_over_the_calls(random, time_steps):
    cell = full_cell(random)
    conversion = lstm_toolkit.convert(lingvo.RNN(cell), batch_size=2, time_steps=time_steps, state="carry")
    assert dict(conversion.report.ops) == {FUSED: 1}
    calls = [random.normal(size=(2, TIME, INPUTS)).astype(np.float32) for _ in range(3)]
    whole, _ = loop(cell, np.concatenate(calls, axis=1), np.zeros((2, 3 * TIME)))
    results = run_in_a_row(conversion.tflite, [{"inputs": x} for x in calls])
    for row in (results[:3], results[3:]):
        np.testing.assert_allclose(np.concatenate([each["output_0"] for each in row], axis=1), whole, **TOLERANCE)


@pytest.mark.parametrize("state", ["reset", "explicit"])
@pytest.mark.parametrize("padded", [False, True])
def test_time_major(random, padded, state):
    """Inputs, outputs and padding are [time, batch, ...]; states stay [batch, ...]."""
    cell = full_cell(random, normalized=False)
    signature = [tf.TensorSpec([None, None, INPUTS]), tf.TensorSpec([None, None])][: 1 + padded]
    conversion = lstm_toolkit.convert(
        lingvo.RNN(cell), input_signature=signature, batch_size=BATCH, time_major=True, state=state
    )
    summary = lstm_toolkit.inspect(conversion)
    assert summary.inputs[0].shape == (-1, BATCH, INPUTS)
    assert summary.ops["TRANSPOSE"] == 0 or padded
    x = random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
    padding = trailing_padding([4, 0, TIME] if padded else [TIME] * 3, TIME)
    call = {"inputs": x.swapaxes(0, 1).copy()} | ({"padding": padding.T.copy()} if padded else {})
    call |= zero_states(cell) if state == "explicit" else {}
    expected, c = loop(cell, x, padding)
    for result in run_in_a_row(conversion.tflite, [call] * 3):
        np.testing.assert_allclose(result["output_0"], expected.swapaxes(0, 1), **TOLERANCE)
        if state == "explicit":
            np.testing.assert_allclose(result[f"{cell.name}_h"], expected[:, -1], **TOLERANCE)
            np.testing.assert_allclose(result[f"{cell.name}_c"], c, **TOLERANCE)


def test_one_step_has_no_time_to_put_first(random):
    cell = full_cell(random)
    files = [lstm_toolkit.convert(cell, batch_size=BATCH, time_major=each).tflite for each in (False, True)]
    assert files[0] == files[1]


# Padding

WITH_PADDING = (tf.TensorSpec([None, None, INPUTS]), tf.TensorSpec([None, None]))


def check_padding(random, cell, state, *, time_steps=None):
    """Three calls in a row and more, against the cell's own RNN and the loop; rows padded whole among them."""
    conversion = lstm_toolkit.convert(
        lingvo.RNN(cell), input_signature=WITH_PADDING, batch_size=BATCH, state=state, time_steps=time_steps
    )
    assert conversion.report.ops[FUSED] == 1
    assert not LOOPS_AND_CUSTOM & set(conversion.report.ops)
    calls = []
    for seed in range(3):
        x = random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
        call = {"inputs": x, "padding": 1.0 - mask_of(seed, BATCH, TIME).astype(np.float32)}
        if state == "explicit":
            h, c = (random.normal(0, 0.4, (BATCH, size)).astype("f") for size in (cell.output_size, cell.hidden_size))
            call |= states_of(cell, h, c)
        calls.append(call)
    for call, result in zip(calls * 2, run_in_a_row(conversion.tflite, calls), strict=True):
        start = (call[f"{cell.name}_h"], call[f"{cell.name}_c"]) if state == "explicit" else None
        y, m, c = lingvo.RNN(cell)(call["inputs"], padding=call["padding"], initial_state=start, return_state=True)
        np.testing.assert_allclose(result["output_0"], y, **TOLERANCE)
        if state == "explicit":
            np.testing.assert_allclose(result[f"{cell.name}_h"], m, **TOLERANCE)
            np.testing.assert_allclose(result[f"{cell.name}_c"], c, **TOLERANCE)
        else:
            np.testing.assert_allclose(result["output_0"], loop(cell, call["inputs"], call["padding"])[0], **TOLERANCE)


PADDED = [
    (normalized, coupled, state)
    for normalized in (False, True)
    for coupled in (False, True)
    for state in ("reset", "explicit")
    if not (normalized and state == "explicit")
]


@pytest.mark.parametrize(("normalized", "coupled", "state"), PADDED)
@pytest.mark.parametrize("hidden", [0, 6])
def test_padding_of_every_kind(random, hidden, normalized, coupled, state):
    cell = full_cell(
        random,
        normalized=normalized,
        num_hidden_nodes=hidden,
        couple_input_forget_gates=coupled,
        cell_value_cap=0.9 if state == "reset" else None,
    )
    check_padding(random, cell, state)


@pytest.mark.parametrize("state", ["reset", "explicit"])
def test_padding_of_a_fixed_length(random, state):
    cap = 0.9 if state == "reset" else None
    check_padding(random, full_cell(random, normalized=False, cell_value_cap=cap), state, time_steps=TIME)


def test_layer_norm_over_padding_with_states_is_refused(random):
    """Layer norm takes the same number off all cells, and so would undo what holds c over the padding."""
    cell = full_cell(random, normalized=True, cell_value_cap=None)
    with pytest.raises(
        ConversionError, match='normalizes what would hold its state over the padding; pass state="reset"'
    ):
        lstm_toolkit.convert(lingvo.RNN(cell), input_signature=WITH_PADDING, batch_size=BATCH, state="explicit")


def test_verify_gives_no_c_beyond_the_cap(random):
    """At a padded step the op clips a c beyond the cap, which no cell with that cap ever has."""
    cell = full_cell(random, normalized=False, num_hidden_nodes=0)
    conversion = lstm_toolkit.convert(
        lingvo.RNN(cell), input_signature=WITH_PADDING, batch_size=BATCH, time_steps=TIME, state="explicit"
    )
    assert conversion.report.max_abs_error < 1e-5


def test_padding_with_a_cap_and_states_within_it(random):
    cell = full_cell(random, normalized=False)
    conversion = lstm_toolkit.convert(
        lingvo.RNN(cell), input_signature=WITH_PADDING, batch_size=BATCH, state="explicit", verify=False
    )
    x, padding = random.normal(size=(BATCH, TIME, INPUTS)).astype("f"), trailing_padding([0, 5, TIME], TIME)
    start = random.uniform(-0.3, 0.3, (BATCH, 4)).astype("f"), random.uniform(-0.9, 0.9, (BATCH, 6)).astype("f")
    y, m, c = lingvo.RNN(cell)(x, padding=padding, initial_state=start, return_state=True)
    for result in run_in_a_row(conversion.tflite, [{"inputs": x, "padding": padding} | states_of(cell, *start)] * 3):
        for name, value in (("output_0", y), (f"{cell.name}_h", m), (f"{cell.name}_c", c)):
            np.testing.assert_allclose(result[name], value, **TOLERANCE)


# Refusals


@pytest.mark.parametrize("wrapped", [lingvo.RNN, lambda cell: cell])
def test_no_output_nonlinearity_is_refused(random, wrapped):
    cell = random_cell(random, output_nonlinearity=False)
    with pytest.raises(ConversionError, match=f"cell {cell.name!r} has output_nonlinearity=False.*train it with"):
        lstm_toolkit.convert(wrapped(cell))


def test_padding_with_carried_state_is_refused(random):
    with pytest.raises(ConversionError, match=r'carry its state past the padding.*"reset" or state="explicit"'):
        lstm_toolkit.convert(lingvo.RNN(random_cell(random)), input_signature=WITH_PADDING, state="carry")


@pytest.mark.parametrize(
    "shapes",
    [
        [[None, None, 6]],
        [[None, 5]],
        [[None, None, 5], [None]],
        [[None, None, 5], [None, None, 1]],
        [[None, None, 5], [None, None], [None, 4]],
        [],
    ],
)
def test_another_input_signature_is_refused(random, shapes):
    signature = [tf.TensorSpec(shape) for shape in shapes]
    with pytest.raises(ConversionError, match=r"takes inputs \[None, None, 5\] and perhaps padding .*, got") as raised:
        lstm_toolkit.convert(lingvo.RNN(random_cell(random)), input_signature=signature)
    assert str(shapes) in str(raised.value)


@pytest.mark.parametrize("shapes", [[[None, None, 5]], [[None, 6]], [[None, 5], [None, 1]]])
def test_another_input_signature_of_a_step_is_refused(random, shapes):
    signature = [tf.TensorSpec(shape) for shape in shapes]
    with pytest.raises(
        ConversionError, match=r"takes inputs \[None, 5\], got input_signature with the shapes"
    ) as raised:
        lstm_toolkit.convert(random_cell(random), input_signature=signature)
    assert str(shapes) in str(raised.value)


def test_a_batch_or_length_that_contradicts_the_signature_is_refused(random):
    rnn = lingvo.RNN(random_cell(random))
    with pytest.raises(
        ConversionError, match="'inputs' has the fixed batch 3, and not batch_size=2; leave batch_size out"
    ):
        lstm_toolkit.convert(rnn, input_signature=[tf.TensorSpec([3, None, 5])], batch_size=2)
    with pytest.raises(ConversionError, match="'inputs' has 7 time steps, and not time_steps=8; leave time_steps out"):
        lstm_toolkit.convert(rnn, input_signature=[tf.TensorSpec([None, 7, 5])], time_steps=8)
