"""Every codelab as a reader sees it who opens it and runs nothing: JupyterLab trusts no output of it.

Pictures show, words in tables stand at the left, and all is legible in the light theme and in the dark one.
"""

import re
from pathlib import Path

import nbformat
import pytest

import lstm_toolkit
from lstm_toolkit.display.images import PNG, SVG, image
from lstm_toolkit.doctor.diagnose import Diagnosis, Finding
from tests.helpers.contrast import TEXT, over, ratio
from tests.helpers.jupyterlab import browse, needs_chromium, serve
from tests.helpers.sum_file import sum_file

pytestmark = needs_chromium
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = [*(path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))), "shown"]
THEMES = {"JupyterLab Light": "true", "JupyterLab Dark": "false"}
"""Names of themes, and what the page says of whether they are light."""
OPENED = ".jp-NotebookPanel:not(.lm-mod-hidden)"
WORDS = re.compile(r"[a-z]+ [a-z]+ [a-z]+ [a-z]+")

# JavaScript: what is wrong with the pictures of a page. One that is opaque up to its edge looks the same in any theme.
PICTURES = """images => images.flatMap(image => {
    const name = (image.alt || image.src).slice(0, 80);
    if (!image.complete || !image.naturalWidth) return [`does not show: ${name}`];
    if (!image.alt.trim()) return [`has no text: ${name}`];
    const canvas = document.createElement('canvas');
    const [width, height] = [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const at = [0.1, 0.5, 0.9];
    const edge = [...at.map(x => [x * width, 1]), ...at.map(x => [x * width, height - 2]),
        ...at.map(y => [1, y * height]), ...at.map(y => [width - 2, y * height])];
    const clear = edge.some(([x, y]) => context.getImageData(x, y, 1, 1).data[3] < 255);
    return clear ? [`has no background of its own: ${name}`] : [];
})"""

# JavaScript: for each text of outputs and prose its colour, and the colours behind it from the page to the text.
TEXTS = """areas => areas.flatMap(area => {
    const walker = document.createTreeWalker(area, NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
        // JupyterLab's own colours of code in prose.
        if (element.closest('.jp-RenderedMarkdown pre span')) continue;
        const behind = [];
        const style = getComputedStyle(element);
        for (let each = element; each; each = each.parentElement)
            behind.unshift(getComputedStyle(each).backgroundColor);
        const ink = element instanceof SVGElement ? style.fill : style.color;
        found.push([walker.currentNode.textContent.trim().slice(0, 60), ink, behind]);
    }
    return found;
})"""

# JavaScript: text and side of every cell of a table.
CELLS = "each => each.map(one => [one.textContent.trim(), getComputedStyle(one).textAlign])"


CIRCLE = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><circle cx="20" cy="20" r="9"/></svg>'
PLANTED = (
    image(CIRCLE, SVG, "a circle"),
    image(b"", PNG, "nothing"),
    "<table><tr><td>four words in a row</td></tr></table>",
    '<p style="color: #999999">grey on white</p>',
    '<p style="background: #ffffff">the white box</p>',
)
"""Outputs with which something is wrong; grey is legible in the dark theme, and black on white in the light one."""


def shown_pages():
    """Outputs that the codelabs may not have."""
    summary = lstm_toolkit.inspect(sum_file())
    found = Diagnosis([Finding("a-code", "warning", "A message in a few words.", "Do this.", "op 0 ADD")])
    return [each._repr_html_() for each in (summary, summary.drawing(), found, Diagnosis())]


