"""How each gate looks in every picture, and a picture of which columns of packed weights became which operands."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

COLORS = {"input": "#CC7A00", "forget": "#0072B2", "cell": "#009E73", "output": "#CC79A7"}
"""Color of each gate, of Okabe and Ito's set that colour-blind people tell apart, with an orange seen on white."""

HATCHES = {"input": "////", "forget": "....", "cell": "xxxx", "output": "\\\\\\\\"}
"""Hatch of each gate."""

LINES: dict[str, Any] = {"input": "-", "forget": (0, (6, 1.5)), "cell": (0, (5, 1.2, 1, 1.2)), "output": (0, (1.5, 1))}
"""Line style of each gate."""


def casing(width: float, color: str = "white") -> list[Any]:
    """What lies on both sides of a line of a width in points, as `path_effects`: the line is seen on every ground."""
    return [withStroke(linewidth=width + 1.6, foreground=color)]


def draw_gate_order(axes: Any, columns: Sequence[str], operands: Mapping[str, str]) -> str:
    """Draws packed columns above, the op's operands below, and an arrow to each operand from the columns that it got.

    An arrow is dashed where an operand got the columns of another gate.

    Args:
        axes: of matplotlib; they lose their frame.
        columns: the gate of each block of columns, from left to right.
        operands: for the operand of each gate, in the op's order, the gate whose columns it got.

    Returns:
        What the drawing shows, in a sentence.
    """
    for place, gate in enumerate(columns):
        _block(axes, place, 2, gate, gate)
    for place, (operand, gate) in enumerate(operands.items()):
        _block(axes, place, 0, gate, operand if gate == operand else f"{operand}\ngot {gate}")
        arrow = {"arrowstyle": "->", "linestyle": "-" if gate == operand else "--", "linewidth": 1.6}
        axes.annotate("", (place, 0.42), (columns.index(gate), 1.58), arrowprops=arrow)
    axes.text(-0.45, 2.55, "columns of the packed weights", va="bottom")
    axes.text(-0.45, -0.55, "operands of the op", va="top")
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.9, 2.9))
    axes.set_axis_off()
    return (
        f"Columns of {', '.join(columns)}. Of the operands {', '.join(operands)}, each got the columns of its gate."
        if all(gate == operand for operand, gate in operands.items())
        else f"Columns of {', '.join(columns)}. The operands {', '.join(operands)} got those of "
        f"{', '.join(operands.values())}, in this order."
    )


def _block(axes: Any, place: int, height: int, gate: str, text: str) -> None:
    axes.add_patch(Rectangle((place - 0.46, height - 0.4), 0.92, 0.8, facecolor=COLORS[gate], edgecolor="black"))
    label = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    axes.text(place, height, text, ha="center", va="center", color="black", bbox=label)
