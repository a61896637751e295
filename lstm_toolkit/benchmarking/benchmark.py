"""`benchmark`: times files, Keras models and callables side by side, in turn, and says which differences are real."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from lstm_toolkit.benchmarking.peak_memory import peak_memory
from lstm_toolkit.benchmarking.result import BenchmarkResult
from lstm_toolkit.benchmarking.subjects import Subject, named_models, subjects
from lstm_toolkit.benchmarking.timings import COLUMNS, ModelTiming, Overhead, Timing
from lstm_toolkit.process_state import no_garbage_collection
from lstm_toolkit.runtime.other_work import OtherWork
from lstm_toolkit.runtime.stopwatch import calls_between, timed_calls

COLD_CALLS = 3
"""Calls of a model in one round that have other work in front of them."""

BLOCK = 1000.0
"""Microseconds that the timed calls of one column in one round last at least, when they are in a row."""

NOTES = (
    "invoke: the interpreter alone, without copies of inputs and outputs. with copies: inputs copied in, invoke, "
    "outputs copied out; or what a call of a Keras model or a callable is.",
    "cold: a call with copies after other work, as in an app that calls a model once a frame. The other columns are of "
    "calls in a row, in which weights and code stay in the caches.",
    "Quartiles, 90 % and calls/s are those of invoke, or of a call where there is none.",
    "No time per op: LiteRT's Python interpreter gives no access to its profiler.",
)
"""Notes of every result."""


def benchmark(  # noqa: PLR0913 (public)
    models: Any,
    *,
    inputs: Any = None,
    num_threads: int = 1,
    runs: int = 50,
    warmup: int = 10,
    baseline: str | None = None,
    smallest_effect: float = 0.01,
    memory: bool = False,
    seed: int = 0,
    progress: bool | None = None,
) -> BenchmarkResult:
    """Times models side by side.

    Args:
        models: a mapping from name to model, or a list or tuple of models, or one model. A model is the bytes or the
            path of a `.tflite` file, a `Conversion`, a `Runner` (a new one with its options is timed, so that it keeps
            its state), a Keras 3 or tf_keras model (called on tensors), or any callable.
        inputs: an array for models with one input; a mapping from input name to array; or a mapping from model name to
            either, where models take different ones. None: random ones, equal for models whose inputs have equal
            places, shapes and dtypes; open sizes are 16 then, and the notes say so. A callable gets one input as its
            argument and several as keyword arguments (with None those of the first file or Keras model), or nothing if
            it takes none.
        num_threads: threads that each interpreter may use. A `Runner` has its own number.
        runs: rounds. In every round each model is timed once.
        warmup: untimed calls of each model before the first round, and at most that many before its timed calls in a
            row in each round.
        baseline: name of the model that the others are compared with; None is the first.
        smallest_effect: a difference counts if the whole interval is farther than this from 1.
        memory: whether to measure peak memory too, which starts one process a file.
        seed: of the random inputs and of the order of the models in each round.
        progress: whether to show a bar on standard error; None: if that is a terminal.

    Method: in each round the models come in random order, so that drift of the machine and the neighbour in the order
    hit all alike. Every file is loaded anew each round: where a copy lies in memory moves a short model's time by up to
    2 percent, and one copy a model would show that as a difference between two equal files. After the first call and
    untimed calls, calls are timed one by one for at least a millisecond, without copies, with copies, and between other
    work, in random order. Other work is the reading of a buffer twice as large as the machine's last-level cache; it is
    in no figure, and a note says how large it was. A ratio is the median over the rounds of the two models' medians in
    a round; its interval is that of the sign test. Garbage collection is off meanwhile.

    Overhead: next to the timed calls of the fastest model, as many are made in a loop that only calls; `overhead` of
    the result compares the two.

    Returns:
        Frozen times, ratios and notes, as a table, JSON, CSV and pictures.

    Raises:
        InvalidModelError: if a file cannot be run.
        TypeError: for anything that is not a model.
        ValueError: for inputs that do not fit, a model that fails on them, or options that are out of range. All
            messages name the model or the option.
    """
    models = named_models(models)
    _check_options(models, baseline, runs=runs, warmup=warmup, num_threads=num_threads, smallest_effect=smallest_effect)
    ready = subjects(models, inputs, num_threads=num_threads, seed=seed)
    other_work = OtherWork()
    with no_garbage_collection():
        arms = [_warmed_up(subject, warmup) for subject in ready]
        fastest = min(arms, key=lambda arm: arm.estimate)
        random = np.random.default_rng(seed)
        for _ in _rounds(runs, progress=progress):
            for number in random.permutation(len(arms)):
                arms[number].time_round(random, warmup, other_work, bare=arms[number] is fastest)
    peaks = [peak_memory(each.runner, each.inputs) if memory and each.runner else None for each in ready]
    return BenchmarkResult(
        models=tuple(arm.timing(peak) for arm, peak in zip(arms, peaks, strict=True)),
        baseline=next(iter(models)) if baseline is None else baseline,
        smallest_effect=smallest_effect,
        overhead=fastest.overhead(),
        runs=runs,
        seed=seed,
        notes=(*NOTES, f"Other work: {other_work}.", *(note for subject in ready for note in subject.notes)),
    )


def _check_options(models: dict[str, Any], baseline: str | None, *, smallest_effect: float, **counts: int) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < (name != "warmup"):
            raise ValueError(f"{name} must be a {'' if name == 'warmup' else 'positive '}count, got {count!r}")
    if not 0 <= smallest_effect < math.inf:
        raise ValueError(f"smallest_effect must be a number from 0 on, such as 0.01, got {smallest_effect!r}")
    if baseline is not None and baseline not in models:
        raise ValueError(f"baseline must be one of {list(models)}, got {baseline!r}")


@dataclasses.dataclass
class _Arm:
    """One model on its way through the rounds, and what was measured so far. All times are in microseconds."""

    subject: Subject
    estimate: float
    loads: list[float] = dataclasses.field(default_factory=list)
    first_calls: list[float] = dataclasses.field(default_factory=list)
    blocks: dict[str, list[npt.NDArray[np.float64]]] = dataclasses.field(
        default_factory=lambda: {column: [] for column in COLUMNS}
    )
    bare: list[float] = dataclasses.field(default_factory=list)

    @property
    def calls(self) -> int:
        """Timed calls of a column in a round."""
        return max(1, math.ceil(BLOCK / max(self.estimate, 0.1)))

    def time_round(self, random: np.random.Generator, warmup: int, other_work: OtherWork, *, bare: bool) -> None:
        """Loads the model where it can be, and times its columns in random order."""
        load = self.subject.place()
        start = time.perf_counter()
        invoke, call = load()
        loaded = time.perf_counter()
        if self.subject.runner:
            call()
            self.loads.append(1e6 * (loaded - start))
            self.first_calls.append(1e6 * (time.perf_counter() - loaded))
        columns = {column: timed for column, timed in zip(COLUMNS, (invoke, call, call), strict=True) if timed}
        fastest = next(iter(columns))
        for column in random.permutation(list(columns)):
            timed = columns[column]
            if column == "cold":
                self.blocks[column].append(calls_between(timed, other_work, COLD_CALLS))
                continue
            for _ in range(min(max(warmup, 1), self.calls)):
                timed()
            before = bool(random.integers(2))
            if bare and column == fastest and before:
                self.bare.append(bare_loop(timed, self.calls))
            self.blocks[column].append(timed_calls(timed, self.calls))
            if bare and column == fastest and not before:
                self.bare.append(bare_loop(timed, self.calls))

    def timing(self, peak_memory: int | None) -> ModelTiming:
        """The figures of all rounds."""
        timings = {column: Timing.of(blocks) for column, blocks in self.blocks.items() if blocks}
        runner = self.subject.runner
        return ModelTiming(
            name=self.subject.name,
            kind=self.subject.kind,
            call=timings["call"],
            invoke=timings.get("invoke"),
            cold=timings["cold"],
            load=float(np.median(self.loads)) if self.loads else None,
            first_call=float(np.median(self.first_calls)),
            size=len(runner.tflite) if runner else None,
            num_threads=runner.options["num_threads"] if runner else None,
            peak_memory=peak_memory,
            inputs={name: array.shape for name, array in self.subject.inputs.items()},
        )

    def overhead(self) -> Overhead:
        """Of the timed calls over those of the bare loop beside them; only for the model that had one."""
        timed = [float(block.mean()) for block in self.blocks["invoke"] or self.blocks["call"]]
        share = float(np.median(np.divide(timed, self.bare))) - 1
        return Overhead(self.subject.name, float(np.median(self.bare)), float(np.median(timed)), share)


def bare_loop(call: Callable[[], Any], count: int) -> float:
    """Microseconds a call of a loop that does nothing but call."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return 1e6 * (time.perf_counter() - start) / count


def _warmed_up(subject: Subject, warmup: int) -> _Arm:
    """The first calls, which show whether the model runs and how long it takes."""
    try:
        invoke, call = subject.place()()
        first = float(timed_calls(call, 1)[0])
        times = timed_calls(invoke or call, max(warmup, 1))
    except Exception as error:  # whatever the caller's model raises
        shapes = {name: list(array.shape) for name, array in subject.inputs.items()}
        raise ValueError(
            f"model {subject.name!r} fails on inputs of the shapes {shapes}: {type(error).__name__}: {error}"
        ) from error
    arm = _Arm(subject, float(np.median(times)))
    if not subject.runner:
        arm.first_calls.append(first)
    return arm


def _rounds(runs: int, *, progress: bool | None) -> Iterator[int]:
    """The numbers of the rounds, with a bar where it is wanted."""
    if not (sys.stderr.isatty() if progress is None else progress):
        yield from range(runs)
        return
    with click.progressbar(range(runs), label="benchmark", file=sys.stderr) as rounds:
        yield from rounds
