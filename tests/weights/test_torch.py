"""`GateWeights.from_torch` and `to_torch`, against PyTorch's own LSTM."""

import itertools

import numpy as np
import pytest

from lstm_toolkit import GateWeights
from lstm_toolkit.weights import reference


def arrays(random, *, suffix="_l0", projection=False, bias=True):
    """A state of one layer and direction: 3 in, 5 cells, 4 out where it projects."""
    outputs = 4 if projection else 5
    state = {"weight_ih": random.normal(size=(20, 3)), "weight_hh": random.normal(size=(20, outputs))}
    if bias:
        state |= {"bias_ih": random.normal(size=20), "bias_hh": random.normal(size=20)}
    if projection:
        state["weight_hr"] = random.normal(size=(4, 5))
    return {name + suffix: array.astype(np.float32) for name, array in state.items()}


def stack(state, x, *, layers, directions):
    """Runs the reference layer by layer: outputs, and the last h and c of every layer and direction."""
    last_h, last_c = [], []
    for layer in range(layers):
        outputs = []
        for reverse in (False, True)[:directions]:
            weights = GateWeights.from_torch(state, layer=layer, reverse=reverse)
            y, h, c = reference.lstm(weights, x[:, ::-1] if reverse else x)
            outputs.append(y[:, ::-1] if reverse else y)
            last_h.append(h)
            last_c.append(c)
        x = np.concatenate(outputs, axis=-1)
    return x, np.stack(last_h), np.stack(last_c)


@pytest.mark.backends
@pytest.mark.parametrize(
    ("layers", "directions", "projection", "bias"), itertools.product([1, 3], [1, 2], [0, 4], [True, False])
)
def test_reference_equals_torch(random, layers, directions, projection, bias):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra: pip install lstm_toolkit[torch]")
    torch.manual_seed(7)
    module = torch.nn.LSTM(
        3, 5, layers, bias=bias, batch_first=True, bidirectional=directions == 2, proj_size=projection
    )
    x = random.normal(size=(2, 7, 3)).astype(np.float32)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(random.normal(0, 0.6, parameter.shape).astype(np.float32)))
        y, (h, c) = module(torch.from_numpy(x))
    for source in (module, module.state_dict(), dict(module.named_parameters())):
        actual = stack(source, x, layers=layers, directions=directions)
        for ours, theirs in zip(actual, (y, h, c), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-6, rtol=2e-6)

    packed = {}
    for layer, reverse in itertools.product(range(layers), (False, True)[:directions]):
        packed |= GateWeights.from_torch(module, layer=layer, reverse=reverse).to_torch(layer=layer, reverse=reverse)
    other = torch.nn.LSTM(
        3, 5, layers, bias=bias, batch_first=True, bidirectional=directions == 2, proj_size=projection
    )
    other.load_state_dict({name: torch.from_numpy(array) for name, array in packed.items()})
    with torch.no_grad():
        np.testing.assert_allclose(other(torch.from_numpy(x))[0].numpy(), y.numpy(), atol=2e-6, rtol=2e-6)


@pytest.mark.backends
def test_tensors_of_other_types_are_taken(random):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra: pip install lstm_toolkit[torch]")
    module = torch.nn.LSTM(3, 5, dtype=torch.bfloat16)
    weights = GateWeights.from_torch(module)
    np.testing.assert_array_equal(weights.input_to_cell_weights, module.weight_ih_l0[10:15].detach().float().numpy())


@pytest.mark.parametrize(("reverse", "projection", "bias"), itertools.product([False, True], repeat=3))
def test_from_torch_and_to_torch_are_exact_inverses(random, reverse, projection, bias):
    state = arrays(random, suffix="_l2" + "_reverse" * reverse, projection=projection, bias=bias)
    weights = GateWeights.from_torch(state, layer=2, reverse=reverse)
    back = weights.to_torch(layer=2, reverse=reverse)
    assert set(back) == set(state)
    for name, array in back.items():
        if "bias" not in name:
            np.testing.assert_array_equal(array, state[name])
        elif "bias_hh" in name:
            assert not array.any()
        else:
            np.testing.assert_array_equal(array, state[name] + state[name.replace("_ih", "_hh")])
    again = GateWeights.from_torch(back, layer=2, reverse=reverse)
    for (name, one), (other_name, other) in zip(weights.operands(), again.operands(), strict=True):
        assert name == other_name
        np.testing.assert_array_equal(one, other)


