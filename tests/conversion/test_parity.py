"""The comparison of a file with its source: what it draws, what it leaves out, and what it refuses for which reason."""

import dataclasses
import json
import re
from collections import Counter

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit.conversion.report import Checked, ConversionReport
from lstm_toolkit.errors import ConversionError, ParityError
from lstm_toolkit.runtime.random_inputs import EXTREMES
from lstm_toolkit.weights import packing
from tests.helpers.models import randomized

L = keras.layers
TIME, WIDTH, UNITS = 7, 5, 4
EVERY_KIND = ("normal", *EXTREMES)


def before_lstm(*functions, time=TIME, batch=None):
    """A model whose LSTM reads what functions or layers make of the input."""
    layers = [each if isinstance(each, L.Layer) else L.Lambda(each) for each in functions]
    return randomized(keras.Sequential([keras.Input((time, WIDTH), batch_size=batch), *layers, L.LSTM(UNITS)]))


def checked(model, **options):
    return lstm_toolkit.convert(model, **options).report.checked


def samples_between(random, low, high):
    return random.uniform(low, high, (12, TIME, WIDTH)).astype(np.float32)


@pytest.fixture
def wrong_gates(monkeypatch):
    """Files have the input gate and the forget gate swapped while it is in use."""
    split = packing.Packing.split

    def wrong(self, arrays):
        return split(dataclasses.replace(self, gates=("forget", "input", *self.gates[2:])), arrays)

    monkeypatch.setattr(packing.Packing, "split", wrong)


# What is drawn


def test_every_kind_of_input_is_compared():
    found = checked(before_lstm())
    assert found.inputs == EVERY_KIND
    assert (found.calls, found.finite, found.left_out, found.masks) == (7, 1.0, (), ())
    assert 0 < found.max_abs_error < 1e-6


@pytest.mark.parametrize("options", [{"state": "carry"}, {"state": "explicit"}, {"time_major": True, "batch_size": 2}])
def test_every_kind_is_compared_whatever_the_state(options):
    assert checked(before_lstm(), **options).inputs == EVERY_KIND


def test_padding_is_drawn_in_every_way_with_one_row():
    found = checked(randomized(keras.Sequential([keras.Input((TIME, WIDTH)), L.Masking(), L.LSTM(UNITS)])))
    assert found.masks == ("right", "left", "holes", "all valid", "none valid")


def test_open_time_is_compared_at_three_lengths():
    assert checked(before_lstm(time=None)).inputs == EVERY_KIND


def test_a_model_whose_rows_depend_on_each_other_is_compared_call_by_call():
    """Many calls are computed as rows of one where that is right; here a row minus the mean of all rows is not 0."""

    def apart(x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)

    assert checked(before_lstm(apart)).inputs == EVERY_KIND
    assert checked(before_lstm(batch=3)).inputs == EVERY_KIND


# Where the source has no numbers


def test_a_model_with_a_root_is_compared_where_it_has_numbers():
    found = checked(before_lstm(keras.ops.sqrt))
    assert found.inputs == ("from 0 to 1", *EXTREMES)
    assert found.finite == 1.0
    assert 0 < found.max_abs_error < 1e-6


def test_states_that_are_not_numbers_do_not_stay():
    """The first inputs fill the states of a stateful layer with NaN; those from elsewhere start at zero."""
    layers = [keras.Input((TIME, WIDTH), batch_size=2), L.Lambda(keras.ops.sqrt), L.LSTM(UNITS, stateful=True)]
    found = checked(randomized(keras.Sequential(layers)))
    assert found.inputs == ("from 0 to 1", *EXTREMES)
    assert found.finite == 1.0


@pytest.mark.usefixtures("wrong_gates")
def test_a_wrong_file_of_a_model_with_a_root_is_refused():
    """With NaN on both sides, nothing would differ."""
    with pytest.raises(ParityError, match=r"^call 1: output 'output_0' differs from the source by 0\.\d"):
        lstm_toolkit.convert(before_lstm(keras.ops.sqrt))


def test_a_quantized_file_of_a_model_with_a_root_is_compared_where_it_has_numbers():
    report = lstm_toolkit.convert(before_lstm(keras.ops.sqrt), quantization="dynamic").report
    assert report.quantization.relative_error < 0.05
    report = lstm_toolkit.convert(before_lstm(keras.ops.sqrt), quantization="dynamic", verify=False).report
    assert report.quantization.relative_error < 0.05


def far_logarithm(x):
    return keras.ops.log(x - 100.0)


def test_without_finite_numbers_the_samples_of_the_user_are_compared(random):
    model = before_lstm(far_logarithm)
    with pytest.raises(
        ConversionError, match=r"only 0% of the numbers .* finite; pass representative_dataset, inputs of"
    ):
        lstm_toolkit.convert(model)
    found = checked(model, representative_dataset=samples_between(random, 101, 150))
    assert found.finite == 1.0
    assert 0 < found.max_abs_error < 1e-6
    with pytest.raises(
        ConversionError, match=r"on random inputs and on representative_dataset, only 0% .* finite; give it"
    ):
        lstm_toolkit.convert(model, representative_dataset=samples_between(random, 1, 2))


@pytest.mark.usefixtures("wrong_gates")
def test_a_wrong_file_is_refused_on_samples(random):
    with pytest.raises(ParityError, match=r"^call 1: output 'output_0' differs"):
        lstm_toolkit.convert(before_lstm(far_logarithm), representative_dataset=samples_between(random, 101, 150))


def test_samples_of_open_time(random):
    model = before_lstm(far_logarithm, time=None)
    samples = [random.uniform(101, 150, (steps, WIDTH)).astype(np.float32) for steps in (3, 8, 5)]
    assert checked(model, representative_dataset=lambda: samples).inputs[0] == "normal"


