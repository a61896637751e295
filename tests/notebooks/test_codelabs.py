"""What every codelab has, so that a reader finds the same things in the same places.

The tests look at the notebooks as they are committed; nbval and `test_codelabs_in_browser.py` run them.
"""

import ast
import copy
import functools
import importlib.util
import itertools
import re
import tomllib
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from lstm_toolkit.runtime.compare import TOLERANCE
from tests.helpers.cells import in_python
from tests.helpers.tools import tool

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
CODELABS = (
    "00_quickstart",
    "01_gates",
    "02_keras_variants",
    "03_bidirectional",
    "04_state_and_streaming",
    "05_lingvo",
    "06_bring_your_own_rnn",
    "07_quantization",
    "08_benchmarking",
    "09_the_doctor",
    "10_on_a_microcontroller",
    "11_from_pytorch",
)
ALL = [*CODELABS, "index", *(f"solutions/{name}" for name in CODELABS)]
SLUG = "lstm-toolkit/lstm_toolkit"
BADGES = (
    "[![Open in Colab](images/colab.svg)]"
    f"(https://colab.research.google.com/github/{SLUG}/blob/main/notebooks/NAME.ipynb) "
    "[![Launch Binder](images/binder.svg)]"
    f"(https://mybinder.org/v2/gh/{SLUG}/main?urlpath=lab/tree/notebooks/NAME.ipynb) "
    "[Map of the series](index.ipynb)"
)
TAKES = re.compile(r"\*Takes (\d+) minutes? to read(?: and|,) (\d+) to run\b.*?\bNeeds\s(.*?)\*(?!\*)", re.DOTALL)
YOURS = tuple(CODELABS[number] for number in (0, 2, 3, 4, 7, 8, 10, 11))
"""The codelabs that end in a cell for a model of the reader's own."""
PANEL = re.compile(r"\bwidgets\.[a-z_]+\(")
SHORT = 12
"""Lines of a cell with a picture that need not be collapsed."""
SVG = "{http://www.w3.org/2000/svg}"

each_codelab = pytest.mark.parametrize("name", CODELABS)
each_notebook = pytest.mark.parametrize("name", ALL)


@functools.cache
def read(name):
    path = NOTEBOOKS / f"{name}.ipynb"
    assert path.exists(), f"{name}: there is no {path.relative_to(ROOT)}"
    return nbformat.read(path, as_version=4)


