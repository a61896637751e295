"""A recurrent call whose results nobody reads is not in the file, and stands in nobody's way."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers

import lstm_toolkit
from lstm_toolkit.errors import ConversionError
from tests.helpers.calls import assert_agrees, by_output
from tests.helpers.files import op_counts
from tests.helpers.forms import FORBIDDEN, UNI, check, functional
from tests.helpers.models import randomized

SIGNATURE = tf.TensorSpec([3, 7, 5], name="steps")
UNREAD = ("not in the file", "no output of the model depends on it")


def one_half(half: int) -> Any:
    steps = keras.Input((7, 5), name="steps")
    both = layers.Bidirectional(layers.LSTM(6, return_sequences=True, name="reader"), merge_mode=None)(steps)
    return randomized(keras.Model(steps, both[half]))


def dropped(library: Any, layer: Any, *, reads: Any = None) -> Any:
    """A subclassed model that computes a layer and does not use it."""

    class Dropping(library.Model):
        def __init__(self):
            super().__init__()
            self.dropped, self.lstm = layer, library.layers.LSTM(4, name="kept")

        def call(self, x):
            results = self.dropped(x)
            return self.lstm(x) + (0.0 if reads is None else tf.reduce_sum(results[reads]))

    model = Dropping()
    model(tf.zeros([3, 7, 5]))
    return randomized(model)


def assert_right(model: Any, conversion: Any) -> None:
    arrays = [np.random.default_rng(seed).normal(size=(3, 7, 5)).astype(np.float32) for seed in range(3)]
    assert_agrees(conversion.tflite, [{"steps": x} for x in arrays], [by_output(model(tf.constant(x))) for x in arrays])


@pytest.mark.parametrize(("half", "unread"), [(0, "backward_reader"), (1, "forward_reader")])
def test_one_half_of_two_directions(half, unread):
    model = one_half(half)
    check(model, {UNI: 1})
    found = {each.name: (each.op, each.reason) for each in lstm_toolkit.convert(model).report.layers}
    assert found.pop(unread) == UNREAD
    assert list(found.values()) == [(UNI, None)]


CASES = {
    "LSTM": (lambda: dropped(keras, layers.LSTM(6, name="dropped")), {}),
    "GRU, which has no fused op": (lambda: dropped(keras, layers.GRU(6, name="dropped")), {}),
    "GRU, kept": (lambda: dropped(keras, layers.GRU(6, name="dropped")), {"on_unsupported": "keep"}),
    "GRU, in plain ops": (lambda: dropped(keras, layers.GRU(6, name="dropped")), {"lowering": "unrolled"}),
    "stateful": (lambda: dropped(keras, layers.LSTM(6, stateful=True, name="dropped")), {}),
    "GRU of tf_keras": (lambda: dropped(tf_keras, tf_keras.layers.GRU(6, name="dropped")), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_that_is_computed_and_dropped(case):
    make, options = CASES[case]
    model = make()
    conversion = lstm_toolkit.convert(model, input_signature=SIGNATURE, **options)
    first, second = conversion.report.layers
    assert (first.name, first.op, first.reason) == ("dropped", *UNREAD)
    assert (second.name, second.reason) == ("kept", None)
    assert not FORBIDDEN & set(op_counts(conversion.tflite))
    assert_right(model, conversion)
    assert "not in the file" in str(conversion.report)


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_one_result_of_several_keeps_a_layer_in_the_file(reads):
    model = dropped(keras, layers.LSTM(6, return_state=True, name="dropped"), reads=reads)
    conversion = lstm_toolkit.convert(model, input_signature=SIGNATURE, verify=False)
    assert [each.op for each in conversion.report.layers] == [UNI, UNI]
    assert_right(model, conversion)


def test_explicit_states_are_results_that_are_read():
    model = dropped(keras, layers.LSTM(6, name="dropped"))
    conversion = lstm_toolkit.convert(model, input_signature=SIGNATURE, state="explicit")
    assert [each.op for each in conversion.report.layers] == [UNI, UNI]


def test_a_layer_that_is_read_and_has_no_fused_op_is_refused_as_ever():
    model = dropped(keras, layers.GRU(6, name="dropped"), reads=0)
    with pytest.raises(ConversionError, match=r"layer 'dropped' \(GRU\): it is not an LSTM"):
        lstm_toolkit.convert(model, input_signature=SIGNATURE)


def test_a_model_that_reads_none_of_its_recurrent_layers_is_refused():
    class Blind(keras.Model):
        def __init__(self):
            super().__init__()
            self.lstm, self.dense = layers.LSTM(6, name="unused"), layers.Dense(2)

        def call(self, x):
            self.lstm(x)
            return self.dense(x)

    message = r"no output of model 'blind' depends on its recurrent layers \['unused'\]"
    with pytest.raises(ConversionError, match=message):
        lstm_toolkit.convert(Blind(), input_signature=SIGNATURE)


def test_diagnose_says_nothing_of_a_layer_that_nobody_reads():
    steps = keras.Input((7, 5), batch_size=3)
    half, _ = layers.Bidirectional(layers.LSTM(6), backward_layer=layers.GRU(6, go_backwards=True), merge_mode=None)(
        steps
    )
    assert lstm_toolkit.diagnose(keras.Model(steps, half)) == ()
    assert lstm_toolkit.diagnose(functional(layers.GRU(4), batch=3))[0].code == "not-fusable"
