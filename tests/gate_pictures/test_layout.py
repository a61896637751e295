"""`gate_layout`: which part of which packed array stands in which operand, as data and as text."""

import numpy as np
import pytest

from lstm_toolkit import GateWeights
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.gate_pictures.layout import gate_layout
from tests.helpers.imports import run_without
from tests.helpers.packed_weights import INPUTS, UNITS, Cell, Layer, everything, keras_arrays, torch_state


def sources(random):
    weights = GateWeights.from_keras(keras_arrays(random))
    diagonal = dict(weights.operands())
    diagonal |= {name: array[:, 0] for name, array in diagonal.items() if name.startswith("recurrent")}
    return {
        "keras": weights,
        "lingvo": Cell(random, forget_gate_bias=0.75),
        "lingvo, coupled": Cell(random, coupled=True, projection=True, normalized=True, forget_gate_bias=1.5),
        "lingvo, no bias": Cell(random, bias=False, forget_gate_bias=1.5),
        "pytorch": torch_state(random),
        "pytorch, both": torch_state(random, suffixes=("", "_reverse"), projection=True),
        "everything": everything(random),
        "diagonal": GateWeights.from_operands(diagonal),
        "pair": (weights, GateWeights.from_keras(keras_arrays(random))),
    }


def kinds():
    return list(sources(np.random.default_rng(0)))


@pytest.mark.parametrize("order", [None, "keras", "lingvo", "pytorch"])
@pytest.mark.parametrize("kind", kinds())
def test_parts_of_the_packed_arrays_add_up_to_the_slots(random, kind, order):
    layout = gate_layout(sources(random)[kind], order=order)
    filled = {slot.operand: np.zeros_like(slot.values) for slot in layout.slots if slot.values is not None}
    for array in layout.arrays:
        covered = np.zeros(array.values.shape, int)
        for block in array.blocks:
            covered[block.slices] += 1
            assert array.part(block).shape == block.shape
            filled[block.operand] += array.part(block)
        assert (covered == 1).all()
    for slot in layout.slots:
        if slot.values is not None:
            np.testing.assert_array_equal(filled[slot.operand] + np.float32(slot.constant), slot.values)


@pytest.mark.parametrize("kind", ["keras", "lingvo, coupled", "pytorch, both", "everything"])
def test_every_number_has_a_destination(random, kind):
    layout = gate_layout(sources(random)[kind])
    added = {"bias", "b"} | {array.name for array in layout.arrays if array.name.startswith("bias_")}
    reached = []
    for array in layout.arrays:
        for position in np.ndindex(array.values.shape):
            goes = layout.destination(array.name, *position)
            reached.append((array.name, goes.operand, goes.slot_position))
            assert layout.slot(goes.operand).index == goes.index
            assert goes.value == array.values[position]
            assert goes.slot_value == layout.slot(goes.operand).values[goes.slot_position]
            assert array.name in added or goes.value == goes.slot_value
    assert len(set(reached)) == len(reached) == sum(array.values.size for array in layout.arrays)


def test_destination_by_hand(random):
    """Column 7 of a kernel of 5 units is row 2 of the second gate, and input 1 is column 1."""
    arrays = keras_arrays(random)
    goes = gate_layout(GateWeights.from_keras(arrays)).destination("kernel", 1, 7)
    assert (goes.gate, goes.operand, goes.index) == ("forget", "input_to_forget_weights", 2)
    assert goes.slot_position == (2, 1)
    assert str(goes) == f"kernel[1, 7] = {arrays[0][1, 7]:.6g} → input_to_forget_weights (operand 2) [2, 1]"
    cell = Cell(random, coupled=True, forget_gate_bias=1.0)
    goes = gate_layout(cell).destination("wm", INPUTS + 2, UNITS + 1)
    assert (goes.operand, goes.index, goes.slot_position) == ("recurrent_to_forget_weights", 6, (1, 2))
    state = torch_state(random)
    goes = gate_layout(state).destination("bias_hh_l0", 3 * UNITS)
    total = state["bias_ih_l0"][15] + state["bias_hh_l0"][15]
    assert str(goes).endswith(f"output_gate_bias (operand 15) [0] = {total:.6g}, a sum")


def test_orders_are_those_of_the_frameworks(random):
    weights = GateWeights.from_keras(keras_arrays(random))
    found = {order: gate_layout(weights, order=order) for order in ("keras", "lingvo", "pytorch")}
    assert {order: layout.order for order, layout in found.items()} == {
        "keras": "i, f, c, o",
        "lingvo": "c, i, f, o",
        "pytorch": "i, f, c, o",
    }
    assert gate_layout(Cell(random, coupled=True)).order == "c, f, o"
    assert gate_layout(Cell(random, coupled=True), order="keras").order == "f, c, o"
    for array, expected in zip(found["keras"].arrays, weights.to_keras(), strict=True):
        np.testing.assert_array_equal(array.values, expected)
    for array, (name, expected) in zip(found["lingvo"].arrays, weights.to_lingvo().items(), strict=True):
        assert array.name == name
        np.testing.assert_array_equal(array.values, expected)
    for array in found["pytorch"].arrays:
        np.testing.assert_array_equal(array.values, weights.to_torch()[array.name])


