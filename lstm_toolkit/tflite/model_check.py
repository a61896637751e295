"""Checks an unpacked `.tflite` file from a stranger: what the rest of the package takes for granted."""

import math
from collections.abc import Callable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite.graph import OPERATOR_NAMES, OPTIONS_OF, REDUCERS, called_subgraphs, listed, text
from lstm_toolkit.tflite.shapes import fill_in_shapes
from lstm_toolkit.tflite.types import Model, Operator, Subgraph, Tensor
from lstm_toolkit.weights.operands import ABSENT, OPERANDS_OF, RNN_OPERANDS, STATES

_MOST_AXES = 64
_MOST_ELEMENTS = 2**40
_MOST_CALLS = 50
_LONGEST_NAME = 20_000

_INTEGERS = tuple(code for name, code in vars(schema.TensorType).items() if name.startswith(("INT", "UINT")))

_AXES_AND_BOUNDS = ("REVERSE_V2", "STRIDED_SLICE", "TRANSPOSE", *REDUCERS)
"""Ops whose inputs after the first are axes or bounds."""

_ALWAYS_THERE = ("input", "input_to_forget_weights", "recurrent_to_forget_weights", *RNN_OPERANDS, *STATES)
"""Operands that recurrent ops cannot do without, of a bidirectional one for each direction."""

