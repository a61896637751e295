"""What `benchmark` returns: times, ratios with their intervals, and its own overhead, as frozen values."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.tflite.files import write_whole

if TYPE_CHECKING:
    from lstm_toolkit.display.picture import Picture

CONFIDENCE = 0.95
"""Of the intervals: the least chance that they hold the true median."""

COLUMNS = ("invoke", "call")
"""What is timed: a model on inputs that it holds, and the same with its inputs copied in and its outputs copied out."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Times of one column of one model, in microseconds a call.

    Attributes:
        median, quartile_1, quartile_3, percentile_90: over all timed calls.
        throughput: calls a second in the round that is the median of this.
        calls: how many were timed.
        rounds: median of the calls of each round.
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
    """One model's row.

    Attributes:
        name: unlike that of any other.
        kind: "file", "Keras model" or "callable".
        call: with copies of inputs and outputs, or what a call of a Keras model or a callable is.
        first_call: of a model just loaded, in microseconds; the median over the rounds for a file, the only one for
            what cannot be loaded anew.
        invoke: without copies; None for what is no file.
        load: reading the file, allocating and copying the inputs in, in microseconds, median over the rounds; None for
            what is no file.
        size: bytes of the file, or None.
        num_threads: of the interpreter, or None for what has none.
        peak_memory: bytes that loading and running the file add to a process, or None where it was not measured.
        inputs: shape of each input by name.
    """

    name: str
    kind: str
    call: Timing
    first_call: float
    invoke: Timing | None = None
    load: float | None = None
    size: int | None = None
    num_threads: int | None = None
    peak_memory: int | None = None
    inputs: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as long one model takes as another.

    Attributes:
        name, baseline: the two models.
        column: "invoke" where both have it, else "call".
        ratio: median over the rounds of the time of `name` by that of `baseline`.
        low, high: ends of the interval of that median at `CONFIDENCE`; 0 and infinity with fewer than 6 rounds.
        smallest_effect: what the ratio must differ from 1 by, for all of the interval, to count as a difference.
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
        """ "slower", "faster", or "no difference" and why."""
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
        timed: the same, with the clock read after every call, as all figures of the benchmark are taken.
        share: median over the rounds of timed by bare, less 1; below 0 where noise hides it.
    """

    name: str
    bare: float
    timed: float
    share: float

    def __str__(self) -> str:
        return f"{self.share:.1%} to a call of {self.name}, which takes {self.bare:.2f} µs in a bare loop"


@dataclasses.dataclass(frozen=True, repr=False)
class BenchmarkResult(Tabular):
    """Models side by side; what `benchmark` measured.

    Printed, it is a table; in a notebook, an HTML table. Times are in microseconds, also in JSON and CSV.

    Attributes:
        models: one row a model, in the order given.
        baseline: name of the model that the ratios are to.
        smallest_effect: see `Ratio`.
        overhead: of the benchmark itself.
        runs: rounds in which every model was timed.
        seed: of the inputs and of the order within the rounds.
        notes: what a reader must know of these figures.
    """

    models: tuple[ModelTiming, ...]
    baseline: str
    smallest_effect: float
    overhead: Overhead
    runs: int
    seed: int
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> ModelTiming:
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(f"the models are {[model.name for model in self.models]}, got {name!r}")

    def ratio(self, name: str, baseline: str | None = None, *, column: str | None = None) -> Ratio:
        """Compares two models, round by round.

        Args:
            name: the model above the line.
            baseline: the one below; None is that of the result.
            column: "invoke" or "call"; None is "invoke" where both models have it.

        Raises:
            KeyError: if there is no such model.
            ValueError: if there is no such column, or one of the models does not have it.
        """
        pair = self[name], self[self.baseline if baseline is None else baseline]
        if column is None:
            column = "call" if any(model.invoke is None for model in pair) else "invoke"
        if column not in COLUMNS:
            raise ValueError(f"column must be one of {', '.join(COLUMNS)}, got {column!r}")
        above, below = (getattr(model, column) for model in pair)
        if above is None or below is None:
            raise ValueError("only files have the column 'invoke'; compare by 'call'")
        logarithms = np.log(np.divide(above.rounds, below.rounds))
        ratio, low, high = (math.exp(value) for value in median_interval(logarithms))
        return Ratio(name, pair[1].name, column, ratio, low, high, self.smallest_effect)

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Of every other model to the baseline."""
        return tuple(self.ratio(model.name) for model in self.models if model.name != self.baseline)

    def tables(self) -> tuple[Table, ...]:
        """The models, and under them the ratios."""
        rows = [_row(model) for model in self.models]
        tables = [Table(f"Median time of a call, {self.runs} rounds", _HEADER, rows)]
        if len(self.models) > 1:
            compared = [(ratio.name, ratio.column, str(ratio), ratio.verdict) for ratio in self.ratios]
            title = f"Times as long as {self.baseline}, with {CONFIDENCE:.0%} intervals"
            tables.append(Table(title, ("model", "column", "ratio", "verdict"), compared))
        return tuple(tables)

    def __repr__(self) -> str:
        return "\n\n".join([super().__repr__(), "\n".join(self._all_notes())])

    def _repr_html_(self) -> str:
        return super()._repr_html_() + "".join(f"<p>{html.escape(note)}</p>" for note in self._all_notes())

    def _all_notes(self) -> tuple[str, ...]:
        return (f"The stopwatch adds {self.overhead}.", *self.notes)

    def to_dict(self) -> dict[str, Any]:
        """The result as values that JSON can hold, with the ratios; `from_dict` is the way back."""
        ratios = [dataclasses.asdict(ratio) | {"verdict": ratio.verdict} for ratio in self.ratios]
        for ratio in ratios:
            ratio["high"] = None if ratio["high"] == math.inf else ratio["high"]
        return {"unit": "microseconds", **dataclasses.asdict(self), "ratios": ratios}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BenchmarkResult:
        """The result that `to_dict` gave, also after a way through JSON."""
        own = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        own["models"] = tuple(_model_timing(model) for model in values["models"])
        return cls(**own | {"overhead": Overhead(**values["overhead"]), "notes": tuple(values["notes"])})

    def to_json(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """One line a model, with the ratio to the baseline; an empty cell is a figure that does not exist.

        Args:
            path: where to write it also, in UTF-8.

        Raises:
            OSError: if it cannot be written.
        """
        text = io.StringIO()
        records = [self._record(model) for model in self.models]
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        if path is not None:
            write_whole(path, text.getvalue().encode())
        return text.getvalue()

    def _record(self, model: ModelTiming) -> dict[str, Any]:
        simple = ("name", "kind", "size", "num_threads", "load", "first_call", "peak_memory")
        record = {name: getattr(model, name) for name in simple}
        for column in COLUMNS:
            timing = getattr(model, column)
            for field in dataclasses.fields(Timing)[:-1]:
                record[f"{column}_{field.name}"] = None if timing is None else getattr(timing, field.name)
        ratio = None if model.name == self.baseline else self.ratio(model.name)
        for name in ("column", "ratio", "low", "high", "verdict"):
            record[name] = None if ratio is None else getattr(ratio, name)
        return record | {"baseline": self.baseline}

    def plot(self) -> Picture:
        """Bars of the median time with and without copies; a line from the first to the third quartile."""
        from lstm_toolkit.benchmarking.plots import bars

        return bars(self)

    def pareto(self, errors: Mapping[str, float | None] | None = None) -> Picture:
        """Time against error and size of the file, marking the models that no other beats in all of them.

        Args:
            errors: of the models, by name, as whatever the caller measures; a model that is not in it, or has None, is
                left out. None: time against size alone.

        Raises:
            ValueError: for a name that is no model's, or if nothing is left to draw.
        """
        from lstm_toolkit.benchmarking.plots import pareto

        return pareto(self, errors)


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


def _model_timing(values: Mapping[str, Any]) -> ModelTiming:
    timings = {
        column: None if (each := values[column]) is None else Timing(**{**each, "rounds": tuple(each["rounds"])})
        for column in COLUMNS
    }
    inputs = {name: tuple(shape) for name, shape in values["inputs"].items()}
    return ModelTiming(**{**values, **timings, "inputs": inputs})


_HEADER = (
    *("model", "invoke µs", "with copies µs", "quartiles µs", "90 % µs", "calls/s", "load ms", "first call ms"),
    *("peak MB", "bytes", "threads"),
)


def _row(model: ModelTiming) -> tuple[str, ...]:
    timing = model.invoke or model.call
    return (
        model.name,
        _text(model.invoke.median if model.invoke else None),
        _text(model.call.median),
        f"{timing.quartile_1:,.2f} to {timing.quartile_3:,.2f}",
        _text(timing.percentile_90),
        f"{timing.throughput:,.0f}",
        _text(model.load, 1e3),
        _text(model.first_call, 1e3),
        _text(model.peak_memory, 1e6),
        "–" if model.size is None else f"{model.size:,}",
        "–" if model.num_threads is None else str(model.num_threads),
    )


def _text(value: float | None, unit: float = 1.0) -> str:
    return "–" if value is None else f"{value / unit:,.2f}"
