"""Every figure and drawing of the package: what is too faint to be seen on its page, and colours that look alike."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import lstm_toolkit
from lstm_toolkit import GateWeights, gate_activations
from lstm_toolkit.benchmarking.result import BenchmarkResult
from lstm_toolkit.benchmarking.timings import ModelTiming, Overhead, Timing
from lstm_toolkit.display.gate_looks import COLORS, casing, draw_gate_order
from lstm_toolkit.gate_pictures.figure import plot_gates
from lstm_toolkit.gate_pictures.layout import gate_layout
from lstm_toolkit.gate_pictures.steps import STEPS, step_figure
from lstm_toolkit.inspection.drawing import draw
from lstm_toolkit.inspection.values import OpSummary, SubgraphSummary, TensorSummary
from lstm_toolkit.panels import layouts, lowerings
from lstm_toolkit.panels.measured import Comparison, MeasuredFile
from lstm_toolkit.panels.sizes import Sizes
from lstm_toolkit.quantization_view import LayerError, QuantizationView
from tests.helpers.contrast import GRAPHICS, faint, faint_in_svg, linear, over, ratio
from tests.helpers.packed_weights import Cell, everything, torch_state
from tests.helpers.weights import random_operands

ROOT = Path(__file__).parents[2]
SIZES = Sizes(batch_size=3, time_steps=13, input_size=2, units=4)


def activations(random):
    """Of two LSTMs over two calls."""
    flags = {"cifg": False, "peephole": True, "projection": True, "layer_norm": False}
    calls = [random.normal(size=(2, steps, 5)).astype(np.float32) for steps in (6, 3)]
    return [gate_activations(GateWeights(**random_operands(random, **flags)), calls) for _ in range(2)]


def timed(random):
    """A fast model, and one that is larger and slower."""

    def timing(first):
        return Timing.of([first + random.random(5) for _ in range(7)])

    rows = (
        ModelTiming(name, "file", timing(10.0 * size), 1.0, invoke=timing(9.0 * size), size=1000 * size)
        for name, size in (("small", 1), ("large", 4))
    )
    return BenchmarkResult(tuple(rows), "small", 0.01, Overhead("a", 1.0, 1.02, 0.02), 7, 0)


def compared(random):
    files = [
        MeasuredFile(way.name, {"ADD": n}, {"ADD": n}, n, 100 * n, timed(random).models[0].call, 0.1 / n)
        for n, way in enumerate(lowerings.LOWERINGS.ways, start=1)
    ]
    return Comparison(lowerings.LOWERINGS, SIZES, tuple(files))


def quantized(random, steps):
    error = LayerError("lstm", ("input gate", "forget gate", "all weights", "file"), random.random((4, steps)))
    return QuantizationView((), (), (error,)).picture().figure


def gate_order(operands):
    figure = Figure()
    draw_gate_order(figure.subplots(), list(COLORS), operands)
    return figure


def step(random, name):
    return step_figure(gate_layout(Cell(random)), "wm", STEPS[name], (2, 11))


FIGURES = {
    "gates, Lingvo": lambda random: plot_gates(Cell(random, projection=True, normalized=True)),
    "gates, PyTorch": lambda random: plot_gates(torch_state(random, projection=True)),
    "gates, two orders": lambda random: plot_gates(everything(random), order=("pytorch", "lingvo")),
    "gates packed": lambda random: step(random, 0),
    "gates transposed": lambda random: step(random, 1),
    "gates split": lambda random: step(random, 2),
    "gates in their slots": lambda random: step(random, 3),
    "order of gates": lambda _: gate_order({gate: gate for gate in COLORS}),
    "wrong order of gates": lambda _: gate_order(dict(zip(COLORS, reversed(COLORS), strict=True))),
    "activations": lambda random: activations(random)[0].picture(step=4).figure,
    "activations of one gate": lambda random: activations(random)[0].picture(gate="i", step=4).figure,
    "activations of two sides": lambda random: (
        lambda one, other: one.picture(gate="c", against=other).figure)(*activations(random)),
    "activations of one unit": lambda random: (
        lambda one, other: one.picture(unit=3, against=other).figure)(*activations(random)),
    "times": lambda random: timed(random).plot().figure,
    "time and size": lambda random: timed(random).pareto().figure,
    "time, size and error": lambda random: timed(random).pareto({"small": 0.1, "large": 0.2}).figure,
    "quantization, few steps": lambda random: quantized(random, 11),
    "quantization": lambda random: quantized(random, 30),
} | {
    f"lowerings, {quantity}": lambda random, quantity=quantity: lowerings.picture(compared(random), quantity).figure
    for quantity in lowerings.QUANTITIES
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_in_a_figure_is_faint(random, name):
    assert marks_too_faint(FIGURES[name](random)) == []


@pytest.mark.parametrize("gate", COLORS)
def test_a_gate_that_is_followed_is_not_faint(random, gate):
    assert marks_too_faint(plot_gates(Cell(random), gate=gate), but_faded=True) == []


def marks_too_faint(figure, **options):
    """All but the bands between arrays: the line in the middle of each shows the same way."""
    return [each for each in faint(figure, **options) if " band:" not in each]


def test_filled_points_look_unlike_the_others(random):
    figure = timed(random).pareto({"small": 0.1, "large": 0.2}).figure
    (filled, empty) = (each.get_facecolor()[0] for each in figure.axes[0].collections)
    assert ratio(over(filled[:3], filled[3], (1, 1, 1)), empty[:3]) >= GRAPHICS


def with_a_loop():
    """The drawing of a graph with a loop and with a state that is set."""
    x, y, z = (TensorSummary(name, (2, 3), "float32", index=index) for index, name in enumerate("xyz"))
    state = TensorSummary("state", (2, 3), "float32", index=3, role="variable")
    ops = (OpSummary(0, "ZEROS_LIKE", (state,), (state,), 0), OpSummary(1, "WHILE", (x, state), (y,), 0, 7, 5, (1,)))
    graph = SubgraphSummary("main", (x, y, z, state), (x,), (z,), (*ops, OpSummary(2, "TANH", (y,), (z,), 0)), 0)
    return draw((graph, graph), 0, layers=((), ()), ends=((x,), (z,))).svg


DRAWINGS = {
    "ways to write an LSTM": lambda: lowerings.drawing(lowerings.sketch(SIZES)),
    "ways to write an LSTM of a file": lambda: lowerings.drawing(lowerings.sketch(SIZES, lowerings.FILE_LOWERINGS)),
    "batch-major": lambda: layouts.drawing(layouts.memory_orders(Sizes(8, 3, 2, 1))[0], 5),
    "time-major": lambda: layouts.drawing(layouts.memory_orders(Sizes(8, 3, 2, 1))[1], 2),
    "a file": lambda: lstm_toolkit.inspect(ROOT / "lstm_toolkit/panels/patient.tflite").drawing().svg,
    "a loop and a state": with_a_loop,
    "an unrolled layer": lambda: lstm_toolkit.inspect(ROOT / "tests/data/unrolled/keras_last.tflite").drawing().svg,
    "one op": lambda: (ROOT / "docs/images/one_op.svg").read_text(),
    "map of the codelabs": lambda: (ROOT / "notebooks/images/map.svg").read_text(),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_nothing_in_a_drawing_is_faint(name):
    assert faint_in_svg(DRAWINGS[name]()) == []


# What is seen without one kind of cones: light to light (Machado, Oliveira and Fernandes, 2009).
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color, blindness):
    """A colour as CIELAB, in which distances are what one sees."""
    rgb = np.clip(BLINDNESS[blindness] @ np.array(linear(to_rgb(color))), 0, 1)
    x, y, z = np.cbrt(TO_XYZ @ rgb / TO_XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def closest(colors, blindness):
    return min(np.linalg.norm(lab(a, blindness) - lab(b, blindness)) for a, b in itertools.combinations(colors, 2))


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_the_colors_of_gates_do_not_look_alike(blindness):
    """The closest two are those of Okabe and Ito's set."""
    published = {**COLORS, "input": "#E69F00"}
    assert closest(COLORS.values(), blindness) > 15
    assert closest(COLORS.values(), blindness) == pytest.approx(closest(published.values(), blindness))


