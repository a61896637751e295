"""The panel `explore_gates`: a number of packed weights on its way into the operand slot of the fused op.

It shows what `gate_pictures.steps` draws. Needs the extra `codelabs`.
"""

from __future__ import annotations

import html
from typing import Any

import ipywidgets
import numpy as np

from lstm_toolkit.gate_pictures.layout import GateLayout, gate_layout
from lstm_toolkit.gate_pictures.steps import STEPS, step_figure
from lstm_toolkit.weights.frameworks import LINGVO
from lstm_toolkit.weights.gate_weights import GateWeights

ALL_GATES = "all gates"


def explore_gates(
    source: Any = None, *, order: str | None = None, layer: int = 0, reverse: bool | None = None, node: int = 0
) -> GatePanel:
    """A panel that follows a number of packed weights, step by step, into the operand slot of the fused op.

    Args:
        source: as for `plot_gates`; without one there are examples only.
        order: as for `plot_gates`.
        layer: as for `plot_gates`.
        reverse: as for `plot_gates`.
        node: as for `plot_gates`.

    Raises:
        TypeError, ValueError, InvalidModelError: as `plot_gates`.
    """
    layouts = examples()
    if source is not None:
        own = gate_layout(source, order=order, layer=layer, reverse=reverse, node=node)
        layouts = {own.title: own, **layouts}
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
        row, column: each a `BoundedIntText`: the number to follow; a vector has columns only.
        picture: `HTML` with the picture of the step.
        answer: `HTML` with a sentence: where the number goes.
    """

    def __init__(self, layouts: dict[str, GateLayout]) -> None:
        self._layouts, self._updating = dict(layouts), False
        self.source = _dropdown("Weights", list(layouts))
        self.array = _dropdown("Array", [""])
        self.gate = _dropdown("Gate", [ALL_GATES])
        self.step = _dropdown("Step", list(STEPS))
        self.row, self.column = _number("Row"), _number("Column")
        self.picture, self.answer = ipywidgets.HTML(), ipywidgets.HTML()
        wrapped = ipywidgets.Layout(flex_flow="row wrap")
        controls = (self.source, self.array, self.gate, self.step, self.row, self.column)
        super().__init__([ipywidgets.HBox(controls, layout=wrapped), self.answer, self.picture])
        self._source_changed()
        self.source.observe(lambda _: self._source_changed(), "value")
        self.array.observe(lambda _: self._array_changed(), "value")
        for control in (self.gate, self.step, self.row, self.column):
            control.observe(lambda _: self._draw(), "value")

    @property
    def layout_shown(self) -> GateLayout:
        """The layout of the weights that are chosen."""
        return self._layouts[self.source.value]

    @property
    def position(self) -> tuple[int, ...]:
        """Index of the number that is followed."""
        two = self.layout_shown.array(self.array.value).values.ndim == 2
        return (self.row.value, self.column.value) if two else (self.column.value,)

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
        self.row.max, self.column.max = shape[0] - 1 if len(shape) == 2 else 0, shape[-1] - 1
        self.row.disabled = len(shape) == 1
        self._updating = False
        self._draw()

    def _draw(self) -> None:
        if self._updating:
            return
        layout, array, position = self.layout_shown, self.array.value, self.position
        gate = None if self.gate.value == ALL_GATES else self.gate.value
        answer = html.escape(str(layout.destination(array, *position)))
        self.answer.value = f'<p role="status" style="font-family:monospace;overflow-wrap:break-word">{answer}</p>'
        self.picture.value = step_figure(layout, array, self.step.value, position, gate=gate).to_html()


def _dropdown(label: str, options: list[str]) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(options=options, description=label, layout=ipywidgets.Layout(width="24em"))


def _number(label: str) -> ipywidgets.BoundedIntText:
    layout = ipywidgets.Layout(width="12em")
    return ipywidgets.BoundedIntText(value=0, min=0, max=0, description=label, layout=layout)
