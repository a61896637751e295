"""Quantizes a float file to int8: prepares it for TensorFlow's quantizer, and mends what the quantizer gives.

    before  [LSTM: float, with resets of its state]
    after   [LSTM: int8 x, int8 weights, int8 h, int16 c, five intermediates], with QUANTIZE where scales change

Three things are done that the stock path leaves out: each LSTM gets the intermediates without which the quantizer
passes it by; a coupled input gate beside layer normalization, which the int8 kernel computes wrongly, becomes an input
gate of its own that is equal to it; and every LSTM gets one scale for output, state and hidden tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import converter_process, quantized_lstm, reset
from . import tflite_file as tf_file
from .contract import ABSENT, OPERANDS, OPERANDS_OF, SHUT_GATE, STATES
from .errors import ConversionError
from .representative import Samples

INTERMEDIATES = 5
"""Tensors inside the op whose ranges the quantizer needs: the sums of the four gates, and the hidden state."""

QUANTIZED = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM")
"""Recurrent ops that have an int8 kernel."""

KEPT_FLOAT = ("UNIDIRECTIONAL_SEQUENCE_RNN",)
"""Recurrent ops that have none; they stay float between a DEQUANTIZE and a QUANTIZE."""


RANGE_MARGIN = 0.25
"""By how much a range is widened, as a share of it. On random LSTMs with 50 samples it takes the largest error on new
samples from 20 to 2 percent, and costs half a decibel on those that were seen."""


def quantize(
    tflite: bytes,
    calibration: Samples,
    *,
    io_dtype: str,
    progress: Callable[[int], Any] | None = None,
) -> tuple[bytes, list[tuple[str, str]]]:
    """Quantizes a float file to int8.

    Args:
        tflite: the file; all shapes fixed, both directions of a layer split.
        calibration: the samples to take ranges on, in the order in which a file that carries its state is to see them.
        io_dtype: of inputs and outputs, "float32" or "int8".
        progress: called with the number of samples that are done.

    Returns:
        The file, and the layers that stay float with the reason.

    Raises:
        ConversionError: if the file holds what cannot be int8; names the layer and the remedy.
    """
    model = tf_file.read_model(tflite)
    recurrent = _recurrent(model)
    kept = [
        (_layer(model, subgraph, op), f"there is no int8 kernel of {tf_file.operator_name(model, op)}")
        for subgraph, op in recurrent
        if tf_file.operator_name(model, op) in KEPT_FLOAT
    ]
    names = [_layer(model, subgraph, op) for subgraph, op in recurrent]
    prints = [_fingerprint(model, subgraph, op) for subgraph, op in recurrent]
    for subgraph, op in recurrent:
        _prepare(model, subgraph, op)
    quantized = converter_process.quantize_elsewhere(
        tf_file.write_model(model),
        [list(sample.values()) for sample in calibration],
        io_dtype=io_dtype,
        kept_float=KEPT_FLOAT,
        progress=progress,
    )
    result = tf_file.read_model(quantized)
    quantized_lstm.equalize(result)
    left = list(range(len(names)))
    for subgraph, op in _recurrent(result):
        # The quantizer drops the names of the states, by which `Runner.state` knows them.
        found = _fingerprint(result, subgraph, op)
        match = min(left, key=lambda each: _distance(prints[each], found))
        left.remove(match)
        for index, state in zip(reset.state_tensors(result, op), STATES, strict=False):
            subgraph.tensors[index].name = f"{names[match]}/{state}".encode()
    tf_file.sign(result)
    return tf_file.write_model(result), kept


def _recurrent(model: Any) -> list[tuple[Any, Any]]:
    return [(g, op) for g in model.subgraphs for op in g.operators if reset.state_tensors(model, op)]


def _layer(model: Any, subgraph: Any, operator: Any) -> str:
    return reset.layer_of(subgraph.tensors[reset.state_tensors(model, operator)[0]])


def _fingerprint(model: Any, subgraph: Any, operator: Any) -> npt.NDArray[np.float32]:
    """Weights that tell an op from others: its last input weights, dequantized."""
    operands = OPERANDS_OF[tf_file.operator_name(model, operator)]
    name = next(each for each in ("input_to_output_weights", "weights") if each in operands)
    tensor = subgraph.tensors[operator.inputs[operands.index(name)]]
    values = tf_file.constant(model, tensor)
    if values is None:
        raise ConversionError(f"the operand {name} of an op is not a constant; quantize a float32 file")
    scale = tensor.quantization.scale if tensor.quantization is not None else None
    factor = float(scale[0]) if scale is not None and len(scale) else 1.0
    return values.astype(np.float32) * np.float32(factor)


def _distance(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else np.inf


def widen_ranges(model: Any) -> None:
    """Widens the calibrated ranges of what recurrent ops give, in place, before the quantizer makes scales of them.

    Beyond its range a result sticks to the range's end, and a recurrent op takes that back in: a new input that drives
    an output a little further than any sample did costs many times the error that a wider range adds everywhere.
    """
    for subgraph in model.subgraphs:
        wide: set[int] = set()
        for operator in subgraph.operators:
            results = {int(index) for index in operator.outputs}
            if reset.state_tensors(model, operator):
                inside = operator.intermediates if operator.intermediates is not None else []
                wide |= results | {int(index) for index in inside} | set(reset.state_tensors(model, operator))
            elif tf_file.operator_name(model, operator) in quantized_lstm.MOVED_INPUTS and wide & set(operator.inputs):
                wide |= results
        for quantization in (subgraph.tensors[index].quantization for index in wide):
            if quantization is not None and quantization.min is not None and len(quantization.min):
                low, high = float(quantization.min[0]), float(quantization.max[0])
                slack = RANGE_MARGIN / 2 * (high - low)
                quantization.min, quantization.max = [low - slack], [high + slack]


def _prepare(model: Any, subgraph: Any, operator: Any) -> None:
    name, layer = tf_file.operator_name(model, operator), _layer(model, subgraph, operator)
    if name in KEPT_FLOAT:
        return
    if name not in QUANTIZED:
        raise ConversionError(
            f'layer {layer!r} is a {name}, which has no int8 kernel; convert with bidirectional="split"'
        )
    reason = why_not_int8(model, subgraph, operator)
    if reason:
        raise ConversionError(f"layer {layer!r} cannot be int8: {reason}")
    _uncouple(model, subgraph, operator)
    operator.intermediates = [
        tf_file.add_tensor(subgraph, f"{layer}/intermediate_{number}", [0]) for number in range(INTERMEDIATES)
    ]


def why_not_int8(model: Any, subgraph: Any, operator: Any) -> str | None:
    """Why a recurrent op with an int8 kernel cannot be int8 all the same; None if it can."""
    if shuts_gates(model, subgraph, operator):
        return (
            "it shuts its gates at padded steps by weights of 1e4, beside which the others vanish in 8 bits; "
            'pass quantization="float16", or convert without the mask'
        )
    if getattr(operator.builtinOptions, "diagonalRecurrentTensors", False):
        return 'the kernel reads diagonal recurrent weights as float only; pass quantization="dynamic"'
    states = reset.set_states(model, subgraph)
    if any(states.get(index) == "explicit" for index in reset.state_tensors(model, operator)):
        return (
            "its states are inputs, and the quantizer would store its cell state in 8 bits instead of 16; "
            'pass state="carry", and set Runner.state'
        )
    return None


def shuts_gates(model: Any, subgraph: Any, operator: Any) -> bool:
    """Whether an op has the input channel that shuts its gates at padded steps (`SHUT_GATE`)."""
    name = tf_file.operator_name(model, operator)
    for operand, index in zip(OPERANDS_OF[name], operator.inputs, strict=False):
        if "input_to_" in operand and index != ABSENT:
            values = tf_file.constant(model, subgraph.tensors[index])
            if values is not None and values.dtype.kind == "f" and np.abs(values).max(initial=0) >= SHUT_GATE:
                return True
    return False


def _uncouple(model: Any, subgraph: Any, operator: Any) -> None:
    """Gives an op with layer normalization and no input gate one that is 1 minus its forget gate.

    sigmoid(-z) = 1 - sigmoid(z), and z is normalized sum times coefficients plus bias: the input gate has the forget
    gate's weights, and its coefficients and bias with the other sign.
    """
    place = OPERANDS.index
    normalized = "forget_layer_norm_coefficients"
    if len(operator.inputs) <= place(normalized) or operator.inputs[place(normalized)] == ABSENT:
        return
    if operator.inputs[place("input_to_input_weights")] != ABSENT:
        return
    for forget, sign in (
        ("input_to_forget_weights", 1),
        ("recurrent_to_forget_weights", 1),
        ("cell_to_forget_weights", 1),
        ("forget_gate_bias", -1),
        (normalized, -1),
    ):
        index = operator.inputs[place(forget)]
        if index == ABSENT:
            continue
        tensor = subgraph.tensors[index]
        values = tf_file.constant(model, tensor)
        if values is None:
            raise ConversionError(f"the operand {forget} of an LSTM op is not a constant")
        # "input_to_forget_weights" -> "input_to_input_weights", and so on: the gate is the last "forget" in it.
        operand = "input".join(forget.rsplit("forget", 1))
        name = "input".join(tf_file.text(tensor.name).rsplit("forget", 1))
        operator.inputs[place(operand)] = tf_file.add_constant(model, subgraph, name, sign * values)
