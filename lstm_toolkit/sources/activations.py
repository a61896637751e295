"""The activation functions of Keras, tf_keras and TensorFlow, and their layers, under the names that plain ops know.

The libraries give one function different defaults (`keras.ops.gelu` is approximate, `keras.activations.gelu` is not),
so that its numbers are read from the function itself.
"""

import functools
import inspect
from typing import Any

import numpy as np
import tensorflow as tf

from lstm_toolkit.passes.plain.activations import ACTIVATIONS

_OTHER_NAMES = {"exponential": "exp", "hard_silu": "hard_swish", "silu": "swish"}

_NUMBERS: dict[str, dict[str, float]] = {
    "celu": {"alpha": 1.0},
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": 0.0},
    "leaky_relu": {"negative_slope": 0.2},
    "relu": {"negative_slope": 0.0, "max_value": np.inf},
    "soft_shrink": {"threshold": 0.5},
}
"""The numbers of an activation in the order of plain ops, and what they are where a function does not take them."""

_SLOPE = {"alpha": "negative_slope"}
_KERAS_2_NAMES = {"leaky_relu": _SLOPE, "relu": _SLOPE}

_NEUTRAL = {"axis": -1, "beta": 1.0, "robust_masking": False, "threshold": 0.0}
"""The other options with which a function is what plain ops compute."""

_LAYERS = {
    "ELU": ("elu", ("alpha",)),
    "LeakyReLU": ("leaky_relu", ("alpha", "negative_slope")),
    "ReLU": ("relu", ("negative_slope", "max_value", "threshold")),
    "Softmax": ("softmax", ("axis", "robust_masking")),
}
"""For a layer that is an activation, the activation, and those of its attributes that say which one."""


def activation_name(function: Any, library: Any) -> str | None:
    """The activation of `passes.plain.activations` that a function or layer computes; None if there is none.

    Args:
        function: of the library or of TensorFlow, perhaps in a `functools.partial`; or a layer.
        library: the module `keras`, or `tf_keras`.
    """
    if type(function) is library.layers.Activation:
        return activation_name(function.activation, library)
    for layer, (activation, attributes) in _LAYERS.items():
        if type(function) is getattr(library.layers, layer):
            options = {each: getattr(function, each) for each in attributes if hasattr(function, each)}
            return _with_numbers(activation, options, {})
    given: dict[str, Any] = {}
    if isinstance(function, functools.partial) and not function.args:
        function, given = function.func, function.keywords
    name = _name(function, library)
    if name is None:
        return None
    parameters = inspect.signature(function).parameters.values()
    return _with_numbers(name, given, {each.name: each.default for each in parameters})


def _name(function: Any, library: Any) -> str | None:
    places = (library.activations, getattr(library, "ops", None), tf.nn, tf.math)
    for name in sorted(ACTIVATIONS):
        names = (name, _OTHER_NAMES.get(name, name))
        if function in [getattr(place, each, None) for place in places for each in names]:
            of_keras_2 = name == "hard_sigmoid" and library.__name__ == "tf_keras"
            return "hard_sigmoid_of_keras_2" if of_keras_2 else name
    return "linear" if function is tf.identity else None


def _with_numbers(activation: str, given: dict[str, Any], defaults: dict[str, Any]) -> str | None:
    """The activation with its numbers, from options that were given and from defaults; None if it has others."""
    names = _KERAS_2_NAMES.get(activation, {})
    given, defaults = ({names.get(key, key): value for key, value in each.items()} for each in (given, defaults))
    numbers = _NUMBERS.get(activation, {})
    if any(key not in _NEUTRAL or value != _NEUTRAL[key] for key, value in given.items() if key not in numbers):
        return None
    values = [(defaults | given).get(key, otherwise) for key, otherwise in numbers.items()]
    text = ", ".join(str(float(np.inf if value is None else value)) for value in values)
    text = f"{activation}({text})" if numbers else activation
    return {"relu(0.0, inf)": "relu", "relu(0.0, 6.0)": "relu6"}.get(text, text)
