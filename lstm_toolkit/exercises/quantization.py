"""Checks of the exercises in codelab 07: fewer bits."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_toolkit.exercises import Array, is_number, require, require_answer, require_number, several

LOWEST, HIGHEST = -128, 127

ToInt8 = Callable[[Array, float, int], Any]


def check_scale(scale_and_zero_point: Callable[[float, float], Any]) -> None:
    """Checks a function from the range that a tensor had to the scale and zero point of its int8 numbers.

    Args:
        scale_and_zero_point: takes low and high; returns the scale, and the zero point as an integer.
    """
    for low, high in ((-1.0, 1.0), (-0.3, 2.0), (0.5, 4.0), (-3.0, -1.0), (-0.001, 100.0)):
        answer = scale_and_zero_point(low, high)
        scale, zero_point = several(answer, 2, "return a scale and a zero point, not {} things")
        finite = all(is_number(each) and np.isfinite(each) for each in (scale, zero_point))
        require(finite, f"return two numbers, not {scale!r} and {zero_point!r}")
        where = f"for a range of {low} to {high} "
        low, high = min(low, 0.0), max(high, 0.0)
        require(zero_point % 1 == 0, f"{where}the zero point is {zero_point}, and must be an integer")
        # In int8 the distances from the zero point would not fit.
        scale, zero_point = float(scale), int(zero_point)
        hint = f"{where}the zero point is {zero_point}, and int8 has -128 to 127. 0 must be in the range: padding is 0"
        require(LOWEST <= zero_point <= HIGHEST, hint)
        ends = [scale * (q - zero_point) for q in (LOWEST, HIGHEST)]
        slack = 0.51 * (high - low) / 255
        hint = f"{where}-128 and 127 stand for {ends[0]:.4g} and {ends[1]:.4g}, which leaves a part of it out"
        require(ends[0] <= low + slack and ends[1] >= high - slack, hint)
        hint = f"{where}the 256 numbers reach from {ends[0]:.4g} to {ends[1]:.4g}, which is more than they need to"
        require(ends[1] - ends[0] < 1.01 * (high - low), hint)


def check_to_int8(to_int8: ToInt8) -> None:
    """Checks a function from float inputs to the integers that an int8 file takes.

    Args:
        to_int8: takes an array of any shape, float32, its scale and its zero point; returns int8 of the same shape, the
            nearest of the 256.
    """
    random = np.random.default_rng(11)
    for scale, zero_point in ((0.5, 0), (0.03, 17), (1 / 255, -128)):
        low, high = scale * (LOWEST - zero_point), scale * (HIGHEST - zero_point)
        inside = random.uniform(low, high, (4, 5, 3)).astype(np.float32)
        _require_nearest(to_int8, inside, scale, zero_point)
        beyond = np.array([low - 40 * scale, high + 40 * scale, high + 300 * scale], np.float32)
        _require_nearest(to_int8, beyond, scale, zero_point)


def check_share_cut(share_cut: ToInt8) -> None:
    """Checks a function that says what share of inputs lies beyond the range of an int8 input.

    Args:
        share_cut: takes an array of any shape, float32, a scale and a zero point; returns a number from 0 to 1.
    """
    random = np.random.default_rng(12)
    for scale, zero_point, below, above in ((0.1, 0, 0, 8), (1 / 255, -128, 0, 15), (0.02, 90, 7, 0), (0.5, -20, 4, 5)):
        low, high = scale * (LOWEST - zero_point), scale * (HIGHEST - zero_point)
        inside = random.uniform(low, high, 58 - below - above)
        ends = [low - 0.3 * scale, high + 0.3 * scale]
        steps = scale * random.uniform(2, 100, below + above)
        steps[[0, -1]] = 0.7 * scale
        x = np.concatenate([inside, ends, low - steps[:below], high + steps[below:]]).astype(np.float32)
        answer = share_cut(random.permutation(x).reshape(3, 4, 5), scale, zero_point)
        require_answer(answer)
        require_number(answer)
        wrong = {
            below + above: "that is how many values there are; divide by the number of all",
            100 * (below + above) / 60: "that is in percent; a share is from 0 to 1",
            1 - (below + above) / 60: "that is the share of those that are kept",
            (below + above + 2) / 60: "the two that are less than half a step beyond an end count too, and must not: "
            "they are rounded to that end, and lose no more than others",
        }
        share = (below + above) / 60
        reason = next((text for number, text in wrong.items() if abs(answer - number) < 1e-6), None)
        require(
            abs(answer - share) < 1e-6,
            f"with a scale of {scale:.4g} and a zero point of {zero_point}, -128 and 127 stand for {low:.4g} and "
            f"{high:.4g}; of 60 values {below} lie below and {above} above. That is {share:.4g}, not {answer:.4g}"
            + (f": {reason}" if reason else ""),
        )


def _require_nearest(to_int8: ToInt8, x: Array, scale: float, zero_point: int) -> None:
    answer = to_int8(x.copy(), scale, zero_point)
    require_answer(answer)
    given = np.asarray(answer)
    require(given.dtype == np.int8, f"the array is {given.dtype}, and the file takes int8")
    require(given.shape == x.shape, f"of an array {list(x.shape)} comes one of {list(given.shape)}")
    integers = np.arange(LOWEST, HIGHEST + 1)
    distances = np.abs(scale * (integers - zero_point) - x.reshape(-1, 1).astype(np.float64))
    best, chosen = integers[distances.argmin(axis=1)], given.ravel().astype(np.int64)
    wrong = np.flatnonzero(distances[np.arange(x.size), chosen - LOWEST] > distances.min(axis=1) + 1e-3 * scale)
    if not wrong.size:
        return
    off = (chosen - best)[wrong]
    kinds, counts = np.unique(off, return_counts=True)
    usual = int(kinds[counts.argmax()])
    # An integer that is wrong as most are tells more than one that was clipped too.
    example = wrong[off == usual][0]
    value, q, nearest = x.ravel()[example], chosen[example], best[example]
    if not LOWEST - 0.5 <= value / scale + zero_point <= HIGHEST + 0.5:
        reason = "What lies beyond the range must become its end: clip before the type changes"
    elif np.abs(off).max() == 1:
        reason = "Round to the nearest: a change of type cuts off what is behind the point"
    elif usual in (-zero_point, -2 * zero_point):
        reason = "The zero point is added to what the division gives"
    else:
        reason = "Solve scale * (q - zero_point) = x for q"
    raise AssertionError(
        f"with a scale of {scale:.4g} and a zero point of {zero_point}, {value:.4g} became {q}, which stands for "
        f"{scale * (q - zero_point):.4g}; {nearest} stands for {scale * (nearest - zero_point):.4g}. {reason}"
    )
