"""Checks of the exercises in codelab 07: fewer bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import require, require_several


def check_scale(scale_and_zero_point: Callable[[float, float], Any]) -> None:
    """Checks a function from the range that a tensor had to the scale and zero point of its int8 numbers.

    Args:
        scale_and_zero_point: takes low and high; returns the scale, and the zero point as an integer.

    Raises:
        AssertionError: with a hint, where an answer is wrong.
    """
    for low, high in ((-1.0, 1.0), (-0.3, 2.0), (0.5, 4.0), (-3.0, -1.0), (-0.001, 100.0)):
        answer = scale_and_zero_point(low, high)
        require_several(answer)
        scale, zero_point = answer
        where = f"for a range of {low} to {high} "
        low, high = min(low, 0.0), max(high, 0.0)
        require(int(zero_point) == zero_point, f"{where}the zero point is {zero_point}, and must be an integer")
        require(
            -128 <= zero_point <= 127,
            f"{where}the zero point is {zero_point}, and int8 has -128 to 127. 0 must be in the range: padding is 0",
        )
        ends = [scale * (q - zero_point) for q in (-128, 127)]
        slack = 0.51 * (high - low) / 255
        require(
            ends[0] <= low + slack and ends[1] >= high - slack,
            f"{where}-128 and 127 stand for {ends[0]:.4g} and {ends[1]:.4g}, which leaves a part of it out",
        )
        require(
            ends[1] - ends[0] < 1.01 * (high - low),
            f"{where}the 256 numbers reach from {ends[0]:.4g} to {ends[1]:.4g}, which is more than they need to",
        )
