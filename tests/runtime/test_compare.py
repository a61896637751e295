"""The difference of two outputs, with one rule for what is not finite, and its size in decibels."""

import math

import numpy as np
import pytest

from lstm_toolkit.errors import ParityError
from lstm_toolkit.runtime.compare import TOLERANCE, compare, difference, signal_to_noise

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


def test_signal_to_noise():
    wanted = np.array([3.0, 4.0], np.float32)
    assert signal_to_noise(wanted, wanted) == INF
    assert signal_to_noise(wanted, wanted + np.float32(0.5)) == pytest.approx(10 * math.log10(25 / 0.5))
