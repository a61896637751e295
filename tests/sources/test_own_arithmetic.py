"""Arithmetic of a user's own below the names of Keras's classes: refused by name, or kept; what is none is fused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lstm_toolkit
from lstm_toolkit.errors import ConversionError
from tests.helpers.calls import assert_agrees
from tests.helpers.files import op_counts
from tests.helpers.forms import UNI, call, draw
from tests.helpers.models import randomized

LIBRARIES = [keras, tf_keras]


def model_of(library, *layers, time=7):
    x = inputs = library.Input((time, 5), batch_size=3, name="steps")
    for layer in layers:
        x = layer(x)
    return randomized(library.Model(inputs, x))


def check(model, *, recurrent, oracle=None, **options):
    conversion = lstm_toolkit.convert(model, verify=False, **options)
    counts = op_counts(conversion.tflite)
    assert {name: counts[name] for name in (UNI, "WHILE")} == recurrent
    calls = [draw(keras_shaped(model), batch=3, time=7, seed=seed) for seed in range(3)]
    assert_agrees(conversion.tflite, calls, [call(oracle or model, arrays) for arrays in calls])
    return conversion


class keras_shaped:
    """The inputs of a model of either library, under their plain names."""

    def __init__(self, model):
        names = [tensor.name for tensor in model.inputs]
        self.inputs = [keras.KerasTensor(each.shape, name=name) for each, name in zip(model.inputs, names, strict=True)]


def gates(layers):
    class Halved(layers.LSTMCell):
        def _compute_carry_and_output_fused(self, z, c_tm1):
            c, o = super()._compute_carry_and_output_fused(z, c_tm1)
            return 0.5 * c, o

    return layers.RNN(Halved(4), return_sequences=True)


def start_of_a_cell(layers):
    class Started(layers.LSTMCell):
        def get_initial_state(self, *args, **options):
            return [each + 1.0 for each in super().get_initial_state(*args, **options)]

    return layers.RNN([layers.LSTMCell(3), Started(4)], return_sequences=True)


def start_of_a_layer(layers):
    class Started(layers.LSTM):
        def get_initial_state(self, *args, **options):
            return [each + 1.0 for each in super().get_initial_state(*args, **options)]

    return Started(4, return_sequences=True)


def stack(layers):
    class Doubled(layers.StackedRNNCells):
        def call(self, *args, **options):
            outputs, states = super().call(*args, **options)
            return 2.0 * outputs, states

    return layers.RNN(Doubled([layers.LSTMCell(3), layers.LSTMCell(4)]), return_sequences=True)


def call_of_a_cell(layers):
    class Doubled(layers.LSTMCell):
        def __call__(self, *args, **options):
            outputs, states = super().__call__(*args, **options)
            return 2.0 * outputs, states

    return layers.RNN(Doubled(4), return_sequences=True)


def on_the_object(layers):
    cell = layers.LSTMCell(4)
    computed = cell.call

    def doubled(*args, **options):
        outputs, states = computed(*args, **options)
        return 2.0 * outputs, states

    cell.call = doubled
    return layers.RNN(cell, return_sequences=True)


def behind_the_known_class(layers):
    class Started(layers.RNN):
        def get_initial_state(self, *args, **options):
            return [each + 1.0 for each in super().get_initial_state(*args, **options)]

    class Mixed(layers.LSTM, Started):
        pass

    return Mixed(4, return_sequences=True)


OWN = {
    "Halved._compute_carry_and_output_fused": (gates, "use Keras's own LSTMCell"),
    "Started.get_initial_state": (start_of_a_cell, "give the call its states as initial_state"),
    "Started.get_initial_state, layer": (start_of_a_layer, "give the call its states as initial_state"),
    "Started.get_initial_state, behind": (behind_the_known_class, "give the call its states as initial_state"),
    "Doubled.call": (stack, "use Keras's own StackedRNNCells"),
    "Doubled.__call__": (call_of_a_cell, "use Keras's own LSTMCell"),
    "LSTMCell.call": (on_the_object, "use Keras's own LSTMCell"),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("method", OWN)
def test_arithmetic_below_call_is_refused_by_its_name(method, library):
    make, remedy = OWN[method]
    model = model_of(library, make(library.layers), library.layers.LSTM(3, name="fine"))
    for lowering in ("fused", "loop"):
        with pytest.raises(ConversionError) as raised:
            lstm_toolkit.convert(model, lowering=lowering)
        assert f"own layer ({method.split(',')[0]}); {remedy}" in str(raised.value)
        assert 'on_unsupported="keep"' in str(raised.value)
        assert "fine" not in str(raised.value)


@pytest.mark.parametrize("library", LIBRARIES)
def test_arithmetic_of_ones_own_is_kept_on_request(library):
    own = [gates, stack, on_the_object] if library is tf_keras else [start_of_a_cell, start_of_a_layer, call_of_a_cell]
    parts = [make(library.layers) for make in own]
    conversion = check(
        model_of(library, *parts, library.layers.LSTM(3)), recurrent={UNI: 1, "WHILE": 3}, on_unsupported="keep"
    )
    assert [each.op for each in conversion.report.layers] == [*["stock lowering"] * 3, UNI]


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_adds_no_arithmetic_below_call_is_fused(library):
    layers = library.layers

    class Sized(layers.LSTMCell):
        def __init__(self, units, note="", **options):
            super().__init__(units, **options)
            self.note = note

        def build(self, shape):
            super().build(shape)
            self.size = shape[-1]

        def get_config(self):
            return super().get_config() | {"note": self.note}

        def describe(self):
            return f"{self.size} to {self.units}"

    class Scaled(layers.LSTM):
        def __init__(self, units, scale=2.0, **options):
            super().__init__(units, **options)
            self.scale = scale

        def call(self, sequences, initial_state=None, mask=None, training=False):
            return self.scale * super().call(sequences, initial_state=initial_state, mask=mask, training=training)

        def compute_output_shape(self, shape, *others):
            return super().compute_output_shape(shape, *others)

        def compute_mask(self, *args, **options):
            return super().compute_mask(*args, **options)

    check(
        model_of(library, layers.RNN([Sized(6), Sized(4)], return_sequences=True), Scaled(3)),
        recurrent={UNI: 3, "WHILE": 0},
    )


def test_a_start_of_ones_own_as_initial_state_is_exact():
    """The remedy for a `get_initial_state`, here one that is learned."""

    class Learned(keras.layers.Layer):
        def build(self, shape):
            self.start = self.add_weight(shape=(2, 4), initializer="ones")

        def call(self, x):
            return [tf.repeat(each[tf.newaxis], tf.shape(x)[0], axis=0) for each in tf.unstack(self.start)]

    steps = keras.Input((7, 5), batch_size=3, name="steps")
    model = randomized(keras.Model(steps, keras.layers.LSTM(4)(steps, initial_state=Learned()(steps))))
    check(model, recurrent={UNI: 1, "WHILE": 0})


def test_a_model_that_tf_keras_has_saved_is_fused(tmp_path):
    """Saving leaves bound methods on the layers, which are the classes' own."""
    layers = tf_keras.layers
    model = model_of(tf_keras, layers.LSTM(6, return_sequences=True), layers.RNN([layers.LSTMCell(4)]))
    model.save(str(tmp_path / "saved"), save_format="tf")
    assert "call" in vars(model.layers[1])
    check(model, recurrent={UNI: 2, "WHILE": 0})
    assert "call" in vars(model.layers[1])


