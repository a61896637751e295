"""The panels in a real browser: JupyterLab, driven through Chromium."""

import re
import time

import nbformat
import pytest

from tests.helpers.jupyterlab import (
    PYTHON,
    WAIT,
    browse,
    errors,
    needs_chromium,
    open_notebook,
    run_all_cells,
    serve,
    shown,
)

pytestmark = needs_chromium
CELLS = {
    "compare_layouts": "layouts = widgets.compare_layouts()\nlayouts",
    "explore_gates": "gates = widgets.explore_gates()\ngates",
    "compare_lowerings": "lowerings = widgets.compare_lowerings()\nlowerings",
    "watch_memory": "memory = widgets.watch_memory()\nmemory",
}
SIZES = ("Batch", "Time steps", "Input size", "Units")
CONTROLS = {
    "compare_layouts": (*SIZES, "Turn"),
    "explore_gates": ("Weights", "Array", "Gate", "Step", "Row", "Column"),
    "compare_lowerings": (*SIZES, "Bars show"),
    "watch_memory": ("Show", "Unit", "Steps a call", "Step"),
}
BUTTONS = {"compare_layouts": ["Convert and measure", "Play"], "explore_gates": [], "watch_memory": ["Play"]}
CONTROL = "input, select, textarea, button, [role=slider], [contenteditable=true]"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a notebook with one cell a panel."""
    folder = tmp_path_factory.mktemp("panels")
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    first = "import sys\nfrom lstm_toolkit import widgets\nprint('tensorflow' in sys.modules, sys.executable)"
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in (first, *CELLS.values(), "print('the' + ' end')")]
    nbformat.write(notebook, folder / "panels.ipynb")
    with serve(folder, tmp_path_factory.mktemp("server")) as server:
        yield server.address_of("panels.ipynb")


@pytest.fixture(scope="module")
def page(lab):
    """JupyterLab at 125 percent in a window of 1024 x 768 pixels, after all cells ran."""
    # A browser's zoom of 125 percent: fewer CSS pixels in the same window, each drawn larger.
    with browse(819, 614, device_scale_factor=1.25) as context:
        page, page.watched = open_notebook(context, lab)
        run_all_cells(page)
        failed = errors(page)
        page.locator(".jp-OutputArea-output").get_by_text("the end", exact=True).or_(failed).first.wait_for()
        assert not failed.count(), failed.inner_text()
        yield page


def panel_of(page, name):
    """The output of a panel's cell."""
    return page.locator(".jp-CodeCell").nth(1 + list(CELLS).index(name)).locator(".jp-OutputArea").first


def changes(panel, act):
    """Does something with a control and waits until the panel shows something else."""
    before, end = shown(panel), time.monotonic() + WAIT / 1000
    act()
    while shown(panel) == before:
        assert time.monotonic() < end, "the panel did not change"
        time.sleep(0.05)


def measure(panel, sizes):
    """Presses the button by the keyboard and waits for the figures of these sizes."""
    panel.get_by_role("button", name="Convert and measure").press("Enter")
    said = panel.locator("[role=status]", has_text=re.compile(f"^(Measured for {sizes}|Stopped)"))
    said.wait_for(timeout=3 * WAIT)
    assert "Stopped" not in said.inner_text()


def choose_next(page, dropdown):
    """Opens a list by the keyboard and takes its next entry. (On a closed list JupyterLab takes the arrow itself.)"""
    dropdown.focus()
    for key in ("Space", "ArrowDown", "Enter"):
        page.keyboard.press(key)


def test_kernel(page):
    """The kernel is this Python, and importing the panels brought no TensorFlow."""
    first = page.locator(".jp-CodeCell").first.locator(".jp-OutputArea")
    assert first.inner_text().strip() == f"False {PYTHON}"


def test_compare_layouts(page):
    panel = panel_of(page, "compare_layouts")
    drawings = panel.get_by_role("img", name=re.compile("memory: turn 1 of"))
    assert drawings.count() == 2
    for label in SIZES:
        changes(panel, lambda label=label: panel.get_by_label(label, exact=True).press("ArrowUp"))
    sizes = "batch 4, time 6, input 3, units 5"
    measure(panel, sizes)
    assert panel.get_by_role("region", name=f"Files for {sizes}").locator("tbody tr").count() == 5
    assert panel.get_by_role("img", name="batch-major memory: turn 1 of 24 reads t0 b0, bytes 0 to 11").count() == 1
    stale = panel.get_by_text(f"This is for {sizes}, not for the sizes above.")
    assert not stale.count()
    units = panel.get_by_label("Units", exact=True)
    units.press("ArrowUp")
    stale.wait_for()
    units.press("ArrowDown")
    stale.wait_for(state="detached")