def test_colors_that_look_alike_are_seen():
    assert closest(["#A05A00", "#6A7A00"], "deuteranopia") < 15 < closest(["#A05A00", "#6A7A00"], "none")


PLANTED = {
    "faint, 2.25": lambda axes: axes.plot([0, 1], [0, 1], color="#E69F00"),
    "faint, 1.92": lambda axes: axes.plot([0, 1], [0, 1], "o", color="#bbbbbb"),
    "faint, 1.61": lambda axes: axes.barh([0, 1], [1, 2], color="#cccccc", edgecolor="none"),
    "faint, 2.85": lambda axes: axes.axvspan(0, 1, color="black", alpha=0.4),
    "faint, 1.18": lambda axes: axes.scatter([0, 1], [0, 1], color="#f6efa0"),
    "faint hatch, 1.32": lambda axes: axes.barh(0, 1, color="black", hatch="//", edgecolor="#222222"),
    "faint text, 3.54": lambda axes: axes.text(0.5, 0.5, "grey", color="#888888"),
    "faint, 1.00": lambda axes: (axes.imshow(np.eye(3), cmap="Greys"), axes.axvline(1, color="black"))[1],
    "faint, 1.27": lambda axes: (axes.barh([0, 1], 0, color="#e4e4e4", label="x"), axes.legend())[1],
    "no frame": lambda axes: (axes.imshow(np.eye(3), cmap="Greys"), axes.set_axis_off()),
}


@pytest.mark.parametrize("reason", PLANTED)
def test_what_is_faint_is_found(reason):
    axes = Figure().subplots()
    PLANTED[reason](axes)
    found = faint(axes.figure)
    assert found
    assert {each.partition(":")[0] for each in found} == {reason}


def test_a_dark_edge_and_a_casing_are_enough():
    axes = Figure().subplots()
    axes.imshow(np.eye(3), cmap="Greys", extent=(0, 1, 0, 1))
    axes.axvline(0.5, color="white", path_effects=casing(1.5, "black"))
    axes.barh([2, 3], [1, 2], color="#f6efa0", edgecolor="black", hatch="//")
    axes.scatter([1, 1], [2.2, 3.2], color="#f6efa0", edgecolor="black")
    assert faint(axes.figure) == []
    axes.axvline(0.6, color="#888888", path_effects=casing(1.5, "#aaaaaa"))
    assert len(faint(axes.figure)) == 1


def test_what_is_faint_in_a_drawing_is_found():
    page = '<rect width="100%" height="100%" fill="#ffffff"/>'
    shapes = (
        '<rect x="2" y="2" width="30" height="30" fill="#0072B2"/>',
        '<g stroke="#E69F00"><path d="M0,0 L9,9" fill="none"/></g>',
        '<rect x="40" y="2" width="9" height="9" fill="#f6efa0"/>',
        '<text x="10" y="20">black on blue</text>',
        '<text x="60" y="20">black on white</text>',
    )
    found = faint_in_svg(f'<svg xmlns="http://www.w3.org/2000/svg">{page}{"".join(shapes)}</svg>')
    assert [each.partition(" {")[0] for each in found] == [
        "faint, 1.00: rect", "faint, 1.91: path", "faint, 1.00: rect", "faint, 4.05: text",
    ]  # fmt: skip
