"""The panels whose sizes are chosen, with a button that converts and measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.panels import layouts, lowerings
from lstm_toolkit.panels.measured import Comparison, compare
from lstm_toolkit.panels.sizes import LIMITS, Sizes
from lstm_toolkit.panels.subjects import subject
from lstm_toolkit.widgets.parts import Player, Results, WholeNumber, dropdown, html, paragraph, section, status, table


def compare_layouts(model: Any = None) -> LayoutPanel:
    """A panel: how the kernel goes through a sequence in both memory orders, and what each layout costs in a file.

    Args:
        model: a Keras 3 model, functional or sequential, with one input [batch, time, input] of floats and one output;
            or its path. Without one, an example LSTM of any sizes. Sizes that the model settles cannot be changed.

    Raises:
        TypeError, ValueError: if it is another one; the message says which fit.
        ConversionError, InvalidModelError: if it cannot be loaded.
    """
    return LayoutPanel(model)


def compare_lowerings(model: Any = None) -> LoweringPanel:
    """A panel: operators, size, time and error of one LSTM under several lowerings.

    Args:
        model: as for `compare_layouts`; or a `.tflite` file with a fused LSTM op: its path, its bytes or a
            `Conversion`.

    Raises:
        TypeError, ValueError: if it is another one; the message says which fit.
        ConversionError, InvalidModelError: if it cannot be loaded.
    """
    return LoweringPanel(model)


_LABELS = {"batch_size": "Batch", "time_steps": "Time steps", "input_size": "Input size", "units": "Units"}


class _SizesPanel(ipywidgets.VBox):
    """Controls for the sizes, a button that converts and measures, and room for the results.

    Attributes:
        batch_size, time_steps, input_size, units: each a `WholeNumber` with the attributes `field` (a `FloatText`),
            `message` and `value`.
        run: the button.
        status: says what is being done, or what is wrong.
        results: tables of the last measurement; grey while other sizes are chosen.
        comparison: the last measurement, or None.
    """

    def __init__(self, model: Any, preset: Sizes, *, above: Sequence[Any] = (), below: Sequence[Any] = ()) -> None:
        self._subject = None if model is None else subject(model, preset)
        begin = self._subject.sizes if self._subject else preset
        self.batch_size, self.time_steps, self.input_size, self.units = self._numbers = tuple(
            WholeNumber(label, getattr(begin, name), 1, LIMITS[name]) for name, label in _LABELS.items()
        )
        self.run = ipywidgets.Button(description="Convert and measure", layout=ipywidgets.Layout(width="auto"))
        self.status, self.results = html(), Results()
        self.comparison: Comparison | None = None
        for name, control in zip(_LABELS, self._numbers, strict=True):
            control.on_change(self._sizes_changed)
            if self._subject and name in self._subject.settled:
                control.settle(f"{self._subject.name} settles it.")
        self.run.on_click(lambda _: self._clicked())
        row = ipywidgets.HBox([*self._numbers, self.run], layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([row, *above, self.status, self.results, *below])
        self._sizes_changed()

    def _show(self, sizes: Sizes) -> None:
        """Shows at once what depends on the sizes alone."""

    def _places(self) -> Sequence[Results]:
        """What belongs to certain sizes."""
        return (self.results,)

    def _measured(self) -> None:
        """Shows more of the comparison."""

    def _candidates(self) -> Any:
        raise NotImplementedError

    def _sizes_changed(self) -> None:
        sizes = self._sizes()
        for place in self._places():
            place.chosen(self._words(sizes) if sizes else None)
        if sizes:
            self._show(sizes)
            self._say(f"Press “{self.run.description}” for the files of {self._words(sizes)}.")

    def _clicked(self) -> None:
        # The button stays enabled: disabling takes the keyboard's focus away from it.
        sizes = self._sizes()
        if not sizes:
            return
        words = self._words(sizes)
        self._say("Converting and measuring; the first time, TensorFlow is loaded too.")
        try:
            self.comparison = compare(self._candidates(), sizes, subject=self._subject)
        except LstmToolkitError as error:
            self._say(f"Not possible: {error}.")
            return
        except BaseException:
            self._say(f"Stopped; nothing was measured for {words}.")
            raise
        tables = "".join(map(table, self.comparison.tables()))
        self.results.show(section(tables + paragraph(self.comparison.candidates.note)), words)
        self._measured()
        self._say(f"Measured for {words}.")

    def _words(self, sizes: Sizes) -> str:
        return f"{self._subject.name}, {sizes}" if self._subject else str(sizes)

    def _sizes(self) -> Sizes | None:
        """What the controls say; if that is too much, the panel says so."""
        wrong = [control.description for control in self._numbers if control.value is None]
        if wrong:
            self._say(f"Nothing is shown for these sizes: see {' and '.join(wrong)}.")
            return None
        try:
            return Sizes(*(control.value for control in self._numbers if control.value is not None))
        except ValueError as error:
            self._say(f"Not possible: {error}.")
            return None

    def _say(self, text: str) -> None:
        self.status.value = status(text)


class LayoutPanel(_SizesPanel):
    """Time-major against batch-major.

    Attributes:
        turn: a `Player`, for the turns of the kernel.
        memory: both memory orders, with what the kernel reads in the turn; redrawn whenever a size or the turn changes.
    """

    def __init__(self, model: Any = None) -> None:
        preset = Sizes(3, 5, 2, 4)
        self.memory = Results()
        self.turn = Player("Turn", preset.batch_size * preset.time_steps)
        super().__init__(model, preset, above=[self.turn, self.memory])
        if self._subject and self._subject.is_file:
            raise ValueError("a .tflite file has one layout; pass the model that it was made from, or its .keras file")
        self.turn.number.on_change(self._turn_changed)

    def _places(self) -> Sequence[Results]:
        return (self.memory, self.results)

    def _candidates(self) -> Any:
        return layouts.LAYOUTS

    def _show(self, sizes: Sizes) -> None:
        self.turn.limit(sizes.batch_size * sizes.time_steps)
        self._turn_changed()

    def _turn_changed(self) -> None:
        sizes = self._sizes()
        if sizes and self.turn.number.value is not None:
            frame = layouts.frame(sizes, self.turn.number.value)
            drawn = frame._repr_html_() + table(layouts.strides_table(frame.orders))
            self.memory.show(section(drawn + paragraph(layouts.LEGEND)), self._words(sizes))


class LoweringPanel(_SizesPanel):
    """Operators, size, time and error of one LSTM under several lowerings.

    Attributes:
        sketch: what each way makes of the time steps; redrawn whenever a size changes.
        quantity: which column the bars show.
        picture: the bars.
    """

    def __init__(self, model: Any = None) -> None:
        self.quantity = dropdown("Bars show", list(lowerings.QUANTITIES), width="22em", label_width="5.5em")
        self.sketch, self.picture = Results(), Results()
        self.quantity.observe(lambda _: self._draw(), "value")
        super().__init__(model, Sizes(1, 28, 8, 20), above=[self.sketch], below=[self.quantity, self.picture])

    def _places(self) -> Sequence[Results]:
        return (self.sketch, self.results, self.picture)

    def _candidates(self) -> Any:
        return lowerings.FILE_LOWERINGS if self._subject and self._subject.is_file else lowerings.LOWERINGS

    def _show(self, sizes: Sizes) -> None:
        drawn = lowerings.sketch(sizes, self._candidates())
        self.sketch.show(section(drawn._repr_html_() + paragraph(lowerings.LEGEND)), self._words(sizes))

    def _measured(self) -> None:
        self._draw()

    def _draw(self) -> None:
        if self.comparison is not None:
            drawn = lowerings.picture(self.comparison, self.quantity.value)
            self.picture.show(section(drawn._repr_html_()), self.comparison.subject)
            sizes = self._sizes()
            self.picture.chosen(self._words(sizes) if sizes else None)
