"""The marks of `plot_gates`: heat maps, bars, lines, bands and words in one pair of axes whose unit is the inch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from lstm_toolkit.gate_pictures.layout import LETTERS, Array

Box = tuple[float, float, float, float]
"""Left, right, bottom and top, in inches."""

COLORS = {"input": "#E69F00", "forget": "#0072B2", "cell": "#009E73", "output": "#CC79A7"}
"""Color of each gate, of Okabe and Ito's set that colour-blind people tell apart."""

HATCHES = {"input": "////", "forget": "....", "cell": "xxxx", "output": "\\\\\\\\"}
"""Hatch of each gate."""

LINES: dict[str, Any] = {"input": "-", "forget": (0, (6, 1.5)), "cell": (0, (5, 1.2, 1, 1.2)), "output": (0, (1.5, 1))}
"""Line style of each gate."""

NEUTRAL = "#777777"
COLORMAP = "Greys"
FADED = 0.16

WIDTH = 9.0


class GateCanvas:
    """What marks are drawn on.

    Attributes:
        axes: to draw into, in inches.
        gate: the gate that is followed while the others fade, or None.
        limit: largest absolute value of a number.
        mirrored: whether the packed arrays stand on the right.
    """

    axes: Axes
    gate: str | None
    limit: float
    mirrored: bool = False

    def _box(self, left: float, right: float, bottom: float, top: float) -> Box:
        a, b = sorted((self._x(left), self._x(right)))
        return a, b, bottom, top

    def _alpha(self, gate: str | None) -> float:
        """How opaque the marks of a gate are; None for what belongs to no gate."""
        return 1.0 if gate is None or self.gate in (None, gate) else FADED

    def _x(self, x: float) -> float:
        """From the side on which the packed arrays are to from the left."""
        return WIDTH - x if self.mirrored else x

    def _text(self, x: float, y: float, text: str, gate: str | None = None, **kwargs: Any) -> None:
        alpha = 1.0 if gate is None or self.gate in (None, gate) else 0.55
        self.axes.text(
            x,
            y,
            text,
            **{"fontsize": 7.5, "color": "black", "alpha": alpha, "parse_math": False, "zorder": 6, **kwargs},
        )

    def _image(self, values: Array, box: Box, gid: str, gate: str | None = None) -> None:
        """Draws a heat map."""
        left, right, bottom, top = box
        self.axes.imshow(
            np.atleast_2d(values),
            extent=box,
            cmap=COLORMAP,
            vmin=-self.limit,
            vmax=self.limit,
            # Files that scale pictures themselves keep small ones sharp.
            interpolation="none" if max(values.shape) <= 256 else "auto",
            zorder=4,
            gid=gid,
        )
        self._veil(gate, box)
        self.axes.add_artist(
            Rectangle(
                (left, bottom), right - left, top - bottom, fill=False, edgecolor="#333333", linewidth=0.5, zorder=5
            )
        )

    def _veil(self, gate: str | None, box: Box) -> None:
        """Pales the numbers of a gate that is not followed."""
        left, right, bottom, top = box
        if self._alpha(gate) < 1:
            self.axes.add_artist(
                Rectangle((left, bottom), right - left, top - bottom, facecolor="white", alpha=0.75, zorder=4.5)
            )

    def _bar(self, gate: str, box: Box) -> None:
        """Says by colour, hatch and letter whose numbers stand beside it."""
        left, right, bottom, top = box
        patch = Rectangle(
            (left, bottom),
            right - left,
            top - bottom,
            facecolor=COLORS[gate],
            edgecolor="white",
            hatch=HATCHES[gate],
            linewidth=0.6,
            alpha=self._alpha(gate),
            zorder=5,
            gid=f"gate:{gate}",
        )
        self.axes.add_artist(patch)
        label = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        middle = ((left + right) / 2, (bottom + top) / 2 - 0.005)
        self._text(*middle, LETTERS[gate], gate, ha="center", va="center", weight="bold", fontsize=7, bbox=label)

    def _line(self, points: Sequence[tuple[float, float]], gate: str | None) -> None:
        xs, ys = zip(*points, strict=True)
        color, style = (COLORS[gate], LINES[gate]) if gate else (NEUTRAL, "-")
        width = 2.6 if self.gate == gate and gate else 1.7
        self.axes.plot(
            xs, ys, color=color, linestyle=style, linewidth=width, alpha=self._alpha(gate), zorder=2, gid=f"line:{gate}"
        )

    def _ribbon(self, start: tuple[float, float, float], end: tuple[float, float, float], gate: str | None) -> None:
        """Joins two upright edges, each (x, bottom, top), by a band."""
        (x0, low0, high0), (x1, low1, high1) = start, end
        middle = (x0 + x1) / 2
        vertices = [(x0, high0), (middle, high0), (middle, high1), (x1, high1)]
        vertices += [(x1, low1), (middle, low1), (middle, low0), (x0, low0), (x0, high0)]
        curve = [Path.CURVE4] * 3
        path = Path(vertices, [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])
        color = COLORS[gate] if gate else NEUTRAL
        alpha = 0.38 * self._alpha(gate)
        self.axes.add_artist(
            PathPatch(path, facecolor=color, edgecolor="none", alpha=alpha, zorder=1, gid=f"band:{gate}")
        )
        center0, center1 = (low0 + high0) / 2, (low1 + high1) / 2
        spine = Path([(x0, center0), (middle, center0), (middle, center1), (x1, center1)], [Path.MOVETO, *curve])
        style = LINES[gate] if gate else "-"
        self.axes.add_artist(
            PathPatch(
                spine, fill=False, edgecolor=color, linestyle=style, alpha=self._alpha(gate), linewidth=1.4, zorder=1
            )
        )
