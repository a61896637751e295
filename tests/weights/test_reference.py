"""The NumPy reference against sources that share no code with it."""

import keras
import numpy as np
import pytest

from lstm_toolkit import GateWeights
from lstm_toolkit.weights import reference


@pytest.mark.parametrize("activation", ["tanh", "relu", "relu6", "hard_tanh"])
def test_reference_equals_keras(random, activation):
    layer = keras.layers.LSTM(5, activation=activation, return_sequences=True, return_state=True)
    x = random.normal(size=(2, 7, 3)).astype(np.float32)
    layer(x)
    layer.set_weights([random.normal(0, 0.4, w.shape) for w in layer.get_weights()])
    h, c = random.normal(size=(2, 2, 5)).astype(np.float32)
    expected = [np.asarray(value) for value in layer(x, initial_state=[h, c])]
    actual = reference.lstm(GateWeights.from_keras(layer), x, h=h, c=c, activation=activation)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=2e-6)


def test_one_step_by_hand():
    """One unit, one step, every operand different: the arithmetic written out."""
    weights = GateWeights.from_operands(
        {
            "input_to_input_weights": [[0.5]],
            "input_to_forget_weights": [[-0.4]],
            "input_to_cell_weights": [[0.9]],
            "input_to_output_weights": [[0.3]],
            "recurrent_to_input_weights": [[0.2, 0.6]],
            "recurrent_to_forget_weights": [[0.1, -0.7]],
            "recurrent_to_cell_weights": [[-0.3, 0.25]],
            "recurrent_to_output_weights": [[0.7, 0.15]],
            "cell_to_input_weights": [0.11],
            "cell_to_forget_weights": [0.12],
            "cell_to_output_weights": [0.13],
            "input_gate_bias": [0.01],
            "forget_gate_bias": [0.02],
            "cell_gate_bias": [0.03],
            "output_gate_bias": [0.04],
            "projection_weights": [[2.0], [-1.5]],
            "projection_bias": [0.4, 0.05],
        }
    )
    x, (h1, h2), c0 = 1.5, (-0.8, 0.35), 0.6

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    i = sigmoid(0.5 * x + 0.2 * h1 + 0.6 * h2 + 0.11 * c0 + 0.01)
    f = sigmoid(-0.4 * x + 0.1 * h1 - 0.7 * h2 + 0.12 * c0 + 0.02)
    c = f * c0 + i * np.tanh(0.9 * x - 0.3 * h1 + 0.25 * h2 + 0.03)
    o = sigmoid(0.3 * x + 0.7 * h1 + 0.15 * h2 + 0.13 * c + 0.04)
    m = o * np.tanh(c)
    outputs, h_last, c_last = reference.lstm(weights, [[[x]]], h=[[h1, h2]], c=[[c0]])
    np.testing.assert_allclose(h_last, [[2.0 * m + 0.4, -1.5 * m + 0.05]], rtol=1e-6)
    np.testing.assert_allclose(c_last, [[c]], rtol=1e-6)
    np.testing.assert_array_equal(outputs[:, -1], h_last)


def test_layouts_agree_and_clips_hold(random):
    arrays = [random.normal(0, 2, shape).astype(np.float32) for shape in ((3, 20), (5, 20), (20,))]
    weights = GateWeights.from_keras(arrays)
    x = random.normal(size=(2, 7, 3))
    batch_major, _, c = reference.lstm(weights, x)
    time_major, _, _ = reference.lstm(weights, x.swapaxes(0, 1), time_major=True)
    np.testing.assert_array_equal(batch_major, time_major.swapaxes(0, 1))
    _, _, clipped = reference.lstm(weights, x, cell_clip=0.3)
    assert np.abs(c).max() > 0.3
    assert np.abs(clipped).max() == 0.3
