"""Marks an LSTM inside a TensorFlow graph, so that the converter carries it whole into the file.

A `tf.function` whose `experimental_implements` names it and sets `tfl_fusable_op` reaches the `.tflite` file as one
CUSTOM op with the function's arguments as operands and the other attributes as a flexbuffer. `graft` turns that op
into the fused one. The function's body is a plain LSTM, so the marked graph also runs in TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .graft import COMPOSITE_NAME

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": tf.tanh,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "hard_tanh": lambda x: tf.clip_by_value(x, -1.0, 1.0),
}
"""The cell activations of the fused op as TensorFlow functions."""


def lstm(
    sequence: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, *, layer: str, activation: str
) -> tuple[Any, Any, Any]:
    """Calls an LSTM that the converter keeps as one op.

    Args:
        sequence: [batch, time, input_size], float32.
        h0, c0: the states to start from, [batch, units].
        kernel: [input_size, 4 * units], columns in the order input, forget, cell, output.
        recurrent_kernel: [units, 4 * units], in the same order.
        bias: [4 * units], in the same order.
        layer: name of the call, unique in the model.
        activation: of the cell, a key of `ACTIVATIONS`.

    Returns:
        The outputs [batch, time, units], and the last h and c [batch, units].
    """
    act = ACTIVATIONS[activation]

    def body(x: Any, h: Any, c: Any, w: Any, r: Any, b: Any) -> tuple[Any, Any, Any]:
        def step(state: tuple[Any, Any], x_t: Any) -> tuple[Any, Any]:
            i, f, g, o = tf.split(tf.matmul(x_t, w) + tf.matmul(state[0], r) + b, 4, axis=1)
            cell = tf.sigmoid(f) * state[1] + tf.sigmoid(i) * act(g)
            return tf.sigmoid(o) * act(cell), cell

        hs, cs = tf.scan(step, tf.transpose(x, [1, 0, 2]), initializer=(h, c))
        return tf.transpose(hs, [1, 0, 2]), hs[-1], cs[-1]

    body.__name__ = "lstm_" + re.sub(r"\W", "_", layer, flags=re.ASCII)
    marked = tf.function(body, experimental_implements=_implements(layer=layer, activation=activation), autograph=False)
    outputs, h, c = marked(sequence, h0, c0, kernel, recurrent_kernel, bias)
    units = recurrent_kernel.shape[0]
    return (
        tf.ensure_shape(outputs, [*sequence.shape[:2], units]),
        tf.ensure_shape(h, h0.shape),
        tf.ensure_shape(c, c0.shape),
    )


def _implements(**attributes: str) -> str:
    function = tf.compat.v1.NameAttrList(name=COMPOSITE_NAME)
    function.attr["tfl_fusable_op"].b = True
    for name, value in attributes.items():
        function.attr[name].s = value.encode()
    return str(function)
