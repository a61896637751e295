"""`gate_activations` against loops that share no code with it: Keras layers, files of all forms, several calls."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import GateWeights, gate_activations, lingvo, models
from lstm_toolkit.errors import ParityError
from lstm_toolkit.tflite import edit, files
from lstm_toolkit.tflite.recurrent import recurrent_ops

BATCH, TIME, INPUT, UNITS = 2, 7, 3, 5
SIZES = {"time_steps": TIME, "input_size": INPUT, "batch_size": BATCH}
LETTERS = "ifgoch"


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def by_hand(arrays, x, h=None, c=None):
    """i, f, g, o, c and h of packed Keras weights, one sequence and one step after the other, and both last states."""
    kernel, recurrent, bias = (np.asarray(each, np.float64) for each in arrays)
    units = len(recurrent)
    found = {name: np.zeros((*x.shape[:2], units)) for name in LETTERS}
    last = np.zeros((2, len(x), units))
    for b, sequence in enumerate(np.asarray(x, np.float64)):
        h_now, c_now = (np.zeros(units) if each is None else each[b] for each in (h, c))
        for t, step in enumerate(sequence):
            z = step @ kernel + h_now @ recurrent + bias
            i, f, o = (sigmoid(z[n * units : (n + 1) * units]) for n in (0, 1, 3))
            g = np.tanh(z[2 * units : 3 * units])
            c_now = f * c_now + i * g
            h_now = o * np.tanh(c_now)
            for name, value in zip(LETTERS, (i, f, g, o, c_now, h_now), strict=True):
                found[name][b, t] = value
        last[:, b] = h_now, c_now
    return found, *last


def in_a_row(arrays, calls, *, carry):
    """The same for several calls."""
    parts, h, c = [], None, None
    for x in calls:
        found, h_last, c_last = by_hand(arrays, x, h, c)
        h, c = (h_last, c_last) if carry else (None, None)
        parts.append(found)
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in LETTERS}


def assert_gates(actual, expected, tolerance=2e-6):
    for name, values in expected.items():
        given = getattr(actual, name)
        assert given.dtype == np.float32
        assert not given.flags.writeable
        np.testing.assert_allclose(given, values, rtol=0, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def calls():
    random = np.random.default_rng(31)
    return [random.normal(size=(BATCH, TIME, INPUT)).astype(np.float32) for _ in range(3)]


@pytest.fixture(scope="module")
def model():
    return models.unidirectional(**SIZES, units=UNITS, seed=5)


@pytest.fixture(scope="module")
def conversions(model):
    return {state: lstm_toolkit.convert(model, state=state) for state in ("reset", "carry", "explicit")}


@pytest.fixture(scope="module")
def both_ways():
    return models.bidirectional(**SIZES, units=UNITS, seed=6)


def test_a_layer_a_model_and_its_weights(model, calls):
    arrays = model.layers[-1].get_weights()
    expected = in_a_row(arrays, calls, carry=False)
    for source in (model, model.layers[-1], GateWeights.from_keras(arrays)):
        actual = gate_activations(source, calls)
        assert_gates(actual, expected)
        assert actual.starts == (0, TIME, 2 * TIME)
        assert not actual.c_start.any()
        np.testing.assert_array_equal(actual.x, np.concatenate(calls, axis=1))
    assert actual.max_abs_error is None


@pytest.mark.parametrize("state", ["reset", "carry"])
def test_a_file_over_calls_in_a_row(model, conversions, calls, state):
    arrays = model.layers[-1].get_weights()
    actual = gate_activations(conversions[state], calls)
    assert_gates(actual, in_a_row(arrays, calls, carry=state == "carry"))
    assert actual.max_abs_error < 1e-6
    assert [bool(each.any()) for each in actual.h_start] == [False, state == "carry", state == "carry"]
    np.testing.assert_allclose(actual.c_start[1], actual.c[:, TIME - 1] if state == "carry" else 0, atol=1e-6)
    cut = gate_activations(conversions[state].tflite, np.concatenate(calls, axis=1))
    np.testing.assert_array_equal(cut.h, actual.h)


def test_explicit_states(model, conversions, calls, random):
    arrays, name = model.layers[-1].get_weights(), model.layers[-1].name
    h, c = random.normal(size=(2, BATCH, UNITS)).astype(np.float32)
    given = {"sequence": calls[0], f"{name}_h": h, f"{name}_c": c}
    actual = gate_activations(conversions["explicit"], [given, given | {f"{name}_h": -h}])
    each = [by_hand(arrays, calls[0], start, c)[0] for start in (h, -h)]
    assert_gates(actual, {key: np.concatenate([one[key] for one in each], axis=1) for key in LETTERS})
    np.testing.assert_array_equal(actual.h_start[1], -h)


def test_a_stateful_layer_carries_and_stays_as_it_is(calls):
    stateful = models.stateful(**SIZES, units=UNITS, seed=7)
    layer = stateful.layers[-1]
    stateful(calls[2])
    before = [each.numpy() for each in layer.states]
    actual = gate_activations(stateful, calls)
    assert_gates(actual, in_a_row(layer.get_weights(), calls, carry=True))
    for was, state in zip(before, layer.states, strict=True):
        np.testing.assert_array_equal(was, state)


@pytest.mark.parametrize("form", ["keras", "fused", "split"])
def test_both_directions(both_ways, calls, form):
    layer, x = both_ways.layers[-1], calls[0]
    source = both_ways if form == "keras" else lstm_toolkit.convert(both_ways, bidirectional=form)
    forward = gate_activations(source, x, layer=0)
    assert_gates(forward, by_hand(layer.forward_layer.get_weights(), x)[0])
    turned, *_ = by_hand(layer.backward_layer.get_weights(), x[:, ::-1])
    if form == "split":
        # Here an op of its own reads the reversed sequence.
        assert forward.backward is None
        assert_gates(gate_activations(source, x, layer=1), turned)
    else:
        assert_gates(forward.backward, {name: each[:, ::-1] for name, each in turned.items()})


def test_only_last_outputs_and_going_backwards(calls):
    layer = keras.layers.LSTM(UNITS, go_backwards=True, bias_initializer="normal")
    layer(calls[0])
    turned, *_ = by_hand(layer.get_weights(), calls[0][:, ::-1])
    actual = gate_activations(layer, calls[0])
    assert_gates(actual, {name: each[:, ::-1] for name, each in turned.items()})
    np.testing.assert_allclose(actual.h[:, 0], layer(calls[0]), atol=1e-6)


def test_a_layer_deep_inside(calls):
    """Nested, subclassed, stacked: what goes into a layer is what the model really gives it."""
    inner = models.stacked(**SIZES, units=[4, 6], seed=8)

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.last = inner, keras.layers.RNN(keras.layers.LSTMCell(UNITS), name="last")

        def call(self, x):
            return self.last(self.inner(2 * x))

    outer = Outer()
    outer(calls[0])
    first, second = (each.get_weights() for each in inner.layers[1:])
    one = by_hand(first, 2 * calls[0])[0]
    two = by_hand(second, one["h"])[0]
    cell = outer.last.cell.get_weights()
    for chosen, expected in ((0, one), (inner.layers[2].name, two), ("last", by_hand(cell, two["h"])[0])):
        assert_gates(gate_activations(outer, calls[0], layer=chosen), expected)
    converted = lstm_toolkit.convert(inner)
    for number, expected in enumerate((one, two)):
        assert_gates(gate_activations(converted, 2 * calls[0], node=number), expected)


def test_keras_2(calls):
    tf_keras = pytest.importorskip("tf_keras", reason="comes with the extra legacy")
    options = {"bias_initializer": "normal", "return_sequences": True}
    both, last = (
        tf_keras.layers.Bidirectional(tf_keras.layers.LSTM(4, **options)),
        tf_keras.layers.LSTM(UNITS, stateful=True, **options, name="last"),
    )
    model = tf_keras.Sequential([tf_keras.Input((TIME, INPUT), batch_size=BATCH), both, last])
    before, after = (
        by_hand(half.get_weights(), x)[0]
        for half, x in ((both.forward_layer, calls[0]), (both.backward_layer, calls[0][:, ::-1]))
    )
    actual = gate_activations(model, calls[0], layer=0)
    assert_gates(actual, before)
    assert_gates(actual.backward, {name: each[:, ::-1] for name, each in after.items()})
    joined = np.concatenate([before["h"], after["h"][:, ::-1]], axis=2)
    actual = gate_activations(model, [calls[0], calls[0]], layer="last")
    assert_gates(actual, in_a_row(last.get_weights(), [joined, joined], carry=True))
    assert not any(each.numpy().any() for each in last.states)


def test_time_major_files(calls):
    model = models.time_major(time_steps=TIME, batch_size=BATCH, input_size=INPUT, units=[UNITS], seed=9)
    (layer,) = (each for each in model.layers if isinstance(each, keras.layers.LSTM))
    sources = lstm_toolkit.convert(model), model
    expected = in_a_row(layer.get_weights(), calls[:2], carry=False)
    for source in sources:
        assert_gates(gate_activations(source, [np.swapaxes(x, 0, 1) for x in calls[:2]]), expected)


def test_projection_clips_and_coupled_gates(calls):
    """Lingvo's cells, against a loop over their packed theta."""
    sizes = {"num_input_nodes": INPUT, "num_hidden_nodes": UNITS, "num_output_nodes": 4}
    cell = lingvo.LSTMCellSimple(**sizes, couple_input_forget_gates=True, cell_value_cap=0.3, seed=3)
    conversion = lstm_toolkit.convert(lingvo.RNN(cell), batch_size=BATCH, time_steps=TIME)
    actual = gate_activations(conversion, calls[0])
    wm, b, w_proj = (np.asarray(cell.theta[name], np.float64) for name in ("wm", "b", "w_proj"))
    for row, sequence in enumerate(calls[0]):
        m, c = np.zeros(4), np.zeros(UNITS)
        for t, step in enumerate(sequence):
            g, f, o = np.split(np.concatenate([step, m]) @ wm + b, 3)
            f, g, o = sigmoid(f), np.tanh(g), sigmoid(o)
            c = np.clip(f * c + (1 - f) * g, -0.3, 0.3)
            m = (o * np.tanh(c)) @ w_proj
            for name, value in zip(LETTERS, (1 - f, f, g, o, c, m), strict=True):
                np.testing.assert_allclose(getattr(actual, name)[row, t], value, atol=2e-6, err_msg=name)
    assert np.abs(actual.c).max() == np.float32(0.3)


