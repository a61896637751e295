"""The checks of the exercises in codelab 06. Each conversion takes a good second."""

import numpy as np
import pytest
import tensorflow as tf

from lstm_toolkit import composite
from lstm_toolkit.exercises import own_rnn as exercises

KERAS = (1, 0, 3, 2)
OPERANDS = {"steps": "input", "into": "kernel", "back": "recurrent_kernel", "offsets": "bias"}
RIGHT_MARK = {"operands": OPERANDS, "gates": "ogif", "gate_axis": 0, "forget_gate_bias": 1.0, "cell_clip": 1.5}
RIGHT = {
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
    (lambda: None, "mark the function"),
    (lambda: colleagues_lstm, "the function has no mark with operands"),
    (lambda: marked(gate_axis=-1), r"colleagues_lstm: argument \w+ \(.*\) must have shape"),
    (
        lambda: marked(gates="ifgo"),
        "input_to_input_weights of the op got the rows that the function uses as its output gate",
    ),
    (lambda: marked(forget_gate_bias=0.0), "adds 1 to the forget gate's sum beside offsets, the op 0"),
    (lambda: marked(cell_clip=0.0), "bounds c at 1.5, the op at 0, where 0 is none"),
    (lambda: marked(activation="relu"), "the gates are right, but the file is off by .*: an option is too many"),
    (lambda: marked(carry=True), "an option is too many"),
    (lambda: composite(**RIGHT_MARK)(with_last), r"returns outputs \[2, 7, 6\] and nothing else"),
]

DECLARATIONS = [
    (None, "declarations is a dict"),
    (dict.fromkeys("ABCDEF", ...), "A: no answer yet"),
    (RIGHT | {"A": None}, "A: composite has an option"),
    (RIGHT | {"A": {}}, r"A: with \{\} the op is off by"),
    (RIGHT | {"A": "relu"}, "A: give a dict of options, or None, not 'relu'"),
    (RIGHT | {"A": {"activation": "relu", "carry": True}}, "A: gates, activation, .* are enough; there is carry"),
    (RIGHT | {"B": {"activation": "relu"}}, "B: with .* the op is off by"),
    (RIGHT | {"B": {}}, "B: with .* the op is off by"),
    (RIGHT | {"C": {}}, "C: with gates='ifgo', kernel must"),
    (RIGHT | {"C": {"gates": "ofg"}}, "C: with .* the op is off by"),
    (RIGHT | {"C": {"gates": "fg"}}, "C: gates must hold each of input, forget, cell, output once"),
    (RIGHT | {"D": {"activation": "hard_sigmoid"}}, "D: activation must be one of tanh, relu"),
    (RIGHT | {"D": {"activation": "hard_tanh"}}, "D: with .* the op is off by"),
    (RIGHT | {"E": {"cell_clip": 0.5}}, "E: with .* the op is off by"),
    (RIGHT | {"E": {"forget_gate_bias": 2.0}}, "E: with .* the op is off by"),
    (RIGHT | {"F": {}}, "F: with .* the op is off by"),
    ({letter: options for letter, options in RIGHT.items() if letter != "F"}, "F: no answer yet"),
]


@pytest.mark.parametrize(("answer", "hint"), ADAPTERS)
def test_wrong_adapters(answer, hint):
    with pytest.raises(AssertionError, match=hint):
        exercises.check_adapter(answer)


@pytest.mark.parametrize(("answer", "hint"), MARKS)
def test_wrong_marks(answer, hint):
    with pytest.raises(AssertionError, match=hint):
        exercises.check_marked(answer())


@pytest.mark.parametrize(("declarations", "hint"), DECLARATIONS)
def test_wrong_declarations(declarations, hint):
    with pytest.raises(AssertionError, match=hint):
        exercises.check_declarations(declarations)


def test_right_answers_pass():
    exercises.check_adapter(to_keras)
    exercises.check_marked(marked())
    exercises.check_declarations(RIGHT)