@pytest.mark.parametrize(
    ("function", "kind"), [(keras.ops.log, "zeros"), (lambda x: keras.ops.exp(-x * x) * keras.ops.exp(x * x), "large")]
)
def test_inputs_without_a_finite_result_are_left_out(function, kind):
    found = checked(before_lstm(function))
    assert found.left_out == ((kind, "an output of the source has no finite number"),)
    assert found.calls == 6
    assert kind not in found.inputs


def test_inputs_that_the_source_refuses_are_left_out():
    def checking(x):
        import tensorflow as tf

        tf.debugging.assert_less(tf.abs(x), 100.0) if tf.executing_eagerly() else None
        return x

    ((kind, reason),) = checked(before_lstm(checking)).left_out
    assert kind == "large"
    assert "the source cannot run on them (InvalidArgumentError" in reason


# Inputs at which arithmetic breaks


def test_a_norm_of_zeros_is_found(random):
    with pytest.raises(
        ParityError, match=r"^call 4 \(zeros\): output 'output_0' differs from the source by inf"
    ) as error:
        lstm_toolkit.convert(before_lstm(L.UnitNormalization()), lowering="loop")
    assert "replace the layer whose arithmetic breaks on these" in str(error.value)

    def normalized(x):
        return x / (keras.ops.sqrt(keras.ops.sum(x * x, axis=-1, keepdims=True)) + 1e-6)

    assert checked(before_lstm(normalized), lowering="loop").inputs == EVERY_KIND


def test_a_softplus_of_large_numbers_is_found(random):
    model = before_lstm(L.Dense(3, activation="softplus"))
    remedies = "replace the layer .*; or pass representative_dataset, beyond whose range no input is drawn"
    with pytest.raises(ParityError, match=rf"^call 7 \(large\): output 'output_0' differs .*{remedies}"):
        lstm_toolkit.convert(model)
    assert checked(model, representative_dataset=samples_between(random, -2, 2)).inputs == EVERY_KIND

    def stable(x):
        return keras.ops.maximum(x, 0) + keras.ops.log1p(keras.ops.exp(-keras.ops.abs(x)))

    assert checked(before_lstm(L.Dense(3, activation=stable))).inputs == EVERY_KIND


def test_large_inputs_refuse_no_right_model():
    """Sums of large terms round to the digits of their terms, also where an activation makes small numbers of them."""
    model = keras.Sequential([keras.Input((28, 28)), L.LSTM(64, return_sequences=True), L.LSTM(8), L.Dense(10)])
    assert checked(randomized(model)).inputs == EVERY_KIND
    growing = keras.Sequential([keras.Input((20, WIDTH)), L.LSTM(16, activation="relu"), L.Dense(3)])
    assert checked(randomized(growing)).inputs == EVERY_KIND


def quick_waves(x):
    return keras.ops.sin(1e5 * x)


def test_a_model_in_which_rounding_grows_is_not_called_wrong(random):
    model = before_lstm(L.Dense(3, use_bias=False), quick_waves)
    with pytest.raises(
        ConversionError, match=r"but it differs from itself by .*; pass representative_dataset"
    ) as error:
        lstm_toolkit.convert(model)
    assert "verify" not in str(error.value)
    small = samples_between(random, -1e-6, 1e-6)
    assert checked(model, representative_dataset=small).max_abs_error < 1e-6
    with pytest.raises(ConversionError, match=r"but it differs from itself by .*; give it samples on which the model"):
        lstm_toolkit.convert(before_lstm(L.Dense(3), quick_waves), representative_dataset=small)


def test_rounding_that_grows_in_large_numbers_leaves_them_out():
    """The sine has seven digits for numbers of the size of 1, and none for those of 1e9."""
    ((kind, reason),) = checked(before_lstm(L.Dense(3), lambda x: keras.ops.sin(x * x * x))).left_out
    assert kind == "large"
    assert "rounding grows in it" in reason


@pytest.mark.usefixtures("wrong_gates")
def test_a_wrong_file_is_not_called_rounding():
    with pytest.raises(ParityError, match=r"convert the model up to one layer after another \(keras.Model"):
        lstm_toolkit.convert(before_lstm())


# What the report says


def test_the_report_says_what_was_compared():
    report = lstm_toolkit.convert(before_lstm(keras.ops.log)).report
    assert re.search(r"Compared with the source\n +calls +inputs +finite +padding\n.*\n +6 ", str(report))
    assert re.search("from 0 to 1, constant, tiny, large +100% +no mask", str(report))
    assert "zeros     an output of the source has no finite number" in str(report)
    assert "Compared with the source" in report._repr_html_()
    values = json.loads(json.dumps(report.to_dict()))
    assert values["checked"]["calls"] == 6
    assert values["max_abs_error"] == values["checked"]["max_abs_error"] == report.max_abs_error


@pytest.mark.parametrize(
    ("error", "shown"), [(0.0, "below 1e-05"), (9.9e-7, "below 1e-05"), (1.1e-6, "below 1e-05"), (2.5e-5, "2.5e-05")]
)
def test_an_error_that_is_only_rounding_shows_as_the_tolerance(error, shown):
    """How large it is differs between processors, and a notebook's committed output must not."""
    report = ConversionReport((), Counter(), Checked(3, ("normal",), (), 1.0, (), error))
    assert f"Recurrent layers (largest error {shown})" in str(report)


def test_without_verify_the_report_has_nothing_of_it():
    report = lstm_toolkit.convert(before_lstm(), verify=False).report
    assert report.checked is report.max_abs_error is report.to_dict()["checked"] is None
    assert "Compared" not in str(report)
