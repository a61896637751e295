"""Ten kinds of model that people put on microcontrollers, small and with random weights, and inputs for them."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from tests.helpers.models import randomized

TIME, INPUTS, TOKENS = 9, 5, 11


def keyword_tagger() -> Any:
    """A label for each token."""
    tokens = keras.Input((TIME,), dtype="int32", name="tokens")
    x = layers.LSTM(6, return_sequences=True)(layers.Embedding(TOKENS, 4)(tokens))
    return keras.Model(tokens, layers.TimeDistributed(layers.Dense(3, activation="softmax"))(x))


def autoencoder() -> Any:
    return _of_steps(
        layers.LSTM(6),
        layers.RepeatVector(TIME),
        layers.LSTM(7, return_sequences=True),
        layers.TimeDistributed(layers.Dense(INPUTS)),
    )


def masked_sensor() -> Any:
    """Steps that are 0 in all channels are left out."""
    return _of_steps(layers.Masking(), layers.LSTM(6), layers.Dense(3, activation="softmax"))


def gru_classifier() -> Any:
    return _of_steps(layers.GRU(6), layers.Dense(3, activation="softmax"))


def stacked_gru() -> Any:
    return _of_steps(layers.GRU(6, return_sequences=True), layers.GRU(4), layers.Dense(3))


def relu_lstm() -> Any:
    return _of_steps(layers.LSTM(6, activation="relu"), layers.Dense(3))


def bidirectional() -> Any:
    return _of_steps(layers.Bidirectional(layers.LSTM(6)), layers.Dense(3, activation="softmax"))


def convolution() -> Any:
    return _of_steps(
        layers.Conv1D(7, 3, padding="same", activation="relu"),
        layers.MaxPooling1D(2),
        layers.LSTM(6),
        layers.Dense(3, activation="softmax"),
    )


def layer_normalization() -> Any:
    return _of_steps(
        layers.LSTM(6, return_sequences=True), layers.LayerNormalization(), layers.LSTM(4), layers.Dense(3)
    )


def attention() -> Any:
    steps = keras.Input((TIME, INPUTS), name="steps")
    x = layers.LSTM(6, return_sequences=True)(steps)
    x = layers.GlobalAveragePooling1D()(layers.Attention()([x, x]))
    return keras.Model(steps, layers.Dense(3, activation="softmax")(x))


KINDS: Mapping[str, Callable[[], Any]] = {
    "keyword tagger": keyword_tagger,
    "autoencoder": autoencoder,
    "masked sensor": masked_sensor,
    "GRU classifier": gru_classifier,
    "stacked GRU": stacked_gru,
    "relu LSTM": relu_lstm,
    "bidirectional": bidirectional,
    "convolution": convolution,
    "layer normalization": layer_normalization,
    "attention": attention,
}
"""What builds each of them, without random weights."""


def build(kind: str, *, seed: int = 0) -> Any:
    """The model of a kind with random weights. Each has one input, an open batch, and fixed time."""
    return randomized(KINDS[kind](), seed=seed, scale=0.7)


def samples(model: Any, *, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Random inputs by name of calls with one row; those of a model that masks have padding at the end."""
    random, (given,) = np.random.default_rng(seed), model.inputs
    masks = any(isinstance(layer, layers.Masking) for layer in model.layers)
    found = []
    for number in range(count):
        if given.dtype == "int32":
            array = random.integers(0, TOKENS, (1, TIME)).astype(np.int32)
        else:
            array = random.normal(size=(1, TIME, INPUTS)).astype(np.float32)
        if masks:
            array[:, TIME - number % TIME :] = 0
        found.append({given.name: array})
    return found


def _of_steps(*parts: Any) -> Any:
    return keras.Sequential([keras.Input((TIME, INPUTS), name="steps"), *parts])
