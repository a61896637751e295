"""`plot_gates`: what is drawn is what the op of a converted file reads; text, colours, files, refusals."""

import io
import itertools
import xml.etree.ElementTree as ET

import keras
import matplotlib.image
import matplotlib.patches
import matplotlib.text
import numpy as np
import pytest
from PIL import Image

import lstm_toolkit
from lstm_toolkit import GateWeights, lingvo
from lstm_toolkit.display.gate_looks import COLORS, HATCHES, LINES
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.gate_pictures.figure import plot_gates
from tests.helpers.files import fused_lstm
from tests.helpers.models import randomized
from tests.helpers.packed_weights import Cell, Layer, everything, keras_arrays, torch_state

UNITS, INPUTS, TIME = 5, 3, 7


def keras_layer():
    layer = keras.layers.LSTM(UNITS, return_sequences=True)
    model = keras.Sequential([keras.Input((TIME, INPUTS)), layer])
    return randomized(layer, seed=3, scale=1.0), model


def keras_both():
    layer = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True))
    model = keras.Sequential([keras.Input((TIME, INPUTS)), layer])
    return randomized(layer, seed=3, scale=1.0), model


def lingvo_cell(*, normalized, **options):
    cls = lingvo.LayerNormalizedLSTMCellSimple if normalized else lingvo.LSTMCellSimple
    cell = cls(num_input_nodes=INPUTS, num_output_nodes=4, num_hidden_nodes=UNITS, forget_gate_bias=0.5, **options)
    random = np.random.default_rng(4)
    cell.load_theta({name: random.normal(size=variable.shape) for name, variable in cell.theta.items()})
    return cell, lingvo.RNN(cell)


SOURCES = {
    "keras": keras_layer,
    "keras, both": keras_both,
    "lingvo": lambda: lingvo_cell(normalized=False),
    "lingvo, coupled": lambda: lingvo_cell(normalized=True, couple_input_forget_gates=True),
}


@pytest.fixture(scope="module", params=list(SOURCES))
def converted(request):
    """A source and its file."""
    source, model = SOURCES[request.param]()
    return source, lstm_toolkit.convert(model, batch_size=2, time_steps=TIME, verify=False).tflite


def images(figure, kind):
    """The numbers of the heat maps of a kind, by the rest of their gid."""
    (axes,) = figure.axes
    found = {}
    for artist in axes.images:
        if artist.get_gid().startswith(f"{kind}:"):
            name = artist.get_gid().removeprefix(f"{kind}:")
            assert name not in found
            found[name] = np.asarray(artist.get_array())
    return found


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_every_slot_shows_what_the_op_reads(converted):
    source, tflite = converted
    figure = plot_gates(source)
    (_, expected), drawn = fused_lstm(tflite), images(figure, "slot")
    indices = {slot.operand: slot.index for slot in figure.layouts[0].slots}
    assert sorted(indices[name] for name in drawn) == sorted(expected)
    for name, values in drawn.items():
        array = expected[indices[name]]
        np.testing.assert_array_equal(values, np.atleast_2d(array), err_msg=name)
        text = " ".join(words(figure))
        assert name in text
        assert f"operand {indices[name]}  {list(array.shape)}" in text


def test_a_file_draws_what_its_source_draws(converted):
    source, tflite = converted
    of_source, of_file = images(plot_gates(source), "slot"), images(plot_gates(tflite), "slot")
    assert of_source.keys() == of_file.keys()
    for name, values in of_source.items():
        np.testing.assert_array_equal(values, of_file[name])


def test_packed_arrays_are_drawn_as_they_are_stored(random):
    layer, _ = keras_layer()
    drawn = images(plot_gates(layer), "packed")
    assert list(drawn) == ["kernel", "recurrent_kernel", "bias"]
    for array, values in zip(layer.get_weights(), drawn.values(), strict=True):
        np.testing.assert_array_equal(values, np.atleast_2d(array))
    state = torch_state(random)
    drawn = images(plot_gates(state), "packed")
    for name in ("weight_ih_l0", "weight_hh_l0"):
        parts = [values for gid, values in drawn.items() if gid.startswith(name)]
        np.testing.assert_array_equal(np.concatenate(parts), state[name])


def test_the_middle_holds_the_transposed_array_by_gate(random):
    cell = Cell(random, coupled=True, projection=True)
    drawn = images(plot_gates(cell), "split")
    parts = [drawn[f"wm:{gate}"] for gate in ("cell", "forget", "output")]
    np.testing.assert_array_equal(np.concatenate(parts), cell.theta["wm"].T)
    np.testing.assert_array_equal(drawn["w_proj:"], cell.theta["w_proj"].T)


