"""The panels without a browser, and the pure functions behind them."""

import dataclasses
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from lstm_toolkit import codelab, widgets
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.panels import layouts, lowerings, measured
from lstm_toolkit.panels.measured import Candidate, Comparison, MeasuredFile, Sizes
from lstm_toolkit.widgets import sizes as sizes_panels

SIZES = Sizes(batch_size=3, time_steps=5, input_size=2, units=4)
SVG = "{http://www.w3.org/2000/svg}"


def refuse(model):
    raise ConversionError("no <b>such</b> op; use another")


def carry(model):
    return measured.converted(model, state="carry")


def other_weights(model):
    return measured.converted(measured.lstm_model(SIZES, seed=9))


WAYS = (
    *lowerings.LOWERINGS.ways,
    Candidate("refused", refuse),
    Candidate("carrying", carry),
    Candidate("other weights", other_weights),
)
CANDIDATES = dataclasses.replace(lowerings.LOWERINGS, ways=WAYS)


@pytest.fixture(scope="module")
def compared_lowerings():
    return measured.compare(CANDIDATES, SIZES, rounds=7)


@pytest.fixture(scope="module")
def compared_layouts():
    return measured.compare(layouts.LAYOUTS, SIZES, rounds=7)


def drawn(order):
    return ElementTree.fromstring(layouts.drawing(order).replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))


def test_import_without_tensorflow():
    code = "import sys; from lstm_toolkit import widgets; widgets.compare_layouts(); print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ipywidgets" in loaded
    assert not {"tensorflow", "keras"} & set(loaded)


# Memory orders.


@pytest.mark.parametrize("place", [0, 1])
def test_cells_are_where_the_bytes_are(place):
    order = layouts.memory_orders(SIZES, seed=4)[place]
    values = measured.sequence(SIZES, seed=4)
    memory = np.transpose(values, ((0, 1, 2), (1, 0, 2))[place]).tobytes()
    for cell in order.cells:
        assert struct.unpack_from("f", memory, cell.offset)[0] == values[cell.batch, cell.time, 0] == cell.first
    assert [cell.offset for cell in order.cells] == list(range(0, 3 * 5 * 2 * 4, 2 * 4))


def test_strides():
    batch_major, time_major = layouts.memory_orders(SIZES)
    assert (batch_major.strides, batch_major.element_strides) == ((40, 8, 4), (10, 2, 1))
    assert (time_major.strides, time_major.element_strides) == ((24, 8, 4), (6, 2, 1))
    rows = layouts.strides_table((batch_major, time_major)).rows
    assert [row[-1] for row in rows] == ["3 pieces of 8 bytes, 40 bytes apart", "one piece of 24 bytes"]
    single = layouts.memory_orders(Sizes(1, 5, 2, 4))
    assert {row[-1] for row in layouts.strides_table(single).rows} == {"one piece of 8 bytes"}


def test_drawing():
    batch_major, time_major = (drawn(order) for order in layouts.memory_orders(SIZES))
    for drawing, names in (
        (batch_major, {f"t{time} b{batch}" for batch in range(3) for time in range(5)}),
        (time_major, {f"t{time} b{batch}" for batch in range(3) for time in range(5)}),
    ):
        texts = {text.text for text in drawing.iter(f"{SVG}text")}
        assert names <= texts
        thick = [
            group.find(f"{SVG}text").text
            for group in drawing.iter(f"{SVG}g")
            if group.find(f"{SVG}rect").get("stroke-width") == "4"
        ]
        assert thick == ["t0 b0", "t0 b1", "t0 b2"]
    assert "first address to the last: t0 b0, t1 b0, t2 b0" in batch_major.get("aria-label")
    assert "first address to the last: t0 b0, t0 b1, t0 b2, t1 b0" in time_major.get("aria-label")


