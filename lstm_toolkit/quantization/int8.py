"""Quantizes a float file to int8: prepares it for TensorFlow's quantizer, and mends the result.

    before  [LSTM: float, with resets of its state]
    after   [LSTM: int8 x, int8 weights, int8 h, int16 c, five intermediates], with QUANTIZE where scales change

The stock path leaves out three things. Each LSTM gets the intermediates without which the quantizer skips it. A coupled
input gate beside layer normalization, which the int8 kernel computes wrongly, becomes an equal gate with weights of its
own. And every LSTM gets one scale for output, state and hidden tensor.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes import coupled_gate, int8_scales
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.stock import worker
from lstm_toolkit.tflite import edit, files, graph, recurrent
from lstm_toolkit.tflite.recurrent import RecurrentOp, recurrent_ops
from lstm_toolkit.tflite.types import Model, Tensor
from lstm_toolkit.weights.operands import STATES

INTERMEDIATES = 5
"""Tensors inside the op whose ranges the quantizer needs: the sums of the four gates, and the hidden state."""

QUANTIZED = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM")
"""Recurrent ops that have an int8 kernel."""

KEPT_FLOAT = ("UNIDIRECTIONAL_SEQUENCE_RNN",)
"""Recurrent ops that have none; they stay float between a DEQUANTIZE and a QUANTIZE."""


RANGE_MARGIN = 0.22
"""The share by which a range is widened. With 50 random samples, widening by a quarter takes the largest error on 400
new ones from 17 to 7 percent for an LSTM, and from 27 to 11 with a dense layer behind it (medians of eight models). On
the samples that were seen it costs a decibel at most."""

LARGEST_CELL = 64.0
"""The largest absolute value of a cell state whose tanh the int8 kernel can take."""


def quantize(
    tflite: bytes,
    calibration: Samples,
    *,
    io_dtype: str,
    progress: Callable[[int], Any] = lambda _: None,
) -> tuple[bytes, list[tuple[str, str]]]:
    """Quantizes a float file to int8.

    Args:
        tflite: the file; all shapes fixed, both directions of a layer split.
        calibration: the samples to take ranges on; a file that carries its state sees them in this order.
        io_dtype: of inputs and outputs, "float32" or "int8".
        progress: called with the number of samples that are done.

    Returns:
        The file, and the layers that stay float with the reason.

    Raises:
        ConversionError: if a layer cannot be int8; names the layer and the remedy.
    """
    model = files.read_model(tflite)
    found = list(recurrent_ops(model))
    kept = [(op.layer, f"there is no int8 kernel of {op.name}") for op in found if op.name in KEPT_FLOAT]
    layers = [(op.layer, _input_weights(op)) for op in found]
    for op in found:
        _prepare(op)
    samples = [list(sample.values()) for sample in calibration]
    calibrated = files.read_model(worker.calibrate_elsewhere(files.write_model(model), samples, progress=progress))
    widen_ranges(calibrated)
    quantized = worker.quantize_elsewhere(files.write_model(calibrated), io_dtype=io_dtype, kept_float=KEPT_FLOAT)
    result = files.read_model(quantized)
    int8_scales.equalize(result)
    _reset_from_variables(result)
    _name_states(result, layers)
    files.sign(result)
    return files.write_model(result), kept


def _name_states(model: Model, layers: list[tuple[str, npt.NDArray[np.float32]]]) -> None:
    """Names the states after their layers again, as `Runner.state` needs it; the quantizer drops the names.

    Args:
        model: the quantized file.
        layers: the name and the weights (`_input_weights`) of each recurrent op of the float file.

    Raises:
        ConversionError: if the quantizer has left an op float that has an int8 kernel.
    """
    left = list(layers)
    for op in recurrent_ops(model):
        weights = _input_weights(op)
        layer, _ = left.pop(min(range(len(left)), key=lambda place: _distance(left[place][1], weights)))
        if op.name in QUANTIZED and op.tensor("input").type == schema.TensorType.FLOAT32:
            raise ConversionError(f'TensorFlow\'s quantizer leaves layer {layer!r} float; pass "dynamic"')
        for index, state in zip(op.states, STATES, strict=False):
            op.subgraph.tensors[index].name = f"{layer}/{state}".encode()


def _reset_from_variables(model: Model) -> None:
    """Lets each reset write zeros into a variable, as `reset` has it; the quantizer makes its input a constant."""
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if graph.operator_name(model, operator) == "ZEROS_LIKE":
                (source,), (zeros,) = operator.inputs, operator.outputs
                if graph.constant(model, subgraph.tensors[source]) is not None:
                    operator.inputs = [zeros]
                    subgraph.tensors[zeros].isVariable = True
    files.prune(model)


def _input_weights(op: RecurrentOp) -> npt.NDArray[np.float32]:
    """Weights that tell an op from others: those from the input to the last gate, dequantized."""
    name = next(each for each in ("input_to_output_weights", "weights") if op.has(each))
    tensor = op.tensor(name)
    values = graph.constant(op.model, tensor)
    if values is None:
        raise ConversionError(f"the operand {name} of an op is not a constant; quantize a float32 file")
    scale, _ = graph.scale_of(tensor)
    return values.astype(np.float32) * np.float32(scale or 1.0)


def _distance(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else np.inf


def widen_ranges(model: Model) -> None:
    """Widens the calibrated ranges of computed tensors, in place, before the quantizer makes scales of them.

    A result beyond its range becomes the end of the range, and a recurrent op takes that in again. So an input that
    drives an output a little further than any sample did costs many times the error that a wider range adds everywhere.
    Inputs, and tensors that only move them, keep their ranges, which are often bounds (pixels from 0 to 1).
    """
    for subgraph in model.subgraphs:
        wide: set[int] = set()
        for operator in subgraph.operators:
            moves = graph.operator_name(model, operator) in int8_scales.MOVED_INPUTS
            if moves and not wide & set(operator.inputs):
                continue
            inside = [int(index) for index in operator.intermediates] if operator.intermediates is not None else []
            wide |= {*map(int, operator.outputs), *inside, *recurrent.state_tensors(model, operator)}
        for index in wide:
            low, high = _range(subgraph.tensors[index])
            slack = RANGE_MARGIN / 2 * (high - low)
            _set_range(subgraph.tensors[index], low - slack, high + slack)
        for op in recurrent_ops(model, subgraph):
            if op.name in QUANTIZED and op.operator.intermediates is not None:
                _fit_kernel(op)


def _fit_kernel(op: RecurrentOp) -> None:
    """Sets ranges so that the int8 kernel reads the numbers that it stores.

    Its tanh leaves the result unwritten unless the int16 cell state has a range between 1 and 64 (`ApplyTanh` takes
    0 to 6 integer bits). And it turns the sign of the zero point of the projection's input (`-hidden_zp` in
    `CalculateLstmOutputInteger8x8_16`), so that a range with one long end is cut to the length of the short one.
    """
    cell_state = op.tensor("cell_state")
    largest = max(1.0, *map(abs, _range(cell_state)))
    if largest > LARGEST_CELL * (1 + RANGE_MARGIN):
        raise ConversionError(
            f"layer {op.layer!r} cannot be int8: its cell state reaches {largest:.0f}, and "
            f'the tanh of the kernel takes {LARGEST_CELL:.0f} at most; pass quantization="dynamic"'
        )
    largest = min(largest, LARGEST_CELL)
    _set_range(cell_state, -largest, largest)
    if op.has("projection_weights"):
        hidden = op.subgraph.tensors[op.operator.intermediates[int8_scales.HIDDEN]]
        largest = max(map(abs, _range(hidden)))
        _set_range(hidden, -largest, largest)


def _range(tensor: Tensor) -> tuple[float, float]:
    """The calibrated range; of a tensor without one (0, 0)."""
    quantization = tensor.quantization
    if quantization is None or quantization.min is None or not len(quantization.min):
        return 0.0, 0.0
    return float(quantization.min[0]), float(quantization.max[0])


def _set_range(tensor: Tensor, low: float, high: float) -> None:
    if tensor.quantization is not None and tensor.quantization.min is not None and len(tensor.quantization.min):
        tensor.quantization.min, tensor.quantization.max = [low], [high]


def _prepare(op: RecurrentOp) -> None:
    if op.name in KEPT_FLOAT:
        return
    if op.name not in QUANTIZED:
        raise ConversionError(
            f'layer {op.layer!r} is a {op.name}, which has no int8 kernel; convert with bidirectional="split"'
        )
    reason = why_not_int8(op)
    if reason:
        raise ConversionError(f"layer {op.layer!r} cannot be int8: {reason}")
    if op.is_coupled and op.is_normalized:
        coupled_gate.uncouple(op)
    op.operator.intermediates = [
        edit.add_tensor(op.subgraph, f"{op.layer}/intermediate_{number}", [0]) for number in range(INTERMEDIATES)
    ]


def why_not_int8(op: RecurrentOp) -> str | None:
    """Why a recurrent op with an int8 kernel cannot be int8 all the same; None if it can."""
    if op.shuts_gates:
        return (
            "it shuts its gates at padded steps by weights of 1e4, beside which the others vanish in 8 bits; "
            'pass quantization="float16", or convert without the mask'
        )
    if op.options.fusedActivationFunction != schema.ActivationFunctionType.TANH:
        return (
            "its activation is not tanh, and the int8 kernel computes tanh all the same; "
            'pass quantization="dynamic" or "float16"'
        )
    if op.has("projection_weights"):
        if op.options.projClip:
            return "the kernel clips a projection's stored numbers as if their zero point were 0; drop proj_clip"
        outputs, units = graph.shape_of(op.tensor("projection_weights"))
        if op.has("cell_to_forget_weights") and outputs != units:
            return (
                "the kernel reads as many peephole weights as there are outputs, and the projection makes that "
                f'{outputs} of {units}; pass quantization="dynamic"'
            )
    if getattr(op.options, "diagonalRecurrentTensors", False):
        return 'the kernel reads diagonal recurrent weights as float only; pass quantization="dynamic"'
    ways = recurrent.set_states(op.model, op.subgraph)
    if any(ways.get(index) == "explicit" for index in op.states):
        return (
            "its states are inputs, and the quantizer would store its cell state in 8 bits instead of 16; "
            'pass state="carry", and set Runner.state'
        )
    cell_state, others = op.states[1], [each for each in op.subgraph.operators if each is not op.operator]
    is_read = any(cell_state in {*each.inputs} - {*each.outputs} for each in others)
    if is_read or cell_state in op.subgraph.outputs:
        return (
            "its last cell state is given on (return_state), which makes the quantizer leave the layer float; "
            'drop that state, or pass quantization="dynamic"'
        )
    return None
