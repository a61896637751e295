"""The panels without a browser, and the pure functions behind them."""

import dataclasses
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import ipywidgets
import pytest
import traitlets

import lstm_toolkit
from lstm_toolkit import codelab, widgets
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.panels import layouts, lowerings, measured
from lstm_toolkit.panels.measured import Candidate, Comparison, MeasuredFile
from lstm_toolkit.panels.sizes import LIMITS, Sizes
from lstm_toolkit.widgets import sizes as sizes_panels

SIZES = Sizes(batch_size=3, time_steps=5, input_size=2, units=4)


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


def by_name(name):
    return next(way for way in WAYS if way.name == name)


LOWERING_NAMES = [way.name for way in lowerings.LOWERINGS.ways]
CANDIDATES = dataclasses.replace(lowerings.LOWERINGS, ways=WAYS)


@pytest.fixture(scope="module")
def compared_lowerings():
    return measured.compare(CANDIDATES, SIZES, rounds=7)


@pytest.fixture(scope="module")
def compared_layouts():
    return measured.compare(layouts.LAYOUTS, SIZES, rounds=7)


def test_import_without_tensorflow():
    code = "import sys; from lstm_toolkit import widgets; widgets.compare_layouts(); print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ipywidgets" in loaded
    assert not {"tensorflow", "keras"} & set(loaded)


# Sizes.


@pytest.mark.parametrize("wrong", [0, 17, 2.0, True])
def test_sizes_are_checked(wrong):
    with pytest.raises(ValueError, match=re.escape(f"batch_size must be an integer from 1 to 16, got {wrong!r}")):
        Sizes(wrong, 5, 2, 4)


