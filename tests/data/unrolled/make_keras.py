"""Makes the files `keras_*.tflite`, `tf_keras_*.tflite` and `own_*.tflite`: Keras's recurrent layers, unrolled.

TensorFlow's converter unrolls what has `unroll=True`, `lstm_toolkit.convert` what is asked for with
`lowering="unrolled"`. It runs in the project's environment: `python tests/data/unrolled/make_keras.py`. Sizes are all
different and weights random, so that a file is right only if every one of them is in its place.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf_keras

import lstm_toolkit

FOLDER = Path(__file__).parent


def kinds(library, unroll):
    """Yields name, shape of the input and layers."""
    layers = library.layers

    def lstm(units, **options):
        return layers.LSTM(units, unroll=unroll, **options)

    def gru(units, **options):
        return layers.GRU(units, unroll=unroll, **options)

    def rnn(units, **options):
        return layers.SimpleRNN(units, unroll=unroll, **options)

    yield "sequence", (2, 5, 3), [lstm(4, return_sequences=True)]
    yield "last", (3, 4, 2), [lstm(5)]
    yield "relu_backwards", (2, 6, 3), [lstm(4, activation="relu", go_backwards=True, return_sequences=True)]
    yield "no_bias", (1, 5, 4), [lstm(3, use_bias=False)]
    yield "two_layers", (2, 4, 3), [lstm(5, return_sequences=True), lstm(4)]
    yield "dense_between", (3, 4, 2), [lstm(5, return_sequences=True), layers.Dense(3, activation="relu"), lstm(4)]
    yield "both_ways", (2, 5, 3), [layers.Bidirectional(lstm(4, return_sequences=True)), layers.Dense(2)]
    yield "both_ways_last", (2, 4, 3), [layers.Bidirectional(lstm(5))]
    yield "gru", (2, 5, 3), [gru(4, return_sequences=True)]
    yield "gru_last", (3, 4, 2), [gru(5, use_bias=False)]
    yield "gru_reset_before", (2, 6, 3), [gru(4, reset_after=False, return_sequences=True)]
    yield "gru_both_ways", (1, 5, 4), [layers.Bidirectional(gru(3, return_sequences=True))]
    yield "gru_two_layers", (2, 4, 3), [gru(5, go_backwards=True, return_sequences=True), gru(4, reset_after=False)]
    yield "rnn", (3, 5, 2), [rnn(4, return_sequences=True), layers.Dense(3)]
    yield "rnn_relu_last", (2, 4, 3), [layers.Bidirectional(rnn(5, activation="relu"))]


def randomized(model, seed):
    """The model with random weights."""
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(0, 0.5, weight.shape).astype("f") for weight in model.get_weights()])
    return model


def stock(model):
    """TensorFlow's file."""
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def own(model):
    """The package's file."""
    return lstm_toolkit.convert(model, lowering="unrolled").tflite


if __name__ == "__main__":
    for prefix, library, unroll, convert in (
        ("keras", keras, True, stock),
        ("tf_keras", tf_keras, True, stock),
        ("own", keras, False, own),
    ):
        for number, (name, shape, stack) in enumerate(kinds(library, unroll)):
            model = library.Sequential([library.Input(shape[1:], batch_size=shape[0]), *stack])
            (FOLDER / f"{prefix}_{name}.tflite").write_bytes(convert(randomized(model, number)))