def code(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def unquoted(text):
    """A markdown text without what is quoted as code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def prose(name):
    """Texts of a notebook's markdown cells, without what is quoted as code."""
    return [unquoted(cell.source) for cell in read(name).cells if cell.cell_type == "markdown"]


def sections(name):
    """Code cells below each heading of the second level, in their order."""
    found = {}
    for cell in read(name).cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^## (.+)$", unquoted(cell.source), re.MULTILINE)
            found.update({heading.strip(): [] for heading in headings})
        elif found:
            found[list(found)[-1]].append(cell)
    return found


def exercises(name):
    """For each tag exercise-1, exercise-2, ...: its cell, the texts since the one before, and the cell after it."""
    cells, found, task = [*read(name).cells, None], {}, ""
    for cell, after in itertools.pairwise(cells):
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("exercise-"):
                assert tag not in found, f"{name}: two cells with the tag {tag}"
                found[tag] = cell, task, after
                task = ""
        if cell.cell_type == "markdown":
            task += f"{cell.source}\n"
    return found


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def title(name):
    return read(name).cells[0].source.splitlines()[0].removeprefix("# ")


def takes(name):
    """Minutes to read, minutes to run, and the numbers of the codelabs that one names in its line “Needs ...”."""
    found = TAKES.search(read(name).cells[0].source)
    assert found, f"{name}: no “*Takes N minutes to read and N to run. Needs ...*” in the first cell"
    return found[1], found[2], set(re.findall(r"\b(\d\d)_", found[3]))


def test_the_series_is_complete():
    found = {path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb")}
    assert found == set(CODELABS), "the codelabs and the list of them in this test differ"


@each_codelab
def test_opening(name):
    cell = read(name).cells[0]
    assert cell.cell_type == "markdown", f"{name}: starts with a code cell"
    assert re.match(rf"# {name[:2]} · \S", cell.source), f"{name}: no title “# {name[:2]} · ...”"
    assert "**You will learn**" in cell.source, f"{name}: no “**You will learn**” in the first cell"
    assert takes(name)[2] or name.startswith("00"), f"{name}: “Needs ...” names no other codelab"
    assert BADGES.replace("NAME", name) in cell.source.splitlines(), f"{name}: no line of badges in the first cell"


@each_codelab
def test_sections(name):
    yours = ["Now yours"] if name in YOURS else []
    ending = ["Exercises", "What you have seen", *yours, "Where to go next"]
    assert list(sections(name))[-len(ending) :] == ending, f"{name}: the last sections are not {', '.join(ending)}"
    assert any("**Your guess" in text for text in prose(name)), f"{name}: no “**Your guess:**”"
    trains = any(re.search(r"\.fit\(|\boptimizer\.apply", cell.source) for cell in code(name))
    cards = any(re.search(r"^### Model card", text, re.MULTILINE) for text in prose(name))
    assert cards or not trains, f"{name}: trains a model and has no “### Model card”"


@each_codelab
def test_conclusion(name):
    cells = sections(name).get("What you have seen", [])
    assert any("assert " in cell.source for cell in cells), f"{name}: “What you have seen” asserts nothing"
    assert printed(cells[-1]).strip(), f"{name}: “What you have seen” does not end in a printed sentence"
    last = prose(name)[-1]
    assert re.search(r"\]\(\w+\.ipynb\)", last.partition("## Where to go next")[2]), (
        f"{name}: “Where to go next” has no link"
    )


@pytest.mark.parametrize("name", YOURS)
def test_own_model(name):
    """One cell, which runs as it is, and one line of it to change."""
    (cell,) = sections(name)["Now yours"]
    first, *others = cell.source.splitlines()
    assert re.match(r"yours = \S.*  # <- your model", first), (
        f"{name}: “Now yours” does not start with the line to change"
    )
    assert not any("# <-" in line for line in others)
    assert printed(cell).strip(), f"{name}: “Now yours” prints nothing"


@each_codelab
def test_pictures_say_what_is_drawn(name):
    """Their texts are computed from what they show, and long cells that draw are collapsed."""
    for cell in code(name):
        calls = [each for each in ast.walk(ast.parse(in_python(cell))) if isinstance(each, ast.Call)]
        texts = [each.args[1] for each in calls if ast.unparse(each.func).endswith("Picture")]
        for text in texts:
            assert not isinstance(text, ast.Constant), f"{name}: the text “{text.value}” is the same whatever is drawn"
        if texts and len(cell.source.splitlines()) > SHORT:
            hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
            assert hidden, f"{name}: the cell that draws “{ast.unparse(texts[0])[:40]}...” is not collapsed"


@pytest.mark.parametrize("name", [*CODELABS, "index"])
def test_a_panel_leaves_a_picture_where_it_does_not_show(name):
    """A page of HTML shows no panel: the cell before it, or one of the two behind it, shows what it would draw."""
    cells = code(name)
    for number, cell in enumerate(cells):
        if PANEL.search(cell.source):
            near = cells[max(number - 1, 0) : number + 3]
            shown = [output.data.get("text/html", "") for each in near for output in each.outputs if "data" in output]
            assert any("<img" in html for html in shown), f"{name}: nothing stands beside the panel of {cell.source!r}"


@each_codelab
def test_exercises(name):
    found = exercises(name)
    assert len(found) >= 2, f"{name}: {len(found)} exercises, and there should be at least two"
    assert list(found) == [f"exercise-{number}" for number in range(1, len(found) + 1)], f"{name}: {list(found)}"
    for number, (tag, (cell, task, after)) in enumerate(found.items(), 1):
        where = f"{name}, {tag}: "
        assert cell in sections(name).get("Exercises", []), f"{where}not below “## Exercises”"
        assert f"### {number}. " in task, f"{where}no heading “### {number}. ...” before it"
        assert "attempt(" in getattr(after, "source", ""), f"{where}not followed by a cell with attempt()"
        assert printed(after).startswith("Not yet: "), f"{where}the stub's result is not “Not yet: ...” and a hint"


@each_codelab
def test_solutions(name):
    solutions = f"solutions/{name}"
    titles = [f"Solutions to {each}" for each in (title(name), title(name).partition(":")[0])]
    assert title(solutions) in titles, f"{solutions}: its title is “{title(solutions)}”"
    assert f"](../{name}.ipynb)" in read(solutions).cells[0].source, f"{solutions}: no link back in the first cell"
    stubs, solved = exercises(name), exercises(solutions)
    assert list(solved) == list(stubs), f"{solutions}: has {list(solved)}, the codelab {list(stubs)}"
    for tag, (cell, _, after) in solved.items():
        where = f"{solutions}, {tag}: "
        assert cell.source != stubs[tag][0].source, f"{where}is the stub"
        check = re.search(r"attempt\(\s*([\w.]+)", stubs[tag][2].source)[1]
        assert f"{check}(" in getattr(after, "source", ""), f"{where}not followed by {check}()"
        assert "attempt(" not in after.source, f"{where}attempt() hides what is wrong"


@each_notebook
def test_results_are_compared_with_the_tolerance(name):
    """Rounding differs between processors by more than a millionth: a smaller bound holds on some of them only."""
    small = [
        found
        for cell in code(name)
        for found in re.findall(r"<=? *(\d\S*e-\d+)", cell.source)
        if float(found) < TOLERANCE
    ]
    assert not small, f"{name}: bounds below {TOLERANCE}"


@each_notebook
def test_links_and_pictures(name):
    folder = (NOTEBOOKS / name).parent
    for text in prose(name):
        for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
            place = urlsplit("".join(target))
            if place.scheme or not place.path:
                continue
            assert (folder / unquote(place.path)).exists(), f"{name}: there is no {place.path}"
        for alt, picture in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text):
            assert len(alt) > 10, f"{name}: the picture {picture} has no text"
    mentioned = set(re.findall(r"\b(\d\d_[a-z_]+)\b", "\n".join(cell.source for cell in read(name).cells)))
    assert mentioned <= set(CODELABS), f"{name}: speaks of {mentioned - set(CODELABS)}, which do not exist"


@each_codelab
def test_badges_point_at_the_notebook(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Repository"] == f"https://github.com/{SLUG}"
    colab, binder = re.findall(r"\]\((https://[^)]+)\)", BADGES.replace("NAME", name))
    for address, before in ((colab, f"/github/{SLUG}/blob/main/"), (binder, "lab/tree/")):
        path = address.partition(before)[2]
        assert (ROOT / path).is_file(), f"{name}: the badge points at {path}, which does not exist"


@pytest.mark.parametrize("name", ["colab", "binder", "map"])
def test_drawings_have_a_name_and_load_nothing(name):
    text = (NOTEBOOKS / "images" / f"{name}.svg").read_text()
    drawing = ElementTree.fromstring(text)
    assert drawing.get("role") == "img"
    assert drawing.get("aria-label") or drawing.findtext(f"{SVG}title")
    assert not re.search(r"href|@import|@font-face|url\(\s*['\"]?http|<image|<script", text)
    assert {"width", "height", "viewBox"} <= set(drawing.keys())


def test_the_map_says_what_the_codelabs_say():
    row = re.compile(r"^\| \[(\w+)\]\(\1\.ipynb\) \| .+ \| (\d+) \| (\d+) \| (.*?) ?\|$", re.MULTILINE)
    found = [each for cell in read("index").cells for each in row.findall(cell.source)]
    rows = {name: (to_read, to_run, set(re.findall(r"\d\d", needs))) for name, to_read, to_run, needs in found}
    assert list(rows) == list(CODELABS), "index: a row for each codelab"
    for name, row in rows.items():
        assert row == takes(name), f"index: the row of {name} (minutes to read, to run, builds on)"


def test_the_arrows_of_the_map():
    """An arrow for what a codelab needs, but for what follows from other arrows."""
    arrows = ElementTree.parse(NOTEBOOKS / "images" / "map.svg").findall(f".//{SVG}path[@data-to]")
    needed = {name[:2]: takes(name)[2] for name in CODELABS}
    for number, before in needed.items():
        drawn = {arrow.get("data-from") for arrow in arrows if arrow.get("data-to") == number}
        assert drawn == before - set().union(*(needed[each] for each in before)), f"map.svg: arrows to {number}"


@each_notebook
def test_notebooks_are_as_the_program_writes_them(name):
    """`make notebooks` wrote them, and doing it again changes nothing."""
    notebook = copy.deepcopy(read(name))
    tool("run_notebooks").normalize(notebook)
    assert nbformat.writes(notebook) == nbformat.writes(read(name)), f"{name}: run `make notebooks`"


def small_notebook(*outputs, fingerprint=None):
    """Two cells, of which the second holds a timing."""
    cells = [nbformat.v4.new_code_cell(f"print({number})") for number in range(2)]
    cells[1].metadata.tags = ["nbval-ignore-output"]
    for cell, text in zip(cells, outputs, strict=True):
        cell.outputs = [nbformat.v4.new_output("stream", text=part) for part in text.split("|")]
        cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text="noise"))
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {}})
    tool("run_notebooks").normalize(notebook)
    if fingerprint:
        notebook.metadata["fingerprint"] = fingerprint
    return notebook


