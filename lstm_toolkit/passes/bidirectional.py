"""Pass: the two halves of a bidirectional layer become one op.

    before  [LSTM: x -> a]  [REVERSE_V2: x -> r] [LSTM: r -> b] [REVERSE_V2: b -> c]  [CONCATENATION: a, c -> y]
    after   [BIDIRECTIONAL_SEQUENCE_LSTM: x -> y]

and the same of `UNIDIRECTIONAL_SEQUENCE_RNN`. Where the halves are not joined by one concatenation (merge modes sum,
mul, ave and None, or only the last step), the op has two outputs, both in the order of time. It keeps the states, and
what sets or reads them, of the ops that it replaces.

The kernel asks for as many units in both directions, so the smaller half gets units whose weights are zero; they stay
at zero and are cut off behind the op.
"""

import dataclasses

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, files, graph
from lstm_toolkit.tflite.recurrent import RecurrentOp, recurrent_ops, state_tensors
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT, OPERANDS_OF

_BIDIRECTIONAL = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "BIDIRECTIONAL_SEQUENCE_LSTM",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "BIDIRECTIONAL_SEQUENCE_RNN",
}

_DIRECTIONS = ("forward", "backward")


@dataclasses.dataclass(frozen=True)
class Halves:
    """Two ops that can become one, fully checked.

    Attributes:
        forward, backward: the ops.
        reversal: what reverses the input of the backward op.
    """

    forward: RecurrentOp
    backward: RecurrentOp
    reversal: Operator

    @property
    def ops(self) -> tuple[RecurrentOp, RecurrentOp]:
        """Both ops, forward first."""
        return self.forward, self.backward


def merge(tflite: bytes) -> bytes:
    """Merges the halves of bidirectional layers in a file, wherever it comes from.

    Args:
        tflite: a `.tflite` file.

    Returns:
        The file with one op a bidirectional layer, or the same bytes where there is none to merge.

    Raises:
        InvalidModelError: if the bytes are no readable `.tflite` file.
    """
    model = files.read_model(tflite)
    return files.write_model(model) if merge_bidirectional(model) else tflite


def merge_bidirectional(model: Model) -> dict[str, str]:
    """Merges all pairs of a forward and a reversed op over the same input, in place.

    Returns:
        For the layer name of each op that is gone, the op that it became.
    """
    became: dict[str, str] = {}
    for subgraph in model.subgraphs:
        found = pairs(model, subgraph)
        for halves in found:
            became |= dict.fromkeys([half.layer for half in halves.ops], _BIDIRECTIONAL[halves.forward.name])
            _merge(model, subgraph, halves)
        if found:
            edit.sort_operators(subgraph)
    return became


def pairs(model: Model, subgraph: Subgraph) -> list[Halves]:
    """The pairs of a forward op and one over its reversed input that can become one op."""
    producers = graph.producers(subgraph)
    waiting = [op for op in recurrent_ops(model, subgraph) if op.name in _BIDIRECTIONAL]
    found = []
    for backward in list(waiting):
        reversal = producers.get(backward.operator.inputs[0])
        if reversal is None or not _reverses_time(backward, reversal):
            continue
        for forward in waiting:
            if backward in waiting and _fit(forward, backward, reversal.inputs[0]):
                found.append(Halves(forward, backward, reversal))
                waiting = [op for op in waiting if op not in (forward, backward)]
    return found


def _fit(forward: RecurrentOp, backward: RecurrentOp, x: int) -> bool:
    """Whether a forward op over an input and a backward one over its reverse can become one op."""
    if forward == backward or forward.operator.inputs[0] != x or forward.name != backward.name:
        return False
    if forward.operator.opcodeIndex != backward.operator.opcodeIndex or vars(forward.options) != vars(backward.options):
        return False
    halves = (forward, backward)
    # There is no kernel for an int8 one.
    kinds = {half.subgraph.tensors[index].type for half in halves for index in half.operands.values()}
    # The merged op has no operands for layer normalization.
    if kinds != {schema.TensorType.FLOAT32} or any(half.is_normalized for half in halves):
        return False
    return forward.units == backward.units or all(map(_can_grow, halves))


