"""What the operators of a loop's body and condition compute, as expressions over the loop's arguments.

Each operator is evaluated once, symbolically: shapes are worked out from the arguments and the constants, and not taken
from the file. A value is equal to another only where it surely is; what is not understood is `Unknown`.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes.loops.values import (
    Activation,
    Affine,
    Argument,
    Binary,
    Constant,
    Counter,
    Indices,
    Joined,
    Part,
    Reshaped,
    Shape,
    Step,
    Unknown,
    Updated,
)
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph, Tensor
from lstm_toolkit.weights.operands import ABSENT

ACTIVATION_OPS = {
    "TANH": "tanh",
    "RELU": "relu",
    "RELU6": "relu6",
    "RELU_N1_TO_1": "hard_tanh",
    "LOGISTIC": "sigmoid",
    "ELU": "elu",
    "GELU": "gelu",
    "HARD_SWISH": "hard_swish",
    "LEAKY_RELU": "leaky_relu",
    "EXP": "exponential",
}
"""Element-wise operators that a Keras activation becomes, by the activation's name."""

_MANY = 8
"""More terms than an LSTM has in a sum, and axes in a shape. A damaged file could double them at every operator."""

_WITH_OPTIONS = {"CONCATENATION", "FULLY_CONNECTED", "GATHER", "SPLIT"}


def evaluate(model: Model, subgraph: Subgraph, arguments: Sequence[Argument]) -> tuple[Any, ...]:
    """The outputs of a body or condition as values.

    Args:
        model: the file.
        subgraph: with as many inputs as there are arguments.
        arguments: what the inputs stand for.

    Returns:
        One value per output of the subgraph.
    """
    values: dict[int, Any] = dict(zip(subgraph.inputs, arguments, strict=True))

    def value(index: int) -> Any:
        if index not in values:
            values[index] = _constant(model, subgraph.tensors[index])
        return values[index]

    for op in subgraph.operators:
        name = graph.operator_name(model, op)
        operands = [None if index == ABSENT else value(index) for index in op.inputs]
        results = _results(name, op, operands)
        for number, index in enumerate(op.outputs):
            values[index] = results[number] if number < len(results) else Unknown(name)
    return tuple(value(index) for index in subgraph.outputs)


def trimmed(shape: Shape) -> Shape:
    """A shape without its leading ones, which do not matter to element-wise operators and rows of numbers."""
    first = next((place for place, size in enumerate(shape) if size != 1), len(shape))
    return shape[min(first, max(len(shape) - 1, 0)) :]


def _constant(model: Model, tensor: Tensor) -> Any:
    name = graph.text(tensor.name)
    if tensor.sparsity is not None or tensor.isVariable:
        return Unknown(f"the sparse or variable tensor {name!r}")
    values = graph.constant(model, tensor)
    return Unknown(f"tensor {name!r}, which nothing computes") if values is None else Constant(values)