def test_places_in_the_drawing():
    """From left to right and from top to bottom the cells stand in the order of their addresses."""
    order = layouts.memory_orders(SIZES)[1]
    places = []
    for group in drawn(order).iter(f"{SVG}g"):
        box = {name: float(group.find(f"{SVG}rect").get(name)) for name in ("x", "y", "width", "height")}
        middle = box["y"] + box["height"] / 2, box["x"] + box["width"] / 2
        places.append((*middle, group.find(f"{SVG}text").text))
    wanted = [f"t{time} b{batch}" for time in range(5) for batch in range(3)]
    assert [name for _, _, name in sorted(places)] == wanted


def test_drawing_is_cut():
    order = layouts.memory_orders(Sizes(16, 100, 1, 1))[0]
    assert len(list(drawn(order).iter(f"{SVG}rect"))) == layouts.MAX_CELLS == 32
    assert layouts.caption(order) == "batch-major, [batch, time, input]: the first 32 of 1,600 cells"


# Sizes.


@pytest.mark.parametrize("wrong", [0, 17, 2.0, True])
def test_sizes_are_checked(wrong):
    with pytest.raises(ValueError, match=re.escape(f"batch_size must be an integer from 1 to 16, got {wrong!r}")):
        Sizes(wrong, 5, 2, 4)


@pytest.mark.parametrize(
    ("name", "limit"), [("batch_size", 16), ("time_steps", 100), ("input_size", 128), ("units", 512)]
)
def test_limits(name, limit):
    least = {"batch_size": 1, "time_steps": 1, "input_size": 1, "units": 1}
    assert getattr(Sizes(**least | {name: limit}), name) == limit
    with pytest.raises(ValueError, match=f"{name} must be an integer from 1 to {limit}, got {limit + 1}"):
        Sizes(**least | {name: limit + 1})


def test_too_much_work():
    reason = r"takes 106,496,000 multiplications a call, more than 50,000,000; make one of the sizes smaller"
    with pytest.raises(ValueError, match=reason):
        Sizes(1, 100, 8, 512)


# Comparisons.


def test_lowerings(compared_lowerings):
    files = {file.name: file for file in compared_lowerings.files}
    loop, unrolled, fused, *plain = (files[each.name] for each in lowerings.LOWERINGS.ways)
    assert [file.name for file in plain] == ["unrolled", "loop"]
    assert loop.ops["WHILE"] == 1
    assert dict(loop.main_ops) == {"TRANSPOSE": 2, "WHILE": 1}
    assert unrolled.ops["TANH"] == 2 * SIZES.time_steps
    assert "WHILE" not in unrolled.ops
    assert dict(fused.ops) == {"UNIDIRECTIONAL_SEQUENCE_LSTM": 1, "ZEROS_LIKE": 2}
    assert fused.op_count == fused.ops_executed == 3
    assert loop.ops_executed > unrolled.ops_executed == unrolled.op_count > 3
    for file in (loop, unrolled, fused, *plain):
        assert not {"WHILE", "UNIDIRECTIONAL_SEQUENCE_LSTM"} & set(file.ops) or file not in plain
        assert file.max_abs_error < 1e-5
        assert 0 < file.time.quartile_1 <= file.median <= file.time.quartile_3
        assert file.time == compared_lowerings.times[file.name].call
        assert file.size == len(measured._file(next(way for way in WAYS if way.name == file.name), SIZES, 0))
    ratio = compared_lowerings.times.ratio(loop.name)
    assert ratio.baseline == "fused"
    _, ratios = compared_lowerings.tables()
    assert ratios.title == "Times as long as fused, with 95% intervals"
    assert (loop.name, "call", str(ratio), ratio.verdict) in ratios.rows


