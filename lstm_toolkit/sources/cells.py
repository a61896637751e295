"""Marks a Keras cell over a sequence, as a function that the converter keeps as one op.

`passes.graft` makes a fused op of a cell that fits into one. Any other cell (a GRU, or one with activations that the
fused ops lack) is for `passes.plain.lower`, which writes it as plain ops.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from lstm_toolkit.sources import marks
from lstm_toolkit.weights.operands import CELL_COMPOSITE, GATES, LSTM_COMPOSITE, SHUT_GATE, SIMPLE_RNN_COMPOSITE

PUSHES = (-SHUT_GATE, SHUT_GATE, 0.0, -SHUT_GATE)
"""What a padded step adds to the sum of each gate of an LSTM, so that c stays exactly as it is, and h is zero."""


@dataclasses.dataclass(frozen=True)
class MarkOptions:
    """What the passes are told of a marked cell, beside its weights.

    Attributes:
        layer: name of the layer; where it is called more than once, `graft` numbers the calls.
        kind: "lstm", "gru" or "simple_rnn".
        activation: name of the activation, one of `passes.plain.activations.ACTIVATIONS`.
        recurrent_activation: name of the activation of the gates, likewise.
        fused: whether a fused op can hold the cell.
        masked: whether the sequence has one more channel, the last, which is 1 at padded steps and 0 elsewhere; there
            c stays exactly as it is, and h is zero. LSTMs only.
        carry: whether a call of the file starts where the last one ended, the first one from zero. Fused ops only.
    """

    layer: str
    kind: str
    activation: str
    recurrent_activation: str
    fused: bool
    masked: bool = False
    carry: bool = False

    def mark(self, body: Callable[..., Any], *, reset_after: bool) -> Any:
        """Wraps `body` in a function that the converter keeps as one op."""
        attributes: dict[str, Any] = {"layer": self.layer, "weights": "kernel,recurrent_kernel,bias"}
        attributes["activation"] = self.activation
        if not self.fused:
            attributes |= {"kind": self.kind, "recurrent_activation": self.recurrent_activation}
            return marks.mark(body, CELL_COMPOSITE, reset_after=reset_after, masked=self.masked, **attributes)
        attributes["carry"] = self.carry
        if self.kind == "simple_rnn":
            return marks.mark(body, SIMPLE_RNN_COMPOSITE, **attributes)
        return marks.mark(body, LSTM_COMPOSITE, gates=",".join(GATES), masked=self.masked, **attributes)


def marked_cell(cell: Any, sequence: Any, start: Sequence[Any], options: MarkOptions) -> tuple[Any, list[Any]]:
    """Calls a cell over a sequence, or on one step, as a function that the converter keeps as one op.

    Args:
        cell: a Keras `LSTMCell` (4 gates), `GRUCell` (3) or `SimpleRNNCell` (1), with kernel [input_size, gates *
            units], recurrent_kernel [units, gates * units] and bias [gates * units]; of a GRU with `reset_after` the
            bias is [2, gates * units].
        sequence: [batch, time, input_size], float32; with `options.masked`, one more channel. Or one step,
            [batch, input_size].
        start: the states to start from, [batch, units] each: h, and c of an LSTM. Empty for zeros.
        options: what the passes are told.

    Returns:
        The outputs [batch, time, units], or [batch, units] of one step, and a list with the last c [batch, units] of an
        LSTM, else empty.
    """
    kernel, recurrent_kernel = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
    reset_after = bool(getattr(cell, "reset_after", False))
    bias_shape = [2, kernel.shape[-1]] if reset_after else kernel.shape[-1:]
    bias = tf.convert_to_tensor(cell.bias) if cell.use_bias else tf.zeros(bias_shape)
    units, step, is_step = recurrent_kernel.shape[0], _STEPS[options.kind], sequence.shape.rank == 2

    def body(x: Any, w: Any, r: Any, b: Any, *states: Any) -> tuple[Any, ...]:
        if options.masked:
            w = tf.concat([w, tf.repeat(tf.constant([PUSHES]), units, axis=1)], axis=0)
        first = states or (tf.zeros([tf.shape(x)[0], units]),) * (2 if options.kind == "lstm" else 1)
        if is_step:
            return step(cell, first, x, w, r, b)
        steps = tf.transpose(x, [1, 0, 2])
        hs, *others = tf.scan(lambda state, now: step(cell, state, now, w, r, b), steps, initializer=tuple(first))
        return tf.transpose(hs, [1, 0, 2]), *(each[-1] for each in others)

    function = options.mark(body, reset_after=reset_after)
    outputs, *others = function(sequence, kernel, recurrent_kernel, bias, *start)
    batch = sequence.shape[0]
    shape = [*sequence.shape[:-1], units]
    return tf.ensure_shape(outputs, shape), [tf.ensure_shape(each, [batch, units]) for each in others]


def _lstm(cell: Any, state: Any, now: Any, w: Any, r: Any, b: Any) -> tuple[Any, ...]:
    h, c = state
    i, f, g, o = tf.split(tf.matmul(now, w) + tf.matmul(h, r) + b, 4, axis=1)
    c = cell.recurrent_activation(f) * c + cell.recurrent_activation(i) * cell.activation(g)
    return cell.recurrent_activation(o) * cell.activation(c), c


def _gru(cell: Any, state: Any, now: Any, w: Any, r: Any, b: Any) -> tuple[Any, ...]:
    (h,) = state
    units = h.shape[-1]
    biases = tf.unstack(b) if cell.reset_after else (b, tf.zeros_like(b))
    z, a, g = tf.split(tf.matmul(now, w) + biases[0], 3, axis=1)
    recurrent = tf.split(tf.matmul(h, r) + biases[1], 3, axis=1)
    update = cell.recurrent_activation(z + recurrent[0])
    reset = cell.recurrent_activation(a + recurrent[1])
    product = reset * recurrent[2] if cell.reset_after else tf.matmul(reset * h, r[:, 2 * units :])
    return (update * h + (1.0 - update) * cell.activation(g + product),)


def _simple_rnn(cell: Any, state: Any, now: Any, w: Any, r: Any, b: Any) -> tuple[Any, ...]:
    return (cell.activation(tf.matmul(now, w) + tf.matmul(state[0], r) + b),)


_STEPS: dict[str, Callable[..., tuple[Any, ...]]] = {"lstm": _lstm, "gru": _gru, "simple_rnn": _simple_rnn}
"""One step of each kind: from cell, states, input step, kernel, recurrent kernel and bias to the new states."""
