"""Models and functions that were not called yet, or were traced before; and ops of Keras behind them."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers, ops

import lstm_toolkit
from tests.helpers.calls import assert_agrees, by_output
from tests.helpers.files import op_counts
from tests.helpers.forms import FORBIDDEN, UNI, OneInput
from tests.helpers.models import randomized

SIGNATURE = tf.TensorSpec([3, 7, 5], name="steps")


def steps(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, 7, 5)).astype(np.float32)


def check(model: Any, **options: Any) -> Any:
    """Converts a model first, and only then calls it."""
    conversion = lstm_toolkit.convert(model, verify=False, **options)
    calls = [{"steps": steps(seed)} for seed in range(3)]
    assert_agrees(conversion.tflite, calls, [by_output(model(tf.constant(each["steps"]))) for each in calls])
    assert not (FORBIDDEN - {"IF"}) & set(op_counts(conversion.tflite))
    assert [each.op for each in conversion.report.layers] == [UNI]
    return conversion


class Traced(keras.Model):
    """Its `call` is a `tf.function`, with a branch that AutoGraph has to convert."""

    def __init__(self):
        super().__init__()
        self.lstm, self.dense = layers.LSTM(6, return_sequences=True), layers.Dense(2)

    @tf.function
    def call(self, x):
        if tf.reduce_sum(x) > 0.0:
            x = 0.5 * x
        return self.dense(self.lstm(x))


class TracedOfKeras2(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.lstm, self.dense = tf_keras.layers.LSTM(6), tf_keras.layers.Dense(2)

    @tf.function
    def call(self, x):
        return self.dense(self.lstm(x))


def built(model: Any) -> Any:
    """Gives a model its weights outside of its `tf.function`: one that makes them inside reads no later values."""
    model.lstm.build((3, 7, 5))
    model.dense.build((3, 6))
    return model


UNBUILT = {
    "subclassed": OneInput,
    "sequential": lambda: keras.Sequential([layers.LSTM(6), layers.Dense(2)]),
    "layer": lambda: layers.LSTM(6),
    "tf_keras": lambda: tf_keras.Sequential([tf_keras.layers.LSTM(6), tf_keras.layers.Dense(2)]),
    "tf.function": Traced,
}


@pytest.mark.parametrize("model", UNBUILT)
def test_a_model_that_is_not_built_yet(model):
    check(UNBUILT[model](), input_signature=SIGNATURE)


def test_a_stateful_model_that_is_built_by_its_conversion_starts_from_zero():
    model = keras.Sequential([layers.LSTM(6, stateful=True)])
    conversion = lstm_toolkit.convert(model, input_signature=SIGNATURE)
    assert all(not state.numpy().any() for state in model.layers[0].states)
    runner = conversion.runner()
    for seed in range(3):
        np.testing.assert_allclose(runner(steps(seed)), model(steps(seed)), atol=1e-5)


@pytest.mark.parametrize("model", [Traced, TracedOfKeras2])
def test_a_call_that_was_traced_before_is_traced_anew_and_left_as_it_was(model):
    traced = built(model())
    traced(tf.constant(steps(0)))
    randomized(traced)
    count = traced.call.experimental_get_tracing_count()
    before = traced(tf.constant(steps(1)))
    check(traced, input_signature=SIGNATURE)
    assert traced.call.experimental_get_tracing_count() == count
    np.testing.assert_array_equal(traced(tf.constant(steps(1))), before)


@pytest.mark.parametrize("state", ["carry", "explicit"])
def test_a_state_comes_out_of_a_call_that_is_a_function(state):
    model = built(Traced())
    model(tf.constant(steps(0)))
    conversion = lstm_toolkit.convert(randomized(model), input_signature=SIGNATURE, state=state)
    assert conversion.report.max_abs_error < 1e-6


class Module(tf.Module):
    def __init__(self, inner: Any):
        super().__init__()
        self.inner = inner
        self.inner(tf.zeros([3, 7, 5]))

    @tf.function(input_signature=[SIGNATURE])
    def __call__(self, x):
        return self.inner(x)


@pytest.mark.parametrize("called", [False, True])
def test_a_module_knows_its_inputs_by_the_signature_of_its_call(called):
    module = Module(built(Traced()) if called else OneInput())
    randomized(module.inner)
    if called:
        module(tf.constant(steps(0)))
    check(module)


def test_a_function_that_was_converted_is_not_left_marked():
    lstm = randomized(keras.Sequential([keras.Input((7, 5), batch_size=3), layers.LSTM(6)]))
    function = tf.function(lambda x: lstm(x), input_signature=[SIGNATURE])
    lstm_toolkit.convert(function, verify=False)
    marked = [op for op in function.get_concrete_function().graph.get_operations() if "recurrent_" in op.name]
    assert not marked


def test_an_export_traces_a_call_anew(tmp_path):
    inner = built(Traced())
    inner(tf.constant(steps(0)))
    x = keras.Input((7, 5), batch_size=3, name="steps")
    model = randomized(keras.Model(x, inner(x)))
    with lstm_toolkit.fusable_lstms():
        model.export(tmp_path / "saved", verbose=False)
    conversion = lstm_toolkit.convert(tmp_path / "saved", batch_size=3, verify=False)
    calls = [{"steps": steps(seed)} for seed in range(3)]
    assert_agrees(conversion.tflite, calls, [by_output(model(each["steps"])) for each in calls])
    assert op_counts(conversion.tflite)[UNI] == 1


BEHIND = {
    "argmax": lambda x: ops.argmax(x, axis=-1),
    "argmin": lambda x: ops.argmin(x, axis=1, keepdims=True),
    "one_hot(argmax)": lambda x: ops.one_hot(ops.argmax(x, axis=-1), 6),
}
HAS_SIGNS = hasattr(ops, "signbit")  # Keras 3.9 and later
if HAS_SIGNS:
    BEHIND["signbit"] = lambda x: ops.cast(ops.signbit(x), "int32")


def test_ops_of_keras_that_take_the_sign_bit():
    x = keras.Input((None, 5), name="steps")
    y = layers.LSTM(6, return_sequences=True)(x)
    model = randomized(keras.Model(x, {name.strip("()"): behind(y) for name, behind in BEHIND.items()}))
    conversion = lstm_toolkit.convert(model, batch_size=3, verify=False)
    calls = [{"steps": steps(seed)[:, :time]} for seed, time in enumerate((7, 3, 5))]
    assert_agrees(conversion.tflite, calls, [by_output(model(each["steps"])) for each in calls])


def test_the_sign_of_zero_counts_as_in_keras():
    """Keras's argmax takes -0.0 for less than 0.0, from 3.9 on."""
    x = keras.Input((2, 5), batch_size=1, name="steps")
    y = layers.LSTM(3, return_sequences=True, kernel_initializer="zeros", recurrent_initializer="zeros")(x)
    signs = np.array([-1.0, 1.0, -1.0], np.float32)
    model = keras.Model(x, ops.argmax(y * signs, axis=-1))
    runner = lstm_toolkit.convert(model).runner()
    given = np.ones([1, 2, 5], np.float32)
    np.testing.assert_array_equal(runner(given), model(given))
    np.testing.assert_array_equal(runner(given), [[1, 1]] if HAS_SIGNS else [[0, 0]])
