"""Lingvo's cells and `GateWeights.from_lingvo`, against numbers that Lingvo itself computed and a loop in NumPy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from lstm_toolkit import GateWeights, lingvo
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.frameworks import LINGVO
from tests.helpers.lingvo_cells import GOLDEN, TOLERANCE, golden, loop, random_cell
from tests.helpers.pairwise import pairwise


def test_there_are_28_golden_files():
    assert len(GOLDEN) == 28


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_cell_and_reference_equal_lingvo(path):
    cell, arrays = golden(path)
    y, m, c = lingvo.RNN(cell)(arrays["x"], return_state=True)
    h_y, h_m, h_c = reference.lstm(GateWeights.from_lingvo(cell), arrays["x"], cell_clip=cell.cell_value_cap or 0.0)
    for ours in ((y, m, c), (h_y, h_m, h_c)):
        for actual, name in zip(ours, ("y", "m_final", "c_final"), strict=True):
            np.testing.assert_allclose(actual, arrays[name], **TOLERANCE)


def test_the_golden_files_notice_the_cap_and_the_forget_gate_bias():
    """Without this a cell that ignores either option could pass."""
    path = next(path for path in GOLDEN if "LSTMCellSimple-noproj-4gate-cap0.7" in path.stem)
    cell, arrays = golden(path)
    weights = GateWeights.from_lingvo(cell)
    assert np.abs(reference.lstm(weights, arrays["x"])[0] - arrays["y"]).max() > 1e-2
    plain = GateWeights.from_lingvo(cell.theta, num_input_nodes=5)
    assert np.abs(reference.lstm(plain, arrays["x"], cell_clip=0.7)[0] - arrays["y"]).max() > 1e-2


@pytest.mark.parametrize(
    ("normalized", "num_hidden_nodes", "coupled", "bias", "nonlinearity"),
    pairwise([False, True], [0, 6], [False, True], [False, True], [False, True]),
)
def test_padding_keeps_the_state(random, normalized, num_hidden_nodes, coupled, bias, nonlinearity):
    cell = random_cell(
        random,
        normalized=normalized,
        num_hidden_nodes=num_hidden_nodes,
        couple_input_forget_gates=coupled,
        enable_lstm_bias=bias,
        output_nonlinearity=nonlinearity,
        cell_value_cap=0.8,
        forget_gate_bias=0.6,
    )
    x = random.normal(size=(3, 7, 5)).astype(np.float32)
    # Padded before, within and after the valid steps; the last example has none that is valid.
    padding = np.array([[1, 0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 0, 1, 1], [1] * 7], np.float32)
    expected, expected_c = loop(cell, x, padding)
    y, m, c = lingvo.RNN(cell)(x, padding=padding, return_state=True)
    np.testing.assert_allclose(y, expected, **TOLERANCE)
    np.testing.assert_allclose(c, expected_c, **TOLERANCE)
    np.testing.assert_array_equal(m, y[:, -1])
    np.testing.assert_array_equal(y[1, 1], y[1, 3])
    assert not np.any(y[2])
    np.testing.assert_array_equal(lingvo.RNN(cell)(x, padding=padding.astype(bool)), y)
    # Without padding the run is a marked function, a graph, which may round in another order.
    np.testing.assert_allclose(lingvo.RNN(cell)(x), lingvo.RNN(cell)(x, padding=np.zeros((3, 7))), atol=1e-6)


def test_padding_of_one_step_is_batch_by_one(random):
    cell = random_cell(random)
    m, c, x = (random.normal(size=(2, size)).astype(np.float32) for size in (4, 4, 5))
    plain_m, plain_c = cell.step(m, c, x)
    new_m, new_c = cell.step(m, c, x, np.array([[1.0], [0.0]], np.float32))
    np.testing.assert_array_equal(new_m, [m[0], plain_m[1]])
    np.testing.assert_array_equal(new_c, [c[0], plain_c[1]])


@pytest.mark.parametrize("normalized", [False, True])
def test_chunks_equal_the_whole(random, normalized):
    rnn = lingvo.RNN(random_cell(random, normalized=normalized, num_hidden_nodes=6))
    x = random.normal(size=(2, 7, 5)).astype(np.float32)
    whole, m, c = rnn(x, return_state=True)
    first, *state = rnn(x[:, :3], return_state=True)
    second, last_m, last_c = rnn(x[:, 3:], initial_state=state, return_state=True)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    np.testing.assert_allclose(last_m, m, atol=1e-6)
    np.testing.assert_allclose(last_c, c, atol=1e-6)


@pytest.mark.parametrize("batch", [None, 2])
def test_in_a_graph_shapes_are_known_and_numbers_the_same(random, batch):
    rnn = lingvo.RNN(random_cell(random, num_hidden_nodes=6))
    specs = [tf.TensorSpec([batch, None, 5]), tf.TensorSpec([batch, None])]
    function = tf.function(lambda x, padding: rnn(x, padding=padding)).get_concrete_function(*specs)
    assert function.outputs[0].shape.as_list() == [batch, None, 4]
    x = random.normal(size=(2, 7, 5)).astype(np.float32)
    padding = (random.uniform(size=(2, 7)) < 0.4).astype(np.float32)
    graph = function(tf.constant(x), tf.constant(padding))
    np.testing.assert_allclose(graph, rnn(x, padding=padding), atol=1e-6)


@pytest.mark.parametrize(("normalized", "coupled"), itertools.product([False, True], [False, True]))
def test_gradients_reach_every_parameter_and_training_lowers_the_loss(random, normalized, coupled):
    rnn = lingvo.RNN(random_cell(random, normalized=normalized, num_hidden_nodes=6, couple_input_forget_gates=coupled))
    x = random.normal(size=(3, 7, 5)).astype(np.float32)
    padding = np.zeros((3, 7), np.float32)
    padding[:, 5:] = 1
    target = random.normal(0, 0.3, size=(3, 4)).astype(np.float32)
    variables = rnn.trainable_variables
    assert len(variables) == len(rnn.cell.theta) == 3 + normalized

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((rnn(x, padding=padding)[:, -1] - target) ** 2)
        gradients = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_sub(0.3 * gradient)
        return loss, gradients

    first, gradients = train()
    assert all(np.any(gradient) and np.all(np.isfinite(gradient)) for gradient in gradients)
    for _ in range(30):
        last, _ = train()
    assert last < 0.7 * first


def test_a_new_cell_starts_as_in_lingvo():
    options = {"num_input_nodes": 50, "num_output_nodes": 40, "num_hidden_nodes": 60, "forget_gate_bias": 1.0}
    cell = lingvo.LayerNormalizedLSTMCellSimple(**options, seed=3)
    theta = {name: variable.numpy() for name, variable in cell.theta.items()}
    assert list(theta) == ["wm", "b", "w_proj", "ln_scale"]
    assert not theta["b"].any()
    assert (theta["ln_scale"] == 1).all()
    for name, limit in (("wm", np.sqrt(6 / (90 + 240))), ("w_proj", np.sqrt(6 / (60 + 40)))):
        assert 0.98 * limit < np.abs(theta[name]).max() <= limit
        assert abs(theta[name].std() - limit / np.sqrt(3)) < 0.02 * limit
    again = lingvo.LayerNormalizedLSTMCellSimple(**options, seed=3)
    other = lingvo.LayerNormalizedLSTMCellSimple(**options, seed=4)
    np.testing.assert_array_equal(again.wm, theta["wm"])
    assert not np.array_equal(other.wm, theta["wm"])
    tf.random.set_seed(8)
    one = lingvo.LSTMCellSimple(**options).wm.numpy()
    tf.random.set_seed(8)
    np.testing.assert_array_equal(lingvo.LSTMCellSimple(**options).wm, one)


def test_a_checkpoint_brings_the_cell_back(random, tmp_path):
    rnn = lingvo.RNN(random_cell(random, normalized=True, num_hidden_nodes=6))
    rnn(np.zeros((2, 7, 5), np.float32))
    path = tf.train.Checkpoint(rnn).write(str(tmp_path / "checkpoint"))
    other = lingvo.RNN(random_cell(random, normalized=True, num_hidden_nodes=6))
    tf.train.Checkpoint(other).read(path).assert_consumed()
    for name, variable in rnn.cell.theta.items():
        np.testing.assert_array_equal(other.cell.theta[name], variable)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wm": np.zeros((9, 15))}, r"wm must have shape \[9, 24\], got \[9, 15\]"),
        ({"b": np.zeros(23)}, r"b must have shape \[24\], got \[23\]"),
        ({"w_proj": np.zeros((4, 6))}, r"w_proj must have shape \[6, 4\], got \[4, 6\]"),
        ({"ln_scale": np.zeros(24)}, r"unknown: \['ln_scale'\]; missing: \[\]"),
        ({"b": None}, r"unknown: \[\]; missing: \['b'\]"),
    ],
)
def test_load_theta_names_what_does_not_fit_and_assigns_nothing(random, change, message):
    cell = random_cell(random, num_hidden_nodes=6)
    before = {name: variable.numpy() for name, variable in cell.theta.items()}
    theta = {name: np.ones(value.shape) for name, value in before.items()} | change
    with pytest.raises(ValueError, match=message):
        cell.load_theta({name: value for name, value in theta.items() if value is not None})
    for name, value in before.items():
        np.testing.assert_array_equal(cell.theta[name], value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_input_nodes": 0}, "num_input_nodes must be at least 1, got 0"),
        ({"num_output_nodes": -1}, "num_output_nodes must be at least 1, got -1"),
        ({"num_hidden_nodes": -6}, "num_hidden_nodes must be at least 0, got -6"),
        ({"cell_value_cap": -1.0}, r"cell_value_cap must be positive, .* got -1.0"),
    ],
)
def test_options_that_make_no_cell_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lingvo.LSTMCellSimple(**{"num_input_nodes": 5, "num_output_nodes": 4} | options)


def test_sequences_that_do_not_fit_are_refused(random):
    rnn = lingvo.RNN(random_cell(random))
    with pytest.raises(ValueError, match=r"inputs must have shape \[None, None, 5\], got \[2, 7, 3\]"):
        rnn(np.zeros((2, 7, 3), np.float32))
    with pytest.raises(ValueError, match=r"padding must have shape \[2, 7\], got \[7, 2\]"):
        rnn(np.zeros((2, 7, 5), np.float32), padding=np.zeros((7, 2)))
    with pytest.raises(ValueError, match=r"c of initial_state must have shape \[2, 4\], got \[2, 3\]"):
        rnn(np.zeros((2, 7, 5), np.float32), initial_state=(np.zeros((2, 4)), np.zeros((2, 3))))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_from_lingvo_and_to_lingvo_are_inverses(path):
    cell, arrays = golden(path)
    theta = {name: arrays[name] for name in LINGVO.arrays if name in arrays}
    coupled = bool(arrays["couple_input_forget_gates"])
    weights = GateWeights.from_lingvo(theta, num_input_nodes=5, couple_input_forget_gates=coupled)
    back = weights.to_lingvo()
    assert list(back) == list(theta)
    for name, array in theta.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].flags.writeable
    again = GateWeights.from_lingvo(back, couple_input_forget_gates=coupled)
    for (name, one), (other_name, other) in zip(weights.operands(), again.operands(), strict=True):
        assert name == other_name
        np.testing.assert_array_equal(one, other)
    folded = GateWeights.from_lingvo(cell).to_lingvo(forget_gate_bias=cell.forget_gate_bias)
    assert list(folded) == list(theta)
    for name, array in theta.items():
        np.testing.assert_allclose(folded[name], array, atol=2e-7)
    cell.load_theta(folded)


def test_each_gate_is_its_block_of_columns_of_lingvo(random):
    """The guide's contract for Lingvo: transposed, input before recurrent, gates cell, input, forget, output."""
    cell = random_cell(random, normalized=True, num_hidden_nodes=6, forget_gate_bias=0.5)
    theta = {name: variable.numpy() for name, variable in cell.theta.items()}
    weights = dict(GateWeights.from_lingvo(cell).operands())
    for block, gate in enumerate(("cell", "input", "forget", "output")):
        for unit in range(6):
            column = 6 * block + unit
            np.testing.assert_array_equal(weights[f"input_to_{gate}_weights"][unit], theta["wm"][:5, column])
            np.testing.assert_array_equal(weights[f"recurrent_to_{gate}_weights"][unit], theta["wm"][5:, column])
            added = np.float32(0.5) if gate == "forget" else np.float32(0)
            assert weights[f"{gate}_gate_bias"][unit] == theta["b"][column] + added
            assert weights[f"{gate}_layer_norm_coefficients"][unit] == theta["ln_scale"][column]
    np.testing.assert_array_equal(weights["projection_weights"], theta["w_proj"].T)
    assert len(weights) == 17


