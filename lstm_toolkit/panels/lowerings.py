"""What one LSTM becomes under several lowerings: operators, size, time and error, as frozen values.

A further lowering is one more `Candidate` in `LOWERINGS`. Needs the extra `codelabs`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import matplotlib.pyplot as plt

from lstm_toolkit.display.picture import Picture
from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.panels.measured import Candidate, MeasuredFile, Sizes, converted, lstm_model, measured, stock


@dataclasses.dataclass(frozen=True, repr=False)
class LoweringComparison(Tabular):
    """One LSTM under several lowerings.

    Attributes:
        sizes: of the LSTM.
        files: one a candidate, in their order.
    """

    sizes: Sizes
    files: tuple[MeasuredFile, ...]

    def ratio(self, file: MeasuredFile) -> float | None:
        """Median time of a file in those of the fused one; None where either is missing."""
        fused = next((each.median for each in self.files if each.name == FUSED), None)
        return None if file.median is None or fused is None else file.median / fused

    def tables(self) -> tuple[Table, ...]:
        """One table, one row a candidate."""
        header = ("lowering", "ops in file", "ops run", "bytes", "median µs", "spread µs", "x fused", "max error")
        rows = [
            (file.name, f"no file: {file.reason}", *[""] * (len(header) - 2)) if file.reason else self._row(file)
            for file in self.files
        ]
        return (Table(str(self.sizes), header, rows),)

    def _row(self, file: MeasuredFile) -> tuple[str, ...]:
        ratio = self.ratio(file)
        return (
            file.name,
            f"{file.op_count:,}",
            f"{file.ops_executed:,}",
            f"{file.size:,}",
            f"{file.median:.1f}",
            "{:.1f} to {:.1f}".format(*file.spread or ()),
            "" if ratio is None else f"{ratio:.2f}",
            f"{file.max_abs_error:.0e}",
        )


def _stock_unrolled(model: Any) -> bytes:
    batch_size, time_steps, input_size = model.input_shape
    unrolled = lstm_model(Sizes(batch_size, time_steps, input_size, model.output_shape[-1]), unroll=True)
    unrolled.set_weights(model.get_weights())
    return stock(unrolled)


FUSED = "fused"

NOTE = (
    "Measured on this machine just now: one call of Runner on one thread, all files in turn. The spread is that of the "
    'medians of five blocks. "unrolled" and "loop" are plain ops and run on CompiledModel with its weight cache, the '
    "others on the interpreter. The error is the largest difference from Keras over two calls in a row."
)
"""What the figures are."""

LOWERINGS = (
    Candidate("stock Keras 3: WHILE", stock),
    Candidate("stock, unroll=True", _stock_unrolled),
    Candidate(FUSED, converted),
    Candidate("unrolled", functools.partial(converted, lowering="unrolled"), runtime="compiled"),
    Candidate("loop", functools.partial(converted, lowering="loop"), runtime="compiled"),
)
"""The candidates of `compare`."""


def compare(
    sizes: Sizes, *, seed: int = 0, rounds: int = 100, candidates: tuple[Candidate, ...] = LOWERINGS
) -> LoweringComparison:
    """Converts one LSTM by every candidate and measures the files.

    Args:
        sizes: of the LSTM.
        seed: of weights and data.
        rounds: timed calls of each file; fewer where a call is slow.
        candidates: what to compare.

    Returns:
        Figures of each candidate. The times are those of this machine, of one thread and of a call of `Runner`, taken
        in turn. A candidate that gives no file is there with its reason.
    """
    return LoweringComparison(sizes, measured(candidates, sizes, seed=seed, rounds=rounds))


QUANTITIES: Mapping[str, str] = MappingProxyType(
    {
        "time of a call (µs)": "median",
        "size of the file (bytes)": "size",
        "operators run in a call": "ops_executed",
        "operators in the file": "op_count",
        "largest error": "max_abs_error",
    }
)
"""What `picture` can show, with the attribute of `MeasuredFile` behind it."""

# Of Okabe and Ito, which colour-blind people can tell apart, made lighter.
_COLOURS = ("#f7c97e", "#a9d8f5", "#8fd6be", "#f6efa0", "#9cc3e6", "#f0b38a", "#e6b8d3")
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")


def picture(comparison: LoweringComparison, quantity: str) -> Picture:
    """One quantity of all lowerings as bars; with times, a line shows the spread.

    Args:
        comparison: of `compare`.
        quantity: a key of `QUANTITIES`.

    Raises:
        ValueError: for an unknown quantity.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be one of {', '.join(QUANTITIES)}, got {quantity!r}")
    attribute = QUANTITIES[quantity]
    shown = [(file, value) for file in comparison.files if (value := getattr(file, attribute)) is not None]
    with plt.style.context("default"):
        figure, axes = plt.subplots(figsize=(6.6, 0.9 + 0.5 * len(comparison.files)), layout="constrained")
        for number, (file, value) in enumerate(shown):
            colour, hatch = _COLOURS[number % len(_COLOURS)], _HATCHES[number % len(_HATCHES)]
            spread = file.spread if attribute == "median" and file.spread else (value, value)
            error = None if spread[0] == spread[1] else [[value - spread[0]], [spread[1] - value]]
            axes.barh(file.name, value, xerr=error, capsize=4, edgecolor="black", color=colour, hatch=hatch)
            axes.annotate(_text(value), (spread[1], number), xytext=(6, 0), textcoords="offset points", va="center")
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.set_title(f"{quantity}: {comparison.sizes}", fontsize="medium", loc="left")
    values = "; ".join(f"{file.name} {_text(value)}" for file, value in shown)
    return Picture(figure, f"Bars of {quantity} for {comparison.sizes}: {values or 'no file'}.")


def _text(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}" if value >= 1 else f"{value:.0e}"
