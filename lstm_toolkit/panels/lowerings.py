"""What one LSTM becomes under several lowerings: operators, size, time and error, as frozen values.

A further lowering is one more `Candidate` in `LOWERINGS`. Needs the extra `codelabs`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lstm_toolkit.display.images import SVG, image
from lstm_toolkit.display.picture import Picture, plain_figure
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.escapes import in_html
from lstm_toolkit.panels.measured import TIMES, Candidate, Candidates, Comparison, converted, stock
from lstm_toolkit.panels.sizes import Sizes
from lstm_toolkit.passes.plain.loop import MOST_STEPS_A_TURN
from lstm_toolkit.passes.plain.lower import lower

MOST_UNROLLED = 100
"""Most steps that the stock converter gets unrolled: it takes 20 seconds for them, and for more accordingly."""


def _stock_unrolled(model: Any) -> bytes:
    import keras

    steps = model.input_shape[1]
    if steps > MOST_UNROLLED:
        raise ConversionError(f"{steps} steps take the stock converter minutes; choose {MOST_UNROLLED} or fewer")
    try:
        # A reader's model is one layer of this one, and may leave the number of steps open, which unrolling cannot.
        inner = model.layers[-1] if hasattr(model.layers[-1], "layers") else model
        inputs = keras.Input(batch_shape=model.input_shape, name="sequence")
        unrolled = keras.models.clone_model(inner, inputs, clone_function=_unrolled_layer, recursive=True)
        unrolled.set_weights(inner.get_weights())
    except Exception as error:  # layers of one's own raise anything
        said = str(error).strip().partition("\n")[0]
        raise ConversionError(f"cannot be built with unroll=True: {said}; give its layers a get_config") from error
    return stock(unrolled)


def _unrolled_layer(layer: Any) -> Any:
    return layer.__class__.from_config(_unrolled(layer.get_config()))


def _unrolled(config: Any) -> Any:
    """A layer's config with `unroll`, in the layers inside it too."""
    if not isinstance(config, dict):
        return config
    return {key: True if key == "unroll" else _unrolled(value) for key, value in config.items()}


# Of Okabe and Ito, which colour-blind people can tell apart, made lighter.
_COLOURS = ("#f7c97e", "#a9d8f5", "#8fd6be", "#f6efa0", "#9cc3e6", "#f0b38a", "#e6b8d3")
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

FILE_LOWERINGS = Candidates(
    (
        Candidate("as it is", bytes),
        Candidate("unrolled", functools.partial(lower, form="unrolled"), runtime="compiled"),
        Candidate("loop", functools.partial(lower, form="loop"), runtime="compiled"),
    ),
    baseline="as it is",
    columns=LOWERINGS.columns,
    note=TIMES + ' "unrolled" and "loop" are plain ops and run on CompiledModel with its weight cache. The error is '
    "the largest difference from the file as it is over two calls in a row.",
)
"""The same for a file with fused ops."""


@dataclasses.dataclass(frozen=True)
class Sketch:
    """What each way makes of the time steps, before anything is converted. In a notebook it is a picture.

    Attributes:
        steps: number of time steps.
        rows: for each way its name and its parts in their order: a word for an op, ("copies", number of copies of the
            step) or ("loop", number of turns or None, most steps in each).
    """

    steps: int
    rows: tuple[tuple[str, tuple[Any, ...]], ...]

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {', then '.join(map(_said, parts))}" for name, parts in self.rows)

    def _repr_html_(self) -> str:
        return image(drawing(self).encode(), SVG, f"{self.steps} steps, in each way. {self!r}", "max-width: 100%")


def sketch(sizes: Sizes, candidates: Candidates = LOWERINGS) -> Sketch:
    """The parts of the file of each way, for an LSTM of these sizes; candidates: `LOWERINGS` or `FILE_LOWERINGS`."""
    steps, swap, product = sizes.time_steps, "swap axes", "input product of all steps"
    copies, turns = ("copies", steps), ("loop", None, MOST_STEPS_A_TURN)
    unrolled = (swap, product, copies)
    parts: dict[str, tuple[Any, ...]] = {
        "stock Keras 3: WHILE": (swap, ("loop", steps, 1), swap),
        "stock, unroll=True": (swap, copies, swap),
        "fused": ("LSTM op",),
        "as it is": ("LSTM op",),
        "unrolled": unrolled,
        "loop": (swap, product, turns, swap) if steps > MOST_STEPS_A_TURN else unrolled,
    }
    return Sketch(steps, tuple((way.name, parts[way.name]) for way in candidates.ways))


LEGEND = (
    "What each way makes of the time steps of one LSTM. A narrow box stands for the operators of one step, a wide one "
    "for an operator over all steps; what turns (↻) is a loop. Plain ops take one step of all sequences at a time, so "
    "axes are swapped where the data are batch-major."
)
"""What `Sketch` shows."""


def _said(part: Any) -> str:
    if isinstance(part, str):
        return part
    if part[0] == "copies":
        return f"{part[1]:,} copies of the step" if part[1] > 1 else "the step"
    return f"a loop of {part[1]:,} turns, a step in each" if part[1] else f"loops, at most {part[2]} steps a turn"


_MOST_COPIES = 28


def drawing(shown: Sketch) -> str:
    """A sketch as SVG: a row for each way; a narrow box is the operators of one step."""
    width, line = 860, 34
    parts = ['<rect width="100%" height="100%" rx="4" fill="#ffffff"/>']
    for row, (name, pieces) in enumerate(shown.rows):
        x, y = 160.0, row * line + 6
        parts.append(f'<text x="6" y="{y + 16}" font-weight="bold">{in_html(name)}</text>')
        for piece in pieces:
            drawn, wide = _piece(piece, x, y)
            parts.append(drawn)
            x += wide + 8
    height = len(shown.rows) * line + 6
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="13" fill="#101010">{"".join(parts)}</svg>'
    )


def _piece(piece: Any, x: float, y: float) -> tuple[str, float]:
    """The drawing of a part, and how wide it is."""
    if isinstance(piece, str):
        wide = 7.0 * len(piece) + 12
        return f'{_box(x, y, wide, "#e8e8e8")}<text x="{x + 6}" y="{y + 16}">{piece}</text>', wide
    if piece[0] == "copies":
        number, label = min(piece[1], _MOST_COPIES), f"× {piece[1]:,}"
        boxes = "".join(_box(x + 9 * place, y, 7, _COLOURS[0]) for place in range(number))
        return f'{boxes}<text x="{x + 9 * number + 4}" y="{y + 16}">{label}</text>', 9.0 * number + 8 * len(label) + 4
    steps = piece[2]
    label = f"{piece[1]:,} turns" if piece[1] else f"at most {steps} steps a turn"
    wide = 9.0 * steps + 7 * len(label) + 34
    boxes = "".join(_box(x + 8 + 9 * place, y + 4, 7, _COLOURS[0], 16) for place in range(steps))
    text = f'<text x="{x + 9 * steps + 14}" y="{y + 16}">↻ {label}</text>'
    return f"{_box(x, y, wide, _COLOURS[1])}{boxes}{text}", wide


def _box(x: float, y: float, width: float, colour: str, height: int = 24) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="2" fill="{colour}" stroke="#101010"/>'


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
        axes.set_title(f"{quantity}: {comparison.subject}", fontsize="medium", loc="left")
    values = "; ".join(f"{file.name} {_text(value)}" for file, value in shown)
    return Picture(figure, f"Bars of {quantity} for {comparison.subject}: {values or 'no file'}.")


def _text(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}" if value >= 1 else f"{value:.0e}"
