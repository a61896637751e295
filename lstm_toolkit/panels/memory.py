"""The gates of an LSTM while it reads a sequence: the source beside a file, step by step, call by call.

Needs the extra `codelabs`.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from lstm_toolkit.activations.figure import BOTTOM, LEFT, RIGHT, TOP, WIDTH
from lstm_toolkit.activations.gates import gate_activations
from lstm_toolkit.activations.values import GateActivations
from lstm_toolkit.display.images import PNG, image
from lstm_toolkit.display.picture import Picture
from lstm_toolkit.display.tables import Table
from lstm_toolkit.weights.gate_weights import GateWeights

MOST_UNITS = 8
"""Most units that a table of a step has."""

TEXT = "(a(b)c)(d)"
"""What `brackets` reads."""

_SYMBOLS = "()"
_DOTS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """An LSTM, the files made of it, and what they read.

    Attributes:
        source: as for `gate_activations`.
        x: one sequence, which a file reads in calls of any length; or a list, of which each is a call.
        files: files of the same LSTM by name; may be empty.
        layer: which LSTM of the source, as for `gate_activations`.
        node: which LSTM of the files.
    """

    source: Any
    x: Any
    files: Mapping[str, Any]
    layer: str | int | None = None
    node: str | int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the calls are cut out of one sequence."""
        return not isinstance(self.x, (list, tuple, Mapping))

    @property
    def time_steps(self) -> int:
        """Steps of the one sequence; 1 where there are several."""
        return int(np.shape(self.x)[1]) if self.is_whole and np.ndim(self.x) > 1 else 1

    def cut(self, length: int) -> Any:
        """What is read, in calls of a number of steps."""
        if not self.is_whole:
            return self.x
        return [self.x[:, start : start + length] for start in range(0, self.time_steps, length)]

    def truth(self) -> GateActivations:
        """The source; it reads one sequence in one call."""
        return gate_activations(self.source, self.x, layer=self.layer)

    def of_file(self, name: str, length: int) -> GateActivations:
        """A file, which reads one sequence in calls of a number of steps."""
        return gate_activations(self.files[name], self.cut(length), layer=self.node)

    def of_source(self, length: int) -> GateActivations:
        """The source in such calls, where there is no file."""
        return gate_activations(self.source, self.cut(length), layer=self.layer)


def brackets() -> Subject:
    """Three units whose weights are set by hand, which read brackets and letters.

    Unit 0 counts how deep the brackets are, unit 1 forgets all at a closing one, unit 2 forgets step by step.
    """
    x = np.array([[[letter == each for each in _SYMBOLS] for letter in TEXT]], np.float32)
    zeros = np.zeros((3, 3), np.float32)
    weights = GateWeights(
        input_to_input_weights=np.array([[12, 12], [12, 0], [12, 0]], np.float32),
        input_to_forget_weights=np.array([[0, 0], [0, -16], [0, 0]], np.float32),
        input_to_cell_weights=np.array([[0.5, -0.5], [0.5, 0], [0.5, 0]], np.float32),
        input_to_output_weights=np.zeros((3, 2), np.float32),
        **{f"recurrent_to_{gate}_weights": zeros for gate in ("input", "forget", "cell", "output")},
        input_gate_bias=np.full(3, -6, np.float32),
        forget_gate_bias=np.array([8, 8, 0.5], np.float32),
        cell_gate_bias=np.zeros(3, np.float32),
        output_gate_bias=np.full(3, 8, np.float32),
    )
    return Subject(weights, x, {})


def step_table(shown: GateActivations, step: int, *, batch: int = 0, unit: int | None = None) -> Table:
    """What happens to the memory at one step: how much of it stays, what comes in, and what is shown of it.

    Args:
        shown: the activations.
        step: the step.
        batch: the sequence of the batch.
        unit: the unit; the first `MOST_UNITS` where None.
    """
    call = int(np.searchsorted(shown.starts, step, side="right")) - 1
    before = shown.c_start[call, batch] if step in shown.starts else shown.c[batch, step - 1]
    units = [unit] if unit is not None else range(min(shown.units, MOST_UNITS))
    rows = []
    for each in units:
        i, f, g, o, c = (_text(getattr(shown, name)[batch, step, each]) for name in "ifgoc")
        out = _text(shown.h[batch, step, each]) if each < shown.h.shape[2] else ""
        rows.append([str(each), f"{f} × {_text(before[each])}", f"{i} × {g}", c, o, out])
    left_out = f", of {shown.units}" if len(rows) < shown.units and unit is None else ""
    title = f"Step {step} in call {call}{left_out}"
    return Table(title, ("unit", "f × c before", "+ i × g", "= c", "o", "h"), rows)


def _text(number: float) -> str:
    return f"{round(float(number), 2) + 0.0:.2f}"


def as_html(picture: Picture) -> str:
    """A picture in less time than it takes to show itself: without transparency, packed less."""
    picture.figure.set_dpi(_DOTS)
    canvas = FigureCanvasAgg(picture.figure)
    canvas.draw()
    data = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(data, "PNG", compress_level=1)
    return image(data.getvalue(), PNG, picture.alt, style="width:100%;display:block")


def cursor(shown: GateActivations, step: int, size: Sequence[float]) -> str:
    """A line over a picture of `GateActivations`, at a step; the size is that of the picture."""
    share = 100 * (LEFT + (RIGHT - LEFT) * (step + 0.5) / shown.time_steps) / WIDTH
    top, bottom = (100 * (each - 0.05) / size[1] for each in (TOP, BOTTOM))
    place = f"left:{share:.2f}%;top:{top:.2f}%;bottom:{bottom:.2f}%"
    line = f"{place};width:2px;margin-left:-1px;background:#000;box-shadow:0 0 0 1px #fff"
    ratio = f"width:100%;aspect-ratio:{size[0]:.2f}/{size[1]:.2f}"
    return f'<div style="position:relative;{ratio}"><div style="position:absolute;{line}"></div></div>'
