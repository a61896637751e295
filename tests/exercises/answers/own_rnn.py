"""Wrong and right answers to the exercises in codelab 06."""

import numpy as np
import tensorflow as tf

from lstm_toolkit import composite

KERAS = (1, 0, 3, 2)
OPERANDS = {"steps": "input", "into": "kernel", "back": "recurrent_kernel", "offsets": "bias"}
RIGHT_MARK = {"operands": OPERANDS, "gates": "ogif", "gate_axis": 0, "forget_gate_bias": 1.0, "cell_clip": 1.5}
DECLARED = {
    "A": {"activation": "relu"},
    "B": None,
    "C": {"gates": "fgo"},
    "D": None,
    "E": {"forget_gate_bias": 2.0, "cell_clip": 0.5},
    "F": None,
}


def to_keras(weights, offsets, inputs, *, order=KERAS, bias_order=None):
    def turned(array, order):
        blocks = np.split(array, 4, axis=-1)
        return np.concatenate([blocks[block] for block in order], axis=-1)

    wide = turned(weights, order)
    return wide[:inputs], wide[inputs:], turned(offsets, bias_order or order)


def colleagues_lstm(steps, into, back, offsets):
    def step(state, now):
        h, c = state
        sums = now @ tf.transpose(into) + h @ tf.transpose(back) + offsets
        o, g, i, f = tf.split(sums, 4, axis=1)
        c = tf.sigmoid(f + 1.0) * c + tf.sigmoid(i) * tf.tanh(g)
        c = tf.clip_by_value(c, -1.5, 1.5)
        return tf.sigmoid(o) * tf.tanh(c), c

    zeros = tf.zeros([tf.shape(steps)[0], back.shape[1]])
    hs, _ = tf.scan(step, tf.transpose(steps, [1, 0, 2]), initializer=(zeros, zeros))
    return tf.transpose(hs, [1, 0, 2])


def with_last(steps, into, back, offsets):
    outputs = colleagues_lstm(steps, into, back, offsets)
    return outputs, outputs[:, -1]


def marked(**changes):
    return composite(**RIGHT_MARK | changes)(colleagues_lstm)


ADAPTERS = [
    (lambda *given: None, "returns nothing"),
    (lambda *given: 3, "returns a single int"),
    (lambda *given: to_keras(*given)[:2], "kernel, recurrent_kernel and bias; the function returns 2 arrays"),
    (lambda weights, offsets, inputs: (weights, weights, offsets), r"kernel must be \[5, 24\], not \[11, 24\]"),
    (
        lambda weights, offsets, inputs: to_keras(weights, offsets, 6),
        r"kernel must be \[5, 24\], not \[6, 24\]",
    ),
    (
        lambda *given: to_keras(*given, order=range(4)),
        "columns 0 to 5 of kernel must be the input gate's, yours are the forget gate's",
    ),
    (
        lambda *given: to_keras(*given, order=(1, 0, 2, 3)),
        "columns 12 to 17 of kernel must be the cell gate's, yours are the output gate's",
    ),
    (
        lambda *given: to_keras(*given, bias_order=range(4)),
        "columns 0 to 5 of bias must be the input gate's, yours are the forget gate's",
    ),
    (
        lambda weights, offsets, inputs: to_keras(np.roll(weights, 6, axis=0), offsets, inputs),
        "columns 0 to 5 of kernel must be the input gate's, yours are no gate's",
    ),
]

MARKS = [
    (None, "mark the function"),
    (colleagues_lstm, "the function has no mark with operands"),
    (marked(gate_axis=-1), r"colleagues_lstm: argument \w+ \(.*\) must have shape"),
    (
        marked(gates="ifgo"),
        "input_to_input_weights of the op got the rows that the function uses as its output gate",
    ),
    (marked(forget_gate_bias=0.0), "adds 1 to the forget gate's sum beside offsets, the op 0"),
    (marked(cell_clip=0.0), "bounds c at 1.5, the op at 0, where 0 is none"),
    (marked(activation="relu"), "the gates are right, but the file is off by .*: an option is too many"),
    (marked(carry=True), "an option is too many"),
    (composite(**RIGHT_MARK)(with_last), r"returns outputs \[2, 7, 6\] and nothing else"),
]

DECLARATIONS = [
    (None, "declarations is a dict"),
    (dict.fromkeys("ABCDEF", ...), "A: no answer yet"),
    (DECLARED | {"A": None}, "A: composite has an option"),
    (DECLARED | {"A": {}}, r"A: with \{\} the op is off by"),
    (DECLARED | {"A": "relu"}, "A: give a dict of options, or None, not 'relu'"),
    (
        DECLARED | {"A": {"activation": "relu", "carry": True}},
        "A: gates, activation, .* are enough; there is carry",
    ),
    (DECLARED | {"B": {"activation": "relu"}}, "B: with .* the op is off by"),
    (DECLARED | {"B": {}}, "B: with .* the op is off by"),
    (DECLARED | {"C": {}}, "C: with gates='ifgo', kernel must"),
    (DECLARED | {"C": {"gates": "ofg"}}, "C: with .* the op is off by"),
    (DECLARED | {"C": {"gates": "fg"}}, "C: gates must hold each of input, forget, cell, output once"),
    (DECLARED | {"D": {"activation": "hard_sigmoid"}}, "D: activation must be one of tanh, relu"),
    (DECLARED | {"D": {"activation": "hard_tanh"}}, "D: with .* the op is off by"),
    (DECLARED | {"E": {"cell_clip": 0.5}}, "E: with .* the op is off by"),
    (DECLARED | {"E": {"forget_gate_bias": 2.0}}, "E: with .* the op is off by"),
    (DECLARED | {"F": {}}, "F: with .* the op is off by"),
    ({letter: options for letter, options in DECLARED.items() if letter != "F"}, "F: no answer yet"),
]

WRONG = {
    "check_adapter": ADAPTERS,
    "check_marked": MARKS,
    "check_declarations": DECLARATIONS,
}
RIGHT = {
    "check_adapter": [to_keras],
    "check_marked": [marked()],
    "check_declarations": [DECLARED],
}
