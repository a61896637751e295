"""Why layers are plain ops on a target: each layer has the reason that was given for it, and for no other."""

import keras

import lstm_toolkit
from tests.helpers.models import randomized

L = keras.layers


def test_a_layer_does_not_take_the_reason_of_one_whose_name_begins_with_its_own():
    layers = [
        L.LSTM(3, return_sequences=True, name="lstm"),
        L.LSTM(4, activation="relu", return_sequences=True, name="lstm_1"),
        L.RNN([L.LSTMCell(5, activation="relu"), L.LSTMCell(6)], name="stack"),
    ]
    model = randomized(keras.Sequential([keras.Input((7, 2), batch_size=1, name="x"), *layers]))
    report = lstm_toolkit.convert(model, target="micro", verify=False).report
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert reasons["lstm"] == "another layer cannot be a fused op there"
    assert reasons["lstm_1"] == "its cell activation is not tanh, which the kernel computes all the same"
    assert reasons["stack"] == reasons["lstm_1"]
    assert {layer.op for layer in report.layers} == {"loop"}
