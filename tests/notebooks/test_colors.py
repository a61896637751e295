"""The colours in which the codelabs draw by themselves, as their code says them: none is too faint on white."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from matplotlib.colors import to_rgba

from tests.helpers.cells import in_python
from tests.helpers.contrast import GRAPHICS, over, ratio

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PATHS = sorted([*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("solutions/*.ipynb")])

LINES = ("plot", "step", "errorbar", "scatter", "axhline", "axvline")
AREAS = ("bar", "barh", "hist", "fill_between", "axhspan", "axvspan")
WHITE = (1.0, 1.0, 1.0)


def seen(color, alpha=None):
    *ink, alpha = to_rgba(color, alpha)
    return ratio(over(ink, alpha, WHITE), WHITE)


def faint(source):
    """What is too faint in the code of a cell: marks whose fill and edge both are, and colours that stand elsewhere."""
    tree, found, checked = ast.parse(source), [], set()
    for call in ast.walk(tree):
        if not (
            isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in (*LINES, *AREAS)
        ):
            continue
        options = {each.arg: each.value for each in call.keywords}
        colors = [options[name] for name in ("color", "facecolor", "edgecolor") if name in options]
        # Of matplotlib's own colours the second is too faint. A method `plot` without a number draws for itself.
        if call.args and not colors and None not in options:
            found.append(f"no color: {ast.unparse(call)}")
        said = [each for each in colors if _is_literal(each)]
        if said and len(said) == len(colors):
            checked |= {part for each in said for part in ast.walk(each)}
            alpha = ast.literal_eval(options["alpha"]) if "alpha" in options else None
            if max(seen(ast.literal_eval(each), alpha) for each in said) < GRAPHICS:
                found.append(f"faint: {ast.unparse(call)}")
    for each in ast.walk(tree):
        text = each.value if isinstance(each, ast.Constant) and each not in checked else ""
        if isinstance(text, str) and re.fullmatch("#[0-9A-Fa-f]{6}", text) and seen(text) < GRAPHICS:
            found.append(f"faint: {text}")
    return found


def _is_literal(node):
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_codelab_draws_what_is_faint(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [in_python(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert [each for source in cells for each in faint(source)] == []


@pytest.mark.parametrize(
    "source",
    [
        "axes.plot(x, y, color='#E69F00')",
        "axes.axvspan(0, 1, color='#0072B2', alpha=0.3)",
        "axes.axvspan(0, 1, facecolor=('black', 0.2), edgecolor='0.7')",
        "axes.errorbar(x, y)",
        "for color in ('#0072B2', '#E69F00'):\n    axes.plot(x, y, color=color)",
    ],
)
def test_what_is_faint_is_found(source):
    assert len(faint(source)) == 1


def test_a_dark_edge_is_enough():
    assert faint("axes.axvspan(0, 1, facecolor=('#E69F00', 0.3), edgecolor='0.4')\nresult.plot()") == []