def letters_beside(figure, extent):
    """The letters of the bars above or below a heat map, from left to right."""
    left, right, bottom, top = figure.axes[0].transData.transform(np.reshape(extent, (2, 2)).T).T.ravel()
    near = figure.dpi / 4
    bars = [
        patch.get_window_extent()
        for patch in figure.findobj(matplotlib.patches.Rectangle)
        if (patch.get_gid() or "").startswith("gate:")
    ]
    bars = [
        bar for bar in bars if left < (bar.x0 + bar.x1) / 2 < right and bottom - near < bar.y0 < bar.y1 < top + near
    ]
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() in ("i", "f", "c", "o")]
    figure.draw_without_rendering()
    middles = [(text.get_window_extent(), text.get_text()) for text in texts]
    return "".join(
        letter for bar in sorted(bars, key=lambda bar: bar.x0) for box, letter in middles if bar.fully_overlaps(box)
    )


def test_two_orders_beside_the_same_slots(random):
    weights = GateWeights.from_keras(keras_arrays(random))
    figure = plot_gates(weights, order=("keras", "lingvo"))
    assert set(images(figure, "packed")) == {"kernel", "recurrent_kernel", "bias", "wm", "b"}
    assert {"Keras: i, f, c, o", "Lingvo: c, i, f, o"} <= set(words(figure))
    assert "Keras order i, f, c, o." in figure.alt
    assert "Lingvo order c, i, f, o." in figure.alt
    left = {artist.get_gid(): artist.get_extent() for artist in figure.axes[0].images}
    assert left["packed:kernel"][1] < left["slot:input_to_cell_weights"][0]
    assert left["slot:input_to_cell_weights"][1] < left["packed:wm"][0]
    for name, order in (("kernel", "ifco"), ("wm", "cifo")):
        assert letters_beside(figure, left[f"packed:{name}"]) == order
    coupled = plot_gates(Cell(random, coupled=True), order=["keras", "lingvo"])
    assert {"Keras: f, c, o", "Lingvo: c, f, o"} <= set(words(coupled))


def test_a_joint_array_has_a_border_between_input_and_output_on_both_sides(random):
    """A white line through `wm`, and one through each gate of its transposed array: 3 of its 7 columns are input."""
    for order in ("lingvo", ("keras", "lingvo")):
        figure = plot_gates(everything(random), order=order)
        (axes,) = figure.axes
        to_inches = axes.transData.inverted()
        white = [
            to_inches.transform(line.get_transform().transform(line.get_xydata())).mean(axis=0)
            for line in axes.lines
            if line.get_color() == "white"
        ]
        boxes = {artist.get_gid(): artist.get_extent() for artist in axes.images}
        left, right, bottom, top = boxes["packed:wm"]
        expected = [((left + right) / 2, top - (top - bottom) * INPUTS / (INPUTS + 4))]
        for gate in ("cell", "input", "forget", "output"):
            left, right, bottom, top = boxes[f"split:wm:{gate}"]
            expected.append((left + (right - left) * INPUTS / (INPUTS + 4), (bottom + top) / 2))
        np.testing.assert_allclose(sorted(map(tuple, white)), sorted(expected))


def test_gates_differ_by_color_hatch_and_line():
    for look in (COLORS, HATCHES, LINES):
        assert len({str(value) for value in look.values()}) == 4
    figure = plot_gates(Layer(keras_arrays(np.random.default_rng(0))))
    for gate in COLORS:
        (patches,) = [figure.findobj(lambda artist, gate=gate: artist.get_gid() == f"gate:{gate}")]
        assert {patch.get_hatch() for patch in patches} == {HATCHES[gate]}
        # 3 packed arrays, their 3 parts, 3 slots, and the legend.
        assert len(patches) == 10


def test_colors_differ_in_grey_or_by_a_letter_in_every_bar():
    figure = plot_gates(Layer(keras_arrays(np.random.default_rng(0))))
    letters = [word for word in words(figure) if word in ("i", "f", "c", "o")]
    assert sorted(letters) == sorted("ifco" * 10)


@pytest.mark.parametrize("gate", ["forget", "f"])
def test_a_chosen_gate_stands_out(gate):
    figure = plot_gates(Layer(keras_arrays(np.random.default_rng(0))), gate=gate)
    alphas = {name: set() for name in COLORS}
    for name in COLORS:
        for artist in figure.findobj(lambda artist, name=name: artist.get_gid() in (f"gate:{name}", f"line:{name}")):
            alphas[name].add(artist.get_alpha())
    assert alphas.pop("forget") == {1.0}
    assert all(max(each) < 0.3 for each in alphas.values())
    assert "forget gate 2" in figure.alt
    assert "cell gate 3" not in figure.alt


