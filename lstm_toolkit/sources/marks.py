"""Marks recurrent layers inside a TensorFlow graph, so that the converter carries them whole into the file.

A `tf.function` whose `experimental_implements` names it and sets `tfl_fusable_op` reaches the `.tflite` file as one
CUSTOM op with the function's arguments as operands and the other attributes as a flexbuffer. `graft` turns that op
into the fused one. The bodies are plain TensorFlow, so a marked graph also runs there.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import tensorflow as tf


def swapped(tensor: Any) -> Any:
    """The tensor with its first two axes, batch and time, swapped."""
    return tf.transpose(tensor, [1, 0, *range(2, len(tensor.shape))])


def mark(body: Callable[..., Any], composite: str, *, layer: str, **attributes: str | bool | int | float) -> Any:
    """Makes a `tf.function` that the converter keeps as one op.

    Args:
        body: takes the input, the weights in the order of `weights`, and perhaps the states to start from; returns the
            outputs and perhaps the last c. It must depend on all of its arguments, or the converter drops them.
        composite: name of the op.
        layer: name of the layer.
        **attributes: what `graft` is to know: `weights`, kinds of `packing.PACKED_KINDS` or operand names, with
            commas; `gates`, their order, with commas; and the options of the op.
    """
    function = tf.compat.v1.NameAttrList(name=composite)
    function.attr["tfl_fusable_op"].b = True
    # The converter of TensorFlow 2.18 takes one backslash off; so there is none, and no character that needs one.
    for name, value in (attributes | {"layer": quote(layer)}).items():
        if isinstance(value, bool):
            function.attr[name].b = value
        elif isinstance(value, int):
            function.attr[name].i = value
        elif isinstance(value, float):
            function.attr[name].f = value
        else:
            function.attr[name].s = value.encode()
    body.__name__ = "recurrent_" + re.sub(r"\W", "_", layer, flags=re.ASCII)
    return tf.function(body, experimental_implements=str(function), autograph=False)
