"""The marks of all pictures of gates: heat maps, bars, lines, bands and words in axes whose unit is the inch."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from lstm_toolkit.display.gate_looks import COLORS, HATCHES, LINES, casing
from lstm_toolkit.gate_pictures.layout import LETTERS, Array

Box = tuple[float, float, float, float]
"""Left, right, bottom and top, in inches."""

NEUTRAL = "#777777"
_SPINE: dict[str, Any] = {"linewidth": 1.4, "path_effects": casing(1.4)}
COLORMAP = "Greys"
FADED, FADED_INK = 0.16, "#737373"


def largest(arrays: Iterable[Array]) -> float:
    """The largest absolute value of the finite numbers; 1 where all are zero."""
    return max((float(np.abs(each[np.isfinite(each)]).max(initial=0.0)) for each in arrays), default=0.0) or 1.0


class Canvas:
    """What marks are drawn on: axes that fill a figure.

    Args:
        figure: to draw into; it gets the size.
        size: width and height in inches.
        gate: the gate that is followed while the others fade, or None.
        limit: this number is black, and white where it is negative.
    """

    def __init__(self, figure: Figure, size: tuple[float, float], *, gate: str | None, limit: float) -> None:
        figure.set_size_inches(*size)
        self.axes = figure.add_axes((0, 0, 1, 1), gid="gates", xlim=(0, size[0]), ylim=(0, size[1]))
        self.axes.set_axis_off()
        self.width, self.gate, self.limit = size[0], gate, limit
        self.mirror(mirrored=False)

    def mirror(self, *, mirrored: bool) -> None:
        """Exchanges left and right of the marks that follow. Words and numbers stay as one reads them."""
        self.mirrored = mirrored
        turn = Affine2D().scale(-1, 1).translate(self.width, 0) if mirrored else Affine2D()
        self._side: dict[str, Any] = {"transform": turn + self.axes.transData}

    def parts(self, box: Box, shares: Sequence[float], *, axis: int) -> list[Box]:
        """Cuts a box along an axis of its numbers: 0 from top to bottom, 1 from left to right, as one sees it."""
        cuts = map(sorted, itertools.pairwise(self._cuts(box, shares, axis)))
        return [(*box[:2], low, high) if axis == 0 else (low, high, *box[2:]) for low, high in cuts]

    def _cuts(self, box: Box, shares: Sequence[float], axis: int) -> list[float]:
        left, right, bottom, top = box
        start, stop = (top, bottom) if axis == 0 else (right, left) if self.mirrored else (left, right)
        whole = sum(shares) or 1
        return [start + (stop - start) * share / whole for share in itertools.accumulate(shares, initial=0)]

    def words(self, x: float, y: float, text: str, gate: str | None = None, **kwargs: Any) -> None:
        """Writes text, by default to the right of a point; the words of a gate that is not followed fade a little."""
        style = {"fontsize": 7.5, "color": "black", "ha": "left", "parse_math": False, "zorder": 6, **kwargs}
        if self.mirrored:
            style["ha"] = {"left": "right", "right": "left"}.get(style["ha"], style["ha"])
        style |= {"color": FADED_INK} if self._alpha(gate) < 1 else {}
        self.axes.text(x, y, text, **self._side, **style)

    def heat_map(self, values: Array, box: Box, gid: str, gate: str | None = None) -> None:
        """Draws numbers, [rows, columns] or [columns], that belong to one gate or to several."""
        left, right = sorted(self.width - x if self.mirrored else x for x in box[:2])
        self.axes.imshow(
            np.atleast_2d(values),
            aspect="auto",
            extent=(left, right, *box[2:]),
            cmap=COLORMAP,
            vmin=-self.limit,
            vmax=self.limit,
            # Files that scale pictures themselves keep small ones sharp.
            interpolation="none" if max(values.shape) <= 256 else "auto",
            zorder=4,
            gid=gid,
        )
        self._veil(gate, box)
        self._rectangle(box, fill=False, edgecolor="#333333", linewidth=0.5, zorder=5)

    def gates(self, gates: Sequence[str], box: Box, *, axis: int, bars: tuple[float, float]) -> None:
        """Puts a bar beside the part of each gate in a heat map; `bars` is from where to where, across the axis."""
        for gate, part in zip(gates, self.parts(box, [1] * len(gates), axis=axis), strict=True):
            self._veil(gate, part)
            self.bar(gate, (*bars, *part[2:]) if axis == 0 else (*part[:2], *bars))

    def bar(self, gate: str, box: Box) -> None:
        """Says by colour, hatch and letter whose numbers stand beside it."""
        left, right, bottom, top = box
        look = {"facecolor": COLORS[gate], "edgecolor": "white", "hatch": HATCHES[gate], "linewidth": 0.6}
        self._rectangle(box, alpha=self._alpha(gate), zorder=5, gid=f"gate:{gate}", **look)
        label = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        middle = ((left + right) / 2, (bottom + top) / 2 - 0.005)
        self.words(*middle, LETTERS[gate], gate, ha="center", va="center", weight="bold", fontsize=7, bbox=label)

    def absent(self, box: Box) -> None:
        """Draws the place of numbers that are not there."""
        self._rectangle(box, fill=False, edgecolor=NEUTRAL, linestyle=":")

    def border(self, box: Box, shares: Sequence[float], *, axis: int) -> None:
        """Draws white lines between the parts of a heat map, which are seen on every grey."""
        for at in self._cuts(box, shares, axis)[1:-1]:
            ends = (box[:2], (at, at)) if axis == 0 else ((at, at), box[2:])
            look: dict[str, Any] = {"color": "white", "linewidth": 1.2, "path_effects": casing(1.2, "black")}
            self.axes.plot(*ends, solid_capstyle="butt", zorder=5, **look, **self._side)

    def ring(self, box: Box) -> None:
        """Marks a number."""
        look = {"edgecolor": "white", "linewidth": 1.5, "path_effects": casing(2.5, "black")}
        self._rectangle(box, fill=False, zorder=5.5, gid="ring", **look)

    def line(self, points: Sequence[tuple[float, float]], gate: str) -> None:
        """Follows a gate from point to point."""
        look = {"color": COLORS[gate], "linestyle": LINES[gate], "linewidth": 2.6 if self.gate == gate else 1.7}
        xs, ys = zip(*points, strict=True)
        self.axes.plot(xs, ys, alpha=self._alpha(gate), zorder=2, gid=f"line:{gate}", **look, **self._side)

    def ribbon(self, start: tuple[float, float, float], end: tuple[float, float, float], gate: str | None) -> None:
        """Joins two upright edges, each (x, bottom, top), by a band."""
        (x0, low0, high0), (x1, low1, high1) = start, end
        middle, curve = (x0 + x1) / 2, [Path.CURVE4] * 3

        def across(y0: float, y1: float) -> list[tuple[float, float]]:
            return [(x0, y0), (middle, y0), (middle, y1), (x1, y1)]

        codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
        band = Path([*across(high0, high1), *across(low0, low1)[::-1], (x0, high0)], codes)
        spine = Path(across((low0 + high0) / 2, (low1 + high1) / 2), codes[:4])
        color, style, alpha = COLORS[gate] if gate else NEUTRAL, LINES[gate] if gate else "-", self._alpha(gate)
        marks = (
            PathPatch(band, facecolor=color, edgecolor="none", alpha=0.38 * alpha, gid=f"band:{gate}"),
            PathPatch(spine, fill=False, linestyle=style, edgecolor=color, alpha=alpha, **_SPINE),
        )
        for mark in marks:
            mark.set(zorder=1, **self._side)
            self.axes.add_artist(mark)

    def _alpha(self, gate: str | None) -> float:
        """How opaque the marks of a gate are; None for what belongs to no gate."""
        return 1.0 if gate is None or self.gate in (None, gate) else FADED

    def _veil(self, gate: str | None, box: Box) -> None:
        """Pales the numbers of a gate that is not followed."""
        if self._alpha(gate) < 1:
            self._rectangle(box, facecolor="white", alpha=0.75, zorder=4.5)

    def _rectangle(self, box: Box, **look: Any) -> None:
        left, right, bottom, top = box
        self.axes.add_artist(Rectangle((left, bottom), right - left, top - bottom, **look, **self._side))
