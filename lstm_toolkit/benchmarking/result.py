"""What `benchmark` returns: a frozen value that is tables, JSON, CSV and pictures."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lstm_toolkit.benchmarking.timings import COLUMNS, CONFIDENCE, ModelTiming, Overhead, Ratio, Timing, ratio_of
from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.escapes import in_csv, in_html, json_text, printable_lines
from lstm_toolkit.tflite.files import write_whole

if TYPE_CHECKING:
    from lstm_toolkit.display.picture import Picture


@dataclasses.dataclass(frozen=True, repr=False)
class BenchmarkResult(Tabular):
    """Models side by side; what `benchmark` measured.

    Printed, it is a table; in a notebook, an HTML table. Times are in microseconds, also in JSON and CSV.

    Attributes:
        models: one row a model, in the order given.
        baseline: name of the model that the others are compared with.
        smallest_effect: see `Ratio`.
        overhead: of the benchmark itself.
        runs: rounds in which every model was timed.
        seed: of the inputs and of the order within the rounds.
        notes: what a reader must know about these figures.
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
            column: "invoke", "call" or "cold"; None is "invoke" where both models have it, else "call".

        Raises:
            KeyError: if there is no such model.
            ValueError: if there is no such column, or one of the models does not have it.
        """
        below = self[self.baseline if baseline is None else baseline]
        return ratio_of(self[name], below, self.smallest_effect, column)

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Of every other model to the baseline, calls in a row."""
        return tuple(self.ratio(model.name) for model in self.models if model.name != self.baseline)

    @property
    def cold_ratios(self) -> tuple[Ratio, ...]:
        """Of every other model to the baseline, calls between other work; empty where these were not timed."""
        if any(model.cold is None for model in self.models):
            return ()
        return tuple(self.ratio(model.name, column="cold") for model in self.models if model.name != self.baseline)

    def tables(self) -> tuple[Table, ...]:
        """The models, and under them the ratios."""
        names, rows = [model.name for model in self.models], [_row(model) for model in self.models]
        tables = [Table(f"Median time of a call, {self.runs} rounds", _HEADER, rows)]
        if len(self.models) > 1:
            ratios = sorted(self.ratios + self.cold_ratios, key=lambda ratio: names.index(ratio.name))
            compared = [(ratio.name, ratio.column, str(ratio), ratio.verdict) for ratio in ratios]
            title = f"Times as long as {self.baseline}, with {CONFIDENCE:.0%} intervals"
            tables.append(Table(title, ("model", "column", "ratio", "verdict"), compared))
        return tuple(tables)

    def __repr__(self) -> str:
        return "\n\n".join([super().__repr__(), printable_lines("\n".join(self._all_notes()))])

    def _repr_html_(self) -> str:
        return super()._repr_html_() + "".join(f"<p>{in_html(note)}</p>" for note in self._all_notes())

    def _all_notes(self) -> tuple[str, ...]:
        return (f"The stopwatch adds {self.overhead}.", *self.notes)

    def to_dict(self) -> dict[str, Any]:
        """The result as values that JSON can hold, with the ratios; `from_dict` is the way back."""
        ratios = {"ratios": list(map(_plain, self.ratios)), "cold_ratios": list(map(_plain, self.cold_ratios))}
        return {"unit": "microseconds", **dataclasses.asdict(self), **ratios}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BenchmarkResult:
        """The result that `to_dict` gave, also after a way through JSON."""
        own = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        own["models"] = tuple(_model_timing(model) for model in values["models"])
        return cls(**own | {"overhead": Overhead(**values["overhead"]), "notes": tuple(values["notes"])})

    def to_json(self) -> str:
        """`to_dict` as JSON."""
        return json_text(self.to_dict())

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
        cold = next((each for each in self.cold_ratios if each.name == model.name), None)
        for name in ("ratio", "low", "high", "verdict"):
            record[f"cold_{name}"] = None if cold is None else getattr(cold, name)
        return {name: in_csv(value) for name, value in (record | {"baseline": self.baseline}).items()}

    def plot(self) -> Picture:
        """Bars of the median time without copies, with them, and cold; a line from the first to the third quartile."""
        from lstm_toolkit.benchmarking.plots import bars

        return bars(self.models)

    def pareto(self, errors: Mapping[str, float | None] | None = None) -> Picture:
        """Time against error and size of the file, marking the models that no other beats in all of them.

        Args:
            errors: of the models, by name, as whatever the caller measures; a model that is not in it, or has None, is
                left out. None: time against size alone.

        Raises:
            ValueError: for a name that no model has, or if nothing is left to draw.
        """
        from lstm_toolkit.benchmarking.plots import pareto

        return pareto(self.models, errors, self.smallest_effect)


def _plain(ratio: Ratio) -> dict[str, Any]:
    high = None if ratio.high == math.inf else ratio.high
    return dataclasses.asdict(ratio) | {"high": high, "verdict": ratio.verdict}


def _model_timing(values: Mapping[str, Any]) -> ModelTiming:
    timings = {
        column: None if (each := values.get(column)) is None else Timing(**{**each, "rounds": tuple(each["rounds"])})
        for column in COLUMNS
    }
    inputs = {name: tuple(shape) for name, shape in values["inputs"].items()}
    return ModelTiming(**{**values, **timings, "inputs": inputs})


_HEADER = (
    *("model", "invoke µs", "with copies µs", "cold µs", "quartiles µs", "90 % µs", "calls/s"),
    *("load ms", "first call ms", "peak MB", "bytes", "threads"),
)


def _row(model: ModelTiming) -> tuple[str, ...]:
    timing = model.timing
    return (
        model.name,
        _text(model.invoke.median if model.invoke else None),
        _text(model.call.median),
        _text(model.cold.median if model.cold else None),
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
