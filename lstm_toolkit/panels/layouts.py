"""One sequence time-major and batch-major: where its numbers lie in memory, and what each layout costs in a file.

Needs the extra `codelabs`.
"""

import dataclasses
import functools
import html
from typing import Any

import numpy as np

from lstm_toolkit.display.tables import Table
from lstm_toolkit.panels.measured import TIMES, Candidate, Candidates, Sizes, converted, sequence, stock


@dataclasses.dataclass(frozen=True)
class Cell:
    """The numbers of one time step of one sequence, which lie side by side in either order.

    Attributes:
        time, batch: which step of which sequence.
        offset: bytes from the start of the array.
        first: the first of the numbers.
    """

    time: int
    batch: int
    offset: int
    first: float


@dataclasses.dataclass(frozen=True)
class MemoryOrder:
    """A sequence as it lies in memory.

    Attributes:
        name: "batch-major" or "time-major".
        axes: names of the axes.
        shape: of the array.
        strides: bytes from one entry of an axis to the next.
        element_strides: the same in elements of float32.
        cells: all cells, in the order of their addresses.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    element_strides: tuple[int, ...]
    cells: tuple[Cell, ...]


def memory_orders(sizes: Sizes, *, seed: int = 0) -> tuple[MemoryOrder, MemoryOrder]:
    """One random sequence batch-major, [batch, time, input], and time-major, [time, batch, input]."""
    batch_major = sequence(sizes, seed=seed)
    time_major = np.ascontiguousarray(batch_major.swapaxes(0, 1))
    major = _order("batch-major", ("batch", "time", "input"), batch_major)
    return major, _order("time-major", ("time", "batch", "input"), time_major)


def _order(name: str, axes: tuple[str, ...], array: Any) -> MemoryOrder:
    cells, size = [], array.shape[2] * array.itemsize
    for number, index in enumerate(np.ndindex(*array.shape[:2])):
        place = dict(zip(axes, index, strict=False))
        cells.append(Cell(place["time"], place["batch"], number * size, float(array[index][0])))
    elements = tuple(stride // array.itemsize for stride in array.strides)
    return MemoryOrder(name, axes, array.shape, array.strides, elements, tuple(cells))


def strides_table(orders: tuple[MemoryOrder, ...]) -> Table:
    """Shapes and strides, and in how many pieces one time step of all sequences lies."""
    header = ("order", "shape", "strides, elements", "strides, bytes", "one time step of all sequences")
    rows = []
    for order in orders:
        batch = order.shape[order.axes.index("batch")]
        stride, step = order.strides[order.axes.index("batch")], order.shape[2] * order.strides[2]
        pieces = (
            f"one piece of {batch * step:,} bytes"
            if batch == 1 or stride == step
            else f"{batch} pieces of {step:,} bytes, {stride:,} bytes apart"
        )
        shape = ", ".join(f"{axis} {size}" for axis, size in zip(order.axes, order.shape, strict=True))
        rows.append((order.name, shape, str(order.element_strides), str(order.strides), pieces))
    return Table("Memory", header, rows)


def _stock_time_major(model: Any) -> bytes:
    """Keras 3 has only batch-major LSTMs, so the time-major model swaps the axes itself."""
    import keras

    batch, *rest = model.input_shape
    inputs = keras.Input(batch_shape=(rest[0], batch, *rest[1:]), name="sequence")
    output = model.layers[-1](keras.ops.swapaxes(inputs, 0, 1))
    return stock(keras.Model(inputs, keras.ops.swapaxes(output, 0, 1)))


_fused_time_major = functools.partial(converted, time_major=True)

LAYOUTS = Candidates(
    (
        Candidate("batch-major, stock", stock),
        Candidate("time-major, stock", _stock_time_major, time_major_file=True, time_major_data=True),
        Candidate("batch-major, fused", converted),
        Candidate("time-major, fused", _fused_time_major, time_major_file=True, time_major_data=True),
        Candidate("batch-major, fused, caller swaps", converted, time_major_data=True),
    ),
    baseline="batch-major, fused",
    columns=("main graph", "median µs", "quartiles µs", "bytes", "ops in file", "max error"),
    note="Stock is TensorFlow's own converter. Keras 3 runs its loop time-major: for batch-major data the converter "
    "adds a transpose before the loop and one behind it (where batch or time is 1 they are written as RESHAPE, and "
    "move nothing). A Keras model between time-major data writes two of its own, which cancel with those. The fused "
    "op has a flag for the layout and needs none. If your data has the other layout, you must swap the axes before and "
    "after each call; the last row's time includes that. " + TIMES,
)
"""TensorFlow's own converter and lstm_toolkit, in both layouts."""