def _reverses_time(half: RecurrentOp, operator: Operator) -> bool:
    if graph.operator_name(half.model, operator) != "REVERSE_V2":
        return False
    axis = graph.constant(half.model, half.subgraph.tensors[operator.inputs[1]])
    rank = len(graph.shape_of(half.subgraph.tensors[operator.inputs[0]]))
    return axis is not None and rank > 0 and [int(each) % rank for each in axis.reshape(-1)] == [half.time_axis]


def _merge(model: Model, subgraph: Subgraph, halves: Halves) -> None:
    name = _BIDIRECTIONAL[halves.forward.name]
    cut = _with_equal_units(halves)
    inputs = dict.fromkeys(OPERANDS_OF[name], ABSENT) | {"input": halves.forward.operands["input"]}
    for direction, half in zip(_DIRECTIONS, halves.ops, strict=True):
        own = {f"{direction}_{operand}": index for operand, index in half.operands.items()}
        inputs |= {operand: index for operand, index in own.items() if operand in inputs}
    outputs = [halves.forward.operator.outputs[0], _in_order_of_time(halves.backward)]
    joint = None if cut else _concatenation(halves.forward, outputs)
    merged = edit.new_operator(model, name, list(inputs.values()), outputs if joint is None else joint.outputs)
    for field, value in vars(halves.forward.options).items():
        if hasattr(merged.builtinOptions, field):
            setattr(merged.builtinOptions, field, value)
    merged.builtinOptions.mergeOutputs = joint is not None
    slices = [_cut(model, subgraph, merged, place, units) for place, units in cut.items()]
    _place(model, subgraph, halves, merged, joint, slices)


def _place(
    model: Model, subgraph: Subgraph, halves: Halves, merged: Operator, joint: Operator | None, slices: list[Operator]
) -> None:
    """Puts the merged op where the later half stood, before what reads its states, and drops what it replaces."""
    operators = [half.operator for half in halves.ops]
    states = set(state_tensors(model, merged))
    readers = [op for op in subgraph.operators if op not in operators and states & set(op.inputs)]
    readers = [op for op in readers if not states & set(op.outputs)]
    later = max(operators, key=subgraph.operators.index)
    place = subgraph.operators.index(later)
    before, after = (
        [op for op in part if op not in (*operators, joint, *readers)]
        for part in (subgraph.operators[:place], subgraph.operators[place:])
    )
    subgraph.operators = [*before, merged, *readers, *slices, *after]
    if halves.reversal.outputs[0] not in graph.consumed(subgraph):
        subgraph.operators.remove(halves.reversal)


def _with_equal_units(halves: Halves) -> dict[int, int]:
    """Gives the smaller half units whose weights are zero.

    Returns:
        For the output of that half (0 forward, 1 backward), its number of units before; empty where they are equal.
    """
    units = [half.units for half in halves.ops]
    if units[0] == units[1]:
        return {}
    smaller, wanted = int(np.argmin(units)), max(units)
    half, added = halves.ops[smaller], wanted - units[smaller]
    model, subgraph, inputs = half.model, half.subgraph, half.operator.inputs
    for operand, index in half.operands.items():
        tensor, place = subgraph.tensors[index], OPERANDS_OF[half.name].index(operand)
        name = graph.text(tensor.name)
        if index in half.states:
            shape = (graph.shape_of(tensor)[0], wanted)
            inputs[place] = edit.add_tensor(subgraph, name, shape, variable=True)
            for reset in [op for op in subgraph.operators if index in op.outputs]:
                reset.inputs, reset.outputs = [inputs[place]], [inputs[place]]
        elif operand != "input":
            values = np.asarray(graph.constant(model, tensor))
            grown = [(0, added)] + [(0, added if "recurrent" in operand else 0)] * (values.ndim - 1)
            inputs[place] = edit.add_constant(model, subgraph, f"{name}/{wanted}_units", np.pad(values, grown))
    return {smaller: units[smaller]}