@pytest.mark.parametrize("time_steps", [5, 20, 23, 24])
def test_operators_that_a_loop_of_several_steps_a_turn_executes(time_steps):
    """Up to 10 steps there is no loop; 23 are two turns of 10 and one of 3; 24 are three of 8: as many as unrolled,
    and some for each loop and each turn."""
    sizes = Sizes(batch_size=2, time_steps=time_steps, input_size=3, units=4)
    model = measured.lstm_model(sizes)
    loop, unrolled = (measured.converted(model, lowering=form) for form in ("loop", "unrolled"))
    more = codelab.operators_executed(loop, time_steps) - codelab.operators_executed(unrolled, time_steps)
    assert 0 <= more < 20
    assert (more == 0) == (time_steps == 5)


def test_operators_are_unknown_where_nothing_tells_the_turns_of_a_loop():
    assert measured.COLUMNS["ops run"](MeasuredFile("loop")) == "unknown"


def test_wrong_files_show(compared_lowerings):
    """One that carries its state is right in the first call only; one with other weights never."""
    errors = {file.name: file.max_abs_error for file in compared_lowerings.files}
    assert errors["carrying"] > 1e-3
    assert errors["other weights"] > 1e-2


def test_refused_candidate(compared_lowerings):
    refused = next(file for file in compared_lowerings.files if file.name == "refused")
    assert refused == MeasuredFile("refused", reason="no <b>such</b> op; use another")
    assert "refused" not in [model.name for model in compared_lowerings.times.models]
    assert "no file: no <b>such</b> op; use another" in str(compared_lowerings)
    assert "no file: no &lt;b&gt;such&lt;/b&gt; op; use another" in compared_lowerings._repr_html_()
    assert "refused" not in lowerings.picture(compared_lowerings, "size of the file (bytes)").alt


def test_without_the_baseline_the_first_file_takes_its_place():
    ways = (Candidate("fused", refuse), *lowerings.LOWERINGS.ways[3:])
    compared = measured.compare(dataclasses.replace(CANDIDATES, ways=ways), SIZES, rounds=1)
    assert [file.time is None for file in compared.files] == [True, False, False]
    assert compared.tables()[1].title.startswith("Times as long as unrolled")
    none = measured.compare(dataclasses.replace(CANDIDATES, ways=ways[:1]), SIZES)
    assert (none.times, len(none.tables())) == (None, 1)


@pytest.mark.parametrize("quantity", lowerings.QUANTITIES)
def test_picture(compared_lowerings, quantity):
    picture = lowerings.picture(compared_lowerings, quantity)
    bars = {
        label.get_text(): bar.get_width()
        for label, bar in zip(picture.figure.axes[0].get_yticklabels(), picture.figure.axes[0].patches, strict=True)
    }
    attribute = lowerings.QUANTITIES[quantity]
    wanted = {file.name: getattr(file, attribute) for file in compared_lowerings.files if not file.reason}
    assert bars == pytest.approx(wanted)
    assert len({bar.get_hatch() for bar in picture.figure.axes[0].patches}) == len(bars)
    assert quantity in picture.alt
    assert all(name in picture.alt for name in wanted)


def test_picture_of_no_file():
    comparison = Comparison(CANDIDATES, SIZES, (MeasuredFile("fused", reason="refused"),))
    picture = lowerings.picture(comparison, "operators in the file")
    assert picture.alt == "Bars of operators in the file for batch 3, time 5, input 2, units 4: no file."
    with pytest.raises(ValueError, match="quantity must be one of time of a call"):
        lowerings.picture(comparison, "beauty")


def test_layouts(compared_layouts):
    stock_batch, stock_time, fused_batch, fused_time, swapped = compared_layouts.files
    assert dict(stock_batch.main_ops) == {"TRANSPOSE": 2, "WHILE": 1}
    assert dict(stock_time.main_ops) == {"WHILE": 1}
    assert stock_batch.op_count == stock_time.op_count + 2
    for file in (fused_batch, fused_time, swapped):
        assert dict(file.ops) == {"UNIDIRECTIONAL_SEQUENCE_LSTM": 1, "ZEROS_LIKE": 2}
    assert all(file.max_abs_error < 1e-5 for file in compared_layouts.files)
    files, ratios = compared_layouts.tables()
    assert [row[0] for row in files.rows] == [each.name for each in layouts.LAYOUTS.ways]
    assert ratios.title.startswith("Times as long as batch-major, fused")


