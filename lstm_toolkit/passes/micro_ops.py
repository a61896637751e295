"""Pass: ops that TensorFlow Lite Micro lacks become ops that it has, and that compute the same numbers.

    before  [SELECT: condition, x, y]
    after   [SELECT_V2: condition, x, y], behind a [RESHAPE: condition] where it chooses between rows

    before  [SELECT or SELECT_V2: condition, x, y], of int32, which the kernel of SELECT_V2 refuses
    after   [CAST: condition] [MUL: x] [LOGICAL_NOT: condition] [CAST] [MUL: y] [ADD]

    before  [TILE: x, times]
    after   [RESHAPE: ..., 1, ...] [BROADCAST_TO: ..., times, ...] for each axis that is repeated, [RESHAPE]

    before  [REDUCE_ANY: x, axes]
    after   [LOGICAL_NOT] [REDUCE_ALL: axes] [LOGICAL_NOT]

    before  [ONE_HOT: numbers, depth, on, off]
    after   [RESHAPE: numbers, ..., 1] [EQUAL: 0, 1, ..., depth - 1] [SELECT_V2: on, off]

    before  [GELU], approximate
    after   [MUL] [MUL] ... [TANH] ... [MUL]

What has no such equal, or an open size, is left as it is. What is moved keeps its scales, so that files with integers
have the same equals. Source: `tensorflow/lite/micro/kernels` of tflite-micro (`select.cc`, `broadcast_to.cc`,
`reduce_common.cc`, `comparisons.cc`, `mul.cc`, `add.cc`, `cast.cc`).
"""

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes.plain.activations import activated
from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.builder import OpBuilder
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT

T = schema.TensorType

MOST_AXES = {"SELECT_V2": 5, "MUL": 4, "EQUAL": 4}
"""Up to how many axes the kernels of Micro take where they broadcast."""

LARGEST_DEPTH = 1 << 16
"""Up to how many numbers the file lists for a ONE_HOT."""

_Write = Callable[[OpBuilder], None]


def use_micro_ops(model: Model) -> Counter[str]:
    """Writes each op that Micro lacks, and that has an equal there, as that one, in place.

    Returns:
        How many ops of each name were written otherwise.
    """
    written: Counter[str] = Counter()
    for subgraph in model.subgraphs:
        equals = {id(operator): write for operator, write in _equals(model, subgraph)}
        operators: list[Operator] = []
        taken = graph.consumed(subgraph)
        for operator in subgraph.operators:
            if id(operator) not in equals:
                operators.append(operator)
                continue
            builder = OpBuilder(model, subgraph, graph.text(subgraph.tensors[operator.outputs[0]].name))
            equals[id(operator)](builder)
            operators += builder.operators
            written[graph.operator_name(model, operator)] += 1
        subgraph.operators = operators
        needless = taken - graph.consumed(subgraph)
        subgraph.operators = [each for each in operators if not needless & set(each.outputs)]
    return written


def with_equals(model: Model) -> Iterator[tuple[Subgraph, Operator]]:
    """Yields subgraph and op for each op that `use_micro_ops` writes otherwise."""
    for subgraph in model.subgraphs:
        yield from ((subgraph, operator) for operator, _ in _equals(model, subgraph))


def _equals(model: Model, subgraph: Subgraph) -> Iterator[tuple[Operator, _Write]]:
    for operator in subgraph.operators:
        inputs, find = _EQUALS.get(graph.operator_name(model, operator), (0, None))
        tensors = [*operator.inputs, *operator.outputs]
        if find is None or len(operator.inputs) != inputs or len(operator.outputs) != 1 or ABSENT in tensors:
            continue
        if not any(-1 in graph.shape_of(subgraph.tensors[index]) for index in tensors):
            write = find(model, subgraph, operator)
            if write is not None:
                yield operator, write


def _select(model: Model, subgraph: Subgraph, operator: Operator) -> _Write | None:
    condition, x, y = (subgraph.tensors[index] for index in operator.inputs)
    shape, *others = (graph.shape_of(each) for each in (condition, x, y))
    old = graph.operator_name(model, operator) == "SELECT"
    if old and len(shape) == 1 and shape[0] != 1 and others[0] != shape:
        shape = (*shape, *[1] * (len(others[0]) - 1))
    rank = max(map(len, (shape, *others)))
    if x.type == T.INT32 and rank <= MOST_AXES["MUL"]:
        return lambda builder: _write_integer_select(builder, operator, shape)
    if old and x.type in (T.FLOAT32, T.INT8, T.INT16) and rank <= MOST_AXES["SELECT_V2"]:
        return lambda builder: builder.add(
            "SELECT_V2", [_reshaped(builder, operator.inputs[0], shape), *operator.inputs[1:]], operator.outputs
        )
    return None


def _write_integer_select(builder: OpBuilder, operator: Operator, shape: tuple[int, ...]) -> None:
    """The sum of both products with 1 or 0, neither of which can overflow."""
    condition, products = _reshaped(builder, operator.inputs[0], shape), []
    for tensor in operator.inputs[1:]:
        factor = builder.op("CAST", condition, shape=shape, dtype=T.INT32, inDataType=T.BOOL, outDataType=T.INT32)
        products.append(builder.binary("MUL", factor, tensor))
        if len(products) == 1:
            condition = builder.op("LOGICAL_NOT", condition, shape=shape, dtype=T.BOOL)
    builder.add("ADD", products, operator.outputs)