def test_the_turns_play(page):
    """The turn counts up by itself, and the drawings follow; a press holds it, and at the end it stops."""
    panel = panel_of(page, "compare_layouts")
    turn = panel.get_by_label("Turn", exact=True)
    changes(panel, lambda: turn.press("ArrowUp"))
    panel.get_by_role("img", name=re.compile("time-major memory: turn 2 of")).wait_for()
    panel.get_by_role("button", name="Play").press("Enter")
    panel.get_by_role("img", name=re.compile("batch-major memory: turn 4 of")).wait_for()
    panel.get_by_role("button", name="Pause").press("Enter")
    panel.get_by_role("button", name="Play").wait_for()
    held = turn.input_value()
    time.sleep(1.5)
    assert turn.input_value() == held
    last = panel.locator("img").first.get_attribute("alt").split()[5]
    turn.fill(str(int(last) - 1))
    turn.press("Enter")
    panel.get_by_role("button", name="Play").press("Enter")
    panel.get_by_role("img", name=re.compile(f"batch-major memory: turn {last} of")).wait_for()
    panel.get_by_role("button", name="Play").wait_for()
    assert panel.get_by_role("img", name=re.compile("time-major memory: all is read after turn")).count() == 1


@pytest.mark.parametrize("name", ["compare_layouts", "compare_lowerings"])
def test_what_is_no_size_is_said_beside_the_field(page, name):
    panel = panel_of(page, name)
    for label, limit in (("Batch", "16"), ("Time steps", "1,000")):
        field = panel.get_by_label(label, exact=True)
        before = field.input_value()
        for typed in ("7.5", "100000", "-2"):
            field.fill(typed)
            field.press("Enter")
            said = f"{label} must be a whole number from 1 to {limit}; {typed} is not."
            panel.get_by_role("alert").filter(has_text=said).wait_for()
            assert field.input_value() == typed
            panel.get_by_text("not for the sizes above.").first.wait_for()
        field.fill(before)
        field.press("Enter")
        panel.get_by_role("alert").wait_for(state="detached")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("compare_layouts", "Turn"),
        ("compare_layouts", "Batch"),
        ("compare_lowerings", "Time steps"),
        ("watch_memory", "Steps a call"),
    ],
)
def test_a_picture_follows_at_once(page, name, label):
    """In less than 200 ms where nothing else runs; the limit leaves room for a machine that is busy."""
    panel, seconds = panel_of(page, name), []
    picture, field = panel.locator("img").first, panel.get_by_label(label, exact=True)
    changes(panel, lambda: (field.fill("6"), field.press("Enter")))
    # One way alone: back and forth, a busy browser may leave out a value, and the picture is what it was.
    for _ in range(5):
        before, start = picture.get_attribute("src"), time.perf_counter()
        field.press("ArrowDown")
        while picture.get_attribute("src") == before:
            assert time.perf_counter() - start < WAIT / 1000
            time.sleep(0.005)
        seconds.append(time.perf_counter() - start)
    print(name, label, [round(1000 * each) for each in seconds])
    assert min(seconds) < 1


def test_explore_gates(page):
    panel = panel_of(page, "explore_gates")
    for label in ("Column", "Row"):
        changes(panel, lambda label=label: panel.get_by_label(label, exact=True).press("ArrowUp"))
    for label in ("Step", "Gate", "Array", "Weights"):
        changes(panel, lambda label=label: choose_next(page, panel.get_by_label(label, exact=True)))


def test_compare_lowerings(page):
    panel = panel_of(page, "compare_lowerings")
    for label in ("Time steps", "Input size", "Units"):
        panel.get_by_label(label, exact=True).fill("3")
    sizes = {"batch": 1, "time": 3, "input": 3, "units": 3}
    for label, size in (("Batch", "batch"), ("Time steps", "time"), ("Input size", "input"), ("Units", "units")):
        # While the kernel is busy, ipywidgets keeps a change back, and the button's message overtakes it.
        changes(panel, lambda label=label: panel.get_by_label(label, exact=True).press("ArrowUp"))
        sizes[size] += 1
        text = ", ".join(f"{name} {value}" for name, value in sizes.items())
        measure(panel, text)
        panel.get_by_role("img", name=f"for {text}").wait_for()
    for _ in range(4):
        changes(panel, lambda: choose_next(page, panel.get_by_label("Bars show")))
    panel.get_by_role("img", name="Bars of largest error").wait_for()


