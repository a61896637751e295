"""Files of the stock converter with ops that TensorFlow Lite Micro lacks: it runs them once they are mended."""

import keras
import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.runtime import trial
from lstm_toolkit.runtime.targets import MICRO_OPS
from tests.helpers.calls import TOLERANCE, by_input, run_in_a_row
from tests.helpers.fault_corpus import stock
from tests.helpers.files import op_counts
from tests.helpers.models import randomized

layers = keras.layers
TIME, INPUTS, TOKENS = 7, 5, 11


def of_tokens(*stack):
    model = keras.Sequential([keras.Input((TIME,), batch_size=1, dtype="int32"), layers.Embedding(TOKENS, 4), *stack])
    return model, [np.random.default_rng(seed).integers(0, TOKENS, (1, TIME)).astype(np.int32) for seed in range(3)]


def of_steps(*stack):
    model = keras.Sequential([keras.Input((TIME, INPUTS), batch_size=1), *stack])
    return model, [np.random.default_rng(seed).normal(size=(1, TIME, INPUTS)).astype(np.float32) for seed in range(3)]


MODELS = {
    "embedding": (lambda: of_tokens(layers.LSTM(6), layers.Dense(3)), "SELECT"),
    "repeat": (lambda: of_steps(layers.LSTM(6), layers.RepeatVector(4), layers.LSTM(3)), "TILE"),
    "up sampling": (lambda: of_steps(layers.LSTM(6, return_sequences=True), layers.UpSampling1D(2)), "TILE"),
    "masking": (lambda: of_steps(layers.Masking(), layers.Dense(4)), "REDUCE_ANY"),
}


@pytest.fixture(scope="module")
def made():
    found = {}
    for name, (build, _) in MODELS.items():
        model, inputs = build()
        randomized(model, scale=0.5)
        found[name] = stock(model), inputs, [np.asarray(model(x)) for x in inputs]
    return found


@pytest.mark.parametrize("name", MODELS)
def test_what_micro_lacks_is_found_and_mended(made, name):
    tflite, inputs, wanted = made[name]
    op = MODELS[name][1]
    assert op_counts(tflite)[op] > 0
    found = {each.location: each for each in lt.diagnose(tflite, target="micro") if each.code == "micro-op"}
    assert found[op].repairable
    mended = lt.repair(tflite, target="micro")
    assert "micro-op" in {change.code for change in mended.changes}
    assert set(op_counts(mended.tflite)) <= MICRO_OPS
    assert not [each for each in mended.left if each.severity == "error"]
    calls = [by_input(mended.tflite, [x]) for x in inputs]
    on_litert = run_in_a_row(mended.tflite, calls)
    for given, right in zip(on_litert, [*wanted, *wanted], strict=True):
        np.testing.assert_allclose(next(iter(given.values())), right, atol=TOLERANCE)
    if trial.is_installed("micro"):
        before, after = trial.run_on("micro", [(tflite, calls), (mended.tflite, calls)])
        assert before.refused
        assert after.refused is None
        for given, right in zip(after.outputs, wanted, strict=True):
            np.testing.assert_allclose(next(iter(given.values())), right, atol=TOLERANCE)


def test_without_a_target_the_file_stays(made):
    tflite, *_ = made["masking"]
    assert lt.repair(tflite).tflite == tflite


def test_an_op_without_an_equal_is_named():
    model, _ = of_steps(layers.Dense(3, name="erf", activation="gelu"))
    tflite = stock(randomized(model))
    (found,) = lt.diagnose(tflite, target="micro")
    assert (found.code, found.location, found.repairable) == ("micro-op", "GELU", False)
    assert "ops that compute the same are not known for op 1 GELU" in found.message
    repaired = lt.repair(tflite, target="micro")
    assert repaired.tflite == tflite
    assert repaired.left == (found,)


def test_halves_stay_two_on_micro():
    model, _ = of_steps(layers.Bidirectional(layers.LSTM(4)))
    tflite = stock(randomized(model))
    assert op_counts(lt.repair(tflite).tflite)["BIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert op_counts(lt.repair(tflite, target="micro").tflite)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="target must be one of litert, compiled, micro or None, got 'phone'"):
        lt.repair(b"", target="phone")
