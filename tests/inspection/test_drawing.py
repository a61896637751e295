"""The drawing of a file, and the viewer."""

import base64
import re
import sys
import time
import urllib.error
import urllib.request
from xml.etree import ElementTree

import keras
import pytest
import tensorflow as tf
from bs4 import BeautifulSoup

import lstm_toolkit
from lstm_toolkit import models
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.inspection.drawing import MOST_OPERATORS
from lstm_toolkit.inspection.netron import show_in_netron
from lstm_toolkit.inspection.placement import place
from lstm_toolkit.stock.converter import run_converter

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def split():
    model = models.bidirectional(time_steps=7, input_size=5, units=4)
    return lstm_toolkit.convert(model, bidirectional="split", verify=False).tflite


@pytest.fixture(scope="module")
def stock():
    """The `WHILE` form of the stock converter."""
    x = keras.Input((7, 5), batch_size=1)
    return run_converter(tf.lite.TFLiteConverter.from_keras_model(keras.Model(x, keras.layers.LSTM(4)(x))))


@pytest.fixture(scope="module")
def long():
    """A chain of 84 operators."""
    x = y = keras.Input((5,), batch_size=1)
    for number in range(42):
        y = keras.ops.sin(y * (number + 2.0))
    return run_converter(tf.lite.TFLiteConverter.from_keras_model(keras.Model(x, y)))


def parsed(drawing):
    root = ElementTree.fromstring(drawing.svg)
    boxes = [
        tuple(float(box.get(name)) for name in ("x", "y", "width", "height"))
        for box in root.iter(f"{SVG}rect")
        if box.get("x")
    ]
    return root, boxes, [text.text for text in root.iter(f"{SVG}text")]


def test_operators_states_and_shapes_are_drawn(split):
    root, boxes, texts = parsed(lstm_toolkit.inspect(split).drawing())
    assert len(boxes) == 9 + 2
    for text in ("UNIDIRECTIONAL_SEQUENCE_LSTM", "ZEROS_LIKE", "4 units, batch_major", "state: reset", "[1, 7, 5]"):
        assert text in texts
    assert texts.count("state: reset") == 2
    dashed = [path for path in root.iter(f"{SVG}path") if path.get("stroke-dasharray")]
    assert len(dashed) == 4
    # One arrow an edge: input to REVERSE_V2 and to the forward half, and one into each of the other four.
    assert len(list(root.iter(f"{SVG}path"))) == 4 + 2 + 5


def test_boxes_do_not_overlap_and_lie_inside(split, stock, long):
    for tflite in (split, stock, long):
        root, boxes, _ = parsed(lstm_toolkit.inspect(tflite).drawing())
        width, height = float(root.get("width")), float(root.get("height"))
        for number, (x, y, w, h) in enumerate(boxes):
            assert x >= 0
            assert y >= 0
            assert x + w <= width
            assert y + h <= height
            for x2, y2, w2, h2 in boxes[:number]:
                assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_arrows_point_down(split):
    root, _, _ = parsed(lstm_toolkit.inspect(split).drawing())
    for path in root.iter(f"{SVG}path"):
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", path.get("d"))]
        assert numbers[-1] > numbers[1]


def test_the_text_says_what_the_picture_shows(split):
    drawing = lstm_toolkit.inspect(split).drawing()
    root, _, _ = parsed(drawing)
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.find(f"{SVG}desc").text == drawing.alt == repr(drawing)
    assert root.find(f"{SVG}title").text
    for part in ("9 operators", "sequence [1, 7, 5]", "output_0 [1, 7, 8]", "state reset", "4 units"):
        assert part in drawing.alt


def test_a_notebook_gets_an_image(split):
    """JupyterLab cuts an `<svg>` element out of a notebook that is not trusted."""
    drawing = lstm_toolkit.inspect(split).drawing()
    page = BeautifulSoup(drawing._repr_html_(), "html.parser")
    assert page.img["src"].startswith("data:image/svg+xml;base64,")
    assert base64.b64decode(page.img["src"].partition(",")[2]).decode() == drawing.svg
    assert page.img["alt"] == drawing.alt
    assert page.svg is None


def test_a_loop_names_its_body_and_its_turns(stock):
    _, _, texts = parsed(lstm_toolkit.inspect(stock).drawing())
    body = lstm_toolkit.inspect(stock).subgraphs[2]
    assert f"body: subgraph 2, {len(body.ops)} ops" in texts
    assert "7 turns" in texts
    assert "GATHER" not in texts
    assert "GATHER" in parsed(lstm_toolkit.inspect(stock).drawing(subgraph=2))[2]
    with pytest.raises(IndexError):
        lstm_toolkit.inspect(stock).drawing(subgraph=9)


def test_a_large_graph_is_condensed_and_says_what_it_leaves_out(long, monkeypatch):
    count = len(lstm_toolkit.inspect(long).subgraphs[0].ops)
    assert count > MOST_OPERATORS
    _, boxes, texts = parsed(lstm_toolkit.inspect(long).drawing())
    assert f"{count} ops" in texts
    assert len(boxes) == 3
    monkeypatch.setattr("lstm_toolkit.inspection.drawing._condensed", lambda ops, known: ops)
    drawing = lstm_toolkit.inspect(long).drawing()
    _, boxes, texts = parsed(drawing)
    assert len(boxes) == MOST_OPERATORS + 2
    assert f"{count - MOST_OPERATORS} more operators are left out." in texts
    assert f"{count - MOST_OPERATORS} operators are not drawn." in drawing.alt


def test_layers_are_longest_paths():
    edges = [(0, 1), (1, 3), (0, 3), (2, 3), (3, 4), (0, 4)]
    placement = place([50.0] * 5, edges)
    assert list(placement.layers) == [0, 1, 1, 2, 3]
    assert [len(placement.passing[edge]) for edge in edges] == [0, 0, 1, 0, 0, 2]
    assert abs(placement.centers[1] - placement.centers[2]) >= 50
    assert place([], []).width == 0


def test_parts_of_a_graph_stand_side_by_side():
    edges = [(0, 1), (2, 4), (3, 4), (2, 5), (3, 5), (5, 6), (2, 6)]
    assert place([50.0] * 7, edges).width <= 4 * (50 + 24)


def test_a_drawing_is_saved_whole(split, tmp_path):
    drawing = lstm_toolkit.inspect(split).drawing()
    drawing.save(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text() == drawing.svg
    with pytest.raises(OSError, match="No such file"):
        drawing.save(tmp_path / "absent" / "graph.svg")


def test_netron_serves_on_this_machine_alone_and_stops(split):
    netron = pytest.importorskip("netron", reason="Netron, the extra `viewer`, is not installed")
    frame = show_in_netron(split, height=321)
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", frame.src)
        with urllib.request.urlopen(frame.src, timeout=10) as page:
            assert b"netron" in page.read().lower()
        with urllib.request.urlopen(f"{frame.src}/data/model.tflite", timeout=10) as file:
            assert file.read() == split
        assert frame.height == 321
    finally:
        netron.stop()
    deadline = time.monotonic() + 10
    while netron.status() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(frame.src, timeout=10)


def test_a_missing_netron_is_said_with_the_remedy(split, monkeypatch):
    monkeypatch.setitem(sys.modules, "netron", None)
    with pytest.raises(ImportError, match=r"pip install 'lstm_toolkit\[viewer\]'"):
        show_in_netron(split)
    with pytest.raises(InvalidModelError, match=r"not a \.tflite file"):
        show_in_netron(b"hello")