def test_each_gate_is_its_block_of_rows_and_the_biases_are_summed(random):
    state = arrays(random, projection=True)
    weights = dict(GateWeights.from_torch(state).operands())
    for block, gate in enumerate(("input", "forget", "cell", "output")):
        rows = slice(5 * block, 5 * block + 5)
        np.testing.assert_array_equal(weights[f"input_to_{gate}_weights"], state["weight_ih_l0"][rows])
        np.testing.assert_array_equal(weights[f"recurrent_to_{gate}_weights"], state["weight_hh_l0"][rows])
        both = state["bias_ih_l0"][rows] + state["bias_hh_l0"][rows]
        np.testing.assert_array_equal(weights[f"{gate}_gate_bias"], both)
    np.testing.assert_array_equal(weights["projection_weights"], state["weight_hr_l0"])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"layer": 1}, r"missing: \['weight_ih_l1', 'weight_hh_l1'\]; there are \['bias_hh_l0'"),
        ({}, {"reverse": True}, r"missing: \['weight_ih_l0_reverse', 'weight_hh_l0_reverse'\]"),
        ({"bias_hh_l0": None}, {}, r"missing: \['bias_hh_l0'\]"),
        ({"weight_hh_l0": np.zeros(20)}, {}, r"weight_hh_l0 must have 2 dimensions, got shape \[20\]"),
        ({"bias_ih_l0": np.zeros(15)}, {}, r"bias_ih_l0 must have shape \[20\], got \[15\]"),
        ({"weight_hr_l0": np.zeros((3, 5))}, {}, r"weight_hr_l0 must have shape \[5, 5\], got \[3, 5\]"),
        # The names of a GRU are the same; it has three gates.
        (
            {"weight_ih_l0": np.zeros((15, 3)), "weight_hh_l0": np.zeros((15, 5))},
            {},
            r"weight_ih_l0 must have shape \[20, 3\], got \[15, 3\]",
        ),
    ],
)
def test_from_torch_names_what_does_not_fit(random, change, options, message):
    state = arrays(random) | change
    with pytest.raises(ValueError, match=message):
        GateWeights.from_torch({name: array for name, array in state.items() if array is not None}, **options)


def test_to_torch_names_what_torch_does_not_have(random):
    weights = dict(GateWeights.from_torch(arrays(random)).operands())
    coefficients = {
        name.replace("_gate_bias", "_layer_norm_coefficients"): np.ones(5) for name in weights if "_gate_bias" in name
    }
    with pytest.raises(ValueError, match=r"a PyTorch LSTM cannot hold .*input_layer_norm_coefficients"):
        GateWeights.from_operands(weights | coefficients).to_torch()
    coupled = {name: array for name, array in weights.items() if "input_gate" not in name and "to_input" not in name}
    with pytest.raises(ValueError, match="coupled to the forget gate"):
        GateWeights.from_operands(coupled).to_torch()


@pytest.mark.backends
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}, {"proj_size": 3}, {"bias": False}])
def test_a_module_converts(options):
    """The file against PyTorch itself; needs both libraries."""
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
    pytest.importorskip("tensorflow", reason="TensorFlow is not in this environment, so nothing can be converted")
    import lstm_toolkit

    torch.manual_seed(0)
    module = torch.nn.LSTM(5, 6, batch_first=True, **options)
    x = np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32)
    conversion = lstm_toolkit.convert(module, batch_size=2)
    expected = module(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_allclose(conversion.runner()(x), expected, atol=1e-5)
