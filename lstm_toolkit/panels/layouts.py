"""One sequence time-major and batch-major: where its numbers lie in memory, and what each layout costs in a file.

Needs the extra `codelabs`.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from lstm_toolkit.display.images import SVG, image
from lstm_toolkit.display.tables import Table
from lstm_toolkit.escapes import in_html
from lstm_toolkit.panels.measured import TIMES, Candidate, Candidates, converted, sequence, stock
from lstm_toolkit.panels.sizes import Sizes


@dataclasses.dataclass(frozen=True)
class Cell:
    """The numbers of one time step of one sequence, which lie side by side in either order.

    Attributes:
        time, batch: which step of which sequence.
        offset: bytes from the start of the array.
        size: bytes of the numbers.
        first: the first of the numbers.
    """

    time: int
    batch: int
    offset: int
    size: int
    first: float

    def __str__(self) -> str:
        return f"t{self.time} b{self.batch}"


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryOrder:
    """A sequence as it lies in memory, and how the kernel of the fused op goes through it.

    Attributes:
        name: "batch-major" or "time-major".
        axes: names of the axes.
        values: the array, float32.
        cells_a_turn: what the kernel reads before it multiplies by the weights once: batch-major one cell, of one
            sequence to its end and then of the next; time-major one step of all sequences.
    """

    name: str
    axes: tuple[str, ...]
    values: Any
    cells_a_turn: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.values.shape)

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one entry of an axis to the next."""
        return tuple(self.values.strides)

    @property
    def element_strides(self) -> tuple[int, ...]:
        """The same in elements of float32."""
        return tuple(stride // self.values.itemsize for stride in self.strides)

    @property
    def turns(self) -> int:
        """How often the kernel multiplies by the weights until it has read all."""
        return len(self) // self.cells_a_turn

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def cell(self, number: int) -> Cell:
        """A cell by its place in memory, from 0."""
        index = divmod(number, self.shape[1])
        place = dict(zip(self.axes, index, strict=False))
        size = self.strides[1]
        return Cell(place["time"], place["batch"], number * size, size, float(self.values[index][0]))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, in the order of their addresses."""
        return tuple(map(self.cell, range(len(self))))

    def read_in(self, turn: int) -> range:
        """The cells that the kernel reads in a turn, counted from 1; none when it has read all."""
        first = (turn - 1) * self.cells_a_turn
        return range(min(first, len(self)), min(first + self.cells_a_turn, len(self)))


def memory_orders(sizes: Sizes, *, seed: int = 0) -> tuple[MemoryOrder, MemoryOrder]:
    """One random sequence batch-major, [batch, time, input], and time-major, [time, batch, input]."""
    values = sequence(sizes, seed=seed)
    # Copied: of an array with a single sequence NumPy takes any strides for contiguous.
    time_major = np.array(values.swapaxes(0, 1), order="C")
    return (
        MemoryOrder("batch-major", ("batch", "time", "input"), values, 1),
        MemoryOrder("time-major", ("time", "batch", "input"), time_major, sizes.batch_size),
    )


def strides_table(orders: tuple[MemoryOrder, ...]) -> Table:
    """Shapes and strides, in how many pieces one time step of all sequences lies, and the kernel's turns."""
    header = (
        "order",
        "shape",
        "strides, elements",
        "strides, bytes",
        "one time step of all sequences",
        "times that the weights are read",
    )
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
        rows.append((order.name, shape, str(order.element_strides), str(order.strides), pieces, f"{order.turns:,}"))
    return Table("Memory", header, rows)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Frame:
    """Both memory orders at one turn of the kernel. Printed, it says what is read; in a notebook it is a picture.

    Attributes:
        orders: batch-major and time-major.
        turn: of the kernel, from 1.
    """

    orders: tuple[MemoryOrder, MemoryOrder]
    turn: int

    def __repr__(self) -> str:
        return "\n".join(description(order, self.turn) for order in self.orders)

    def _repr_html_(self) -> str:
        return "".join(
            f"<p><strong>{in_html(caption(order, self.turn))}</strong><br>{in_html(description(order, self.turn))}</p>"
            + image(drawing(order, self.turn).encode(), SVG, description(order, self.turn), "max-width: 100%")
            for order in self.orders
        )


def frame(sizes: Sizes, turn: int = 1, *, seed: int = 0) -> Frame:
    """What the kernel reads in one turn, in both memory orders.

    Args:
        sizes: of the sequence; the units do not matter.
        turn: from 1 to batch_size * time_steps, the turns that batch-major data take. Time-major data take time_steps.
        seed: of the numbers.

    Raises:
        ValueError: if there is no such turn.
    """
    last = sizes.batch_size * sizes.time_steps
    if type(turn) is not int or not 1 <= turn <= last:
        raise ValueError(f"turn must be an integer from 1 to {last}, got {turn!r}")
    return Frame(memory_orders(sizes, seed=seed), turn)


def _stock_time_major(model: Any) -> bytes:
    """Keras 3 has only batch-major LSTMs, so the time-major model swaps the axes itself."""
    import keras

    batch, *rest = model.input_shape
    inputs = keras.Input(batch_shape=(rest[0], batch, *rest[1:]), name="sequence")
    output = model(keras.ops.swapaxes(inputs, 0, 1))
    return stock(keras.Model(inputs, keras.ops.swapaxes(output, 0, 1) if len(output.shape) > 2 else output))


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
    columns=("main graph", "who swaps", "median µs", "quartiles µs", "bytes", "ops in file", "max error"),
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
_WIDTH, _HEIGHT, _MARGIN = 66, 44, 84
_TINTS = ("#f7c97e", "#a9d8f5", "#8fd6be", "#f6efa0", "#9cc3e6", "#f0b38a", "#e6b8d3", "#d0d0d0")
_INK, _PAPER = "#101010", "#ffffff"


LEGEND = (
    "The same sequence twice, from the first address to the last. A cell holds the input numbers of one time step (t) "
    "of one sequence of the batch (b); below it stands the turn in which the kernel of the fused op reads it. Cells "
    "with a thick border are read in this turn, coloured ones were read before, white ones are still to come; each "
    "sequence has its colour. In every turn the kernel reads all its weights once. Batch-major it takes one sequence "
    "to its end, then the next: a cell a turn. Time-major it takes one step of all sequences a turn. TensorFlow's own "
    "loop goes as time-major does, and its file transposes batch-major data first."
)
"""What `drawing` shows."""


def _shown(order: MemoryOrder, turn: int) -> range:
    """The cells around the turn: as many whole turns as fit."""
    most = MAX_CELLS - MAX_CELLS % order.cells_a_turn
    reading = order.read_in(min(turn, order.turns))
    start = reading.start - reading.start % most
    return range(start, min(start + most, len(order)))


def drawing(order: MemoryOrder, turn: int = 1) -> str:
    """The memory of a sequence as SVG: cells in the order of their addresses, with what the kernel reads in a turn."""
    shown = _shown(order, turn)
    lines = -(-len(shown) // _CELLS_A_LINE)
    width, height = _MARGIN + _CELLS_A_LINE * _WIDTH + 4, lines * (_HEIGHT + 6) + 6
    parts = [
        f'<text x="6" y="{line * (_HEIGHT + 6) + 31}" font-size="13" fill="{_INK}">'
        f"byte {order.cell(shown[line * _CELLS_A_LINE]).offset:,}</text>"
        for line in range(lines)
    ]
    parts += [_drawn(order, place, number, turn) for place, number in enumerate(shown)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif"><rect width="100%" height="100%" rx="4" fill="{_PAPER}"/>{"".join(parts)}</svg>'
    )


def _drawn(order: MemoryOrder, place: int, number: int, turn: int) -> str:
    line, column = divmod(place, _CELLS_A_LINE)
    x, y = _MARGIN + column * _WIDTH + 2, line * (_HEIGHT + 6) + 4
    cell, own_turn = order.cell(number), number // order.cells_a_turn + 1
    state = "now" if own_turn == turn else "read" if own_turn < turn else "later"
    tint = _TINTS[cell.batch % len(_TINTS)]
    # A thick border lies inside its cell.
    border, inset = (5, 2.5) if state == "now" else (1, 0)
    stripe = f'<rect x="{x}" y="{y}" width="6" height="{_HEIGHT}" fill="{tint}" stroke="{_INK}"/>'
    return (
        f'<g class="{state}"><rect x="{x + inset}" y="{y + inset}" width="{_WIDTH - 2 * inset}" '
        f'height="{_HEIGHT - 2 * inset}" fill="{_PAPER if state == "later" else tint}" stroke="{_INK}" '
        f'stroke-width="{border}"/>{stripe if state == "later" else ""}'
        f'<text x="{x + _WIDTH // 2}" y="{y + 20}" font-size="14" font-weight="bold" text-anchor="middle" '
        f'fill="{_INK}">{cell}</text><text x="{x + _WIDTH // 2}" y="{y + 35}" font-size="11" text-anchor="middle" '
        f'fill="{_INK}">turn {own_turn}</text></g>'
    )


def description(order: MemoryOrder, turn: int = 1) -> str:
    """What the kernel reads in a turn, in words."""
    reading = [order.cell(number) for number in order.read_in(turn)]
    if not reading:
        return f"{order.name} memory: all is read after turn {order.turns:,}"
    names = ", ".join(map(str, reading))
    first, last = reading[0].offset, reading[-1].offset + reading[-1].size - 1
    return f"{order.name} memory: turn {turn:,} of {order.turns:,} reads {names}, bytes {first:,} to {last:,}"


def caption(order: MemoryOrder, turn: int = 1) -> str:
    """What is drawn, and what is left out."""
    shown = _shown(order, turn)
    part = (
        f"all {len(order)} cells"
        if len(shown) == len(order)
        else f"cells {shown.start + 1:,} to {shown.stop:,} of {len(order):,}"
    )
    return f"{order.name}, [{', '.join(order.axes)}]: {part}"