def test_normalizing_twice_changes_nothing():
    once = small_notebook("a|b", "5 ms")
    twice = copy.deepcopy(once)
    tool("run_notebooks").normalize(twice)
    assert twice == once
    assert [[output.text for output in cell.outputs] for cell in once.cells] == [["ab"], ["5 ms"]]
    assert set(once.metadata) == {"kernelspec", "language_info"}


def test_a_collapsed_source_stays_collapsed():
    notebook = small_notebook("a", "5 ms")
    notebook.cells[0].metadata = nbformat.from_dict({"jupyter": {"outputs_hidden": False}, "collapsed": False})
    notebook.cells[1].metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    tool("run_notebooks").normalize(notebook)
    assert notebook.cells[0].metadata == {}
    assert notebook.cells[1].metadata == {"tags": ["nbval-ignore-output"], "jupyter": {"source_hidden": True}}


@pytest.fixture
def earlier():
    """A notebook as the program wrote it."""
    notebook = small_notebook("a", "5 ms")
    tool("run_notebooks").keep_timings(notebook, notebook)
    return notebook


def test_timings_stay_where_nothing_changed(earlier):
    again = small_notebook("a", "6 ms")
    tool("run_notebooks").keep_timings(earlier, again)
    assert again == earlier
    assert printed(again.cells[1]) == "5 ms"


