"""The moments of what weights are multiplied by, against the states that Keras gives."""

import keras
import numpy as np

import lstm_toolkit as lt
from lstm_toolkit.quantization import ranges
from lstm_toolkit.quantization.moments import MomentsOf
from lstm_toolkit.tflite import files
from tests.helpers.models import randomized

TIME, INPUTS, UNITS, SAMPLES = 5, 3, 4, 6


def test_moments_are_those_of_all_steps_and_samples():
    source = randomized(
        keras.Sequential(
            [
                keras.Input((TIME, INPUTS), batch_size=1, name="x"),
                keras.layers.GRU(UNITS, return_sequences=True),
                keras.layers.Conv1D(2, 3),
            ]
        )
    )
    x = np.random.default_rng(0).normal(size=(SAMPLES, 1, TIME, INPUTS)).astype(np.float32)
    model = files.read_model(lt.convert(source, lowering="unrolled", verify=False).tflite)
    moments = MomentsOf(model)
    ranges.extremes(model, [{"x": each} for each in x], also=moments.add)
    sequences = np.concatenate([np.asarray(source.layers[0](each)) for each in x])
    before = sequences[:, :-1].reshape(-1, UNITS)
    vectors = x.reshape(-1, INPUTS), before, sequences.reshape(-1, UNITS)
    assert [size for _, size in moments.found] == [INPUTS, UNITS, UNITS]
    for found, rows in zip(moments.found.values(), vectors, strict=True):
        np.testing.assert_allclose(found, rows.astype(np.float64).T @ rows, rtol=1e-4, atol=1e-4)
