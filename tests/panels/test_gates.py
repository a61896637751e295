"""The panel `explore_gates` and the pictures that it shows, without a browser."""

import base64
import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

import lstm_toolkit
from lstm_toolkit import GateWeights
from lstm_toolkit.gate_pictures.layout import gate_layout
from lstm_toolkit.gate_pictures.steps import STEPS, step_figure, tiles
from lstm_toolkit.panels import gates
from tests.helpers.packed_weights import Cell, keras_arrays, torch_state

pytest.importorskip("ipywidgets", reason="comes with the extra codelabs")
import ipywidgets

from lstm_toolkit.widgets.gates import ALL_GATES, GatePanel, explore_gates


class ImagePage(html.parser.HTMLParser):
    """The images of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.images = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        assert tag == "img"
        self.images.append(dict(attributes))


def test_one_number_keeps_its_value_from_step_to_step(random):
    """The value under the mark is the same in every picture, and the last is the operand's slot."""
    cell = Cell(random, coupled=True)
    layout = gate_layout(cell)
    for position in np.ndindex(cell.theta["wm"].shape):
        seen = []
        for step in STEPS:
            (tile,) = (tile for tile in tiles(layout, "wm", step, position) if tile.selected is not None)
            seen.append(tile.values[tile.selected])
        assert seen == [cell.theta["wm"][position]] * 4
    goes = layout.destination("wm", 2, 7)
    assert f"operand {goes.index}: {goes.operand} {[5, 3]}" == tile_with_mark(layout, (2, 7)).label


def tile_with_mark(layout, position):
    (tile,) = (tile for tile in tiles(layout, "wm", STEPS[3], position) if tile.selected is not None)
    return tile


def test_steps_are_transposed_cut_and_ordered_by_operand(random):
    cell = Cell(random)
    layout = gate_layout(cell)
    (packed,), (turned,) = (tiles(layout, "wm", step, (0, 0)) for step in STEPS[:2])
    np.testing.assert_array_equal(packed.values, cell.theta["wm"])
    np.testing.assert_array_equal(turned.values, cell.theta["wm"].T)
    assert (packed.gate_axis, turned.gate_axis) == (1, 0)
    parts = [tile.gates[0] for tile in tiles(layout, "wm", STEPS[2], (0, 0))]
    slots = [tile.gates[0] for tile in tiles(layout, "wm", STEPS[3], (0, 0))]
    assert parts == ["cell", "input", "forget", "output"] * 2
    assert slots == ["input", "forget", "cell", "output"] * 2
    (rows,) = tiles(gate_layout(torch_state(random)), "weight_hh_l0", STEPS[1], (0, 0))
    assert rows.gate_axis == 0
    assert rows.label == "weight_hh_l0 [20, 5]: nothing to transpose"


def images(figure):
    (axes,) = figure.axes
    return [np.asarray(artist.get_array()) for artist in axes.images]


def test_the_picture_is_drawn_of_the_numbers(random):
    values = keras_arrays(random)
    figure = step_figure(gate_layout(GateWeights.from_keras(values)), "kernel", STEPS[0], (0, 0))
    (drawn,) = images(figure)
    np.testing.assert_array_equal(drawn, values[0])
    page = ImagePage(figure.to_html())
    assert page.images[0]["alt"] == figure.alt
    assert "kernel [3, 20]" in figure.alt
    with Image.open(io.BytesIO(base64.b64decode(page.images[0]["src"].removeprefix("data:image/png;base64,")))) as png:
        assert png.size[0] == 1216


