"""Times calls in turn."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

Key = TypeVar("Key")


def stopwatch(calls: Mapping[Key, Callable[[], Any]], seconds: float) -> dict[Key, float]:
    """Median microseconds of each call; in every round each is called a few times in a row, in turn.

    Args:
        calls: functions without arguments.
        seconds: when to stop, after three rounds at least.
    """
    times: dict[Key, list[float]] = {key: [] for key in calls}
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < end:
        for key, call in calls.items():
            call()  # brings its weights back into the caches
            for _ in range(3):
                start = time.perf_counter()
                call()
                times[key].append(time.perf_counter() - start)
        rounds += 1
    return {key: 1e6 * float(np.median(values)) for key, values in times.items()}
