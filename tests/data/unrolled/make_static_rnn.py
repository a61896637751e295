"""Makes the files `tf1_*.tflite`: cells of TensorFlow 1 under `static_rnn`, which unrolls them.

It runs in the project's environment, with the cells of tf_keras:
`TF_USE_LEGACY_KERAS=1 python tests/data/unrolled/make_static_rnn.py`. Sizes are all different and weights random, so
that a file is right only if every one of them is in its place.
"""

from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

FOLDER = Path(__file__).parent


def kinds():
    """Yields name, shape of the input, and what makes the cell."""
    cells = tf.nn.rnn_cell
    yield "basic", (2, 4, 3), lambda: cells.BasicLSTMCell(5, forget_bias=1.0)
    yield "forget_bias", (3, 5, 2), lambda: cells.LSTMCell(4, forget_bias=0.5)
    yield "projection", (2, 6, 3), lambda: cells.LSTMCell(5, num_proj=4)
    yield "gru", (2, 5, 4), lambda: cells.GRUCell(3)


def converted(shape, make, seed):
    """The bytes of TensorFlow's file."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, shape)
        outputs, _ = tf.nn.static_rnn(make(), tf.unstack(x, axis=1), dtype=tf.float32)
        y, random = tf.stack(outputs, axis=1), np.random.default_rng(seed)
        session.run(tf.global_variables_initializer())
        for variable in tf.trainable_variables():
            variable.load(random.normal(0, 0.5, variable.shape).astype("f"), session)
        return tf.lite.TFLiteConverter.from_session(session, [x], [y]).convert()


if __name__ == "__main__":
    for number, (name, shape, make) in enumerate(kinds()):
        (FOLDER / f"tf1_{name}.tflite").write_bytes(converted(shape, make, number))