@pytest.mark.parametrize("step", STEPS)
def test_marks_stand_where_the_numbers_are(random, step):
    """The ring is around the number that is followed, and each bar beside the numbers of its gate."""
    cell = Cell(random, coupled=True)
    layout = gate_layout(cell)
    for position in ((0, 0), (2, 7), (7, 14)):
        figure = step_figure(layout, "wm", step, position)
        (axes,) = figure.axes
        rings = [artist for artist in axes.patches if artist.get_gid() == "ring"]
        x, y = np.mean([artist.get_bbox().intervalx for artist in rings]), rings[0].get_bbox().intervaly.mean()
        (image,) = (each for each in axes.images if inside(each.get_extent(), x, y))
        left, right, bottom, top = image.get_extent()
        rows, columns = image.get_array().shape
        row, column = int((top - y) / (top - bottom) * rows), int((x - left) / (right - left) * columns)
        assert image.get_array()[row, column] == cell.theta["wm"][position]
        gate = f"gate:{layout.destination('wm', *position).gate}"
        bars = [patch.get_bbox() for patch in axes.patches if patch.get_gid() == gate]
        assert any(bar.containsx(x) or bar.containsy(y) for bar in bars)


def inside(box, x, y):
    left, right, bottom, top = box
    return left < x < right and bottom < y < top


def test_a_chosen_gate_stands_out(random):
    figure = step_figure(gate_layout(Cell(random)), "wm", STEPS[3], (0, 0), gate="forget")
    bars = {patch.get_gid(): patch.get_alpha() for patch in figure.axes[0].patches if patch.get_alpha() is not None}
    assert bars["gate:forget"] == 1
    assert max(bars["gate:input"], bars["gate:cell"], bars["gate:output"]) < 0.3


def test_numbers_that_are_not_finite_and_large_layers_are_drawn():
    arrays = [np.full((3, 20), np.nan), np.zeros((5, 20))]
    step_figure(gate_layout(GateWeights.from_keras(arrays)), "kernel", STEPS[3], (0, 0)).to_html()
    arrays = [np.ones((300, 2048)), np.ones((512, 2048))]
    figure = step_figure(gate_layout(GateWeights.from_keras(arrays)), "kernel", STEPS[0], (299, 2047))
    assert len(figure.to_html()) < 100_000


def test_names_are_escaped(random):
    layout = gate_layout(Cell(random))
    arrays = tuple(dataclasses.replace(array, name=f'"><script>{array.name}') for array in layout.arrays)
    panel = GatePanel({"<script>": dataclasses.replace(layout, arrays=arrays)})
    for step in STEPS:
        panel.step.value = step
        (image,) = ImagePage(panel.picture.value).images
        assert '"><script>wm' in image["alt"]
        assert "<script>" not in panel.picture.value + panel.answer.value
    assert '"><script>wm[0, 0] = ' in answer(panel)


def test_unknown_steps_are_refused(random):
    with pytest.raises(ValueError, match=r"step must be one of .*'1 packed'.*, got '5'"):
        tiles(gate_layout(Cell(random)), "wm", "5", (0, 0))


def answer(panel):
    return html.unescape(re.sub(r"<[^>]*>", "", panel.answer.value))


def test_the_panel_says_where_a_number_goes(random):
    arrays = keras_arrays(random)
    panel = explore_gates(GateWeights.from_keras(arrays))
    panel.row.value, panel.column.value = 2, 7
    expected = f"kernel[2, 7] = {arrays[0][2, 7]:.6g} → input_to_forget_weights (operand 2) [2, 2]"
    assert answer(panel) == expected
    assert 'role="status"' in panel.answer.value
    panel.array.value = "bias"
    assert panel.row.field.disabled
    assert answer(panel) == f"bias[7] = {arrays[2][7]:.6g} → forget_gate_bias (operand 13) [2]"
    panel.array.value = "recurrent_kernel"
    assert not panel.row.field.disabled
    assert (panel.row.most, panel.column.most) == (4, 19)


