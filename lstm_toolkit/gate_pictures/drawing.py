"""The drawing of `plot_gates`: packed arrays, their parts, the operand slots, and what joins them.

All of it is in one pair of axes whose unit is the inch. Every heat map has a gid, "packed:", "split:" or "slot:" and
names, and holds the numbers themselves.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lstm_toolkit.gate_pictures.canvas import NEUTRAL, WIDTH, Box, GateCanvas
from lstm_toolkit.gate_pictures.layout import GateBlock, GateLayout, OperandSlot, PackedArray
from lstm_toolkit.weights.operands import ABSENT, GATES

HEADER, FOOTER, GROUP_GAP, BAR = 0.85, 0.6, 0.36, 0.15


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Where things stand, in inches from the side on which the packed arrays are."""

    packed: tuple[float, float]
    split: tuple[float, float]
    slot: tuple[float, float]
    pitch: float


_ONE = _Columns(packed=(0.2, 2.95), split=(3.9, 4.6), slot=(5.6, 6.3), pitch=0.48)
_TWO = _Columns(packed=(0.2, 2.05), split=(2.45, 2.95), slot=(4.1, 4.9), pitch=0.56)
_SLOT_HEIGHT = 0.34


class GateDrawing(GateCanvas):
    """One picture in the making.

    Args:
        figure: to draw into; it gets its size.
        layouts: one, or two of the same weights, which are drawn to the left and to the right of the slots.
        gate: to follow, or None.
    """

    def __init__(self, figure: Figure, layouts: Sequence[GateLayout], gate: str | None) -> None:
        self.layouts, self.gate = layouts, gate
        self.columns = _ONE if len(layouts) == 1 else _TWO
        heights = self._slot_positions()
        self.height = HEADER + heights + FOOTER + 0.17 * len(layouts[0].notes())
        figure.set_size_inches(WIDTH, self.height)
        self.axes = figure.add_axes((0, 0, 1, 1), gid="gates")
        self.axes.set_axis_off()
        finite = [np.abs(a.values[np.isfinite(a.values)]) for layout in layouts for a in layout.arrays]
        finite += [np.abs(s.values[np.isfinite(s.values)]) for s in layouts[0].slots if s.values is not None]
        self.limit = max((float(each.max()) for each in finite if each.size), default=0.0) or 1.0

    def _slot_positions(self) -> float:
        """Sets the top of every slot, in inches below the header, and returns the height of all."""
        self.tops: dict[str, float] = {}
        slots, down = self.layouts[0].slots, 0.0
        for before, slot in zip((None, *slots), slots, strict=False):
            if before is not None and (slot.index != before.index + 1 or GATES[0] == slot.gate or slot.gate is None):
                down += GROUP_GAP
            self.tops[slot.operand] = down
            down += self.columns.pitch
        return down + GROUP_GAP

    def draw(self) -> None:
        self._headings()
        for slot in self.layouts[0].slots:
            self._slot(slot)
        for number, layout in enumerate(self.layouts):
            self.mirrored = number == 1
            for arrays in _groups(layout):
                self._arrays(arrays)
        self.mirrored = False
        self._footer()
        # Images set the limits of their axes.
        self.axes.set(xlim=(0, WIDTH), ylim=(0, self.height), aspect="auto")

    def _headings(self) -> None:
        top, layout, columns = self.height - 0.2, self.layouts[0], self.columns
        two = len(self.layouts) == 2
        self._text(
            0.2, top, f"{layout.title}: from packed weights to the fused op", fontsize=11, weight="bold", va="top"
        )
        y = self.height - HEADER + 0.2
        for number, each in enumerate(self.layouts):
            self.mirrored = number == 1
            how = "as stored by" if each.stored else "in the order of"
            text = f"1  packed {how} {each.framework}: {each.order}"
            if two:
                text = f"{each.framework}: {each.order}"
            edge = self._x(columns.packed[0])
            self._text(edge, y, text, weight="bold", ha="right" if self.mirrored else "left", fontsize=8.5)
        self.mirrored = False
        by_row = layout.arrays[0].values.ndim == 2 and not layout.arrays[0].blocks[0].transposed
        if not two:
            heading = "2  nothing to\n    transpose" if by_row else "2  transposed,\n    split by gate"
            self._text(columns.split[0] - 0.25, y, heading, weight="bold", fontsize=8.5, linespacing=1.0)
        if two:
            self._text(WIDTH / 2, y, layout.op, weight="bold", ha="center", fontsize=8.5)
        else:
            heading = f"3  operand slots of\n    {layout.op}"
            self._text(columns.slot[0], y, heading, weight="bold", fontsize=8.5, linespacing=1.0)

    def _slot_box(self, operand: str) -> Box:
        top = self.height - HEADER - self.tops[operand]
        return (*self.columns.slot, top - _SLOT_HEIGHT, top)

    def _slot(self, slot: OperandSlot) -> None:
        left, right, bottom, top = box = self._slot_box(slot.operand)
        shape = "absent" if slot.values is None else str(list(slot.values.shape))
        if slot.values is None:
            self.axes.add_artist(
                Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor=NEUTRAL, linestyle=":")
            )
            shape = f"absent ({ABSENT})"
        else:
            self._image(slot.values, box, f"slot:{slot.operand}", slot.gate)
        added = f" + {slot.constant:g} (forget_gate_bias)" if slot.constant else ""
        color = "#666666" if slot.values is None else "black"
        if len(self.layouts) == 2:
            text, label = (
                f"{slot.index} {slot.operand} {shape}",
                {"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
            self._text(
                (left + right) / 2,
                bottom - 0.03,
                text,
                slot.gate,
                ha="center",
                va="top",
                fontsize=6.8,
                color=color,
                bbox=label | {"alpha": 0.8},
            )
            return
        if slot.gate and slot.values is not None:
            self._bar(slot.gate, (right + 0.04, right + 0.22, bottom, top))
        x, middle = right + 0.32, (bottom + top) / 2
        self._text(x, middle + 0.02, slot.operand, slot.gate, va="bottom", weight="bold", fontsize=7.2, color=color)
        self._text(x, middle - 0.02, f"operand {slot.index}  {shape}{added}", slot.gate, va="top", color=color)

    def _arrays(self, arrays: Sequence[PackedArray]) -> None:
        """Draws the packed arrays that fill the same slots."""
        boxes = [self._slot_box(block.operand) for block in arrays[0].blocks]
        low, high = min(box[2] for box in boxes), max(box[3] for box in boxes)
        if not arrays[0].gates:
            self._ungated(arrays[0], boxes[0])
        elif (arrays[0].gate_axis == 0 and arrays[0].values.ndim == 2) or len(arrays) > 1:
            self._by_rows(arrays, low, high)
        else:
            self._by_columns(arrays[0], low, high)

    def _by_columns(self, array: PackedArray, low: float, high: float) -> None:
        """Gates side by side: lines go up out of their columns to the rows of the transposed array."""
        columns, count, vector = self.columns, len(array.gates), array.values.ndim == 1
        joint = len(array.blocks) > count
        bottom = low - GROUP_GAP + 0.08
        height = 0.2 if vector else 0.62 if joint else 0.42
        left, right = columns.packed
        if self.mirrored:
            packed_top = high - 0.3
            packed_bottom = packed_top - height
            bar = (packed_bottom - BAR, packed_bottom)
            split_top, split_bottom, exit_ = bar[0] - 0.06, bottom, bar[0]
        else:
            packed_bottom = bottom + 0.3
            packed_top = packed_bottom + height
            bar = (packed_top, packed_top + BAR)
            split_top, split_bottom, exit_ = high, bar[1] + 0.06, bar[1]
        self._image(array.values, self._box(left, right, packed_bottom, packed_top), f"packed:{array.name}")
        left, right = sorted((self._x(left), self._x(right)))
        step = (right - left) / count
        pieces = self._split(array, split_bottom, split_top)
        for number, gate in enumerate(array.gates):
            start = left + number * step
            self._bar(gate, (start, start + step, *bar))
            self._veil(gate, (start, start + step, packed_bottom, packed_top))
            center = start + step / 2
            _, piece_low, piece_high = pieces[number]
            lane = (piece_low + piece_high) / 2
            self._line([(center, exit_), (center, lane), (self._x(columns.split[0] - BAR), lane)], gate)
            at = packed_top + 0.04 if self.mirrored else packed_bottom - 0.04
            block = array.blocks[number]
            ends = f"{block.start[array.gate_axis]}:{block.stop[array.gate_axis]}"
            self._text(center, at, ends, gate, ha="center", va="bottom" if self.mirrored else "top", fontsize=7)
        caption = packed_top + 0.17 if self.mirrored else packed_bottom - 0.17
        added = ", not transposed" if vector else ""
        self._caption(array, left, caption, added, va="bottom" if self.mirrored else "top")
        if joint:
            inputs, rows = array.blocks[0].stop[0], len(array.values)
            border = packed_top - height * inputs / rows
            self.axes.plot([left, right], [border, border], color="white", linewidth=1.2, zorder=5)
            if not self.mirrored:
                for text, y in (
                    (f"rows 0:{inputs}, input", (packed_top + border) / 2),
                    (f"rows {inputs}:{rows}, output", (border + packed_bottom) / 2),
                ):
                    self._text(right + 0.05, y, text, va="center", fontsize=7)

    def _split(self, array: PackedArray, bottom: float, top: float) -> list[tuple[float, float, float]]:
        """Draws the transposed array in one piece a gate, with bands to its slots; returns the edge of each piece."""
        columns, gap, count = self.columns, 0.05, len(array.gates)
        turned = np.atleast_2d(array.values).T
        units, height = len(turned) // count, (top - bottom + gap) / count
        left, right = columns.split
        if array.values.ndim == 1:
            right = left + 0.16
        edges = []
        for number, gate in enumerate(array.gates):
            high = top - number * height
            low = high - height + gap
            box = self._box(left, right, low, high)
            self._image(turned[number * units : (number + 1) * units], box, f"split:{array.name}:{gate}", gate)
            self._bar(gate, self._box(left - BAR, left, low, high))
            blocks = [block for block in array.blocks if block.gate == gate]
            if len(blocks) > 1:
                border = self._x(left + (right - left) * blocks[0].stop[0] / turned.shape[1])
                self.axes.plot([border, border], [low, high], color="white", linewidth=1.2, zorder=5)
            for part, block in enumerate(blocks):
                each = (high - low) / len(blocks)
                self._to_slot(block, right, high - (part + 1) * each, high - part * each)
            edges.append((left, low, high))
        return edges

    def _to_slot(self, block: GateBlock, x: float, low: float, high: float) -> None:
        box = self._slot_box(block.operand)
        self._ribbon((self._x(x), low, high), (self._x(self.columns.slot[0]), box[2], box[3]), block.gate)

    def _by_rows(self, arrays: Sequence[PackedArray], low: float, high: float) -> None:
        """Gates one below the other, as the op takes them: nothing to transpose. Several arrays are added."""
        left, right = self.columns.packed
        width = (right - left) * (0.3 if arrays[0].values.ndim == 2 else 0.1)
        gap, count = 0.05, len(arrays[0].gates)
        height = (high - low + gap) / count
        for place, array in enumerate(arrays):
            end = right - (len(arrays) - 1 - place) * 0.5 * (right - left)
            values = array.values if array.values.ndim == 2 else array.values[:, np.newaxis]
            units = len(values) // count
            for number, gate in enumerate(array.gates):
                top = high - number * height
                bottom = top - height + gap
                block = array.blocks[number]
                part = values[block.start[0] : block.stop[0]]
                self._image(part, self._box(end - width, end, bottom, top), f"packed:{array.name}:{gate}", gate)
                self._bar(gate, self._box(end - width - BAR, end - width, bottom, top))
                ends = f"{block.start[0]}:{block.stop[0]}"
                x = self._x(end - width - BAR - 0.05)
                self._text(
                    x, (top + bottom) / 2, ends, gate, ha="left" if self.mirrored else "right", va="center", fontsize=7
                )
                assert units == block.stop[0] - block.start[0]
                if place == len(arrays) - 1:
                    self._to_slot(block, end, bottom, top)
            if place:
                x, y = self._x(end - 0.27 * (right - left)), high - height + gap / 2
                self._text(x, y, "+", weight="bold", fontsize=13, ha="center", va="center")
            sides = ("right", "left") if self.mirrored else ("left", "right")
            outer = place < len(arrays) - 1
            x = self._x(left if outer else end)
            self._caption(array, x, low - 0.05 - 0.15 * place, va="top", ha=sides[0] if outer else sides[1])

    def _ungated(self, array: PackedArray, slot_box: Box) -> None:
        """Weights that belong to no gate, the projection's, stand beside their slot."""
        _, _, bottom, top = slot_box
        columns, block = self.columns, array.blocks[0]
        right = columns.packed[1]
        left = right - (0.7 if array.values.ndim == 2 else 0.5)
        self._image(array.values, self._box(left, right, bottom, top), f"packed:{array.name}")
        edge = right
        if block.transposed:
            self._ribbon((self._x(right), bottom, top), (self._x(columns.split[0]), bottom, top), None)
            self._image(array.values.T, self._box(*columns.split, bottom, top), f"split:{array.name}:")
            edge = columns.split[1]
        self._to_slot(block, edge, bottom, top)
        side = "left" if self.mirrored else "right"
        self._caption(array, self._x(right), bottom - 0.05, va="top", ha=side)

    def _caption(self, array: PackedArray, x: float, y: float, added: str = "", **kwargs: Any) -> None:
        self._text(x, y, f"{array.name} {list(array.values.shape)}{added}", weight="bold", fontsize=7.5, **kwargs)

    def _footer(self) -> None:
        notes = self.layouts[0].notes()
        for number, note in enumerate(notes):
            self._text(self.columns.packed[0], 0.14 + 0.17 * (len(notes) - 1 - number), note)
        y, x = 0.3 + 0.17 * len(notes), self.columns.packed[0]
        for gate in [gate for gate in GATES if gate in self.layouts[0].gates]:
            self._bar(gate, (x, x + 0.4, y, y + 0.2))
            self._text(x + 0.46, y + 0.1, f"{gate} gate", gate, va="center")
            x += 1.25
        ramp = np.linspace(-self.limit, self.limit, 64, dtype=np.float32)
        self._image(ramp, (6.4, 8.0, y, y + 0.2), "scale")
        for at, text, ha in ((6.35, f"values from {-self.limit:.3g}", "right"), (8.05, f"to {self.limit:.3g}", "left")):
            self._text(at, y + 0.1, text, ha=ha, va="center")


def _groups(layout: GateLayout) -> list[list[PackedArray]]:
    """The packed arrays, those that fill the same slots together."""
    groups: dict[tuple[str, ...], list[PackedArray]] = {}
    for array in layout.arrays:
        groups.setdefault(tuple(sorted(block.operand for block in array.blocks)), []).append(array)
    return list(groups.values())
