"""`convert` on models of many shapes, on the traps of the stock path, and on what it must refuse."""

import dataclasses

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import GateWeights
from lstm_toolkit.errors import ConversionError, InvalidModelError, ParityError
from lstm_toolkit.weights import packing, reference
from tests.helpers.calls import assert_agrees, by_input, by_output
from tests.helpers.models import inputs_for, randomized

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"


def check(model, conversion, *, batch=1, time=7, lstms=1):
    assert conversion.report.ops[FUSED] == lstms
    assert not {"WHILE", "CUSTOM", "VAR_HANDLE", "ASSIGN_VARIABLE", "CALL_ONCE"} & set(conversion.report.ops)
    calls = [inputs_for(model, batch=batch, time=time, seed=seed) for seed in range(3)]
    expected = [by_output(model(arrays if len(arrays) > 1 else arrays[0])) for arrays in calls]
    assert_agrees(conversion.tflite, [by_input(conversion.tflite, arrays) for arrays in calls], expected)


def test_dropout_is_absent_from_the_file():
    lstm = keras.layers.LSTM(6, dropout=0.3, recurrent_dropout=0.2, return_sequences=True, seed=1)
    model = randomized(
        keras.Sequential([keras.Input((7, 5)), keras.layers.Dropout(0.5), lstm, keras.layers.Dropout(0.5)])
    )
    conversion = lstm_toolkit.convert(model)
    check(model, conversion)
    assert set(conversion.report.ops) == {FUSED, "ZEROS_LIKE"}
    assert keras.layers.RNN._maybe_config_dropout_masks.__qualname__ == "RNN._maybe_config_dropout_masks"


def test_next_to_other_layers_in_a_functional_model():
    steps = keras.Input((12, 5), name="steps")
    facts = keras.Input((3,), name="facts")
    x = keras.layers.Conv1D(8, 3, padding="same", activation="relu")(steps)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.MaxPooling1D(2)(x)
    left = keras.layers.LSTM(6, return_sequences=True)(x)
    left = keras.layers.LayerNormalization()(left)
    right = keras.layers.LSTM(4, go_backwards=True)(left)
    pooled = keras.layers.GlobalAveragePooling1D()(left)
    joined = keras.layers.Concatenate()([right, pooled, keras.layers.Dense(2)(facts)])
    model = randomized(keras.Model([steps, facts], keras.layers.Dense(3, activation="softmax")(joined)))
    model.layers[2].moving_variance.assign(np.abs(model.layers[2].moving_variance) + 0.5)
    conversion = lstm_toolkit.convert(model)
    check(model, conversion, lstms=2)
    assert [layer.name for layer in conversion.report.layers] == ["lstm", "lstm_1"] or len(
        conversion.report.layers
    ) == 2
    assert conversion.report.max_abs_error < 1e-5


@pytest.mark.parametrize("activation", ["tanh", "relu", "relu6", "hard_tanh", keras.ops.tanh])
def test_activations_of_the_op(activation):
    model = randomized(keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(4, activation=activation)]))
    for variable in model.weights:
        variable.assign(variable * 0.5)
    conversion = lstm_toolkit.convert(model)
    check(model, conversion)
    expected = activation if isinstance(activation, str) else "tanh"
    assert lstm_toolkit.inspect(conversion.tflite).lstm_nodes[0].activation == expected


def test_names_and_order_of_inputs_and_outputs_are_the_models_own():
    b, a = keras.Input((7, 5), name="b-x"), keras.Input((7, 3), name="a y/z".replace("/", "."))
    outputs = {"zwei": keras.layers.LSTM(6)(b), "eins": keras.layers.LSTM(4)(a)}
    model = randomized(keras.Model({"b-x": b, "a y.z": a}, outputs))
    conversion = lstm_toolkit.convert(model, batch_size=2)
    summary = lstm_toolkit.inspect(conversion.tflite)
    assert {tensor.name: tensor.shape for tensor in summary.inputs} == {"b-x": (2, 7, 5), "a y.z": (2, 7, 3)}
    assert {tensor.name: tensor.shape for tensor in summary.outputs} == {"zwei": (2, 6), "eins": (2, 4)}
    result = conversion.runner()(**{"b-x": np.ones((2, 7, 5)), "a y.z": np.ones((2, 7, 3))})
    assert result["zwei"].shape == (2, 6)


