"""`GateActivations`: every gate of an LSTM at every step of a sequence."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.activations.figure import Shown, draw
from lstm_toolkit.display.picture import Picture
from lstm_toolkit.display.tables import Table
from lstm_toolkit.escapes import printable

Array = npt.NDArray[np.float32]

FADED = 0.01
"""Where the outputs differ by less, a difference that came in at the start of a call counts as faded."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GateActivations:
    """What an LSTM does at every step of a sequence, which may come in several calls.

    Attributes:
        kind: where they come from: "layer" (of Keras), "node" (of a file) or "weights".
        name: of the layer or node.
        x: what goes into the LSTM, [batch, time, input_size].
        i, f, g, o: input, forget, cell and output gate, [batch, time, units]. With a coupled input gate i is 1 - f.
        c: the cell state after each step, [batch, time, units].
        h: the output, [batch, time, output_size].
        starts: the step at which each call starts.
        h_start, c_start: the states with which each call starts, [calls, batch, output_size] and [calls, batch, units].
        max_abs_error: largest difference of `h`, and of the last `c` where it can be read, from what the source itself
            computes; None for `GateWeights`, which compute nothing.
        tolerance: the difference that is allowed.
        backward: the same of the backward half of a bidirectional LSTM, which reads from the last step to the first.

    All arrays are float32 and read-only. Step t is always step t of the input, also in a backward half.
    """

    kind: str
    name: str
    x: Array
    i: Array
    f: Array
    g: Array
    o: Array
    c: Array
    h: Array
    starts: tuple[int, ...]
    h_start: Array
    c_start: Array
    max_abs_error: float | None
    tolerance: float
    backward: GateActivations | None = None

    @property
    def units(self) -> int:
        """Number of cells."""
        return int(self.c.shape[2])

    @property
    def time_steps(self) -> int:
        """Number of steps over all calls."""
        return int(self.c.shape[1])

    def picture(
        self,
        *,
        gate: str | None = None,
        unit: int | None = None,
        batch: int = 0,
        step: int | None = None,
        against: GateActivations | None = None,
    ) -> Picture:
        """Draws the gates over time: heat maps with a row a unit, or lines of one unit.

        Args:
            gate: one of "i", "f", "g", "o", "c" and "h"; None for all six.
            unit: the unit to draw as lines; None for heat maps of all.
            batch: the sequence of the batch.
            step: a step to mark, or None.
            against: other activations of the same LSTM. With a gate, they and the difference are drawn below; with a
                unit, they are drawn as dashed lines.

        Raises:
            ValueError: for an unknown gate, and where the two are not of the same sizes.
            IndexError: for a unit, a sequence or a step that is not there.
        """
        if against is not None:
            check_same_sizes(self, against)
        return draw(Shown(self, against, gate, unit, batch, step))

    def borders(self, against: GateActivations | None = None) -> Table:
        """What comes in at the start of each call, and how far it reaches.

        Args:
            against: activations of the same LSTM on the same sequences that are right; those of the table are compared
                with them, call by call.

        Raises:
            ValueError: if the two are not of the same sizes.
        """
        header = ["call", "from step", "largest |h| that comes in", "largest |c| that comes in"]
        rows: list[list[Any]] = []
        ends = [*self.starts[1:], self.time_steps]
        for number, (start, end) in enumerate(zip(self.starts, ends, strict=True)):
            states = (self.h_start[number], self.c_start[number])
            rows.append([number, start, *(f"{np.abs(each).max(initial=0):.2f}" for each in states)])
            if against is not None:
                check_same_sizes(self, against)
                distances = np.abs(self.h[:, start:end] - against.h[:, start:end]).max(axis=(0, 2), initial=0)
                off = np.flatnonzero(distances > FADED)
                rows[-1] += [f"{distances.max(initial=0):.2f}", int(off[-1]) + 1 if len(off) else 0]
        if against is not None:
            header += ["h off by at most", f"steps until h is right within {FADED}"]
        return Table(f"Calls of {printable(self.name)}", header, rows)

    def __repr__(self) -> str:
        error = "not compared" if self.max_abs_error is None else f"off by {self.max_abs_error:.1e}"
        batch, sizes = self.c.shape[0], f"time_steps={self.time_steps}, units={self.units}"
        return f"GateActivations({self.name!r}: batch={batch}, {sizes}, calls={len(self.starts)}, {error})"


def check_same_sizes(one: GateActivations, other: GateActivations) -> None:
    """Refuses to compare LSTMs, or sequences, of other sizes."""
    sizes = [(each.c.shape, each.h.shape) for each in (one, other)]
    if sizes[0] != sizes[1]:
        c, h = ([list(size[number]) for size in sizes] for number in (0, 1))
        raise ValueError(
            f"{one.name!r} and {other.name!r} cannot be compared: c is {c[0]} and {c[1]}, h is {h[0]} and {h[1]}; give "
            "the same LSTM and the same sequences twice"
        )
