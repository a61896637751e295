"""Checks what LiteRT takes for granted about a file before it runs, and what ends the process where it does not hold.

`model_check` comes first. Each rule here stands for a kind of damaged file that crashed the interpreter or XNNPACK.
What the kernels check themselves is left to them.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite.graph import constant, listed, operator_name, text, type_name
from lstm_toolkit.tflite.recurrent import state_tensors
from lstm_toolkit.tflite.types import Model, Operator, Subgraph, Tensor
from lstm_toolkit.weights.operands import ABSENT, OPERANDS_OF

T = schema.TensorType

_CONTROL = ("CALL_ONCE", "IF", "WHILE")
_RESOURCES = ("ASSIGN_VARIABLE", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "READ_VARIABLE")
_HANDLERS = (*_CONTROL, *_RESOURCES, "VAR_HANDLE")
"""Ops that take and give handles, which have no values of their own."""

_SMALL = {T.INT8: (-128, 127), T.UINT8: (0, 255), T.INT16: (-(2**15), 2**15 - 1)}
"""Types of quantized values, with their ranges."""

_LARGEST_SCALE = 1e30

_NUMBER_OF_INPUTS = {
    0: "CALL_ONCE HASHTABLE VAR_HANDLE WHILE",
    2: """ADD ARG_MAX ARG_MIN ASSIGN_VARIABLE ATAN2 BATCH_MATMUL BITWISE_XOR BROADCAST_TO CONV_3D CUMSUM DIV
        EMBEDDING_LOOKUP EQUAL EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER
        GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR MATRIX_SET_DIAG MAXIMUM MEAN MINIMUM MIRROR_PAD MUL
        MULTINOMIAL NOT_EQUAL PAD POW PRELU REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RESIZE_BILINEAR
        RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 RFFT2D RIGHT_SHIFT SEGMENT_SUM SPLIT SQUARED_DIFFERENCE
        SUB SUM TILE TOPK_V2 TRANSPOSE""",
    3: """BATCH_TO_SPACE_ND CONV_2D DEPTHWISE_CONV_2D DYNAMIC_UPDATE_SLICE HASHTABLE_FIND HASHTABLE_IMPORT PADV2 RANGE
        SCATTER_ND SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND SPLIT_V TRANSPOSE_CONV UNSORTED_SEGMENT_MAX
        UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM""",
    4: "ONE_HOT SPARSE_TO_DENSE STRIDED_SLICE",
    5: "NON_MAX_SUPPRESSION_V4",
    6: "NON_MAX_SUPPRESSION_V5",
}
_INPUTS_OF = {name: number for number, names in _NUMBER_OF_INPUTS.items() for name in names.split()}
"""The inputs that each op cannot do without; the others need one."""

_MAY_LACK = {"CONV_3D", "FULLY_CONNECTED", "SVDF", "TRANSPOSE_CONV", *OPERANDS_OF}
"""Ops of which an input that is -1 is absent: a bias, or an operand of a recurrent op."""

_ARITHMETIC = {
    "ABS",
    "ADD",
    "AVERAGE_POOL_2D",
    "BATCH_MATMUL",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "DEQUANTIZE",
    "DIV",
    "ELU",
    "EQUAL",
    "EXP",
    "FULLY_CONNECTED",
    "GREATER",
    "GREATER_EQUAL",
    "HARD_SWISH",
    "L2_NORMALIZATION",
    "LEAKY_RELU",
    "LESS",
    "LESS_EQUAL",
    "LOG",
    "LOGISTIC",
    "LOG_SOFTMAX",
    "MEAN",
    "MUL",
    "NOT_EQUAL",
    "PRELU",
    "QUANTIZE",
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "RSQRT",
    "SOFTMAX",
    "SQUARED_DIFFERENCE",
    "SUB",
    "SUM",
    "TANH",
    "TRANSPOSE_CONV",
}
"""Ops whose kernels divide by the scales of 8-bit inputs and outputs."""


def check_runnable(model: Model) -> None:
    """Checks a file that `check_model` has passed.

    Raises:
        InvalidModelError: for an operator without an input that it needs, an input without values, handles and states
            where no op keeps any, scales that are not positive numbers, and types that do not fit together.
    """
    for number, subgraph in enumerate(model.subgraphs):
        for tensor in subgraph.tensors:
            if reason := _scales(tensor):
                raise InvalidModelError(f"tensor {text(tensor.name)!r} {reason}")
        if reason := _states(model, subgraph):
            raise InvalidModelError(f"subgraph {number} {reason}")
        given = {*subgraph.inputs, *(index for op in subgraph.operators for index in op.outputs)}
        for place, op in enumerate(subgraph.operators):
            name = operator_name(model, op)
            reasons = (why_not(name, op, subgraph, model) for why_not in _RULES)
            if reason := next(filter(None, reasons), None) or _values(name, op, subgraph, model, given):
                raise InvalidModelError(f"operator {place} of subgraph {number}, {name}, {reason}")
        for index in {*subgraph.outputs} - given:
            if _is_empty(subgraph.tensors[index], model):
                wanted = text(subgraph.tensors[index].name)
                raise InvalidModelError(f"subgraph {number} gives {wanted!r}, which has no values and nothing computes")


def _scales(tensor: Tensor) -> str | None:
    if tensor.type not in _SMALL or tensor.quantization is None:
        return None
    scales, zero_points = (
        [each.item() for each in np.asarray(listed(values))]
        for values in (tensor.quantization.scale, tensor.quantization.zeroPoint)
    )
    # Kernels double scales in float32.
    if not all(np.finfo(np.float32).tiny <= scale < _LARGEST_SCALE for scale in scales):
        return f"has a scale that is not a positive number below {_LARGEST_SCALE:.0e}: {scales[:3]}"
    low, high = _SMALL[tensor.type]
    if scales and not all(low <= each <= high for each in zero_points):
        return f"has a zero point beyond the range of {type_name(tensor)}: {zero_points[:3]}"
    return None


def _states(model: Model, subgraph: Subgraph) -> str | None:
    """A variable tensor in which an op writes, though none keeps its state there, moves in memory."""
    kept: set[int] = set()
    for op in subgraph.operators:
        # ZEROS_LIKE resets a state in place; in int8 files, the float tensor that is quantized into it.
        is_other = operator_name(model, op) in ("RNN", "SVDF", "ZEROS_LIKE") or _is_basic(op) or _is_custom(op, model)
        kept.update(op.inputs if is_other else state_tensors(model, op))
    for op in subgraph.operators:
        for tensor in (subgraph.tensors[index] for index in {*op.outputs} - kept - {ABSENT}):
            if tensor.isVariable:
                return f"has the variable tensor {text(tensor.name)!r}, which no operator keeps its state in"
    return None


def _inputs(name: str, op: Operator, _subgraph: Subgraph, model: Model) -> str | None:
    needed = _INPUTS_OF.get(name, 1)
    if _is_custom(op, model):
        return None
    if len(op.inputs) < needed or ABSENT in (op.inputs[:needed] if name in _MAY_LACK else op.inputs):
        return f"lacks an input: it has {op.inputs[:30]} and needs {needed}"
    return None


def _handles(name: str, op: Operator, subgraph: Subgraph, model: Model) -> str | None:
    if name in _HANDLERS or _is_custom(op, model):
        return None
    kinds = [[subgraph.tensors[index].type for index in each if index != ABSENT] for each in (op.inputs, op.outputs)]
    if {T.RESOURCE, T.VARIANT} & {*kinds[0], *kinds[1]} or (T.STRING in kinds[1] and T.STRING not in kinds[0]):
        return "takes or gives a handle or strings, which it does not know"
    return None


def _quantized(name: str, op: Operator, subgraph: Subgraph, _model: Model) -> str | None:
    if name not in _ARITHMETIC:
        return None
    for tensor in _tensors(subgraph, [*op.inputs, *op.outputs]):
        quantization = tensor.quantization
        if tensor.type in (T.INT8, T.UINT8) and (quantization is None or not listed(quantization.scale)):
            return f"has {text(tensor.name)!r} of {type_name(tensor)} without a scale"
    return None


def _branches(name: str, op: Operator, subgraph: Subgraph, model: Model) -> str | None:
    """Ops that call a subgraph copy values between its tensors and theirs, byte by byte."""
    options = op.builtinOptions
    if name == "IF":
        called, given, taken = [options.thenSubgraphIndex, options.elseSubgraphIndex], op.inputs[1:], op.outputs
    elif name == "WHILE":
        called, given, taken = [options.bodySubgraphIndex], op.inputs, op.outputs
        condition = model.subgraphs[options.condSubgraphIndex]
        if _types(subgraph, given) != _types(condition, condition.inputs):
            return "has a condition with other inputs"
        if [tensor.type for tensor in _tensors(condition, condition.outputs)] != [T.BOOL]:
            return "has a condition that gives no truth value"
    else:
        return None
    for each in (model.subgraphs[index] for index in called):
        if _types(subgraph, given) != _types(each, each.inputs) or _types(subgraph, taken) != _types(
            each, each.outputs
        ):
            return "calls a subgraph with inputs or outputs of other types"
    return None


def _recurrent(name: str, op: Operator, subgraph: Subgraph, _model: Model) -> str | None:
    """The kernels choose by the types of a few operands, and read and write the others as if theirs fitted."""
    if name not in OPERANDS_OF or _is_basic(op):
        return None
    pairs = [
        (operand, subgraph.tensors[index].type)
        for operand, index in zip(OPERANDS_OF[name], op.inputs, strict=False)
        if index != ABSENT
    ]
    present = {operand for operand, _ in pairs}
    # The kernel asks for the size of the bias of every gate that has weights.
    for bias in (operand for operand in OPERANDS_OF[name] if operand.endswith("input_gate_bias")):
        if (bias in present) != (bias.replace("input_gate_bias", "input_to_input_weights") in present):
            return "has an input gate with weights and no bias, or with a bias and no weights"
    kind = pairs[0][1]
    own = {tensor.type for tensor in _tensors(subgraph, op.outputs)}
    own |= {each for operand, each in pairs if operand.endswith("output_state")}
    if own != {kind}:
        return "has outputs or a state of another type than its input"
    weights = {each for operand, each in pairs if operand.endswith("weights") and "cell_to" not in operand}
    # Beside integers, vectors of a diagonal recurrence are floats.
    first = {each for operand, each in pairs if operand.endswith("weights") and "input_to" in operand} or weights
    if len(first) > 1 or weights - first - {T.FLOAT32}:
        return "has weights of several types"
    sums = {each for operand, each in pairs if operand.endswith("bias")}
    cells = {each for operand, each in pairs if operand.endswith("cell_state")}
    if kind == T.FLOAT32 and (sums | cells) - {T.FLOAT32}:
        return "has a bias or a cell state that is not float32, as its input is"
    if kind == T.INT8 and (weights != {T.INT8} or sums - {T.INT32} or cells - {T.INT16}):
        return "has operands whose types do not fit its int8 input"
    return None


def _offset(name: str, op: Operator, subgraph: Subgraph, model: Model) -> str | None:
    if name != "STRIDED_SLICE" or not op.builtinOptions.offset:
        return None
    begin, size = (constant(model, tensor) for tensor in _tensors(subgraph, op.inputs[1:3]))
    shape = listed(subgraph.tensors[op.inputs[0]].shape)
    if begin is None or size is None or not len(begin) == len(size) == len(shape):
        return None
    inside = (0 <= first <= first + many <= whole for first, many, whole in zip(begin, size, shape, strict=True))
    return None if all(inside) else f"begins or ends beyond {shape}"


_RULES: tuple[Callable[[str, Operator, Subgraph, Model], str | None], ...] = (
    _inputs,
    _handles,
    _quantized,
    _branches,
    _recurrent,
    _offset,
)


def _values(name: str, op: Operator, subgraph: Subgraph, model: Model, given: set[int]) -> str | None:
    for place, index in enumerate(op.inputs):
        if index in given or index == ABSENT or (name == "RESHAPE" and place == 1):
            continue
        if _is_empty(subgraph.tensors[index], model):
            return f"takes {text(subgraph.tensors[index].name)!r}, which has no values and which nothing computes"
    return None


def _is_empty(tensor: Tensor, model: Model) -> bool:
    """Whether a tensor that nothing computes has no values either."""
    buffer = model.buffers[tensor.buffer]
    has_data = buffer.offset or (buffer.data is not None and len(buffer.data))
    return bool(not has_data and not tensor.isVariable and math.prod(listed(tensor.shape)))


def _is_basic(op: Operator) -> bool:
    """Whether an operator is an LSTM of the older kind, with other operands."""
    return getattr(op.builtinOptions, "kernelType", None) == schema.LSTMKernelType.BASIC


def _is_custom(op: Operator, model: Model) -> bool:
    code = model.operatorCodes[op.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return number == schema.BuiltinOperator.CUSTOM or number not in _KNOWN


_KNOWN = {code for name, code in vars(schema.BuiltinOperator).items() if not name.startswith(("_", "STABLEHLO"))}


def _tensors(subgraph: Subgraph, indices: Any) -> Iterator[Tensor]:
    return (subgraph.tensors[index] for index in indices if index != ABSENT)


def _types(subgraph: Subgraph, indices: Any) -> list[int]:
    return [tensor.type for tensor in _tensors(subgraph, indices)]
