"""`TimeDistributed` is one call of its layer, with the steps in the batch, wherever that is the same."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lstm_toolkit
from lstm_toolkit.errors import ConversionError
from tests.helpers.calls import assert_agrees, by_output
from tests.helpers.files import op_counts
from tests.helpers.forms import FORBIDDEN, UNI
from tests.helpers.models import randomized

BATCH = 3
LIBRARIES = {"keras": keras, "tf_keras": tf_keras}
STEP_BY_STEP = FORBIDDEN | {"TRANSPOSE", "SPLIT", "UNPACK", "PACK", "CONCATENATION"}


@keras.saving.register_keras_serializable("tests")
class Own(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="ones")

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        return keras.ops.softplus(x) * self.scale


class OwnOfKeras2(tf_keras.layers.Layer):
    def call(self, x):
        return tf.math.softplus(x) * 0.7


class Mixing(keras.layers.Layer):
    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


class Counting(keras.layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), name="count", initializer="zeros", trainable=False)

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        self.count.assign(self.count + 1.0)
        return x * self.count


class Encoder(keras.Model):
    """Subclassed, with a recurrent layer; it is built only when it is called."""

    def __init__(self):
        super().__init__()
        self.lstm, self.dense = keras.layers.LSTM(4), keras.layers.Dense(2)

    def compute_output_shape(self, shape):
        return (shape[0], 2)

    def call(self, x):
        return self.dense(self.lstm(x))


def with_weights(model: Any) -> Any:
    for variable in randomized(model).weights:
        if "variance" in variable.name:
            variable.assign(0.5 + np.abs(variable.numpy()))
    return model


def tagger(library: Any, layer: Any, time: int | None, *, masked: bool = False) -> Any:
    steps = x = library.Input((time, 5), name="steps")
    if masked:
        x = library.layers.Masking()(x)
    x = library.layers.LSTM(6, return_sequences=True)(x)
    return with_weights(library.Model(steps, library.layers.TimeDistributed(layer)(x)))


def video(library: Any, time: int | None) -> Any:
    L = library.layers
    frames = x = library.Input((time, 8, 9, 2), name="steps")
    for layer in (L.Conv2D(3, 3, activation="relu"), L.BatchNormalization(), L.MaxPooling2D(), L.Flatten()):
        x = L.TimeDistributed(layer)(x)
    return with_weights(library.Model(frames, L.LSTM(4)(x)))


def submodel(library: Any) -> Any:
    L = library.layers
    return library.Sequential([L.Dense(4, activation="relu"), L.BatchNormalization(), L.Dense(2)])


def nested(library: Any, time: int | None) -> Any:
    L = library.layers
    rows = library.Input((time, 6, 5), name="steps")
    x = L.TimeDistributed(L.TimeDistributed(L.Dense(2, activation="tanh")))(rows)
    return with_weights(library.Model(rows, L.LSTM(3)(L.TimeDistributed(L.Flatten())(x))))


def padded_steps(model: Any, seed: int, time: int, lengths: tuple[int, ...] | None = None) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(BATCH, time, *model.inputs[0].shape[2:])).astype(np.float32)
    for row, length in zip(x, lengths or (), strict=bool(lengths)):
        row[length:] = 0
    return x


def check(model: Any, *, time: int | None, masked: bool = False, absent: set[str] = STEP_BY_STEP) -> Any:
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, verify=False)
    lengths = ((2, 7, 4), (7, 0, 5), (6, 1, 3)) if masked else (None, None, None)
    times = (7, 7, 7) if time else (9, 7, 12)
    arrays = [
        padded_steps(model, seed, steps, each) for seed, (steps, each) in enumerate(zip(times, lengths, strict=True))
    ]
    expected = [by_output(model(tf.constant(x))) for x in arrays]
    assert_agrees(conversion.tflite, [{"steps": x} for x in arrays], expected)
    assert not absent & set(op_counts(conversion.tflite))
    return conversion


@pytest.mark.parametrize("time", [7, None])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_dense_layer_is_one_op(library, time):
    layer = LIBRARIES[library].layers.Dense(3, activation="softmax")
    counts = op_counts(check(tagger(LIBRARIES[library], layer, time), time=time).tflite)
    assert counts["FULLY_CONNECTED"] == counts["SOFTMAX"] == counts[UNI] == 1
    assert sum(counts.values()) == (6 if time else 7)


def test_the_number_of_steps_does_not_change_the_number_of_ops():
    short, long = (
        lstm_toolkit.convert(tagger(keras, submodel(keras), time), verify=False).report.ops for time in (7, 100)
    )
    assert short == long


FORMS = {
    "video, open": (lambda: video(keras, None), None),
    "video": (lambda: video(keras, 7), 7),
    "video of tf_keras, open": (lambda: video(tf_keras, None), None),
    "submodel, open": (lambda: tagger(keras, submodel(keras), None), None),
    "own layer, open": (lambda: tagger(keras, Own(), None), None),
    "own layer of tf_keras": (lambda: tagger(tf_keras, OwnOfKeras2(), 7), 7),
    "own layer of tf_keras, open": (lambda: tagger(tf_keras, OwnOfKeras2(), None), None),
    "nested": (lambda: nested(keras, 7), 7),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_layers_are_called_once(form):
    make, time = FORMS[form]
    check(make(), time=time)


def test_a_layer_over_two_open_axes():
    check(nested(keras, None), time=None, absent=FORBIDDEN | {"TRANSPOSE", "SPLIT", "UNPACK"})


@pytest.mark.parametrize("time", [7, None])
def test_a_mask_that_goes_past_a_layer_is_no_reason_for_steps(time):
    layer = keras.layers.Dense(3, activation="softmax")
    counts = op_counts(check(tagger(keras, layer, time, masked=True), time=7, masked=True, absent=FORBIDDEN).tflite)
    assert counts["FULLY_CONNECTED"] == counts["SOFTMAX"] == 1


def test_a_mask_is_given_to_a_layer_that_takes_it():
    sentences = keras.Input((4, 7), dtype="int32", name="steps")
    x = keras.layers.Embedding(11, 5, mask_zero=True)(sentences)
    model = keras.Model(sentences, keras.layers.TimeDistributed(keras.layers.LSTM(3))(x))
    with_weights(model)
    arrays = [np.random.default_rng(seed).integers(1, 11, (BATCH, 4, 7)).astype(np.int32) for seed in range(3)]
    for number, each in enumerate(arrays):
        for words, length in zip(each.reshape(-1, 7), np.arange(12) % 7 + number, strict=True):
            words[length:] = 0
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, verify=False)
    assert_agrees(conversion.tflite, [{"steps": x} for x in arrays], [by_output(model(x)) for x in arrays])
    assert op_counts(conversion.tflite)[UNI] == 1


def test_a_subclassed_model_with_a_recurrent_layer():
    clips = keras.Input((4, 6, 5), name="steps")
    model = keras.Model(clips, keras.layers.TimeDistributed(Encoder())(clips))
    model(tf.zeros([1, 4, 6, 5]))
    with_weights(model)
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, verify=False)
    arrays = [padded_steps(model, seed, 4) for seed in range(3)]
    assert_agrees(conversion.tflite, [{"steps": x} for x in arrays], [by_output(model(x)) for x in arrays])
    assert [(each.layer_class, each.op) for each in conversion.report.layers] == [("LSTM", UNI)]


def test_several_inputs_of_tf_keras():
    L = tf_keras.layers
    left, right = (tf_keras.Input((5,)) for _ in range(2))
    joined = tf_keras.Model([left, right], L.Dense(4)(L.Multiply()([left, right])))
    many, more = (tf_keras.Input((None, 5), name=name) for name in ("many", "more"))
    model = with_weights(tf_keras.Model([many, more], L.LSTM(3)(L.TimeDistributed(joined)([many, more]))))
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, verify=False)
    random = np.random.default_rng(0)
    calls = [
        {name: random.normal(size=(BATCH, time, 5)).astype(np.float32) for name in ("many", "more")}
        for time in (7, 4, 9)
    ]
    assert_agrees(conversion.tflite, calls, [by_output(model([each["many"], each["more"]])) for each in calls])


@pytest.mark.parametrize("layer", [Mixing, Counting])
def test_a_layer_that_looks_at_other_rows_or_keeps_a_state_is_called_step_by_step(layer):
    model = tagger(keras, layer(), 7)
    before = [variable.numpy() for variable in model.variables]
    counts = lstm_toolkit.convert(model, batch_size=BATCH, verify=False).report.ops
    assert counts["PACK"] == 1
    assert counts["STRIDED_SLICE"] >= 7
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    if layer is Mixing:
        check(model, time=7, absent=FORBIDDEN)


@pytest.mark.parametrize("layer", [Mixing, Counting])
def test_such_a_layer_over_open_steps_is_refused_and_its_remedy_works(layer):
    model = tagger(keras, layer(), None)
    with pytest.raises(ConversionError, match=rf"its {layer.__name__} does not compute each row.*; pass time_steps"):
        lstm_toolkit.convert(model, batch_size=BATCH, verify=False)
    lstm_toolkit.convert(model, batch_size=BATCH, time_steps=7)


def test_open_steps_of_a_recurrent_layer_are_refused_and_the_remedy_works():
    clips = keras.Input((None, 6, 5), name="steps")
    model = with_weights(keras.Model(clips, keras.layers.TimeDistributed(keras.layers.LSTM(4))(clips)))
    with pytest.raises(ConversionError, match=r"the batch is open, since .*; pass time_steps"):
        lstm_toolkit.convert(model, verify=False)
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, time_steps=4, verify=False)
    arrays = [padded_steps(model, seed, 4)[..., :5] for seed in range(3)]
    assert_agrees(conversion.tflite, [{"steps": x} for x in arrays], [by_output(model(x)) for x in arrays])


def test_an_export_folds_too(tmp_path):
    model = tagger(keras, keras.layers.Dense(3), None)
    with lstm_toolkit.fusable_lstms():
        model.export(tmp_path / "saved", verbose=False)
    conversion = lstm_toolkit.convert(tmp_path / "saved", batch_size=BATCH, verify=False)
    arrays = [padded_steps(model, seed, time) for seed, time in enumerate((7, 9, 4))]
    assert_agrees(conversion.tflite, [{"steps": x} for x in arrays], [by_output(model(x)) for x in arrays])
    assert not (FORBIDDEN | {"TRANSPOSE"}) & set(op_counts(conversion.tflite))
