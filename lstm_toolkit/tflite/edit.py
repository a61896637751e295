"""Adds tensors and operators to a model file, and changes which operator takes which tensor."""

import copy
import heapq
from collections.abc import Callable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.graph import DTYPES, OPTIONS_OF, shape_of, text
from lstm_toolkit.tflite.types import Model, Operator, Quantization, Subgraph
from lstm_toolkit.weights.operands import ABSENT


def add_tensor(
    subgraph: Subgraph,
    name: str,
    shape: Sequence[int],
    *,
    dtype: int = schema.TensorType.FLOAT32,
    variable: bool = False,
) -> int:
    """Adds a tensor without values and returns its index; -1 in its shape is an open size."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name.encode(), [1 if size < 0 else int(size) for size in shape], dtype
    if -1 in shape:
        tensor.shapeSignature = [int(size) for size in shape]
    tensor.buffer, tensor.isVariable, tensor.hasRank = 0, variable, True
    subgraph.tensors.append(tensor)
    return len(subgraph.tensors) - 1


def like(
    subgraph: Subgraph,
    tensor: int,
    suffix: str,
    *,
    shape: Sequence[int] | None = None,
    dtype: int | None = None,
    quantization: Quantization | None = None,
) -> int:
    """Adds a tensor like another one and returns its index.

    Args:
        subgraph: that has the other tensor.
        tensor: index of the other tensor.
        suffix: what the name has after that of the other tensor.
        shape: another shape, -1 where a size is open; None keeps the shape.
        dtype: another type; None keeps the type.
        quantization: scales of the new tensor; None for none.
    """
    old = subgraph.tensors[tensor]
    new = add_tensor(
        subgraph,
        f"{text(old.name)}/{suffix}",
        shape_of(old) if shape is None else shape,
        dtype=old.type if dtype is None else dtype,
    )
    subgraph.tensors[new].quantization = copy.deepcopy(quantization)
    return new


def add_constant(model: Model, subgraph: Subgraph, name: str, values: npt.NDArray[Any]) -> int:
    """Adds a constant tensor with a buffer of its own and returns its index."""
    dtype = next(code for code, known in DTYPES.items() if np.dtype(known) == values.dtype)
    index = add_tensor(subgraph, name, values.shape, dtype=dtype)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    model.buffers.append(buffer)
    subgraph.tensors[index].buffer = len(model.buffers) - 1
    return index


def operator_code(model: Model, builtin: int, version: int = 1) -> int:
    """Index of the operator code of a builtin op, which is added if the model does not have it."""
    for index, code in enumerate(model.operatorCodes):
        if flatbuffer_utils.get_builtin_code_from_operator_code(code) == builtin and code.version == version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = builtin, version
    code.deprecatedBuiltinCode = min(builtin, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def new_operator(
    model: Model, name: str, inputs: Sequence[int], outputs: Sequence[int], *, version: int = 1, **options: Any
) -> Operator:
    """A new builtin operator, which the caller puts into a subgraph.

    Args:
        model: the file, which gets the operator code if it does not have it.
        name: of the builtin.
        inputs: indices of the tensors that it takes.
        outputs: indices of those that it computes.
        version: of the operator code.
        **options: fields of its options as the schema names them; the others keep the schema's defaults.
    """
    operator: Operator = schema.OperatorT()
    operator.opcodeIndex = operator_code(model, getattr(schema.BuiltinOperator, name), version)
    if name in OPTIONS_OF:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{OPTIONS_OF[name]}Options")
        operator.builtinOptions = getattr(schema, f"{OPTIONS_OF[name]}OptionsT")()
        for field, value in options.items():
            setattr(operator.builtinOptions, field, value)
    operator.inputs, operator.outputs = list(inputs), list(outputs)
    return operator


def scaled(scale: npt.ArrayLike, zero_point: int = 0) -> Quantization:
    """Quantization parameters of one scale, or of one for each row, and a zero point."""
    quantization: Quantization = schema.QuantizationParametersT()
    quantization.scale = [float(each) for each in np.atleast_1d(scale)]
    quantization.zeroPoint = [zero_point] * len(quantization.scale)
    return quantization


def step_operator(
    model: Model, subgraph: Subgraph, sequence: int, target: int, *, axis: int, step: int = -1
) -> Operator:
    """A new STRIDED_SLICE that takes one step, by default the last one, out of a sequence of three axes.

    Args:
        model: the file.
        subgraph: that has the sequence.
        sequence: the tensor to take the step from.
        target: the tensor of two axes that holds it.
        axis: the axis of time.
        step: its number; -1 for the last one, whatever the number of steps, as `graph.takes_last_step` reads it.
    """
    bounds = {"begin": [0, 0, 0], "end": [0, 0, 0], "strides": [1, 1, 1]}
    bounds["begin"][axis] = step
    values = [add_constant(model, subgraph, name, np.array(each, np.int32)) for name, each in bounds.items()]
    others = 0b111 & ~(1 << axis)
    masks = {"beginMask": others, "endMask": others, "shrinkAxisMask": 1 << axis}
    return new_operator(model, "STRIDED_SLICE", [sequence, *values], [target], **masks)


def drop_unused(subgraph: Subgraph, has_effect: Callable[[Operator], bool] = lambda op: not len(op.outputs)) -> None:
    """Drops the operators whose results nobody takes, but for those that have an effect beyond their results."""
    while True:
        consumed = graph.consumed(subgraph)
        kept = [op for op in subgraph.operators if has_effect(op) or {*op.outputs} & consumed]
        if len(kept) == len(subgraph.operators):
            return
        subgraph.operators = kept


def redirect(subgraph: Subgraph, old: int, new: int) -> None:
    """Lets every operator that takes one tensor take another."""
    for op in subgraph.operators:
        op.inputs = [new if index == old else index for index in op.inputs]


def sort_operators(subgraph: Subgraph) -> None:
    """Puts the operators into an order in which they can run, as close to the present one as possible.

    Operators that touch the same variable tensor keep their order among themselves.
    """
    operators, position = subgraph.operators, {id(op): number for number, op in enumerate(subgraph.operators)}
    made_by = {index: op for op in operators for index in op.outputs if not subgraph.tensors[index].isVariable}
    needs: dict[int, set[int]] = {number: set() for number in range(len(operators))}
    last_touch: dict[int, int] = {}
    for number, op in enumerate(operators):
        needs[number] |= {position[id(made_by[index])] for index in op.inputs if index in made_by}
        for index in {*op.inputs, *op.outputs} - {ABSENT}:
            if subgraph.tensors[index].isVariable:
                needs[number] |= {last_touch[index]} if index in last_touch else set()
                last_touch[index] = number
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError:
        raise InvalidModelError("the operators of a subgraph need each other's results in a circle") from None
    ready = list(sorter.get_ready())
    subgraph.operators = []
    while ready:
        number = heapq.heappop(ready)
        subgraph.operators.append(operators[number])
        sorter.done(number)
        for freed in sorter.get_ready():
            heapq.heappush(ready, freed)
