"""The panels whose sizes are chosen, with a button that converts and measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from lstm_toolkit.escapes import in_html
from lstm_toolkit.panels import layouts, lowerings
from lstm_toolkit.panels.measured import LIMITS, Comparison, Sizes, compare
from lstm_toolkit.widgets.parts import STYLE, html, number, paragraph, section, table


def compare_layouts() -> LayoutPanel:
    """A panel: one sequence in both memory orders, and what each layout costs in a file."""
    return LayoutPanel()


def compare_lowerings() -> LoweringPanel:
    """A panel: operators, size, time and error of one LSTM under several lowerings."""
    return LoweringPanel()


_LABELS = {"batch_size": "Batch", "time_steps": "Time steps", "input_size": "Input size", "units": "Units"}


class _SizesPanel(ipywidgets.VBox):
    """Controls for the sizes, a button that converts and measures, and room for the results.

    Attributes:
        batch_size, time_steps, input_size, units: each a `BoundedIntText`. (Sliders have no label for screen readers.)
        run: the button.
        status: says what is being done, or what is wrong.
        results: tables of the last measurement.
    """

    def __init__(self, button: str, sizes: Sizes, *, above: Sequence[Any] = (), below: Sequence[Any] = ()) -> None:
        self.batch_size, self.time_steps, self.input_size, self.units = self._numbers = tuple(
            number(label, getattr(sizes, name), LIMITS[name]) for name, label in _LABELS.items()
        )
        self.run = ipywidgets.Button(description=button, layout=ipywidgets.Layout(width="auto"))
        self.status, self.results = html(), html()
        for control in self._numbers:
            control.observe(lambda _: self._sizes_changed(), "value")
        self.run.on_click(lambda _: self._clicked())
        row = ipywidgets.HBox([*self._numbers, self.run], layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([row, *above, self.status, self.results, *below])
        self._sizes_changed()

    def _show(self, sizes: Sizes) -> None:
        """Shows at once what depends on the sizes alone."""

    def _measure(self, sizes: Sizes) -> None:
        """Does what the button is for."""
        raise NotImplementedError

    def _sizes_changed(self) -> None:
        if sizes := self._sizes():
            self._show(sizes)
            self._say(f"Press “{self.run.description}” for the files of {sizes}.")

    def _clicked(self) -> None:
        # The button stays enabled: disabling takes the keyboard's focus away from it.
        if sizes := self._sizes():
            self._say("Converting and measuring; the first time, TensorFlow is loaded too.")
            try:
                self._measure(sizes)
            except BaseException:
                self._say(f"Stopped; nothing was measured for {sizes}.")
                raise
            self._say(f"Measured for {sizes}.")

    def _sizes(self) -> Sizes | None:
        """What the controls say; if that is too much, the panel says so."""
        try:
            return Sizes(*(control.value for control in self._numbers))
        except ValueError as error:
            self._say(f"Not possible: {error}.")
            return None

    def _say(self, text: str) -> None:
        self.status.value = f'{STYLE}<div class="lstm-toolkit" role="status">{in_html(text)}</div>'


class LayoutPanel(_SizesPanel):
    """Time-major against batch-major.

    Attributes:
        memory: the same sequence in both memory orders, redrawn whenever a size changes.
        comparison: the last measurement, or None.
    """

    def __init__(self) -> None:
        self.memory = html()
        self.comparison: Comparison | None = None
        super().__init__("Convert and measure", Sizes(3, 5, 2, 4), above=[self.memory])

    def _show(self, sizes: Sizes) -> None:
        orders = layouts.memory_orders(sizes)
        drawings = "".join(f"<h4>{in_html(layouts.caption(order))}</h4>{layouts.drawing(order)}" for order in orders)
        self.memory.value = section(paragraph(layouts.LEGEND) + drawings + table(layouts.strides_table(orders)))

    def _measure(self, sizes: Sizes) -> None:
        self.comparison = compare(layouts.LAYOUTS, sizes)
        self.results.value = _results(self.comparison)


class LoweringPanel(_SizesPanel):
    """Operators, size, time and error of one LSTM under several lowerings.

    Attributes:
        quantity: which column the bars show.
        picture: the bars.
        comparison: the last measurement, or None.
    """

    def __init__(self) -> None:
        self.quantity = ipywidgets.Dropdown(
            options=list(lowerings.QUANTITIES),
            description="Bars show",
            style={"description_width": "5.5em"},
            layout=ipywidgets.Layout(width="22em"),
        )
        self.picture = html()
        self.comparison: Comparison | None = None
        self.quantity.observe(lambda _: self._draw(), "value")
        super().__init__("Convert and measure", Sizes(1, 28, 8, 20), below=[self.quantity, self.picture])

    def _measure(self, sizes: Sizes) -> None:
        self.comparison = compare(lowerings.LOWERINGS, sizes)
        self.results.value = _results(self.comparison)
        self._draw()

    def _draw(self) -> None:
        if self.comparison is not None:
            drawn = lowerings.picture(self.comparison, self.quantity.value)
            self.picture.value = section(drawn._repr_html_())


def _results(comparison: Comparison) -> str:
    return section("".join(map(table, comparison.tables())) + paragraph(comparison.candidates.note))
