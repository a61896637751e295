"""The panel `explore_gates`: a number of packed weights on its way into the operand slot of the fused op.

It shows what `gate_pictures.steps` draws. Needs the extra `codelabs`.
"""

from __future__ import annotations

from typing import Any

import ipywidgets
import numpy as np

from lstm_toolkit.escapes import in_html
from lstm_toolkit.gate_pictures.layout import GateLayout, gate_layout
from lstm_toolkit.gate_pictures.steps import STEPS, step_figure
from lstm_toolkit.panels.gates import gate_layouts
from lstm_toolkit.weights.frameworks import LINGVO
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.widgets.parts import Results, WholeNumber, dropdown

ALL_GATES = "all gates"


def explore_gates(
    source: Any = None,
    *,
    order: str | None = None,
    layer: int = 0,
    reverse: bool | None = None,
    node: int | None = None,
) -> GatePanel:
    """A panel that follows a number of packed weights, step by step, into the operand slot of the fused op.

    Args:
        source: as for `plot_gates`; or a Keras model, or its path, for all of its LSTM layers; without one there are
            examples only.
        order: as for `plot_gates`.
        layer: as for `plot_gates`.
        reverse: as for `plot_gates`.
        node: as for `plot_gates`; None takes all fused LSTM ops of a file.

    Raises:
        TypeError, ValueError, InvalidModelError: as `plot_gates`; also for a model without an LSTM layer.
        ConversionError: if a Keras file cannot be loaded.
    """
    layouts = examples()
    if source is not None:
        own = gate_layouts(source, order=order, layer=layer, reverse=reverse, node=node)
        layouts = {**{each.title: each for each in own}, **layouts}
    return GatePanel(layouts)


def examples() -> dict[str, GateLayout]:
    """Random weights of one LSTM of 3 inputs and 5 units in four packed forms, by name. Always the same numbers."""
    random = np.random.default_rng(11)

    def array(*shape: int) -> np.ndarray:
        return random.uniform(-1, 1, shape).astype(np.float32)

    weights = GateWeights.from_keras([array(3, 20), array(5, 20), array(20)])
    columns = len(LINGVO.coupled().gates) * 5
    theta = {"wm": array(3 + 4, columns), "b": array(columns), "w_proj": array(5, 4), "ln_scale": array(columns)}
    state = weights.to_torch() | {"bias_hh_l0": array(20)}
    return {
        "Example: Keras": gate_layout(weights, order="keras"),
        "Example: Lingvo": gate_layout(weights, order="lingvo"),
        "Example: Lingvo, coupled input gate": gate_layout(GateWeights.from_lingvo(theta), order="lingvo"),
        "Example: PyTorch": gate_layout(state),
    }


class GatePanel(ipywidgets.VBox):
    """Controls and what they show.

    Attributes:
        source, array, gate, step: each a `Dropdown`.
        row, column: each a `WholeNumber`: the number to follow; a vector has columns only.
        picture: `HTML` with the picture of the step; grey while there is no such number.
        answer: `HTML` with a sentence: where the number goes.
    """

    def __init__(self, layouts: dict[str, GateLayout]) -> None:
        self._layouts, self._updating = dict(layouts), False
        self.source = dropdown("Weights", list(layouts), width="24em")
        self.array = dropdown("Array", [""], width="24em")
        self.gate = dropdown("Gate", [ALL_GATES], width="24em")
        self.step = dropdown("Step", list(STEPS), width="24em")
        self.row, self.column = WholeNumber("Row", 0, 0, 0), WholeNumber("Column", 0, 0, 0)
        self.picture, self.answer = Results("numbers"), ipywidgets.HTML()
        wrapped = ipywidgets.Layout(flex_flow="row wrap")
        controls = (self.source, self.array, self.gate, self.step, self.row, self.column)
        super().__init__([ipywidgets.HBox(controls, layout=wrapped), self.answer, self.picture])
        self._source_changed()
        self.source.observe(lambda _: self._source_changed(), "value")
        self.array.observe(lambda _: self._array_changed(), "value")
        for control in (self.gate, self.step, self.row.field, self.column.field):
            control.observe(lambda _: self._draw(), "value")

    @property
    def layout_shown(self) -> GateLayout:
        """The layout of the weights that are chosen."""
        return self._layouts[self.source.value]

    @property
    def position(self) -> tuple[int, ...] | None:
        """Index of the number that is followed; None while there is none in the array."""
        two = self.layout_shown.array(self.array.value).values.ndim == 2
        chosen = (self.row.value, self.column.value) if two else (self.column.value,)
        return tuple(each for each in chosen if each is not None) if None not in chosen else None

    def _source_changed(self) -> None:
        self._updating = True
        self.array.options = [array.name for array in self.layout_shown.arrays]
        self.gate.options = [ALL_GATES, *self.layout_shown.gates]
        self._updating = False
        self._array_changed()

    def _array_changed(self) -> None:
        if self._updating:
            return
        self._updating = True
        shape = self.layout_shown.array(self.array.value).values.shape
        for control, most in ((self.row, shape[0] - 1 if len(shape) == 2 else 0), (self.column, shape[-1] - 1)):
            if control.value is None or control.value > most:
                control.value = 0
            control.limit(most)
        self.row.field.disabled = len(shape) == 1
        self._updating = False
        self._draw()

    def _draw(self) -> None:
        if self._updating:
            return
        layout, array, position = self.layout_shown, self.array.value, self.position
        if position is None:
            self._say(f"{array} has no such number: see beside the fields.")
            self.picture.chosen(None)
            return
        gate = None if self.gate.value == ALL_GATES else self.gate.value
        self._say(str(layout.destination(array, *position)))
        drawn = step_figure(layout, array, self.step.value, position, gate=gate).to_html()
        self.picture.show(drawn, f"{array}{list(position)}")

    def _say(self, text: str) -> None:
        style = "font-family:monospace;overflow-wrap:break-word"
        self.answer.value = f'<p role="status" style="{style}">{in_html(text)}</p>'
