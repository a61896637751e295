"""GateWeights: splitting and packing, and what it refuses."""

import numpy as np
import pytest

from lstm_toolkit import GateWeights
from lstm_toolkit.weights.operands import OPERANDS, WEIGHT_OPERANDS


def packed(random, *, input_size=3, units=5, bias=True):
    shapes = [(input_size, 4 * units), (units, 4 * units), *([(4 * units,)] if bias else [])]
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("bias", [True, False])
def test_from_keras_and_to_keras_are_exact_inverses(random, bias):
    arrays = packed(random, bias=bias)
    weights = GateWeights.from_keras(arrays)
    back = weights.to_keras()
    assert len(back) == len(arrays)
    for ours, theirs in zip(back, arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    again = GateWeights.from_keras(back)
    for (name, one), (other_name, other) in zip(weights.operands(), again.operands(), strict=True):
        assert name == other_name
        np.testing.assert_array_equal(one, other)


def test_a_layer_and_its_weights_give_the_same(random):
    import keras

    layer = keras.layers.LSTM(5)
    layer.build((None, None, 3))
    layer.set_weights(packed(random))
    for (_, one), (_, other) in zip(
        GateWeights.from_keras(layer).operands(), GateWeights.from_keras(layer.get_weights()).operands(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_each_gate_is_its_block_of_columns_transposed(random):
    """Points 3 and 4 of the guide's contract: transposed, then split into input, forget, cell, output."""
    kernel, recurrent_kernel, bias = packed(random)
    weights = GateWeights.from_keras([kernel, recurrent_kernel, bias])
    for block, gate in enumerate(("input", "forget", "cell", "output")):
        for unit in range(5):
            column = 5 * block + unit
            np.testing.assert_array_equal(getattr(weights, f"input_to_{gate}_weights")[unit], kernel[:, column])
            np.testing.assert_array_equal(
                getattr(weights, f"recurrent_to_{gate}_weights")[unit], recurrent_kernel[:, column]
            )
            assert getattr(weights, f"{gate}_gate_bias")[unit] == bias[column]


def test_sizes_and_order_of_operands(random):
    weights = GateWeights.from_keras(packed(random))
    assert (weights.units, weights.input_size, weights.output_size, weights.has_input_gate) == (5, 3, 5, True)
    names = [name for name, _ in weights.operands()]
    assert names == [name for name in OPERANDS if name in names]
    assert len(OPERANDS) == 24
    assert OPERANDS.index("output_state") == 18


def test_arrays_are_copies_and_read_only(random):
    arrays = packed(random)
    weights = GateWeights.from_keras(arrays)
    before = weights.input_to_cell_weights.copy()
    arrays[0][:] = 0
    np.testing.assert_array_equal(weights.input_to_cell_weights, before)
    with pytest.raises(ValueError, match="read-only"):
        weights.input_to_cell_weights[0, 0] = 1
    with pytest.raises(AttributeError):
        weights.input_to_cell_weights = before


def operands(random, *, input_size=3, units=5, outputs=5, leave_out=()):
    shapes = dict.fromkeys(WEIGHT_OPERANDS, (units,))
    shapes |= {name: (units, input_size) for name in WEIGHT_OPERANDS if name.startswith("input_to_")}
    shapes |= {name: (units, outputs) for name in WEIGHT_OPERANDS if name.startswith("recurrent_to_")}
    shapes |= {"projection_weights": (outputs, units), "projection_bias": (outputs,)}
    return {name: random.normal(size=shape) for name, shape in shapes.items() if name not in leave_out}


def test_everything_the_op_has_fits(random):
    weights = GateWeights.from_operands(operands(random, outputs=4))
    assert [name for name, _ in weights.operands()] == list(WEIGHT_OPERANDS)
    assert weights.output_size == 4


def test_a_coupled_input_gate_has_no_input_operands(random):
    of_input = [
        "input_to_input_weights",
        "recurrent_to_input_weights",
        "cell_to_input_weights",
        "input_gate_bias",
        "input_layer_norm_coefficients",
    ]
    weights = GateWeights.from_operands(operands(random, outputs=4, leave_out=of_input))
    assert not weights.has_input_gate
    with pytest.raises(ValueError, match="cannot hold"):
        weights.to_keras()


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        (("cell_gate_bias",), "bias operands must be all there or all absent"),
        (("cell_to_forget_weights",), "peephole operands must be all there or all absent"),
        (("output_layer_norm_coefficients",), "layer normalization operands must be all there or all absent"),
        (("recurrent_to_input_weights",), "go together"),
        (("projection_weights",), "projection_bias needs projection_weights"),
        (("input_to_cell_weights",), r"missing: \['input_to_cell_weights'\]"),
    ],
)
def test_incomplete_operands_are_refused(random, leave_out, message):
    with pytest.raises(ValueError, match=message):
        GateWeights.from_operands(operands(random, leave_out=leave_out))


def test_wrong_shapes_are_refused_with_both_shapes(random):
    kernel, recurrent_kernel, bias = packed(random)
    with pytest.raises(ValueError, match=r"kernel must have shape \[3, 20\], got \[3, 19\]"):
        GateWeights.from_keras([kernel[:, :-1], recurrent_kernel, bias])
    with pytest.raises(ValueError, match=r"bias must have shape \[20\], got \[15\]"):
        GateWeights.from_keras([kernel, recurrent_kernel, bias[:15]])
    with pytest.raises(ValueError, match="got 0 array"):
        GateWeights.from_keras([])
    given = operands(random) | {"cell_gate_bias": np.zeros(7)}
    with pytest.raises(ValueError, match=r"cell_gate_bias must have shape \[5\], got \[7\]"):
        GateWeights.from_operands(given)
    with pytest.raises(ValueError, match="unknown to the fused LSTM op"):
        GateWeights.from_operands(operands(random) | {"kernel": np.zeros(3)})


def test_to_keras_names_what_a_keras_lstm_does_not_have(random):
    peephole = [name for name in WEIGHT_OPERANDS if name.startswith("cell_to_")]
    others = [name for name in WEIGHT_OPERANDS if "projection" in name or "layer_norm" in name]
    weights = GateWeights.from_operands(operands(random, leave_out=others))
    with pytest.raises(ValueError, match=peephole[0]):
        weights.to_keras()
