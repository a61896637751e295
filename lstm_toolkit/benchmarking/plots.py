"""Pictures of a `BenchmarkResult`: bars with spread, and time against size and error."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatter

from lstm_toolkit.benchmarking.timings import COLUMNS, ModelTiming, ratio_of
from lstm_toolkit.display.picture import Picture, plain_figure
from lstm_toolkit.escapes import in_figure

# Of Okabe and Ito, which colour-blind people can tell apart, made lighter.
_COLOURS = {"invoke": "#a9d8f5", "call": "#f7c97e", "cold": "#e2b5cf"}
_HATCHES = {"invoke": "", "call": "//", "cold": ".."}
_LABELS = {"invoke": "invoke", "call": "with copies", "cold": "cold"}
_OF_ANY = _LABELS | {"call": "a call"}
_BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": "small"}


def bars(models: Sequence[ModelTiming]) -> Picture:
    """See `BenchmarkResult.plot`."""
    shown = [column for column in COLUMNS if any(getattr(model, column) for model in models)]
    height, drawn = 0.78 / len(shown), []
    with plain_figure(6.8, 1.2 + 0.3 * len(shown) * len(models)) as (figure, axes):
        for number, model in enumerate(models):
            timings = [(column, timing) for column in shown if (timing := getattr(model, column))]
            for place, (column, timing) in enumerate(timings):
                y = number + height * (place - (len(timings) - 1) / 2)
                whiskers = [[timing.median - timing.quartile_1], [timing.quartile_3 - timing.median]]
                style: dict[str, Any] = {"color": _COLOURS[column], "hatch": _HATCHES[column], "edgecolor": "black"}
                axes.barh(y, timing.median, height, xerr=whiskers, capsize=3, **style)
                axes.annotate(_time(timing.median), (timing.quartile_3, y), xytext=(6, 0), **_BESIDE)
                label = (_LABELS if model.kind == "file" else _OF_ANY)[column]
                drawn.append(f"{model.name}, {label} {_time(timing.median)}")
        axes.set_yticks(range(len(models)), [in_figure(model.name) for model in models])
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.set_xlabel("median time of a call in µs; lines from the first to the third quartile", fontsize="small")
        _legend(figure, models, shown)
    return Picture(figure, f"Bars of the median time of a call: {'; '.join(drawn)}.")


def _legend(figure: Any, models: Sequence[ModelTiming], shown: Sequence[str]) -> None:
    if len(shown) > 1:
        boxes = [Rectangle((0, 0), 1, 1, fc=_COLOURS[each], hatch=_HATCHES[each], ec="black") for each in shown]
        of_any = any(model.invoke is None for model in models)
        labels = [
            _LABELS[each] + (", or a call of another model" if each == "call" and of_any else "") for each in shown
        ]
        figure.legend(boxes, labels, loc="outside upper left", ncols=3, frameon=False, fontsize="small")


@dataclasses.dataclass(frozen=True)
class _Point:
    """A model and its error, which is None where it is not drawn."""

    model: ModelTiming
    error: float | None

    @property
    def time(self) -> float:
        return self.model.timing.median

    def __str__(self) -> str:
        error = "" if self.error is None else f", error {self.error:.2g}"
        size = "" if self.model.size is None else f", {self.model.size:,} bytes"
        return f"{self.model.name}, {_time(self.time)}{error}{size}"


def pareto(models: Sequence[ModelTiming], errors: Mapping[str, float | None] | None, smallest_effect: float) -> Picture:
    """See `BenchmarkResult.pareto`."""
    points = _points(models, errors)
    best = [point for point in points if not any(_beats(other, point, smallest_effect) for other in points)]
    quantities = "time and size" if errors is None else "time, error and size"
    sizes = [point.model.size for point in points]
    heights: list[Any] = [(size or 0) / 1e3 for size in sizes] if errors is None else [point.error for point in points]
    with plain_figure(6.8, 4.2) as (figure, axes):
        axes.set_title(f"Filled: no other is as good in {quantities} and better in one", fontsize="medium", loc="left")
        largest = max((size for size in sizes if size), default=1)
        for point, size, height in zip(points, sizes, heights, strict=True):
            colour = "#0072B2" if point in best else "white"
            # The area is the size of the file where that has no axis; a diamond has no size.
            area = 30 + 500 * size / largest if size and errors is not None else 80
            marker = "o" if size else "D"
            axes.scatter(point.time, height, s=area, facecolor=colour, edgecolor="black", marker=marker, alpha=0.8)
        axes.margins(0.2)
        times = [point.time for point in points]
        _scale(axes.xaxis, axes.set_xscale, times, plain=True)
        _scale(axes.yaxis, axes.set_yscale, heights, plain=errors is None)
        axes.set_xlabel("median time of a call in µs")
        axes.set_ylabel("size of the file in kB" if errors is None else "error (area of the circle: size of the file)")
        _label_points(axes, [point.model.name for point in points], list(zip(times, heights, strict=True)))
    alt = f"{quantities.capitalize()}. {'; '.join(map(str, points))}. "
    return Picture(figure, alt + f"No other beats {', '.join(point.model.name for point in best)} in all.")


def _points(models: Sequence[ModelTiming], errors: Mapping[str, float | None] | None) -> list[_Point]:
    names = [model.name for model in models]
    unknown = [name for name in errors or () if name not in names]
    if unknown:
        raise ValueError(f"errors are by name of a model, one of {names}, got {unknown}")
    points = [_Point(model, None if errors is None else errors.get(model.name)) for model in models]
    drawn = [point for point in points if (point.model.size if errors is None else point.error) is not None]
    if not drawn:
        lacking = "a size, which files alone have; pass errors" if errors is None else "an error; pass one by its name"
        raise ValueError(f"there is nothing to draw: no model has {lacking}")
    return drawn


def _beats(other: _Point, point: _Point, smallest_effect: float) -> bool:
    """Whether one is as good as another in all quantities, and better in one; in time, as the intervals say."""
    if other is point:
        return False
    verdict = ratio_of(other.model, point.model, smallest_effect).verdict
    figures = [(other.error, point.error), (other.model.size, point.model.size)]
    pairs = [(above, below) for above, below in figures if above is not None and below is not None]
    as_good = verdict != "slower" and all(above <= below for above, below in pairs)
    return as_good and (verdict == "faster" or any(above < below for above, below in pairs))


def _scale(axis: Any, set_scale: Any, values: list[Any], *, plain: bool) -> None:
    """Logarithmic where the values allow it; an error of 0 does not."""
    if min(values) <= 0:
        return
    set_scale("log")
    if plain:
        axis.set_major_formatter(LogFormatter(labelOnlyBase=False))
        axis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.4)))


def _label_points(axes: Any, names: list[str], places: list[tuple[float, Any]]) -> None:
    """Names beside their points, towards the middle, and above each other where points meet."""
    axes.figure.draw_without_rendering()
    box = axes.get_window_extent()
    taken: list[tuple[float, float]] = []
    for name, place in zip(names, places, strict=True):
        x, y = axes.transData.transform(place)
        left, lift = bool(x > box.x0 + 0.6 * box.width), 0
        while any(abs(x - other_x) < 0.3 * box.width and abs(y + lift - other_y) < 16 for other_x, other_y in taken):
            lift += 16
        taken.append((x, y + lift))
        offset = (-15 if left else 15, 72 * lift / axes.figure.dpi)
        axes.annotate(in_figure(name), place, xytext=offset, ha="right" if left else "left", **_BESIDE)


def _time(value: float) -> str:
    return f"{value:,.0f} µs" if value >= 1000 else f"{value:.3g} µs"