def test_a_lingvo_cell_with_arithmetic_of_its_own_is_refused_by_name():
    class Doubled(lstm_toolkit.lingvo.LSTMCellSimple):
        def step_with(self, *args, **options):
            m, c = super().step_with(*args, **options)
            return 2.0 * m, c

    cell = Doubled(num_input_nodes=5, num_output_nodes=4)
    with pytest.raises(ConversionError, match=r"Lingvo's cell \(Doubled\.step_with\); use LSTMCellSimple"):
        lstm_toolkit.convert(lstm_toolkit.lingvo.RNN(cell))


def test_a_lingvo_rnn_with_a_call_of_its_own_is_called_as_it_is():
    class Doubled(lstm_toolkit.lingvo.RNN):
        def __call__(self, inputs):
            return 2.0 * super().__call__(inputs)

    rnn = Doubled(lstm_toolkit.lingvo.LSTMCellSimple(num_input_nodes=5, num_output_nodes=4, seed=3))
    conversion = lstm_toolkit.convert(rnn, input_signature=[tf.TensorSpec([3, 7, 5], name="steps")])
    assert op_counts(conversion.tflite)[UNI] == 1
    calls = [{"steps": np.random.default_rng(seed).normal(size=(3, 7, 5)).astype(np.float32)} for seed in range(3)]
    assert_agrees(conversion.tflite, calls, [{"output_0": np.asarray(rnn(each["steps"]))} for each in calls])