def notebook_of(pages):
    """A notebook with outputs that nobody has run."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for page in pages:
        output = nbformat.v4.new_output("display_data", {"text/html": page, "text/plain": ""})
        notebook.cells.append(nbformat.v4.new_code_cell("1", execution_count=1, outputs=[output]))
    return notebook


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for path in (*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("images/*")):
        copy = folder / path.relative_to(NOTEBOOKS)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    nbformat.write(notebook_of(shown_pages()), folder / "shown.ipynb")
    nbformat.write(notebook_of(PLANTED), folder / "planted.ipynb")
    with serve(folder, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def page(server):
    """JupyterLab, in which notebooks are opened one after another."""
    with browse(1280, 900) as context:
        page = context.new_page()
        page.goto(server.address_of("shown.ipynb"))
        page.wait_for_selector("#jupyterlab-splash", state="detached")
        page.wait_for_selector(f"{OPENED} .jp-OutputArea-output")
        yield page


@pytest.mark.parametrize("name", NAMES)
def test_an_opened_notebook(page, server, name):
    wrong = looked_at(page, server, name)
    assert not wrong, "\n".join(wrong)


def test_what_is_wrong_is_seen(page, server):
    wrong = looked_at(page, server, "planted")
    assert [each.partition(" ('rgb")[0] for each in wrong] == [
        "a picture has no background of its own: a circle",
        "a picture does not show: nothing",
        "words not at the left: four words in a row",
        "JupyterLab Light: faint: grey on white",
        "JupyterLab Dark: faint: the white box",
    ]


def looked_at(page, server, name):
    """Opens a notebook, and says what is wrong with how it looks."""
    tell(page, "docmanager:open", {"path": f"{name}.ipynb"})
    page.wait_for_function("name => document.title.startsWith(name)", arg=name[:12])
    page.wait_for_selector(f"{OPENED} .jp-OutputArea-output")
    outputs = page.locator(f"{OPENED} .jp-OutputArea-output")
    page.wait_for_function("each => [...document.images].every(image => image.complete)")
    wrong = [f"a picture {each}" for each in outputs.locator("img").evaluate_all(PICTURES)]
    cells = outputs.locator("td").evaluate_all(CELLS)
    wrong += [f"words not at the left: {text}" for text, side in cells if WORDS.search(text) and side != "left"]
    for theme, light in THEMES.items():
        tell(page, "apputils:change-theme", {"theme": theme})
        page.wait_for_function("light => document.body.dataset.jpThemeLight === light", arg=light)
        texts = page.locator(f"{OPENED} :is(.jp-OutputArea-output, .jp-RenderedMarkdown)").evaluate_all(TEXTS)
        assert texts
        faint = {(text, (ink, *behind[-3:])) for text, ink, behind in texts if contrast(ink, behind) < TEXT}
        wrong += [f"{theme}: faint: {text} {colors}" for text, colors in sorted(faint)]
    server.shut_down(f"{name}.ipynb")
    return wrong


def tell(page, command, arguments):
    """Lets JupyterLab do what an entry of its menus does."""
    # What it answers is no value that could leave the page.
    run = "async ([command, args]) => { await window.jupyterapp.commands.execute(command, args); }"
    page.evaluate(run, [command, arguments])


def numbers(color):
    """Red, green and blue of a colour, each 0 to 1, and how opaque it is."""
    inside = color[color.index("(") + 1 : -1].replace(",", " ").replace("/", " ").split()
    red, green, blue, *alpha = (float(each) for each in inside if each != "srgb")
    scale = 1 if "srgb" in color else 255
    return (red / scale, green / scale, blue / scale), (alpha or [1.0])[0]


def contrast(ink, behind):
    """The contrast of text with what is behind it, as WCAG defines it; `behind` goes from the page to the text."""
    ground = (1.0, 1.0, 1.0)
    for each in behind:
        ground = over(*numbers(each), ground)
    return ratio(ground, over(*numbers(ink), ground))


def test_contrast_is_that_of_wcag():
    assert contrast("rgb(0, 0, 0)", ["rgb(255, 255, 255)"]) == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", ["rgba(0, 0, 0, 0)"]) == pytest.approx(4.48, abs=0.01)
    assert contrast("rgba(0, 0, 0, 0.5)", ["rgb(0, 0, 0)", "rgba(255, 255, 255, 0.5)"]) == pytest.approx(2.69, abs=0.3)
