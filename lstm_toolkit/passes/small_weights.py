"""Passes: weights are stored in fewer bits; what the model computes with stays float.

    dynamic   before  [UNIDIRECTIONAL_SEQUENCE_LSTM: float x, float weights]
              after   [UNIDIRECTIONAL_SEQUENCE_LSTM: float x, int8 weights]   the kernel quantizes x at each step
    float16   before  [op: float x, float weights]
              after   [DEQUANTIZE: float16 weights -> float weights] [op: float x, float weights]

int8 weights are symmetric, with one scale a tensor, as the hybrid kernels of the recurrent ops ask for
(`lstm_eval.cc`, `EvalHybrid`), or one a row, where the kernels of an op take that. Biases and the coefficients of
layer normalization stay float.
"""

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import RecurrentOp
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT, OPERANDS_OF

HYBRID_VERSIONS = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 2,
    "LSTM": 3,
    "BIDIRECTIONAL_SEQUENCE_LSTM": 2,
    "UNIDIRECTIONAL_SEQUENCE_RNN": 2,
    "BIDIRECTIONAL_SEQUENCE_RNN": 2,
    "FULLY_CONNECTED": 12,
    "CONV_2D": 5,
    "GATHER": 2,
}
"""Version of each op from which on it takes int8 weights, as they are here, beside float inputs (`op_version.cc`)."""

BY_ROW = ("FULLY_CONNECTED", "CONV_2D")
"""Ops whose kernels, XNNPACK's too, take one scale an output channel: as fast as one a tensor, and nearer to float."""

SMALLEST_KERNEL = 1024
"""Number of weights from which on it is worthwhile to quantize those of other ops, as TensorFlow has it."""

LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def to_int8(model: Model) -> list[tuple[str, str]]:
    """Quantizes the weights of a `ModelT` in place: of recurrent ops, FULLY_CONNECTED, CONV_2D, and tables of GATHER.

    Returns:
        The layers whose weights stay float, with the reason.
    """
    kept = []
    for subgraph in model.subgraphs:
        changed: dict[tuple[int, bool], int] = {}
        operators = []
        for operator in subgraph.operators:
            name = graph.operator_name(model, operator)
            operators.append(operator)
            op = RecurrentOp(model, subgraph, operator)
            if name in OPERANDS_OF and op.shuts_gates:
                reason = "it shuts its gates at padded steps by weights of 1e4, which 8 bits do not hold"
                kept.append((op.layer, reason))
                continue
            places = _weight_places(model, subgraph, operator, name)
            by_row = name in BY_ROW
            for place in places:
                index = int(operator.inputs[place])
                if (index, by_row) not in changed:
                    changed[index, by_row] = _add_int8(model, subgraph, index, by_row=by_row)
                operator.inputs[place] = changed[index, by_row]
            if places:
                diagonal = getattr(operator.builtinOptions, "diagonalRecurrentTensors", False)
                version = 4 if diagonal else HYBRID_VERSIONS[name]
                operator.opcodeIndex = edit.operator_code(model, getattr(schema.BuiltinOperator, name), version)
            if places and name == "GATHER":
                operators.append(_dequantize_output(model, subgraph, operator))
        subgraph.operators = operators
    return kept


def to_float16(model: Model, *, exactly: bool = False) -> int:
    """Stores every float constant of rank 2 and more in float16, in place; returns how many there were.

    Args:
        model: the file.
        exactly: leave those as they are that float16 rounds, and zeros.
    """
    count = 0
    for subgraph in model.subgraphs:
        stored: dict[int, int] = {}
        dequantizers = [op for op in subgraph.operators if graph.operator_name(model, op) == "DEQUANTIZE"]
        dequantized = {index for op in dequantizers for index in (*op.inputs, *op.outputs)}
        new: list[Operator] = []
        for operator in subgraph.operators:
            for place, index in enumerate(operator.inputs):
                if index == ABSENT or index in dequantized:
                    continue
                if index not in stored:
                    values = graph.float_constant(model, subgraph.tensors[index])
                    if values is None or values.ndim < 2 or np.abs(values).max(initial=0) > LARGEST_FLOAT16:
                        continue
                    if exactly and not (values.any() and np.array_equal(values.astype(np.float16), values)):
                        continue
                    stored[index], dequantize = _add_float16(model, subgraph, index, values)
                    new.append(dequantize)
                operator.inputs[place] = stored[index]
        subgraph.operators[:0] = new
        count += len(new)
    return count


def _weight_places(model: Model, subgraph: Subgraph, operator: Operator, name: str) -> list[int]:
    """Places of the float constants among the inputs of an op that can be int8; empty where it has none."""
    if name not in HYBRID_VERSIONS:
        return []
    if name not in OPERANDS_OF:
        place = 0 if name == "GATHER" else 1
        values = graph.float_constant(model, subgraph.tensors[operator.inputs[place]])
        return [place] if values is not None and values.size >= SMALLEST_KERNEL else []
    operands = RecurrentOp(model, subgraph, operator).operands
    arrays = {
        operand: graph.float_constant(model, subgraph.tensors[index])
        for operand, index in operands.items()
        if operand.endswith("weights")
    }
    # The hybrid kernel reads the diagonals of recurrent weights as float.
    return [
        OPERANDS_OF[name].index(operand)
        for operand, array in arrays.items()
        if array is not None and not (array.ndim == 1 and "recurrent" in operand)
    ]


def _add_int8(model: Model, subgraph: Subgraph, index: int, *, by_row: bool) -> int:
    """Adds the int8 form of a constant, with one scale, or one a row (an output channel)."""
    tensor = subgraph.tensors[index]
    values = graph.constant(model, tensor)
    assert values is not None
    rest = tuple(range(1, values.ndim)) if by_row else None
    scale = np.abs(values).max(axis=rest, initial=0.0, keepdims=True) / 127
    scale = np.where(scale == 0, 1.0, scale)
    stored = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
    new = edit.add_constant(model, subgraph, graph.text(tensor.name), stored)
    subgraph.tensors[new].quantization = edit.scaled(scale.reshape(-1))
    return new


def _dequantize_output(model: Model, subgraph: Subgraph, gather: Operator) -> Operator:
    """Lets a GATHER out of an int8 table give int8, and returns the DEQUANTIZE that makes it float again."""
    wanted = gather.outputs[0]
    quantization = subgraph.tensors[gather.inputs[0]].quantization
    rows = edit.like(subgraph, wanted, "int8", dtype=schema.TensorType.INT8, quantization=quantization)
    gather.outputs = [rows]
    return edit.new_operator(model, "DEQUANTIZE", [rows], [wanted], version=2)


def _add_float16(model: Model, subgraph: Subgraph, index: int, values: npt.NDArray[np.float32]) -> tuple[int, Operator]:
    name = graph.text(subgraph.tensors[index].name)
    stored = edit.add_constant(model, subgraph, f"{name}/float16", values.astype(np.float16))
    target = edit.add_tensor(subgraph, name, values.shape)
    return target, edit.new_operator(model, "DEQUANTIZE", [stored], [target], version=3)
