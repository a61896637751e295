"""Models for microcontrollers in float: the file agrees with Keras on LiteRT, and with LiteRT on Micro."""

import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit.runtime import trial
from lstm_toolkit.runtime.targets import MICRO_OPS
from tests.helpers import micro_zoo
from tests.helpers.calls import TOLERANCE, assert_agrees, by_output, run_in_a_row
from tests.helpers.files import op_counts


def assert_equal_on_micro(tflites, calls):
    """Runs each file on Micro, its calls in a row on one interpreter, and compares with LiteRT."""
    if not trial.is_installed("micro"):
        pytest.skip("tflite-micro has no wheel for this platform")
    trials = trial.run_on("micro", [(tflites[name], calls[name]) for name in tflites])
    for name, run in zip(tflites, trials, strict=True):
        assert run.refused is None, f"{name}: {run.refused}"
        wanted = run_in_a_row(tflites[name], calls[name])
        assert len(run.outputs) >= 3
        for given, *both in zip(run.outputs, wanted[: len(calls[name])], wanted[len(calls[name]) :], strict=True):
            for output, array in given.items():
                for each in both:
                    np.testing.assert_allclose(array, each[output], rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.fixture(scope="module")
def zoo():
    models = {kind: micro_zoo.build(kind) for kind in micro_zoo.KINDS}
    calls = {kind: micro_zoo.samples(model, count=3, seed=4) for kind, model in models.items()}
    tflites = {kind: lstm_toolkit.convert(model, target="micro", verify=False).tflite for kind, model in models.items()}
    return models, tflites, calls


@pytest.mark.parametrize("kind", micro_zoo.KINDS)
def test_a_kind_of_model_is_what_keras_computes(zoo, kind):
    models, tflites, calls = zoo
    assert set(op_counts(tflites[kind])) <= MICRO_OPS
    expected = [by_output(models[kind](*arrays.values())) for arrays in calls[kind]]
    assert np.abs(expected[0]["output_0"] - expected[1]["output_0"]).max() > 0.01
    assert_agrees(tflites[kind], calls[kind], expected)


def test_ten_kinds_of_model_run_on_micro(zoo):
    _, tflites, calls = zoo
    assert len(tflites) == 10
    assert_equal_on_micro(tflites, calls)
