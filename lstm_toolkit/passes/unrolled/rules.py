"""What each operator does to the numbers of its operands."""

import functools
import math
from collections.abc import Callable

import numpy as np

from lstm_toolkit.passes.unrolled.elements import MOST, Names
from lstm_toolkit.passes.unrolled.evaluation import FOLDED, Evaluation, NotUnderstood
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Operator
from lstm_toolkit.weights.operands import ABSENT


def _elementwise(operation: str, evaluation: Evaluation, operator: Operator) -> list[Names]:
    return [evaluation.elementwise(operation, *map(evaluation.floats, operator.inputs))]


def _fully_connected(evaluation: Evaluation, operator: Operator) -> list[Names]:
    options, (source, weights, *rest) = operator.builtinOptions, operator.inputs
    array = evaluation.constant(weights)
    bias = evaluation.constant(rest[0]) if rest and rest[0] != ABSENT else None
    if array is None or options.weightsFormat or (rest and rest[0] != ABSENT and bias is None):
        raise NotUnderstood
    if array.dtype == np.int8:
        raise NotUnderstood("a FULLY_CONNECTED that rounds its inputs to 8 bits")
    names = evaluation.floats(source)
    if not options.keepNumDims or names.shape[-1] != array.shape[1]:
        names = names.reshape(-1, array.shape[1])
    return [evaluation.products(names, array, bias)]


def _batch_matmul(evaluation: Evaluation, operator: Operator) -> list[Names]:
    options, (left, right) = operator.builtinOptions, operator.inputs
    for source, matrix, is_left in ((left, right, False), (right, left, True)):
        array = evaluation.constant(matrix)
        if array is None or array.size != np.prod(array.shape[-2:]):
            continue
        # As rows times [outputs, inputs]: x W, or (W x)^T = x^T W^T.
        turned = options.adjX if is_left else not options.adjY
        array = array.reshape(array.shape[-2:])
        array = np.ascontiguousarray(array.T if turned else array)
        names = evaluation.floats(source)
        if options.adjY if is_left else options.adjX:
            names = names.swapaxes(-1, -2)
        if not is_left:
            return [evaluation.products(names, array, None)]
        return [evaluation.products(names.swapaxes(-1, -2), array, None).swapaxes(-1, -2)]
    raise NotUnderstood


def _reshape(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, *shape = operator.inputs
    wanted = evaluation.integers(shape[0]) if shape else graph.listed(operator.builtinOptions.newShape)
    return [evaluation.floats(source).reshape([int(size) for size in wanted])]


def _transpose(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, permutation = operator.inputs
    return [evaluation.floats(source).transpose(evaluation.integers(permutation))]


def _split(evaluation: Evaluation, operator: Operator) -> list[Names]:
    axis, source = operator.inputs
    (place,) = evaluation.integers(axis)
    return list(np.split(evaluation.floats(source), operator.builtinOptions.numSplits, place))


def _split_v(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, sizes, axis = operator.inputs
    (place,), lengths = evaluation.integers(axis), evaluation.integers(sizes)
    names = evaluation.floats(source)
    if -1 in lengths:
        lengths[lengths.index(-1)] = names.shape[place] - sum(lengths) - 1
    if min(lengths) < 0 or sum(lengths) != names.shape[place]:
        raise NotUnderstood
    return list(np.split(names, np.cumsum(lengths)[:-1], place))


def _slice(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, begin, size = operator.inputs
    names = evaluation.floats(source)
    places = []
    for start, length, whole in zip(evaluation.integers(begin), evaluation.integers(size), names.shape, strict=True):
        stop = whole if length == -1 else start + length
        if not 0 <= start <= stop <= whole:
            raise NotUnderstood
        places.append(slice(start, stop))
    return [names[tuple(places)]]


def _strided_slice(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, *bounds = operator.inputs
    options, names = operator.builtinOptions, evaluation.floats(source)
    if options.ellipsisMask or options.newAxisMask or getattr(options, "offset", False):
        raise NotUnderstood
    places: list[slice | int] = []
    for axis, (begin, end, stride) in enumerate(zip(*map(evaluation.integers, bounds), strict=True)):
        if options.shrinkAxisMask >> axis & 1:
            places.append(0 if options.beginMask >> axis & 1 else begin)
        else:
            first = None if options.beginMask >> axis & 1 else begin
            places.append(slice(first, None if options.endMask >> axis & 1 else end, stride))
    return [names[tuple(places)]]


def _gather(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, places = operator.inputs
    options, values = operator.builtinOptions, evaluation.constant(places)
    if values is None or values.dtype.kind != "i" or options.batchDims or values.min(initial=0) < 0:
        raise NotUnderstood
    return [np.take(evaluation.floats(source), values, options.axis)]


def _pack(evaluation: Evaluation, operator: Operator) -> list[Names]:
    return [np.stack([evaluation.floats(index) for index in operator.inputs], operator.builtinOptions.axis)]


def _unpack(evaluation: Evaluation, operator: Operator) -> list[Names]:
    names = evaluation.floats(operator.inputs[0])
    return list(np.moveaxis(names, operator.builtinOptions.axis, 0))


def _concatenation(evaluation: Evaluation, operator: Operator) -> list[Names]:
    return [np.concatenate([evaluation.floats(index) for index in operator.inputs], operator.builtinOptions.axis)]


def _expand_dims(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, axis = operator.inputs
    (place,) = evaluation.integers(axis)
    return [np.expand_dims(evaluation.floats(source), place)]


def _squeeze(evaluation: Evaluation, operator: Operator) -> list[Names]:
    axes = graph.listed(operator.builtinOptions.squeezeDims)
    return [np.squeeze(evaluation.floats(operator.inputs[0]), tuple(map(int, axes)) or None)]


def _reverse(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, axes = operator.inputs
    return [np.flip(evaluation.floats(source), tuple(evaluation.integers(axes)))]


def _broadcast_to(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, shape = operator.inputs
    return [np.broadcast_to(evaluation.floats(source), evaluation.integers(shape))]


def _tile(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, repeats = operator.inputs
    names, counts = evaluation.floats(source), evaluation.integers(repeats)
    if len(counts) != names.ndim or math.prod(counts) * names.size > MOST:
        raise NotUnderstood
    return [np.tile(names, counts)]


def _dequantize(evaluation: Evaluation, operator: Operator) -> list[Names]:
    values = evaluation.dequantized(operator.inputs[0])
    return [evaluation.elements.constants(values)]


RULES: dict[str, Callable[[Evaluation, Operator], list[Names]]] = {
    **{name: functools.partial(_elementwise, name) for name in FOLDED},
    "BATCH_MATMUL": _batch_matmul,
    "BROADCAST_TO": _broadcast_to,
    "CONCATENATION": _concatenation,
    "DEQUANTIZE": _dequantize,
    "EXPAND_DIMS": _expand_dims,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "PACK": _pack,
    "RESHAPE": _reshape,
    "REVERSE_V2": _reverse,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
}
"""By name of the operator: gives the names of its results, before an activation of its own."""
