"""The checks of the exercises in codelab 08."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_toolkit.exercises import benchmarking as exercises


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda first, second: ..., "return a number"),
        (lambda first, second: np.median(first / second), "how many times as long the first takes"),
        (lambda first, second: np.median(second), "takes 1.25 times as long"),
        (lambda first, second: np.mean(second) / np.mean(first), "one spike must not count more"),
        (lambda first, second: np.mean(second / first), "one spike must not count more"),
    ],
)
def test_wrong_ratios(answer, hint):
    with pytest.raises(AssertionError, match=hint):
        exercises.check_ratio(answer)


def test_right_ratio():
    exercises.check_ratio(lambda first, second: float(np.median(second / first)))