def _results(name: str, op: Operator, operands: list[Any]) -> list[Any]:
    arity, rule = _RULES.get(name, (0, None))
    if rule is None:
        return [Unknown(name)] * len(op.outputs)
    if not arity <= len(operands) <= _most_operands(rule) or any(operand is None for operand in operands[:arity]):
        return [Unknown(f"{name} with other operands than it takes")] * len(op.outputs)
    for operand in operands:
        if isinstance(operand, Unknown):
            return [operand] * len(op.outputs)
    if op.builtinOptions is None and name in _WITH_OPTIONS:
        return [Unknown(f"{name} without its options")] * len(op.outputs)
    fused = getattr(op.builtinOptions, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
    if fused != schema.ActivationFunctionType.NONE:
        hint = ", as in hard_sigmoid" if fused == schema.ActivationFunctionType.RELU6 else ""
        return [Unknown(f"{name} with an activation of its own{hint}")] * len(op.outputs)
    results = rule(op.builtinOptions, *operands)
    return results if isinstance(results, list) else [results]


@functools.cache
def _most_operands(rule: Callable[..., Any]) -> float:
    parameters = inspect.signature(rule).parameters.values()
    return math.inf if any(each.kind == each.VAR_POSITIONAL for each in parameters) else len(parameters) - 1


def _dequantize(_options: Any, operand: Any) -> Any:
    if isinstance(operand, Constant) and operand.values.dtype == np.float16:
        return Constant(operand.values.astype(np.float32))
    return Unknown("DEQUANTIZE of quantized values")


def _activation(function: str) -> Callable[[Any, Any], Any]:
    return lambda _options, operand: Activation(function, operand, operand.shape)


def _comparison(operation: str) -> Callable[[Any, Any, Any], Any]:
    return lambda _options, left, right: (
        Binary(operation, left, right, ())
        if math.prod(left.shape) == math.prod(right.shape) == 1
        else Unknown(f"{operation} of several values")
    )


def _add(_options: Any, left: Any, right: Any) -> Any:
    if isinstance(left, Constant):
        left, right = right, left
    if isinstance(right, Constant):
        if isinstance(left, (Argument, Counter)) and left.shape == right.shape == () and right.values.dtype.kind == "i":
            counter = _counter(left)
            return dataclasses.replace(counter, added=counter.added + int(right.values))
        rows = trimmed(left.shape)[-1:]
        if isinstance(left, Affine) and right.values.dtype == np.float32 and trimmed(right.shape) in ((), (1,), rows):
            bias = np.broadcast_to(right.values.reshape(-1), rows)
            shape = (1,) * (len(right.shape) - len(left.shape)) + left.shape
            return dataclasses.replace(left, bias=left.bias + bias, shape=shape)
        return Unknown("ADD of a constant")
    if trimmed(left.shape) != trimmed(right.shape):
        return Unknown("ADD of different shapes")
    shape = max(left.shape, right.shape, key=len)
    if isinstance(left, Affine) and isinstance(right, Affine):
        if len(left.terms) + len(right.terms) > _MANY:
            return Unknown("ADD of many products")
        return Affine(left.terms + right.terms, left.bias + right.bias, shape)
    return Binary("ADD", left, right, shape)


def _multiply(_options: Any, left: Any, right: Any) -> Any:
    if trimmed(left.shape) != trimmed(right.shape):
        return Unknown("MUL by values of another shape")
    return Binary("MUL", left, right, max(left.shape, right.shape, key=len))


def _fully_connected(options: Any, operand: Any, weights: Any, bias: Any = None) -> Any:
    if not isinstance(weights, Constant):
        return Unknown("FULLY_CONNECTED with weights that are not constant")
    if weights.values.dtype != np.float32:
        kind = weights.values.dtype
        return Unknown(f"FULLY_CONNECTED with {kind} weights, which rounds its input too")
    if options.weightsFormat or len(operand.shape) != 2 or len(weights.shape) != 2:
        return Unknown("FULLY_CONNECTED of another rank or weights format")
    rows, columns = weights.shape
    if operand.shape[1] != columns:
        return Unknown("FULLY_CONNECTED of another size than its weights")
    offsets = np.zeros(rows, np.float32)
    if bias is not None:
        if not isinstance(bias, Constant) or bias.values.dtype != np.float32 or bias.shape != (rows,):
            return Unknown("FULLY_CONNECTED with a bias that is not constant")
        offsets = bias.values
    return Affine(((operand, weights.values),), offsets, (operand.shape[0], rows))


def _split(options: Any, axis: Any, operand: Any) -> Any:
    parts = options.numSplits
    rows = operand.shape[-1] if operand.shape else 0
    places = (-1, len(operand.shape) - 1)
    if (
        not isinstance(operand, Affine)
        or not isinstance(axis, Constant)
        or axis.values.reshape(-1).tolist() not in ([place] for place in places)
    ):
        return Unknown("SPLIT of something else than the sums of the gates")
    if parts < 1 or rows % parts:
        return Unknown("SPLIT into unequal parts")
    size = rows // parts
    return [
        Affine(
            tuple((source, weights[start : start + size]) for source, weights in operand.terms),
            operand.bias[start : start + size],
            (*operand.shape[:-1], size),
        )
        for start in range(0, rows, size)
    ]


def _reshape(options: Any, operand: Any, shape: Any = None) -> Any:
    wanted = getattr(options, "newShape", None) if shape is None else None
    if isinstance(shape, Constant):
        wanted = shape.values
    if wanted is None or -1 in operand.shape:
        return Unknown("RESHAPE to a shape that is not constant")
    sizes = [int(size) for size in np.reshape(wanted, -1)]
    total = math.prod(operand.shape)
    if sizes.count(-1) == 1 and -math.prod(sizes) > 0:
        sizes = [total // -math.prod(sizes) if size == -1 else size for size in sizes]
    if min(sizes, default=0) < 0 or math.prod(sizes) != total:
        return Unknown("RESHAPE to another size")
    if isinstance(operand, Constant):
        return Constant(operand.values.reshape(sizes))
    if isinstance(operand, (Argument, Counter)) and operand.shape == () and sizes == [1]:
        return Indices((_counter(operand),))
    if isinstance(operand, (Affine, Activation, Binary, Step)) and trimmed(tuple(sizes)) == trimmed(operand.shape):
        # An Affine stays what it is: the axis of its rows is the last one, whatever ones stand before.
        return (
            dataclasses.replace(operand, shape=tuple(sizes))
            if isinstance(operand, Affine)
            else Reshaped(operand, tuple(sizes))
        )
    return Unknown("RESHAPE")


def _gather(options: Any, operand: Any, index: Any) -> Any:
    is_step = isinstance(operand, Argument) and isinstance(index, (Argument, Counter)) and index.shape == ()
    if not is_step or options.axis != 0 or options.batchDims or len(operand.shape) < 2:
        return Unknown("GATHER of something else than a step of a sequence")
    return Step(operand.index, _counter(index), operand.shape[1:])


def _concatenate(options: Any, *operands: Any) -> Any:
    if options.axis != 0 or any(operand is None or not operand.shape for operand in operands):
        return Unknown("CONCATENATION along another axis")
    indices = [_indices(operand) for operand in operands]
    if all(each is not None for each in indices) and sum(each.shape[0] for each in indices if each) <= _MANY:
        return Indices(tuple(item for each in indices if each is not None for item in each.items))
    if len({operand.shape[1:] for operand in operands}) != 1:
        return Unknown("CONCATENATION of different shapes")
    return Joined(operands, (-1, *operands[0].shape[1:]))


def _slice(_options: Any, operand: Any, begin: Any, size: Any) -> Any:
    bounds = _indices(begin), _indices(size)
    if not isinstance(operand, Argument) or bounds[0] is None or bounds[1] is None:
        return Unknown("SLICE of something else than a list of outputs")
    if not len(bounds[0].items) == len(bounds[1].items) == len(operand.shape):
        return Unknown("SLICE of another rank")
    return Part(operand.index, bounds[0], bounds[1], (-1, *operand.shape[1:]))


def _update(_options: Any, operand: Any, update: Any, begin: Any) -> Any:
    indices = _indices(begin)
    if not isinstance(operand, Argument) or indices is None or len(indices.items) != len(operand.shape):
        return Unknown("DYNAMIC_UPDATE_SLICE of something else than a list of outputs")
    return Updated(operand.index, update, indices, operand.shape)


def _counter(value: Argument | Counter) -> Counter:
    return value if isinstance(value, Counter) else Counter(value.index, 0, value.shape)


def _indices(value: Any) -> Indices | None:
    if isinstance(value, Indices):
        return value
    if isinstance(value, Constant) and value.values.ndim == 1 and value.values.dtype.kind == "i":
        return Indices(tuple(int(item) for item in value.values))
    return None


_RULES: dict[str, tuple[int, Callable[..., Any]]] = {
    **{name: (1, _activation(function)) for name, function in ACTIVATION_OPS.items()},
    "ADD": (2, _add),
    "CONCATENATION": (1, _concatenate),
    "DEQUANTIZE": (1, _dequantize),
    "DYNAMIC_UPDATE_SLICE": (3, _update),
    "FULLY_CONNECTED": (2, _fully_connected),
    "GATHER": (2, _gather),
    "LESS": (2, _comparison("LESS")),
    "LOGICAL_AND": (2, _comparison("LOGICAL_AND")),
    "MUL": (2, _multiply),
    "RESHAPE": (1, _reshape),
    "SLICE": (3, _slice),
    "SPLIT": (2, _split),
}
"""For each operator that is understood, how many operands it must have, and what it computes."""

UNDERSTOOD = frozenset(_RULES)
"""Names of the operators that are understood. None of them does anything but compute its outputs."""