def test_a_list_of_outputs_keeps_its_order():
    x = keras.Input((7, 5))
    lstm = keras.layers.LSTM(6, return_sequences=True)(x)
    model = randomized(keras.Model(x, [keras.layers.Dense(size)(lstm) for size in range(1, 12)]))
    conversion = lstm_toolkit.convert(model)
    result = conversion.runner()(np.ones((1, 7, 5), np.float32))
    assert {name: value.shape[-1] for name, value in result.items()} == {f"output_{n}": n + 1 for n in range(11)}


def test_integer_inputs_through_an_embedding():
    model = randomized(
        keras.Sequential([keras.Input((9,), dtype="int32"), keras.layers.Embedding(11, 5), keras.layers.LSTM(6)])
    )
    conversion = lstm_toolkit.convert(model)
    assert conversion.report.ops[FUSED] == 1
    assert 0 < conversion.report.max_abs_error < 1e-5
    runner = conversion.runner()
    for seed in range(3):
        tokens = np.random.default_rng(seed).integers(0, 11, (1, 9))
        np.testing.assert_allclose(runner(tokens.astype(np.int32)), model(tokens), atol=1e-5)


def test_a_layer_that_is_called_twice_becomes_two_ops_with_shared_weights():
    shared = keras.layers.LSTM(40)
    a, b = keras.Input((7, 30)), keras.Input((5, 30))
    model = randomized(keras.Model([a, b], [shared(a), shared(b)]))
    conversion = lstm_toolkit.convert(model)
    check(model, conversion, lstms=2)
    assert [layer.name for layer in conversion.report.layers] == [shared.name, f"{shared.name}_call1"]
    assert len(conversion.tflite) < 1.3 * 4 * shared.count_params()


def test_the_clip_example_of_keras_2_is_right():
    """Input weight 3 on the cell gate and open gates drive the cell to 20; a clip at 10 turns outputs round."""
    kernel = np.array([[0.0, 0.0, 3.0, 0.0]], np.float32)
    bias = np.array([6.0, 6.0, 0.0, 6.0], np.float32)
    model = keras.Sequential([keras.Input((40, 1)), keras.layers.LSTM(1, return_sequences=True)])
    model.layers[0].set_weights([kernel, np.zeros((1, 4), np.float32), bias])
    x = np.concatenate([np.ones((1, 20, 1)), -np.ones((1, 20, 1))], axis=1).astype(np.float32)
    conversion = lstm_toolkit.convert(model)
    runner = conversion.runner()
    for _ in range(3):
        np.testing.assert_allclose(runner(x), model(x), atol=1e-5)
    weights = GateWeights.from_keras(model.layers[0])
    unclipped, _, _ = reference.lstm(weights, x)
    clipped, _, _ = reference.lstm(weights, x, cell_clip=10.0)
    np.testing.assert_allclose(runner(x), unclipped, atol=1e-5)
    assert (np.sign(clipped[0, 31:39]) != np.sign(unclipped[0, 31:39])).all()


@pytest.mark.parametrize("units", [1, 3])
def test_an_all_zero_recurrent_kernel_shares_nothing_with_a_state(units):
    """With batch equal to units, a zero recurrent weight equals the zero state in shape and value."""
    model = randomized(keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(units, return_sequences=True)]))
    kernel, recurrent_kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([kernel, np.zeros_like(recurrent_kernel), bias])
    conversion = lstm_toolkit.convert(model, batch_size=units)
    check(model, conversion, batch=units)
    weights = lstm_toolkit.inspect(conversion.tflite).lstm_nodes[0].weights
    assert not weights.recurrent_to_cell_weights.any()


def test_large_sizes():
    model = randomized(keras.Sequential([keras.Input((50, 64)), keras.layers.LSTM(256, return_sequences=True)]))
    for variable in model.weights:
        variable.assign(variable * 0.1)
    check(model, lstm_toolkit.convert(model), time=50)


