"""The layers of Keras that stand beside an LSTM, in models with one LSTM and an output for each of them.

`docs/api/micro.rst` says which of them run on TensorFlow Lite Micro; it is held equal to what is here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from lstm_toolkit.versions import numbers
from tests.helpers.models import randomized

TIME, SIZE, TOKENS = 8, 6, 11

Forms = Sequence[Callable[[Any], Any]]


def on_images(*parts: Any) -> Callable[[Any], Any]:
    """Layers over the time steps of small images."""

    def call(x: Any) -> Any:
        x = layers.Reshape((4, TIME * SIZE // 4 // 4, 4))(x)
        for part in parts:
            x = layers.TimeDistributed(part)(x)
        return x

    return call


def on_two(layer: Any) -> Callable[[Any], Any]:
    return lambda x: layer([x, layers.Dense(SIZE)(x)])


def normalized(x: Any) -> Any:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(2).normal(2.0, 3.0, (20, TIME, SIZE)))
    return layer(x)


def approximate_gelu(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


def attended(x: Any) -> Any:
    return layers.GlobalAveragePooling1D()(layers.MultiHeadAttention(2, 3)(x, x))


def forms_of_sequences() -> Mapping[str, Forms]:
    """What each layer makes of a sequence [1, TIME, SIZE]; what older versions of Keras lack is made when called.

    The layers are new at each call, as their names have to differ from those of others in a model.
    """
    return {
        "Activation": [layers.Activation("tanh")],
        "AdaptiveAveragePooling1D": [lambda x: layers.AdaptiveAveragePooling1D(4)(x)],
        "AdaptiveMaxPooling1D": [lambda x: layers.AdaptiveMaxPooling1D(4)(x)],
        "Add": [on_two(layers.Add())],
        "AdditiveAttention": [lambda x: layers.AdditiveAttention()([x, x])],
        "Attention": [
            lambda x: layers.Attention(use_scale=True)([x, x]),
            lambda x: layers.Attention(score_mode="concat")([x, x]),
            lambda x: layers.Attention()([x, x], use_causal_mask=True),
        ],
        "Average": [on_two(layers.Average())],
        "AveragePooling1D": [layers.AveragePooling1D(3, strides=2, padding="same")],
        "Concatenate": [on_two(layers.Concatenate()), on_two(layers.Concatenate(axis=1))],
        "Conv1D": [
            layers.Conv1D(5, 3, strides=2),
            layers.Conv1D(5, 3, padding="causal", dilation_rate=2, activation="relu"),
            layers.Conv1D(6, 3, groups=3, padding="same"),
        ],
        "Conv1DTranspose": [layers.Conv1DTranspose(5, 3, strides=2, padding="same")],
        "Cropping1D": [layers.Cropping1D((1, 2))],
        "Dense": [layers.Dense(4), lambda x: layers.Dense(4)(x[:, -1])],
        "DepthwiseConv1D": [layers.DepthwiseConv1D(3, depth_multiplier=2), layers.DepthwiseConv1D(3, dilation_rate=2)],
        "Dot": [on_two(layers.Dot(axes=2)), on_two(layers.Dot(axes=1, normalize=True))],
        "Dropout": [layers.Dropout(0.4)],
        "EinsumDense": [layers.EinsumDense("btc,cde->btde", output_shape=(None, 4, 3), bias_axes="de")],
        "ELU": [layers.ELU(0.7)],
        "Flatten": [layers.Flatten()],
        "GaussianNoise": [layers.GaussianNoise(0.4)],
        "GlobalAveragePooling1D": [layers.GlobalAveragePooling1D()],
        "GlobalMaxPooling1D": [layers.GlobalMaxPooling1D()],
        "GroupNormalization": [layers.GroupNormalization(3)],
        "GroupQueryAttention": [lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x)],
        "LayerNormalization": [layers.LayerNormalization(), layers.LayerNormalization(axis=(1, 2))],
        "LeakyReLU": [layers.LeakyReLU()],
        "Maximum": [on_two(layers.Maximum())],
        "MaxPooling1D": [layers.MaxPooling1D(3, strides=2, padding="same")],
        "Minimum": [on_two(layers.Minimum())],
        "MultiHeadAttention": [
            lambda x: layers.MultiHeadAttention(2, 3)(x, x),
            lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True),
        ],
        "Multiply": [on_two(layers.Multiply())],
        "Normalization": [normalized],
        "Permute": [layers.Permute((2, 1))],
        "PReLU": [layers.PReLU(shared_axes=[1])],
        "ReLU": [layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2)],
        "RepeatVector": [lambda x: layers.RepeatVector(4)(x[:, -1])],
        "Rescaling": [layers.Rescaling(0.5, offset=0.1)],
        "Reshape": [layers.Reshape((2, 4, SIZE)), layers.Reshape((-1, 3))],
        "RMSNormalization": [lambda x: layers.RMSNormalization()(x)],
        "SeparableConv1D": [layers.SeparableConv1D(5, 3, depth_multiplier=2)],
        "Softmax": [layers.Softmax(), layers.Softmax(axis=1)],
        "SpatialDropout1D": [layers.SpatialDropout1D(0.4)],
        "Subtract": [on_two(layers.Subtract())],
        "TimeDistributed": [
            layers.TimeDistributed(layers.Dense(3)),
            on_images(layers.Conv1D(3, 2), layers.Flatten()),
            on_images(layers.Reshape((3, 4, 1)), layers.Conv2D(2, 2), layers.Flatten()),
        ],
        "UnitNormalization": [layers.UnitNormalization()],
        "UpSampling1D": [layers.UpSampling1D(3)],
        "ZeroPadding1D": [layers.ZeroPadding1D((1, 2))],
    }


ACTIVATIONS = (
    "celu",
    "elu",
    "exponential",
    approximate_gelu,
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu6",
    "selu",
    "silu",
    "soft_shrink",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "tanh_shrink",
)
"""Activations of a Dense."""

OF_TOKENS: Mapping[str, Forms] = {
    "CategoryEncoding": [
        lambda tokens: layers.LSTM(4)(layers.CategoryEncoding(TOKENS, output_mode="one_hot")(tokens)),
    ],
    "Embedding": [
        lambda tokens: layers.LSTM(4)(layers.Embedding(TOKENS, 5)(tokens)),
        lambda tokens: layers.LSTM(4)(layers.Embedding(TOKENS, 5, mask_zero=True)(tokens)),
    ],
}
"""The same for tokens [1, TIME] with zeros at both ends."""

OF_MASKED: Mapping[str, Forms] = {
    "Masking": [
        lambda x: layers.Bidirectional(layers.LSTM(4))(layers.Masking()(x)),
        lambda x: layers.GlobalAveragePooling1D()(layers.LSTM(4, return_sequences=True)(layers.Masking()(x))),
        lambda x: attended(layers.LSTM(4, return_sequences=True)(layers.Masking()(x))),
    ],
}
"""The same for a sequence with steps of zeros."""

REFUSED: Mapping[str, tuple[Any, str]] = {
    "Discretization": (lambda: layers.Discretization([0.0, 0.5]), "BUCKETIZE"),
    "MelSpectrogram": (lambda: layers.MelSpectrogram(8, 4, sampling_rate=4000, num_mel_bins=3), "RFFT2D"),
}
"""Layers for which there is no equal, and the op that they need."""


def present(forms: Mapping[str, Forms]) -> dict[str, Forms]:
    """Those of the layers that the installed Keras has, and what is no layer."""
    return {name: each for name, each in forms.items() if name.islower() or hasattr(layers, name)}


def activations() -> list[Any]:
    """Those that the installed Keras has, and TensorFlow's converter takes: that of 2.18 knows no Softsign."""
    unknown = {"softsign"} if numbers(tf.__version__, 2) < (2, 19) else set()
    return [
        each for each in ACTIVATIONS if callable(each) or (hasattr(keras.activations, each) and each not in unknown)
    ]


