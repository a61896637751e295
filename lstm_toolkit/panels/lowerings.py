"""What one LSTM becomes under several lowerings: operators, size, time and error, as frozen values.

A further lowering is one more `Candidate` in `LOWERINGS`. Needs the extra `codelabs`.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lstm_toolkit.display.picture import Picture, plain_figure
from lstm_toolkit.panels.measured import TIMES, Candidate, Candidates, Comparison, Sizes, converted, lstm_model, stock


def _stock_unrolled(model: Any) -> bytes:
    batch_size, time_steps, input_size = model.input_shape
    unrolled = lstm_model(Sizes(batch_size, time_steps, input_size, model.output_shape[-1]), unroll=True)
    unrolled.set_weights(model.get_weights())
    return stock(unrolled)


LOWERINGS = Candidates(
    (
        Candidate("stock Keras 3: WHILE", stock),
        Candidate("stock, unroll=True", _stock_unrolled),
        Candidate("fused", converted),
        Candidate("unrolled", functools.partial(converted, lowering="unrolled"), runtime="compiled"),
        Candidate("loop", functools.partial(converted, lowering="loop"), runtime="compiled"),
    ),
    baseline="fused",
    columns=("ops in file", "ops run", "bytes", "median µs", "quartiles µs", "max error"),
    note=TIMES + ' "unrolled" and "loop" are plain ops and run on CompiledModel with its weight cache, the others on '
    "the interpreter. The error is the largest difference from Keras over two calls in a row.",
)
"""The ways to write one LSTM."""

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


def picture(comparison: Comparison, quantity: str) -> Picture:
    """One quantity of all lowerings as bars; with times, a line goes from the first to the third quartile.

    Args:
        comparison: what `compare` returned.
        quantity: a key of `QUANTITIES`.

    Raises:
        ValueError: for an unknown quantity.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be one of {', '.join(QUANTITIES)}, got {quantity!r}")
    attribute = QUANTITIES[quantity]
    shown = [(file, value) for file in comparison.files if (value := getattr(file, attribute)) is not None]
    with plain_figure(6.6, 0.9 + 0.5 * len(comparison.files)) as (figure, axes):
        for number, (file, value) in enumerate(shown):
            colour, hatch = _COLOURS[number % len(_COLOURS)], _HATCHES[number % len(_HATCHES)]
            low, high = value, value
            if attribute == "median" and file.time:
                low, high = file.time.quartile_1, file.time.quartile_3
            error = [[value - low], [high - value]] if low < high else None
            axes.barh(file.name, value, xerr=error, capsize=4, edgecolor="black", color=colour, hatch=hatch)
            axes.annotate(_text(value), (high, number), xytext=(6, 0), textcoords="offset points", va="center")
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.set_title(f"{quantity}: {comparison.sizes}", fontsize="medium", loc="left")
    values = "; ".join(f"{file.name} {_text(value)}" for file, value in shown)
    return Picture(figure, f"Bars of {quantity} for {comparison.sizes}: {values or 'no file'}.")


def _text(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}" if value >= 1 else f"{value:.0e}"
