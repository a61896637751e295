"""Trained GRUs as integers, whose errors are larger than those of random weights: they keep what they read for long.

`benchmarks/integer_grus.py` compares thirty of them with TensorFlow's own quantizer. These are three of the thirty,
with the weights in `tests/data/grus`. The oracle is Keras.
"""

from pathlib import Path

import numpy as np
import pytest

import lstm_toolkit as lt
from tests.helpers.tools import tool

FOLDER = Path(__file__).parents[1] / "data/grus"
SEEDS = sorted(int(path.stem) for path in FOLDER.glob("*.npz"))
LIMITS = {"int16x8": 2e-2, "int8": 5e-2}
"""Of the largest error on fresh samples, relative to the largest output."""


@pytest.fixture(scope="module", params=SEEDS)
def trained(request):
    """A model, samples for ranges, fresh samples, and what Keras gives for these."""
    grus = tool("integer_grus", "benchmarks")
    seed = request.param
    model = grus.untrained(seed, np.random.default_rng(seed))
    with np.load(FOLDER / f"{seed}.npz") as stored:
        model.set_weights(list(stored.values()))
    _, steps, width = model.input_shape
    x, _ = grus.waves(np.random.default_rng(100 + seed), 500, steps, width, seed % 3)
    return model, x[:200], x[200:], grus.exact(model, x[200:])


@pytest.mark.parametrize("kind", LIMITS)
def test_errors_on_fresh_samples_stay_small(trained, kind):
    model, samples, fresh, expected = trained
    conversion = lt.convert(model, quantization=kind, lowering="unrolled", representative_dataset=samples, verify=False)
    runner = lt.Runner(conversion.tflite)
    given = np.stack([np.asarray(runner(each[np.newaxis])) for each in fresh])
    largest = np.abs(expected).max()
    assert np.abs(given - expected).max() < LIMITS[kind] * largest
    assert conversion.report.quantization.relative_error < LIMITS[kind]
