"""The pictures of gates over time: heat maps with a row a unit, or lines of one unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from lstm_toolkit.display.gate_looks import COLORS, casing
from lstm_toolkit.display.picture import Picture, plain_figure
from lstm_toolkit.escapes import in_figure, printable
from lstm_toolkit.gate_pictures.canvas import COLORMAP, NEUTRAL, largest

GATES = {"i": "input", "f": "forget", "g": "cell", "o": "output"}
"""The gates by their letters."""

TITLES = {letter: f"{gate} gate" for letter, gate in GATES.items()} | {"c": "cell state", "h": "output"}
"""What is drawn, by its letter."""

WIDTH, LEFT, RIGHT = 8.2, 1.25, 7.35
"""Width of the picture, and from where to where time goes, in inches."""

TOP, BOTTOM = 0.42, 0.42
"""What is above and below the rows, in inches."""

_GAP = 0.16
_BORDER, _STEP = "#D55E00", "#000000"


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """What a picture shows; the names are the arguments of `GateActivations.picture`, and `one` is the object."""

    one: Any
    against: Any
    gate: str | None
    unit: int | None
    batch: int
    step: int | None

    def __post_init__(self) -> None:
        if self.gate not in (None, *TITLES):
            raise ValueError(f"gate must be one of {', '.join(TITLES)}, or None for all, got {self.gate!r}")
        places = (("unit", self.unit, self.one.units), ("batch", self.batch, len(self.one.c)))
        for name, place, size in (*places, ("step", self.step, self.one.time_steps)):
            if place is not None and not 0 <= place < size:
                raise IndexError(f"{name} must be 0 to {size - 1}, got {place}")

    def rows(self) -> list[_Row]:
        """What stands below each other."""
        rows = [_Row(letter, TITLES[letter], self._values(self.one, letter)) for letter in self._letters()]
        if self.against is None:
            return rows
        others = [self._values(self.against, row.letter) for row in rows]
        if self.unit is not None or self.gate is None:
            return [dataclasses.replace(row, other=other) for row, other in zip(rows, others, strict=True)]
        (row,), (other,) = rows, others
        both = max(row.limit, dataclasses.replace(row, values=other).limit)
        pair = (
            dataclasses.replace(row, title=self.names[0]),
            dataclasses.replace(row, title=self.names[1], values=other),
        )
        difference = _Row("", "difference", row.values - other)
        return [*(dataclasses.replace(each, scale=both) for each in pair), difference]

    @property
    def names(self) -> tuple[str, str]:
        """What the two sides are called."""
        kinds = [{"node": "file"}.get(each.kind, each.kind) for each in (self.one, self.against)]
        return (kinds[0], kinds[1]) if kinds[0] != kinds[1] else (f"this {kinds[0]}", f"other {kinds[1]}")

    def _letters(self) -> list[str]:
        letters = [self.gate] if self.gate else list(TITLES)
        return [each for each in letters if self.unit is None or self.unit < getattr(self.one, each).shape[2]]

    def _values(self, side: Any, letter: str) -> Any:
        values = getattr(side, letter)[self.batch].T
        return values if self.unit is None else values[self.unit : self.unit + 1]


@dataclasses.dataclass(frozen=True, eq=False)
class _Row:
    """One heat map, or the lines of one unit.

    Attributes:
        letter: of the gate; empty for a difference.
        title: what stands beside it.
        values: [units, time].
        other: the same of the other side, for a dashed line.
        scale: the largest absolute value, where not that of the values.
    """

    letter: str
    title: str
    values: Any
    other: Any = None
    scale: float = 0.0

    @property
    def limit(self) -> float:
        """The number that is black."""
        sides = [self.values] if self.other is None else [self.values, self.other]
        size = self.scale or largest(sides)
        return max(1.0, size) if self.letter in GATES else size

    @property
    def low(self) -> float:
        """The number that is white: 0 for what is never negative."""
        return 0.0 if self.letter in ("i", "f", "o") else -self.limit


def draw(shown: Shown) -> Picture:
    """The picture, with a text that says what it shows."""
    rows = shown.rows()
    height = 0.62 if len(rows) > 3 else 1.15
    size = (WIDTH, TOP + len(rows) * (height + _GAP) + BOTTOM - _GAP)
    with plain_figure(*size) as (figure, axes):
        figure.set_layout_engine("none")
        axes.set(position=(0, 0, 1, 1), xlim=(0, size[0]), ylim=(0, size[1]))
        axes.set_axis_off()
        for number, row in enumerate(rows):
            top = size[1] - TOP - number * (height + _GAP)
            _draw_row(axes, row, (top - height, top), lines=shown.unit is not None)
            axes.set(xlim=(0, size[0]), ylim=(0, size[1]), aspect="auto")
        _draw_time(axes, shown, size[1])
    return Picture(figure, description(shown))


def _x(step: float, steps: int) -> float:
    """Where a step begins."""
    return LEFT + (RIGHT - LEFT) * step / steps


def _draw_row(axes: Any, row: _Row, box: tuple[float, float], *, lines: bool) -> None:
    bottom, top = box
    color = COLORS[GATES[row.letter]] if row.letter in GATES else "#555555"
    if lines:
        _draw_lines(axes, row, box, color)
    else:
        axes.imshow(
            row.values, aspect="auto", extent=(LEFT, RIGHT, bottom, top), cmap=COLORMAP, vmin=row.low, vmax=row.limit
        )
    axes.add_artist(
        Rectangle((LEFT, bottom), RIGHT - LEFT, top - bottom, fill=False, edgecolor="#333333", linewidth=0.6)
    )
    axes.add_artist(Rectangle((LEFT - 0.13, bottom), 0.1, top - bottom, facecolor=color))
    middle = (bottom + top) / 2
    axes.text(LEFT - 0.2, middle + 0.02, row.letter, ha="right", va="bottom", fontsize=11, weight="bold")
    axes.text(
        LEFT - 0.2, middle - 0.02, in_figure(row.title), ha="right", va="top" if row.letter else "center", fontsize=8
    )
    words = ("", "") if lines else ("black ", "white ")
    for y, side, word, value in ((top, "top", words[0], row.limit), (bottom, "bottom", words[1], row.low)):
        axes.text(RIGHT + 0.06, y, f"{word}{value:.3g}", va=side, fontsize=8)


def _draw_lines(axes: Any, row: _Row, box: tuple[float, float], color: str) -> None:
    """Lines of one unit, from the smallest number at the bottom to the largest at the top."""
    bottom, top = box
    steps = row.values.shape[1]
    x = [_x(step + 0.5, steps) for step in range(steps)]
    axes.plot(
        (LEFT, RIGHT), [bottom - row.low / (row.limit - row.low) * (top - bottom)] * 2, color=NEUTRAL, linewidth=0.8
    )
    for values, style in ((row.values, "-"), (row.other, "--")):
        if values is not None:
            y = bottom + (values[0] - row.low) / (row.limit - row.low) * (top - bottom)
            axes.plot(
                x, y, style, color=color if style == "-" else "black", linewidth=1.6, marker="." if steps < 40 else ""
            )


def _draw_time(axes: Any, shown: Shown, height: float) -> None:
    """The steps, the starts of the calls, and the marked step."""
    steps, starts = shown.one.time_steps, shown.one.starts
    every = next(each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if steps / each <= 12)
    for step in range(0, steps, every):
        axes.text(_x(step + 0.5, steps), BOTTOM - 0.06, str(step), ha="center", va="top", fontsize=8)
    axes.text((LEFT + RIGHT) / 2, 0.03, "step", ha="center", va="bottom", fontsize=8)
    for number, start in enumerate(starts if len(starts) > 1 else ()):
        if len(starts) <= 12:
            end = [*starts, steps][number + 1]
            axes.text(_x((start + end) / 2, steps), height - TOP + 0.03, f"call {number}", ha="center", fontsize=8)
        if number:
            _draw_upright(axes, _x(start, steps), height - TOP + 0.12, _BORDER)
    whose = f", unit {shown.unit}" if shown.unit is not None else ""
    axes.text(LEFT, height - 0.05, in_figure(f"{shown.one.name}{whose}"), va="top", fontsize=9, weight="bold")
    if shown.step is not None:
        _draw_upright(axes, _x(shown.step + 0.5, steps), height - TOP + 0.06, _STEP)


def _draw_upright(axes: Any, x: float, top: float, color: str) -> None:
    # In front of heat maps, behind lines.
    axes.plot((x, x), (BOTTOM - 0.04, top), color=color, linewidth=1.4, path_effects=casing(1.4), zorder=1.5)


def description(shown: Shown) -> str:
    """The picture in words, out of its numbers."""
    one, unit = shown.one, shown.unit
    whose = f"unit {unit} of" if unit is not None else f"{one.units} units of"
    calls = f" in {len(one.starts)} calls, from steps {_listed(one.starts)}" if len(one.starts) > 1 else ""
    kind = "Lines" if unit is not None else "Heat maps"
    start = f"{kind} of {whose} {printable(one.name)}, sequence {shown.batch}, over {one.time_steps} steps{calls}."
    return " ".join([start, *_sentences(shown), *([f"Step {shown.step} is marked."] if shown.step is not None else [])])


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (" and so on" if len(numbers) > 10 else "")


def _sentences(shown: Shown) -> Iterator[str]:
    for row in shown.rows():
        finite = row.values[np.isfinite(row.values)] if row.values.size else np.zeros(1)
        span = f"from {_text(finite.min())} to {_text(finite.max())}"
        if row.letter:
            yield f"{row.title.capitalize()} ({row.letter}) {span}, {_text(finite.mean())} on average."
        else:
            yield f"The difference goes {span}{_where(row.values)}."
        if row.other is not None:
            distances = np.abs(row.values - row.other)
            yield f"The {shown.names[1]} differs by at most {distances.max():.2f}{_where(distances)}."


def _text(number: float) -> str:
    """Two digits; a zero has no sign."""
    return f"{round(float(number), 2) + 0.0:.2f}"


def _where(differences: Any) -> str:
    """At which step a difference is largest."""
    if not np.abs(differences).max(initial=0):
        return ""
    unit, step = np.unravel_index(np.abs(differences).argmax(), differences.shape)
    return f" and is largest at step {step}{f' in unit {unit}' if len(differences) > 1 else ''}"
