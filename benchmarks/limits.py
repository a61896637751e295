"""The time that no library can beat on this machine: reading the weights from the caches, and multiplying at peak."""

import dataclasses
import functools
import time
from collections.abc import Callable

import numpy as np
from peer_models import Case


@dataclasses.dataclass(frozen=True)
class Limit:
    """Least times of a case, in microseconds, on all its threads.

    Attributes:
        reading: of the recurrent weights, float32, once a step.
        reading_int8: the same at one byte a weight.
        arithmetic: of all multiplications and additions of the matrix products, float32.
        bandwidth: of the cache that holds the weights, in GB/s, one thread.
        peak: in GFLOP/s, one thread.
    """

    reading: float
    reading_int8: float
    arithmetic: float
    bandwidth: float
    peak: float

    @property
    def least(self) -> float:
        """Microseconds that a call takes at least with float32 weights: whichever of the two is longer."""
        return max(self.reading, self.arithmetic)


def limit(case: Case) -> Limit:
    """Measures bandwidth and peak, on one thread, and works out the least times.

    A second thread is taken to double both. Each step depends on the one before, so the recurrent weights, which exceed
    the registers, are read again at every step. A batch shares the reading.
    """
    weights = 4 * case.units * case.units
    own = bandwidth(max(4 * weights, 1 << 15)), bandwidth(max(weights, 1 << 15))
    read = case.time * case.directions * weights / case.threads
    products = 2 * case.batch * case.time * case.directions * 4 * case.units * (case.input + case.units)
    return Limit(
        reading=1e6 * 4 * read / own[0],
        reading_int8=1e6 * read / own[1],
        arithmetic=1e6 * products / case.threads / peak(),
        bandwidth=own[0] / 1e9,
        peak=peak() / 1e9,
    )


@functools.cache
def bandwidth(size: int) -> float:
    """Bytes a second at which so many bytes are read again and again: NumPy's vectorized maximum, at its best."""
    values = np.random.default_rng(0).normal(size=size // 4).astype(np.float32)
    turns = max(2, 8_000_000 // size)
    # One call reads the same memory many times over, so that its own overhead does not count.
    repeated = np.broadcast_to(values, (turns, len(values)))
    return turns * size / _best(lambda: np.maximum.reduce(repeated, axis=1))


@functools.cache
def peak() -> float:
    """Floating-point operations a second of a product of two 768 x 768 matrices, float32, at its best."""
    matrix = np.random.default_rng(0).normal(size=(768, 768)).astype(np.float32)
    return 2 * 768**3 / _best(lambda: matrix @ matrix)


def _best(call: Callable[[], object], count: int = 40) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
