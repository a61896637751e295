"""`Runner`: names, shapes, dtypes, and what it refuses. TensorFlow is used only to make the models."""

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import Runner
from lstm_toolkit.errors import InvalidModelError
from tests.helpers.models import randomized


@pytest.fixture(scope="module")
def one():
    model = randomized(keras.Sequential([keras.Input((None, 5), name="steps"), keras.layers.LSTM(6)]))
    return model, lstm_toolkit.convert(model, batch_size=2)


@pytest.fixture(scope="module")
def two():
    a, b = keras.Input((7, 5), name="a"), keras.Input((3,), name="b")
    model = randomized(keras.Model([a, b], {"p": keras.layers.LSTM(6)(a), "q": keras.layers.Dense(2)(b)}))
    return model, lstm_toolkit.convert(model)


def test_one_input_goes_by_position_or_name_and_time_may_change(one, random):
    model, conversion = one
    runner = conversion.runner()
    assert runner.input_shapes == {"steps": (2, -1, 5)}
    for time in (4, 9, 4):
        x = random.normal(size=(2, time, 5))
        np.testing.assert_allclose(runner(x), model(x.astype(np.float32)), atol=1e-5)
        np.testing.assert_array_equal(runner(x), runner(steps=x.tolist()))
        (name,) = runner.output_names
        np.testing.assert_array_equal(runner(x), runner.outputs(x)[name])


@pytest.mark.parametrize("options", [{"num_threads": 2}, {"xnnpack": False}])
def test_threads_and_delegates_do_not_change_the_result(one, options, random):
    _, conversion = one
    x = random.normal(size=(2, 5, 5))
    np.testing.assert_allclose(conversion.runner(**options)(x), conversion.runner()(x), atol=1e-6)


def test_paths_bytes_and_reset(one, tmp_path, random):
    _, conversion = one
    conversion.save(tmp_path / "m.tflite")
    x = random.normal(size=(2, 5, 5))
    runner = Runner(tmp_path / "m.tflite")
    first = runner(x)
    runner.reset()
    np.testing.assert_array_equal(runner(x), first)
    np.testing.assert_array_equal(Runner(str(tmp_path / "m.tflite"))(x), first)


def test_several_inputs_and_outputs_go_by_name(two, random):
    model, conversion = two
    a, b = random.normal(size=(1, 7, 5)), random.normal(size=(1, 3))
    result = conversion.runner()(b=b, a=a)
    expected = model([a.astype(np.float32), b.astype(np.float32)])
    assert list(result) == ["p", "q"]
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, atol=1e-5)


def test_wrong_inputs_are_refused_with_expected_and_actual(one, two):
    runner, runner_of_two = one[1].runner(), two[1].runner()
    with pytest.raises(ValueError, match=r"input 'steps' has shape \[2, -1, 5\] \(-1 is any\), got \[3, 7, 5\]"):
        runner(np.zeros((3, 7, 5)))
    with pytest.raises(ValueError, match=r"got \[2, 5\]"):
        runner(np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"input 'steps' is float32, got complex128"):
        runner(np.zeros((2, 7, 5), complex))
    with pytest.raises(ValueError, match=r"the model has the inputs \['steps'\], got \['x'\]"):
        runner(x=np.zeros((2, 7, 5)))
    with pytest.raises(ValueError, match=r"pass the inputs by name: \['a', 'b'\]"):
        runner_of_two(np.zeros((1, 7, 5)))


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(InvalidModelError, match=r"is not a \.tflite file"):
        Runner(b"hello")
    with pytest.raises(InvalidModelError, match="cannot read"):
        Runner(tmp_path / "absent.tflite")
    with pytest.raises(InvalidModelError, match="got int"):
        Runner(3)
