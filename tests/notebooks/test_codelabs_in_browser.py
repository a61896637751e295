"""Every codelab in a real browser, as a reader goes through it: solutions pasted, all cells run, every control moved.

`LSTM_TOOLKIT_SCREENSHOTS=folder` keeps pictures of what the browser showed; `LSTM_TOOLKIT_THEME="JupyterLab Dark"` and
`LSTM_TOOLKIT_WIDTH=1600` choose how it shows.
"""

import os
import re
import shutil
import time
from pathlib import Path

import nbformat
import pytest

from tests.helpers.jupyterlab import (
    WAIT,
    browse,
    errors,
    idle,
    logs,
    needs_chromium,
    open_notebook,
    run_all_cells,
    serve,
    shown,
)
from tests.helpers.tools import tool

pytestmark = needs_chromium
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
SCREENSHOTS = os.environ.get("LSTM_TOOLKIT_SCREENSHOTS")
WIDTH, HEIGHT = int(os.environ.get("LSTM_TOOLKIT_WIDTH", "1280")), 1700
THEME = os.environ.get("LSTM_TOOLKIT_THEME", "JupyterLab Light")
RUN = 300_000
# JavaScript: names of the pictures that the browser could not load.
BROKEN = """each => each.filter(one => !(one.complete && one.naturalWidth))
    .map(one => one.alt || one.src.slice(0, 80))"""
WAITING = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].some(one => one.textContent == '[*]:')"
PANEL = ".jp-OutputArea-output > .jupyter-widgets:visible"
PANEL_CALL = re.compile(r"\bwidgets\.[a-z_]+\(")


def exercise_of(cell):
    """The tag exercise-1, exercise-2, ... of a cell, or None."""
    return next((tag for tag in cell.metadata.get("tags", []) if re.fullmatch(r"exercise-\d+", tag)), None)


def solve(path, solutions):
    """Puts the solutions in the place of the stubs, and takes away what earlier runs left."""
    notebook = nbformat.read(path, as_version=4)
    answers = {}
    if solutions.exists():
        solved = nbformat.read(solutions, as_version=4)
        answers = {exercise_of(cell): cell.source for cell in solved.cells if exercise_of(cell)}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = answers.get(exercise_of(cell), cell.source)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the notebooks in which every exercise is solved."""
    copy = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(NOTEBOOKS, copy, ignore=shutil.ignore_patterns(".*"))
    for name in NAMES:
        solve(copy / f"{name}.ipynb", copy / "solutions" / f"{name}.ipynb")
    return copy


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    with serve(folder, tmp_path_factory.mktemp("server"), theme=THEME) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with browse(WIDTH, HEIGHT) as context:
        yield context


@pytest.fixture(scope="module")
def started(browser, server, request):
    """A function from the name of a notebook to its page, on which all cells were started, and the `Watched` of it.

    It starts the next one too: most cells use one core, and there are two.
    """
    items = [item for item in request.session.items if item.originalname == "test_codelab"]
    names = [name for item in items if not why_not(name := item.callspec.params["name"])]
    pages = {}

    def start(name):
        place = names.index(name)
        for each in names[place : place + 2]:
            if each not in pages:
                pages[each] = open_notebook(browser, server.address_of(f"{each}.ipynb"))
                run_all_cells(pages[each][0])
        return pages[name]

    return start


def why_not(name):
    return tool("run_notebooks").why_not(Path(name))


@pytest.mark.parametrize("name", NAMES)
def test_codelab(started, server, folder, name):
    if reason := why_not(name):
        pytest.skip(reason)
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    page, watched = started(name)
    try:
        wait_for_the_end(page)
        wrong = problems(page, notebook)
        for panel in page.locator(PANEL).all():
            wrong += move_controls(page, panel)
        take_screenshots(page, name)
        wrong += [f"a console error: {text}" for text in watched.console]
        wrong += [f"an error in the kernel: {text}" for text in watched.kernel]
        wrong += [f"the page asked for {address}" for address in watched.requests]
    finally:
        page.close()
        server.shut_down(f"{name}.ipynb")
    assert not wrong, f"{name}: " + "\n".join(wrong)


def wait_for_the_end(page):
    """Waits until no cell waits or runs: JupyterLab writes a star beside those."""
    page.wait_for_function(f"!{WAITING}", polling=500, timeout=RUN)
    idle(page)


def problems(page, notebook):
    """What a reader would find wrong after all cells ran."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = page.locator(".jp-Notebook .jp-OutputArea-output")
    text = "\n".join(outputs.evaluate_all("each => each.map(one => one.textContent)"))
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    exercises = sum(bool(exercise_of(cell)) for cell in code)
    panels = sum(len(PANEL_CALL.findall(cell.source)) for cell in code)
    drawn = page.locator(PANEL)
    wrong = [f"an error: {error[-600:]}" for error in errors(page).all_inner_texts()]
    wrong += [f"red, though nothing is wrong: {log[:600]}" for log in logs(page).all_inner_texts()]
    # JupyterLab shows no number beside a cell whose source is collapsed.
    collapsed = [cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in code]
    if prompts != ["" if hidden else f"[{number}]:" for number, hidden in enumerate(collapsed, start=1)]:
        wrong.append(f"cells did not run: {prompts} of {len(code)}")
    wrong += [f"not solved: {line}" for line in text.splitlines() if "Not yet:" in line]
    if text.count("Solved!") < exercises:
        wrong.append(f"{exercises} exercises, and {text.count('Solved!')} times “Solved!”")
    if drawn.count() < panels or "Error displaying widget" in text:
        wrong.append(f"{panels} panels are made, and {drawn.count()} are drawn")
    wrong += [f"a picture does not show: {each}" for each in page.locator(".jp-Notebook img").evaluate_all(BROKEN)]
    return wrong