def change_source(earlier, again):
    earlier.cells[0].source = again.cells[0].source = "print(7)"


def change_compared_output(earlier, again):
    again.cells[0].outputs[0].text = "b"


def change_kept_output(earlier, again):
    earlier.cells[1].outputs[0].text = "4 ms"


def forget_fingerprint(earlier, again):
    del earlier.metadata["fingerprint"]


@pytest.mark.parametrize("change", [change_source, change_compared_output, change_kept_output, forget_fingerprint])
def test_timings_are_new_where_something_changed(earlier, change):
    again = small_notebook("a", "6 ms")
    change(earlier, again)
    tool("run_notebooks").keep_timings(earlier, again)
    assert printed(again.cells[1]) == "6 ms"
    assert again.metadata["fingerprint"] == tool("run_notebooks").fingerprint(again)


def test_notebooks_without_timings_need_no_fingerprint():
    notebook = small_notebook("a", "5 ms", fingerprint="0123")
    notebook.cells[1].metadata.tags = []
    tool("run_notebooks").keep_timings(notebook, notebook)
    assert "fingerprint" not in notebook.metadata


@pytest.fixture
def without_litert_torch(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "litert_torch" else found("numpy"))


def test_a_codelab_that_needs_more_is_left_as_it_is(without_litert_torch, tmp_path, monkeypatch, capsys):
    program, path = tool("run_notebooks"), tmp_path / "11_from_pytorch.ipynb"
    monkeypatch.setattr(program, "BACKENDS", tmp_path / "nowhere")
    program.main([str(path)])
    assert capsys.readouterr().out.startswith(f"{path} is left as it is: 11_from_pytorch needs litert_torch: `make")
    # Where the environment is, it runs the program, here the one that says nothing.
    monkeypatch.setattr(program, "BACKENDS", Path("/bin/true"))
    program.main([str(path)])
    assert capsys.readouterr().out == ""
    assert program.why_not(Path("10_on_a_microcontroller.ipynb")) is None


def test_nbval_leaves_it_out_with_a_line(without_litert_torch):
    spec = importlib.util.spec_from_file_location("settings_of_nbval", ROOT / "conftest.py")
    settings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(settings)
    collectors = [
        types.SimpleNamespace(skip_compare=(), path=NOTEBOOKS / f"{name}.ipynb", collect=list)
        for name in ("10_on_a_microcontroller", "solutions/11_from_pytorch")
    ]
    for each in collectors:
        settings.pytest_collectstart(each)
        assert each.skip_compare == ("stderr",)
    assert collectors[0].collect() == []
    with pytest.raises(pytest.skip.Exception, match="11_from_pytorch needs litert_torch"):
        collectors[1].collect()


def test_timings_are_new_where_the_package_changed(earlier, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "module.py").write_text("pass")
    monkeypatch.setattr(tool("run_notebooks"), "PACKAGE", tmp_path)
    again = small_notebook("a", "6 ms")
    tool("run_notebooks").keep_timings(earlier, again)
    assert printed(again.cells[1]) == "6 ms"