@pytest.mark.parametrize(
    ("name", "limit"), [("batch_size", 16), ("time_steps", 1000), ("input_size", 1024), ("units", 1024)]
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
        assert file.size == len(measured._example_file(SIZES, 0, by_name(file.name)))
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


@pytest.mark.parametrize("time_steps", [2, 11])
def test_sketch(time_steps):
    """What is sketched is in the files: loops, and one activation a step of each copy."""
    sizes = Sizes(batch_size=2, time_steps=time_steps, input_size=3, units=4)
    model = measured.lstm_model(sizes)
    for way, (name, parts) in zip(lowerings.LOWERINGS.ways, lowerings.sketch(sizes).rows, strict=True):
        assert name == way.name
        summary = lstm_toolkit.inspect(way.convert(model))
        loops = any(part[0] == "loop" for part in parts)
        assert loops == ("WHILE" in summary.ops)
        assert (parts == ("LSTM op",)) == bool(summary.lstm_nodes)
        assert parts.count("swap axes") == summary.subgraph_ops[0]["TRANSPOSE"]
        if ("copies", time_steps) in parts:
            assert summary.ops["TANH"] == 2 * time_steps
    said = str(lowerings.sketch(sizes)).splitlines()
    inside = f"swap axes, then a loop of {time_steps} turns, a step in each, then swap axes"
    assert said[0] == f"stock Keras 3: WHILE: {inside}"
    assert said[1] == f"stock, unroll=True: swap axes, then {time_steps} copies of the step, then swap axes"
    assert f"{time_steps} copies of the step" in lowerings.sketch(sizes)._repr_html_()
    drawing = ElementTree.fromstring(lowerings.drawing(lowerings.sketch(sizes)))
    texts = [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in LOWERING_NAMES] == LOWERING_NAMES
    assert texts.count(f"× {time_steps}") == (2 if time_steps > 10 else 3)


def test_layouts(compared_layouts):
    stock_batch, stock_time, fused_batch, fused_time, swapped = compared_layouts.files
    assert dict(stock_batch.main_ops) == {"TRANSPOSE": 2, "WHILE": 1}
    assert dict(stock_time.main_ops) == {"WHILE": 1}
    assert stock_batch.op_count == stock_time.op_count + 2
    swaps = ["the file, 2 TRANSPOSE", "nobody", "nobody", "nobody", "the caller, before and after"]
    assert [file.swaps for file in compared_layouts.files] == swaps
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
    assert 'alt="batch-major memory: turn 1 of 15 reads t0 b0' in panel.memory.value
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


def test_the_player():
    panel = widgets.compare_layouts()
    for turn in (2, 5, 6, 15):
        panel.turn.number.value = turn
        said = str(layouts.frame(SIZES, turn)).splitlines()
        assert all(f'alt="{line}"' in panel.memory.value for line in said)
        assert panel.turn.clock.value == turn
    panel.turn.number.value = 16
    assert "Turn must be a whole number from 1 to 15; 16 is not." in panel.turn.number.message.value
    assert "turn 15 of 15" in panel.memory.value
    panel.batch_size.value = 2
    assert (panel.turn.number.value, panel.turn.number.most, panel.turn.clock.max) == (1, 10, 10)
    assert not panel.turn.number.message.value
    panel.turn.button.value = True
    assert panel.turn.button.description == "Pause"
    panel.turn.button.value = False
    assert panel.turn.button.description == "Play"


class OldPlay(ipywidgets.BoundedIntText):
    """The `Play` of ipywidgets 7: the browser counts when the button in its view is pressed, and no trait starts it."""

    interval = traitlets.CInt(100).tag(sync=True)
    _playing = traitlets.Bool().tag(sync=True)


def test_the_player_in_ipywidgets_7_presses_the_button_of_the_clock(monkeypatch):
    monkeypatch.setattr(ipywidgets, "Play", OldPlay)
    players = [widgets.compare_layouts().turn for _ in range(2)]
    (name,), (other,) = (player._dom_classes for player in players)
    assert name != other
    for _ in range(2):
        assert not players[0]._starter.value
        players[0].button.value = True
        assert f"querySelector('.{name}')" in players[0]._starter.value
        players[0].button.value = False
    assert not players[1]._starter.value


def test_lowering_panel(compared_lowerings, monkeypatch):
    asked = []
    monkeypatch.setattr(
        sizes_panels, "compare", lambda candidates, sizes, subject: asked.append(sizes) or compared_lowerings
    )
    panel = widgets.compare_lowerings()
    assert "28 copies of the step" in panel.sketch.value
    panel.quantity.value = "largest error"
    assert not panel.picture.value
    panel.batch_size.value, panel.time_steps.value, panel.input_size.value, panel.units.value = 3, 5, 2, 4
    assert "5 copies of the step" in panel.sketch.value
    panel.run.click()
    assert asked == [SIZES]
    assert "no file: no &lt;b&gt;such&lt;/b&gt; op" in panel.results.value
    assert "<b>such" not in panel.results.value
    assert 'alt="Bars of largest error' in panel.picture.value
    before = panel.picture.value
    panel.quantity.value = "operators in the file"
    assert panel.picture.value != before
    assert 'alt="Bars of operators in the file' in panel.picture.value


def test_what_is_measured_for_other_sizes_says_so(compared_lowerings, monkeypatch):
    monkeypatch.setattr(sizes_panels, "compare", lambda candidates, sizes, subject: compared_lowerings)
    panel = widgets.compare_lowerings()
    panel.batch_size.value, panel.time_steps.value, panel.input_size.value, panel.units.value = 3, 5, 2, 4
    panel.run.click()
    label = "This is for batch 3, time 5, input 2, units 4, not for the sizes above."
    places = (panel.results, panel.picture)
    fresh = [place.value for place in places]
    assert not any(label in value for value in fresh)
    for value in (6, 7.5, 6):
        panel.time_steps.value = value
        assert all(label in place.value and "grayscale" in place.value for place in places)
        assert ("not for the sizes above" in panel.sketch.value) == (value == 7.5)
    panel.quantity.value = "largest error"
    assert label in panel.picture.value
    panel.time_steps.value, panel.quantity.value = 5, "time of a call (µs)"
    assert [place.value for place in places] == fresh


def test_too_much_work_in_a_panel(monkeypatch):
    monkeypatch.setattr(sizes_panels, "compare", lambda *_, **__: pytest.fail("was called"))
    panel = widgets.compare_lowerings()
    panel.time_steps.value, panel.units.value = 100, 512
    reason = "Not possible: batch 1, time 100, input 8, units 512 takes 106,496,000 multiplications"
    assert reason in panel.status.value
    panel.run.click()
    assert reason in panel.status.value
    assert not panel.results.value


def test_a_failure_does_not_look_busy(monkeypatch):
    def fail(candidates, sizes, subject):
        raise RuntimeError("a defect")

    monkeypatch.setattr(sizes_panels, "compare", fail)
    panel = widgets.compare_lowerings()
    panel.run.click()
    assert "Stopped; nothing was measured for batch 1" in panel.status.value


@pytest.mark.parametrize("typed", [100_000, 0, -1, 7.5, 1e308])
def test_what_is_no_such_number_is_said_beside_the_field(typed, monkeypatch):
    monkeypatch.setattr(sizes_panels, "compare", lambda *_, **__: pytest.fail("was called"))
    for panel in (widgets.compare_layouts(), widgets.compare_lowerings()):
        controls = (panel.batch_size, panel.time_steps, panel.input_size, panel.units)
        assert [control.description for control in controls] == ["Batch", "Time steps", "Input size", "Units"]
        assert panel.children[0].children[:4] == controls
        shown = panel.sketch if hasattr(panel, "sketch") else panel.memory
        for control, limit in zip(controls, LIMITS.values(), strict=True):
            before = control.value
            control.value = typed
            assert (control.value, control.field.value) == (None, typed)
            said = f"{control.description} must be a whole number from 1 to {limit:,}; {typed:.15g} is not."
            assert control.children[1].value.endswith(f'role="alert">{said}</div>')
            assert f"see {control.description}." in panel.status.value
            assert "not for the sizes above" in shown.value
            panel.run.click()
            control.value = before
            assert not control.message.value
            assert "not for the sizes above" not in shown.value


def test_gate_panel():
    panel = widgets.explore_gates()
    assert any("<img" in getattr(child, "value", "") for child in panel.children)
