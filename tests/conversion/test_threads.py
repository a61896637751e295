"""Several threads in the package at once, and threads that use Keras meanwhile; processes that are forked."""

import concurrent.futures
import gc
import inspect
import os
import subprocess
import sys
import threading
import warnings

import keras
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lstm_toolkit
from lstm_toolkit import models
from lstm_toolkit.benchmarking.plots import bars
from tests.helpers import fault_corpus
from tests.helpers.forms import functional
from tests.helpers.models import randomized

SECONDS = 60
"""After so long, a thread hangs."""


def elsewhere(function):
    """The result of a function, called in a thread of its own."""
    done = concurrent.futures.Future()

    def run():
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(SECONDS)


class Meanwhile:
    """What a layer of either library does that computes nothing: it has something done by another thread at each call.

    Attributes:
        task: what is done.
        thread: at whose calls; None for none.
    """

    task = thread = None

    def call(self, x):
        if threading.get_ident() == self.thread:
            elsewhere(self.task)
        return x


MEANWHILE = {library: type("Meanwhile", (Meanwhile, library.layers.Layer), {}) for library in (keras, tf_keras)}


def with_task(model, task):
    """A model whose layer that computes nothing has a task done at each call in this thread."""
    (layer,) = (each for each in model.layers if isinstance(each, Meanwhile))
    layer.task, layer.thread = task, threading.get_ident()
    return model


def shared_state():
    """What all threads of a process have in common."""
    classes = [getattr(library.layers, name) for library in (keras, tf_keras) for name in ("RNN", "LSTM", "GRU")]
    return {
        "stdout": sys.stdout,
        "stderr": os.fstat(2)[:2],
        "filters": list(warnings.filters),
        "shown": warnings.showwarning,
        "logger": (tf.get_logger().level, list(tf.get_logger().filters)),
        "environment": dict(os.environ),
        "classes": [dict(vars(cls)) for cls in (*classes, keras.layers.Layer, type(tf.function(print)))],
        "style": dict(matplotlib.rcParams),
        "optimizer": tf.config.optimizer.get_experimental_options(),
        "policy": keras.config.dtype_policy().name,
        "collects": gc.isenabled(),
    }


@pytest.mark.parametrize(
    ("library", "state"),
    [(keras, "auto"), (keras, "explicit"), (tf_keras, "auto")],
    ids=["keras", "keras, explicit", "tf_keras"],
)
def test_a_model_that_other_threads_call_meanwhile(library, state):
    """They get what they would get without the conversion, in the midst of it, and so does the converted file."""
    x, seen = np.random.default_rng(3).normal(size=(2, 5, 3)).astype(np.float32), []

    def made():
        layers = library.layers
        inputs = layers.Input(batch_shape=(2, 5, 3))
        hidden = layers.LSTM(4, return_sequences=True, stateful=True)(inputs)
        hidden = MEANWHILE[library]()(hidden)
        return randomized(library.Model(inputs, layers.LSTM(6, stateful=True)(hidden)), seed=1)

    def call():
        called = model.predict(x, verbose=0) if len(seen) % 2 else model(x)
        seen.append(np.asarray(called))

    model, twin = with_task(made(), call), made()
    conversion = lstm_toolkit.convert(model, state=state)
    assert conversion.report.max_abs_error < 1e-5
    assert conversion.report.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    call()
    call()
    assert len(seen) > 4
    for outputs in seen:
        # `predict` computes in another way than a call.
        np.testing.assert_allclose(outputs, np.asarray(twin(x)), atol=1e-4)


def test_layers_that_other_threads_train_meanwhile_drop_out_and_keep_their_dtypes():
    x, seen = np.random.default_rng(4).normal(size=(2, 5, 3)).astype(np.float16), []

    def made():
        inputs = keras.Input((5, 3), batch_size=2)
        options = {"return_sequences": True, "dtype": "mixed_float16", "seed": 5}
        hidden = keras.layers.LSTM(4, dropout=0.4, recurrent_dropout=0.3, **options)(inputs)
        hidden = MEANWHILE[keras]()(hidden)
        return randomized(keras.Model(inputs, keras.layers.LSTM(6, dropout=0.2, **options)(hidden)), seed=2)

    twin, model = made(), made()
    with_task(model, lambda: seen.append(model(x, training=True)))
    assert lstm_toolkit.convert(model, lowering="unrolled").report.max_abs_error < 1e-5
    assert len(seen) > 2
    for outputs in seen:
        wanted = twin(x, training=True)
        assert outputs.dtype == wanted.dtype == tf.float16
        np.testing.assert_array_equal(outputs, wanted)


def test_what_other_threads_trace_and_build_under_fusable_lstms_is_keras_own():
    spec = tf.TensorSpec([2, 5, 3])

    def traced(library):
        layer = library.layers.LSTM(4)
        layer.build((2, 5, 3))
        function = tf.function(lambda x: layer(x)).get_concrete_function(spec)
        signatures = [inspect.signature(layer.call), inspect.getfullargspec(layer.call)]
        return "tfl_fusable_op" in str(function.graph.as_graph_def()), signatures

    for library in (keras, tf_keras):
        usual = traced(library)
        with lstm_toolkit.fusable_lstms():
            assert elsewhere(lambda: traced(library)) == usual == (False, usual[1])  # noqa: B023 (called at once)
            assert traced(library)[0] is (library is keras)


