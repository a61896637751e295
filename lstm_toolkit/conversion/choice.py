"""`lowering="auto"`: converts a model in every way there is, times the files on this machine, and takes the fastest.

What is fastest depends on the sizes of the layers, on the processor, and on what its caches hold. Called in a row,
short sequences are fastest unrolled, on `CompiledModel`, and longer ones as a loop. Between other work, which takes the
caches, every op and every packed copy of the weights is read again, and the smaller forms win: the fused op, and the
loop. The files are timed in turn, so that a change of the machine's speed hits all alike.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.errors import ConversionError, LstmToolkitError, ParityError
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.runtime import compare, stopwatch
from lstm_toolkit.runtime.other_work import OtherWork
from lstm_toolkit.runtime.runner import RUNTIMES, Runner

Key = TypeVar("Key")

Outputs = list[dict[str, npt.NDArray[Any]]]
"""The outputs of each sample by name."""

FINALISTS = 1.5
"""Candidates within this factor of the second fastest, in a first short measurement of each, are timed again together:
the fastest may only look so, and would leave nothing to compare it with."""

HEATS = (1.2, 1.1, 1.0)
"""Those within the first factor of the fastest finalist are timed once more, and so on: the fewer are left, the more
often each is called."""

FIRST_SECONDS, HEAT_SECONDS = 0.05, 2.0
"""Seconds that the first measurement of each file takes, and each later one of all together that are left."""

THREADS_GAIN = 1.1
"""How many times as fast more threads have to be: they take processors from the rest of the app."""

SHARE_OF_FIRST = 0.8
"""Share of the budget after which no further file is made."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to convert and to run a model.

    Attributes:
        lowering: "fused", "unrolled" or "loop".
        runtime: "interpreter" or "compiled", of `Runner`.
        steps_per_turn: of a loop; None is what `lower` chooses.
        quantization: None, "dynamic" or "float16".
        num_threads: of `Runner`.
    """

    lowering: str
    runtime: str
    steps_per_turn: int | None = None
    quantization: str | None = None
    num_threads: int = 1

    def __str__(self) -> str:
        steps = f", {self.steps_per_turn} steps a turn" if self.steps_per_turn else ""
        threads = f", {self.num_threads} threads" if self.num_threads > 1 else ""
        return f"{self.lowering}{steps}, {self.quantization or 'float32'}, {self.runtime}{threads}"


@dataclasses.dataclass(frozen=True)
class Trial:
    """What became of a candidate.

    Attributes:
        candidate: the way.
        median: time of a call in a row, in microseconds, inputs copied in and outputs out; None if not timed.
        cold: the same, of a call after other work, which has taken the caches.
        error: largest difference from the float32 file, relative to the largest output; None if it was not run.
        reason: why it was not chosen, or else empty.
    """

    candidate: Candidate
    median: float | None = None
    error: float | None = None
    reason: str = ""
    cold: float | None = None


_TIMES = ("µs in a row", "µs cold")


def time_of(trial: Trial, caches: str) -> float | None:
    """The microseconds that a choice by "cold" or by "hot" caches goes by; None if it was not timed."""
    return trial.cold if caches == "cold" else trial.median


@dataclasses.dataclass(frozen=True, repr=False)
class AutomaticChoice(Tabular):
    """The table that `lowering="auto"` chose from.

    Attributes:
        chosen: the fastest way that is exact, or as exact as `max_error` asks.
        trials: all ways, the fastest first.
        seconds: time that making and timing them took.
        caches: "cold" if it was chosen by the times between other work, "hot" if by those of calls in a row.
    """

    chosen: Candidate
    trials: tuple[Trial, ...]
    seconds: float
    caches: str = "cold"

    def ratio(self, trial: Trial) -> float | None:
        """How many times as long as the chosen candidate a trial takes, by `caches`; None if it was not timed."""
        chosen = next(time_of(each, self.caches) for each in self.trials if each.candidate == self.chosen)
        time = time_of(trial, self.caches)
        return None if time is None or chosen is None else time / chosen

    def tables(self) -> tuple[Table, ...]:
        """One row a candidate."""
        header = ("lowering", "steps a turn", "weights", "runtime", "threads", *_TIMES, "x chosen", "error", "why not")
        title = f"Chosen with {self.caches} caches: {self.chosen}"
        return (Table(title, header, [self._row(each) for each in self.trials]),)

    def _row(self, trial: Trial) -> tuple[str, ...]:
        candidate, ratio = trial.candidate, self.ratio(trial)
        steps = candidate.steps_per_turn or ("default" if candidate.lowering == "loop" else "")
        return (
            candidate.lowering,
            str(steps),
            {None: "float32", "dynamic": "int8"}.get(candidate.quantization, str(candidate.quantization)),
            candidate.runtime,
            str(candidate.num_threads),
            "" if trial.median is None else f"{trial.median:.1f}",
            "" if trial.cold is None else f"{trial.cold:.1f}",
            "" if ratio is None else f"{ratio:.2f}",
            "" if trial.error is None else f"{trial.error:.0e}",
            trial.reason,
        )

    def to_dict(self) -> dict[str, Any]:
        """The choice as values that JSON can hold."""
        trials = [dataclasses.asdict(each) | {"ratio": self.ratio(each)} for each in self.trials]
        return {"chosen": dataclasses.asdict(self.chosen), "caches": self.caches, "trials": trials} | {
            "seconds": self.seconds
        }


def candidates(
    *,
    quantizations: Sequence[str | None] = (None,),
    fused: bool = True,
    steps_per_turn: Sequence[int | None] = (None, 4, 20),
) -> tuple[Candidate, ...]:
    """The ways to try. Those come last whose file takes longest to make: thousands of ops take seconds.

    Args:
        quantizations: of the weights.
        fused: whether there is a fused op for every layer.
        steps_per_turn: of loops; None is what `lower` chooses.
    """
    forms = [*[("loop", steps) for steps in steps_per_turn], ("unrolled", None)]
    ways = [(lowering, runtime, steps) for lowering, steps in forms for runtime in sorted(RUNTIMES)]
    if fused:  # `CompiledModel` refuses it
        ways.insert(0, ("fused", "interpreter", None))
    return tuple(Candidate(*way, quantization) for way in ways for quantization in quantizations)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the choice goes by.

    Attributes:
        max_error: largest relative error of a quantized candidate; None means no limit. Others have to agree as
            closely as a file with its source.
        time_budget: seconds after which no further candidate is tried.
        caches: "cold" or "hot"; see `AutomaticChoice`.
        threads: numbers above 1, on which the finalists are timed too.
    """

    max_error: float | None = None
    time_budget: float = 30.0
    caches: str = "cold"
    threads: tuple[int, ...] = ()


