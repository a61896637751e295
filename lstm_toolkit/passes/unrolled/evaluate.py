"""Names the numbers that a subgraph computes, operator by operator, in one pass."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes.unrolled.elements import MOST, Elements, Elementwise, Given, Names, Products, TooLarge
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT

_FUSED = {
    schema.ActivationFunctionType.RELU: "RELU",
    schema.ActivationFunctionType.RELU6: "RELU6",
    schema.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1",
    schema.ActivationFunctionType.TANH: "TANH",
}

_FOLDED: dict[str, Callable[..., npt.NDArray[Any]]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "TANH": np.tanh,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
}

BOUNDED = ("LOGISTIC", "TANH", "RELU6", "RELU_N1_TO_1")
"""Functions whose results are finite, so that zero times one of them is zero."""


class _NotUnderstood(Exception):
    """An operator does something that no rule covers."""


class Evaluation:
    """The names of every tensor of a subgraph.

    Attributes:
        elements: the names.
        names: by index of the tensor; what an operator computes that is not understood has names too.
    """

    def __init__(self, model: Model, subgraph: Subgraph) -> None:
        """Evaluates a subgraph whose file was read and checked.

        Raises:
            TooLarge: if it computes more numbers than can be named.
        """
        self.elements, self.names, self._held = Elements(), dict[int, Names](), 0
        self._model, self._subgraph = model, subgraph
        self._constants: dict[int, npt.NDArray[Any]] = {}
        self._rows: dict[tuple[int, int, bytes], Names] = {}
        for index in subgraph.inputs:
            self._give(int(index))
        for operator in subgraph.operators:
            self._run(operator)

    def constant(self, index: int) -> npt.NDArray[Any] | None:
        """The values of a tensor, of any type, that are the same in every call; None if they are not."""
        if index not in self._constants:
            values = graph.constant(self._model, self._subgraph.tensors[index])
            if values is None and index in self.names:
                values = self.elements.values(self.names[index])
            if values is None:
                return None
            self._constants[index] = values
        return self._constants[index]

    def _give(self, index: int, operator: str = "") -> Names:
        shape = self._subgraph.tensors[index].shape
        sizes = tuple(int(size) for size in shape) if shape is not None else ()
        self.names[index] = self.elements.new(Given(operator), sizes)
        return self.names[index]

    def _read(self, index: int) -> Names:
        """The names of an operand.

        Raises:
            _NotUnderstood: if it is absent or not float32.
        """
        if index == ABSENT:
            raise _NotUnderstood
        tensor = self._subgraph.tensors[index]
        # What a variable holds depends on when it is read.
        if tensor.isVariable or index not in self.names:
            values = None if tensor.isVariable else graph.float_constant(self._model, tensor)
            if values is None:
                return self._give(index)
            self.names[index] = self.elements.constants(values)
        if tensor.type != schema.TensorType.FLOAT32:
            raise _NotUnderstood
        return self.names[index]

    def _run(self, operator: Operator) -> None:
        name = graph.operator_name(self._model, operator)
        rule = _RULES.get(name)
        outputs = [int(index) for index in operator.outputs]
        try:
            if rule is None or any(self._subgraph.tensors[index].isVariable for index in outputs):
                raise _NotUnderstood
            results = rule(self, operator)
            fused = getattr(operator.builtinOptions, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
            if fused != schema.ActivationFunctionType.NONE:
                if fused not in _FUSED:
                    raise _NotUnderstood
                results = [self.elementwise(_FUSED[fused], each) for each in results]
            if len(results) != len(outputs):
                raise _NotUnderstood
            self._hold(sum(each.size for each in results))
        # What does not fit together raises here, and LiteRT refuses such a file.
        except (_NotUnderstood, ValueError, IndexError, TypeError, AttributeError, OverflowError):
            for index in outputs:
                self._give(index, name)
            return
        self.names.update(zip(outputs, results, strict=True))

    def _hold(self, count: int) -> None:
        self._held += count
        if self._held > 2 * MOST:
            raise TooLarge

    def dequantized(self, index: int) -> npt.NDArray[np.float32]:
        """The values that the float16 or int8 numbers of a constant operand stand for.

        Raises:
            _NotUnderstood: if it is not such a constant.
        """
        values, tensor = self.constant(index), self._subgraph.tensors[index]
        if values is not None and values.dtype == np.float16:
            return values.astype(np.float32)
        scales = tensor.quantization.scale if tensor.quantization is not None else None
        if values is None or values.dtype != np.int8 or scales is None or not len(scales):
            raise _NotUnderstood
        shape = [1] * values.ndim
        if len(scales) > 1:
            shape[tensor.quantization.quantizedDimension] = len(scales)
        zeros = np.reshape(np.asarray(tensor.quantization.zeroPoint, np.int32), shape)
        return (values - zeros) * np.asarray(scales, np.float32).reshape(shape)

    def elementwise(self, operation: str, *operands: Names) -> Names:
        """Names for a function of numbers; those of its values, or of an operand, where it is one of these."""
        shape = np.broadcast_shapes(*(each.shape for each in operands))
        self._hold(math.prod(shape))
        values = [self.elements.values(each) for each in operands]
        if all(each is not None for each in values):
            with np.errstate(over="ignore", invalid="ignore"):
                folded = _FOLDED[operation](*values)
            return self.elements.constants(np.broadcast_to(folded.astype(np.float32), shape))
        wide = [np.ascontiguousarray(np.broadcast_to(each, shape)) for each in operands]
        for place, each in enumerate(values):
            if each is not None and not each.any() and len(operands) == 2:
                other = wide[1 - place]
                if operation == "ADD":
                    return other
                if operation == "MUL" and self._is_bounded(other):
                    return np.ascontiguousarray(np.broadcast_to(operands[place], shape))
        return self.elements.new(Elementwise(operation, tuple(each.reshape(-1) for each in wide)), shape)

    def _is_bounded(self, names: Names) -> bool:
        found = self.elements.block(names)
        return found is not None and isinstance(found[0], Elementwise) and found[0].operation in BOUNDED

    def products(self, inputs: Names, weights: npt.NDArray[Any], bias: npt.NDArray[Any] | None) -> Names:
        """Names for rows of inputs, [..., inputs], times weights, [outputs, inputs]."""
        if weights.dtype != np.float32 or weights.ndim != 2 or inputs.shape[-1] != weights.shape[1]:
            raise _NotUnderstood
        offsets = np.zeros(len(weights), np.float32) if bias is None else bias
        if offsets.shape != (len(weights),) or offsets.dtype != np.float32:
            raise _NotUnderstood
        shape = (*inputs.shape[:-1], len(weights))
        values = self.elements.values(inputs)
        if values is not None:
            return self.elements.constants((values @ weights.T + offsets).astype(np.float32))
        rows = np.ascontiguousarray(inputs.reshape(-1, inputs.shape[-1]))
        keys = [(id(weights), id(bias), row.tobytes()) for row in rows]
        # A row that is multiplied twice, as by a product of one step and one of all steps, gives the same numbers.
        new = [number for number, key in enumerate(keys) if key not in self._rows]
        if new:
            names = self.elements.new(Products(rows[new], weights, offsets), (len(new), len(weights)))
            self._rows |= {keys[number]: each for number, each in zip(new, names, strict=True)}
        return np.stack([self._rows[key] for key in keys]).reshape(shape)

    def floats(self, index: int) -> Names:
        """The names of a float32 operand."""
        return self._read(index)

    def integers(self, index: int) -> list[int]:
        """The values of a constant operand of integers.

        Raises:
            _NotUnderstood: if it is not one.
        """
        values = None if index == ABSENT else self.constant(index)
        if values is None or values.dtype.kind != "i":
            raise _NotUnderstood
        return [int(value) for value in values.reshape(-1)]


def _elementwise(operation: str, evaluation: Evaluation, operator: Operator) -> list[Names]:
    return [evaluation.elementwise(operation, *map(evaluation.floats, operator.inputs))]


def _fully_connected(evaluation: Evaluation, operator: Operator) -> list[Names]:
    options, (source, weights, *rest) = operator.builtinOptions, operator.inputs
    array = evaluation.constant(weights)
    bias = evaluation.constant(rest[0]) if rest and rest[0] != ABSENT else None
    if array is None or options.weightsFormat or (rest and rest[0] != ABSENT and bias is None):
        raise _NotUnderstood
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
    raise _NotUnderstood


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
        raise _NotUnderstood
    return list(np.split(names, np.cumsum(lengths)[:-1], place))


def _slice(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, begin, size = operator.inputs
    names = evaluation.floats(source)
    places = []
    for start, length, whole in zip(evaluation.integers(begin), evaluation.integers(size), names.shape, strict=True):
        stop = whole if length == -1 else start + length
        if not 0 <= start <= stop <= whole:
            raise _NotUnderstood
        places.append(slice(start, stop))
    return [names[tuple(places)]]


def _strided_slice(evaluation: Evaluation, operator: Operator) -> list[Names]:
    source, *bounds = operator.inputs
    options, names = operator.builtinOptions, evaluation.floats(source)
    if options.ellipsisMask or options.newAxisMask or getattr(options, "offset", False):
        raise _NotUnderstood
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
        raise _NotUnderstood
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
        raise _NotUnderstood
    return [np.tile(names, counts)]


def _dequantize(evaluation: Evaluation, operator: Operator) -> list[Names]:
    values = evaluation.dequantized(operator.inputs[0])
    return [evaluation.elements.constants(values)]


_RULES: dict[str, Callable[[Evaluation, Operator], list[Names]]] = {
    **{name: functools.partial(_elementwise, name) for name in _FOLDED},
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
