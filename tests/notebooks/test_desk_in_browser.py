"""The doctor's desk in a real browser: a file goes in by the upload and comes out by the download."""

from pathlib import Path

import nbformat
import pytest

import lstm_toolkit
from lstm_toolkit.panels.desk import PATIENT
from tests.helpers import patients
from tests.helpers.jupyterlab import browse, errors, needs_chromium, open_notebook, run_all_cells, serve

pytestmark = needs_chromium
CONTROLS = ["Runs on", "Keras state", "cell-clip", "state-leak"]
BUTTONS = ["Upload a file", "Examine", "Repair"]
CONTROL = "input, select, textarea, button, [role=slider], [contenteditable=true]"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """JupyterLab at 125 percent in a window of 1024 x 768 pixels, after all cells ran."""
    folder = tmp_path_factory.mktemp("desk")
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    code = ("from lstm_toolkit import widgets\ndesk = widgets.doctors_desk()\ndesk", "print('the' + ' end')")
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in code]
    nbformat.write(notebook, folder / "desk.ipynb")
    with (
        serve(folder, tmp_path_factory.mktemp("server")) as server,
        browse(819, 614, device_scale_factor=1.25, accept_downloads=True) as context,
    ):
        page, page.watched = open_notebook(context, server.address_of("desk.ipynb"))
        run_all_cells(page)
        failed = errors(page)
        page.locator(".jp-OutputArea-output").get_by_text("the end", exact=True).or_(failed).first.wait_for()
        assert not failed.count(), failed.inner_text()
        yield page


@pytest.fixture
def panel(page):
    return page.locator(".jp-CodeCell").first.locator(".jp-OutputArea").first


def hand_in(page, panel, path):
    """Uploads a file by the keyboard and waits until the desk has an answer."""
    with page.expect_file_chooser() as chooser:
        panel.get_by_role("button", name="Upload a file").press("Enter")
    chooser.value.set_files(path)


def downloaded(page, panel):
    """The name and the bytes of what the link gives."""
    with page.expect_download() as download:
        panel.get_by_role("link", name="Download").press("Enter")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def mended(panel):
    panel.get_by_role("button", name="Repair").press("Enter")
    panel.get_by_text("Mended.", exact=True).wait_for()


def test_an_example_lies_on_the_desk(page, panel):
    panel.get_by_role("heading", name="patient.tflite").wait_for()
    assert panel.get_by_role("cell", name="state-leak", exact=True).count() == 1


def test_a_file_is_handed_in_and_taken_home(page, panel, tmp_path):
    file = tmp_path / "mine.tflite"
    file.write_bytes(patients.renamed())
    hand_in(page, panel, file)
    panel.get_by_role("heading", name="mine.tflite").wait_for()
    panel.get_by_label("state-leak").press("Space")
    mended(panel)
    assert downloaded(page, panel) == ("mine.mended.tflite", lstm_toolkit.repair(file, keep="state-leak").tflite)
    panel.get_by_label("state-leak").press("Space")
    panel.get_by_text("Press “Repair” for this choice.").wait_for()
    mended(panel)
    assert downloaded(page, panel) == ("mine.mended.tflite", lstm_toolkit.repair(file).tflite)
    assert panel.get_by_role("img", name="Graph of the main subgraph").count() == 2
    assert panel.get_by_role("cell", name="differs by").count() == 2


def test_another_target_has_other_findings(page, panel):
    target = panel.get_by_label("Runs on")
    target.focus()
    target.select_option("compiled")
    panel.get_by_text("Press “Examine” for this choice").wait_for()
    panel.get_by_label("Keras state").select_option("carry")
    panel.get_by_role("button", name="Examine").press("Enter")
    panel.get_by_role("cell", name="variable-tensors").first.wait_for()


def test_a_damaged_file_has_one_line(page, panel, tmp_path):
    file = tmp_path / "half.tflite"
    file.write_bytes(PATIENT.read_bytes()[:700])
    hand_in(page, panel, file)
    panel.get_by_text("the .tflite file is damaged: it ends, after 700 bytes, before its tables do").wait_for()
    assert not panel.get_by_role("table").count()


def test_a_file_that_the_server_drops(page, panel, tmp_path):
    """The connection breaks, each time; the panel says so, and takes the next file."""
    large, small = tmp_path / "large.tflite", tmp_path / "small.tflite"
    small.write_bytes(patients.renamed())
    large.write_bytes(small.read_bytes() + bytes(11 << 20))
    for _ in range(2):
        with page.expect_event("websocket"):
            hand_in(page, panel, large)
    said = f"Receiving 'large.tflite' ({large.stat().st_size:,} bytes). If this line stays, the notebook server"
    panel.get_by_role("status").filter(has_text=said).wait_for()
    hand_in(page, panel, small)
    panel.get_by_role("heading", name="small.tflite").wait_for()
    assert not panel.get_by_text("large.tflite").count()


@pytest.fixture(scope="module")
def used_page(page, tmp_path_factory):
    """The page with all that the panel can show, also where the tests above did not run."""
    panel = page.locator(".jp-CodeCell").first.locator(".jp-OutputArea").first
    file = tmp_path_factory.mktemp("patient") / "other.tflite"
    file.write_bytes(PATIENT.read_bytes())
    hand_in(page, panel, file)
    panel.get_by_role("heading", name="other.tflite").wait_for()
    mended(panel)
    panel.get_by_text("What is in it").click()
    return page


def test_every_control_has_a_label(used_page, panel):
    labels = [text.strip() for text in panel.locator("label:visible").all_inner_texts()]
    assert sorted(labels) == sorted(CONTROLS)
    buttons = panel.locator("button:visible").all_inner_texts()
    assert [text.partition(" (")[0].strip() for text in buttons] == BUTTONS
    assert panel.locator(f":is({CONTROL}):visible").count() == len(labels) + len(buttons)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_accessibility_and_contrast_in_both_themes(used_page, panel, theme):
    from axe_playwright_python.sync_playwright import Axe

    used_page.get_by_role("menuitem", name="Settings", exact=True).click()
    entry = used_page.locator(".lm-Menu-itemLabel")
    entry.get_by_text("Theme", exact=True).hover()
    entry.get_by_text(theme, exact=True).click()
    used_page.locator(f"body[data-jp-theme-name='{theme}']").wait_for(state="attached")
    panel.evaluate("output => output.setAttribute('data-panel', 'desk')")
    found = Axe().run(used_page, context="[data-panel=desk]").response["violations"]
    print([(each["id"], each["impact"], [node["html"][:200] for node in each["nodes"]]) for each in found])
    assert not found


def test_nothing_is_cut_off_at_125_percent(used_page, panel):
    place = panel.bounding_box()
    for control in panel.locator(f":is({CONTROL}, label, p, [role=region], a, summary):visible").all():
        box = control.bounding_box()
        assert place["x"] <= box["x"]
        assert box["x"] + box["width"] <= place["x"] + place["width"], control.evaluate("one => one.outerHTML")[:300]


def test_nothing_went_wrong(used_page):
    watched = used_page.watched
    assert watched.console == watched.kernel == watched.requests == []
