"""Pass: fused LSTMs compute with int16 activations and int8 weights (16x8), which TensorFlow Lite Micro alone has.

    before  [ZEROS_LIKE: c] [LSTM: float x, W, b, h, c]
    after   [ZEROS_LIKE: int8 zeros] [QUANTIZE: c] [QUANTIZE: x to int16] [LSTM: int16 x, int8 W, int64 b, int16 h, c]
            [DEQUANTIZE]

What the kernel takes for granted: all zero points are 0; each matrix has one scale; a bias has the scale of input times
weights; output and state h have one scale; the scale of the cell state is a power of two; the sums of a gate have the
scale 2^-12, so that input and state can each add 8 to a gate at most. Its ZEROS_LIKE knows no int16.
Sources: `lstm_eval_common.cc` and `lstm_eval.h` in `tensorflow/lite/micro/kernels`.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.int16.scales import scale_for
from lstm_toolkit.runtime import targets
from lstm_toolkit.tflite import edit, files, graph
from lstm_toolkit.tflite.recurrent import RecurrentOp, recurrent_ops
from lstm_toolkit.tflite.types import Model, Operator
from lstm_toolkit.weights.operands import BIASES, INPUT_WEIGHTS, OPERANDS, RECURRENT_WEIGHTS

INT16 = schema.TensorType.INT16

SMALLEST_POWER, LARGEST_POWER = -15, -9
"""Of the scale of a cell state: it holds numbers up to 1, and up to 64."""

_SUM_SCALE = 2.0**-12
_LARGEST = 32767
_LARGEST_BIAS = 2.0**40
"""A sum of the kernel has 47 bits."""
_LEAST_MULTIPLIER, _LARGEST_MULTIPLIER = 2.0**-30, 2.0**7
"""Between which the kernel can shift a sum of 64 bits (`MultiplyByQuantizedMultiplier`)."""


def to_int16(model: Model, largest: Mapping[str, float]) -> int:
    """Gives the fused LSTMs of a float `ModelT` their 16x8 form, in place.

    Args:
        model: the file, whose LSTMs are such as TensorFlow Lite Micro takes (`targets.why_not_lstm`).
        largest: the largest absolute value, above 0, of each LSTM's input, output and cell state, by the tensor's name.

    Returns:
        The number of LSTMs.

    Raises:
        ConversionError: if the inputs of one are too large for the kernel.
    """
    ops = [op for op in recurrent_ops(model) if op.name == targets.MICRO_LSTM]
    for op in ops:
        _convert(op, largest)
        _reset_by_int8(op)
    files.prune(model)
    return len(ops)


def join(model: Model) -> None:
    """Takes out, in place, what is in vain between LSTMs of this form and int16 ops around them.

    before  [LSTM] [DEQUANTIZE] [QUANTIZE: to the same scale] [LSTM]
    after   [LSTM] [LSTM]
    """
    for subgraph in model.subgraphs:
        makers = graph.producers(subgraph)
        for operator in list(subgraph.operators):
            if graph.operator_name(model, operator) != "QUANTIZE" or operator.outputs[0] in subgraph.outputs:
                continue
            maker = makers.get(operator.inputs[0])
            if maker is not None and graph.operator_name(model, maker) == "DEQUANTIZE":
                operator.inputs = list(maker.inputs)
            source, target = (subgraph.tensors[index] for index in (operator.inputs[0], operator.outputs[0]))
            if (source.type, graph.scale_of(source)) == (target.type, graph.scale_of(target)):
                subgraph.operators.remove(operator)
                edit.redirect(subgraph, operator.outputs[0], operator.inputs[0])
        used = graph.consumed(subgraph)
        subgraph.operators = [
            op for op in subgraph.operators if graph.operator_name(model, op) != "DEQUANTIZE" or op.outputs[0] in used
        ]
    files.prune(model)


def _convert(op: RecurrentOp, largest: Mapping[str, float]) -> None:
    def reaches(index: int) -> float:
        return largest[graph.text(op.subgraph.tensors[index].name)]

    x, y = op.operands["input"], int(op.operator.outputs[0])
    in_scale, out_scale = scale_for(reaches(x)), scale_for(reaches(y))
    power = math.ceil(math.log2(reaches(op.operands["cell_state"]) / _LARGEST))
    cell_scale = 2.0 ** min(max(power, SMALLEST_POWER), LARGEST_POWER)
    for scale, names in ((in_scale, INPUT_WEIGHTS), (out_scale, RECURRENT_WEIGHTS)):
        for weights, bias in zip(names, BIASES, strict=True):
            _store(op, weights, bias if names is INPUT_WEIGHTS else None, float(scale))
    for name, scale in (("output_state", out_scale), ("cell_state", cell_scale)):
        op.tensor(name).type, op.tensor(name).quantization = INT16, edit.scaled(scale)
    place = op.subgraph.operators.index(op.operator)
    taken = edit.like(op.subgraph, x, "int16", dtype=INT16, quantization=edit.scaled(in_scale))
    given = edit.like(op.subgraph, y, "int16", dtype=INT16, quantization=edit.scaled(out_scale))
    op.operator.inputs[OPERANDS.index("input")], op.operator.outputs[0] = taken, given
    op.subgraph.operators[place : place + 1] = [
        edit.new_operator(op.model, "QUANTIZE", [x], [taken]),
        op.operator,
        edit.new_operator(op.model, "DEQUANTIZE", [given], [y]),
    ]


def _store(op: RecurrentOp, weights: str, bias: str | None, scale_in: float) -> None:
    """Stores a matrix in 8 bits with one scale, and the bias of its sums, if it has one, in 64."""
    values = _values(op, weights)
    added = np.zeros(1) if bias is None else _values(op, bias)
    least = max(np.abs(added).max() / _LARGEST_BIAS, _LEAST_MULTIPLIER * _SUM_SCALE) / scale_in
    scale = float(np.float32(max(np.abs(values).max() / 127, least)))
    if scale * scale_in > _LARGEST_MULTIPLIER * _SUM_SCALE:
        raise ConversionError(
            f"layer {op.layer!r} cannot be int16x8: its inputs reach {scale_in * _LARGEST:.3g}, with which and its "
            "weights the sums of the kernel overflow; normalize the inputs before training, or convert without "
            "quantization"
        )
    stored = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
    _replace(op, weights, stored, scale)
    if bias is not None:
        _replace(op, bias, np.rint(added / (scale_in * scale)).astype(np.int64), scale_in * scale)


def _values(op: RecurrentOp, name: str) -> npt.NDArray[np.float64]:
    values = graph.float_constant(op.model, op.tensor(name))
    if values is None:
        raise ConversionError(
            f"layer {op.layer!r}: its {name} is not a float32 constant; convert the source model again, whose "
            "weights are"
        )
    return values.astype(np.float64)


def _replace(op: RecurrentOp, name: str, stored: npt.NDArray[np.int8] | npt.NDArray[np.int64], scale: float) -> None:
    index = edit.add_constant(op.model, op.subgraph, graph.text(op.tensor(name).name), stored)
    op.subgraph.tensors[index].quantization = edit.scaled(scale)
    op.operator.inputs[OPERANDS.index(name)] = index


def _reset_by_int8(op: RecurrentOp) -> None:
    """Lets each reset of a state, now int16, copy zeros of int8 into it."""
    operators: list[Operator] = []
    for each in op.subgraph.operators:
        operators.append(each)
        state = each.outputs[0] if len(each.outputs) else None
        if state in op.states and graph.operator_name(op.model, each) == "ZEROS_LIKE":
            zeros = edit.like(op.subgraph, state, "zeros", dtype=schema.TensorType.INT8, quantization=edit.scaled(1.0))
            op.subgraph.tensors[zeros].isVariable = True
            each.inputs, each.outputs = [zeros], [zeros]
            operators.append(edit.new_operator(op.model, "QUANTIZE", [zeros], [state]))
    op.subgraph.operators = operators
