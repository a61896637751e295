"""Reads, edits and writes `.tflite` files as the schema's mutable objects, which never leave this package.

The codec is `ai_edge_litert.tools.flatbuffer_utils`; the objects are those of `ai_edge_litert.schema_py_generated`.
"""

from __future__ import annotations

import heapq
import math
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from lstm_toolkit._version import __version__
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.file_bytes import check_bytes
from lstm_toolkit.file_checks import check_model, listed, text
from lstm_toolkit.weights.operands import ABSENT

FILE_IDENTIFIER = b"TFL3"

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

_OPERATOR_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_TYPE_NAMES = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


def read_bytes(model: bytes | bytearray | memoryview | str | os.PathLike[str]) -> bytes:
    """Returns the bytes of a model that is given as bytes or as a path.

    Raises:
        InvalidModelError: if the path cannot be read, or the bytes are not a `.tflite` file.
    """
    if isinstance(model, (str, os.PathLike)):
        try:
            data = Path(model).read_bytes()
        except OSError as error:
            raise InvalidModelError(f"cannot read {os.fspath(model)!r}: {error.strerror or error}") from error
        origin = repr(os.fspath(model))
    elif isinstance(model, (bytes, bytearray, memoryview)):
        data, origin = bytes(model), "the model"
    else:
        raise InvalidModelError(f"expected the bytes or the path of a .tflite file, got {type(model).__name__}")
    if data[4:8] != FILE_IDENTIFIER:
        raise InvalidModelError(f"{origin} is not a .tflite file: its bytes 4 to 8 are not {FILE_IDENTIFIER.decode()}")
    return data


def read_model(data: bytes) -> Any:
    """Unpacks the bytes of a `.tflite` file into a `ModelT` that `file_checks` found to be whole.

    Raises:
        InvalidModelError: if the bytes cannot be unpacked, or the model contradicts itself.
    """
    data = read_bytes(data)
    check_bytes(data)
    try:
        model = flatbuffer_utils.read_model_from_bytearray(data)
    except Exception as error:  # the codec raises whatever the damaged bytes lead it to
        raise InvalidModelError(f"the .tflite file is damaged: {type(error).__name__}: {error}") from error
    check_model(model)
    return model