def test_weights_by_gate_are_packed_as_keras_would_or_else_as_lingvo(random):
    kinds = sources(random)
    found = {kind: gate_layout(kinds[kind]) for kind in ("keras", "everything", "lingvo", "pytorch")}
    assert {kind: (layout.framework, layout.stored) for kind, layout in found.items()} == {
        "keras": ("Keras", False),
        "everything": ("Lingvo", False),
        "lingvo": ("Lingvo", True),
        "pytorch": ("PyTorch", True),
    }


def test_text_form(random):
    text = str(gate_layout(Cell(random, coupled=True, projection=True, forget_gate_bias=1.0)))
    assert text.splitlines()[0] == (
        "Cell 'cell': as stored by Lingvo (c, f, o), in the operand slots of UNIDIRECTIONAL_SEQUENCE_LSTM"
    )
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "wm [7, 15] [3:7, 5:10] forget transposed recurrent_to_forget_weights 6 [5, 4]" in rows
    assert "b [15] [0:5] cell as it is cell_gate_bias 14 [5]" in rows
    assert "w_proj [5, 4] [:, :] transposed projection_weights 16 [4, 5]" in rows
    assert "forget_gate_bias = 1 of the cell is added to forget_gate_bias (operand 13)." in rows
    assert "Absent operands (-1 in the file): 1, 5, 9 to 12, 17, 20 to 23." in rows
    assert "bias_ih_l0 and bias_hh_l0 are added: the op has one bias a gate." in str(gate_layout(torch_state(random)))


def test_two_directions_take_the_operands_of_the_bidirectional_op(random):
    layout = gate_layout(torch_state(random, suffixes=("", "_reverse")))
    assert layout.op == "BIDIRECTIONAL_SEQUENCE_LSTM"
    indices = [slot.index for slot in layout.slots]
    assert indices == [*range(1, 9), *range(12, 16), *range(18, 26), *range(29, 33)]
    backward = gate_layout(torch_state(random, suffixes=("", "_reverse")), reverse=True)
    assert backward.arrays[0].name == "weight_ih_l0_reverse"
    assert {slot.operand.partition("_")[0] for slot in backward.slots} == {"backward"}


def test_values_cannot_be_changed(random):
    layout = gate_layout(Cell(random))
    for values in (layout.arrays[0].values, layout.slots[0].values):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


def test_names_are_escaped_and_cut(random):
    cell = Cell(random)
    cell.name = "<script>" + "x" * 100
    layout = gate_layout(cell)
    assert "<script>" not in layout._repr_html_()
    assert len(layout.title) < 60


def refused(random):
    gru = [random.normal(size=shape) for shape in ((3, 15), (5, 15), (2, 15))]
    half = Layer(keras_arrays(random))
    smaller = Layer(keras_arrays(random, units=4))
    weights = everything(random)
    return {
        "unbuilt": (Layer([]), {}, ValueError, "a layer that was never called has no weights yet"),
        "gru": (Layer(gru), {}, ValueError, r"no LSTM: recurrent_kernel must be \[units, 4 \* units\], got \[5, 15\]"),
        "torch gru": (
            {"weight_ih_l0": gru[0].T, "weight_hh_l0": gru[1].T},
            {},
            ValueError,
            r"must have shape \[20, 3\]",
        ),
        "model": (Layer([], layers=[half]), {}, ValueError, "a model of several layers; give one LSTM layer.*'layer'"),
        "sizes": (
            Layer([], forward_layer=half, backward_layer=smaller),
            {},
            ValueError,
            "5 forward and 4 backward: give each half by itself",
        ),
        "norm": ((weights, weights), {}, ValueError, "no layer normalization: give each half by itself"),
        "theta": (Cell(random).theta, {}, TypeError, "give the cell, or GateWeights.from_lingvo"),
        "layer": (torch_state(random), {"layer": 1}, ValueError, r"missing: \['weight_ih_l1'"),
        "reverse": (Cell(random), {"reverse": True}, ValueError, "Cell 'cell' has no backward direction"),
        "order": (
            Cell(random),
            {"order": "ifco"},
            ValueError,
            r"order must be one of \['keras', 'lingvo', 'pytorch'\]",
        ),
        "type": (3, {}, TypeError, "expected a Keras LSTM layer.*got int"),
        "bytes": (b"no model", {}, InvalidModelError, "not a .tflite file"),
    }


@pytest.mark.parametrize("case", list(refused(np.random.default_rng(0))))
def test_refusals_have_a_reason(random, case):
    source, options, error, reason = refused(random)[case]
    with pytest.raises(error, match=reason):
        gate_layout(source, **options)


def test_destination_outside_is_refused(random):
    layout = gate_layout(Cell(random))
    for position in ((8, 0), (0, 20), (-1, 0), (0,)):
        with pytest.raises(IndexError, match=r"wm has shape \[8, 20\], there is no"):
            layout.destination("wm", *position)
    with pytest.raises(ValueError, match=r"array must be one of \['wm', 'b'\], got 'kernel'"):
        layout.destination("kernel", 0, 0)


def test_no_framework_is_imported():
    code = (
        "import numpy as np; from lstm_toolkit.weights.gate_weights import GateWeights; "
        "from lstm_toolkit.gate_pictures.figure import plot_gates; "
        "plot_gates(GateWeights.from_keras([np.ones((3, 20)), np.ones((5, 20))]))"
    )
    run_without({"tensorflow", "keras", "torch", "ai_edge_litert", "matplotlib.pyplot"}, code)