def _can_grow(half: RecurrentOp) -> bool:
    """Whether units can be added: all weights are float constants, and states are touched by nothing but resets."""
    for op in half.subgraph.operators:
        is_reset = graph.operator_name(half.model, op) == "ZEROS_LIKE" and list(op.inputs) == list(op.outputs)
        if op is not half.operator and not is_reset and set(half.states) & {*op.inputs, *op.outputs}:
            return False
    weights = [index for name, index in half.operands.items() if name != "input" and index not in half.states]
    arrays = (graph.float_constant(half.model, half.subgraph.tensors[index]) for index in weights)
    return not half.has("projection_weights") and all(array is not None for array in arrays)


def _cut(model: Model, subgraph: Subgraph, merged: Operator, output: int, units: int) -> Operator:
    """Widens an output to the units of the op; returns the slice that takes the units of the layer out of it."""
    target = merged.outputs[output]
    sizes, wide = graph.shape_of(subgraph.tensors[target])[:-1], RecurrentOp(model, subgraph, merged).units
    merged.outputs[output] = edit.like(subgraph, target, "wide", shape=(*sizes, wide))
    begin = edit.add_constant(model, subgraph, "begin", np.zeros(len(sizes) + 1, np.int32))
    size = edit.add_constant(model, subgraph, "size", np.array([-1] * len(sizes) + [units], np.int32))
    return edit.new_operator(model, "SLICE", [merged.outputs[output], begin, size], [target])


def _in_order_of_time(half: RecurrentOp) -> int:
    """A tensor for the backward outputs in the order of time, which takes the place of the reversed ones."""
    model, subgraph, reversed_output = half.model, half.subgraph, half.operator.outputs[0]
    users = [op for op in subgraph.operators if reversed_output in op.inputs]
    reversals = [op for op in users if _reverses_time(half, op)]
    reversals.sort(key=lambda op: op.outputs[0] not in subgraph.outputs)
    if reversals:
        in_order = reversals[0].outputs[0]
    else:
        quantization = subgraph.tensors[reversed_output].quantization
        in_order = edit.like(subgraph, reversed_output, "in_order_of_time", quantization=quantization)
    left = reversed_output in subgraph.outputs
    for op in users:
        if op in reversals and (op is reversals[0] or op.outputs[0] not in subgraph.outputs):
            edit.redirect(subgraph, op.outputs[0], in_order)
            subgraph.operators.remove(op)
        elif graph.takes_last_step(model, subgraph, op, half.time_axis, whole=False):
            _take_first_step(half, op, in_order)
        else:
            left = True
    if left:
        axis = edit.add_constant(model, subgraph, "time", np.array([half.time_axis], np.int32))
        subgraph.operators.append(edit.new_operator(model, "REVERSE_V2", [in_order, axis], [reversed_output]))
    return in_order


def _take_first_step(half: RecurrentOp, op: Operator, source: int) -> None:
    """Lets an op that takes the last step of the reversed outputs take the first one of those in the order of time."""
    model, subgraph, time = half.model, half.subgraph, half.time_axis
    begin, end = (np.array(graph.constant(model, subgraph.tensors[index])) for index in op.inputs[1:3])
    begin[time], end[time] = 0, 1
    first = edit.add_constant(model, subgraph, "first_step", begin)
    behind = edit.add_constant(model, subgraph, "behind_first_step", end)
    op.inputs = [source, first, behind, op.inputs[3]]


def _concatenation(half: RecurrentOp, outputs: list[int]) -> Operator | None:
    """The only user of both outputs, if it concatenates them along the last axis, forward first; else None.

    It is None too where the kernel cannot join the outputs itself: batch-major, it finds the state of the second and
    later rows by the width of the joint output and so runs over the end of the state (`EvalFloat` in `lstm_eval.cc`).
    """
    subgraph, shape = half.subgraph, graph.shape_of(half.subgraph.tensors[outputs[0]])
    users = [op for op in subgraph.operators if set(outputs) & set(op.inputs)]
    is_joined_wrongly = not half.is_time_major and half.batch != 1
    if not shape or is_joined_wrongly or len(users) != 1 or set(outputs) & set(subgraph.outputs):
        return None
    (op,) = users
    if graph.operator_name(half.model, op) != "CONCATENATION" or list(op.inputs) != outputs:
        return None
    is_plain = op.builtinOptions.fusedActivationFunction == schema.ActivationFunctionType.NONE
    return op if is_plain and op.builtinOptions.axis % len(shape) == len(shape) - 1 else None
