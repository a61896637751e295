"""The panels in a real browser: JupyterLab, driven through Chromium."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium: install it (Debian: apt install chromium) or set CHROMIUM to the path of its program",
)
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CELLS = {
    "compare_layouts": "layouts = widgets.compare_layouts()\nlayouts",
    "explore_gates": "gates = widgets.explore_gates()\ngates",
    "compare_lowerings": "lowerings = widgets.compare_lowerings()\nlowerings",
}
SIZES = ("Batch", "Time steps", "Input size", "Units")
CONTROLS = {
    "compare_layouts": SIZES,
    "explore_gates": ("Weights", "Array", "Gate", "Step", "Row", "Column"),
    "compare_lowerings": (*SIZES, "Bars show"),
}
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Otherwise cells out of sight are not in the page.
    "notebook-extension/tracker": {"windowingMode": "none"},
}
CONTROL = "input, select, textarea, button, [role=slider], [contenteditable=true]"
WAIT = 60_000


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a notebook with one cell a panel, in a JupyterLab that knows nothing of this machine's settings."""
    root = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    first = "import sys\nfrom lstm_toolkit import widgets\nprint('tensorflow' in sys.modules, sys.executable)"
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in (first, *CELLS.values(), "print('the' + ' end')")]
    nbformat.write(notebook, root / "panels.ipynb")
    folders = {name: root / name for name in ("config", "data", "settings", "workspaces", "runtime")}
    for name, settings in SETTINGS.items():
        file = folders["settings"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")} | {
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "JUPYTERLAB_SETTINGS_DIR": str(folders["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(folders["workspaces"]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    port, token = free_port(), secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *("--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"),
    ]
    with (root / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, cwd=root, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for_server(f"http://127.0.0.1:{port}/api?token={token}", server, root / "server.log")
        yield f"http://127.0.0.1:{port}/lab/tree/panels.ipynb?token={token}&reset"
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_for_server(address, server, log):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert server.poll() is None, Path(log).read_text()
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start: {Path(log).read_text()}")


def run_all_cells(page):
    """Runs all cells; JupyterLab forgets what it is told before it is connected with the kernel."""
    from playwright.sync_api import expect

    prompt = page.locator(".jp-CodeCell .jp-InputPrompt").first
    for _ in range(10):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
        try:
            expect(prompt).not_to_have_text("[ ]:", timeout=5_000)
            return
        except AssertionError:
            continue
    pytest.fail("the first cell does not start")


@pytest.fixture(scope="module")
def page(lab):
    """JupyterLab at 125 percent in a window of 1024 x 768 pixels, after all cells ran."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=BROWSER_OPTIONS)
        # A browser's zoom of 125 percent: fewer CSS pixels in the same window, each drawn larger.
        context = browser.new_context(viewport={"width": 819, "height": 614}, device_scale_factor=1.25)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.messages = []
        page.on("console", lambda message: page.messages.append((message.type, message.text)))
        page.on("pageerror", lambda error: page.messages.append(("error", str(error))))
        page.goto(lab)
        page.wait_for_selector("#jupyterlab-splash", state="detached")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        run_all_cells(page)
        failed = page.locator(".jp-OutputArea [data-mime-type='application/vnd.jupyter.error']")
        page.locator(".jp-OutputArea-output").get_by_text("the end", exact=True).or_(failed).first.wait_for()
        assert not failed.count(), failed.inner_text()
        yield page
        browser.close()


def panel_of(page, name):
    """The output of a panel's cell."""
    return page.locator(".jp-CodeCell").nth(1 + list(CELLS).index(name)).locator(".jp-OutputArea").first


def shown(panel):
    """The markup of all that a panel says and draws."""
    return "".join(panel.locator(".widget-html-content").evaluate_all("each => each.map(one => one.innerHTML)"))


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
    said.wait_for()
    assert "Stopped" not in said.inner_text()


def choose_next(page, dropdown):
    """Opens a list by the keyboard and takes its next entry. (On a closed list JupyterLab takes the arrow itself.)"""
    dropdown.focus()
    for key in ("Space", "ArrowDown", "Enter"):
        page.keyboard.press(key)


def test_kernel(page):
    """The kernel is this Python, and importing the panels brought no TensorFlow."""
    first = page.locator(".jp-CodeCell").first.locator(".jp-OutputArea")
    assert first.inner_text().strip() == f"False {sys.executable}"


def test_compare_layouts(page):
    panel = panel_of(page, "compare_layouts")
    drawings = panel.get_by_role("img", name=re.compile("memory from the first address"))
    assert drawings.count() == 2
    for label in SIZES:
        changes(panel, lambda label=label: panel.get_by_label(label, exact=True).press("ArrowUp"))
    sizes = "batch 4, time 6, input 3, units 5"
    measure(panel, sizes)
    assert panel.get_by_role("region", name=f"Files for {sizes}").locator("tbody tr").count() == 5
    assert drawings.first.locator("rect").count() == 24


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
        panel.get_by_label(label, exact=True).press("ArrowUp")
        sizes[size] += 1
        text = ", ".join(f"{name} {value}" for name, value in sizes.items())
        measure(panel, text)
        panel.get_by_role("img", name=f"for {text}").wait_for()
    for _ in range(4):
        changes(panel, lambda: choose_next(page, panel.get_by_label("Bars show")))
    panel.get_by_role("img", name="Bars of largest error").wait_for()


@pytest.fixture(scope="module")
def used_page(page):
    """The page with figures in every panel, also where the tests above did not run."""
    for name in ("compare_layouts", "compare_lowerings"):
        panel = panel_of(page, name)
        if not panel.get_by_text("Measured on this machine").count():
            panel.get_by_role("button", name="Convert and measure").press("Enter")
            panel.locator("[role=status]", has_text=re.compile("^Measured for")).wait_for()
    return page


@pytest.mark.parametrize("name", CELLS)
def test_every_control_was_moved(page, name):
    """The tests above name every control that there is."""
    panel = panel_of(page, name)
    labels = [re.sub(r"\s+", " ", text).strip() for text in panel.locator("label:visible").all_inner_texts()]
    assert sorted(labels) == sorted(CONTROLS[name])
    controls = panel.locator(CONTROL)
    buttons = panel.locator("button")
    assert controls.count() == len(labels) + buttons.count()
    assert buttons.all_inner_texts() == ([] if name == "explore_gates" else ["Convert and measure"])


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
    assert panel.get_by_role("button").evaluate("button => button === document.activeElement")


def test_no_errors_in_the_console(used_page):
    assert not [text for kind, text in used_page.messages if kind == "error"]