def write_model(model: Any) -> bytes:
    """Packs a `ModelT`, after dropping the tensors, buffers and operator codes that nothing refers to."""
    prune(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all: into a temporary file beside it, which then takes its name.

    Raises:
        OSError: as writing does; nothing is left behind then.
    """
    target, temporary = Path(path), None
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def sign(model: Any) -> None:
    """Says in the description of a `ModelT` that this package wrote it, so that what it holds was asked for."""
    model.description = f"lstm_toolkit {__version__}".encode()


def is_own(model: Any) -> bool:
    """Whether this package wrote the file."""
    return text(model.description).startswith("lstm_toolkit ")


def operator_name(model: Any, operator: Any) -> str:
    """Name of an operator: the builtin's, or the custom code of a CUSTOM one."""
    code = model.operatorCodes[operator.opcodeIndex]
    builtin = flatbuffer_utils.get_builtin_code_from_operator_code(code)
    if builtin == schema.BuiltinOperator.CUSTOM:
        return text(code.customCode) or "CUSTOM"
    return _OPERATOR_NAMES.get(builtin, f"UNKNOWN_{builtin}")


def count_operators(model: Any, *subgraphs: Any) -> Counter[str]:
    """Counts the operators of some subgraphs, by default of all, by name."""
    return Counter(operator_name(model, op) for graph in subgraphs or model.subgraphs for op in graph.operators)


def type_name(tensor: Any) -> str:
    """The tensor's type as TensorFlow Lite spells it, in lower case."""
    return _TYPE_NAMES.get(tensor.type, f"unknown_{tensor.type}")


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Shape of a tensor, -1 where it is dynamic."""
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    return tuple(int(size) for size in (signature if signature is not None else ()))


def scale_of(tensor: Any) -> tuple[float, int]:
    """Scale and zero point of a tensor with one scale; (0.0, 0) for one without, or with several."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return 0.0, 0
    zero_points = quantization.zeroPoint
    zero_point = int(zero_points[0]) if zero_points is not None and len(zero_points) else 0
    return float(quantization.scale[0]), zero_point


def constant(model: Any, tensor: Any) -> npt.NDArray[Any] | None:
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


def add_tensor(
    subgraph: Any, name: str, shape: Sequence[int], *, dtype: int = schema.TensorType.FLOAT32, variable: bool = False
) -> int:
    """Adds a tensor without values and returns its index."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name.encode(), [int(size) for size in shape], dtype
    tensor.buffer, tensor.isVariable, tensor.hasRank = 0, variable, True
    subgraph.tensors.append(tensor)
    return len(subgraph.tensors) - 1


def add_constant(model: Any, subgraph: Any, name: str, values: npt.NDArray[Any]) -> int:
    """Adds a constant tensor with a buffer of its own and returns its index."""
    dtype = next(code for code, known in DTYPES.items() if np.dtype(known) == values.dtype)
    index = add_tensor(subgraph, name, values.shape, dtype=dtype)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    model.buffers.append(buffer)
    subgraph.tensors[index].buffer = len(model.buffers) - 1
    return index


def operator_code(model: Any, builtin: int, version: int = 1) -> int:
    """Index of the operator code of a builtin op, which is added if the model does not have it."""
    for index, code in enumerate(model.operatorCodes):
        if flatbuffer_utils.get_builtin_code_from_operator_code(code) == builtin and code.version == version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = builtin, version
    code.deprecatedBuiltinCode = min(builtin, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


_SHARED_OPTIONS = {"MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum", "MEAN": "Reducer"}
"""The options of ops that do not have their own name."""


def new_operator(
    model: Any, name: str, inputs: Sequence[int], outputs: Sequence[int], *, version: int = 1, **options: Any
) -> Any:
    """A new builtin operator, which the caller puts into a subgraph.

    Args:
        model: the file, which gets the operator code if it does not have it.
        name: of the builtin.
        inputs, outputs: indices of its tensors.
        version: of the operator code.
        **options: fields of its options as the schema names them; the others keep the schema's defaults.
    """
    operator = schema.OperatorT()
    operator.opcodeIndex = operator_code(model, getattr(schema.BuiltinOperator, name), version)
    kind = _SHARED_OPTIONS.get(name) or "".join(word.capitalize() for word in name.split("_"))
    if hasattr(schema.BuiltinOptions, f"{kind}Options"):
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
        operator.builtinOptions = getattr(schema, f"{kind}OptionsT")()
        for field, value in options.items():
            setattr(operator.builtinOptions, field, value)
    operator.inputs, operator.outputs = list(inputs), list(outputs)
    return operator


def producers(subgraph: Any) -> dict[int, Any]:
    """The operator that computes each tensor; for a state, the last one that writes it."""
    return {index: op for op in subgraph.operators for index in op.outputs}


def consumed(subgraph: Any) -> set[int]:
    """Indices of the tensors that an operator takes or that are outputs."""
    return {index for op in subgraph.operators for index in op.inputs} | set(subgraph.outputs)


def redirect(subgraph: Any, old: int, new: int) -> None:
    """Lets every operator that takes one tensor take another."""
    for op in subgraph.operators:
        op.inputs = [new if index == old else index for index in op.inputs]


def sort_operators(subgraph: Any) -> None:
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


def prune(model: Any) -> None:
    """Drops the tensors, buffers and operator codes that nothing refers to."""
    for number, subgraph in enumerate(model.subgraphs):
        signatures = [s for s in model.signatureDefs or [] if s.subgraphIndex == number]
        maps = [entry for s in signatures for entry in [*(s.inputs or []), *(s.outputs or [])]]
        used = {*listed(subgraph.inputs), *listed(subgraph.outputs), *(entry.tensorIndex for entry in maps)}
        for op in subgraph.operators:
            used |= {*listed(op.inputs), *listed(op.outputs), *listed(op.intermediates)}
        kept = sorted(used - {ABSENT})
        position = {old: new for new, old in enumerate(kept)} | {ABSENT: ABSENT}
        subgraph.tensors = [subgraph.tensors[index] for index in kept]
        subgraph.inputs, subgraph.outputs = _moved(subgraph.inputs, position), _moved(subgraph.outputs, position)
        for entry in maps:
            entry.tensorIndex = position[entry.tensorIndex]
        for op in subgraph.operators:
            op.inputs, op.outputs = _moved(op.inputs, position), _moved(op.outputs, position)
            if op.intermediates is not None:
                op.intermediates = _moved(op.intermediates, position)

    holders = [tensor for subgraph in model.subgraphs for tensor in subgraph.tensors] + (model.metadata or [])
    kept = sorted({0, *(holder.buffer for holder in holders)})
    position = {old: new for new, old in enumerate(kept)}
    model.buffers = [model.buffers[index] for index in kept]
    for holder in holders:
        holder.buffer = position[holder.buffer]

    operators = [op for subgraph in model.subgraphs for op in subgraph.operators]
    kept = sorted({op.opcodeIndex for op in operators})
    position = {old: new for new, old in enumerate(kept)}
    model.operatorCodes = [model.operatorCodes[index] for index in kept]
    for op in operators:
        op.opcodeIndex = position[op.opcodeIndex]


def _moved(indices: Any, position: dict[int, int]) -> list[int]:
    return [position[index] for index in listed(indices)]
