"""Pass: the biases of an int8 LSTM are whole.

    before  [LSTM int8: a gate's bias, int32 at the scale of input times weights, cut at the largest int32]
    after   [LSTM int8: the weights at a coarser scale, the bias whole]      the same for the bias of a projection

The scale of a bias follows from two others. Where the input or a gate's weights are tiny or zero, it is so fine that
the quantizer cuts the bias. The products of the two are then smaller than the bias by five digits, so that coarser
weights cost nothing. The quantizer does this itself for other ops.
"""

import copy
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import RecurrentOp
from lstm_toolkit.weights.operands import BIASES, INPUT_WEIGHTS, LAYER_NORM_COEFFICIENTS, OPERANDS

_LARGEST = 2.0**30
"""Half of what int32 holds: the kernel adds the zero point of the input times the weights."""


def biases_of(op: RecurrentOp) -> dict[str, npt.NDArray[np.float32]]:
    """The biases of an LSTM by operand, where they are constants."""
    names = (*BIASES, "projection_bias")
    found = {name: graph.float_constant(op.model, op.tensor(name)) for name in names if op.has(name)}
    return {name: values for name, values in found.items() if values is not None}


def keep_whole(op: RecurrentOp, biases: Mapping[str, npt.NDArray[np.float32]]) -> int:
    """Coarsens weights where a bias needs it, in place.

    Args:
        op: a quantized LSTM.
        biases: those of the float one (`biases_of`).

    Returns:
        The number of biases that were cut.
    """
    factors = dict(zip(BIASES, LAYER_NORM_COEFFICIENTS if op.is_normalized else INPUT_WEIGHTS, strict=True))
    factors["projection_bias"] = "projection_weights"
    return sum(_coarsened(op, bias, factors[bias], values) for bias, values in biases.items() if op.has(bias))


def _coarsened(op: RecurrentOp, bias: str, weights: str, values: npt.NDArray[np.float32]) -> bool:
    """Makes the scale of a bias, and that of the weights which it follows, coarse enough for the bias."""
    scale, _ = graph.scale_of(op.tensor(bias))
    largest = float(np.abs(values).max(initial=0.0))
    stored = graph.constant(op.model, op.tensor(weights))
    if not scale or largest <= _LARGEST * scale or stored is None:
        return False
    factor = largest / (_LARGEST * scale)
    whole = np.rint(values / (factor * scale)).astype(np.int32)
    for name, new in ((bias, whole), (weights, np.rint(stored / factor).astype(stored.dtype))):
        old = op.tensor(name)
        index = edit.add_constant(op.model, op.subgraph, graph.text(old.name), new)
        quantization = copy.deepcopy(old.quantization)
        quantization.scale = [factor * float(each) for each in quantization.scale]
        op.subgraph.tensors[index].quantization = quantization
        op.operator.inputs[OPERANDS.index(name)] = index
    return True
