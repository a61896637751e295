"""Bare weights as a model: one layer, several, and both directions."""

import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import GateWeights
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.weights import reference


def weights(random, inputs, units, outputs=None):
    """Weights as PyTorch packs them."""
    return GateWeights.from_torch(state_dict(random, inputs, units, outputs))


def state_dict(random, inputs, units, outputs=None):
    width = outputs or units
    state = {
        "weight_ih_l0": (4 * units, inputs),
        "weight_hh_l0": (4 * units, width),
        "bias_ih_l0": (4 * units,),
        "bias_hh_l0": (4 * units,),
    }
    state |= {"weight_hr_l0": (outputs, units)} if outputs else {}
    return {name: random.normal(0, 0.4, shape) for name, shape in state.items()}


def test_one_layer(random):
    layer = weights(random, 5, 6, 3)
    conversion = lstm_toolkit.convert(layer, batch_size=2)
    assert dict(conversion.report.ops) == {"UNIDIRECTIONAL_SEQUENCE_LSTM": 1, "ZEROS_LIKE": 2}
    runner = conversion.runner()
    for time in (7, 3, 9):
        x = random.normal(size=(2, time, 5))
        np.testing.assert_allclose(runner(x), reference.lstm(layer, x.astype(np.float32))[0], atol=1e-5)


def test_layers_of_both_directions(random):
    stack = [(weights(random, 5, 6), weights(random, 5, 6)), (weights(random, 12, 4), weights(random, 12, 4))]
    conversion = lstm_toolkit.convert(stack, batch_size=2, time_steps=7, time_major=True)
    assert conversion.report.ops["BIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    assert conversion.report.ops["TRANSPOSE"] == 0
    x = expected = random.normal(size=(2, 7, 5)).astype(np.float32)
    for forward, backward in stack:
        halves = reference.lstm(forward, expected)[0], reference.lstm(backward, expected[:, ::-1])[0][:, ::-1]
        expected = np.concatenate(halves, axis=2)
    np.testing.assert_allclose(conversion.runner()(x.swapaxes(0, 1)).swapaxes(0, 1), expected, atol=1e-5)


@pytest.mark.parametrize("state", ["carry", "explicit"])
def test_states(random, state):
    stack = [weights(random, 5, 6), weights(random, 6, 4)]
    assert lstm_toolkit.convert(stack, state=state).report.max_abs_error < 1e-5


def test_what_does_not_fit_together_is_refused(random):
    with pytest.raises(ConversionError, match=r"layer 1 takes \[7\] numbers a step, and the one below gives 6"):
        lstm_toolkit.convert([weights(random, 5, 6), weights(random, 7, 4)])
    with pytest.raises(ConversionError, match="got list"):
        lstm_toolkit.convert([])


def test_a_module_with_a_forward_of_its_own_is_refused(random):
    state = state_dict(random, 5, 6)

    class Doubled:
        """Stands in for a subclass of `torch.nn.LSTM`."""

        def state_dict(self):
            return state

        def forward(self, x):
            return 2.0 * x

    with pytest.raises(ConversionError, match=r"Doubled has a forward of its own.*pass its state_dict\(\)"):
        lstm_toolkit.convert(Doubled())
    remedied = lstm_toolkit.convert(Doubled().state_dict(), batch_size=2)
    x = random.normal(size=(2, 7, 5)).astype(np.float32)
    expected, _, _ = reference.lstm(GateWeights.from_torch(state), x)
    np.testing.assert_allclose(remedied.runner()(x), expected, atol=1e-5)
