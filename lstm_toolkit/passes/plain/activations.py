"""Activations, clips and layer normalization of recurrent cells as plain ops.

An activation is a name of `ACTIVATIONS`, perhaps with numbers: `tanh`, `leaky_relu(0.2)`, `relu(0.1, 6.0)`.
"""

from collections.abc import Callable

import numpy as np

from lstm_toolkit.tflite.builder import OpBuilder

LAYER_NORM_EPSILON = 1e-8
"""Added to the variance inside the root, as the fused op does."""

SATURATING = frozenset({"sigmoid", "hard_sigmoid", "hard_sigmoid_of_keras_2", "sparse_sigmoid", "relu(0.0, 1.0)"})
"""The gate activations that a mask channel can open and shut: they are 0 far below and 1 far above zero."""


def activated(builder: OpBuilder, tensor: int, activation: str) -> int:
    """An activation of the units in the last axis, as Keras computes it."""
    name, _, numbers = activation.partition("(")
    return _RECIPES[name](builder, tensor, *(float(each) for each in numbers.rstrip(")").split(",") if each))


def is_elementwise(activation: str) -> bool:
    """Whether an activation takes each unit for itself, so that one op can compute it of several gates."""
    return activation not in ("softmax", "log_softmax")


def between(builder: OpBuilder, tensor: int, low: float, high: float) -> int:
    """The tensor with values between two bounds."""
    # TensorFlow Lite Micro has both ops, but not RELU_N1_TO_1.
    below = builder.binary("MINIMUM", tensor, builder.constant(np.float32(high)))
    return builder.binary("MAXIMUM", below, builder.constant(np.float32(low)))


def clipped(builder: OpBuilder, tensor: int, bound: float) -> int:
    """The tensor with its absolute value bounded, or as it is where the bound is 0."""
    return between(builder, tensor, -bound, bound) if bound > 0 else tensor


def normalized(builder: OpBuilder, tensor: int) -> int:
    """The tensor [batch, units] with mean 0 and variance 1 over the units."""
    axis, shape = builder.constant([1]), (builder.shape(tensor)[0], 1)
    centered = builder.binary("SUB", tensor, builder.op("MEAN", tensor, axis, shape=shape, keepDims=True))
    squares = builder.binary("MUL", centered, centered)
    variance = builder.op("MEAN", squares, axis, shape=shape, keepDims=True)
    variance = builder.binary("ADD", variance, builder.constant(np.float32(LAYER_NORM_EPSILON)))
    return builder.binary("MUL", centered, builder.unary("RSQRT", variance))


def _scaled(builder: OpBuilder, tensor: int, factor: float) -> int:
    return builder.binary("MUL", tensor, builder.constant(np.float32(factor)))


def _shifted(builder: OpBuilder, tensor: int, summand: float) -> int:
    return builder.binary("ADD", tensor, builder.constant(np.float32(summand)))


def _unary(op: str) -> Callable[[OpBuilder, int], int]:
    return lambda builder, tensor: builder.unary(op, tensor)


def _relu(builder: OpBuilder, tensor: int, negative_slope: float = 0.0, max_value: float = np.inf) -> int:
    positive = builder.unary("RELU", tensor)
    if max_value != np.inf:
        positive = builder.binary("MINIMUM", positive, builder.constant(np.float32(max_value)))
    if negative_slope == 0:
        return positive
    negative = builder.unary("RELU", builder.unary("NEG", tensor))
    return builder.binary("SUB", positive, _scaled(builder, negative, negative_slope))


def _leaky_relu(builder: OpBuilder, tensor: int, negative_slope: float) -> int:
    return builder.op("LEAKY_RELU", tensor, shape=builder.shape(tensor), alpha=negative_slope)


def _elu(builder: OpBuilder, tensor: int, alpha: float = 1.0, width: float = 1.0) -> int:
    """The tensor above zero, and alpha * (exp(x / width) - 1) below."""
    if alpha == width == 1:
        return builder.unary("ELU", tensor)
    positive = builder.unary("RELU", tensor)
    negative = builder.unary("ELU", _scaled(builder, builder.binary("SUB", tensor, positive), 1 / width))
    return builder.binary("ADD", positive, _scaled(builder, negative, alpha))


def _selu(builder: OpBuilder, tensor: int) -> int:
    return _scaled(builder, _elu(builder, tensor, alpha=1.6732632423543772), 1.0507009873554805)


