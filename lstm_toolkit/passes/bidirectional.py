"""Pass: the two halves of a bidirectional layer become one op.

    before  [LSTM: x -> a]  [REVERSE_V2: x -> r] [LSTM: r -> b] [REVERSE_V2: b -> c]  [CONCATENATION: a, c -> y]
    after   [BIDIRECTIONAL_SEQUENCE_LSTM: x -> y]

and the same of `UNIDIRECTIONAL_SEQUENCE_RNN`. Where the halves are not joined by one concatenation (merge modes sum,
mul, ave and None, or only the last step), the op has two outputs, both in the order of time. It keeps the states, and
what sets or reads them, of the ops that it replaces.

The kernel asks for as many units in both directions, so the smaller half gets units whose weights are zero; they stay
at zero and are cut off behind the op.
"""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, files, graph
from lstm_toolkit.tflite.recurrent import layer_of, state_tensors
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT, LAYER_NORM_COEFFICIENTS, OPERANDS_OF

_BIDIRECTIONAL = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("BIDIRECTIONAL_SEQUENCE_LSTM", schema.BidirectionalSequenceLSTMOptionsT),
    "UNIDIRECTIONAL_SEQUENCE_RNN": ("BIDIRECTIONAL_SEQUENCE_RNN", schema.BidirectionalSequenceRNNOptionsT),
}


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
        for forward, backward in found:
            became |= _merge(model, subgraph, forward, backward)
        if found:
            edit.sort_operators(subgraph)
    return became


def pairs(model: Model, subgraph: Subgraph) -> list[tuple[Any, Any]]:
    """The pairs of a forward op and one over its reversed input that can become one op."""
    producers = graph.producers(subgraph)
    halves = [op for op in subgraph.operators if graph.operator_name(model, op) in _BIDIRECTIONAL]
    taken: set[int] = set()
    found = []
    for backward in halves:
        reverse = producers.get(backward.inputs[0])
        if reverse is None or not _is_time_reversal(model, subgraph, reverse, backward):
            continue
        for forward in halves:
            if not {id(forward), id(backward)} & taken and _fit(model, subgraph, forward, backward, reverse.inputs[0]):
                found.append((forward, backward))
                taken |= {id(forward), id(backward)}
    return found


def _fit(model: Model, subgraph: Subgraph, forward: Any, backward: Any, x: int) -> bool:
    if forward is backward or forward.inputs[0] != x or forward.opcodeIndex != backward.opcodeIndex:
        return False
    if vars(forward.builtinOptions) != vars(backward.builtinOptions):
        return False
    # There is no kernel for an int8 one.
    types = {subgraph.tensors[index].type for op in (forward, backward) for index in op.inputs if index != ABSENT}
    if types != {schema.TensorType.FLOAT32}:
        return False
    if _units(subgraph, forward) != _units(subgraph, backward) and not all(
        _can_grow(model, subgraph, half) for half in (forward, backward)
    ):
        return False
    # The merged op has no operands for layer normalization.
    operands = OPERANDS_OF[graph.operator_name(model, forward)]
    normalized = [operands.index(name) for name in LAYER_NORM_COEFFICIENTS if name in operands]
    return all(
        op.inputs[index] == ABSENT for op in (forward, backward) for index in normalized if index < len(op.inputs)
    )


def _is_time_reversal(model: Model, subgraph: Subgraph, op: Operator, recurrent: Any) -> bool:
    if graph.operator_name(model, op) != "REVERSE_V2":
        return False
    axis = graph.constant(model, subgraph.tensors[op.inputs[1]])
    rank = len(graph.shape_of(subgraph.tensors[op.inputs[0]]))
    time = 0 if recurrent.builtinOptions.timeMajor else 1
    return axis is not None and [int(each) % rank for each in axis.reshape(-1)] == [time]


