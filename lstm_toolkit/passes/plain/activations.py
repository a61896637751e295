"""Activations, clips and layer normalization of recurrent cells as plain ops."""

import numpy as np

from lstm_toolkit.tflite.builder import OpBuilder

LAYER_NORM_EPSILON = 1e-8
"""Added to the variance inside the root, as the fused op does."""

_UNARY_OPS = {
    "elu": "ELU",
    "exponential": "EXP",
    "hard_tanh": "RELU_N1_TO_1",
    "relu": "RELU",
    "relu6": "RELU6",
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
}
"""The activations that are one op, by Keras's names."""

ACTIVATIONS = frozenset({*_UNARY_OPS, "linear", "hard_sigmoid", "hard_sigmoid_of_keras_2", "silu", "softsign"})
"""The activations that a step can have, by Keras's names."""

SATURATING = frozenset({"sigmoid", "hard_sigmoid", "hard_sigmoid_of_keras_2"})
"""The gate activations that a mask channel can open and shut."""


def activated(builder: OpBuilder, tensor: int, activation: str) -> int:
    """An activation of `ACTIVATIONS`, as Keras computes it."""
    if activation in _UNARY_OPS:
        return builder.unary(_UNARY_OPS[activation], tensor)
    if activation == "hard_sigmoid":
        shifted = builder.binary("ADD", tensor, builder.constant(np.float32(3.0)))
        return builder.binary("MUL", builder.unary("RELU6", shifted), builder.constant(np.float32(1 / 6)))
    if activation == "hard_sigmoid_of_keras_2":
        scaled = builder.binary("MUL", tensor, builder.constant(np.float32(0.2)))
        shifted = builder.binary("ADD", scaled, builder.constant(np.float32(0.5)))
        return builder.binary("MINIMUM", builder.unary("RELU", shifted), builder.constant(np.float32(1.0)))
    if activation == "silu":
        return builder.binary("MUL", tensor, builder.unary("LOGISTIC", tensor))
    if activation == "softsign":
        size = builder.binary("ADD", builder.unary("ABS", tensor), builder.constant(np.float32(1.0)))
        return builder.binary("DIV", tensor, size)
    return tensor


def clipped(builder: OpBuilder, tensor: int, bound: float) -> int:
    """The tensor with its absolute value bounded, or as it is where the bound is 0."""
    if bound <= 0:
        return tensor
    below = builder.binary("MINIMUM", tensor, builder.constant(np.float32(bound)))
    return builder.binary("MAXIMUM", below, builder.constant(np.float32(-bound)))


def normalized(builder: OpBuilder, tensor: int) -> int:
    """The tensor [batch, units] with mean 0 and variance 1 over the units."""
    axis, shape = builder.constant([1]), (builder.shape(tensor)[0], 1)
    centered = builder.binary("SUB", tensor, builder.op("MEAN", tensor, axis, shape=shape, keepDims=True))
    squares = builder.binary("MUL", centered, centered)
    variance = builder.op("MEAN", squares, axis, shape=shape, keepDims=True)
    variance = builder.binary("ADD", variance, builder.constant(np.float32(LAYER_NORM_EPSILON)))
    return builder.binary("MUL", centered, builder.unary("RSQRT", variance))