def test_alt_text_and_title_in_the_page_and_in_files(tmp_path):
    figure = plot_gates(Layer(keras_arrays(np.random.default_rng(0)), name='<b>&"$'))
    assert figure.alt.startswith("Layer '<b>&\"$': its packed weights in the operand slots of UNIDIRECTIONAL")
    assert "kernel [3, 20] goes, transposed, to operands: input gate 1, forget gate 2" in figure.alt
    page = figure._repr_html_()
    assert page.count("<img ") == 1
    assert "<b>" not in page
    assert 'alt="Layer &#x27;&lt;b&gt;&amp;&quot;$&#x27;: its packed' in page
    figure.savefig(tmp_path / "x.svg")
    root = ET.parse(tmp_path / "x.svg").getroot()
    assert root.find("{http://www.w3.org/2000/svg}title").text == figure.title
    assert figure.alt in (tmp_path / "x.svg").read_text(encoding="utf-8").replace("&lt;", "<").replace(
        "&gt;", ">"
    ).replace("&amp;", "&").replace("&quot;", '"')
    ids = {element.get("id") for element in root.iter()}
    assert "slot:input_to_forget_weights" in ids
    for name in (str(tmp_path / "x.png"), io.BytesIO()):
        figure.savefig(name, dpi=100)
        with Image.open(name) as image:
            assert image.size[0] == 900
            assert image.text["Title"] == figure.title
            assert image.text["Description"] == figure.alt
    figure.savefig(tmp_path / "x.pdf")
    assert str(figure) == str(figure.layouts[0])


def test_heat_maps_of_large_layers_keep_their_ids(tmp_path):
    plot_gates(Layer([np.ones((300, 8)), np.ones((2, 8))])).savefig(tmp_path / "x.svg")
    ids = {element.get("id") for element in ET.parse(tmp_path / "x.svg").iter()}
    assert {"packed:kernel", "split:kernel:input", "slot:input_to_output_weights"} <= ids


def test_it_is_shown_once(monkeypatch):
    display = pytest.importorskip("IPython.display", reason="comes with the extra codelabs")
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(display, "display", lambda data, raw: shown.append((data, raw)))
    figure = plot_gates(Layer(keras_arrays(np.random.default_rng(0))))
    figure._ipython_display_()
    ((data, raw),) = shown
    assert raw
    assert set(data) == {"text/html", "text/plain"}
    assert plt.get_fignums() == []


WITH_EVERYTHING = {
    "keras": lambda random: Layer(keras_arrays(random)),
    "lingvo": lambda random: Cell(random, coupled=True, projection=True, normalized=True, forget_gate_bias=1.0),
    "pytorch, both": lambda random: torch_state(random, suffixes=("", "_reverse"), projection=True),
    "everything": everything,
}


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("keras", None),
        ("lingvo", None),
        ("lingvo", ("lingvo", "keras")),
        ("pytorch, both", None),
        ("pytorch, both", ("keras", "pytorch")),
        ("everything", None),
        ("everything", ("pytorch", "lingvo")),
    ],
)
def test_no_words_overlap_or_leave_the_page(random, kind, order):
    figure = plot_gates(WITH_EVERYTHING[kind](random), order=order)
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    boxes = [text.get_window_extent().padded(-1) for text in texts]
    page = figure.bbox
    for text, box in zip(texts, boxes, strict=True):
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    for (one, a), (other, b) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not a.overlaps(b), (one, other)
    maps = [artist.get_window_extent().padded(-2) for artist in figure.findobj(matplotlib.image.AxesImage)]
    for a, b in itertools.combinations(maps, 2):
        assert not a.overlaps(b)
    for text, box in zip(texts, boxes, strict=True):
        assert not any(box.overlaps(each) for each in maps), text


def test_numbers_that_are_not_finite_are_drawn(random):
    arrays = keras_arrays(random)
    arrays[0][0, :3] = np.nan, np.inf, -np.inf
    plot_gates(Layer(arrays)).savefig(io.BytesIO())
    plot_gates(Layer([np.zeros_like(array) for array in arrays])).savefig(io.BytesIO())


def file_without_an_lstm():
    model = keras.Sequential([keras.Input((TIME, INPUTS)), keras.layers.SimpleRNN(UNITS)])
    return lstm_toolkit.convert(model, verify=False).tflite


def test_refusals(converted):
    source, tflite = converted
    with pytest.raises(ValueError, match=r"gate must be one of .*'forget'.* or its letter, got 'g'"):
        plot_gates(source, gate="g")
    with pytest.raises(ValueError, match=r"node must be 0 to 0, got 1; the fused LSTM ops are 0: '"):
        plot_gates(tflite, node=1)
    with pytest.raises(ValueError, match=r"order must be one order or two, got \['keras', 'lingvo', 'pytorch'\]"):
        plot_gates(source, order=("keras", "lingvo", "pytorch"))


def test_other_layers_are_refused(random):
    for layer in (keras.layers.GRU(UNITS), keras.layers.SimpleRNN(UNITS)):
        layer.build((None, TIME, INPUTS))
        with pytest.raises(ValueError, match=f"{type(layer).__name__} .* is no LSTM: recurrent_kernel must be"):
            plot_gates(layer)
    with pytest.raises(ValueError, match="a layer that was never called has no weights yet"):
        plot_gates(keras.layers.LSTM(UNITS))
    with pytest.raises(ValueError, match="is a model of several layers; give one LSTM layer of it: LSTM '"):
        plot_gates(keras_layer()[1])
    with pytest.raises(ValueError, match=r"gate must be one of .*'i'; the input gate is coupled to the forget gate"):
        plot_gates(Cell(random, coupled=True), gate="i")
    with pytest.raises(InvalidModelError, match="has no fused LSTM op"):
        plot_gates(file_without_an_lstm())