@pytest.mark.parametrize("quantization", ["int8", "dynamic", "float16"])
def test_quantized_files(model, calls, quantization, recwarn):
    samples = {"representative_dataset": [*calls, *(-x for x in calls)]} if quantization == "int8" else {}
    conversion = lstm_toolkit.convert(model, quantization=quantization, state="carry", **samples)
    actual = gate_activations(conversion, calls)
    expected = in_a_row(model.layers[-1].get_weights(), calls, carry=True)
    assert_gates(actual, expected, 0.06)
    if quantization == "float16":
        assert actual.max_abs_error < actual.tolerance == 1e-5
    else:
        assert 1e-5 < actual.max_abs_error < 0.05 < actual.tolerance


def test_an_open_number_of_steps(random):
    model = models.unidirectional(time_steps=None, input_size=INPUT, units=UNITS, seed=4)
    x = random.normal(size=(1, 23, INPUT)).astype(np.float32)
    conversion = lstm_toolkit.convert(model, state="carry")
    actual = gate_activations(conversion, [x[:, :8], x[:, 8:9], x[:, 9:]])
    assert_gates(actual, by_hand(model.layers[-1].get_weights(), x)[0])
    assert actual.starts == (0, 8, 9)


def test_a_file_that_computes_something_else_is_refused(conversions, calls):
    """Here an op adds to the state that the file is given, which the reading does not see."""
    model = files.read_model(conversions["explicit"].tflite)
    main = model.subgraphs[0]
    (op,) = recurrent_ops(model)
    (setter,) = (each for each in main.operators if op.states[0] in each.outputs and each is not op.operator)
    start = edit.like(main, op.states[0], "start")
    setter.outputs = [start]
    ones = edit.add_constant(model, main, "ones", np.ones((BATCH, UNITS), np.float32))
    place = main.operators.index(setter) + 1
    main.operators.insert(place, edit.new_operator(model, "ADD_N", [start, ones], [op.states[0]]))
    zeros = np.zeros((BATCH, UNITS), np.float32)
    given = {"sequence": calls[0], f"{op.layer}_h": zeros, f"{op.layer}_c": zeros}
    with pytest.raises(ParityError, match=f"node '{op.layer}': its .* differs by .* is allowed") as caught:
        gate_activations(files.write_model(model), given)
    assert caught.value.max_abs_error > 1e-3


def test_a_layer_that_computes_something_else_is_refused(calls):
    class Louder(keras.layers.LSTM):
        def call(self, sequences, initial_state=None, mask=None, training=False):
            return 2 * super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    layer = Louder(UNITS, bias_initializer="normal", name="louder")
    layer(calls[0])
    with pytest.raises(ParityError, match="layer 'louder': its output differs"):
        gate_activations(layer, calls[0])


def test_without_tensorflow(conversions, calls, tmp_path):
    conversions["carry"].save(tmp_path / "file.tflite")
    np.save(tmp_path / "x.npy", calls[0])
    code = (
        "import sys, numpy, lstm_toolkit; a = lstm_toolkit.gate_activations('file.tflite', numpy.load('x.npy')); "
        "a.picture()._repr_html_(); print(a.max_abs_error < 1e-5, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["True", "False"]
