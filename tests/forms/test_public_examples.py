"""Models in the shape of well-known public examples, on inputs of their real size."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import lstm_toolkit
from tests.helpers.calls import Arrays, assert_agrees
from tests.helpers.forms import BI, UNI, assert_ops, call
from tests.helpers.masks import blanked, mask_of

SEED = 20


def initialized(make: Callable[[], Any]) -> Any:
    """Keras's own initial weights, whose scale suits large layers, made as lively as trained ones where they are not.

    Initial embeddings are small and initial biases all alike, and a fresh softmax over thousands of classes is the same
    for any input.
    """
    keras.utils.set_random_seed(SEED)
    model, random = make(), np.random.default_rng(SEED)
    for variable in model.trainable_variables:
        if variable.name == "bias":
            variable.assign(variable + random.normal(0.0, 0.1, variable.shape))
        elif variable.name == "embeddings":
            variable.assign(variable * 20.0)
    last = [variable for variable in model.trainable_variables if variable.name == "kernel"][-1]
    last.assign(last * (25.0 if last.shape[-1] > 1000 else 5.0))
    return model


def tokens(seed: int, *shape: int, bound: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, bound, shape).astype(np.int32)


def floats(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 1.0, shape).astype(np.float32)


def imdb_classifier() -> Any:
    """keras.io/examples/nlp/bidirectional_lstm_imdb."""
    inputs = keras.Input((200,), dtype="int32", name="tokens")
    x = layers.Embedding(20000, 128)(inputs)
    x = layers.Bidirectional(layers.LSTM(64, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(64))(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def text_recognition() -> Any:
    """keras.io/examples/vision/captcha_ocr, without its loss layer."""
    image = keras.Input((200, 50, 1), name="image")
    x = layers.Conv2D(32, 3, activation="relu", kernel_initializer="he_normal", padding="same")(image)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, activation="relu", kernel_initializer="he_normal", padding="same")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Reshape((50, 12 * 64))(x)
    x = layers.Dropout(0.2)(layers.Dense(64, activation="relu")(x))
    x = layers.Bidirectional(layers.LSTM(128, return_sequences=True, dropout=0.25))(x)
    x = layers.Bidirectional(layers.LSTM(64, return_sequences=True, dropout=0.25))(x)
    return keras.Model(image, layers.Dense(21, activation="softmax")(x))


def translator(attention: str) -> Callable[[], Any]:
    """keras.io/examples/nlp/lstm_seq2seq, with dot-product attention between encoder and decoder."""

    def make() -> Any:
        source = keras.Input((30,), dtype="int32", name="source")
        target = keras.Input((25,), dtype="int32", name="target")
        encoded, *states = layers.LSTM(256, return_sequences=True, return_state=True)(
            layers.Embedding(5000, 128)(source)
        )
        decoder = layers.LSTM(256, return_sequences=True, return_state=True)
        decoded, *_ = decoder(layers.Embedding(4000, 128)(target), initial_state=states)
        if attention == "dot":
            weights = layers.Softmax()(layers.Dot(axes=2)([decoded, encoded]))
            context = layers.Dot(axes=(2, 1))([weights, encoded])
        else:
            context = layers.Attention()([decoded, encoded])
        x = layers.Dense(256, activation="tanh")(layers.Concatenate()([context, decoded]))
        return keras.Model([source, target], layers.Dense(4000, activation="softmax")(x))

    return make


def bidirectional_translator() -> Any:
    """tensorflow.org/text/tutorials/nmt_with_attention, with LSTMs: padded source, both directions in the encoder."""
    source = keras.Input((30,), dtype="int32", name="source")
    target = keras.Input((25,), dtype="int32", name="target")
    embedded = layers.Embedding(5000, 128, mask_zero=True)(source)
    both = layers.Bidirectional(layers.LSTM(128, return_sequences=True, return_state=True))
    encoded, fh, fc, bh, bc = both(embedded)
    start = [layers.Concatenate()([fh, bh]), layers.Concatenate()([fc, bc])]
    decoded = layers.LSTM(256, return_sequences=True)(layers.Embedding(4000, 96)(target), initial_state=start)
    context = layers.Attention(score_mode="dot")([decoded, encoded])
    return keras.Model([source, target], layers.Dense(4000)(layers.Concatenate()([decoded, context])))


def entity_tagger() -> Any:
    """A named-entity tagger over padded sentences."""
    words = keras.Input((75,), dtype="int32", name="words")
    x = layers.Embedding(10000, 100, mask_zero=True)(words)
    x = layers.Bidirectional(layers.LSTM(100, return_sequences=True, recurrent_dropout=0.1))(layers.Dropout(0.1)(x))
    return keras.Model(words, layers.TimeDistributed(layers.Dense(17, activation="softmax"))(x))


def weather_forecaster() -> Any:
    """keras.io/examples/timeseries/timeseries_weather_forecasting."""
    inputs = keras.Input((120, 7), name="weather")
    return keras.Model(inputs, layers.Dense(1)(layers.LSTM(32)(inputs)))


def autoencoder() -> Any:
    """An LSTM autoencoder, as for anomalies in series of sensor values."""
    inputs = keras.Input((30, 5), name="series")
    x = layers.LSTM(128, return_sequences=True)(inputs)
    x = layers.RepeatVector(30)(layers.LSTM(64)(x))
    x = layers.LSTM(128, return_sequences=True)(layers.LSTM(64, return_sequences=True)(x))
    return keras.Model(inputs, layers.TimeDistributed(layers.Dense(5))(x))


def character_model() -> Any:
    """keras.io/examples/generative/lstm_character_level_text_generation, stacked."""
    characters = keras.Input((40, 56), name="characters")
    x = layers.LSTM(128, return_sequences=True)(characters)
    x = layers.LSTM(128)(layers.Dropout(0.2)(x))
    return keras.Model(characters, layers.Dense(56, activation="softmax")(x))


def two_sentences(seed: int) -> Arrays:
    return {"source": tokens(seed, 1, 30, bound=5000), "target": tokens(seed + 10, 1, 25, bound=4000)}


def two_padded_sentences(seed: int) -> Arrays:
    arrays = two_sentences(seed)
    return arrays | {"source": blanked(arrays["source"], np.arange(30)[None] < (30, 12, 5)[seed])}


def one_hot(seed: int) -> Arrays:
    return {"characters": np.eye(56, dtype=np.float32)[tokens(seed, 1, 40, bound=56)]}


Example = tuple[Callable[[], Any], dict[str, int], Callable[[int], Arrays]]

EXAMPLES: dict[str, Example] = {
    "IMDB classifier": (imdb_classifier, {BI: 2}, lambda seed: {"tokens": tokens(seed, 1, 200, bound=20000)}),
    "text recognition": (text_recognition, {BI: 2}, lambda seed: {"image": np.abs(floats(seed, 1, 200, 50, 1))}),
    "translator with Dot": (translator("dot"), {UNI: 2}, two_sentences),
    "translator with Attention": (translator("layer"), {UNI: 2}, two_sentences),
    "translator, both directions": (bidirectional_translator, {BI: 1, UNI: 1}, two_padded_sentences),
    "entity tagger": (
        entity_tagger,
        {BI: 1},
        lambda seed: {"words": blanked(tokens(seed, 1, 75, bound=10000), np.arange(75)[None] < (75, 20, 1)[seed])},
    ),
    "weather forecaster": (weather_forecaster, {UNI: 1}, lambda seed: {"weather": floats(seed, 1, 120, 7)}),
    "autoencoder": (autoencoder, {UNI: 4}, lambda seed: {"series": floats(seed, 1, 30, 5)}),
    "character model": (character_model, {UNI: 2}, one_hot),
}


LARGE = ("IMDB classifier", "entity tagger")
"""Models that take seconds where TensorFlow runs them op by op, as `verify` does."""


def outputs(model: Any, calls: list[Arrays]) -> list[Arrays]:
    """What Keras computes, as one graph."""
    function = tf.function(lambda tensors: model(tensors), autograph=False)
    return [call(function, arrays) for arrays in calls]


@pytest.mark.parametrize("example", EXAMPLES)
def test_public_example(example):
    make, recurrent, inputs = EXAMPLES[example]
    model = initialized(make)
    conversion = lstm_toolkit.convert(model, verify=example not in LARGE)
    assert_ops(conversion.tflite, recurrent)
    assert all(layer.reason is None for layer in conversion.report.layers)
    calls = [inputs(seed) for seed in range(3)]
    expected = outputs(model, calls)
    # Outputs that do not depend on their inputs would agree whatever the file computes.
    name = next(iter(expected[0]))
    assert np.abs(expected[0][name] - expected[1][name]).max() > 1e-3
    assert_agrees(conversion.tflite, calls, expected, relative=True)


@pytest.mark.parametrize("example", LARGE)
def test_public_example_split_and_in_a_batch(example):
    make, recurrent, _ = EXAMPLES[example]
    model, length = initialized(make), EXAMPLES[example][2](0).popitem()[1].shape[1]
    conversion = lstm_toolkit.convert(model, batch_size=4, bidirectional="split", verify=False)
    assert_ops(conversion.tflite, {UNI: 2 * recurrent[BI]})
    name = model.inputs[0].name
    calls = [{name: blanked(tokens(seed, 4, length, bound=10000), mask_of(seed, 4, length))} for seed in range(3)]
    assert_agrees(conversion.tflite, calls, outputs(model, calls), relative=True)


def test_the_weather_forecaster_on_a_stream_of_unknown_length():
    """The same layers with open time, one model for a window and for single steps."""
    inputs = keras.Input((None, 7), name="weather")
    make = lambda: keras.Model(inputs, layers.Dense(1)(layers.LSTM(32, return_sequences=True)(inputs)))  # noqa: E731
    model = initialized(make)
    conversion = lstm_toolkit.convert(model, state="carry")
    assert_ops(conversion.tflite, {UNI: 1})
    runner, whole = conversion.runner(), floats(1, 1, 120, 7)
    outputs = [runner(whole[:, start:stop]) for start, stop in ((0, 60), (60, 61), (61, 120))]
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), model(whole), atol=1e-5)
