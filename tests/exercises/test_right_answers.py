"""The answers that pass are right: they agree with Keras, with Lingvo and with what is in the files."""

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import models
from lstm_toolkit.exercises import doctor, gates, quickstart
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import GATES
from tests.exercises.answers import bidirectional, keras_variants, lingvo, pytorch, state
from tests.helpers.files import op_counts
from tests.helpers.lingvo_cells import GOLDEN

GOLDEN_FOLDER = GOLDEN[0].parent


@pytest.mark.parametrize("mode", bidirectional.MERGES)
def test_the_right_merges_are_keras_s(mode):
    model = models.bidirectional(time_steps=6, input_size=5, units=4, merge_mode=mode)
    layer = model.layers[-1]
    backward = keras.layers.LSTM.from_config(layer.backward_layer.get_config() | {"go_backwards": False})
    x = np.random.default_rng(1).normal(size=(3, 6, 5)).astype(np.float32)
    backward.build(x.shape)
    backward.set_weights(layer.backward_layer.get_weights())
    halves = [lambda x, layer=each: np.asarray(layer(x)) for each in (layer.forward_layer, backward)]
    np.testing.assert_allclose(bidirectional.both_ways(*halves, x, mode), model(x), atol=1e-6)


@pytest.mark.parametrize("cell_clip", [0.0, 3.5])
def test_the_counter_is_the_lstm_of_the_codelab(cell_clip):
    zeros = np.zeros((2, 2), np.float32)
    parts = {f"{gate}_gate_bias": np.full(2, 20.0) for gate in GATES}
    parts |= {f"input_to_{gate}_weights": zeros[:, :1] for gate in GATES}
    parts |= {f"recurrent_to_{gate}_weights": zeros for gate in GATES}
    parts["input_to_cell_weights"], parts["cell_gate_bias"] = np.array([[20.0], [0.0]]), np.array([0.0, 20.0])
    text = np.repeat([1.0, -1.0, 0.01, 1.0], (6, 9, 4, 2))[np.newaxis, :, np.newaxis]
    expected, _, _ = reference.lstm(GateWeights.from_operands(parts), text, cell_clip=cell_clip)
    actual = doctor.bracket_counter(cell_clip)(text)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("gate", GATES)
def test_the_mystery_shows_each_gate_by_what_it_does(gate):
    bias = np.zeros(24)
    block = ("output", "input", "cell", "forget").index(gate)
    bias[6 * block : 6 * block + 6] = -1e4
    outputs, last_c = gates.mystery_lstm(("output", "input", "cell", "forget"))(bias)
    assert outputs.shape == (7, 6)
    assert (not last_c.any()) == (gate == "input")
    assert (not outputs.any()) == (gate in ("input", "output"))
    assert (last_c < 0).all() == (gate == "cell")


@pytest.mark.parametrize("name", keras_variants.VARIANTS)
def test_the_right_counts_are_those_of_the_files(name):
    count, shape, build = keras_variants.VARIANTS[name]
    sequence = keras.Input(shape)
    ops = lstm_toolkit.convert(keras.Model(sequence, build(sequence)), verify=False).report.ops
    assert ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == count


@pytest.mark.parametrize("name", ["cap0.7-fgb0.5", "cap10.0-fgb1.0"])
def test_the_right_step_is_lingvo_s(name):
    """The answer that passes, run over the sequence of a file of numbers that Lingvo itself computed."""
    golden = np.load(GOLDEN_FOLDER / f"LSTMCellSimple-proj-cifg-{name}.npz")
    m, c = (np.zeros_like(golden[key]) for key in ("m_final", "c_final"))
    for step in range(golden["x"].shape[1]):
        options = (golden["cell_value_cap"].item(), golden["forget_gate_bias"].item())
        m, c = lingvo.coupled_step(golden, golden["x"][:, step], m, c, *options)
        np.testing.assert_allclose(m, golden["y"][:, step], rtol=0, atol=2e-5)
    np.testing.assert_allclose(c, golden["c_final"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["4gate", "cifg"])
def test_the_right_normalization_is_lingvo_s(kind):
    """The same of the normalization, over one step from a zero state."""
    golden = np.load(GOLDEN_FOLDER / f"LayerNormalizedLSTMCellSimple-noproj-{kind}-capNone-fgb0.0.npz")
    x = golden["x"][:, 0]
    count = 3 if kind == "cifg" else 4
    sums = lingvo.normalize(x @ golden["wm"][: x.shape[1]], golden["ln_scale"], golden["b"], count)
    cell, *others, output = np.split(sums, count, axis=1)
    admit = lingvo.sigmoid(others[0]) if count == 4 else 1 - lingvo.sigmoid(others[0])
    m = lingvo.sigmoid(output) * np.tanh(admit * np.tanh(cell))
    np.testing.assert_allclose(m, golden["y"][:, 0], rtol=0, atol=2e-5)


def test_the_right_weights_of_a_gru_are_keras_s():
    """A step as the documentation of `torch.nn.GRU` has it, against Keras's layer."""
    random, units = np.random.default_rng(3), 4
    packed = [random.normal(size=shape).astype(np.float32) for shape in ((12, 5), (12, 4), 12, 12)]
    x, h = random.normal(size=(3, 1, 5)).astype(np.float32), random.normal(size=(3, units)).astype(np.float32)
    weight_ih, weight_hh, bias_ih, bias_hh = packed
    of_x, of_h = (np.split(each, 3, axis=1) for each in (x[:, 0] @ weight_ih.T + bias_ih, h @ weight_hh.T + bias_hh))
    r, z = (1 / (1 + np.exp(-(a + b))) for a, b in zip(of_x[:2], of_h[:2], strict=True))
    wanted = (1 - z) * np.tanh(of_x[2] + r * of_h[2]) + z * h
    layer = keras.layers.GRU(units)
    layer.build(x.shape)
    layer.set_weights(list(pytorch.gru_to_keras(*packed)))
    np.testing.assert_allclose(layer(x, initial_state=h), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "lstm_op", "loops"),
    [
        ("fused", "UNIDIRECTIONAL_SEQUENCE_LSTM", 0),
        ("two", "UNIDIRECTIONAL_SEQUENCE_LSTM", 0),
        ("bidirectional", "BIDIRECTIONAL_SEQUENCE_LSTM", 0),
        ("mixed", "UNIDIRECTIONAL_SEQUENCE_LSTM", 1),
        ("loop", None, 1),
        ("unrolled", None, 0),
    ],
)
def test_the_files_are_what_the_hints_say(name, lstm_op, loops):
    counts = op_counts(quickstart.small_files()[name])
    found = {op: count for op, count in counts.items() if "SEQUENCE_LSTM" in op}
    assert found == ({lstm_op: 2 if name == "two" else 1} if lstm_op else {})
    assert counts["WHILE"] == loops


@pytest.mark.parametrize("mode", ["reset", "carry"])
def test_the_right_answer_tells_real_files_apart(mode):
    model = models.unidirectional(time_steps=None, input_size=3, units=5)
    runner = lstm_toolkit.convert(model, state=mode, verify=False).runner()
    assert state.which_state(lambda x: runner(np.asarray(x, np.float32))) == mode