def test_a_number_that_is_not_there(random):
    panel = explore_gates(GateWeights.from_keras(keras_arrays(random)))
    panel.row.value, panel.column.value = 2, 7
    before = panel.picture.value
    for control, typed, most in ((panel.row, 3, 2), (panel.column, 20, 19), (panel.column, 0.5, 19)):
        good, control.value = control.value, typed
        said = f"{control.description} must be a whole number from 0 to {most}; {typed} is not."
        assert said in control.message.value
        assert answer(panel) == "kernel has no such number: see beside the fields."
        assert "This is for kernel[2, 7], not for the numbers above." in panel.picture.value
        control.value = good
        assert panel.picture.value == before
    panel.column.value = 19
    panel.array.value = "recurrent_kernel"
    panel.row.value = 4
    panel.array.value = "kernel"
    assert panel.position == (0, 19)


def test_all_lstms_of_a_model_and_of_a_file(monkeypatch):
    import keras

    inner = keras.Sequential([keras.Input((None, 4)), keras.layers.LSTM(3, return_sequences=True, name="inside")])
    recurrent = [keras.layers.RNN(keras.layers.LSTMCell(5), return_sequences=True, name="cell"), keras.layers.GRU(2)]
    first = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True), name="both")
    model = keras.Sequential([keras.Input((7, 3)), first, inner, *recurrent, keras.layers.Dense(2)])
    names = ["Bidirectional 'both'", "LSTM 'inside'", "RNN 'cell'"]
    examples = list(explore_gates().source.options)
    panel = explore_gates(model)
    assert list(panel.source.options) == names + examples
    panel.source.value = "LSTM 'inside'"
    kernel = inner.layers[0].get_weights()[0]
    assert answer(panel).startswith(f"kernel[0, 0] = {kernel[0, 0]:.6g} → ")
    monkeypatch.setattr(gates, "loaded", {"model.keras": model}.get)
    assert list(explore_gates("model.keras").source.options) == names + examples
    small = keras.Sequential([keras.Input((3, 2)), keras.layers.LSTM(2, return_sequences=True), keras.layers.LSTM(3)])
    file = lstm_toolkit.convert(small, verify=False)
    shown = list(explore_gates(file).source.options)[: -len(examples)]
    assert [name.partition(" '")[0] for name in shown] == [".tflite, op 0", ".tflite, op 1"]
    assert list(explore_gates(file, node=1).source.options)[:2] == [shown[1], examples[0]]
    with pytest.raises(ValueError, match="model 'dense' has no LSTM layer whose weights could be shown"):
        explore_gates(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="dense"))


def test_every_control_changes_the_picture(random):
    panel = explore_gates(Cell(random, coupled=True))
    assert list(panel.gate.options) == [ALL_GATES, "cell", "forget", "output"]
    pictures = [panel.picture.value]
    for control, value in ((panel.step, STEPS[3]), (panel.gate, "forget"), (panel.column, 7), (panel.array, "b")):
        control.value = value
        pictures.append(panel.picture.value)
    panel.source.value = "Example: PyTorch"
    assert list(panel.array.options) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert answer(panel).startswith("weight_ih_l0[0, 0] = ")
    assert len({*pictures, panel.picture.value}) == 6


def test_every_example_and_array_can_be_chosen():
    panel = explore_gates()
    names = []
    for source in panel.source.options:
        panel.source.value = source
        for array in panel.array.options:
            panel.array.value = array
            names.append(array)
            for step in STEPS:
                panel.step.value = step
                (image,) = ImagePage(panel.picture.value).images
                assert image["alt"].startswith(step)
                assert array in answer(panel)
    assert {"kernel", "wm", "w_proj", "ln_scale", "bias_hh_l0"} <= set(names)
    assert explore_gates().picture.value == explore_gates().picture.value


def test_every_control_has_a_label_and_waits_for_the_end_of_typing():
    panel = explore_gates()
    controls = panel.children[0].children
    assert [control.description for control in controls] == ["Weights", "Array", "Gate", "Step", "Row", "Column"]
    assert not any(control.field.continuous_update for control in controls[4:])
    assert not any(isinstance(control, ipywidgets.IntSlider) for control in controls)


def test_the_source_is_checked():
    with pytest.raises(TypeError, match="got int"):
        explore_gates(3)
