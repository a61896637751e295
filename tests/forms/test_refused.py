"""Forms that cannot be exact are refused with the reason, or kept as they are on request."""

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf
import tf_keras
from keras import layers

import lstm_toolkit
from lstm_toolkit.errors import ConversionError
from tests.helpers.calls import assert_agrees
from tests.helpers.files import op_counts
from tests.helpers.forms import (
    UNI,
    Joined,
    OneInput,
    call,
    draw,
    functional,
    time_of_images,
)


def over_padding(*parts: Any) -> Any:
    return functional(layers.Masking(), *parts)


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "mask, carried state": (
        lambda: over_padding(layers.LSTM(6, name="stream")),
        {"state": "carry"},
        r"layer 'stream' \(LSTM\): it carries its state past the padding of a mask; pass state=\"reset\"",
    ),
    "mask, stateful": (
        lambda: functional(layers.Masking(), layers.LSTM(6, stateful=True, name="stream"), batch=3),
        {},
        r"layer 'stream' \(LSTM\): it carries its state past the padding of a mask; pass state=\"reset\"",
    ),
    "mask, carried state of a simple RNN": (
        lambda: over_padding(layers.SimpleRNN(6, name="stream")),
        {"state": "carry"},
        r"layer 'stream' \(SimpleRNN\): it carries its state past the padding of a mask",
    ),
    "GRU": (
        lambda: functional(layers.GRU(6, name="gated")),
        {},
        r"layer 'gated' \(GRU\): it is not an LSTM, and there is no fused op for a GRUCell",
    ),
    "GRU in both directions": (
        lambda: functional(layers.Bidirectional(layers.GRU(6, name="gated"))),
        {},
        r"layer 'forward_gated' \(GRU\): it is not an LSTM.*layer 'backward_gated' \(GRU\): it is not an LSTM",
    ),
    "ConvLSTM": (
        lambda: time_of_images(layers.ConvLSTM1D(4, 3, name="images")),
        {},
        r"layer 'images' \(ConvLSTM1D\): it is not an LSTM, and there is no fused op for a ConvLSTMCell",
    ),
    "ConvLSTM of Keras 2, whose class does not call its base class": (
        lambda: time_of_images(tf_keras.layers.ConvLSTM1D(4, 3, name="images"), tf_keras),
        {"state": "carry"},
        r"layer 'images' \(ConvLSTM1D\): it is not an LSTM, .* pass on_unsupported=\"keep\" and state=\"reset\"",
    ),
    "mixed stack of cells": (
        lambda: functional(layers.RNN([layers.LSTMCell(6), layers.GRUCell(4)], name="mixed")),
        {},
        r"layer 'mixed' \(RNN\): it is not an LSTM, and there is no fused op for a GRUCell",
    ),
    "activation of a simple RNN": (
        lambda: functional(layers.SimpleRNN(6, activation="gelu", name="odd")),
        {},
        r"layer 'odd' \(SimpleRNN\): its activation is 'gelu', and the fused op has only tanh",
    ),
    "activation in one direction": (
        lambda: functional(
            layers.Bidirectional(
                layers.LSTM(6, name="ahead"),
                backward_layer=layers.LSTM(6, go_backwards=True, recurrent_activation="hard_sigmoid", name="back"),
            )
        ),
        {},
        r"layer 'back' \(LSTM\): its recurrent activation is 'hard_sigmoid'",
    ),
    "subclassed model without a signature": (
        OneInput,
        {},
        r"does not know its inputs; pass input_signature, one tf.TensorSpec an input",
    ),
    "layer without a signature": (
        lambda: layers.LSTM(6),
        {},
        r"does not know its inputs; pass input_signature, one tf.TensorSpec an input",
    ),
    "two inputs of one name": (
        Joined,
        {
            "input_signature": {
                "left": tf.TensorSpec([3, 7, 5], name="steps"),
                "right": tf.TensorSpec([3, 9, 2], name="steps"),
            }
        },
        r"the inputs \['steps', 'steps'\] share a name; give each tf.TensorSpec of input_signature its own",
    ),
    "open batch behind TimeDistributed": (
        lambda: open_time_distributed(layers.LSTM(6, name="folded")),
        {},
        r"layer 'folded': the batch is open, since .*, and a fused op needs a fixed one; pass time_steps",
    ),
    "open batch behind TimeDistributed, both directions": (
        lambda: open_time_distributed(layers.Bidirectional(layers.LSTM(6, name="folded"))),
        {},
        r"layer '(forward|backward)_folded': the batch is open, since .*; pass time_steps",
    ),
}


def open_time_distributed(layer: Any) -> Any:
    clips = keras.Input((None, 7, 5), name="clips")
    return keras.Model(clips, layers.TimeDistributed(layer)(clips))


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_exact_is_refused_with_the_reason(form):
    make, options, reason = REFUSED[form]
    with pytest.raises(ConversionError, match=reason):
        lstm_toolkit.convert(make(), **options)


KEPT: dict[str, tuple[Callable[[], Any], str]] = {
    "GRU": (lambda: functional(layers.GRU(6, return_sequences=True, name="kept"), layers.LSTM(4)), "GRUCell"),
    "ConvLSTM": (lambda: time_of_images(layers.ConvLSTM1D(4, 3, name="kept")), "ConvLSTMCell"),
    "ConvLSTM of Keras 2": (
        lambda: time_of_images(tf_keras.layers.ConvLSTM1D(4, 3, name="kept"), tf_keras),
        "ConvLSTMCell",
    ),
    "simple RNN": (
        lambda: functional(layers.SimpleRNN(6, activation="gelu", return_sequences=True, name="kept"), layers.LSTM(4)),
        "gelu",
    ),
}


@pytest.mark.parametrize("form", KEPT)
def test_what_cannot_be_fused_is_kept_on_request_and_reported(form):
    make, reason = KEPT[form]
    model = make()
    conversion = lstm_toolkit.convert(model, batch_size=3, on_unsupported="keep", verify=False)
    counts = op_counts(conversion.tflite)
    assert counts["WHILE"] == counts[UNI] == 1
    assert not {"CUSTOM", "VAR_HANDLE"} & set(counts)
    kept, fused = conversion.report.layers
    assert (kept.name, kept.op) == ("kept", "stock lowering")
    assert reason in kept.reason
    assert (fused.op, fused.reason) == (UNI, None)
    calls = [draw(model, batch=3, time=7, seed=seed) for seed in range(3)]
    assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls])


def test_both_directions_of_a_gru_are_kept():
    model = functional(layers.Bidirectional(layers.GRU(6, return_sequences=True)), layers.LSTM(4))
    conversion = lstm_toolkit.convert(model, batch_size=3, on_unsupported="keep", verify=False)
    assert op_counts(conversion.tflite)["WHILE"] == 2
    calls = [draw(model, batch=3, time=7, seed=seed) for seed in range(3)]
    assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls])
