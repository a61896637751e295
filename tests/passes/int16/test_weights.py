"""The scales of int8 weights, against the finest ones and loops of their own."""

from fractions import Fraction

import numpy as np
import pytest

from lstm_toolkit.passes.int16 import weights

SCALE_IN, SCALE_OUT = 5 * 2.0**-13, 7 * 2.0**-11
CHANNELS = 40


def made(inputs, seed=0):
    """Weights [channels, inputs], and inputs whose sizes differ and which go together."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(inputs, inputs)) * random.uniform(0.2, 3.0, inputs)
    x = random.normal(size=(300, inputs)) @ mixed + random.normal(size=inputs)
    return random.normal(size=(CHANNELS, inputs)).astype(np.float32), x


def error(kernel, x, scales):
    """The root of the mean squared error of each channel's sums."""
    rows = zip(kernel, scales, strict=True)
    stored = np.array([[round(float(each) / float(scale)) for each in row] for row, scale in rows])
    assert np.abs(stored).max() <= 127
    return np.sqrt((((stored * scales[:, np.newaxis] - kernel) @ x.T) ** 2).mean(axis=1))


@pytest.mark.parametrize(("inputs", "gain"), [(3, 0.25), (6, 0.4), (22, 0.65)])
def test_sums_lose_less_than_at_the_finest_scale(inputs, gain):
    """The fewer weights share a scale, the less."""
    kernel, x = made(inputs)
    bias = np.zeros(CHANNELS, np.float32)
    scales = weights.channel_scales(kernel, bias, SCALE_IN, SCALE_OUT, x.T @ x)
    finest = np.abs(kernel).max(axis=1) / 127
    assert np.all((scales >= finest) & (scales < 2.01 * finest))
    ours, theirs = error(kernel, x, scales), error(kernel, x, finest)
    assert ours.mean() < gain * theirs.mean()
    blind = weights.channel_scales(kernel, bias, SCALE_IN, SCALE_OUT)
    assert ours.mean() < error(kernel, x, blind).mean() < theirs.mean()
    stored, _ = weights.quantized(kernel, bias, SCALE_IN, scales)
    np.testing.assert_array_equal(stored, np.rint(kernel / scales[:, np.newaxis]))


def test_multipliers_have_15_bits_at_most_and_are_odd():
    """As TensorFlow Lite Micro keeps them whole."""
    kernel, x = made(5)
    for scale in weights.channel_scales(kernel, np.ones(CHANNELS, np.float32), SCALE_IN, SCALE_OUT, x.T @ x):
        assert scale == np.float32(scale)
        multiplier = Fraction(SCALE_IN) * Fraction(float(scale)) / Fraction(SCALE_OUT)
        assert multiplier.numerator.bit_length() <= 15
        assert multiplier.numerator % 2 == 1
        assert multiplier.denominator & (multiplier.denominator - 1) == 0


def test_weights_of_zero_and_inputs_that_never_came():
    kernel, bias = np.zeros((2, 3), np.float32), np.array([0.0, 1e6], np.float32)
    scales = weights.channel_scales(kernel, bias, SCALE_IN, SCALE_OUT, np.zeros((3, 3)))
    stored, stored_bias = weights.quantized(kernel, bias, SCALE_IN, scales)
    assert not stored.any()
    np.testing.assert_allclose(stored_bias * scales * SCALE_IN, bias, rtol=1e-9)


def test_large_kernels_take_no_longer():
    """Of a kernel with 2^29 products in its cost one scale is tried, the finest."""
    kernel = np.random.default_rng(0).normal(size=(512, 1024)).astype(np.float32)
    scales = weights.channel_scales(kernel, np.zeros(512, np.float32), SCALE_IN, SCALE_OUT)
    np.testing.assert_allclose(scales, np.abs(kernel).max(axis=1) / 127, rtol=1e-3)
