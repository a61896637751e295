"""Every kind of source beside a Keras 3 model: files, SavedModels, functions, and tf_keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lstm_toolkit
from lstm_toolkit import GateWeights
from lstm_toolkit.errors import ConversionError, InvalidModelError
from tests.helpers.calls import assert_agrees, by_input
from tests.helpers.models import randomized


def keras_model(time=7):
    layers = [
        keras.layers.LSTM(6, return_sequences=True, dropout=0.2),
        keras.layers.Bidirectional(keras.layers.LSTM(4)),
        keras.layers.Dense(3),
    ]
    return randomized(keras.Sequential([keras.Input((time, 5), name="steps"), *layers]))


def legacy_model(*layers, batch=2, time=7, size=5, dtype=None):
    shape = (time, size) if size else (time,)
    model = tf_keras.Sequential([tf_keras.Input(shape, batch_size=batch, name="steps", dtype=dtype), *layers])
    return randomized(model, scale=0.5)


def check(source, conversion, *, batch, lstms, time=7, size=5, bidirectional=0):
    ops = conversion.report.ops
    assert ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == lstms
    assert ops["BIDIRECTIONAL_SEQUENCE_LSTM"] == bidirectional
    assert not {"WHILE", "CUSTOM", "VAR_HANDLE", "READ_VARIABLE"} & set(ops)
    calls = [np.random.default_rng(seed).normal(size=(batch, time, size)).astype(np.float32) for seed in range(3)]
    (output,) = conversion.runner().output_names
    expected = [{output: np.asarray(source(x))} for x in calls]
    assert_agrees(conversion.tflite, [by_input(conversion.tflite, [x]) for x in calls], expected)
    for node in lstm_toolkit.inspect(conversion).lstm_nodes:
        assert (node.cell_clip, node.state) == (0.0, "reset")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files(tmp_path, suffix):
    model = keras_model()
    model.save(tmp_path / f"model{suffix}")
    conversion = lstm_toolkit.convert(tmp_path / f"model{suffix}", batch_size=3)
    check(model, conversion, batch=3, lstms=1, bidirectional=1)


def test_a_layer_that_could_not_be_marked_is_in_the_report(tmp_path):
    stack = [
        keras.layers.GRU(6, return_sequences=True, unroll=True, name="gated.1"),
        keras.layers.LSTM(4, name="one"),
    ]
    model = randomized(keras.Sequential([keras.Input((7, 5), name="steps"), *stack]))
    with lstm_toolkit.fusable_lstms():
        model.export(tmp_path / "saved", verbose=False)
    report = lstm_toolkit.convert(tmp_path / "saved").report
    assert [(layer.name, layer.layer_class, layer.op) for layer in report.layers] == [
        ("one", "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"),
        ("gated.1", "GRU", "stock lowering"),
    ]
    assert report.max_abs_error < 1e-5


@pytest.mark.parametrize("export", ["export", "saved_model"])
@pytest.mark.parametrize("time", [7, None])
def test_a_saved_model_that_was_exported_as_fusable(tmp_path, export, time):
    model = keras_model(time)
    plain = model(np.ones((2, 7, 5), np.float32))
    with lstm_toolkit.fusable_lstms():
        if export == "export":
            model.export(tmp_path / "saved", verbose=False)
        else:
            tf.saved_model.save(model, str(tmp_path / "saved"))
    conversion = lstm_toolkit.convert(tmp_path / "saved", batch_size=3)
    check(model, conversion, batch=3, lstms=1, bidirectional=1)
    assert [layer.op for layer in conversion.report.layers] == [
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
    ]
    summary = lstm_toolkit.inspect(conversion)
    assert summary.inputs[0].shape == (3, time or -1, 5)
    assert summary.outputs[0].shape == (3, 3)
    again = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](tf.ones([2, 7, 5]))
    np.testing.assert_allclose(next(iter(again.values())), plain, atol=1e-6)


def test_a_concrete_function_that_was_traced_as_fusable():
    model = keras_model()
    with lstm_toolkit.fusable_lstms():
        function = tf.function(lambda steps: model(steps)).get_concrete_function(tf.TensorSpec([None, 7, 5]))
    check(model, lstm_toolkit.convert(function), batch=1, lstms=1, bidirectional=1)
    with pytest.raises(ConversionError, match="state, time_major must be settled when a function is traced"):
        lstm_toolkit.convert(function, time_major=True, state="carry")


def test_carried_state_of_an_export(tmp_path):
    model = randomized(keras.Sequential([keras.Input((None, 5)), keras.layers.LSTM(6, return_sequences=True)]))
    with lstm_toolkit.fusable_lstms(state="carry"):
        model.export(tmp_path / "saved", verbose=False)
    runner = lstm_toolkit.convert(tmp_path / "saved", verify=False).runner()
    x = np.random.default_rng(0).normal(size=(1, 9, 5)).astype(np.float32)
    chunks = [runner(x[:, :4]), runner(x[:, 4:])]
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), model(x), atol=1e-6)


def test_loops_that_are_baked_in_are_refused_with_the_remedy(tmp_path):
    model = keras_model()
    model.export(tmp_path / "open", verbose=False)
    fixed = keras.Sequential([keras.Input((7, 5), batch_size=2), keras.layers.LSTM(6)])
    fixed.export(tmp_path / "fixed", verbose=False)
    for name in ("open", "fixed"):
        with pytest.raises(ConversionError, match=r"loops.*with lstm_toolkit\.fusable_lstms"):
            lstm_toolkit.convert(tmp_path / name)


def test_folders_and_files_that_are_no_models_are_refused(tmp_path):
    with pytest.raises(InvalidModelError, match=r"has no saved_model\.pb"):
        lstm_toolkit.convert(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"hello")
    with pytest.raises(InvalidModelError, match="is not a SavedModel that TensorFlow can load"):
        lstm_toolkit.convert(tmp_path)
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\nhello")
    with pytest.raises(InvalidModelError, match="is not a model that Keras can load"):
        lstm_toolkit.convert(tmp_path / "model.h5")


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_code_in_a_file_is_not_run(ending, tmp_path):
    x = keras.Input((7, 5))
    keras.Model(x, keras.layers.LSTM(4)(keras.layers.Lambda(lambda t: t + 1)(x))).save(tmp_path / f"lambda.{ending}")
    with pytest.raises(ConversionError, match=r"needs code that is not in the file.*Lambda"):
        lstm_toolkit.convert(tmp_path / f"lambda.{ending}")


LEGACY = {
    "stacked": (lambda: [tf_keras.layers.LSTM(6, return_sequences=True, dropout=0.3), tf_keras.layers.LSTM(4)], 2, 0),
    "bidirectional": (lambda: [tf_keras.layers.Bidirectional(tf_keras.layers.LSTM(4, return_sequences=True))], 0, 1),
    "relu": (lambda: [tf_keras.layers.LSTM(4, activation="relu", recurrent_dropout=0.2)], 1, 0),
    "cells": (lambda: [tf_keras.layers.RNN([tf_keras.layers.LSTMCell(4), tf_keras.layers.LSTMCell(3)])], 2, 0),
    "masking": (lambda: [tf_keras.layers.Masking(9.0), tf_keras.layers.Bidirectional(tf_keras.layers.LSTM(4))], 0, 1),
}


@pytest.mark.parametrize("case", LEGACY)
def test_tf_keras_models(case):
    make, lstms, bidirectional = LEGACY[case]
    model = legacy_model(*make())
    check(model, lstm_toolkit.convert(model), batch=2, lstms=lstms, bidirectional=bidirectional)


def test_a_time_major_lstm_of_tf_keras_leaves_no_transpose():
    model = legacy_model(tf_keras.layers.LSTM(4, time_major=True, return_sequences=True), batch=7, time=3)
    conversion = lstm_toolkit.convert(model)
    check(model, conversion, batch=7, time=3, lstms=1)
    assert conversion.report.ops["TRANSPOSE"] == 0
    assert lstm_toolkit.inspect(conversion).lstm_nodes[0].layout == "time_major"


def test_a_stateful_model_of_tf_keras_carries():
    model = legacy_model(tf_keras.layers.LSTM(4, stateful=True, return_sequences=True))
    runner = lstm_toolkit.convert(model).runner()
    model.reset_states()
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(2, 7, 5)).astype(np.float32)
        np.testing.assert_allclose(runner(x), model(x), atol=1e-5)


def test_a_gru_of_tf_keras_is_refused():
    with pytest.raises(ConversionError, match=r"\(GRU\): it is not an LSTM"):
        lstm_toolkit.convert(legacy_model(tf_keras.layers.GRU(4)))


@pytest.mark.parametrize("units", [6, 2])
def test_a_saved_model_of_tf_keras_loses_its_clip_its_leak_and_its_sharing(tmp_path, units):
    """With 2 units the zero recurrent weights equal the zero state of batch 2, and the converter merges them."""
    model = legacy_model(tf_keras.layers.LSTM(units, return_sequences=True), tf_keras.layers.LSTM(4))
    kernel, recurrent_kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([8 * kernel, np.zeros_like(recurrent_kernel), bias])
    model.save(str(tmp_path / "saved"), save_format="tf")
    conversion = lstm_toolkit.convert(tmp_path / "saved", batch_size=2)
    check(model, conversion, batch=2, lstms=2)
    weights = lstm_toolkit.inspect(conversion).lstm_nodes[0].weights
    for name, expected in GateWeights.from_keras(model.layers[0]).operands():
        np.testing.assert_array_equal(getattr(weights, name), expected)
    assert [layer.name for layer in conversion.report.layers] == ["lstm", "lstm_call1"]
