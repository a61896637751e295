"""Checks of the exercises in codelab 08: what a measurement says."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_toolkit.exercises import Float64, as_numbers, require, require_answer, require_number, several

_VERDICTS = ("faster", "slower", "no difference")

_INTERVALS = (
    (5.66, 5.70, "slower"),
    (0.531, 0.538, "faster"),
    (0.996, 1.007, "no difference"),
    (0.70, 1.04, "no difference"),
    (0.98, 1.60, "no difference"),
    (1.002, 1.006, "no difference"),
    (0.994, 0.998, "no difference"),
    (1.004, 1.30, "no difference"),
    (0.60, 0.995, "no difference"),
    (1.02, 1.03, "slower"),
    (0.96, 0.98, "faster"),
    (0.0, math.inf, "no difference"),
)


def check_ratio(ratio: Callable[[Float64, Float64], Any]) -> None:
    """Checks a function from the times of two models, round by round, to how many times as long the second takes.

    Args:
        ratio: takes two arrays of times of equal length and returns a number, which may be off by 2 percent.
    """
    faster = np.random.default_rng(6).normal(1.0, 0.01, (2, 50)) * [[40.0], [24.0]]
    answer = ratio(*faster)
    _require_finite(answer)
    require(abs(answer * 0.6 - 1) > 0.02, "that is how many times as long the first takes")
    require(
        abs(answer / 0.6 - 1) < 0.02,
        f"the second takes 0.6 times as long here, not {answer:.2f}; a ratio below 1 says that it is faster",
    )
    random = np.random.default_rng(7)
    drift = np.where(np.arange(60) < 32, 1.0, 3.0)
    first, second = (20 * drift * random.normal(1.0, 0.01, 60), 25 * drift * random.normal(1.0, 0.01, 60))
    answer = ratio(first.copy(), second.copy())
    _require_finite(answer)
    require(abs(answer * 1.25 - 1) > 0.02, "that is how many times as long the first takes")
    require(abs(answer / 1.25 - 1) < 0.02, f"the second takes 1.25 times as long here, not {answer:.2f}")
    # The disturbed rounds move the median of one model to the slow half, and leave that of the other in the fast one.
    second[[3, 8, 17, 21, 28]] *= 30
    first[[41, 58]] *= 50
    answer = ratio(first.copy(), second.copy())
    _require_finite(answer)
    apart = float(np.median(second) / np.median(first))
    require(
        abs(answer / apart - 1) > 0.02,
        f"the machine slowed down in the middle, and {answer:.2f} compares a time before with one after; divide within "
        "a round first",
    )
    require(
        abs(answer / 1.25 - 1) < 0.02,
        f"7 rounds of 60 were disturbed, and the answer moved from 1.25 to {answer:.2f}; one spike must not count more "
        "than any other round",
    )


def check_verdict(verdict: Callable[[float, float], Any]) -> None:
    """Checks a function from the interval of a ratio to what may be said of the model.

    Args:
        verdict: takes the ends of the interval; returns "faster", "slower" or "no difference".
    """
    for low, high, wanted in _INTERVALS:
        answer = verdict(low, high)
        require_answer(answer)
        hint = f"return one of {', '.join(map(repr, _VERDICTS))}, not {answer!r}"
        require(isinstance(answer, str) and answer in _VERDICTS, hint)
        if {answer, wanted} == {"faster", "slower"}:
            reason = "the ratio says how many times as long the model takes, so a faster one has less than 1"
        elif answer == "no difference":
            reason = "all of the interval is on one side of 1, and farther from it than one percent"
        elif low <= 1 <= high:
            reason = "the interval holds 1, so both may be equally fast"
        else:
            reason = "one of its ends is within one percent of 1, so the difference may be too small to count"
        require(answer == wanted, f"[{low}, {high}] is not {answer!r}: {reason}")


def check_least_time(least_time: Callable[[int, int, float, float], Any]) -> None:
    """Checks a function that says how long a call of an LSTM takes at least if its recurrent weights must be read.

    Args:
        least_time: takes units, time steps, bytes of a weight, and gigabytes that are read in a second; returns
            microseconds, which may be off by 1 percent.
    """
    for units, time_steps, weight_bytes, rate in ((96, 7, 2.0, 10.0), (256, 50, 4.0, 64.0), (40, 300, 1.0, 3.0)):
        answer = least_time(units, time_steps, weight_bytes, rate)
        require_answer(answer)
        _require_finite(answer)
        # Of gates, columns and rows a weight each; a gigabyte a second is a thousand bytes a microsecond.
        weights = np.zeros((4, units, units)).size
        expected = sum(weights * weight_bytes / (1e3 * rate) for _ in range(time_steps))
        reasons = {
            1 / 4: "an LSTM has four gates, and each has recurrent weights of its own",
            1 / units: "each gate has a weight from every unit to every unit",
            1 / time_steps: "the weights are read in every step",
            1 / weight_bytes: "count bytes, not weights",
            8: "count bytes, not bits",
            1e-6: "return microseconds",
            1e-3: "a gigabyte is 1e9 bytes, and a second 1e6 microseconds",
            1e3: "a gigabyte is 1e9 bytes, and a second 1e6 microseconds",
        }
        quotient = answer / expected
        close = (text for number, text in reasons.items() if number != 1 and abs(quotient / number - 1) < 0.01)
        reason = next(close, "")
        require(
            abs(quotient - 1) < 0.01,
            f"{units} units, {time_steps} steps, {weight_bytes:g} bytes a weight and {rate:g} GB/s take at least "
            f"{expected:.4g} microseconds, not {answer:.4g}" + (f": {reason}" if reason else ""),
        )


class _Machine:
    """A model on a clock of its own: a call takes 3 microseconds, and 11 right after other work, which takes 700."""

    def __init__(self) -> None:
        self.now, self.are_cold, self.calls = 0.0, False, 0

    def clock(self) -> float:
        """The time in microseconds."""
        return self.now

    def other_work(self) -> None:
        """What the app does meanwhile."""
        self.now += 700.0
        self.are_cold = True

    def call(self) -> None:
        """Runs the model."""
        self.now += 11.0 if self.are_cold else 3.0
        self.are_cold, self.calls = False, self.calls + 1


def check_cold_times(cold_times: Callable[[Any, Any, Any, int], Any]) -> None:
    """Checks a function that times calls of a model between other work.

    Args:
        cold_times: takes functions without arguments: the call, the other work, and a clock; and how many calls to
            time. It returns the time of each.
    """
    machine = _Machine()
    answer = cold_times(machine.call, machine.other_work, machine.clock, 5)
    times = as_numbers(several(answer, 5, "5 calls have 5 times, not {}"))
    require(times.shape == (5,), "return one number for each call")
    require(machine.calls > 0, "the model was never called")
    require(np.all(times < 700), f"{times.max():g} µs holds the other work; read the clock after it")
    require(np.all(times > 0), f"{times.min():g} µs holds no call; read the clock before the call and after it")
    require(np.any(times != 3), "3 µs is a call in a row: the other work has to come before the call")
    warm = int(np.argmax(times != 11))
    require(
        np.all(times == 11), f"call {warm + 1} takes 11 µs after other work, not {times[warm]:g}; each needs its own"
    )


def _require_finite(answer: Any) -> None:
    require_number(answer)
    require(np.isfinite(answer), f"return a number that is finite, not {answer}")