def test_a_forget_gate_bias_without_b_becomes_a_bias(random):
    cell = random_cell(random, enable_lstm_bias=False, forget_gate_bias=0.5)
    weights = GateWeights.from_lingvo(cell)
    assert (weights.forget_gate_bias == 0.5).all()
    assert not weights.cell_gate_bias.any()
    assert not weights.to_lingvo(forget_gate_bias=0.5)["b"].any()
    plain = GateWeights.from_lingvo(random_cell(random, enable_lstm_bias=False))
    assert plain.forget_gate_bias is None
    assert "b" not in plain.to_lingvo()
    np.testing.assert_array_equal(plain.to_lingvo(forget_gate_bias=0.5)["b"], [0] * 8 + [-0.5] * 4 + [0] * 4)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("given", [{"num_input_nodes": 6}, {"couple_input_forget_gates": ...}])
def test_one_option_is_enough_where_the_shapes_do_not_tell(random, coupled, given):
    """[18, 48] is 12 cells of 4 gates after 6 inputs, and 16 cells of 3 gates after 2."""
    given = {name: coupled if value is ... else value for name, value in given.items()}
    theta = {"wm": random.normal(size=(18, 36 if coupled else 48)).astype(np.float32)}
    weights = GateWeights.from_lingvo(theta, **given)
    assert (weights.input_size, weights.units, weights.has_input_gate) == (6, 12, not coupled)
    with pytest.raises(ValueError, match="give num_input_nodes or couple_input_forget_gates"):
        GateWeights.from_lingvo(theta)
    with_projection = theta | {"w_proj": random.normal(size=(12, 7))}
    weights = GateWeights.from_lingvo(with_projection)
    assert (weights.input_size, weights.units, weights.output_size) == (11, 12, 7)
    assert weights.has_input_gate is not coupled


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"kernel": np.zeros(3)}, {}, r"unknown: \['kernel'\]; missing: \[\]"),
        ({"wm": None}, {}, r"missing: \['wm'\]"),
        ({"wm": np.zeros(24)}, {}, r"wm must have 2 dimensions, got shape \[24\]"),
        ({"b": np.zeros(18)}, {}, r"b must have shape \[24\], got \[18\]"),
        ({"ln_scale": np.zeros(6)}, {}, r"ln_scale must have shape \[24\], got \[6\]"),
        ({}, {"couple_input_forget_gates": True}, r"wm must have shape \[9, 18\], got \[9, 24\]"),
        ({}, {"num_input_nodes": 4}, r"wm must have shape \[8, 24\], got \[9, 24\]"),
        ({"w_proj": None}, {"num_input_nodes": 9}, r"of shape \[9, 24\] leaves num_input_nodes = 9 and hidden = 0"),
    ],
)
def test_from_lingvo_names_what_does_not_fit(random, change, options, message):
    theta = random_cell(random, num_hidden_nodes=6).theta | change
    with pytest.raises(ValueError, match=message):
        GateWeights.from_lingvo({name: value for name, value in theta.items() if value is not None}, **options)


def test_options_beside_a_cell_and_operands_lingvo_lacks_are_refused(random):
    cell = random_cell(random)
    with pytest.raises(ValueError, match="the cell's own"):
        GateWeights.from_lingvo(cell, forget_gate_bias=0.0)
    operands = dict(GateWeights.from_lingvo(cell).operands())
    peepholes = {f"cell_to_{gate}_weights": random.normal(size=4) for gate in ("input", "forget", "output")}
    with pytest.raises(ValueError, match=r"a Lingvo LSTMCellSimple cannot hold .*cell_to_input_weights"):
        GateWeights.from_operands(operands | peepholes).to_lingvo()
