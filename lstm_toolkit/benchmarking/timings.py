"""Times of models as values, and how two of them compare."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

CONFIDENCE = 0.95
"""Of the intervals: the least chance that they hold the true median."""

COLUMNS = ("invoke", "call", "cold")
"""What is timed: a model on inputs that it holds; the same with its inputs copied in and its outputs copied out; and
this between other work, which takes the caches. The first two are calls in a row."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Times of one column of one model, in microseconds a call.

    Attributes:
        median, quartile_1, quartile_3, percentile_90: over all timed calls.
        throughput: calls a second in the median round.
        calls: number of timed calls.
        rounds: the median of each round.
    """

    median: float
    quartile_1: float
    quartile_3: float
    percentile_90: float
    throughput: float
    calls: int
    rounds: tuple[float, ...]

    @classmethod
    def of(cls, blocks: Sequence[np.ndarray]) -> Timing:
        """The timing of blocks of calls, one a round, each with the microseconds of every call."""
        calls = np.concatenate(blocks)
        quartile_1, median, quartile_3, percentile_90 = map(float, np.percentile(calls, [25, 50, 75, 90]))
        throughput = 1e6 / float(np.median([block.mean() for block in blocks]))
        rounds = tuple(float(np.median(block)) for block in blocks)
        return cls(median, quartile_1, quartile_3, percentile_90, throughput, len(calls), rounds)


@dataclasses.dataclass(frozen=True)
class ModelTiming:
    """One model's row. A figure that a model does not have is None.

    Attributes:
        name: unlike that of any other.
        kind: "file", "Keras model" or "callable".
        call: of a file, with copies of its inputs and outputs; or a call of a Keras model or a callable.
        first_call: of a model just loaded, in microseconds: for a file the median over the rounds, for others, which
            cannot be loaded anew, the only one.
        invoke: of a file, without copies.
        cold: of calls as in `call`, each after other work, which has taken the caches; None in results of 1.0.0.
        load: reading a file, allocating and copying the inputs in, in microseconds, median over the rounds.
        size: bytes of a file.
        num_threads: of a file's interpreter.
        peak_memory: bytes that loading and running a file add to a process; None also where they were not measured.
        inputs: shape of each input by name.
    """

    name: str
    kind: str
    call: Timing
    first_call: float
    invoke: Timing | None = None
    cold: Timing | None = None
    load: float | None = None
    size: int | None = None
    num_threads: int | None = None
    peak_memory: int | None = None
    inputs: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    @property
    def timing(self) -> Timing:
        """In a row, and without copies if that was timed."""
        return self.invoke or self.call


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as long one model takes as another.

    Attributes:
        name, baseline: the two models.
        column: one of `COLUMNS`.
        ratio: median over the rounds of the time of `name` by that of `baseline`.
        low, high: ends of the interval of that median at `CONFIDENCE`; 0 and infinity with fewer than 6 rounds.
        smallest_effect: a difference counts if the whole interval is farther than this from 1.
    """

    name: str
    baseline: str
    column: str
    ratio: float
    low: float
    high: float
    smallest_effect: float

    @property
    def verdict(self) -> str:
        """Says "slower", "faster", or "no difference" and why."""
        if self.high == math.inf:
            return "no difference can be told in fewer than 6 runs"
        if self.low <= 1 <= self.high:
            return "no difference: the interval holds 1"
        if self.low > 1 + self.smallest_effect:
            return "slower"
        if self.high < 1 / (1 + self.smallest_effect):
            return "faster"
        return f"no difference of {100 * self.smallest_effect:g}% or more"

    def __str__(self) -> str:
        return f"{self.ratio:#.4g} [{self.low:#.4g}, {self.high:#.4g}]"


@dataclasses.dataclass(frozen=True)
class Overhead:
    """What the stopwatch adds to a call: the fastest model is also run in a bare loop, next to its timed calls.

    Attributes:
        name: of that model.
        bare: microseconds a call in a loop that only calls, median over the rounds.
        timed: the same with the clock read after every call, as in all figures of the benchmark.
        share: how much longer a timed call takes, as a share of the bare one, median over the rounds; below 0 if noise
            hides it.
    """

    name: str
    bare: float
    timed: float
    share: float

    def __str__(self) -> str:
        return f"{self.share:.1%} to a call of {self.name}, which takes {self.bare:.2f} µs in a bare loop"


def ratio_of(above: ModelTiming, below: ModelTiming, smallest_effect: float, column: str | None = None) -> Ratio:
    """Compares two models, round by round; see `BenchmarkResult.ratio`."""
    pair = above, below
    if column is None:
        column = "call" if any(model.invoke is None for model in pair) else "invoke"
    if column not in COLUMNS:
        raise ValueError(f"column must be one of {', '.join(COLUMNS)}, got {column!r}")
    timings = [getattr(model, column) for model in pair]
    if None in timings and column == "invoke":
        raise ValueError("only files have the column 'invoke'; compare by 'call'")
    if None in timings:
        raise ValueError("not all were timed cold; compare by 'call'")
    logarithms = np.log(np.divide(*(timing.rounds for timing in timings)))
    middle, low, high = (math.exp(value) for value in median_interval(logarithms))
    return Ratio(above.name, below.name, column, middle, low, high, smallest_effect)


def median_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """The median of a sample, and an interval that holds the true median with a chance of at least `CONFIDENCE`.

    The ends are the order statistics of the sign test: no distribution is taken for granted, and single far values move
    nothing. They are infinite for fewer than 6 values, which cannot give that confidence.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count, below, rank = len(ordered), 0.0, 0
    # A tail of the binomial distribution: the chance that at most `rank` values lie on one side of the median.
    while rank <= count and (below := below + math.comb(count, rank) / 2**count) <= (1 - CONFIDENCE) / 2:
        rank += 1
    if rank == 0:
        return float(np.median(ordered)), -math.inf, math.inf
    return float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[count - rank])