def choose(
    ways: Sequence[Candidate],
    runner_of: Callable[[Candidate], Runner],
    reference: Runner,
    samples: Samples,
    *,
    limits: Limits,
    confirm: Callable[[Candidate], Any] = lambda _: None,
) -> AutomaticChoice:
    """Makes, checks and times candidates, and takes the fastest.

    Args:
        ways: the candidates, in the order in which they are tried.
        runner_of: makes the file of a candidate and loads it; it may raise any `LstmToolkitError`.
        reference: the float32 file that others are compared with.
        samples: inputs by name, to compare on; calls are timed on the first.
        limits: of errors and of time.
        confirm: raises `ParityError` where the chosen candidate fails in comparison with the source; then it is the
            next one's turn.

    Raises:
        ConversionError: if no candidate is left.
    """
    start, expected = time.perf_counter(), _outputs(reference, samples)
    reference_call, other_work = reference.bound(**samples[0])[1], OtherWork()
    calls: dict[Candidate, Callable[[], Any]] = {}
    trials: dict[Candidate, Trial] = {}

    def measured(way: Candidate) -> float:
        """Makes, checks and shortly times a way; returns how many times as long it takes as the reference.

        The two are timed in turn, since the machine may be slower for one way than for the next. Infinite is out.
        """
        try:
            runner = runner_of(way)
            actual = _outputs(runner, samples)
        except (LstmToolkitError, RuntimeError) as refusal:  # a runtime raises RuntimeError
            trials[way] = Trial(way, reason=str(refusal))
            return math.inf
        trials[way] = _checked(way, expected, actual, limits.max_error)
        if trials[way].reason:
            return math.inf
        calls[way] = runner.bound(**samples[0])[1]
        found = _times({way: calls[way], None: reference_call}, other_work, FIRST_SECONDS, limits.caches)
        trials[way] = _timed(trials[way], found[way])
        column = ("hot", "cold").index(limits.caches)
        return found[way][column] / found[None][column]

    times = {}
    for way in ways:
        if calls and time.perf_counter() - start > SHARE_OF_FIRST * limits.time_budget:
            trials[way] = Trial(way, reason=f"not tried: the time budget of {limits.time_budget:g} s was spent")
        else:
            times[way] = measured(way)
    most = FINALISTS * (sorted(times.values())[1:2] or [math.inf])[0]
    left = [way for way in calls if times[way] <= most]
    on_more = [dataclasses.replace(way, num_threads=number) for way in left for number in limits.threads]
    left += [way for way in on_more if measured(way) <= most and way in calls]

    def place(trial: Trial) -> tuple[bool, float]:
        microseconds = time_of(trial, limits.caches)
        return microseconds is None, (microseconds or 0.0) * (THREADS_GAIN if trial.candidate.num_threads > 1 else 1.0)

    heats = dict.fromkeys(calls, 0)
    for heat, factor in enumerate(HEATS, start=1):
        seconds = limits.time_budget - (time.perf_counter() - start)
        if len(left) < 2 or seconds <= 0:
            break
        found = _times({way: calls[way] for way in left}, other_work, min(HEAT_SECONDS, seconds), limits.caches)
        trials |= {way: _timed(trials[way], found[way]) for way in left}
        heats |= dict.fromkeys(left, heat)
        _, best = min(place(trials[way]) for way in left)
        left = [way for way in left if place(trials[way]) <= (False, factor * best)]

    # A later, longer measurement is not compared with an earlier one of those that were left behind.
    for way in sorted(calls, key=lambda each: (-heats[each], place(trials[each]))):
        try:
            confirm(way)
        except ParityError as refusal:
            trials[way] = dataclasses.replace(trials[way], reason=str(refusal))
            continue
        ordered = tuple(sorted(trials.values(), key=place))
        return AutomaticChoice(way, ordered, time.perf_counter() - start, limits.caches)
    reasons = "; ".join(f"{trial.candidate}: {trial.reason}" for trial in trials.values())
    raise ConversionError(f"no lowering is left to choose from: {reasons}")


