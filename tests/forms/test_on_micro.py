"""Models for microcontrollers in float: the file agrees with Keras on LiteRT, and with LiteRT on Micro."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime import trial
from lstm_toolkit.runtime.targets import MICRO_OPS
from tests.helpers import micro_layers, micro_zoo
from tests.helpers.calls import TOLERANCE, assert_agrees, by_output, run_in_a_row
from tests.helpers.files import op_counts

DOCS = Path(__file__).parents[2] / "docs" / "api" / "micro.rst"


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


MODELS = {
    "sequences": (
        micro_layers.of_sequences,
        {**micro_layers.forms_of_sequences(), "activations": micro_layers.activations()},
    ),
    "tokens": (micro_layers.of_tokens, micro_layers.OF_TOKENS),
    "masked": (micro_layers.of_masked, micro_layers.OF_MASKED),
}
"""What builds each model, and its outputs by layer."""


@pytest.fixture(scope="module")
def layer_files():
    models = {name: build() for name, (build, _) in MODELS.items()}
    calls = {name: micro_layers.samples(name, seed=5) for name in models}
    tflites = {name: lstm_toolkit.convert(model, target="micro", verify=False).tflite for name, model in models.items()}
    return models, tflites, calls


@pytest.mark.parametrize("name", MODELS)
def test_layers_compute_what_keras_computes(layer_files, name):
    models, tflites, calls = layer_files
    assert set(op_counts(tflites[name])) <= MICRO_OPS
    outputs = [
        f"{layer} {number}"
        for layer, forms in micro_layers.present(MODELS[name][1]).items()
        for number in range(len(forms))
    ]
    for place, arrays in enumerate(calls[name]):
        wanted = by_output(models[name](*arrays.values()))
        assert len(outputs) == len(wanted)
        for given in run_in_a_row(tflites[name], calls[name])[place :: len(calls[name])]:
            for output, (key, array) in zip(outputs, wanted.items(), strict=True):
                np.testing.assert_allclose(given[key], array, rtol=0, atol=TOLERANCE, err_msg=output)


def test_layers_run_on_micro(layer_files):
    _, tflites, calls = layer_files
    assert_equal_on_micro(tflites, calls)


@pytest.mark.parametrize("name", micro_layers.REFUSED)
def test_layers_that_are_refused_by_name(name):
    make, op = micro_layers.REFUSED[name]
    steps, odd = keras.Input((32,), name="steps"), make()
    x = odd(steps)
    x = x if len(x.shape) == 3 else keras.layers.Rescaling(1.0)(keras.layers.Reshape((-1, 1))(x))
    model = keras.Model(steps, keras.layers.LSTM(4)(x))
    with pytest.raises(ConversionError, match=rf"has no op {op} .*; take layer '{odd.name}' out of the model"):
        lstm_toolkit.convert(model, target="micro", verify=False)


def test_the_table_of_layers_says_the_same():
    rows = re.findall(r"^   \* - (.+)\n     - (.+)$", DOCS.read_text(), re.MULTILINE)
    said: dict[str, set[str]] = {"runs": set(), "refused": set()}
    for names, verdict in rows[1:]:
        said[verdict.split(":")[0]] |= set(re.findall(r"``(\w+)``", names))
    runs = {*micro_layers.forms_of_sequences(), *micro_layers.OF_TOKENS, *micro_layers.OF_MASKED}
    activations = {each if isinstance(each, str) else "gelu" for each in micro_layers.ACTIVATIONS}
    assert said["runs"] == runs | activations
    assert said["refused"] == set(micro_layers.REFUSED) | {"sparsemax"}