def test_batch_and_time_are_fixed_on_request():
    model = randomized(keras.Sequential([keras.Input((None, 5)), keras.layers.LSTM(6)]))
    summary = lstm_toolkit.inspect(lstm_toolkit.convert(model, batch_size=3, time_steps=9).tflite)
    assert summary.inputs[0].shape == (3, 9, 5)
    assert lstm_toolkit.inspect(lstm_toolkit.convert(model).tflite).inputs[0].shape == (1, -1, 5)
    own = keras.Sequential([keras.Input((7, 5), batch_size=4), keras.layers.LSTM(6)])
    assert lstm_toolkit.inspect(lstm_toolkit.convert(own).tflite).inputs[0].shape == (4, 7, 5)
    with pytest.raises(ConversionError, match="has the fixed batch 4"):
        lstm_toolkit.convert(own, batch_size=2)
    with pytest.raises(ConversionError, match="has 7 time steps"):
        lstm_toolkit.convert(own, time_steps=8)
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="batch_size must be a positive integer"):
            lstm_toolkit.convert(own, batch_size=wrong)


def test_the_callers_model_is_left_as_it_was():
    model = randomized(keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(6)]))
    before = [w.copy() for w in model.get_weights()]
    loop = keras.layers.LSTM.inner_loop
    lstm_toolkit.convert(model)
    assert keras.layers.LSTM.inner_loop is loop
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 7, 5)), np.ones((2, 6)), verbose=0)


class MyLSTM(keras.layers.LSTM):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        last, outputs, states = super().inner_loop(sequences, initial_state, mask, training)
        return last + 1.0, outputs + 1.0, states


class MyCell(keras.layers.LSTMCell):
    def call(self, inputs, states, training=False):
        output, states = super().call(inputs, states, training)
        return output * 2.0, states


def with_cell(layer, cell_class):
    layer.cell = cell_class(layer.units)
    return layer


REFUSED = {
    "recurrent activation": (
        lambda: keras.layers.LSTM(4, recurrent_activation="hard_sigmoid", name="gated"),
        r"layer 'gated' \(LSTM\): its recurrent activation is 'hard_sigmoid'.* use 'sigmoid'",
    ),
    "activation": (
        lambda: keras.layers.LSTM(4, activation="gelu", name="odd"),
        r"layer 'odd' \(LSTM\): its activation is 'gelu', and the fused op has only tanh, relu, relu6, hard_tanh",
    ),
    "no activation": (
        lambda: keras.layers.LSTM(4, activation=None, name="flat"),
        r"layer 'flat' \(LSTM\): its activation is 'linear', and the fused op has only",
    ),
    "gru": (lambda: keras.layers.GRU(4, name="gru"), r"layer 'gru' \(GRU\): it is not an LSTM"),
    "half precision weights": (
        lambda: keras.layers.LSTM(4, dtype="float16", name="half"),
        r"layer 'half' \(LSTM\): its weights are float16",
    ),
    "own loop": (lambda: MyLSTM(4, name="mine"), r"layer 'mine' \(MyLSTM\): it overrides the computation"),
    "own cell": (
        lambda: with_cell(keras.layers.LSTM(4, name="cell"), MyCell),
        r"layer 'cell' \(LSTM\): it overrides the computation",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layer_that_cannot_be_fused_is_refused_by_name_or_kept(case):
    make, reason = REFUSED[case]
    layers = [make(), keras.layers.Reshape((2, 2)), keras.layers.LSTM(3, name="fine")]
    model = randomized(keras.Sequential([keras.Input((7, 5)), *layers]))
    with pytest.raises(ConversionError, match=reason) as raised:
        lstm_toolkit.convert(model)
    assert "fine" not in str(raised.value)
    assert 'on_unsupported="keep"' in str(raised.value)
    if case != "half precision weights":
        report = lstm_toolkit.convert(model, on_unsupported="keep").report
        kept, fused = report.layers
        assert (kept.op, fused.op, fused.reason) == ("stock lowering", FUSED, None)
        assert kept.reason in reason or kept.reason[:20] in str(raised.value)
        assert report.ops[FUSED] == report.ops["WHILE"] == 1


def test_every_layer_in_the_way_is_named_at_once():
    layers = [
        keras.layers.GRU(4, return_sequences=True, name="one"),
        keras.layers.LSTM(3, activation="elu", name="two"),
    ]
    with pytest.raises(ConversionError, match=r"layer 'one' \(GRU\).*; layer 'two' \(LSTM\)"):
        lstm_toolkit.convert(keras.Sequential([keras.Input((7, 5)), *layers]))


def test_models_without_an_lstm_or_without_inputs_are_refused():
    with pytest.raises(ConversionError, match="calls no LSTM"):
        lstm_toolkit.convert(keras.Sequential([keras.Input((7, 5)), keras.layers.Dense(4)]))
    with pytest.raises(ConversionError, match="does not know its inputs"):
        lstm_toolkit.convert(keras.Sequential([keras.layers.LSTM(4)]))
    with pytest.raises(ConversionError, match="got int"):
        lstm_toolkit.convert(3)
    with pytest.raises(ValueError, match="on_unsupported must be one of raise, keep"):
        lstm_toolkit.convert(keras.Sequential([keras.layers.LSTM(4)]), on_unsupported="ignore")


def test_an_op_that_tensorflow_lite_lacks_is_refused():
    class Gamma(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.math.digamma(x)

    model = keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(4), Gamma()])
    with pytest.raises(ConversionError, match=r"no op Digamma, which layer .gamma. needs"):
        lstm_toolkit.convert(model)


def test_verify_catches_a_wrong_file(monkeypatch):
    """Gates in the wrong order give a file that runs; only the comparison with the source notices."""
    split = packing.Packing.split

    def wrong(self, arrays):
        return split(dataclasses.replace(self, gates=("forget", "input", *self.gates[2:])), arrays)

    monkeypatch.setattr(packing.Packing, "split", wrong)
    model = randomized(keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(4)]))
    with pytest.raises(ParityError, match="differs from the source by") as raised:
        lstm_toolkit.convert(model)
    assert raised.value.max_abs_error > 100 * raised.value.tolerance
    assert lstm_toolkit.convert(model, verify=False).report.max_abs_error is None


