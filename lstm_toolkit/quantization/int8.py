"""Quantizes a float file to int8: prepares it for TensorFlow's quantizer, and mends the result.

    before  [LSTM: float, with resets of its state]
    after   [LSTM: int8 x, int8 weights, int8 h, int16 c, five intermediates], with QUANTIZE where scales change

The stock path leaves out three things. Each LSTM gets the intermediates without which the quantizer skips it. A coupled
input gate beside layer normalization, which the int8 kernel computes wrongly, becomes an equal gate with weights of its
own. And every LSTM gets one scale for output, state and hidden tensor.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes import coarse_sums, coupled_gate, int8_biases, int8_scales
from lstm_toolkit.quantization import ranges
from lstm_toolkit.quantization.ranges import QUANTIZED
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.stock import worker
from lstm_toolkit.tflite import edit, files, graph, recurrent
from lstm_toolkit.tflite.recurrent import RecurrentOp, recurrent_ops
from lstm_toolkit.tflite.types import Model
from lstm_toolkit.weights.operands import STATES

INTERMEDIATES = 5
"""Tensors inside the op whose ranges the quantizer needs: the sums of the four gates, and the hidden state."""

KEPT_FLOAT = ("UNIDIRECTIONAL_SEQUENCE_RNN",)
"""Recurrent ops that have no int8 kernel; they stay float between a DEQUANTIZE and a QUANTIZE."""


def quantize(
    tflite: bytes,
    calibration: Samples,
    *,
    held_out: Samples,
    progress: Callable[[int], Any] = lambda _: None,
) -> tuple[bytes, list[tuple[str, str]], int]:
    """Quantizes a float file to int8, between inputs and outputs that stay float.

    Args:
        tflite: the file; all shapes fixed, both directions of a layer split.
        calibration: the samples to take ranges on; a file that carries its state sees them in this order.
        held_out: other samples, to see whether they keep to those ranges; may be empty.
        progress: called with the number of samples that are done.

    Returns:
        The file, the layers that stay float with the reason, and the number of held-out samples that go beyond a range.

    Raises:
        ConversionError: if a layer cannot be int8; names the layer and the remedy.
    """
    model = files.read_model(tflite)
    found = list(recurrent_ops(model))
    kept = [(op.layer, f"there is no int8 kernel of {op.name}") for op in found if op.name in KEPT_FLOAT]
    for op in found:
        _prepare(op)
    layers = [_Layer(op.layer, _input_weights(op), int8_biases.biases_of(op)) for op in found]
    prepared = files.write_model(model)
    # The calibrator takes them by place, which need not be that in the model: TensorFlow's converter may move inputs.
    samples = [[sample[name] for name in Runner(prepared).input_shapes] for sample in calibration]
    calibrated = files.read_model(worker.calibrate_elsewhere(prepared, samples, progress=progress))
    fitted = ranges.fit(calibrated, calibration)
    cut = ranges.beyond(fitted, ranges.extremes(model, held_out)) if held_out else 0
    quantized = worker.quantize_elsewhere(files.write_model(calibrated), kept_float=KEPT_FLOAT)
    result = files.read_model(quantized)
    int8_scales.equalize(result)
    coarse_sums.coarsen(result)
    reset_from_variables(result)
    _complete_layers(result, layers)
    files.sign(result)
    return files.write_model(result), kept, cut


@dataclasses.dataclass(frozen=True)
class _Layer:
    """What the quantizer drops of a recurrent op, or cuts.

    Attributes:
        name: of the layer.
        weights: by which the op is found again (`_input_weights`).
        biases: of the gates.
    """

    name: str
    weights: npt.NDArray[np.float32]
    biases: Mapping[str, npt.NDArray[np.float32]]


def _complete_layers(model: Model, layers: Sequence[_Layer]) -> None:
    """Gives the LSTMs of a quantized file their whole biases, and states that are named after their layers again.

    Raises:
        ConversionError: if the quantizer has left an op float that has an int8 kernel.
    """
    left = list(layers)
    for op in recurrent_ops(model):
        weights = _input_weights(op)
        layer = left.pop(min(range(len(left)), key=lambda place: _distance(left[place].weights, weights)))
        if op.name in QUANTIZED:
            if op.tensor("input").type == schema.TensorType.FLOAT32:
                raise ConversionError(
                    f'TensorFlow\'s quantizer leaves layer {layer.name!r} float; pass quantization="dynamic"'
                )
            int8_biases.keep_whole(op, layer.biases)
        for index, state in zip(op.states, STATES, strict=False):
            op.subgraph.tensors[index].name = f"{layer.name}/{state}".encode()


def reset_from_variables(model: Model) -> None:
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
        raise ConversionError(
            f"layer {op.layer!r}: its {name} is not a constant; convert the source model again, whose weights are"
        )
    scale, _ = graph.scale_of(tensor)
    return values.astype(np.float32) * np.float32(scale or 1.0)


def _distance(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else np.inf


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
            'pass lowering="loop", whose state has 16 bits, or quantization="dynamic" or "float16"'
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
    if recurrent.states_are_given(op):
        return (
            "its states are given from outside, and the quantizer would store its cell state in 8 bits instead of 16; "
            'pass quantization="dynamic", or state="carry" in place of state="explicit", and set Runner.state'
        )
    if recurrent.is_read_behind(op, op.states[1]):
        return (
            "its last cell state is given on (return_state), which makes the quantizer leave the layer float; "
            'drop that state, or pass quantization="dynamic"'
        )
    return None
