"""What is refused of recurrent layers and cells: what no fused op, or no plain ops, compute exactly."""

import functools
from typing import Any
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import lstm_toolkit
from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess
from tests.helpers.forms import functional
from tests.helpers.refusals import Refusal, exact, refused

SAMPLES = np.random.default_rng(25).normal(size=(20, 7, 5)).astype(np.float32)
INT8 = {"quantization": "int8", "representative_dataset": SAMPLES}


@functools.cache
def one(kind: str = "LSTM", **options: Any) -> Any:
    return functional(getattr(layers, kind)(6, name="one", **options))


def over_padding(kind: str = "LSTM", **options: Any) -> Any:
    return functional(layers.Masking(), getattr(layers, kind)(6, name="one", **options))


def jumping(x: Any) -> Any:
    """An activation that no op computes."""
    return tf.where(x > 0.0, x, -tf.ones_like(x))


class OwnCell(layers.LSTMCell):
    def call(self, inputs, states, training=False):
        output, states = super().call(inputs, states, training=training)
        return 2.0 * output, states


class InTraining(layers.Layer):
    def __init__(self, **options):
        super().__init__()
        self.inner = layers.LSTM(6, name="one", dropout=0.5)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x, **options):
        return self.inner(x, training=True)


def called_twice() -> Any:
    layer = layers.LSTM(6, name="one")
    return functional(lambda x: layers.Add()([layer(x), layer(2.0 * x)]))


def showing_c(*before: Any, gates: str = "tanh", states: bool = True) -> Any:
    layer = layers.LSTM(6, name="one", return_state=states, recurrent_activation=gates)
    return functional(*before, layer)


def of_keras_2(*, stateful: bool = True, given: bool = True) -> Any:
    import tf_keras

    x = tf_keras.Input((7, 5), batch_size=2, name="x")
    h, c = (tf_keras.Input((6,), batch_size=2, name=name) for name in "hc")
    layer = tf_keras.layers.LSTM(6, name="one", stateful=stateful)
    return tf_keras.Model([x, h, c], layer(x, initial_state=[h, c])) if given else tf_keras.Model(x, layer(x))


def rnn(*cells: Any) -> Any:
    return functional(layers.RNN(list(cells) if len(cells) > 1 else cells[0], name="one"))


def time_of_images() -> Any:
    x = keras.Input((4, 7, 5), name="images")
    return keras.Model(x, layers.ConvLSTM1D(4, 3, name="one")(x))


def crashing() -> None:
    """A quantizer that ends its process, as it does on loops, which are refused before."""
    ask = WorkerProcess.ask

    def crash(self: WorkerProcess, request: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(request, dict) and request.get("task") in ("calibrate", "quantize"):
            raise WorkerEndedError("SIGSEGV")
        return ask(self, request, *arguments, **options)

    with mock.patch.object(WorkerProcess, "ask", crash):
        lstm_toolkit.convert(one(), **INT8)


def instead(make: Any, *arguments: Any, **options: Any) -> Any:
    return lambda: exact(make(*arguments, **options))


PLAIN = {"lowering": "unrolled"}, {"lowering": "loop"}
KEEP = {"on_unsupported": "keep"}
NOT_AN_LSTM = "it is not an LSTM, and there is no fused op for a "

REFUSALS = [
    refused((NOT_AN_LSTM, "layer 'one' (GRU)", "GRUCell"), lambda: one("GRU"), {}, *PLAIN, KEEP, instead(one)),
    Refusal(
        ("TensorFlow's {} ended its own process: ", "quantizer", "SIGSEGV", 'quantization="dynamic" or "float16"'),
        crashing,
        lambda: exact(one(), quantization="dynamic"),
        lambda: exact(one(), quantization="float16"),
    ),
    Refusal(
        (
            "layers {} cannot be {}: their stock lowering is a loop",
            "'one'",
            "int8",
            'quantization="dynamic" or "float16"',
        ),
        lambda: lstm_toolkit.convert(one(activation=jumping), **INT8 | KEEP),
        lambda: exact(one(activation=jumping), quantization="dynamic", **KEEP),
        lambda: exact(one(activation=jumping), quantization="float16", **KEEP),
    ),
    refused((NOT_AN_LSTM, "layer 'one' (ConvLSTM1D)"), time_of_images, {}, KEEP, instead(one)),
    refused(
        ("its {} is {}, and {}, or lowering=", "layer 'one' (LSTM)", "activation is 'gelu'", "tanh, relu"),
        lambda: one(activation="gelu"),
        {},
        *PLAIN,
        KEEP,
        instead(one, activation="relu"),
    ),
    refused(
        ("its {} is {}, and {}", "recurrent activation is 'relu'", "sigmoid"),
        lambda: one(recurrent_activation="relu"),
        {},
        *PLAIN,
        KEEP,
        instead(one, recurrent_activation="sigmoid"),
    ),
    refused(
        ("its {} is {}, which is not among {}; use one of them", "'jumping'", "layer 'one' (LSTM)", "tanh"),
        lambda: one(activation=jumping),
        {"lowering": "unrolled"},
        KEEP,
        lambda: exact(one(activation="gelu"), lowering="unrolled"),
    ),
    refused(
        ("it overrides the computation of Keras's own layer ({}); ", "layer 'one' (RNN)", "OwnCell"),
        lambda: rnn(OwnCell(6)),
        {},
        KEEP,
        instead(lambda: rnn(layers.LSTMCell(6))),
    ),
    refused(
        ("it carries its state from call to call, and plain ops cannot; pass state=", "layer 'one' (LSTM)"),
        one,
        {"lowering": "loop", "state": "carry"},
        {"state": "explicit"},
    ),
    refused(
        ("it is called with training=True, so that its dropout differs from call to call; call it without", "'one'"),
        lambda: functional(InTraining()),
        {},
        instead(one, dropout=0.5),
        lambda: exact(functional(lambda x: layers.LSTM(6)(x, training=True))),
    ),
    refused(
        ("it carries its state and is called more than once", "layer 'one", "make it stateless"),
        called_twice,
        {"state": "carry"},
        instead(called_twice),
    ),
    refused(
        (
            "it is stateful and is given an initial_state, which tf_keras takes at the first call only",
            "drop one of them",
        ),
        of_keras_2,
        {},
        lambda: lstm_toolkit.convert(of_keras_2(stateful=False)),
        lambda: lstm_toolkit.convert(of_keras_2(given=False)),
    ),
    refused(
        ("it shows c after a mask, where c stands still only behind gates that shut", "'tanh'", "'sigmoid'"),
        lambda: showing_c(layers.Masking()),
        {"lowering": "unrolled"},
        lambda: exact(showing_c(layers.Masking(), gates="sigmoid"), lowering="unrolled"),
        lambda: exact(showing_c(), lowering="unrolled"),
        lambda: exact(showing_c(layers.Masking(), states=False), lowering="unrolled"),
    ),
    refused(
        (", and the fused op's float32; use float32", "layer 'one' (LSTM)", "its weights are float64"),
        lambda: one(dtype="float64"),
        {},
        instead(one),
    ),
    refused(
        ("it carries its state past the padding of a mask; pass state=", "layer 'one' (LSTM)"),
        over_padding,
        {"state": "carry"},
        {"state": "reset"},
        {"state": "explicit"},
    ),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_what_the_message_advises_helps(refusal):
    refusal.follow()