def test_transposes_of_a_single_sequence():
    """Where the batch is 1 the stock converter writes RESHAPE."""
    first = dataclasses.replace(layouts.LAYOUTS, ways=layouts.LAYOUTS.ways[:1])
    (file,) = measured.compare(first, Sizes(1, 5, 2, 4), rounds=1).files
    assert dict(file.main_ops) == {"RESHAPE": 2, "WHILE": 1}


# Panels.


def test_layout_panel(compared_layouts):
    panel = widgets.compare_layouts()
    assert 'aria-label="batch-major memory' in panel.memory.value
    assert "Press “Convert and measure”" in panel.status.value
    for control, text in (
        (panel.batch_size, "batch 4, time 5, input 2"),
        (panel.time_steps, "batch 4, time 6, input 2"),
        (panel.input_size, "batch 4, time 6, input 3"),
    ):
        control.value += 1
        assert text in panel.memory.value
    panel.units.value += 1
    assert "units 5" in panel.status.value
    assert panel.comparison is None
    assert not panel.results.value
    panel.batch_size.value, panel.time_steps.value, panel.input_size.value, panel.units.value = 3, 5, 2, 4
    panel.run.click()
    assert [file.ops for file in panel.comparison.files] == [file.ops for file in compared_layouts.files]
    assert "2 TRANSPOSE, 1 WHILE" in panel.results.value
    assert "Measured for batch 3, time 5, input 2, units 4." in panel.status.value


def test_lowering_panel(compared_lowerings, monkeypatch):
    asked = []
    monkeypatch.setattr(sizes_panels, "compare", lambda candidates, sizes: asked.append(sizes) or compared_lowerings)
    panel = widgets.compare_lowerings()
    panel.quantity.value = "largest error"
    assert not panel.picture.value
    panel.batch_size.value, panel.time_steps.value, panel.input_size.value, panel.units.value = 3, 5, 2, 4
    panel.run.click()
    assert asked == [SIZES]
    assert "no file: no &lt;b&gt;such&lt;/b&gt; op" in panel.results.value
    assert "<b>such" not in panel.results.value
    assert 'alt="Bars of largest error' in panel.picture.value
    before = panel.picture.value
    panel.quantity.value = "operators in the file"
    assert panel.picture.value != before
    assert 'alt="Bars of operators in the file' in panel.picture.value


def test_too_much_work_in_a_panel(monkeypatch):
    monkeypatch.setattr(sizes_panels, "compare", lambda candidates, sizes: pytest.fail("was called"))
    panel = widgets.compare_lowerings()
    panel.time_steps.value, panel.units.value = 100, 512
    reason = "Not possible: batch 1, time 100, input 8, units 512 takes 106,496,000 multiplications"
    assert reason in panel.status.value
    panel.run.click()
    assert reason in panel.status.value
    assert not panel.results.value


def test_a_failure_does_not_look_busy(monkeypatch):
    def fail(candidates, sizes):
        raise RuntimeError("a defect")

    monkeypatch.setattr(sizes_panels, "compare", fail)
    panel = widgets.compare_lowerings()
    panel.run.click()
    assert "Stopped; nothing was measured for batch 1" in panel.status.value


def test_numbers_are_bounded_and_labelled():
    for panel in (widgets.compare_layouts(), widgets.compare_lowerings()):
        controls = (panel.batch_size, panel.time_steps, panel.input_size, panel.units)
        assert [control.description for control in controls] == ["Batch", "Time steps", "Input size", "Units"]
        for control, limit in zip(controls, measured.LIMITS.values(), strict=True):
            control.value = 100_000
            assert control.value == limit
            control.value = -1
            assert control.value == 1


def test_gate_panel():
    panel = widgets.explore_gates()
    assert any("<img" in getattr(child, "value", "") for child in panel.children)
