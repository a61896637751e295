"""The panel `watch_memory` and what it shows, without a browser."""

import base64
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import lstm_toolkit
from lstm_toolkit import GateWeights, gate_activations, models, widgets
from lstm_toolkit.panels import memory
from tests.helpers.packed_weights import keras_arrays

INPUT, UNITS, TIME = 3, 5, 24


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(41).normal(size=(2, TIME, INPUT)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return models.stacked(time_steps=None, input_size=INPUT, units=[4, UNITS], batch_size=2, seed=2)


@pytest.fixture(scope="module")
def files(model):
    return {state: lstm_toolkit.convert(model, state=state) for state in ("carry", "reset")}


@pytest.fixture
def panel(model, x, files):
    return widgets.watch_memory(model, x, file=files, layer=1, steps_a_call=8)


def alt(panel):
    return re.search('alt="([^"]*)"', panel.picture.value)[1]


def cells(html):
    return [re.findall("<td[^>]*>([^<]*)</td>", row) for row in re.findall("<tr>(.*?)</tr>", html)[1:]]


def position(panel):
    return float(re.search(r"left:([\d.]+)%", panel.cursor.value)[1])


def choose(panel, words):
    """Takes the first entry of `show` that begins with these words."""
    panel.show.value = next(value for text, value in panel.show.options if text.startswith(words))


def test_it_opens_with_brackets_and_without_tensorflow():
    code = (
        "import sys; from lstm_toolkit import widgets; panel = widgets.watch_memory(); "
        "print('tensorflow' in sys.modules, 'alt=' in panel.picture.value)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_the_brackets_are_counted():
    subject = memory.brackets()
    assert memory.TEXT == "(a(b)c)(d)"
    seen = subject.truth()
    depths = np.cumsum([{"(": 1, ")": -1}.get(letter, 0) for letter in memory.TEXT])
    np.testing.assert_allclose(seen.c[0, :, 0], np.tanh(0.5) * depths, atol=0.02)
    assert [int(f) for f in seen.f[0, :, 1].round()] == [0 if letter == ")" else 1 for letter in memory.TEXT]
    assert np.ptp(seen.f[0, :, 2]) == 0


def test_the_source_reads_the_whole_and_the_file_calls(panel, model, x, files):
    assert panel.file.value == "carry"
    rows = cells(panel.calls.value)
    assert [row[:2] for row in rows] == [["0", "0"], ["1", "8"], ["2", "16"]]
    assert {row[4] for row in rows} == {"0.00"}
    panel.file.value = "reset"
    rows = cells(panel.calls.value)
    alone = gate_activations(model, x, layer=1).h
    in_calls = np.concatenate([gate_activations(model, x[:, s : s + 8], layer=1).h for s in (0, 8, 16)], axis=1)
    largest = np.abs(in_calls - alone).reshape(2, 3, 8, UNITS).max(axis=(0, 2, 3))
    assert [row[4] for row in rows] == [f"{each:.2f}" for each in largest]
    assert largest[1] > 0.01
    assert rows[1][2:4] == ["0.00", "0.00"]


def test_both_sides_of_one_gate(panel):
    panel.file.value = "reset"
    choose(panel, "c:")
    assert "File (c) from" in alt(panel)
    assert "Layer (c) from" in alt(panel)
    assert re.search("The difference goes from .* is largest at step", alt(panel))
    choose(panel, "all six of the source")
    assert "in 3 calls" not in alt(panel)
    choose(panel, "all six of the file")
    assert "in 3 calls, from steps 0, 8, 16" in alt(panel)


def test_units_and_sequences(panel):
    panel.unit.value = "3"
    assert alt(panel).startswith("Lines of unit 3 of")
    assert [row[0] for row in cells(panel.at_step.value)] == ["3"]
    panel.sequence.value = 1
    assert "sequence 1" in alt(panel)


def test_a_step_moves_the_line_and_not_the_picture(panel):
    before = panel.picture.value, position(panel)
    panel.step.value = TIME - 1
    assert panel.picture.value == before[0]
    assert position(panel) > before[1] + 50
    assert "Step 23 in call 2" in panel.at_step.value


def test_the_table_of_a_step_adds_up(x, model):
    """What stays and what comes in are what is there afterwards, also at the start of a call."""
    stateful = gate_activations(lstm_toolkit.convert(model, state="carry"), [x[:, :8], x[:, 8:]], node=1)
    for step in (0, 7, 8, 9, TIME - 1):
        for row in memory.step_table(stateful, step, batch=1).rows:
            kept, new = (float(one) * float(other) for one, other in (each.split(" × ") for each in row[1:3]))
            assert kept + new == pytest.approx(float(row[3]), abs=0.03)
    assert memory.step_table(stateful, 8).title == "Step 8 in call 1"
    assert memory.step_table(stateful, 8, unit=2).rows[0][0] == "2"


def test_steps_a_call(panel):
    panel.file.value = "reset"
    for length, count in ((24, 1), (5, 5), (1, 24)):
        panel.length.value = length
        assert len(cells(panel.calls.value)) == count
    assert not re.sub("<.*?>", "", panel.status.value.partition("</style>")[2])


def test_wrong_numbers_are_said_and_change_nothing(panel):
    before = panel.picture.value, panel.calls.value, panel.at_step.value
    for field, wrong in ((panel.length, 100), (panel.length, 7.5), (panel.sequence, 2), (panel.step, -1)):
        right = field.value
        field.value = wrong
        assert f"{wrong:g} is not." in field.message.value
        assert (panel.picture.value, panel.calls.value, panel.at_step.value) == before
        field.value = right
        assert field.message.value == ""


def test_a_length_that_the_file_does_not_take(x, random):
    arrays = keras_arrays(random)
    weights = GateWeights.from_keras(arrays)
    sequence = random.normal(size=(1, 12, weights.input_size)).astype(np.float32)
    fixed = lstm_toolkit.convert(weights, time_steps=4)
    panel = widgets.watch_memory(weights, sequence, file=fixed, steps_a_call=4)
    before = panel.calls.value
    panel.length.value = 5
    assert "Not possible with 5 steps a call" in panel.status.value
    assert panel.calls.value == before
    panel.length.value = 4
    assert "Not possible" not in panel.status.value


def test_independent_sequences_leak_through_a_carrying_file(model, x, files):
    panel = widgets.watch_memory(model, [x[:, :12], -x[:, :7]], file=files["carry"], layer=1)
    first, second = cells(panel.calls.value)
    assert first[4] == "0.00"
    assert float(second[4]) > 0.01
    assert panel.length not in panel.children[0].children
    assert [row[1] for row in (first, second)] == ["0", "12"]


def test_without_a_file_the_source_reads_in_calls(x, model):
    panel = widgets.watch_memory(model, x, layer=0)
    assert panel.file not in panel.children[0].children
    panel.length.value = 6
    assert "in 4 calls" in alt(panel)
    assert len(cells(panel.calls.value)[0]) == 4


def test_names_of_layers_are_shown_as_text(random):
    import keras

    layer = keras.layers.LSTM(2, name="<img src=x>")
    x = random.normal(size=(1, 3, 2)).astype(np.float32)
    layer(x)
    panel = widgets.watch_memory(layer, x)
    assert "<img src=x" not in "".join(each.value for each in (panel.picture, panel.calls, panel.at_step))


def test_the_picture_is_opaque(panel):
    data = re.search('base64,([^"]+)', panel.picture.value)[1]
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.mode == "RGB"
    assert image.getpixel((1, 1)) == (255, 255, 255)
