"""Checks of the exercises in codelab 08: what a measurement says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import require


def check_ratio(ratio: Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], Any]) -> None:
    """Checks a function from the times of two models, round by round, to how many times as long the second takes.

    Args:
        ratio: takes two arrays of times of equal length and returns a number.

    Raises:
        AssertionError: with a hint, where the answer is off by more than 2 percent.
    """
    random = np.random.default_rng(7)
    drift = np.linspace(1.0, 3.0, 60)
    first, second = (20 * drift * random.normal(1.0, 0.01, 60), 25 * drift * random.normal(1.0, 0.01, 60))
    answer = ratio(first.copy(), second.copy())
    require(isinstance(answer, (int, float, np.floating)), f"return a number, not {type(answer).__name__}")
    require(abs(answer * 1.25 - 1) > 0.02, "that is how many times as long the first takes")
    require(abs(answer / 1.25 - 1) < 0.02, f"the second takes 1.25 times as long here, not {answer:.2f}")
    second[[3, 17, 40, 41, 58]] *= 30
    first[[9, 22]] *= 50
    answer = ratio(first.copy(), second.copy())
    require(
        abs(answer / 1.25 - 1) < 0.02,
        f"7 rounds of 60 were disturbed, and the answer moved from 1.25 to {answer:.2f}; one spike must not count more "
        "than any other round",
    )