def _tile(model: Model, subgraph: Subgraph, operator: Operator) -> _Write | None:
    x, count, output = (subgraph.tensors[index] for index in (*operator.inputs, *operator.outputs))
    times = graph.constant(model, count)
    shape = graph.shape_of(x)
    if times is None or times.shape != (len(shape),) or min(times, default=0) < 1 or x.type not in graph.DTYPES:
        return None
    if graph.shape_of(output) != tuple(size * int(own) for size, own in zip(shape, times, strict=True)):
        return None
    return lambda builder: _write_tile(builder, operator, [int(own) for own in times])


def _write_tile(builder: OpBuilder, operator: Operator, times: list[int]) -> None:
    tensor, shape = operator.inputs[0], list(builder.shape(operator.inputs[0]))
    for axis, own in enumerate(times):
        if own > 1:
            before, after = math.prod(shape[:axis]), math.prod(shape[axis:])
            once, repeated = _reshaped(builder, tensor, (before, 1, after)), (before, own, after)
            tensor = _like(builder, once, "repeated", repeated)
            builder.add("BROADCAST_TO", [once, builder.constant(repeated)], [tensor])
            shape[axis] *= own
    builder.add("RESHAPE", [tensor, builder.constant(shape)], operator.outputs, newShape=shape)


def _reduce_any(_model: Model, _subgraph: Subgraph, operator: Operator) -> _Write | None:
    def write(builder: OpBuilder) -> None:
        (x, axes), (output,) = operator.inputs, operator.outputs
        none = builder.op("LOGICAL_NOT", x, shape=builder.shape(x), dtype=T.BOOL)
        keep = getattr(operator.builtinOptions, "keepDims", False)
        all_none = builder.op("REDUCE_ALL", none, axes, shape=builder.shape(output), dtype=T.BOOL, keepDims=keep)
        builder.add("LOGICAL_NOT", [all_none], [output])

    return write


def _one_hot(model: Model, subgraph: Subgraph, operator: Operator) -> _Write | None:
    count, shape = graph.constant(model, subgraph.tensors[operator.inputs[1]]), _shape(subgraph, operator.inputs[0])
    cast = graph.producers(subgraph).get(operator.inputs[0])
    # Keras widens numbers to int64, which Micro's CAST does not write.
    is_cast = cast is not None and graph.operator_name(model, cast) == "CAST" and ABSENT not in cast.inputs
    numbers = cast.inputs[0] if cast is not None and is_cast else operator.inputs[0]
    types = subgraph.tensors[numbers].type, subgraph.tensors[operator.outputs[0]].type
    if types not in ((T.INT32, T.FLOAT32), (T.FLOAT32, T.FLOAT32)) or len(shape) >= MOST_AXES["EQUAL"]:
        return None
    if getattr(operator.builtinOptions, "axis", -1) not in (-1, len(shape)) or count is None or count.size != 1:
        return None
    if count.item() > LARGEST_DEPTH or _shape(subgraph, operator.outputs[0]) != (*shape, count.item()):
        return None

    def write(builder: OpBuilder) -> None:
        column, known = numbers, builder.constant(np.arange(count.item()))
        if builder.dtype(column) != T.INT32:
            column = builder.op("CAST", column, shape=shape, dtype=T.INT32, inDataType=T.FLOAT32, outDataType=T.INT32)
        column = _reshaped(builder, column, (*shape, 1))
        is_it = builder.op("EQUAL", column, known, shape=(*shape, count.item()), dtype=T.BOOL)
        builder.add("SELECT_V2", [is_it, *operator.inputs[2:]], operator.outputs)

    return write


def _gelu(_model: Model, subgraph: Subgraph, operator: Operator) -> _Write | None:
    (x,), (output,) = operator.inputs, operator.outputs
    is_float = subgraph.tensors[x].type == subgraph.tensors[output].type == T.FLOAT32
    if not is_float or not getattr(operator.builtinOptions, "approximate", False):
        return None
    return lambda builder: builder.store(activated(builder, x, "gelu(1.0)"), output)


def _shape(subgraph: Subgraph, tensor: int) -> tuple[int, ...]:
    return graph.shape_of(subgraph.tensors[tensor])


def _reshaped(builder: OpBuilder, tensor: int, shape: tuple[int, ...]) -> int:
    if builder.shape(tensor) == shape:
        return tensor
    output = _like(builder, tensor, "reshaped", shape)
    builder.add("RESHAPE", [tensor, builder.constant(shape)], [output], newShape=list(shape))
    return output


def _like(builder: OpBuilder, tensor: int, suffix: str, shape: tuple[int, ...]) -> int:
    quantization = copy.deepcopy(builder.subgraph.tensors[tensor].quantization)
    return edit.like(builder.subgraph, tensor, suffix, shape=shape, quantization=quantization)


_EQUALS: dict[str, tuple[int, Callable[[Model, Subgraph, Operator], _Write | None]]] = {
    "SELECT": (3, _select),
    "SELECT_V2": (3, _select),
    "TILE": (2, _tile),
    "REDUCE_ANY": (2, _reduce_any),
    "ONE_HOT": (4, _one_hot),
    "GELU": (1, _gelu),
}
"""For each op its number of inputs, and what finds its equal."""
