"""The contract of a fused Keras LSTM: op present, WHILE absent, names, shapes, options, every weight in its operand."""

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import GateWeights
from tests.helpers.calls import assert_agrees, by_output
from tests.helpers.models import inputs_for, randomized
from tests.helpers.pairwise import ALL, pairwise

FORMS = pairwise(
    (True, False),  # return_sequences
    (True, False),  # go_backwards
    (True, False),  # use_bias
    (1, 3),  # batch
    (1, 2),  # layers
    (7, None),  # time
)
assert not ALL or len(FORMS) == 64


@pytest.mark.parametrize(("return_sequences", "go_backwards", "use_bias", "batch", "layers", "time"), FORMS)
def test_every_form_fuses_exactly(return_sequences, go_backwards, use_bias, batch, layers, time):
    first = keras.layers.LSTM(
        6, return_sequences=return_sequences or layers == 2, go_backwards=go_backwards, use_bias=use_bias
    )
    second = keras.layers.LSTM(4, return_sequences=return_sequences, use_bias=use_bias, go_backwards=not go_backwards)
    lstms = [first, second][:layers]
    model = randomized(keras.Sequential([keras.Input((time, 5), name="steps"), *lstms]))
    conversion = lstm_toolkit.convert(model, batch_size=batch, verify=False)

    assert conversion.report.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == layers
    assert not {"WHILE", "CUSTOM", "VAR_HANDLE", "READ_VARIABLE", "IF"} & set(conversion.report.ops)

    summary = lstm_toolkit.inspect(conversion.tflite)
    assert summary.ops == conversion.report.ops
    assert [(tensor.name, tensor.shape) for tensor in summary.inputs] == [("steps", (batch, time or -1, 5))]
    for node, layer in zip(summary.lstm_nodes, lstms, strict=True):
        assert (node.name, node.units, node.layout, node.state) == (layer.name, layer.units, "batch_major", "reset")
        assert (node.activation, node.cell_clip, node.proj_clip) == ("tanh", 0.0, 0.0)
        for name, expected in GateWeights.from_keras(layer).operands():
            np.testing.assert_array_equal(getattr(node.weights, name), expected)

    lengths = (7, 7, 7) if time else (7, 2, 12)
    calls = [inputs_for(model, batch=batch, time=length, seed=seed) for seed, length in enumerate(lengths)]
    expected = [by_output(model(x)) for (x,) in calls]
    assert_agrees(conversion.tflite, [{"steps": x} for (x,) in calls], expected)