def move_controls(page, panel):
    """Moves each control of a panel once and presses each button.

    Returns:
        What is wrong: a control that does not move, or a panel that shows nothing or always the same.
    """
    wrong, before = [], shown(panel)
    controls = panel.locator("input:visible, select:visible, .noUi-handle:visible, button:visible")
    for number in range(controls.count()):
        control = controls.nth(number)
        if control.is_disabled():
            continue
        move(control)
        page.wait_for_timeout(100)
        idle(page)
        if not shown(panel).strip():
            wrong.append(f"the panel shows nothing after {control.evaluate('one => one.outerHTML')[:200]}")
    end = time.monotonic() + WAIT / 1000
    while shown(panel) == before and time.monotonic() < end:
        page.wait_for_timeout(200)
    if shown(panel) == before:
        wrong.append("the panel shows the same whatever is done with it")
    idle(page)
    return wrong


def move(control):
    """Does with a control by keyboard what changes its value."""
    kind = control.evaluate("one => one.type || one.className")
    if kind == "select-one":
        count, chosen = control.evaluate("one => [one.options.length, one.selectedIndex]")
        control.select_option(index=(chosen + 1) % count)
    elif kind in ("submit", "button"):
        control.press("Enter")
    elif kind == "checkbox":
        control.press("Space")
    else:
        value = "one => one.getAttribute('aria-valuenow') || one.value"
        before = control.evaluate(value)
        control.press("ArrowUp")
        # At the upper end it moves only down.
        if control.evaluate(value) == before:
            control.press("ArrowDown")


def take_screenshots(page, name):
    """Keeps what the browser shows of the notebook, in pieces from top to bottom."""
    if not SCREENSHOTS:
        return
    Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
    notebook = page.locator(".jp-NotebookPanel-notebook")
    place = notebook.locator(".jp-WindowedPanel-outer")
    height, step = place.evaluate("one => [one.scrollHeight, one.clientHeight]")
    for number, top in enumerate(range(0, height, step)):
        place.evaluate("(one, top) => { one.scrollTop = top }", top)
        notebook.screenshot(path=Path(SCREENSHOTS) / f"{name}_{number}.png")
