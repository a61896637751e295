"""The values of a sweep: `SweepConfig`, `SweepRow` and `SweepResult`, and `grid`, which makes configurations."""

import csv
import dataclasses
import io
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.escapes import in_csv
from lstm_toolkit.tflite.files import write_whole

BUILDERS = ("unidirectional", "stacked", "bidirectional", "time_major", "stateful")
"""The functions of `lstm_toolkit.models`."""

SUFFIXES = (".keras", ".h5", ".tflite")
"""Of the files that a configuration may name."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What to convert, and how to convert and time it. Equal and hashable by value; pickles; holds what JSON can hold.

    Attributes:
        model: name of a function of `lstm_toolkit.models`, or the path of a `.keras`, `.h5` or `.tflite` file as the
            workers see it. A `.tflite` file is timed as it is.
        sizes: keyword arguments of that function; none with a path.
        options: keyword arguments of `convert`; none with a `.tflite` file. `representative_dataset` is the path of a
            `.npy` file with an array [samples, ...].
        num_threads: of the interpreter.
        runs: number of timed calls.
        warmup: number of calls before them.
        input_shapes: shapes of inputs by name, for those that have open sizes in the file.

    Raises:
        ValueError: if the model is neither, a number is out of range, or a value cannot be written as JSON.
    """

    model: str
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_threads: int = 1
    runs: int = 50
    warmup: int = 10
    input_shapes: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fspath(self.model))
        suffix = Path(self.model).suffix
        if self.model not in BUILDERS and suffix not in SUFFIXES:
            raise ValueError(f"model must be one of {', '.join(BUILDERS)} or a {', '.join(SUFFIXES)} file, {self!r}")
        if (suffix and self.sizes) or (suffix == ".tflite" and self.options):
            raise ValueError(f"sizes are for models of lstm_toolkit.models and options for what is converted, {self!r}")
        for name, least in (("num_threads", 1), ("runs", 1), ("warmup", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an integer from {least}, got {value!r}")
        for name in ("sizes", "options", "input_shapes"):
            object.__setattr__(self, name, MappingProxyType(_as_json(name, getattr(self, name))))

    def to_dict(self) -> dict[str, Any]:
        """The configuration as values that JSON can hold."""
        return {name: dict(each) if isinstance(each, Mapping) else each for name, each in vars(self).items()}

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return SweepConfig, tuple(self.to_dict().values())

    def __str__(self) -> str:
        settings = [f"{name}={value}" for name, value in (*self.sizes.items(), *self.options.items())]
        return " ".join([self.model, *settings, f"num_threads={self.num_threads}"])


def _as_json(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        try:
            json.dumps({key: value}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name}[{key!r}] cannot be written as JSON ({error}), and so can neither reach a worker nor the "
                "results file; use numbers, strings, lists and paths of files"
            ) from error
    return json.loads(json.dumps(dict(values)))


def grid(
    model: str | Sequence[str],
    *,
    sizes: Mapping[str, Sequence[Any]] = _EMPTY,
    options: Mapping[str, Sequence[Any]] = _EMPTY,
    num_threads: Sequence[int] = (1,),
    **settings: Any,
) -> tuple[SweepConfig, ...]:
    """The configurations of every combination, the last one named changing first.

    Args:
        model: one or several.
        sizes: lists of sizes by name.
        options: lists of options of `convert` by name.
        num_threads: a list of them.
        **settings: what all have in common: `runs`, `warmup`, `input_shapes`.

    Raises:
        ValueError: as `SweepConfig`.
    """
    models = [model] if isinstance(model, str) else model
    every = itertools.product(models, _combinations(sizes), _combinations(options), num_threads)
    return tuple(SweepConfig(*each, **settings) for each in every)


def _combinations(lists: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


@dataclasses.dataclass(frozen=True)
class SweepRow:
    """What was measured of a configuration. A missing figure is None.

    Attributes:
        config: the configuration.
        size: bytes of the file.
        ops: number of operators by name, over all subgraphs.
        median: time of a call in microseconds.
        percentile_90: the time that nine calls of ten stay below, in microseconds.
        max_abs_error: largest absolute difference from the source model, as `convert` verifies it.
        conversion_seconds: time of `convert`, without loading TensorFlow.
        executor: class of the executor that was given, or the number of processes of `sweep` itself.
        machine: name of the machine that measured; empty where the executor failed.
        error: type and message of what went wrong; None if nothing did.
    """

    config: SweepConfig
    size: int | None = None
    ops: Mapping[str, int] | None = None
    median: float | None = None
    percentile_90: float | None = None
    max_abs_error: float | None = None
    conversion_seconds: float | None = None
    executor: str = ""
    machine: str = ""
    error: str | None = None

    @property
    def op_count(self) -> int | None:
        """Operators in the file."""
        return None if self.ops is None else sum(self.ops.values())

    def to_dict(self) -> dict[str, Any]:
        """The row as values that JSON can hold."""
        return vars(self) | {"config": self.config.to_dict()}


_FIGURES = tuple(field.name for field in dataclasses.fields(SweepRow) if field.name != "config")
_SHOWN = {
    "bytes": ("size", ","),
    "ops": ("op_count", ","),
    "median µs": ("median", ".0f"),
    "90 % below µs": ("percentile_90", ".0f"),
    "largest error": ("max_abs_error", ".1e"),
    "convert s": ("conversion_seconds", ".1f"),
}
"""By column of the table, which figure it shows, and how."""


@dataclasses.dataclass(frozen=True, repr=False)
class SweepResult(Tabular):
    """What `sweep` returns.

    Attributes:
        rows: one a configuration, in the order of these.
    """

    rows: tuple[SweepRow, ...]

    def tables(self) -> tuple[Table, ...]:
        """The rows as a table."""
        failed = sum(row.error is not None for row in self.rows)
        rows = []
        for row in self.rows:
            figures = (_text(getattr(row, name), form) for name, form in _SHOWN.values())
            rows.append((str(row.config), *figures, (row.error or "").partition("\n")[0][:100]))
        title = f"{len(rows)} configurations, {failed} of them with an error"
        return (Table(title, ("configuration", *_SHOWN, "error"), rows),)

    def to_dict(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        return {"rows": [row.to_dict() for row in self.rows]}

    def to_csv(self) -> str:
        """The result as CSV: a column for every size and option (`sizes.units`, `options.lowering`) and figure."""
        flat = [_flat(row) for row in self.rows]
        settings = dict.fromkeys(name for row in flat for name in row if name not in _FIGURES)
        text = io.StringIO()
        writer = csv.DictWriter(text, [*settings, *_FIGURES], lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return text.getvalue()

    def save_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_csv` into a file, whole or not at all.

        Raises:
            OSError: if it cannot be written.
        """
        write_whole(path, self.to_csv().encode())


def _flat(row: SweepRow) -> dict[str, Any]:
    """The values of a row by column; a mapping of the configuration has a column for each of its keys."""
    flat: dict[str, Any] = {}
    for name, value in row.config.to_dict().items():
        flat |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    figures = vars(row) | {"ops": row.op_count}
    return {name: in_csv(value) for name, value in (flat | {name: figures[name] for name in _FIGURES}).items()}


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
