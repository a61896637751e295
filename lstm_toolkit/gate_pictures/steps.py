"""The way of packed weights into the operand slots as four pictures, each a small SVG of heat maps.

Pure functions behind the panel `explore_gates`: they take a `GateLayout` and give text.
"""

import base64
import dataclasses
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from lstm_toolkit.gate_pictures.canvas import COLORS
from lstm_toolkit.gate_pictures.layout import LETTERS, Array, GateBlock, GateLayout, PackedArray

STEPS = ("1 packed", "2 transposed", "3 split by gate", "4 in the operand slots")
"""The steps, in order."""

Box = tuple[float, float, float, float]
"""Left, top, width and height in the picture's units."""

_WIDTH, _BAR, _LABEL, _GAP, _LETTER = 760.0, 16.0, 20.0, 18.0, 7.3


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
        inside = _flat(target.slot_position) if block.operand == target.operand else None
        values = packed.part(block) if number == 2 else layout.slot(block.operand).values
        assert values is not None
        gates = (block.gate,) if block.gate else ()
        label = _part_label(packed, block) if number == 2 else f"operand {block.index}: {block.operand}"
        label = f"{label} {list(block.shape)}"
        found.append(Tile(label=label, values=np.atleast_2d(values), gates=gates, gate_axis=1, selected=inside))
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


def _part_label(packed: PackedArray, block: GateBlock) -> str:
    part = ", ".join(f"{a}:{b}" for a, b in zip(block.start, block.stop, strict=True))
    return f"{packed.name}[{part}]{'.T' if block.transposed else ''}"


def _flat(position: Sequence[int]) -> tuple[int, int]:
    return (int(position[0]), int(position[1])) if len(position) == 2 else (0, int(position[0]))


def step_svg(layout: GateLayout, array: str, step: str, position: Sequence[int], *, gate: str | None = None) -> str:
    """One step as an inline SVG with a text.

    Args:
        layout, array, step, position: as for `tiles`.
        gate: the gate to follow; the others fade. None for all.

    Raises:
        ValueError, IndexError: as `tiles`.
    """
    drawn = tiles(layout, array, step, position)
    numbers = [np.abs(tile.values[np.isfinite(tile.values)]).max(initial=0.0) for tile in drawn]
    limit = float(max(numbers)) or 1.0
    x, y, row_height, pieces = 0.0, 0.0, 0.0, []
    for tile in drawn:
        cell = _cell(tile)
        rows, columns = tile.values.shape
        width = max(columns * cell + _BAR, len(tile.label) * _LETTER) + _GAP
        if x and x + width > _WIDTH:
            x, y, row_height = 0.0, y + row_height, 0.0
        pieces.append(_tile_svg(tile, x, y, cell, limit, gate))
        x, row_height = x + width, max(row_height, rows * cell + _BAR + _LABEL + _GAP)
    title = html.escape(f"{step}: {'; '.join(tile.label for tile in drawn)}. {layout.destination(array, *position)}")
    height = y + row_height
    return (
        f'<svg role="img" aria-label="{title}" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" '
        f'style="width:100%;max-width:{_WIDTH:.0f}px;background:#ffffff" xmlns="http://www.w3.org/2000/svg" '
        f'font-family="monospace" font-size="12"><title>{title}</title>{_patterns()}{"".join(pieces)}</svg>'
    )


def _cell(tile: Tile) -> float:
    rows, columns = tile.values.shape
    return min(22.0, (_WIDTH - _BAR - _GAP) / columns, 260 / rows)


def _tile_svg(tile: Tile, x: float, y: float, cell: float, limit: float, gate: str | None) -> str:
    rows, columns = tile.values.shape
    left, top = x + (_BAR if tile.gate_axis == 0 else 0), y + _LABEL + (_BAR if tile.gate_axis == 1 else 0)
    box = (left, top, columns * cell, rows * cell)
    image = (
        f'<image {_place(box)} preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{_png(tile.values, limit)}"/>'
    )
    weight = "normal" if tile.selected is None else "bold"
    return "".join(
        (
            f'<text x="{x:.1f}" y="{y + 14:.1f}" font-weight="{weight}">{html.escape(tile.label)}</text>',
            image,
            _rectangle(box, 'fill="none" stroke="#333333"'),
            *(_gate_svg(tile, box, number, faded=gate not in (None, name)) for number, name in enumerate(tile.gates)),
            _mark(tile, box, cell),
        )
    )


def _gate_svg(tile: Tile, box: Box, number: int, *, faded: bool) -> str:
    """The bar of a gate, and a veil over its numbers where it is not the one that is followed."""
    left, top, width, height = box
    name, opacity = tile.gates[number], 0.2 if faded else 1
    if tile.gate_axis == 1:
        size = width / len(tile.gates)
        bar, part = (left + number * size, top - _BAR, size, _BAR), (left + number * size, top, size, height)
    else:
        size = height / len(tile.gates)
        bar, part = (left - _BAR, top + number * size, _BAR, size), (left, top + number * size, width, size)
    x, y = bar[0] + bar[2] / 2, bar[1] + bar[3] / 2
    return (
        _rectangle(bar, f'fill="{COLORS[name]}" opacity="{opacity}"')
        + _rectangle(bar, f'fill="url(#lstm-toolkit-{name})" opacity="{opacity}" stroke="#ffffff"')
        + _rectangle((x - 5, y - 6, 10, 12), 'fill="#ffffff"')
        + f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-weight="bold">{LETTERS[name]}</text>'
        + (_rectangle(part, 'fill="#ffffff" opacity="0.75"') if faded else "")
    )


def _mark(tile: Tile, box: Box, cell: float) -> str:
    if tile.selected is None:
        return ""
    row, column = tile.selected
    x, y, rings = box[0] + (column + 0.5) * cell, box[1] + (row + 0.5) * cell, []
    # White inside black is seen on every grey.
    for extra, color in ((3.0, "#000000"), (0.0, "#ffffff")):
        side = max(cell, 5.0) + extra
        style = f'fill="none" stroke="{color}" stroke-width="2"'
        rings.append(_rectangle((x - side / 2, y - side / 2, side, side), style))
    return "".join(rings)


def _place(box: Box) -> str:
    return " ".join(f'{name}="{at:.1f}"' for name, at in zip(("x", "y", "width", "height"), box, strict=True))


def _rectangle(box: Box, style: str) -> str:
    return f"<rect {_place(box)} {style}/>"


def _patterns() -> str:
    """A hatch a gate: gates differ without colour too."""
    marks = {
        "input": '<path d="M0 6 L6 0" stroke="#ffffff"/>',
        "forget": '<circle cx="3" cy="3" r="1" fill="#ffffff"/>',
        "cell": '<path d="M0 6 L6 0 M0 0 L6 6" stroke="#ffffff"/>',
        "output": '<path d="M0 0 L6 6" stroke="#ffffff"/>',
    }
    found = (
        f'<pattern id="lstm-toolkit-{gate}" width="6" height="6" patternUnits="userSpaceOnUse">{mark}</pattern>'
        for gate, mark in marks.items()
    )
    return f"<defs>{''.join(found)}</defs>"


def _png(values: Array, limit: float) -> str:
    """A heat map with one pixel a number: white for `-limit`, black for `limit`."""
    grey = np.nan_to_num((1 - np.clip(values / limit, -1, 1)) * 127.5)
    data = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(data, format="PNG")
    return base64.b64encode(data.getvalue()).decode()
