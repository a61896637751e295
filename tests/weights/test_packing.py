"""The declared packings against how version 1.0.0 split and packed: the same numbers, and the same refusals."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_toolkit import GateWeights
from lstm_toolkit.gate_pictures.layout import gate_layout
from lstm_toolkit.weights import frameworks
from lstm_toolkit.weights.operands import GATES, WEIGHT_OPERANDS
from lstm_toolkit.weights.packing import PACKED_KINDS, Packing

from . import old_packing

EXAMPLES = settings(max_examples=150, deadline=None)
ORDERS = [*itertools.permutations(GATES), *itertools.permutations(GATES[1:])]


@dataclasses.dataclass(frozen=True)
class Case:
    """What an LSTM has, in sizes that are all different."""

    gates: tuple[str, ...]
    inputs: int
    units: int
    outputs: int
    bias: bool
    peephole: bool
    projection: bool
    projection_bias: bool
    layer_norm: bool
    diagonal: bool
    forget_gate_bias: float
    seed: int

    def array(self, *shape):
        return np.random.default_rng((self.seed, *shape)).normal(size=shape).astype(np.float32)

    def packed(self, *, joint=False):
        """Arrays by kind, gates in the last axis."""
        columns = len(self.gates) * self.units
        own = {"joint_kernel": (self.inputs + self.outputs, columns)} if joint else {"kernel": (self.inputs, columns)}
        if not joint:
            kind = "recurrent_diagonal" if self.diagonal else "recurrent_kernel"
            own[kind] = (columns,) if self.diagonal else (self.outputs, columns)
        own |= {"bias": (columns,)} if self.bias else {}
        own |= {"layer_norm": (columns,)} if self.layer_norm else {}
        own |= {"peephole": ((len(self.gates) - 1) * self.units,)} if self.peephole else {}
        own |= {"projection": (self.units, self.outputs)} if self.projection else {}
        own |= {"projection_bias": (self.outputs,)} if self.projection_bias else {}
        # Arrays of one shape differ too.
        return {kind: self.array(*shape) + number for number, (kind, shape) in enumerate(own.items())}


@st.composite
def cases(draw):
    inputs, units, outputs = draw(st.permutations(range(1, 8)))[:3]
    projection = draw(st.booleans())
    diagonal = not projection and draw(st.booleans())
    return Case(
        gates=draw(st.sampled_from(ORDERS)),
        inputs=inputs,
        units=units,
        outputs=outputs if projection else units,
        bias=draw(st.booleans()),
        peephole=draw(st.booleans()),
        projection=projection,
        projection_bias=projection and draw(st.booleans()),
        layer_norm=draw(st.booleans()),
        diagonal=diagonal,
        forget_gate_bias=draw(st.sampled_from([0.0, 1.0, 0.3])),
        seed=draw(st.integers(0, 99)),
    )


def same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name, strict=True)


@EXAMPLES
@given(case=cases(), joint=st.booleans(), by_rows=st.booleans())
def test_split_of_any_order(case, joint, by_rows):
    packed = case.packed(joint=joint and not case.diagonal)
    if by_rows:
        packed = {kind: array.T for kind, array in packed.items()}
    options = {"gates": case.gates, "gate_axis": 0 if by_rows else -1, "forget_gate_bias": case.forget_gate_bias}
    packing = Packing(**options)
    actual = packing.split(packed)
    expected = old_packing.split_packed(packed, **options)
    assert actual.keys() == expected.keys()
    same({name: actual[name] for name in expected}, expected)
    shapes = {kind: array.shape for kind, array in packed.items()}
    assert packing.sizes(shapes) == old_packing.check_packed(shapes, gates=case.gates, gate_axis=options["gate_axis"])

    # Backwards: everything that is there, once, in the same places.
    own = dataclasses.replace(packing, arrays={kind: kind for kind in packed}, forget_gate_bias=0.0)
    same(own.pack(own.split(packed)), packed)


def outcome(function, *args, **options):
    """What a call gives, or its message."""
    try:
        return function(*args, **options)
    except ValueError as error:
        return str(error)


@EXAMPLES
@given(case=cases(), change=st.data(), joint=st.booleans(), named=st.booleans())
def test_shapes_that_do_not_fit_are_refused_in_the_same_words(case, change, joint, named):
    shapes = {kind: array.shape for kind, array in case.packed(joint=joint and not case.diagonal).items()}
    kind = change.draw(st.sampled_from(sorted(shapes)))
    shapes[kind] = tuple(change.draw(st.lists(st.integers(1, 30), min_size=1, max_size=3)))
    names = {kind: f"argument {kind}" for kind in shapes} if named else None
    for axis in (0, -1):
        actual = outcome(Packing(gates=case.gates, gate_axis=axis).sizes, shapes, names)
        expected = outcome(old_packing.check_packed, shapes, gates=case.gates, gate_axis=axis, names=names)
        assert actual == expected


def weights_of(case):
    return GateWeights.from_operands(old_packing.split_packed(case.packed(), gates=case.gates))


@EXAMPLES
@given(case=cases())
def test_frameworks_pack_as_before(case):
    weights = weights_of(dataclasses.replace(case, diagonal=False))
    bias = {"forget_gate_bias": case.forget_gate_bias}
    name = {"layer": 2, "reverse": True}
    for actual, expected in (
        (outcome(weights.to_keras), outcome(old_packing.pack_keras, weights)),
        (outcome(weights.to_lingvo, **bias), outcome(old_packing.pack_lingvo, weights, **bias)),
        (outcome(weights.to_torch, **name), outcome(old_packing.pack_torch, weights, **name)),
    ):
        if isinstance(expected, str):
            assert actual == expected
        elif isinstance(expected, list):
            same(dict(enumerate(actual)), dict(enumerate(expected)))
        else:
            same(actual, expected)


def test_no_framework_has_a_diagonal_recurrence():
    """Version 1.0.0 gave Keras and PyTorch a vector as recurrent kernel."""
    packed = {"kernel": np.ones((3, 20)), "recurrent_diagonal": np.ones(20)}
    weights = GateWeights.from_operands(Packing(gates=GATES).split(packed))
    for function in (weights.to_keras, weights.to_lingvo, weights.to_torch):
        with pytest.raises(ValueError, match=r"cannot hold these weights: there are \[.*'recurrent_to_input_weights'"):
            function()


@EXAMPLES
@given(case=cases(), told=st.sampled_from(["num_input_nodes", "couple_input_forget_gates"]))
def test_lingvo_splits_as_before(case, told):
    coupled = len(case.gates) == 3
    own = {kind: array for kind, array in case.packed(joint=True).items() if kind in frameworks.LINGVO.arrays.values()}
    names = {kind: name for name, kind in frameworks.LINGVO.arrays.items()}
    theta = {names[kind]: array for kind, array in own.items()}
    options = {"num_input_nodes": None, "couple_input_forget_gates": None, "forget_gate_bias": case.forget_gate_bias}
    options[told] = case.inputs if told == "num_input_nodes" else coupled
    actual = frameworks.read_lingvo(theta, **options).split()
    expected = old_packing.split_lingvo(theta, **options)
    same({name: actual[name] for name in expected}, expected)


@EXAMPLES
@given(case=cases())
def test_keras_and_torch_split_as_before(case):
    case = dataclasses.replace(case, gates=GATES, diagonal=False)
    arrays = case.packed()
    kernels = [arrays[kind] for kind in ("kernel", "recurrent_kernel", "bias") if kind in arrays]
    if not case.projection:
        same(frameworks.read_keras(kernels).split(), old_packing.split_keras(kernels))
    state = {"weight_ih_l1": arrays["kernel"].T, "weight_hh_l1": arrays["recurrent_kernel"].T}
    if case.bias:
        state |= {"bias_ih_l1": arrays["bias"], "bias_hh_l1": case.array(len(arrays["bias"])) * 3}
    if case.projection:
        state["weight_hr_l1"] = arrays["projection"].T
    options = {"layer": 1, "reverse": False}
    same(frameworks.read_torch(state, **options).split(), old_packing.split_torch(state, **options))


@settings(max_examples=60, deadline=None)
@given(case=cases(), order=st.sampled_from(["keras", "lingvo", "pytorch"]))
def test_pictures_show_the_same_arrays(case, order):
    weights = weights_of(case)
    actual = [array.values for array in gate_layout(weights, order=order).arrays]
    expected = [array for _, array in old_packing.pack_for_a_picture(weights, order)]
    assert len(actual) == len(expected)
    for array in expected:
        assert any(np.array_equal(array, each) for each in actual)


def test_kinds_name_every_operand_for_weights_and_no_other():
    named = [
        operand.format(gate)
        for kind in PACKED_KINDS.values()
        for operand in kind.operands
        for gate in kind.gates(GATES) or ("",)
    ]
    assert set(named) == set(WEIGHT_OPERANDS)


def test_what_cannot_be_cut_is_refused():
    packing = Packing(gates=GATES)
    with pytest.raises(ValueError, match=r"peephole of shape \[16\] cannot be split into 3 gates"):
        packing.split({"peephole": np.zeros(16)})
