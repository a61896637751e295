"""Times calls: one alone, or several in turn."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Key = TypeVar("Key")


def timed_calls(call: Callable[[], Any], count: int) -> npt.NDArray[np.float64]:
    """Microseconds of each of `count` calls. The clock is read once a call, so its own time is in the figure."""
    return 1e6 * np.diff(_stamps(call, count))


def calls_between(call: Callable[[], Any], other_work: Callable[[], Any], count: int) -> npt.NDArray[np.float64]:
    """Microseconds of each of `count` calls, with other work in front of each, whose time is in no figure."""
    clock, times = time.perf_counter, list[float]()
    for _ in range(count):
        other_work()
        # The clock too is no longer in the caches.
        clock()
        start = clock()
        call()
        times.append(clock() - start)
    return 1e6 * np.array(times)


def _stamps(call: Callable[[], Any], count: int) -> list[float]:
    """The clock before the first call and after each. What else is done in between would be in the next call's time."""
    clock, turns, stamps = time.perf_counter, range(count), list[float]()
    stamp = stamps.append
    stamp(clock())
    for _ in turns:
        call()
        stamp(clock())
    return stamps


def stopwatch(calls: Mapping[Key, Callable[[], Any]], seconds: float) -> dict[Key, float]:
    """Median microseconds of each call; in every round each is called a few times in a row, in turn.

    Args:
        calls: functions without arguments.
        seconds: when to stop, after three rounds at least.
    """
    # The first calls of a round are not timed: they bring the weights and the ops back into the caches.
    return _in_turn(calls, _rounds_for(seconds), untimed=3, timed=3)


def cold_stopwatch(
    calls: Mapping[Key, Callable[[], Any]], other_work: Callable[[], Any], seconds: float
) -> dict[Key, float]:
    """Median microseconds of each call after other work; in every round each is called once, in turn.

    Args:
        calls: functions without arguments.
        other_work: takes the caches.
        seconds: when to stop, after three rounds at least.
    """
    times: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in _rounds_for(seconds):
        for key, call in calls.items():
            times[key].extend(calls_between(call, other_work, 1))
    return {key: float(np.median(each)) for key, each in times.items()}


def interleaved_medians(
    calls: Mapping[Key, Callable[[], Any]], *, rounds: int = 300, warmup: int = 20
) -> dict[Key, float]:
    """Times calls in turn (A B C A B C ...), so that a change of the machine's speed hits all alike.

    Args:
        calls: functions without arguments by name.
        rounds: how often each is timed.
        warmup: how often each is called before.

    Returns:
        For each name the median time of a call in microseconds.
    """
    for _ in range(warmup):
        for call in calls.values():
            call()
    return _in_turn(calls, range(rounds), untimed=0, timed=1)


def _rounds_for(seconds: float) -> Iterator[int]:
    end, number = time.perf_counter() + seconds, 0
    while number < 3 or time.perf_counter() < end:
        yield number
        number += 1


def _in_turn(
    calls: Mapping[Key, Callable[[], Any]], rounds: Iterable[int], *, untimed: int, timed: int
) -> dict[Key, float]:
    """Median microseconds of each call; in every round each is called untimed, and then timed, in a row."""
    stamps: dict[Key, list[list[float]]] = {key: [] for key in calls}
    for _ in rounds:
        for key, call in calls.items():
            for _ in range(untimed):
                call()
            stamps[key].append(_stamps(call, timed))
    return {key: 1e6 * float(np.median(np.diff(each))) for key, each in stamps.items()}
