"""What a model file says: names of operators, shapes, constants, what computes a tensor and what takes it."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite.types import Model, Operator, Subgraph, Tensor
from lstm_toolkit.weights.operands import ABSENT


def text(value: bytes | str | None) -> str:
    """A name out of a file as text; bytes that are not UTF-8 are shown as escapes."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value or ""


def listed(values: Iterable[Any] | None) -> list[Any]:
    """A vector out of a file as a list, which is empty where the file has none."""
    return [] if values is None else list(values)


def calls(operator: Operator) -> Iterator[tuple[Any, str, list[int]]]:
    """Yields options, field and indices for each field of an operator's options that names subgraphs."""
    for options in (operator.builtinOptions, operator.builtinOptions2):
        for field, value in list(vars(options).items()) if options is not None else ():
            if "ubgraph" in field and value is not None:
                yield options, field, listed([value] if isinstance(value, int) else value)


def called_subgraphs(operator: Operator) -> list[int]:
    """Indices of the subgraphs that an operator runs, as its options name them; -1, for none, is left out."""
    return [index for *_, indices in calls(operator) for index in indices if index != ABSENT]


DTYPES: dict[int, npt.DTypeLike] = {
    schema.TensorType.FLOAT64: np.float64,
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT64: np.uint64,
    schema.TensorType.UINT32: np.uint32,
    schema.TensorType.UINT16: np.uint16,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.BOOL: np.bool_,
}
"""NumPy's dtype for each of the schema's tensor types that has one."""


OPERATOR_CODES = {name: code for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
"""Codes of the builtin operators by name."""

OPERATOR_NAMES = {code: name for name, code in OPERATOR_CODES.items()}
"""Names of the builtin operators by code."""

_OPTIONS = [name.removesuffix("Options") for name in vars(schema.BuiltinOptions) if name.endswith("Options")]
_OPTIONS_BY_NAME = {name.lower(): name for name in _OPTIONS}

REDUCERS = ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM")
"""The operators that reduce axes."""

OPTIONS_OF = {
    name: _OPTIONS_BY_NAME[key]
    for name in OPERATOR_NAMES.values()
    if (key := name.replace("_", "").lower()) in _OPTIONS_BY_NAME
}
OPTIONS_OF |= dict.fromkeys((*REDUCERS, "REDUCE_ALL"), "Reducer")
OPTIONS_OF |= dict.fromkeys(("MAXIMUM", "MINIMUM"), "MaximumMinimum")
OPTIONS_OF |= dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), "Pool2D")
OPTIONS_OF |= {"UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNN"}
"""The schema's name for the options of each builtin operator that has any, without the ending "Options"."""


_TYPE_NAMES = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


def operator_name(model: Model, operator: Operator) -> str:
    """Name of an operator: the builtin's, or the custom code of a CUSTOM one, which is never that of a builtin."""
    code = model.operatorCodes[operator.opcodeIndex]
    builtin = flatbuffer_utils.get_builtin_code_from_operator_code(code)
    if builtin == schema.BuiltinOperator.CUSTOM:
        name = text(code.customCode) or "CUSTOM"
        return name if name == "CUSTOM" or name not in OPERATOR_CODES else f"CUSTOM {name}"
    return OPERATOR_NAMES.get(builtin, f"UNKNOWN_{builtin}")


def count_operators(model: Model, *subgraphs: Subgraph) -> Counter[str]:
    """Counts the operators of some subgraphs, by default of all, by name."""
    return Counter(operator_name(model, op) for each in subgraphs or model.subgraphs for op in each.operators)


def type_name(tensor: Tensor) -> str:
    """The tensor's type as TensorFlow Lite spells it, in lower case."""
    return _TYPE_NAMES.get(tensor.type, f"unknown_{tensor.type}")


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """Shape of a tensor, -1 where it is dynamic."""
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    return tuple(int(size) for size in (signature if signature is not None else ()))


def scale_of(tensor: Tensor) -> tuple[float, int]:
    """Scale and zero point of a tensor with one scale; (0.0, 0) for one without, or with several."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return 0.0, 0
    zero_points = quantization.zeroPoint
    zero_point = int(zero_points[0]) if zero_points is not None and len(zero_points) else 0
    return float(quantization.scale[0]), zero_point


def constant(model: Model, tensor: Tensor) -> npt.NDArray[Any] | None:
    """The values of a constant tensor as they are stored, or None if it is not constant.

    Raises:
        InvalidModelError: if the buffer does not have the size that shape and type ask for.
    """
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type not in DTYPES or tensor.isVariable:
        return None
    shape = tuple(tensor.shape) if tensor.shape is not None else ()
    dtype, raw = np.dtype(DTYPES[tensor.type]), bytes(data)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        name = text(tensor.name)
        raise InvalidModelError(f"tensor {name!r} has {len(raw)} bytes for the shape {list(shape)} of {dtype}")
    return np.frombuffer(raw, dtype).reshape(shape)


def float_constant(model: Model, tensor: Tensor) -> npt.NDArray[np.float32] | None:
    """The values of a constant float32 tensor, or None if it is not one."""
    return constant(model, tensor) if tensor.type == schema.TensorType.FLOAT32 else None


def producers(subgraph: Subgraph) -> dict[int, Operator]:
    """The operator that computes each tensor; for a state, the last one that writes it."""
    return {index: op for op in subgraph.operators for index in op.outputs}


def consumed(subgraph: Subgraph) -> set[int]:
    """Indices of the tensors that an operator takes or that are outputs."""
    return {index for op in subgraph.operators for index in op.inputs} | set(subgraph.outputs)


def takes_last_step(
    model: Model, subgraph: Subgraph, operator: Operator, time: int, *, steps: int | None = None, whole: bool = True
) -> bool:
    """Whether an operator is a STRIDED_SLICE that takes the last step of a sequence and drops the axis of time.

    Args:
        model: the file.
        subgraph: that has the operator.
        operator: the operator.
        time: the axis of time.
        steps: length of the sequence, where it is known.
        whole: whether the operator must take all of the other axes.
    """
    options = operator.builtinOptions
    if operator_name(model, operator) != "STRIDED_SLICE" or options.ellipsisMask or options.newAxisMask:
        return False
    begin, _, strides = (constant(model, subgraph.tensors[index]) for index in operator.inputs[1:4])
    if begin is None or strides is None or begin.size <= time or not (strides == 1).all():
        return False
    others = (1 << begin.size) - 1 & ~(1 << time)
    if options.shrinkAxisMask != 1 << time or (whole and options.beginMask & options.endMask & others != others):
        return False
    first = 0 if options.beginMask & 1 << time else begin[time]
    return first in (-1, None if steps is None else steps - 1)