def test_a_thread_that_waits_for_another_one_inside_fusable_lstms():
    model = models.unidirectional(time_steps=5, input_size=3, units=4)
    with lstm_toolkit.fusable_lstms():
        conversion = elsewhere(lambda: lstm_toolkit.convert(model))
    assert conversion.report.max_abs_error < 1e-5


class Counting(tf.Module):
    """Counts its calls in a variable, by way of functions of which TensorFlow keeps the traces."""

    def __init__(self):
        super().__init__()
        self.count = tf.Variable(0.0, trainable=False)
        self.lstm = keras.layers.LSTM(4)
        self.lstm.build((2, 5, 3))
        self.counted = tf.function(lambda: self.count.assign_add(1.0))

    @tf.function
    def __call__(self, x):
        return self.lstm(x) + 0.0 * self.counted()


@pytest.mark.parametrize("is_traced", [False, True])
def test_the_variables_of_a_model_are_left_alone(is_traced):
    """Also by functions that TensorFlow traced before; and what it traces meanwhile is right afterwards."""
    counting, x = Counting(), np.ones((2, 5, 3), np.float32)
    for _ in range(3 * is_traced):
        counting(x)
    conversion = lstm_toolkit.convert(counting, input_signature=[tf.TensorSpec([2, 5, 3])])
    assert conversion.report.max_abs_error < 1e-5
    assert float(counting.count) == 3 * is_traced
    np.testing.assert_allclose(counting(x), counting.lstm(x), atol=1e-6)
    assert float(counting.count) == 3 * is_traced + 1


def jobs():
    """Calls of everything that takes a model, and what tells whether their results are right."""
    plain, stateful = (
        models.unidirectional(time_steps=5, input_size=3, units=4),
        models.stateful(time_steps=5, input_size=3, units=4, batch_size=2),
    )
    half = functional(keras.layers.LSTM(4, dtype="mixed_float16"), time=5)
    inputs = tf_keras.Input((5, 3), batch_size=1)
    legacy = tf_keras.Model(inputs, tf_keras.layers.LSTM(4)(inputs))
    layer = keras.layers.LSTM(4)
    layer.build((1, 5, 3))
    samples = np.random.default_rng(5).normal(size=(30, 5, 3)).astype(np.float32)
    file, leaking = lstm_toolkit.convert(plain).tflite, fault_corpus.stock(legacy)
    signature = {"input_signature": [tf.TensorSpec([1, 5, 3])]}

    def exported():
        with lstm_toolkit.fusable_lstms():
            return tf.function(lambda x: layer(x), **signature).get_concrete_function()

    return {
        "fused": lambda: lstm_toolkit.convert(plain).tflite,
        "same model": lambda: lstm_toolkit.convert(plain, lowering="loop").tflite,
        "stateful": lambda: lstm_toolkit.convert(stateful).tflite,
        "half": lambda: lstm_toolkit.convert(half).tflite,
        "tf_keras": lambda: lstm_toolkit.convert(legacy).report.ops,
        "function": lambda: lstm_toolkit.convert(exported()).report.ops,
        "int8": lambda: lstm_toolkit.convert(plain, quantization="int8", representative_dataset=samples).tflite,
        "diagnose": lambda: list(lstm_toolkit.diagnose(stateful)),
        "repair": lambda: lstm_toolkit.repair(leaking).tflite,
        "compiled": lambda: lstm_toolkit.lower(file, form="unrolled"),
        "benchmark": lambda: sorted(each.name for each in lstm_toolkit.benchmark([file], runs=3, warmup=1).models),
        "predict": lambda: plain.predict(samples[:2], verbose=0).tolist(),
    }


def test_eight_threads_on_everything():
    every = jobs()
    alone = {name: job() for name, job in every.items()}
    before = shared_state()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        started = {name: pool.submit(job) for name, job in every.items()}
        together = {name: future.result(2 * SECONDS) for name, future in started.items()}
    assert together == alone
    for name, value in shared_state().items():
        assert value == before[name], name


def test_two_threads_leave_standard_error_and_the_style_as_they_are():
    file = lstm_toolkit.convert(models.unidirectional(time_steps=5, input_size=3, units=4), lowering="unrolled").tflite
    timings = lstm_toolkit.benchmark([file], runs=2, warmup=1).models
    with matplotlib.rc_context({"font.size": 23}):
        before = shared_state()
        tasks = [lambda: lstm_toolkit.Runner(file, runtime="compiled"), lambda: bars(timings)] * 8
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda task: task(), tasks, timeout=SECONDS))
        for name, value in shared_state().items():
            assert value == before[name], name


def started(way):
    command = [sys.executable, "-m", "tests.helpers.fork_worker", way]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_processes():
    """What TensorFlow cannot do there is refused, also by a package that is imported later; everything else works."""
    both = {way: started(way) for way in ("before", "after")}
    try:
        said = {way: process.communicate(timeout=2 * SECONDS)[0].splitlines() for way, process in both.items()}
    finally:
        for process in both.values():
            process.kill()
    refused = "ConversionError: TensorFlow was in use when this process was forked"
    assert [line.partition(";")[0] for line in said["before"]] == [f"after use: {refused}"]
    ops = "{'ZEROS_LIKE': 2, 'UNIDIRECTIONAL_SEQUENCE_LSTM': 1}"
    assert [line.partition(";")[0] for line in said["after"]] == [
        "first uses: 6",
        f"after import: {ops}",
        f"here: {ops}",
        "without TensorFlow: True",
        "standard error, locked: True",
        "without TensorFlow, locked: True",
        f"after use: {refused}",
        f"benchmark: {refused}",
        "here again: True",
    ]