def _merge(model: Model, subgraph: Subgraph, forward: Any, backward: Any) -> dict[str, str]:
    name, options_class = _BIDIRECTIONAL[graph.operator_name(model, forward)]
    gone = [layer_of(subgraph.tensors[state_tensors(model, op)[0]]) for op in (forward, backward)]
    reverse = graph.producers(subgraph)[backward.inputs[0]]
    cut = _with_equal_units(model, subgraph, forward, backward)
    operands = OPERANDS_OF[graph.operator_name(model, forward)]
    indices = dict.fromkeys(OPERANDS_OF[name], ABSENT) | {"input": forward.inputs[0]}
    for direction, half in (("forward", forward), ("backward", backward)):
        for operand, index in zip(operands[1:], half.inputs[1:], strict=False):
            if f"{direction}_{operand}" in indices:
                indices[f"{direction}_{operand}"] = index

    outputs = [forward.outputs[0], _in_order_of_time(model, subgraph, backward)]
    options = options_class()
    for field, value in vars(forward.builtinOptions).items():
        if hasattr(options, field):
            setattr(options, field, value)
    joint = None if cut else _concatenation(model, subgraph, outputs, forward)
    options.mergeOutputs = joint is not None
    merged = schema.OperatorT()
    merged.opcodeIndex = edit.operator_code(model, getattr(schema.BuiltinOperator, name))
    merged.builtinOptionsType = getattr(schema.BuiltinOptions, options_class.__name__.removesuffix("T"))
    merged.builtinOptions = options
    merged.inputs = [indices[operand] for operand in OPERANDS_OF[name]]
    merged.outputs = list(joint.outputs) if joint is not None else outputs
    slices = [_cut(model, subgraph, merged, direction, units) for direction, units in cut.items()]

    states = set(state_tensors(model, merged))
    readers = [op for op in subgraph.operators if op not in (forward, backward) and states & set(op.inputs)]
    readers = [op for op in readers if not states & set(op.outputs)]
    dropped = [op for op in (forward, backward, joint, *readers) if op is not None]
    later = max((forward, backward), key=subgraph.operators.index)
    operators = []
    for op in subgraph.operators:
        operators += [merged, *readers, *slices] if op is later else [] if op in dropped else [op]
    subgraph.operators = operators
    if reverse.outputs[0] not in graph.consumed(subgraph):
        subgraph.operators.remove(reverse)
    return dict.fromkeys(gone, name)


def _units(subgraph: Subgraph, half: Any) -> int:
    """Number of units: rows of the first weights that are there."""
    return int(graph.shape_of(subgraph.tensors[next(index for index in half.inputs[1:] if index != ABSENT)])[0])


def _with_equal_units(model: Model, subgraph: Subgraph, forward: Any, backward: Any) -> dict[int, int]:
    """Gives the smaller half units whose weights are zero.

    Returns:
        For the output of that half (0 forward, 1 backward), its number of units before; empty where they are equal.
    """
    halves = (forward, backward)
    units = [_units(subgraph, half) for half in halves]
    if units[0] == units[1]:
        return {}
    smaller, wanted = int(np.argmin(units)), max(units)
    half, added = halves[smaller], wanted - units[smaller]
    states = state_tensors(model, half)
    operands = OPERANDS_OF[graph.operator_name(model, half)]
    for place, (operand, index) in enumerate(zip(operands, half.inputs, strict=False)):
        if index == ABSENT or operand == "input":
            continue
        tensor = subgraph.tensors[index]
        name = f"{graph.text(tensor.name)}/{wanted}_units"
        if index in states:
            shape = (graph.shape_of(tensor)[0], wanted)
            half.inputs[place] = edit.add_tensor(subgraph, graph.text(tensor.name), shape, variable=True)
            for reset in [op for op in subgraph.operators if index in op.outputs]:
                reset.inputs, reset.outputs = [half.inputs[place]], [half.inputs[place]]
        else:
            values = np.asarray(graph.constant(model, tensor))
            grown = [(0, added)] + [(0, added if "recurrent" in operand else 0)] * (values.ndim - 1)
            half.inputs[place] = edit.add_constant(model, subgraph, name, np.pad(values, grown))
    return {smaller: units[smaller]}


def _can_grow(model: Model, subgraph: Subgraph, half: Any) -> bool:
    """Whether units can be added: all weights are float constants, and states are touched by nothing but resets."""
    states = state_tensors(model, half)
    for op in subgraph.operators:
        is_reset = graph.operator_name(model, op) == "ZEROS_LIKE" and list(op.inputs) == list(op.outputs)
        if op is not half and not is_reset and set(states) & {*op.inputs, *op.outputs}:
            return False
    operands = OPERANDS_OF[graph.operator_name(model, half)]
    present = {name: index for name, index in zip(operands, half.inputs, strict=False) if index != ABSENT}
    weights = [subgraph.tensors[index] for name, index in present.items() if name != "input" and index not in states]
    return "projection_weights" not in present and all(
        tensor.type == schema.TensorType.FLOAT32 and graph.constant(model, tensor) is not None for tensor in weights
    )


