"""Pass: transposes between batch-major and time-major move behind what works in either layout, and cancel.

    before  [TRANSPOSE: x -> t] [LSTM, batch-major: t -> y] [TRANSPOSE: y -> z]
    after   [LSTM, time-major: x -> z]

A transpose that swaps the first two axes is moved behind recurrent ops (which have a flag for the layout), element-wise
ops, dense layers, and what picks or reduces the time axis, until it meets its inverse. The pass is undone where it
would not lower the number of transposes.
"""

import copy
from collections.abc import Iterable

import numpy as np

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.graph import REDUCERS
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import OPERANDS_OF

_UNARY = {"ABS", "CAST", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU", "RELU6"}
_UNARY |= {"RELU_N1_TO_1", "RSQRT", "SOFTMAX", "SQRT", "SQUARE", "TANH"}
_BINARY = {"ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "SQUARED_DIFFERENCE", "SUB"}


def sink_transposes(model: Model) -> int:
    """Moves and cancels transposes of the first two axes, in place.

    Returns:
        The number of transposes removed.
    """
    saved = 0
    for number, subgraph in enumerate(model.subgraphs):
        before = len(_swaps(model, subgraph))
        if not before:
            continue
        snapshot = copy.deepcopy(subgraph)
        while _move_one(model, subgraph):
            pass
        removed = before - len(_swaps(model, subgraph))
        if removed > 0:
            edit.sort_operators(subgraph)
            saved += removed
        else:
            model.subgraphs[number] = snapshot
    return saved


def _swaps(model: Model, subgraph: Subgraph) -> dict[int, Operator]:
    """The transposes of the first two axes, by the tensor that they make."""
    return {op.outputs[0]: op for op in subgraph.operators if swaps_first_axes(model, subgraph, op)}


def _move_one(model: Model, subgraph: Subgraph) -> bool:
    """Moves or drops one transpose, if it can."""
    swaps, consumed = _swaps(model, subgraph), graph.consumed(subgraph)
    for index, swap in swaps.items():
        if index not in consumed:
            subgraph.operators.remove(swap)
            return True
    return any(swaps.keys() & set(op.inputs) and _move(model, subgraph, op, swaps) for op in subgraph.operators)


def swaps_first_axes(model: Model, subgraph: Subgraph, op: Operator) -> bool:
    """Whether an operator swaps the first two axes: a TRANSPOSE, or the RESHAPE that stands for it if an axis is 1."""
    name = graph.operator_name(model, op)
    if name == "RESHAPE":
        before, after = (graph.shape_of(subgraph.tensors[index]) for index in (op.inputs[0], op.outputs[0]))
        return len(before) > 2 and 1 in before[:2] and before != after and list(after) == _swapped(before)
    if name != "TRANSPOSE":
        return False
    permutation = graph.constant(model, subgraph.tensors[op.inputs[1]])
    return permutation is not None and len(permutation) > 1 and list(permutation) == _swapped(range(len(permutation)))


def _move(model: Model, subgraph: Subgraph, op: Operator, swaps: dict[int, Operator]) -> bool:
    """Moves the transposes that stand before an operator behind it, if the operator works in either layout."""
    name = graph.operator_name(model, op)
    if name in ("TRANSPOSE", "RESHAPE"):
        return _cancel(model, subgraph, op, swaps)
    if name == "STRIDED_SLICE":
        return _slice(model, subgraph, op, swaps)
    if name in REDUCERS:
        if op.builtinOptions.keepDims or not _swap_axis(model, subgraph, op):
            return False
    elif name in OPERANDS_OF:
        # Bidirectional ops keep their layout: how they may join their outputs depends on it.
        if op.inputs[0] not in swaps or name.startswith("BIDIRECTIONAL"):
            return False
        op.builtinOptions.timeMajor = not op.builtinOptions.timeMajor
    elif name == "REVERSE_V2":
        if not _swap_axis(model, subgraph, op):
            return False
    elif not _is_indifferent(subgraph, name, op, swaps):
        return False
    op.inputs = [swaps[index].inputs[0] if index in swaps else index for index in op.inputs]
    if name not in REDUCERS:
        _transpose_outputs(model, subgraph, op)
    return True


def _is_indifferent(subgraph: Subgraph, name: str, op: Operator, swaps: dict[int, Operator]) -> bool:
    """Whether an operator treats the first two axes alike, for the inputs that it has."""
    rank = len(graph.shape_of(subgraph.tensors[op.outputs[0]]))
    if name in _UNARY:
        return rank > 2
    if name == "FULLY_CONNECTED":
        return op.builtinOptions.keepNumDims and rank > 2 and op.inputs[0] in swaps
    others = [index for index in op.inputs if index not in swaps]
    if name == "CONCATENATION":
        return not others and op.builtinOptions.axis % rank >= 2
    if name in _BINARY:
        return all(len(graph.shape_of(subgraph.tensors[index])) <= 1 for index in others)
    return False


def _transpose_outputs(model: Model, subgraph: Subgraph, op: Operator) -> None:
    """Lets an operator compute into tensors with the first axes swapped, and transposes these back."""
    for place, index in enumerate(op.outputs):
        old = subgraph.tensors[index]
        shape, quantization = _swapped(graph.shape_of(old)), old.quantization
        op.outputs[place] = new = edit.like(subgraph, index, "swapped", shape=shape, quantization=quantization)
        permutation = edit.add_constant(model, subgraph, "permutation", np.array(_swapped(range(len(shape))), np.int32))
        transpose = edit.new_operator(model, "TRANSPOSE", [new, permutation], [index])
        subgraph.operators.insert(subgraph.operators.index(op) + 1, transpose)


def _swapped(values: Iterable[int]) -> list[int]:
    first, second, *others = values
    return [second, first, *others]


def _cancel(model: Model, subgraph: Subgraph, op: Operator, swaps: dict[int, Operator]) -> bool:
    if not swaps_first_axes(model, subgraph, op) or op.inputs[0] not in swaps:
        return False
    source, target = swaps[op.inputs[0]].inputs[0], op.outputs[0]
    producer = graph.producers(subgraph).get(source)
    if target not in subgraph.outputs:
        edit.redirect(subgraph, target, source)
    elif producer is not None and source not in subgraph.outputs:
        # The model's output keeps its tensor, and what made the source makes it now.
        producer.outputs = [target if index == source else index for index in producer.outputs]
        edit.redirect(subgraph, source, target)
    else:
        return False
    subgraph.operators.remove(op)
    return True


def _slice(model: Model, subgraph: Subgraph, op: Operator, swaps: dict[int, Operator]) -> bool:
    """A slice that picks one step of the time axis gives the same in either layout."""
    options = op.builtinOptions
    bounds = [graph.constant(model, subgraph.tensors[index]) for index in op.inputs[1:]]
    if options.shrinkAxisMask != 0b10 or not options.beginMask & options.endMask & 0b1 or options.ellipsisMask:
        return False
    if options.newAxisMask or any(bound is None or len(bound) < 2 for bound in bounds):
        return False
    swapped = [np.array(_swapped(bound), bound.dtype) for bound in bounds if bound is not None]
    op.inputs = [
        swaps[op.inputs[0]].inputs[0],
        *(edit.add_constant(model, subgraph, "bounds", bound) for bound in swapped),
    ]
    op.builtinOptions = options = copy.copy(options)
    options.shrinkAxisMask = 0b01
    options.beginMask, options.endMask = _swap_bits(options.beginMask), _swap_bits(options.endMask)
    return True


def _swap_bits(mask: int) -> int:
    return (mask & ~0b11) | (mask & 0b1) << 1 | (mask & 0b10) >> 1


def _swap_axis(model: Model, subgraph: Subgraph, op: Operator) -> bool:
    """Lets an operator over the time axis, which is axis 1, work on axis 0 instead."""
    axis = graph.constant(model, subgraph.tensors[op.inputs[1]])
    if axis is None or [int(each) for each in axis.reshape(-1)] != [1]:
        return False
    op.inputs = [op.inputs[0], edit.add_constant(model, subgraph, "time", np.zeros_like(axis)), *op.inputs[2:]]
    return True
