"""Marks recurrent layers that no fused op can hold: GRUs, and any layer with activations that the fused ops lack.

They reach the `.tflite` file as CUSTOM ops, which `lowering` writes as plain ops.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from lstm_toolkit.sources import marks
from lstm_toolkit.weights.operands import CELL_COMPOSITE, SHUT_GATE

PUSHES = {"lstm": (-SHUT_GATE, SHUT_GATE, 0.0, 0.0), "gru": (SHUT_GATE, 0.0, 0.0)}
"""What a padded step adds to the sum of each gate, so that the states stay exactly as they are."""


def marked(
    cell: Any,
    sequence: Any,
    start: Sequence[Any],
    *,
    kind: str,
    layer: str,
    activation: str,
    recurrent_activation: str,
    masked: bool,
) -> tuple[Any, list[Any]]:
    """Calls a cell over a sequence, as a function that the converter keeps as one op.

    Args:
        cell: a Keras `LSTMCell`, `GRUCell` or `SimpleRNNCell`.
        sequence: [batch, time, input_size], float32, with one channel more at the end where `masked`.
        start: the states to start from, [batch, units] each; empty for zeros.
        kind: "lstm", "gru" or "simple_rnn".
        layer: name of the layer.
        activation, recurrent_activation: names of the cell's activations, of `activation_ops.ACTIVATIONS`.
        masked: whether the last channel is 1 where a step is padded; the states stay as they are there.

    Returns:
        The outputs [batch, time, units], and of an LSTM the last c, in a list.
    """
    kernel, recurrent_kernel = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
    reset_after = bool(getattr(cell, "reset_after", False))
    shape = [2, kernel.shape[-1]] if reset_after else kernel.shape[-1:]
    bias = tf.convert_to_tensor(cell.bias) if cell.use_bias else tf.zeros(shape)
    units, count = recurrent_kernel.shape[0], 2 if kind == "lstm" else 1
    step = _STEPS[kind](cell, reset_after)

    def body(x: Any, w: Any, r: Any, b: Any, *states: Any) -> Any:
        if masked:
            w = tf.concat([w, tf.repeat(tf.constant([PUSHES[kind]]), units, axis=1)], axis=0)
        first = states or (tf.zeros([tf.shape(x)[0], units]),) * count
        steps = tf.transpose(x, [1, 0, 2])
        runs = tf.scan(lambda state, now: step(state, now, w, r, b), steps, initializer=tuple(first))
        outputs = tf.transpose(runs[0], [1, 0, 2])
        return (outputs, runs[1][-1]) if count == 2 else outputs

    function = marks.mark(
        body,
        CELL_COMPOSITE,
        layer=layer,
        weights=marks.KERAS_WEIGHTS,
        kind=kind,
        activation=activation,
        recurrent_activation=recurrent_activation,
        reset_after=reset_after,
        masked=masked,
    )
    results = function(sequence, kernel, recurrent_kernel, bias, *start)
    outputs, *others = results if count == 2 else (results,)
    batch, time = sequence.shape[:2]
    return tf.ensure_shape(outputs, [batch, time, units]), [tf.ensure_shape(each, [batch, units]) for each in others]


Step = Callable[[Any, Any, Any, Any, Any], tuple[Any, ...]]
"""Takes the states, an input step, kernel, recurrent kernel and bias; gives the new states."""


def _lstm(cell: Any, reset_after: bool) -> Step:
    def step(state: Any, now: Any, w: Any, r: Any, b: Any) -> tuple[Any, ...]:
        h, c = state
        i, f, g, o = tf.split(tf.matmul(now, w) + tf.matmul(h, r) + b, 4, axis=1)
        c = cell.recurrent_activation(f) * c + cell.recurrent_activation(i) * cell.activation(g)
        return cell.recurrent_activation(o) * cell.activation(c), c

    return step


def _gru(cell: Any, reset_after: bool) -> Step:
    def step(state: Any, now: Any, w: Any, r: Any, b: Any) -> tuple[Any, ...]:
        (h,) = state
        units = h.shape[-1]
        biases = tf.unstack(b) if reset_after else (b, tf.zeros_like(b))
        z, a, g = tf.split(tf.matmul(now, w) + biases[0], 3, axis=1)
        recurrent = tf.split(tf.matmul(h, r) + biases[1], 3, axis=1)
        update = cell.recurrent_activation(z + recurrent[0])
        reset = cell.recurrent_activation(a + recurrent[1])
        product = reset * recurrent[2] if reset_after else tf.matmul(reset * h, r[:, 2 * units :])
        return (update * h + (1.0 - update) * cell.activation(g + product),)

    return step


def _simple_rnn(cell: Any, reset_after: bool) -> Step:
    def step(state: Any, now: Any, w: Any, r: Any, b: Any) -> tuple[Any, ...]:
        return (cell.activation(tf.matmul(now, w) + tf.matmul(state[0], r) + b),)

    return step


_STEPS: dict[str, Callable[[Any, bool], Step]] = {"lstm": _lstm, "gru": _gru, "simple_rnn": _simple_rnn}