def _gelu(builder: OpBuilder, tensor: int, approximate: float = 0.0) -> int:
    if not approximate:
        return builder.op("GELU", tensor, shape=builder.shape(tensor), approximate=False)
    # The op has this form too, but TensorFlow Lite Micro does not have the op.
    cube = builder.binary("MUL", builder.binary("MUL", tensor, tensor), tensor)
    bent = _scaled(builder, builder.binary("ADD", tensor, _scaled(builder, cube, 0.044715)), np.sqrt(2 / np.pi))
    share = _scaled(builder, _shifted(builder, builder.unary("TANH", bent), 1.0), 0.5)
    return builder.binary("MUL", tensor, share)


def _hard_sigmoid(builder: OpBuilder, tensor: int) -> int:
    return _scaled(builder, builder.unary("RELU6", _shifted(builder, tensor, 3.0)), 1 / 6)


def _hard_sigmoid_of_keras_2(builder: OpBuilder, tensor: int) -> int:
    return _relu(builder, _shifted(builder, _scaled(builder, tensor, 0.2), 0.5), max_value=1.0)


def _hard_tanh(builder: OpBuilder, tensor: int) -> int:
    return between(builder, tensor, -1.0, 1.0)


def _sparse_sigmoid(builder: OpBuilder, tensor: int) -> int:
    return _shifted(builder, _scaled(builder, _hard_tanh(builder, tensor), 0.5), 0.5)


def _sparse_plus(builder: OpBuilder, tensor: int) -> int:
    bent = _shifted(builder, _hard_tanh(builder, tensor), 1.0)
    straight = builder.unary("RELU", _shifted(builder, tensor, -1.0))
    return builder.binary("ADD", _scaled(builder, builder.binary("MUL", bent, bent), 0.25), straight)


def _soft_shrink(builder: OpBuilder, tensor: int, threshold: float = 0.5) -> int:
    return builder.binary("SUB", tensor, clipped(builder, tensor, threshold))


def _softplus(builder: OpBuilder, tensor: int) -> int:
    # The exponential of a number that is not positive cannot overflow.
    small = builder.unary("EXP", builder.unary("NEG", builder.unary("ABS", tensor)))
    return builder.binary("ADD", builder.unary("RELU", tensor), builder.unary("LOG", _shifted(builder, small, 1.0)))


def _log_sigmoid(builder: OpBuilder, tensor: int) -> int:
    return builder.unary("NEG", _softplus(builder, builder.unary("NEG", tensor)))


def _mish(builder: OpBuilder, tensor: int) -> int:
    return builder.binary("MUL", tensor, builder.unary("TANH", _softplus(builder, tensor)))


def _silu(builder: OpBuilder, tensor: int) -> int:
    return builder.binary("MUL", tensor, builder.unary("LOGISTIC", tensor))


def _softsign(builder: OpBuilder, tensor: int) -> int:
    return builder.binary("DIV", tensor, _shifted(builder, builder.unary("ABS", tensor), 1.0))


def _softmax(builder: OpBuilder, tensor: int) -> int:
    return builder.op("SOFTMAX", tensor, shape=builder.shape(tensor), beta=1.0)


def _tanh_shrink(builder: OpBuilder, tensor: int) -> int:
    return builder.binary("SUB", tensor, builder.unary("TANH", tensor))


_RECIPES: dict[str, Callable[..., int]] = {
    "celu": lambda builder, tensor, alpha: _elu(builder, tensor, alpha, width=alpha),
    "elu": _elu,
    "exponential": _unary("EXP"),
    "gelu": _gelu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_sigmoid_of_keras_2": _hard_sigmoid_of_keras_2,
    "hard_silu": _unary("HARD_SWISH"),
    "hard_tanh": _hard_tanh,
    "leaky_relu": _leaky_relu,
    "linear": lambda _, tensor: tensor,
    "log_sigmoid": _log_sigmoid,
    "log_softmax": _unary("LOG_SOFTMAX"),
    "mish": _mish,
    "relu": _relu,
    "relu6": _unary("RELU6"),
    "selu": _selu,
    "sigmoid": _unary("LOGISTIC"),
    "silu": _silu,
    "soft_shrink": _soft_shrink,
    "softmax": _softmax,
    "softplus": _softplus,
    "softsign": _softsign,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _sparse_sigmoid,
    "tanh": _unary("TANH"),
    "tanh_shrink": _tanh_shrink,
}
"""How each activation is written; what it takes behind the tensor are its numbers, in their order."""

ACTIVATIONS = frozenset(_RECIPES)
"""The activations that a step can have, by Keras's names."""
