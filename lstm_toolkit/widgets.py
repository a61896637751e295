"""Panels for notebooks: `compare_layouts`, `explore_gates`, `compare_lowerings`.

A panel shows what the pure functions of `lstm_toolkit.panels` say. It works without a browser too: set a control's
`value`, `click()` its button, read the `value` of its `HTML`. Needs the extra `codelabs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

try:
    import ipywidgets
except ImportError as error:
    raise ImportError("the panels need ipywidgets: pip install 'lstm_toolkit[codelabs]'") from error

from lstm_toolkit.display.tables import Table
from lstm_toolkit.escapes import in_html
from lstm_toolkit.panels import layouts, lowerings
from lstm_toolkit.panels.gates import explore_gates
from lstm_toolkit.panels.measured import LIMITS, Comparison, Sizes, compare

__all__ = ("LayoutPanel", "LoweringPanel", "compare_layouts", "compare_lowerings", "explore_gates")


def compare_layouts() -> LayoutPanel:
    """A panel: one sequence in both memory orders, and what each layout costs in a file."""
    return LayoutPanel()


def compare_lowerings() -> LoweringPanel:
    """A panel: operators, size, time and error of one LSTM under several lowerings."""
    return LoweringPanel()


_LABELS = {"batch_size": "Batch", "time_steps": "Time steps", "input_size": "Input size", "units": "Units"}

# Colours that are not set are those of the notebook's theme.
_STYLE = """<style>
.lstm-toolkit { line-height: 1.45; color: var(--jp-content-font-color1, inherit); overflow-wrap: break-word; }
.lstm-toolkit h4 { margin: 0.8em 0 0.3em; font-size: 1.05em; font-weight: bold; }
.lstm-toolkit p { margin: 0.3em 0; max-width: 60em; }
.lstm-toolkit table { border-collapse: collapse; margin: 0.3em 0 0.6em; }
.lstm-toolkit th, .lstm-toolkit td { border: 1px solid #8a8a8a; padding: 3px 8px; text-align: left; }
.lstm-toolkit th { font-weight: bold; }
.lstm-toolkit td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.lstm-toolkit td:nth-child(2) { white-space: normal; min-width: 9em; }
.lstm-toolkit img { max-width: 100%; height: auto; background: #ffffff; }
.lstm-toolkit-wide { overflow-x: auto; }
</style>"""


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
            _number(label, getattr(sizes, name), LIMITS[name]) for name, label in _LABELS.items()
        )
        self.run = ipywidgets.Button(description=button, layout=ipywidgets.Layout(width="auto"))
        self.status, self.results = _html(), _html()
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
        self.status.value = f'{_STYLE}<div class="lstm-toolkit" role="status">{in_html(text)}</div>'


def _html() -> ipywidgets.HTML:
    # Of a grid, not of a row: in a row a wide table makes the whole place wide, and what does not fit is cut off.
    return ipywidgets.HTML(layout=ipywidgets.Layout(display="grid", grid_template_columns="minmax(0, 1fr)"))


def _number(label: str, value: int, limit: int) -> ipywidgets.BoundedIntText:
    layout = ipywidgets.Layout(width="11em")
    style = {"description_width": "5.5em"}
    return ipywidgets.BoundedIntText(value=value, min=1, max=limit, description=label, layout=layout, style=style)


class LayoutPanel(_SizesPanel):
    """Time-major against batch-major.

    Attributes:
        memory: the same sequence in both memory orders, redrawn whenever a size changes.
        comparison: the last measurement, or None.
    """

    def __init__(self) -> None:
        self.memory = _html()
        self.comparison: Comparison | None = None
        super().__init__("Convert and measure", Sizes(3, 5, 2, 4), above=[self.memory])

    def _show(self, sizes: Sizes) -> None:
        orders = layouts.memory_orders(sizes)
        drawings = "".join(f"<h4>{in_html(layouts.caption(order))}</h4>{layouts.drawing(order)}" for order in orders)
        self.memory.value = _section(_paragraph(layouts.LEGEND) + drawings + _table(layouts.strides_table(orders)))

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
        self.picture = _html()
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
            self.picture.value = _section(drawn._repr_html_())


def _paragraph(text: str) -> str:
    return f"<p>{in_html(text)}</p>"


def _results(comparison: Comparison) -> str:
    return _section("".join(map(_table, comparison.tables())) + _paragraph(comparison.candidates.note))


def _section(content: str) -> str:
    return f'<div class="lstm-toolkit">{content}</div>'


def _table(table: Table) -> str:
    """A table that scrolls by keyboard too where it is wider than the page."""
    label = in_html(table.title)
    return f'<div class="lstm-toolkit-wide" role="region" aria-label="{label}" tabindex="0">{table._repr_html_()}</div>'