def test_watch_memory(page):
    panel = panel_of(page, "watch_memory")
    step = panel.get_by_label("Step", exact=True)
    changes(panel, lambda: step.press("ArrowUp"))
    length = panel.get_by_label("Steps a call", exact=True)
    length.fill("10")
    changes(panel, lambda: length.press("ArrowDown"))
    panel.get_by_role("img", name="in 2 calls, from steps 0, 9").wait_for()
    for label in ("Show", "Unit"):
        changes(panel, lambda label=label: choose_next(page, panel.get_by_label(label, exact=True)))
    panel.get_by_role("img", name="Lines of unit 0").wait_for()


def test_play(page):
    """The step goes on by itself, without a new picture, until the button is pressed again, and stops at the end."""
    panel = panel_of(page, "watch_memory")
    step, status = (
        panel.get_by_label("Step", exact=True),
        panel.get_by_role("region", name=re.compile("^Step [3-9] in")),
    )
    step.fill("0")
    step.press("Enter")
    panel.get_by_role("region", name="Step 0 in call").wait_for()
    before = panel.get_by_role("img").get_attribute("src")
    panel.get_by_role("button", name="Play").press("Enter")
    status.wait_for()
    panel.get_by_role("button", name="Pause").press("Enter")
    panel.get_by_role("button", name="Play").wait_for()
    stands = step.input_value()
    page.wait_for_timeout(1_000)
    assert step.input_value() == stands
    panel.get_by_role("button", name="Play").press("Enter")
    panel.get_by_role("region", name="Step 9 in call").wait_for()
    panel.get_by_role("button", name="Play").wait_for()
    assert panel.get_by_role("img").get_attribute("src") == before


@pytest.fixture(scope="module")
def used_page(page):
    """The page with figures in every panel, also where the tests above did not run."""
    for name in ("compare_layouts", "compare_lowerings"):
        panel = panel_of(page, name)
        if not panel.get_by_text("Measured on this machine").count():
            panel.get_by_role("button", name="Convert and measure").press("Enter")
            panel.locator("[role=status]", has_text=re.compile("^Measured for")).wait_for(timeout=3 * WAIT)
        # Results of other sizes, and a message beside a field.
        panel.get_by_label("Units", exact=True).press("ArrowUp")
        panel.get_by_text("not for the sizes above.").first.wait_for()
    panel.get_by_label("Batch", exact=True).fill("7.5")
    panel.get_by_label("Batch", exact=True).press("Enter")
    panel.get_by_role("alert").wait_for()
    return page


@pytest.mark.parametrize("name", CELLS)
def test_every_control_was_moved(page, name):
    """The tests above name every control that there is."""
    panel = panel_of(page, name)
    labels = [re.sub(r"\s+", " ", text).strip() for text in panel.locator("label:visible").all_inner_texts()]
    assert sorted(labels) == sorted(CONTROLS[name])
    controls = panel.locator(f":is({CONTROL}):visible")
    buttons = panel.locator("button:visible")
    assert controls.count() == len(labels) + buttons.count()
    assert buttons.all_inner_texts() == BUTTONS.get(name, ["Convert and measure"])


@pytest.mark.parametrize("name", CELLS)
def test_accessibility(used_page, name):
    from axe_playwright_python.sync_playwright import Axe

    panel_of(used_page, name).evaluate("(output, name) => output.setAttribute('data-panel', name)", name)
    results = Axe().run(used_page, context=f"[data-panel={name}]").response
    found = [
        (violation["id"], violation["impact"], [node["html"][:200] for node in violation["nodes"]])
        for violation in results["violations"]
    ]
    print(found)
    assert not [each for each in found if each[1] in ("serious", "critical")]


@pytest.mark.parametrize("name", CELLS)
def test_nothing_is_cut_off_at_125_percent(used_page, name):
    panel = panel_of(used_page, name)
    place = panel.bounding_box()
    for control in panel.locator(f":is({CONTROL}, label, p, svg, img, [role=region]):visible").all():
        box = control.bounding_box()
        assert place["x"] <= box["x"]
        assert box["x"] + box["width"] <= place["x"] + place["width"], control.evaluate("one => one.outerHTML")[:300]


def test_tab_reaches_every_control(used_page):
    """From the first number on, the tabulator key goes through the controls in the order in which they stand."""
    panel = panel_of(used_page, "compare_layouts")
    panel.get_by_label("Batch", exact=True).focus()
    for label in ("Time steps", "Input size", "Units"):
        used_page.keyboard.press("Tab")
        assert panel.get_by_label(label, exact=True).evaluate("input => input === document.activeElement")
    used_page.keyboard.press("Tab")
    assert panel.get_by_role("button", name="Convert").evaluate("button => button === document.activeElement")


def test_no_errors_in_the_console(used_page):
    assert used_page.watched.console == []


def test_no_errors_in_callbacks(used_page):
    assert used_page.watched.kernel == []


def test_nothing_comes_from_other_machines(used_page):
    assert used_page.watched.requests == []
