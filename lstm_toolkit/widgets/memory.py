"""The panel `watch_memory`: the gates and the memory of an LSTM, step by step, while it reads a sequence.

It shows what `panels.memory` computes. Needs the extra `codelabs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets

from lstm_toolkit.activations.figure import TITLES, WIDTH
from lstm_toolkit.activations.values import GateActivations
from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.panels import memory
from lstm_toolkit.panels.memory import Subject
from lstm_toolkit.widgets.parts import Player, WholeNumber, dropdown, html, section, status, table

ALL, ALL_UNITS = "all six", "all units"


def watch_memory(
    source: Any = None,
    x: Any = None,
    *,
    file: Any = None,
    layer: str | int | None = None,
    node: int | None = None,
    steps_a_call: int | None = None,
) -> MemoryPanel:
    """A panel: the gates i, f, g, o, the memory c and the output h of an LSTM while it reads a sequence.

    Args:
        source: as for `gate_activations`; without one, three units set by hand read brackets.
        x: one sequence [batch, time, ...], which the file reads in calls of as many steps as you choose and the source
            in one; or a list of sequences, each of which is a call for both.
        file: a `.tflite` of the same LSTM, to be shown beside the source, or a dict of several by name; without one,
            the source itself reads in calls.
        layer: which LSTM of the source, as for `gate_activations`.
        node: which LSTM of the file, by its number; the same as `layer` where None.
        steps_a_call: the length of calls that the panel starts with; the whole sequence where None.

    Raises:
        ValueError: if there is a source and nothing to read.
        TypeError, ValueError, LstmToolkitError: as `gate_activations`.
    """
    if source is None:
        return MemoryPanel(memory.brackets(), steps_a_call)
    if x is None:
        raise ValueError("watch_memory needs what the LSTM reads: give x, an array [batch, time, input]")
    files = file if isinstance(file, Mapping) else {} if file is None else {"file": file}
    subject = Subject(source, x, files, layer, layer if node is None else node)
    return MemoryPanel(subject, steps_a_call)


class MemoryPanel(ipywidgets.VBox):
    """Controls and what they show.

    Attributes:
        file: a `Dropdown` with the names of the files; not there without files.
        show: a `Dropdown`: all six of the source or of the file, or one of i, f, g, o, c and h, of both with the
            difference.
        unit: a `Dropdown`: heat maps of all units, or lines of one.
        sequence: a `WholeNumber`: which sequence of the batch; not there for a batch of one.
        length: a `WholeNumber`: the steps of a call; not there where x is a list.
        step: a `WholeNumber`.
        play: a `ToggleButton`; while it is down, the step goes on by itself.
        status: says what is wrong, if anything is.
        picture, cursor: the picture, and the line over it at the step.
        at_step: a table of what happens at the step.
        calls: a table of the calls: what comes in at the start of each, and how far it reaches.
    """

    def __init__(self, subject: Subject, steps_a_call: int | None = None) -> None:
        self._subject, self._truth = subject, subject.truth()
        steps = self._truth.time_steps
        widths = {"width": "19em", "label_width": "6.5em"}
        self.file = dropdown("File", list(subject.files), **widths)
        self.show = dropdown("Show", self._choices(), **widths)
        self.unit = dropdown("Unit", [ALL_UNITS, *map(str, range(self._truth.units))], **widths)
        self.sequence = WholeNumber("Sequence", 0, 0, len(self._truth.c) - 1)
        self.length = WholeNumber("Steps a call", steps_a_call or subject.time_steps, 1, subject.time_steps)
        self.length.field.style.description_width = "6.5em"
        self._player = Player("Step", steps - 1, least=0, milliseconds=300)
        self.step, self.play = self._player.number, self._player.button
        self.status, self.picture, self.cursor, self.at_step, self.calls = (html() for _ in range(5))
        self._watched = self._truth
        for control, act in ((self.file, self._compute), (self.show, self._draw), (self.unit, self._draw)):
            control.observe(lambda _, act=act: act(), "value")
        for field, act in ((self.length, self._compute), (self.sequence, self._draw), (self.step, self._move)):
            field.on_change(act)
        super().__init__([*self._rows(), self.status, self._overlaid(), self.at_step, self.calls])
        self._compute()

    def _choices(self) -> list[tuple[str, tuple[str, str | None]]]:
        """What can be shown: whose, and which gate."""
        # First what the other controls change.
        sides = [("file", "all six of the file"), ("source", "all six of the source")]
        whole = [(text, (side, None)) for side, text in sides] if self._subject.files else [(ALL, ("source", None))]
        letters = [(f"{letter}: {title}", ("file", letter)) for letter, title in TITLES.items()]
        return [*whole, *letters]

    def _rows(self) -> list[ipywidgets.HBox]:
        subject = self._subject
        chosen = [self.file] if subject.files else []
        chosen += [self.show, self.unit]
        chosen += [self.sequence] if len(self._truth.c) > 1 else []
        chosen += [self.length] if subject.is_whole else []
        return [ipywidgets.HBox(chosen, layout=ipywidgets.Layout(flex_flow="row wrap")), self._player]

    def _overlaid(self) -> ipywidgets.GridBox:
        """The picture with the line over it: both are in the one cell of a grid."""
        for each in (self.picture, self.cursor):
            each.layout.grid_area = "1 / 1"
            each.layout.margin = "0"
        layout = ipywidgets.Layout(grid_template_columns="minmax(0, 1fr)", max_width=f"{round(110 * WIDTH)}px")
        return ipywidgets.GridBox([self.picture, self.cursor], layout=layout)

    def _compute(self) -> None:
        """Runs the file, or the source where there is none, in calls of the chosen length."""
        subject, length = self._subject, self.length.value
        if length is None:
            return  # the field says why
        try:
            watched = subject.of_file(self.file.value, length) if subject.files else subject.of_source(length)
        except (ValueError, LstmToolkitError) as error:
            self._say(f"Not possible with {length} steps a call: {error}")
            return
        self._watched = watched
        self._say("")
        against = self._truth if subject.files else None
        self.calls.value = section(table(watched.borders(against)))
        self._draw()

    def _shown(self) -> GateActivations:
        side, _ = self.show.value
        return self._truth if side == "source" and self._subject.files else self._watched

    def _draw(self) -> None:
        _, gate = self.show.value
        unit = None if self.unit.value == ALL_UNITS else int(self.unit.value)
        against = self._truth if gate is not None and self._subject.files else None
        batch = self.sequence.value
        if batch is None:
            return
        drawn = self._shown().picture(gate=gate, unit=unit, batch=batch, against=against)
        self._size = tuple(drawn.figure.get_size_inches())
        self.picture.value = memory.as_html(drawn)
        self._move()

    def _move(self) -> None:
        """Shows another step; the picture stays."""
        shown, step, batch = self._shown(), self.step.value, self.sequence.value
        if step is None or batch is None:
            return
        unit = None if self.unit.value == ALL_UNITS else int(self.unit.value)
        self.cursor.value = memory.cursor(shown, step, self._size)
        at_step = memory.step_table(shown, step, batch=batch, unit=unit)
        self.at_step.value = section(table(at_step))

    def _say(self, text: str) -> None:
        self.status.value = status(text)