def _cut(model: Model, subgraph: Subgraph, merged: Any, output: int, units: int) -> Any:
    """A slice that takes the units that the layer has out of an output with more."""
    target = merged.outputs[output]
    old = subgraph.tensors[target]
    wide = edit.add_tensor(subgraph, f"{graph.text(old.name)}/wide", old.shape, dtype=old.type)
    subgraph.tensors[wide].shapeSignature = old.shapeSignature
    for shape in (subgraph.tensors[wide].shape, subgraph.tensors[wide].shapeSignature):
        if shape is not None:
            shape[-1] = _units(subgraph, merged)
    merged.outputs[output] = wide
    rank = len(old.shape)
    begin = edit.add_constant(model, subgraph, "begin", np.zeros(rank, np.int32))
    size = edit.add_constant(model, subgraph, "size", np.array([-1] * (rank - 1) + [units], np.int32))
    return edit.new_operator(model, "SLICE", [wide, begin, size], [target])


def _in_order_of_time(model: Model, subgraph: Subgraph, backward: Any) -> int:
    """A tensor for the backward outputs in the order of time; what used them reversed uses this one now."""
    reversed_output = backward.outputs[0]
    users = [op for op in subgraph.operators if reversed_output in op.inputs]
    reversals = [op for op in users if _is_time_reversal(model, subgraph, op, backward)]
    reversals.sort(key=lambda op: op.outputs[0] not in subgraph.outputs)
    if reversals:
        in_order = reversals[0].outputs[0]
    else:
        old = subgraph.tensors[reversed_output]
        in_order = edit.add_tensor(subgraph, f"{graph.text(old.name)}/in_order_of_time", old.shape, dtype=old.type)
        subgraph.tensors[in_order].shapeSignature = old.shapeSignature
        subgraph.tensors[in_order].quantization = old.quantization
    time, left = (0 if backward.builtinOptions.timeMajor else 1), reversed_output in subgraph.outputs
    for op in users:
        if op in reversals and (op is reversals[0] or op.outputs[0] not in subgraph.outputs):
            edit.redirect(subgraph, op.outputs[0], in_order)
            subgraph.operators.remove(op)
        elif _takes_last_step(model, subgraph, op, time):
            _take_first_step(model, subgraph, op, in_order, time)
        else:
            left = True
    if left:
        axis = edit.add_constant(model, subgraph, "time", np.array([time], np.int32))
        subgraph.operators.append(edit.new_operator(model, "REVERSE_V2", [in_order, axis], [reversed_output]))
    return in_order


def _takes_last_step(model: Model, subgraph: Subgraph, op: Operator, time: int) -> bool:
    if graph.operator_name(model, op) != "STRIDED_SLICE" or op.builtinOptions.shrinkAxisMask != 1 << time:
        return False
    begin = graph.constant(model, subgraph.tensors[op.inputs[1]])
    return begin is not None and len(begin) > time and begin[time] == -1


def _take_first_step(model: Model, subgraph: Subgraph, op: Operator, source: int, time: int) -> None:
    begin = np.array(graph.constant(model, subgraph.tensors[op.inputs[1]]))
    end = np.array(graph.constant(model, subgraph.tensors[op.inputs[2]]))
    begin[time], end[time] = 0, 1
    first = edit.add_constant(model, subgraph, "first_step", begin)
    behind = edit.add_constant(model, subgraph, "behind_first_step", end)
    op.inputs = [source, first, behind, op.inputs[3]]


def _concatenation(model: Model, subgraph: Subgraph, outputs: list[int], half: Any) -> Any:
    """The concatenation that is all that uses both outputs, forward first, along the last axis; or None.

    None too where the kernel cannot join the outputs itself: batch-major, it finds the state of the second and later
    rows by the width of the joint output and so runs over the end of the state (`EvalFloat` in `lstm_eval.cc`).
    """
    if not half.builtinOptions.timeMajor and graph.shape_of(subgraph.tensors[outputs[0]])[0] != 1:
        return None
    users = [op for op in subgraph.operators if set(outputs) & set(op.inputs)]
    if len(users) != 1 or set(outputs) & set(subgraph.outputs):
        return None
    (op,) = users
    if graph.operator_name(model, op) != "CONCATENATION" or list(op.inputs) != outputs:
        return None
    rank = len(graph.shape_of(subgraph.tensors[outputs[0]]))
    is_plain = op.builtinOptions.fusedActivationFunction == schema.ActivationFunctionType.NONE
    return op if is_plain and op.builtinOptions.axis % rank == rank - 1 else None
