"""The difference of two outputs, with one rule for what is not finite, and its size in decibels."""

import math

import numpy as np
import pytest

from lstm_toolkit.errors import ParityError
from lstm_toolkit.runtime.compare import TOLERANCE, compare, difference, finite_share, signal_to_noise

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("expected", "actual", "wanted"),
    [
        ([1.0, -3.0], [1.5, -3.0], (0.5, 3.0)),
        ([NAN, INF, 2.0], [NAN, INF, 2.0], (0.0, 2.0)),
        ([NAN, 2.0], [1.0, 2.0], (INF, 2.0)),
        ([1.0, 2.0], [NAN, 2.0], (INF, 2.0)),
        ([INF, -INF], [INF, INF], (np.finfo(np.float64).max, 0.0)),
        ([], [], (0.0, 0.0)),
    ],
)
def test_difference(expected, actual, wanted):
    assert difference(np.array(expected, np.float32), np.array(actual, np.float32)) == wanted


def test_the_tolerance_grows_with_the_largest_finite_output():
    wanted = {"y": np.array([100.0, INF, NAN])}
    assert compare(wanted, {"y": np.array([100.0 + 50 * TOLERANCE, INF, NAN])}) == pytest.approx(50 * TOLERANCE)
    with pytest.raises(
        ParityError, match=r"^call 2: output 'y' differs from the source by 0\.002, and 0\.001 is"
    ) as error:
        compare(wanted, {"y": np.array([100.0 + 200 * TOLERANCE, INF, NAN])}, call=2)
    assert error.value.tolerance == pytest.approx(100 * TOLERANCE)
    with pytest.raises(ParityError, match=r"output 'y' has shape \[3\], the file \[2\]"):
        compare(wanted, {"y": np.zeros(2)})
    with pytest.raises(ParityError, match=r"the source has the outputs \['y'\], the file \['z'\]"):
        compare(wanted, {"z": wanted["y"]})


def test_the_tolerance_grows_with_the_largest_input():
    wanted, given = {"y": np.array([0.5])}, {"y": np.array([0.5 + 50 * TOLERANCE])}
    assert compare(wanted, given, largest_input=100.0) == pytest.approx(50 * TOLERANCE)
    with pytest.raises(ParityError, match=r"^call 1: output 'y' differs .*, and 0\.0002 is allowed$"):
        compare(wanted, given, largest_input=20.0)


def test_of_some_kinds_only_what_is_finite_is_compared():
    wanted, given = {"y": np.array([1.0, NAN, INF])}, {"y": np.array([1.0, 2.0, NAN])}
    assert compare(wanted, given, kind="zeros") == 0.0
    with pytest.raises(ParityError, match=r"^call 1: output 'y' differs from the source by inf"):
        compare(wanted, given)
    with pytest.raises(ParityError, match=r"^call 5 \(zeros\): output 'y' differs from the source by inf"):
        compare({"y": np.array([0.0])}, {"y": np.array([NAN])}, kind="zeros", call=5)


def test_the_finite_share_is_that_of_the_output_with_the_fewest():
    first, second = {"y": np.array([1.0, NAN]), "z": np.ones(3)}, {"y": np.array([1.0, 2.0]), "z": np.ones(3)}
    assert finite_share(first, second) == 0.75
    assert finite_share() == finite_share({"y": np.ones(0)}) == 1.0
    assert finite_share({"y": np.array([True, False])}) == 1.0


def test_signal_to_noise():
    wanted = np.array([3.0, 4.0], np.float32)
    assert signal_to_noise(wanted, wanted) == INF
    assert signal_to_noise(wanted, wanted + np.float32(0.5)) == pytest.approx(10 * math.log10(25 / 0.5))