def _times(
    calls: Mapping[Key, Callable[[], Any]], other_work: OtherWork, seconds: float, caches: str
) -> dict[Key, tuple[float, float]]:
    """Microseconds of calls in turn, in a row and between other work; two thirds of the time go to what counts."""
    share = {"hot": 2 / 3, "cold": 1 / 3}[caches]
    hot = stopwatch.stopwatch(calls, share * seconds)
    cold = stopwatch.cold_stopwatch(calls, other_work, (1 - share) * seconds)
    return {key: (hot[key], cold[key]) for key in calls}


def _timed(trial: Trial, times: tuple[float, float]) -> Trial:
    return dataclasses.replace(trial, median=times[0], cold=times[1])


def _checked(way: Candidate, expected: Outputs, actual: Outputs, max_error: float | None) -> Trial:
    """A candidate whose outputs were compared, not timed yet; with the reason if it is not exact enough."""
    error, reason = _relative_error(expected, actual), ""
    if way.quantization is not None:
        if max_error is not None and error > max_error:
            reason = f"its error of {error:.2g} is above the max_error of {max_error:g}"
        return Trial(way, error=error, reason=reason)
    try:
        for call, (wanted, given) in enumerate(zip(expected, actual, strict=True), start=1):
            compare.compare(wanted, given, call=call)
    except ParityError as found:
        reason = str(found)
    return Trial(way, error=error, reason=reason)


def _outputs(runner: Runner, samples: Samples) -> Outputs:
    return [runner.outputs(**sample) for sample in samples]


def _relative_error(expected: Outputs, actual: Outputs) -> float:
    """Largest error of any output over all samples, relative to the largest value of that output, where above 0."""
    worst = 0.0
    for name in expected[0]:
        wanted, given = (np.stack([each[name] for each in results]) for results in (expected, actual))
        error, largest = compare.difference(wanted, given)
        worst = max(worst, error / largest if largest else error)
    return worst
