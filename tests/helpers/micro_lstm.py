"""TensorFlow Lite Micro's 16x8 LSTM in NumPy integers, bit for bit: the oracle for a kernel that LiteRT has not.

It reads nothing but the stored numbers and scales of an op. Sources: `lstm_eval.h` and `lstm_eval_common.cc` of
tflite-micro's kernels, and what these call: `FullyConnected` and `MulElementwise` of the reference kernels, the int16
`Logistic` and `Tanh`, and `MultiplyByQuantizedMultiplier` with 32 and with 64 bits.
"""

import functools

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from lstm_toolkit.tflite import edit, files
from tests.helpers.schema_models import empty_model


@functools.cache
def table():
    """The sigmoid from 0 to 10.6 that the kernels of LiteRT and Micro share, 16 bits, read off LiteRT's int16 TANH.

    At the input scale 1/48 that op looks up nothing between two entries, and gives the entry without its 16th bit.
    """
    model = empty_model()
    main = model.subgraphs[0]
    for name, scale in (("x", 1 / 48), ("y", 2.0**-15)):
        edit.add_tensor(main, name, [256], dtype=schema.TensorType.INT16)
        main.tensors[-1].quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[0])
    main.inputs, main.outputs = [0], [1]
    main.operators = [edit.new_operator(model, "TANH", [0], [1])]
    interpreter = Interpreter(
        model_content=files.write_model(model), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.arange(256, dtype=np.int16))
    interpreter.invoke()
    return interpreter.get_tensor(1).astype(np.int64) + 32768


SUM, UNIT = 2.0**-12, 2.0**-15
"""Scales of the sums of a gate, and of what a gate gives."""


def fixed(multiplier):
    """A multiplier as 31 bits and the power of two that they are shifted by."""
    mantissa, shift = np.frexp(multiplier)
    bits = round(float(mantissa) * 2**31)
    return (bits // 2, int(shift) + 1) if bits == 2**31 else (bits, int(shift))


def rescaled_sums(sums, multiplier):
    """int64 sums times the 15 upper bits of a multiplier."""
    bits, shift = fixed(multiplier)
    short = (bits + 2**15) >> 16 if bits < 0x7FFF0000 else 0x7FFF
    right = 15 - shift
    return (sums * short + (1 << (right - 1))) >> right


def rescaled(products, multiplier):
    """int32 products times a multiplier, rounded twice."""
    bits, shift = fixed(multiplier)
    high = products * 2 ** max(shift, 0) * bits
    high = np.where(high >= 0, high + 2**30, high + 1 - 2**30)
    high = np.sign(high) * (np.abs(high) >> 31)
    right = max(-shift, 0)
    rest, threshold = high & (2**right - 1), (2**right - 1 >> 1) + (high < 0)
    return (high >> right) + (rest > threshold)


def cut(values):
    return np.clip(values, -32768, 32767)


def sigmoid(values):
    scaled = 3 * values
    size = np.abs(scaled)
    place = np.minimum(size >> 9, 254)
    inside = (table()[place] << 9) + (size & 511) * (table()[place + 1] - table()[place])
    result = np.where(size >> 9 >= 255, 0x7FFF << 10, inside)
    return np.where(scaled >= 0, result + 512, (1 << 25) - result + 511) >> 10


def tanh(values, power):
    left = 12 + power
    scaled = 3 * values << left if left >= 0 else 3 * values + (1 << (-left - 1)) >> -left
    size = np.abs(scaled)
    place = np.minimum(size >> 8, 254)
    inside = (table()[place] << 8) + (size & 255) * (table()[place + 1] - table()[place])
    result = np.where(size >> 8 >= 255, 0xFFFF << 8, inside)
    return np.where(scaled >= 0, result - (1 << 23) + 128, -result + (1 << 23) + 127) >> 8


def lstm(stored, scales, x, h, c):
    """Runs the op over a sequence.

    Args:
        stored: weights and biases by operand.
        scales: of the operands with one, by operand; "input", "output_state" and "cell_state" among them.
        x: [batch, time, input], int16.
        h, c: the states, [batch, units], int16.

    Returns:
        The outputs [batch, time, units], and both states, int64.
    """
    h, c, outputs = h.astype(np.int64), c.astype(np.int64), []
    cell, hidden = scales["cell_state"], scales["output_state"]

    def gate(name, step):
        found = []
        for kind, taken, scale in (("input", step, scales["input"]), ("recurrent", h, hidden)):
            weights = f"{kind}_to_{name}_weights"
            sums = taken @ stored[weights].T.astype(np.int64)
            sums += stored[f"{name}_gate_bias"] if kind == "input" else 0
            found.append(cut(rescaled_sums(sums, scale * scales[weights] / SUM)))
        return cut(sum(found))

    for step in x.astype(np.int64).swapaxes(0, 1):
        forget, enter, leave = (sigmoid(gate(name, step)) for name in ("forget", "input", "output"))
        new = rescaled(enter * tanh(gate("cell", step), -12), UNIT * UNIT / cell)
        c = cut(cut(rescaled(forget * c, UNIT)) + cut(new))
        h = cut(rescaled(tanh(c, round(np.log2(cell))) * leave, UNIT * UNIT / hidden))
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c
