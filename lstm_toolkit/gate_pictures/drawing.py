"""The drawing of `plot_gates`: packed arrays, their parts, the operand slots, and what joins them.

Every heat map has a gid, "packed:", "split:" or "slot:" and names, and holds the numbers themselves.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lstm_toolkit.gate_pictures.canvas import Box, Canvas, largest
from lstm_toolkit.gate_pictures.layout import GateBlock, GateLayout, OperandSlot, PackedArray
from lstm_toolkit.weights.operands import ABSENT, GATES

WIDTH, HEADER, FOOTER, GROUP_GAP, BAR, GAP = 9.0, 0.85, 0.6, 0.36, 0.15, 0.05


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


class GateDrawing:
    """One picture in the making.

    Args:
        figure: to draw into; it gets its size.
        layouts: one, or two of the same weights, which are drawn to the left and to the right of the slots.
        gate: to follow, or None.
    """

    def __init__(self, figure: Figure, layouts: Sequence[GateLayout], gate: str | None) -> None:
        self.layouts = layouts
        self.columns = _ONE if len(layouts) == 1 else _TWO
        slots_height = self._slot_positions()
        self.height = HEADER + slots_height + FOOTER + 0.17 * len(layouts[0].notes())
        values = [array.values for layout in layouts for array in layout.arrays]
        values += [slot.values for slot in layouts[0].slots if slot.values is not None]
        self.canvas = Canvas(figure, (WIDTH, self.height), gate=gate, limit=largest(values))

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
        """Draws everything: headings, slots, packed arrays with the way of each part to its slot, and the legend."""
        self._headings()
        for slot in self.layouts[0].slots:
            self._slot(slot)
        for layout in self._sides():
            for arrays in _groups(layout):
                self._arrays(arrays)
        self._footer()

    def _sides(self) -> Iterator[GateLayout]:
        """Each layout, with the canvas turned to its side."""
        for number, layout in enumerate(self.layouts):
            self.canvas.mirror(mirrored=number == 1)
            yield layout
        self.canvas.mirror(mirrored=False)

    def _headings(self) -> None:
        layout, columns, y = self.layouts[0], self.columns, self.height - HEADER + 0.2
        title = f"{layout.title}: from packed weights to the fused op"
        self.canvas.words(0.2, self.height - 0.2, title, fontsize=11, weight="bold", va="top")
        heading = functools.partial(self.canvas.words, weight="bold", fontsize=8.5, linespacing=1.0)
        if len(self.layouts) == 2:
            for each in self._sides():
                heading(columns.packed[0], y, f"{each.framework}: {each.order}")
            heading(WIDTH / 2, y, layout.op, ha="center")
            return
        how = "as stored by" if layout.stored else "in the order of"
        heading(columns.packed[0], y, f"1  packed {how} {layout.framework}: {layout.order}")
        by_row = layout.arrays[0].values.ndim == 2 and not layout.arrays[0].blocks[0].transposed
        second = "2  nothing to\n    transpose" if by_row else "2  transposed,\n    split by gate"
        heading(columns.split[0] - 0.25, y, second)
        heading(columns.slot[0], y, f"3  operand slots of\n    {layout.op}")

    def _slot_box(self, operand: str) -> Box:
        top = self.height - HEADER - self.tops[operand]
        return (*self.columns.slot, top - _SLOT_HEIGHT, top)

    def _slot(self, slot: OperandSlot) -> None:
        left, right, bottom, top = box = self._slot_box(slot.operand)
        if slot.values is None:
            shape, color = f"absent ({ABSENT})", "#666666"
            self.canvas.absent(box)
        else:
            shape, color = str(list(slot.values.shape)), "black"
            self.canvas.heat_map(slot.values, box, f"slot:{slot.operand}", slot.gate)
        words = functools.partial(self.canvas.words, gate=slot.gate, color=color)
        if len(self.layouts) == 2:
            label = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
            text = f"{slot.index} {slot.operand} {shape}"
            words((left + right) / 2, bottom - 0.03, text, ha="center", va="top", fontsize=6.8, bbox=label)
            return
        if slot.gate and slot.values is not None:
            self.canvas.bar(slot.gate, (right + 0.04, right + 0.22, bottom, top))
        x, middle = right + 0.32, (bottom + top) / 2
        added = f" + {slot.constant:g} (forget_gate_bias)" if slot.constant else ""
        words(x, middle + 0.02, slot.operand, va="bottom", weight="bold", fontsize=7.2)
        words(x, middle - 0.02, f"operand {slot.index}  {shape}{added}", va="top")

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
        """Gates side by side: lines go out of their columns to the rows of the transposed array.

        The array stands below its transposed array, which ends at `high`; on the other side, the same upside down.
        """
        canvas, columns = self.canvas, self.columns
        vector, joint = array.values.ndim == 1, len(array.blocks) > len(array.gates)
        bottom = low - GROUP_GAP + 0.08
        start, stop = bottom + 0.3, bottom + 0.3 + (0.2 if vector else 0.62 if joint else 0.42)

        def at(y: float) -> float:
            return bottom + high - y if canvas.mirrored else y

        def between(y0: float, y1: float) -> tuple[float, float]:
            return (at(y1), at(y0)) if canvas.mirrored else (y0, y1)

        box, va = (*columns.packed, *between(start, stop)), "bottom" if canvas.mirrored else "top"
        canvas.heat_map(array.values, box, f"packed:{array.name}")
        canvas.gates(array.gates, box, axis=1, bars=between(stop, stop + BAR))
        pieces = self._split(array, *between(stop + BAR + 0.06, high))
        parts = canvas.parts(box, [1] * len(array.gates), axis=1)
        for gate, block, piece, part in zip(array.gates, array.blocks, pieces, parts, strict=False):
            x, lane = (part[0] + part[1]) / 2, (piece[2] + piece[3]) / 2
            canvas.line([(x, at(stop + BAR)), (x, lane), (piece[0] - BAR, lane)], gate)
            ends = f"{block.start[-1]}:{block.stop[-1]}"
            canvas.words(x, at(start - 0.04), ends, gate, ha="center", va=va, fontsize=7)
        self._caption(array, box[0], at(start - 0.17), ", not transposed" if vector else "", va=va)
        if joint:
            inputs, rows = array.blocks[0].stop[0], len(array.values)
            canvas.border(box, (inputs, rows - inputs), axis=0)
            texts = (f"rows 0:{inputs}, input", f"rows {inputs}:{rows}, output")
            for text, part in zip(texts, canvas.parts(box, (inputs, rows - inputs), axis=0), strict=True):
                if not canvas.mirrored:
                    canvas.words(box[1] + 0.05, (part[2] + part[3]) / 2, text, va="center", fontsize=7)

    def _split(self, array: PackedArray, bottom: float, top: float) -> list[Box]:
        """Draws the transposed array in one piece a gate, with bands to its slots; returns where each piece is."""
        left, right = self.columns.split
        right = left + 0.16 if array.values.ndim == 1 else right
        pieces = self._pieces((left, right, bottom, top), len(array.gates))
        turned = np.split(np.atleast_2d(array.values).T, len(array.gates))
        for gate, piece, values in zip(array.gates, pieces, turned, strict=True):
            self._piece(values, piece, f"split:{array.name}:{gate}", gate)
            blocks = [block for block in array.blocks if block.gate == gate]
            self.canvas.border(piece, [block.shape[-1] for block in blocks], axis=1)
            for block, part in zip(blocks, self.canvas.parts(piece, [1] * len(blocks), axis=0), strict=True):
                self._to_slot(block, part)
        return pieces

    def _pieces(self, box: Box, count: int) -> list[Box]:
        """A place for each gate, one below the other."""
        left, right, bottom, top = box
        parts = self.canvas.parts((left, right, bottom - GAP, top), [1] * count, axis=0)
        return [(left, right, low + GAP, high) for _, _, low, high in parts]

    def _piece(self, values: Any, box: Box, gid: str, gate: str) -> None:
        self.canvas.heat_map(values, box, gid, gate)
        self.canvas.bar(gate, (box[0] - BAR, box[0], *box[2:]))

    def _to_slot(self, block: GateBlock, box: Box) -> None:
        """Joins what a box has of an operand with the operand's slot."""
        slot = self._slot_box(block.operand)
        self.canvas.ribbon((box[1], *box[2:]), (slot[0], *slot[2:]), block.gate)

    def _by_rows(self, arrays: Sequence[PackedArray], low: float, high: float) -> None:
        """Gates one below the other, as the op takes them: nothing to transpose. Several arrays are added."""
        left, right = self.columns.packed
        width = (right - left) * (0.3 if arrays[0].values.ndim == 2 else 0.1)
        for place, array in enumerate(arrays):
            last = place == len(arrays) - 1
            end = right - (len(arrays) - 1 - place) * 0.5 * (right - left)
            pieces = self._pieces((end - width, end, low, high), len(array.gates))
            for gate, block, piece in zip(array.gates, array.blocks, pieces, strict=True):
                part = block.part(array.values).reshape(block.shape[0], -1)
                self._piece(part, piece, f"packed:{array.name}:{gate}", gate)
                x, y = piece[0] - BAR - 0.05, (piece[2] + piece[3]) / 2
                self.canvas.words(x, y, f"{block.start[0]}:{block.stop[0]}", gate, ha="right", va="center", fontsize=7)
                if last:
                    self._to_slot(block, piece)
            if place:
                x, y = end - 0.27 * (right - left), pieces[0][2] - GAP / 2
                self.canvas.words(x, y, "+", weight="bold", fontsize=13, ha="center", va="center")
            x, side = (end, "right") if last else (left, "left")
            self._caption(array, x, low - 0.05 - 0.15 * place, va="top", ha=side)

    def _ungated(self, array: PackedArray, slot: Box) -> None:
        """Weights that belong to no gate, the projection's, stand beside their slot."""
        right, block = self.columns.packed[1], array.blocks[0]
        box = (right - (0.7 if array.values.ndim == 2 else 0.5), right, *slot[2:])
        self.canvas.heat_map(array.values, box, f"packed:{array.name}")
        self._caption(array, right, box[2] - 0.05, va="top", ha="right")
        if block.transposed:
            turned = (*self.columns.split, *slot[2:])
            self.canvas.ribbon((right, *slot[2:]), (turned[0], *slot[2:]), None)
            self.canvas.heat_map(array.values.T, turned, f"split:{array.name}:")
            box = turned
        self._to_slot(block, box)

    def _caption(self, array: PackedArray, x: float, y: float, added: str = "", **kwargs: Any) -> None:
        text = f"{array.name} {list(array.values.shape)}{added}"
        self.canvas.words(x, y, text, weight="bold", fontsize=7.5, **kwargs)

    def _footer(self) -> None:
        notes, x = self.layouts[0].notes(), self.columns.packed[0]
        for number, note in enumerate(reversed(notes)):
            self.canvas.words(x, 0.14 + 0.17 * number, note)
        y = 0.3 + 0.17 * len(notes)
        for gate in [gate for gate in GATES if gate in self.layouts[0].gates]:
            self.canvas.bar(gate, (x, x + 0.4, y, y + 0.2))
            self.canvas.words(x + 0.46, y + 0.1, f"{gate} gate", gate, va="center")
            x += 1.25
        limit = self.canvas.limit
        self.canvas.heat_map(np.linspace(-limit, limit, 64, dtype=np.float32), (6.4, 8.0, y, y + 0.2), "scale")
        self.canvas.words(6.35, y + 0.1, f"values from {-limit:.3g}", ha="right", va="center")
        self.canvas.words(8.05, y + 0.1, f"to {limit:.3g}", va="center")


def _groups(layout: GateLayout) -> list[list[PackedArray]]:
    """The packed arrays, those that fill the same slots together."""
    groups: dict[tuple[str, ...], list[PackedArray]] = {}
    for array in layout.arrays:
        groups.setdefault(tuple(sorted(block.operand for block in array.blocks)), []).append(array)
    return list(groups.values())
