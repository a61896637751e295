"""LSTMs that converters unrolled are one row of `inspect`, if that row is true."""

import dataclasses
import json
import os
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_toolkit import inspect
from lstm_toolkit.inspection.merged import in_order
from lstm_toolkit.inspection.unrolled import unrolled_layers
from lstm_toolkit.passes.unrolled.fuse import unrolled_outcomes
from lstm_toolkit.tflite import edit, files, graph
from tests.helpers.unrolled_cells import CELL_SIZES, cell_layers_for, cell_spellings, unrolled_cells
from tests.helpers.unrolled_files import GATES, SPELLINGS, Sizes, Spelling, layers_for, unrolled_file

FOLDER = Path(__file__).parents[1] / "data" / "unrolled"
OTHERS = sorted(path for path in FOLDER.glob("*.tflite") if {"gru", "rnn"} & set(path.stem.split("_")))
REAL = sorted(set(FOLDER.glob("*.tflite")) - set(OTHERS))
EXAMPLES = settings(max_examples=int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", 25)), deadline=None, derandomize=True)


def found(model):
    return unrolled_layers(model, 0)


def read(spelling, sizes, change=None, seed=1):
    return files.read_model(unrolled_file(spelling, sizes, layers_for(spelling, sizes, seed), change))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_files_have_the_rows_that_repair_finds(path):
    """The oracle evaluates every number of the file, where the rows come of the graph alone."""
    model = files.read_model(path.read_bytes())
    outcomes = unrolled_outcomes(model)
    assert sorted((each.name, each.steps) for each in found(model)) == sorted((e.name, e.steps) for e in outcomes)
    inside = [index for each in found(model) for index in each.ops]
    assert len(set(inside)) == len(inside)
    # Nothing but an LSTM has a sigmoid in these files.
    names = [graph.operator_name(model, op) for op in model.subgraphs[0].operators]
    assert {place for place, name in enumerate(names) if name == "LOGISTIC"} <= set(inside)


# The last step of two has its activation in another op, and that of the third joins x and h.
WITHOUT_ROWS = ("keras_rnn_relu_last", "tf_keras_rnn_relu_last", "tf1_gru")


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_other_cells_have_the_rows_that_repair_finds(path):
    model = files.read_model(path.read_bytes())
    outcomes = [] if path.stem in WITHOUT_ROWS else unrolled_outcomes(model)
    assert sorted((e.name, e.steps, f"a {e.cell}") for e in found(model)) == sorted(
        (each.name, each.steps, each.kind.replace("an ", "a ")) for each in outcomes
    )
    inside = [index for each in found(model) for index in each.ops]
    assert len(set(inside)) == len(inside)


@EXAMPLES
@given(spelling=cell_spellings(), sizes=CELL_SIZES)
def test_every_spelling_of_other_cells_is_a_row_of_its_steps_or_none(spelling, sizes):
    layers = cell_layers_for(spelling, sizes, 1)
    rows = found(files.read_model(unrolled_cells(spelling, sizes, layers)))
    assert {each.steps for each in rows} <= {sizes.steps}
    assert {each.cell for each in rows} <= {"RNN" if spelling.cell == "rnn" else "GRU"}


@pytest.mark.parametrize("path", [each for each in OTHERS if each.stem not in WITHOUT_ROWS], ids=lambda path: path.stem)
def test_other_cells_with_an_op_that_differs_in_one_step_have_no_row(path):
    model = files.read_model(path.read_bytes())
    first, *_ = found(model)
    codes = {graph.operator_name(model, op): op.opcodeIndex for op in model.subgraphs[0].operators}
    middle = first.ops[len(first.ops) // 2 :]
    sums = [place for place in middle if graph.operator_name(model, model.subgraphs[0].operators[place]) == "ADD"]
    changed = model.subgraphs[0].operators[sums[0]]
    if "MUL" in codes:
        changed.opcodeIndex = codes["MUL"]
        changed.builtinOptionsType, changed.builtinOptions = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()
    else:
        changed.inputs = [changed.inputs[0], changed.inputs[0]]
    assert not [row for row in found(model) if sums[0] in row.ops]


def test_ops_are_those_of_the_steps():
    """Counted by hand: 11 in the first step, which starts from zeros, and 16 in the others."""
    (layer,) = inspect(FOLDER / "litert_torch_linear.tflite").unrolled_layers
    assert str(layer) == "LSTM, 5 steps, 75 ops"
    assert (layer.name, layer.units, layer.subgraph) == ("LSTM_layer", 4, 0)
    # A product of all steps with the input weights before them, and Linear behind.
    assert not {0, 1, 80, 81} & set(layer.ops)


@EXAMPLES
@given(spelling=SPELLINGS, steps=st.integers(3, 6))
def test_every_spelling_is_a_row(spelling, steps):
    assert [each.steps for each in found(read(spelling, Sizes(steps=steps)))] == [steps] * spelling.layers


@EXAMPLES
@given(spelling=SPELLINGS, step=st.integers(1, 3), seed=st.integers(0, 10_000))
def test_a_weight_that_differs_in_one_step_is_never_in_a_row(spelling, step, seed):
    spelling, random = dataclasses.replace(spelling, copies=True), np.random.default_rng(seed)
    # A projection behind the last step is no part of it.
    kinds = "wrb" + ("p" if spelling.projection and step < 3 else "")
    kind, gate = str(random.choice(list(kinds))), GATES[random.integers(4)]
    if spelling.product == "hoisted" and kind in "wb":
        return
    number = 3 - step if spelling.backwards else step

    def change(layer, t, own):
        if layer != spelling.layers - 1 or t != number:
            return own
        arrays = own.p.copy() if kind == "p" else {k: v.copy() for k, v in getattr(own, kind).items()}
        array = arrays if kind == "p" else arrays[gate]
        array[tuple(random.integers(array.shape))] *= 1 + 2.0**-22
        return dataclasses.replace(own, **{kind: arrays})

    assert [each.steps for each in found(read(spelling, Sizes(), change, seed))] == [4] * (spelling.layers - 1)


def without_h(model):
    """Each step takes zeros in the place of the h before."""
    subgraph = model.subgraphs[0]
    zeros = edit.add_constant(model, subgraph, "zeros", np.zeros((2, 5), np.float32))
    for op in subgraph.operators:
        if (
            graph.operator_name(model, op) == "FULLY_CONNECTED"
            and graph.shape_of(subgraph.tensors[op.inputs[0]])[1] == 5
        ):
            op.inputs = [zeros, *op.inputs[1:]]


def operators(model, name):
    return [op for op in model.subgraphs[0].operators if graph.operator_name(model, op) == name]


def other_activation(model):
    operators(model, "TANH")[5].opcodeIndex = operators(model, "LOGISTIC")[0].opcodeIndex


def swapped_gates(model):
    split = operators(model, "SPLIT")[2]
    split.outputs = [split.outputs[index] for index in (1, 0, 2, 3)]


def clipped_cell(model):
    operators(model, "ADD")[-1].builtinOptions.fusedActivationFunction = 1


@pytest.mark.parametrize("change", [without_h, other_activation, swapped_gates, clipped_cell])
def test_what_is_no_lstm_is_no_row(change):
    spelling = Spelling(start="zeros", bias="h")
    assert len(found(read(spelling, Sizes()))) == 1
    model = read(spelling, Sizes())
    change(model)
    assert not found(model)


def test_two_steps_are_no_row():
    assert not found(read(Spelling(), Sizes(steps=2)))


@pytest.fixture(scope="module")
def long():
    """Two layers of 70 steps, and what `inspect` says of them."""
    spelling, sizes = Spelling(layers=2, start="zeros"), Sizes(batch=2, steps=70, inputs=3, units=5)
    return inspect(unrolled_file(spelling, sizes, layers_for(spelling, sizes, 1)))


def test_the_table_has_a_row_for_each(long):
    first, second = long.unrolled_layers
    table = long.op_table()
    total = len(long.subgraphs[0].ops)
    assert table.title == f"All {total:,} operators"
    assert len(table.rows) == total - len(first.ops) - len(second.ops) + 2
    assert [row[2] for row in table.rows] == ["UNPACK", str(first), "PACK", "UNPACK", str(second), "PACK"]
    row = table.rows[1]
    assert row[3:5] == (" ".join(["[2, 3]"] * 6) + " and 64 more", " ".join(["[2, 5]"] * 6) + " and 64 more")
    # Two rows, 70 steps, 20 sums of 3 inputs and 5 units.
    assert row[5] == f"{2 * 70 * 20 * (3 + 5):,}"
    for text in (str(long), long._repr_html_()):
        assert "Unrolled layers" in text
    assert str(first) in long._repr_html_()
    assert long._repr_html_().count("LOGISTIC") == 1
    said = json.loads(json.dumps(long.to_dict()))["unrolled_layers"]
    assert [(each["steps"], each["ops"][0], len(each["ops"])) for each in said] == [
        (70, each.ops[0], len(each.ops)) for each in (first, second)
    ]


def test_other_files_have_no_such_table():
    assert "Unrolled" not in str(inspect(FOLDER / "tf1_gru.tflite"))


def test_the_drawing_has_a_box_and_an_arrow_for_each(long):
    drawing = long.drawing()
    root = ElementTree.fromstring(drawing.svg)
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in {str(each) for each in long.unrolled_layers}] == list(
        map(str, long.unrolled_layers)
    )
    assert texts.count("5 units, unrolled") == texts.count("6 units, unrolled") == 1
    assert {"70 x [2, 3]", "70 x [2, 5]", "70 x [2, 6]"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) == 7
    assert f"unrolled: {long.unrolled_layers[0]}, 5 units." in drawing.alt


def test_a_row_stands_behind_what_it_takes():
    """The steps begin before the product of all inputs that they take."""
    summary = inspect(FOLDER / "litert_torch_states_two_layers.tflite")
    assert [op.name for op in summary.subgraphs[0].ops[:2]] == ["SLICE", "SLICE"]
    root = ElementTree.fromstring(summary.drawing().svg)
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.index("TRANSPOSE") < texts.index(str(summary.unrolled_layers[0]))


def test_what_takes_of_itself_is_drawn_op_by_op():
    """What is computed of the h of one step goes into two later steps."""
    model = read(Spelling(write="pack"), Sizes(inputs=5, units=5))
    subgraph = model.subgraphs[0]
    packed = [int(index) for index in operators(model, "PACK")[0].inputs]
    fed = edit.add_tensor(subgraph, "fed", (2, 5))
    place = next(n for n, op in enumerate(subgraph.operators) if packed[0] in op.outputs)
    xs = [int(index) for index in operators(model, "UNPACK")[0].outputs]
    for op in subgraph.operators:
        op.inputs = [fed if index in xs[2:] else index for index in op.inputs]
    square = edit.new_operator(model, "MUL", [packed[0], packed[0]], [fed])
    subgraph.operators = [*subgraph.operators[: place + 1], square, *subgraph.operators[place + 1 :]]
    summary = inspect(files.write_model(model))
    (layer,) = summary.unrolled_layers
    assert layer.steps == 4
    assert in_order(summary.subgraphs[0].ops) == list(summary.subgraphs[0].ops)
    assert str(layer) not in summary.drawing().svg.partition("</desc>")[2]
    assert "UNPACK" in summary.drawing().svg


def test_thousands_of_operators_take_a_second():
    """A tenth of a second was measured: 26,000 operators take 1.4 seconds, and reading them 12."""
    model = read(Spelling(), Sizes(batch=1, steps=200, inputs=16, units=24))
    start = time.process_time()
    assert [each.steps for each in found(model)] == [200]
    assert len(model.subgraphs[0].operators) > 2500
    assert time.process_time() - start < 1
