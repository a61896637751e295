"""Files are compared with the model itself, as its user calls it; what no file can be equal to is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lstm_toolkit
from lstm_toolkit.errors import ConversionError, ParityError
from lstm_toolkit.sources.keras_layers import RecurrentCalls
from tests.helpers.calls import assert_agrees, by_output
from tests.helpers.forms import UNI
from tests.helpers.models import randomized

LIBRARIES = [keras, tf_keras]
STEPS = [np.random.default_rng(seed).normal(size=(3, 7, 5)).astype(np.float32) for seed in range(3)]


def model_of(library, build, shape=(7, 5)):
    steps = library.Input(shape, batch_size=3, name="steps")
    model = randomized(library.Model(steps, build(steps, library.layers)))
    start(model)
    return model


def start(model):
    """Puts the states of stateful layers to zero."""
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) and getattr(layer, "states", None) is not None:
            for state in tf.nest.flatten(layer.states):
                state.assign(np.zeros(state.shape, np.float32))


def agree(conversion, model, calls=STEPS):
    assert_agrees(conversion.tflite, [{"steps": x} for x in calls], [by_output(model(tf.constant(x))) for x in calls])


class InTraining(keras.layers.Layer):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def build(self, shape):
        self.layer.build(shape)

    def call(self, x):
        return self.layer(x, training=True)


def wrapped(**dropout):
    return lambda x, layers: InTraining(layers.LSTM(4, name="lstm", **dropout))(x)


def called(**dropout):
    return lambda x, layers: layers.LSTM(4, name="lstm", **dropout)(x, training=True)


def cells(**dropout):
    return lambda x, layers: layers.RNN([layers.LSTMCell(4), layers.LSTMCell(3, **dropout)], name="lstm")(
        x, training=True
    )


IN_TRAINING = [
    (keras, wrapped, "dropout"),
    (keras, called, "recurrent_dropout"),
    (tf_keras, called, "dropout"),
    (tf_keras, cells, "recurrent_dropout"),
]


@pytest.mark.parametrize(("library", "make", "kind"), IN_TRAINING)
def test_dropout_that_stays_on_is_refused(library, make, kind):
    model = model_of(library, make(**{kind: 0.5}))
    for options in ({}, {"on_unsupported": "keep"}, {"lowering": "loop"}):
        with pytest.raises(
            ConversionError, match=r"layer 'lstm' .*: it is called with training=True.* set its dropout and"
        ):
            lstm_toolkit.convert(model, **options)


@pytest.mark.parametrize(("library", "make"), [(keras, wrapped), (tf_keras, cells)])
def test_training_without_dropout_changes_nothing(library, make):
    """The remedy: dropout of 0."""
    model = model_of(library, make())
    agree(lstm_toolkit.convert(model), model)


def random_layers(training):
    def build(x, layers):
        on = {"training": True} if training else {}
        x = layers.Dropout(0.5, name="sure")(layers.LSTM(6, return_sequences=True)(x))
        return layers.LSTM(4)(layers.GaussianNoise(0.5, name="noise")(layers.Dropout(0.5, name="drop")(x), **on))

    return build


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_layer_that_draws_random_numbers_is_refused_by_name(library):
    model = model_of(library, random_layers(training=True))
    with pytest.raises(ConversionError, match=r"layer 'noise' \(GaussianNoise\) draws random numbers"):
        lstm_toolkit.convert(model, on_unsupported="keep")


def test_without_training_it_draws_none():
    """The remedy: the layer is called without `training=True`."""
    model = model_of(keras, random_layers(training=False))
    agree(lstm_toolkit.convert(model), model)


@pytest.mark.parametrize("library", LIBRARIES)
def test_converting_leaves_the_model_as_it_was(library):
    """Dropout draws on seeds, normalization in training moves its averages, a stateful layer is within a stream."""

    def build(x, layers):
        x = layers.LSTM(4, stateful=True, return_sequences=True, dropout=0.5, name="stream")(x)
        return layers.BatchNormalization()(x, training=True)

    model = model_of(library, build)
    states = model.get_layer("stream").states
    for number, state in enumerate(states):
        state.assign(np.full(state.shape, 0.5 + number, np.float32))
    kept = [*states, *model.variables]
    before = [each.numpy() for each in kept]
    conversion = lstm_toolkit.convert(model)
    for variable, value in zip(kept, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert lstm_toolkit.inspect(conversion).lstm_nodes[0].state == "carry"
    start(model)
    agree(conversion, model)


def shared(x, layers):
    layer = layers.LSTM(4, stateful=True, name="shared")
    return layers.Add()([layer(x), layer(2.0 * x)])


def of_clips(x, layers):
    return layers.TimeDistributed(layers.LSTM(4, stateful=True, name="shared"))(x)


def chained():
    """A stateless layer, whose states go from call to call, and into the model and out of it."""
    steps = keras.Input((2, 7, 5), batch_size=3, name="steps")
    first = [keras.Input((4,), batch_size=3, name=name) for name in "hc"]
    layer, states, outputs = keras.layers.LSTM(4, return_state=True), first, []
    for number in range(2):
        output, *states = layer(steps[:, number], initial_state=states)
        outputs.append(output)
    return randomized(keras.Model([steps, *first], [*outputs, *states]))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("build", "shape"), [(shared, (7, 5)), (of_clips, (2, 7, 5))])
def test_a_stateful_layer_with_several_calls_is_refused(build, shape, library):
    model = model_of(library, build, shape)
    for options in ({}, {"on_unsupported": "keep"}):
        with pytest.raises(
            ConversionError, match=r"layer 'shared_call1' \(LSTM\): it carries its state and is called more"
        ):
            lstm_toolkit.convert(model, **options)


def test_a_stateless_layer_with_several_calls_cannot_be_made_to_carry():
    def build(x, layers):
        layer = layers.LSTM(4, name="shared")
        return layer(x) + layer(2.0 * x)

    with pytest.raises(ConversionError, match=r"it carries its state and is called more than once"):
        lstm_toolkit.convert(model_of(keras, build), state="carry")


def test_states_that_go_from_call_to_call_are_what_a_stateful_layer_does():
    """The remedy, compared with the stateful model that is refused."""
    model = chained()
    conversion = lstm_toolkit.convert(model)
    clips = [np.random.default_rng(seed).normal(size=(3, 2, 7, 5)).astype(np.float32) for seed in range(3)]
    stateful = model_of(keras, of_clips, (2, 7, 5))
    runner, states = conversion.runner(), [np.zeros((3, 4), np.float32)] * 2
    for x in clips:
        *outputs, h, c = runner(steps=x, h=states[0], c=states[1]).values()
        states = [h, c]
        np.testing.assert_allclose(np.stack(outputs, axis=1), stateful(x), atol=1e-5)


def test_the_check_compares_with_the_model_and_not_with_our_reading_of_it(monkeypatch):
    monkeypatch.setattr(RecurrentCalls, "is_again", lambda *_: False)
    with pytest.raises(ParityError, match="call 1"):
        lstm_toolkit.convert(model_of(keras, shared))


def test_a_stateful_layer_of_tf_keras_takes_an_initial_state_once():
    def build(x, layers, **stateful):
        return layers.LSTM(4, name="stream", **stateful)(x, initial_state=[x[:, 0, :4], x[:, 1, :4]])

    model = model_of(tf_keras, lambda x, layers: build(x, layers, stateful=True))
    with pytest.raises(
        ConversionError, match=r"layer 'stream' .* an initial_state, which tf_keras takes at the first call"
    ):
        lstm_toolkit.convert(model)
    remedied = model_of(tf_keras, build)
    agree(lstm_toolkit.convert(remedied), remedied)


def test_a_layer_that_is_kept_carries_nothing():
    def build(x, layers, *, stateful=True):
        x = layers.GRU(4, stateful=stateful, return_sequences=True, name="gated")(x)
        return layers.LSTM(3)(x)

    model = model_of(keras, build)
    for state in ("auto", "carry"):
        with pytest.raises(
            ConversionError, match=r'layer \'gated\' .*; or pass on_unsupported="keep" and state="reset"'
        ):
            lstm_toolkit.convert(model, on_unsupported="keep", state=state)
    conversion = lstm_toolkit.convert(model, on_unsupported="keep", state="reset")
    agree(conversion, model_of(keras, lambda x, layers: build(x, layers, stateful=False)))


def test_a_function_is_its_own_reference():
    model = model_of(keras, lambda x, layers: layers.LSTM(4, stateful=True, name="stream")(x))
    states = [state.numpy() for state in model.get_layer("stream").states]
    signature = [tf.TensorSpec([3, 7, 5], name="steps")]
    conversion = lstm_toolkit.convert(lambda x: 2.0 * model(x), input_signature=signature)
    for state, before in zip(model.get_layer("stream").states, states, strict=True):
        np.testing.assert_array_equal(state.numpy(), before)
    agree(conversion, lambda x: 2.0 * model(x))
    with pytest.raises(ConversionError, match="is called more than once"):
        lstm_toolkit.convert(lambda x: model(x) + model(2.0 * x), input_signature=signature)
    with pytest.raises(ConversionError, match=r"the function draws random numbers .*take the randomness out"):
        lstm_toolkit.convert(lambda x: model(x + tf.random.normal([7, 5])), input_signature=signature)
    assert conversion.report.ops[UNI] == 1
