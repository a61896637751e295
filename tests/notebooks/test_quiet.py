"""Codelabs load TensorFlow by way of the package, which keeps from the reader what TensorFlow prints then."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LOADS = re.compile(r"^\s*(import|from) (keras|tensorflow|tf_keras)\b", re.MULTILINE)
LOADS_QUIETLY = re.compile(
    r"^from lstm_toolkit(\.codelab import| import (.*, )?(codelab|lingvo)\b|\.lingvo import)", re.MULTILINE
)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_package_comes_first(path):
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    loading = [number for number, source in enumerate(sources) if LOADS.search(source)]
    quietly = [number for number, source in enumerate(sources) if LOADS_QUIETLY.search(source)]
    # In one cell the imports are sorted, and Keras comes first.
    assert not loading or (quietly and quietly[0] < loading[0])


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_output_holds_an_svg_element(path):
    """A notebook that is not trusted loses it."""
    cells = nbformat.read(path, as_version=4).cells
    pages = [output.get("data", {}).get("text/html", "") for cell in cells for output in cell.get("outputs", [])]
    assert not [page[:80] for page in pages if "<svg" in page]