def all_outputs(given: Any, forms: Mapping[str, Forms], through: Any = None) -> Any:
    """One model with an output for each form of each layer."""
    x = given if through is None else through(given)
    outputs = [form(x) for each in present(forms).values() for form in each]
    return randomized(keras.Model(given, outputs), scale=0.4)


def of_sequences() -> Any:
    dense = [layers.Dense(3, activation=activation) for activation in activations()]
    last: Forms = [lambda x, layer=layer: layer(x[:, -1]) for layer in dense]
    lstm = layers.LSTM(SIZE, return_sequences=True)
    return all_outputs(keras.Input((TIME, SIZE), name="steps"), {**forms_of_sequences(), "activations": last}, lstm)


def of_tokens() -> Any:
    return all_outputs(keras.Input((TIME,), dtype="int32", name="tokens"), OF_TOKENS)


def of_masked() -> Any:
    return all_outputs(keras.Input((TIME, SIZE), name="steps"), OF_MASKED)


def samples(name: str, *, seed: int, count: int = 3) -> list[dict[str, np.ndarray]]:
    """Inputs for the model of that name, each padded at another place."""
    random, found = np.random.default_rng(seed), []
    for number in range(count):
        steps = random.normal(size=(1, TIME, SIZE)).astype(np.float32)
        tokens = random.integers(1, TOKENS, (1, TIME)).astype(np.int32)
        for array in (tokens, steps) if name != "sequences" else ():
            array[:, [0, number + 2][: number + 1]] = 0
            array[:, TIME - number :] = 0
        found.append({"tokens": tokens} if name == "tokens" else {"steps": steps})
    return found
