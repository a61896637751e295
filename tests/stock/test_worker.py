"""What can take the interpreter down runs elsewhere, and comes back as an error."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf

import lstm_toolkit
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.stock import worker


def crashing_function():
    """Lingvo's own annotation, at which the released converter ends its process."""

    def body(x, weights, projection, m, c):
        return x @ weights[:5, :4] + m, c + tf.reduce_sum(projection)

    marked = tf.function(body, experimental_implements="LSTMCellSimple", autograph=False)

    @tf.function(input_signature=[tf.TensorSpec([1, 5], name="x")], autograph=False)
    def call(x):
        return marked(x, tf.ones([9, 16]), tf.ones([4, 4]), tf.zeros([1, 4]), tf.zeros([1, 4]))[0]

    return call.get_concrete_function()


@pytest.fixture(scope="module")
def fusable():
    rnn = lstm_toolkit.lingvo.RNN(lstm_toolkit.lingvo.LSTMCellSimple(num_input_nodes=5, num_output_nodes=4, seed=1))
    return lambda x: rnn(x)


def test_a_crash_of_the_converter_is_an_error_and_the_next_conversion_works(fusable):
    with pytest.raises(ConversionError, match=r"converter ended its own process: SIG"):
        lstm_toolkit.convert(crashing_function())
    conversion = lstm_toolkit.convert(fusable, input_signature=[tf.TensorSpec([1, 7, 5], name="x")])
    assert conversion.report.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert conversion.report.max_abs_error < 1e-5


def test_a_worker_that_is_killed_between_two_requests_is_an_error(fusable):
    signature = [tf.TensorSpec([1, 7, 5], name="x")]
    lstm_toolkit.convert(fusable, input_signature=signature)
    os.kill(worker.process_id(), signal.SIGKILL)
    with pytest.raises(ConversionError, match="SIGKILL"):
        lstm_toolkit.convert(fusable, input_signature=signature)
    x = np.ones((1, 7, 5), np.float32)
    assert lstm_toolkit.convert(fusable, input_signature=signature).runner()(x).shape == (1, 7, 4)