def test_verify_catches_state_that_leaks(monkeypatch):
    monkeypatch.setattr("lstm_toolkit.passes.reset.reset_states", lambda model, keep: 0)
    model = randomized(keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(4)]))
    with pytest.raises(ParityError, match="call 2"):
        lstm_toolkit.convert(model)


def test_a_path_is_loaded_and_saving_is_whole(tmp_path):
    model = randomized(keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(4)]))
    model.save(tmp_path / "model.keras")
    conversion = lstm_toolkit.convert(tmp_path / "model.keras")
    conversion.save(tmp_path / "model.tflite")
    assert (tmp_path / "model.tflite").read_bytes() == conversion.tflite
    with pytest.raises(OSError, match=r"nowhere.*model.tflite"):
        conversion.save(tmp_path / "nowhere" / "model.tflite")
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(OSError, match=r"folder.tflite"):
        conversion.save(tmp_path / "folder.tflite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.tflite", "model.keras", "model.tflite"]


def test_paths_that_are_no_models_are_refused(tmp_path):
    with pytest.raises(InvalidModelError, match="there is no file"):
        lstm_toolkit.convert(tmp_path / "absent.keras")
    for name, data in (("text.keras", b"hello"), ("empty.keras", b""), ("model.h5", b"x")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidModelError, match="is not a Keras model"):
            lstm_toolkit.convert(tmp_path / name)


def test_a_lambda_in_a_file_is_not_run(tmp_path):
    x = keras.Input((7, 5))
    model = keras.Model(x, keras.layers.LSTM(4)(keras.layers.Lambda(lambda tensor: tensor + 1)(x)))
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(ConversionError, match=r"needs code that is not in the file.*Lambda"):
        lstm_toolkit.convert(tmp_path / "lambda.keras")


def test_the_report_shows_itself_with_escaped_names():
    name = "a>b"
    model = keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(4, name=name)])
    conversion = lstm_toolkit.convert(model)
    assert name in str(conversion)
    assert "a>b" not in conversion._repr_html_()
    assert "a&gt;b" in conversion._repr_html_()
    assert conversion.report.to_dict()["layers"][0]["name"] == name
    summary = lstm_toolkit.inspect(conversion)
    assert summary.lstm_nodes[0].name == name
    assert "a>b" not in summary._repr_html_()