MAX_CELLS = 32
"""Most cells that are drawn of one order."""

_CELLS_A_LINE = 8
_WIDTH, _HEIGHT, _MARGIN = 60, 40, 76
_TINTS = ("#f7c97e", "#a9d8f5", "#8fd6be", "#f6efa0", "#9cc3e6", "#f0b38a", "#e6b8d3", "#d0d0d0")


LEGEND = (
    "The same sequence twice, from the first address to the last. A cell holds the input numbers of one time step (t) "
    "of one sequence of the batch (b), and shows the first of them. Cells of one sequence have one colour; those of "
    "time step 0 have a thick border."
)
"""What `drawing` shows."""


def drawing(order: MemoryOrder) -> str:
    """The memory of a sequence as SVG: cells in the order of their addresses, step 0 with a thick border."""
    shown = order.cells[:MAX_CELLS]
    lines = -(-len(shown) // _CELLS_A_LINE)
    width, height = _MARGIN + _CELLS_A_LINE * _WIDTH + 4, lines * (_HEIGHT + 8) + 4
    parts = [
        f'<text x="0" y="{line * (_HEIGHT + 8) + 26}" font-size="14" fill="currentColor">'
        f"byte {shown[line * _CELLS_A_LINE].offset:,}</text>"
        for line in range(lines)
    ]
    parts += [_drawn(number, cell) for number, cell in enumerate(shown)]
    label = html.escape(description(order))
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="max-width:100%;height:auto" font-family="sans-serif">{"".join(parts)}</svg>'
    )


def _drawn(number: int, cell: Cell) -> str:
    line, column = divmod(number, _CELLS_A_LINE)
    x, y = _MARGIN + column * _WIDTH + 2, line * (_HEIGHT + 8) + 2
    # A thick border lies inside its cell, whose colour it stands out from on a dark page too.
    border, inset = (4, 2) if cell.time == 0 else (1, 0)
    return (
        f"<g><title>time {cell.time}, batch {cell.batch}, from byte {cell.offset:,}, first number {cell.first:.3f}"
        f'</title><rect x="{x + inset}" y="{y + inset}" width="{_WIDTH - 2 * inset}" height="{_HEIGHT - 2 * inset}" '
        f'fill="{_TINTS[cell.batch % len(_TINTS)]}" stroke="#202020" stroke-width="{border}"/>'
        f'<text x="{x + _WIDTH // 2}" y="{y + 17}" font-size="14" font-weight="bold" text-anchor="middle" '
        f'fill="#101010">t{cell.time} b{cell.batch}</text>'
        f'<text x="{x + _WIDTH // 2}" y="{y + 33}" font-size="12" text-anchor="middle" fill="#101010">'
        f"{cell.first:.2f}</text></g>"
    )


def description(order: MemoryOrder) -> str:
    """The drawing in words."""
    names = ", ".join(f"t{cell.time} b{cell.batch}" for cell in order.cells[:6])
    rest = "" if len(order.cells) <= 6 else f", and so on, {len(order.cells)} cells"
    return f"{order.name} memory from the first address to the last: {names}{rest}"


def caption(order: MemoryOrder) -> str:
    """What is drawn, and what is left out."""
    shown = min(MAX_CELLS, len(order.cells))
    part = f"all {shown} cells" if shown == len(order.cells) else f"the first {shown} of {len(order.cells):,} cells"
    return f"{order.name}, [{', '.join(order.axes)}]: {part}"
