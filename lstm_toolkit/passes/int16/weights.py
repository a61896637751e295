"""Int8 weights and int64 biases for ops that take int16.

    multiplier = scale of the input * scale of a channel's weights / scale of the output

LiteRT multiplies a sum by a double, TensorFlow Lite Micro by the 15 upper bits of the multiplier. So each channel gets
the next coarser scale at which the multiplier is an odd number of 15 bits times a power of two: then both have it
whole, and no sum is in the middle between two results, which they would round differently. Sources:
`FullyConnectedPerChannel` and `MultiplyByQuantizedMultiplier` of `tflite/kernels/internal`. A bias has 64 bits, which
CMSIS-NN reads.
"""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

LARGEST = 127
_BITS = 15
_LEAST = 2.0**-30
"""The least multiplier; TensorFlow Lite Micro shifts by 31 bits at most."""
_LARGEST_BIAS = 2.0**40


def channel_scales(weights: Array, bias: Array, scale_in: float, scale_out: float) -> npt.NDArray[np.float64]:
    """The scale of each channel's weights.

    Args:
        weights: [channels, ...].
        bias: [channels].
        scale_in: of the op's input, as `scales.scale_for` gives it.
        scale_out: of its output.
    """
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1, initial=0.0).astype(np.float64) / LARGEST
    least = np.maximum(np.abs(bias.astype(np.float64)) / (_LARGEST_BIAS * scale_in), _LEAST * scale_out / scale_in)
    return np.array([_suited(each, scale_in, scale_out) for each in np.maximum(largest, least)])


def quantized(
    weights: Array, bias: Array, scale_in: float, scales: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """The stored numbers of weights [channels, ...] and bias [channels]."""
    columns = scales.reshape(-1, *(1,) * (weights.ndim - 1))
    stored = np.clip(np.rint(weights / columns), -LARGEST, LARGEST)
    return stored.astype(np.int8), np.rint(bias.astype(np.float64) / (scale_in * scales)).astype(np.int64)


def _suited(scale: float, scale_in: float, scale_out: float) -> float:
    """The next larger scale whose multiplier has 15 bits and is odd; it is a number of float32 itself."""
    one, other = _odd(scale_in), _odd(scale_out)
    # multiplier = one * factor * 2^n, scale = other * factor * 2^m
    mantissa, exponent = math.frexp(scale / other)
    bits = _BITS - one.bit_length()
    factor = math.ceil(mantissa * 2**bits)
    return math.ldexp(other * (factor | 1), exponent - bits)


def _odd(scale: float) -> int:
    """The odd part of a scale."""
    number = Fraction(scale).numerator
    return number // (number & -number)
