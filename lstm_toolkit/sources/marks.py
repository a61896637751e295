"""Marks recurrent layers inside a TensorFlow graph, so that the converter carries them whole into the file.

A `tf.function` whose `experimental_implements` names it and sets `tfl_fusable_op` reaches the `.tflite` file as one
CUSTOM op with the function's arguments as operands and the other attributes as a flexbuffer. `graft` turns that op
into the fused one. The bodies are plain TensorFlow, so a marked graph also runs there.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from lstm_toolkit.weights.operands import GATES, LSTM_COMPOSITE, SHUT_GATE, SIMPLE_RNN_COMPOSITE

KERAS_WEIGHTS = "kernel,recurrent_kernel,bias"

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": tf.tanh,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "hard_tanh": lambda x: tf.clip_by_value(x, -1.0, 1.0),
    "linear": tf.identity,
}
"""The activations of the fused ops as TensorFlow functions."""


def lstm(
    sequence: Any,
    start: Sequence[Any],
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    layer: str,
    activation: str,
    masked: bool = False,
    carry: bool = False,
) -> tuple[Any, Any]:
    """Calls an LSTM that the converter keeps as one op.

    Args:
        sequence: [batch, time, input_size], float32.
        start: h and c to start from, each [batch, units]; empty for zeros.
        kernel: [input_size, 4 * units], columns in the order input, forget, cell, output.
        recurrent_kernel: [units, 4 * units], in the same order.
        bias: [4 * units], in the same order.
        layer: name of the layer; where it is called more than once, `graft` numbers the calls.
        activation: of the cell.
        masked: `sequence` has one channel more than `kernel` has rows, last, which is 1 where a step is padded and
            0 elsewhere; at a padded step c stays exactly as it is.
        carry: in the file, a call starts where the last one ended, and the first one from zero.

    Returns:
        The outputs [batch, time, units], and the last c [batch, units]. The last h is the last output.
    """
    act, units = ACTIVATIONS[activation], recurrent_kernel.shape[0]

    def body(x: Any, w: Any, r: Any, b: Any, *states: Any) -> tuple[Any, Any]:
        if masked:
            shut = tf.repeat(tf.constant([[-SHUT_GATE, SHUT_GATE, 0.0, 0.0]]), units, axis=1)
            w = tf.concat([w, shut], axis=0)

        def step(state: tuple[Any, Any], x_t: Any) -> tuple[Any, Any]:
            i, f, g, o = tf.split(tf.matmul(x_t, w) + tf.matmul(state[0], r) + b, 4, axis=1)
            cell = tf.sigmoid(f) * state[1] + tf.sigmoid(i) * act(g)
            return tf.sigmoid(o) * act(cell), cell

        first = states or (tf.zeros([tf.shape(x)[0], units]),) * 2
        hs, cs = tf.scan(step, tf.transpose(x, [1, 0, 2]), initializer=tuple(first))
        return tf.transpose(hs, [1, 0, 2]), cs[-1]

    marked = mark(
        body,
        LSTM_COMPOSITE,
        layer=layer,
        weights=KERAS_WEIGHTS,
        gates=",".join(GATES),
        activation=activation,
        masked=masked,
        carry=carry,
    )
    outputs, c = marked(sequence, kernel, recurrent_kernel, bias, *start)
    batch, time = sequence.shape[:2]
    return tf.ensure_shape(outputs, [batch, time, units]), tf.ensure_shape(c, [batch, units])


def simple_rnn(
    sequence: Any,
    start: Sequence[Any],
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    layer: str,
    activation: str,
    carry: bool = False,
) -> Any:
    """Calls a simple recurrent layer, h = activation(x W + h U + b), that the converter keeps as one op.

    Args:
        sequence: [batch, time, input_size], float32.
        start: h to start from, [batch, units]; empty for zeros.
        kernel: [input_size, units].
        recurrent_kernel: [units, units].
        bias: [units].
        layer, activation, carry: as for `lstm`.

    Returns:
        The outputs [batch, time, units].
    """
    act, units = ACTIVATIONS[activation], recurrent_kernel.shape[0]

    def body(x: Any, w: Any, r: Any, b: Any, *states: Any) -> Any:
        def step(state: Any, x_t: Any) -> Any:
            return act(tf.matmul(x_t, w) + tf.matmul(state, r) + b)

        first = states[0] if states else tf.zeros([tf.shape(x)[0], units])
        return tf.transpose(tf.scan(step, tf.transpose(x, [1, 0, 2]), initializer=first), [1, 0, 2])

    marked = mark(body, SIMPLE_RNN_COMPOSITE, layer=layer, weights=KERAS_WEIGHTS, activation=activation, carry=carry)
    outputs = marked(sequence, kernel, recurrent_kernel, bias, *start)
    return tf.ensure_shape(outputs, [*sequence.shape[:2], units])


def swapped(tensor: Any) -> Any:
    """The tensor with its first two axes, batch and time, swapped."""
    return tf.transpose(tensor, [1, 0, *range(2, len(tensor.shape))])


def last_valid(outputs: Any, valid: Any, otherwise: Any) -> Any:
    """The output at the last valid step of each row; `otherwise` [batch, units] for a row that has none.

    Args:
        outputs: [batch, time, units].
        valid: [batch, time], bool, with padding only at the end.
        otherwise: [batch, units].
    """
    count = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)
    picked = tf.gather(outputs, tf.maximum(count - 1, 0), axis=1, batch_dims=1)
    return tf.where((count > 0)[:, tf.newaxis], picked, otherwise)


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
    for name, value in (attributes | {"layer": layer}).items():
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
