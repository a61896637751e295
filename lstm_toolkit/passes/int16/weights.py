"""Int8 weights and int64 biases for ops that take int16.

    multiplier = scale of the input * scale of a channel's weights / scale of the output

LiteRT multiplies a sum by a double, TensorFlow Lite Micro by the 15 upper bits of the multiplier. So each channel gets
the next coarser scale at which the multiplier is an odd number of 15 bits times a power of two: then both have it
whole, and no sum is in the middle between two results, which they would round differently. Sources:
`FullyConnectedPerChannel` and `MultiplyByQuantizedMultiplier` of `tflite/kernels/internal`. A bias has 64 bits, which
CMSIS-NN reads.

The finest scale is rarely the best. A channel of few weights rounds much better at some scale that is a little coarser,
and a recurrent layer adds the errors of its weights up over all steps. So many scales are tried, and the one is taken
whose error in the sums is least, on inputs such as the samples gave.
"""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

Moments = Mapping[tuple[str, int], Doubles]
"""What weights are multiplied by, as the sum of x x^T over its vectors x, [size, size]; by the name of an op's output,
and the size."""

LARGEST = 127

MOST_TRIED, MOST_PRODUCTS = 512, 2**28
"""Scales that are tried for each channel, up to twice the finest; fewer where that takes more products, since there it
gains less: by scales alone, the error of random weights falls to 0.7 with 22 in a channel, and to 0.95 with 128."""

_BITS = 15
_LEAST = 2.0**-30
"""The least multiplier; TensorFlow Lite Micro shifts by 31 bits at most."""
_LARGEST_BIAS = 2.0**40


def channel_scales(
    weights: Array, bias: Array, scale_in: float, scale_out: float, moment: Doubles | None = None
) -> Doubles:
    """The scale of each channel's weights.

    Args:
        weights: [channels, ...].
        bias: [channels].
        scale_in: of the op's input, as `scales.scale_for` gives it.
        scale_out: of its output.
        moment: of what the last axis of the weights is multiplied by (`Moments`); None if nothing is known of it.
    """
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1, initial=0.0).astype(np.float64) / LARGEST
    least = np.maximum(np.abs(bias.astype(np.float64)) / (_LARGEST_BIAS * scale_in), _LEAST * scale_out / scale_in)
    finest = np.maximum(largest, least)
    count = min(max(MOST_PRODUCTS // max(weights.size * weights.shape[-1], 1), 1), MOST_TRIED)
    tried = np.stack([_suited(finest * (1 + number / count), scale_in, scale_out) for number in range(count)])
    best = np.argmin([_cost(weights, scales, moment) for scales in tried], axis=0)
    return np.take_along_axis(tried, best[np.newaxis], axis=0)[0]


def quantized(
    weights: Array, bias: Array, scale_in: float, scales: Doubles
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """The stored numbers of weights [channels, ...] and bias [channels]."""
    stored = _rounded(weights, scales)
    return stored.astype(np.int8), np.rint(bias.astype(np.float64) / (scale_in * scales)).astype(np.int64)


def _rounded(weights: Array, scales: Doubles) -> Doubles:
    return np.clip(np.rint(weights / _by_channel(scales, weights)), -LARGEST, LARGEST)


def _by_channel(scales: Doubles, weights: Array) -> Doubles:
    return scales.reshape(-1, *(1,) * (weights.ndim - 1))


def _cost(weights: Array, scales: Doubles, moment: Doubles | None) -> Doubles:
    """The sum of the squared errors that rounding brings into each channel's sums."""
    errors = _rounded(weights, scales) * _by_channel(scales, weights) - weights
    weighted = errors if moment is None else errors @ moment
    return (weighted * errors).reshape(len(weights), -1).sum(axis=1)


def _suited(scales: Doubles, scale_in: float, scale_out: float) -> Doubles:
    """For each scale the next larger one whose multiplier has 15 bits and is odd; it is a number of float32 itself."""
    one, other = _odd(scale_in), _odd(scale_out)
    # multiplier = one * factor * 2^n, scale = other * factor * 2^m
    mantissas, exponents = np.frexp(scales / other)
    bits = _BITS - one.bit_length()
    factors = np.ceil(mantissas * 2**bits).astype(np.int64) | 1
    return np.ldexp(other * factors.astype(np.float64), exponents - bits)


def _odd(scale: float) -> int:
    """The odd part of a scale."""
    number = Fraction(scale).numerator
    return number // (number & -number)