_OPERANDS_NEEDED: dict[str, Sequence[int]] = {
    op: [
        place
        for place, name in enumerate(operands)
        if name.removeprefix("forward_").removeprefix("backward_") in _ALWAYS_THERE
    ]
    for op, operands in OPERANDS_OF.items()
}
_OPERANDS_NEEDED |= dict.fromkeys(("CONCATENATION", "DEQUANTIZE", "QUANTIZE", "RESHAPE", "ZEROS_LIKE"), range(1))
_OPERANDS_NEEDED |= dict.fromkeys(("ADD", "DIV", "LESS", "MAXIMUM", "MINIMUM", "MUL", "SUB"), range(2))
_OPERANDS_NEEDED |= dict.fromkeys(("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), range(2))
_OPERANDS_NEEDED |= dict.fromkeys(("GATHER", "REVERSE_V2", "TRANSPOSE", *REDUCERS), range(2))
_OPERANDS_NEEDED |= {"STRIDED_SLICE": range(4)}
"""The places of the inputs that each op cannot do without."""

_READ = {"BATCH_MATMUL", "CONCATENATION", "FULLY_CONNECTED", "IF", "STRIDED_SLICE", "WHILE", *OPERANDS_OF, *REDUCERS}
"""Ops whose options this package reads. Where a file has none, the schema's defaults hold, as in the runtime."""


_OUTPUTS: dict[str, Callable[[Any], int]] = {
    "SPLIT": lambda options: options.numSplits,
    "SPLIT_V": lambda options: options.numSplits,
    "UNPACK": lambda options: options.num,
}
"""The number of outputs that the options of some ops ask for."""


def check_model(model: Model) -> None:
    """Checks what the package takes for granted about an unpacked file, and fills in what may be left out.

    Raises:
        InvalidModelError: for an index that points nowhere, an impossible shape, missing operands, options of another
            op, subgraphs that call themselves, and operators that take what is only made later.
    """
    for name in ("subgraphs", "buffers", "operatorCodes"):
        if not getattr(model, name):
            raise InvalidModelError(f"the .tflite file is damaged: it has no {name}")
    for number, subgraph in enumerate(model.subgraphs):
        for field in ("tensors", "operators", "inputs", "outputs"):
            setattr(subgraph, field, listed(getattr(subgraph, field)))
        if len(set(subgraph.inputs)) < len(subgraph.inputs) or len(subgraph.outputs) > len(subgraph.tensors):
            raise InvalidModelError(f"the .tflite file is damaged: subgraph {number} has an input twice")
        for index in [*subgraph.inputs, *subgraph.outputs]:
            _check(index, 0, len(subgraph.tensors), f"an input or output of subgraph {number}")
        for tensor in subgraph.tensors:
            _check_tensor(model, tensor)
        for place, op in enumerate(subgraph.operators):
            _check_operator(model, subgraph, op, f"operator {place} of subgraph {number}")
        _check_order(subgraph, number)
    _check_calls(model)
    for metadata in model.metadata or []:
        _check(metadata.buffer, 0, len(model.buffers), f"the buffer of metadata {_name(metadata)}")
    for signature in model.signatureDefs or []:
        _check(signature.subgraphIndex, 0, len(model.subgraphs), "the subgraph of a signature")
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
            _check(entry.tensorIndex, 0, count, f"tensor {_name(entry)} of a signature")


def _check_tensor(model: Model, tensor: Tensor) -> None:
    _check(tensor.buffer, 0, len(model.buffers), f"the buffer of tensor {_name(tensor)}")
    if len(text(tensor.name)) > _LONGEST_NAME:
        raise InvalidModelError(f"tensor {_name(tensor)} has a name of over {_LONGEST_NAME:,} characters")
    shape, signature = listed(tensor.shape), listed(tensor.shapeSignature)
    if len(shape) > _MOST_AXES or any(size < 0 for size in shape) or any(size < -1 for size in signature):
        raise InvalidModelError(f"tensor {_name(tensor)} has the impossible shape {_short(shape)} {_short(signature)}")
    if math.prod(shape) > _MOST_ELEMENTS:
        raise InvalidModelError(f"tensor {_name(tensor)} has the shape {shape}, more than any memory holds")
    if not signature:
        tensor.shapeSignature = None
    elif len(signature) != len(shape):
        raise InvalidModelError(f"tensor {_name(tensor)} has the shape {shape}, but the signature {_short(signature)}")


def _check_operator(model: Model, subgraph: Subgraph, op: Operator, place: str) -> None:
    op.inputs, op.outputs = listed(op.inputs), listed(op.outputs)
    _check(op.opcodeIndex, 0, len(model.operatorCodes), f"the operator code of {place}")
    for index in [*op.inputs, *op.outputs, *listed(op.intermediates)]:
        _check(index, ABSENT, len(subgraph.tensors), f"a tensor of {place}")
    code = model.operatorCodes[op.opcodeIndex]
    name = OPERATOR_NAMES.get(max(code.builtinCode, code.deprecatedBuiltinCode), "")
    if op.builtinOptions is None and name in _READ:
        op.builtinOptions = getattr(schema, f"{OPTIONS_OF[name]}OptionsT")()
        op.builtinOptionsType = getattr(schema.BuiltinOptions, f"{OPTIONS_OF[name]}Options")
    for why_not in (_options, _number_of_outputs, _operands, _recurrent, _axes_and_bounds):
        reason = why_not(name, op, subgraph)
        if reason:
            raise InvalidModelError(f"{place}, {name}, {reason}")
    if not _is_basic(name, op):
        fill_in_shapes(name, op, subgraph)


def _options(name: str, op: Operator, _subgraph: Subgraph) -> str | None:
    if name not in OPTIONS_OF or op.builtinOptions is None:
        return None
    is_right = type(op.builtinOptions) is getattr(schema, f"{OPTIONS_OF[name]}OptionsT")
    return None if is_right else "has the options of another op"


def _number_of_outputs(name: str, op: Operator, _subgraph: Subgraph) -> str | None:
    """The kernels of the runtime write as many outputs as the option says; a delegate reads them without a look."""
    if name not in _OUTPUTS:
        return None
    if op.builtinOptions is not None and _OUTPUTS[name](op.builtinOptions) == len(op.outputs):
        return None
    return f"has {len(op.outputs)} outputs and options for another number, or none"


def _operands(name: str, op: Operator, _subgraph: Subgraph) -> str | None:
    needed = () if _is_basic(name, op) else _OPERANDS_NEEDED.get(name, ())
    for each in needed:
        if each >= len(op.inputs) or op.inputs[each] == ABSENT:
            return f"lacks input {each}: it has {_short(op.inputs)}"
    if needed and (not op.outputs or ABSENT in op.outputs):
        return f"lacks an output: it has {_short(op.outputs)}"
    return None


def _recurrent(name: str, op: Operator, subgraph: Subgraph) -> str | None:
    if name not in OPERANDS_OF or _is_basic(name, op):
        return None
    ranks = [len(listed(subgraph.tensors[index].shape)) for index in (op.inputs[0], *op.outputs)]
    if not {*ranks} <= {0, 2, 3}:  # 0 stands for a shape that the file leaves to the runtime
        return f"has an input and an output of {ranks} axes, not of 2 or 3"
    for tensor in [subgraph.tensors[index] for index in op.inputs[1:] if index != ABSENT]:
        if not listed(tensor.shape):
            return f"has the operand {_name(tensor)}, which has no axes"
    return None


def _axes_and_bounds(name: str, op: Operator, subgraph: Subgraph) -> str | None:
    for tensor in [subgraph.tensors[index] for index in op.inputs[1:]] if name in _AXES_AND_BOUNDS else ():
        shape = listed(tensor.shape)
        is_scalar = name in ("STRIDED_SLICE", "TRANSPOSE") and not shape
        if tensor.type not in _INTEGERS or len(shape) > 1 or math.prod(shape) > _MOST_AXES or is_scalar:
            return f"has the axes or bounds {_name(tensor)} of shape {shape}, not a few integers"
    return None


def _is_basic(name: str, op: Operator) -> bool:
    """Whether an LSTM is of the older kind, with other operands."""
    return name == "LSTM" and op.builtinOptions.kernelType == schema.LSTMKernelType.BASIC


def _check_order(subgraph: Subgraph, number: int) -> None:
    made: dict[int, int] = {}
    for place, op in enumerate(subgraph.operators):
        for index in op.outputs:
            if index != ABSENT and not subgraph.tensors[index].isVariable and made.setdefault(index, place) != place:
                name = _name(subgraph.tensors[index])
                raise InvalidModelError(f"two operators of subgraph {number} make tensor {name}")
    for place, op in enumerate(subgraph.operators):
        for index in op.inputs:
            if made.get(index, -1) >= place:
                name = _name(subgraph.tensors[index])
                raise InvalidModelError(f"operator {place} of subgraph {number} takes tensor {name} before it is made")


def _check_calls(model: Model) -> None:
    calls: dict[int, set[int]] = {}
    for number, subgraph in enumerate(model.subgraphs):
        calls[number] = {index for op in subgraph.operators for index in called_subgraphs(op)}
        for index in calls[number]:
            _check(index, 0, len(model.subgraphs), f"a subgraph that subgraph {number} calls")
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        raise InvalidModelError(f"the .tflite file is damaged: subgraph {error.args[1][0]} calls itself") from None
    depth: dict[int, int] = {}
    for number in order:
        depth[number] = 1 + max((depth[index] for index in calls[number]), default=0)
    if max(depth.values()) > _MOST_CALLS:
        raise InvalidModelError(f"the .tflite file has subgraphs that call each other over {_MOST_CALLS} deep")


def _check(index: int, low: int, high: int, what: str) -> None:
    if not low <= index < high:
        raise InvalidModelError(f"the .tflite file is damaged: {what} has index {index}, not below {high}")


def _name(holder: Any) -> str:
    return repr(_cut(text(holder.name)))


def _short(numbers: list[int]) -> str:
    return _cut(str(numbers[:30]))


def _cut(line: str) -> str:
    return line if len(line) <= 80 else f"{line[:77]}..."
