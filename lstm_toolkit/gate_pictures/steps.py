"""The way of packed weights into the operand slots as four pictures of heat maps, for the panel `explore_gates`."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from lstm_toolkit.gate_pictures.canvas import Canvas, largest
from lstm_toolkit.gate_pictures.figure import GateFigure
from lstm_toolkit.gate_pictures.layout import Array, GateLayout, PackedArray

STEPS = ("1 packed", "2 transposed", "3 split by gate", "4 in the operand slots")
"""The steps, in order."""

WIDTH, _BAR, _LABEL, _GAP, _LETTER = 7.6, 0.16, 0.2, 0.18, 0.073


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Tile:
    """One heat map.

    Attributes:
        label: what stands above it.
        values: [rows, columns], float32.
        gates: names of the gates along `gate_axis`, each of as many rows or columns; empty where it has none.
        gate_axis: 0 or 1.
        selected: row and column of the number that is followed, or None where it is not in here.
    """

    label: str
    values: Array
    gates: tuple[str, ...]
    gate_axis: int
    selected: tuple[int, int] | None

    @property
    def cell(self) -> float:
        """Width and height of a number, in inches."""
        rows, columns = self.values.shape
        return min(0.22, (WIDTH - _BAR - _GAP) / columns, 2.6 / rows)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the heat map with what stands beside it and the gap to the next, in inches."""
        rows, columns = self.values.shape
        width = max(columns * self.cell + _BAR, len(self.label) * _LETTER)
        return width + _GAP, rows * self.cell + _BAR + _LABEL + _GAP


def tiles(layout: GateLayout, array: str, step: str, position: Sequence[int]) -> tuple[Tile, ...]:
    """The heat maps of one step.

    Args:
        layout: of the weights.
        array: name of a packed array.
        step: one of `STEPS`.
        position: index of the number to follow, one integer an axis of the array.

    Raises:
        ValueError, IndexError: for another array, step or position.
    """
    packed = layout.array(array)
    target = layout.destination(array, *position)
    if step not in STEPS:
        raise ValueError(f"step must be one of {list(STEPS)}, got {step!r}")
    number = STEPS.index(step)
    if number < 2:
        return (_whole(packed, position, turned=number == 1),)
    found = []
    for block in packed.blocks if number == 2 else sorted(packed.blocks, key=lambda block: block.index):
        cut = ", ".join(f"{a}:{b}" for a, b in zip(block.start, block.stop, strict=True))
        part = f"{packed.name}[{cut}]{'.T' if block.transposed else ''}"
        values = packed.part(block) if number == 2 else layout.slot(block.operand).values
        assert values is not None
        tile = Tile(
            label=f"{part if number == 2 else f'operand {block.index}: {block.operand}'} {list(block.shape)}",
            values=np.atleast_2d(values),
            gates=(block.gate,) if block.gate else (),
            gate_axis=1,
            selected=_flat(target.slot_position) if block.operand == target.operand else None,
        )
        found.append(tile)
    return tuple(found)


def _whole(packed: PackedArray, position: Sequence[int], *, turned: bool) -> Tile:
    label, selected = f"{packed.name} {list(packed.values.shape)}", _flat(position)
    values, axis = np.atleast_2d(packed.values), packed.gate_axis if packed.values.ndim == 2 else 1
    if turned and packed.blocks[0].transposed:
        values, axis, selected = values.T, 1 - axis, selected[::-1]
        label = f"{packed.name}, transposed {list(values.shape)}"
    elif turned:
        label = f"{label}: nothing to transpose"
    return Tile(label=label, values=values, gates=packed.gates, gate_axis=axis, selected=selected)


def _flat(position: Sequence[int]) -> tuple[int, int]:
    return (int(position[0]), int(position[1])) if len(position) == 2 else (0, int(position[0]))


def step_figure(
    layout: GateLayout, array: str, step: str, position: Sequence[int], *, gate: str | None = None
) -> GateFigure:
    """One step as a figure; all gates but the one to follow fade. Other arguments and errors as for `tiles`."""
    drawn = tiles(layout, array, step, position)
    x, y, row_height, places = 0.0, 0.0, 0.0, []
    for tile in drawn:
        width, height = tile.size
        if x and x + width > WIDTH:
            x, y, row_height = 0.0, y + row_height, 0.0
        places.append((x, y))
        x, row_height = x + width, max(row_height, height)
    labels = "; ".join(tile.label for tile in drawn)
    figure = GateFigure((layout,), f"{step}: {labels}. {layout.destination(array, *position)}")
    size = (WIDTH, y + row_height)
    canvas = Canvas(figure, size, gate=gate, limit=largest(tile.values for tile in drawn))
    for tile, (left, down) in zip(drawn, places, strict=True):
        _draw(canvas, tile, left, size[1] - down)
    return figure


def _draw(canvas: Canvas, tile: Tile, left: float, top: float) -> None:
    """Draws a heat map whose left upper corner is given, in inches."""
    rows, columns = tile.values.shape
    weight = "normal" if tile.selected is None else "bold"
    canvas.words(left, top - 0.03, tile.label, va="top", fontsize=8.5, family="monospace", weight=weight)
    x, y = left + (_BAR if tile.gate_axis == 0 else 0), top - _LABEL - (_BAR if tile.gate_axis == 1 else 0)
    box = (x, x + columns * tile.cell, y - rows * tile.cell, y)
    canvas.heat_map(tile.values, box, tile.label)
    canvas.gates(tile.gates, box, axis=tile.gate_axis, bars=(x - _BAR, x) if tile.gate_axis == 0 else (y, y + _BAR))
    if tile.selected is not None:
        row, column = tile.selected
        middle, center, half = x + (column + 0.5) * tile.cell, y - (row + 0.5) * tile.cell, max(tile.cell, 0.05) / 2
        canvas.ring((middle - half, middle + half, center - half, center + half))
