"""What the documents say of other libraries is what was measured: `benchmarks/results/peers.json`."""

import json
from pathlib import Path

import pytest

from tests.helpers.tools import tool

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIGURES = json.loads((BENCHMARKS / "results" / "peers.json").read_text())


@pytest.fixture(scope="module")
def peers_report():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield tool("peers_report", "benchmarks")


def test_the_tables_are_made_of_the_figures(peers_report, tmp_path):
    peers_report.report(FIGURES, tmp_path)
    assert (tmp_path / "peers.md").read_text() == (BENCHMARKS / "results" / "peers.md").read_text()
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {path.name for path in (BENCHMARKS / "results").glob("*.png")}


@pytest.mark.parametrize("column", ["hot", "cold"])
def test_the_readme_has_the_summary(peers_report, column):
    assert peers_report.summary(FIGURES["cases"], column) in (BENCHMARKS / "README.md").read_text()


@pytest.mark.parametrize("column", ["hot", "cold"])
def test_all_were_measured(peers_report, column):
    """A row without a time has a reason; outputs agree with Keras, int8 weights within the 2 percent asked for."""
    for result in FIGURES["cases"]:
        assert list(result["rows"]) == list(peers_report.PEERS)
        for name, row in result["rows"].items():
            assert (column in row) != row["note"].startswith(("not installed", "skipped")), (result["case"], name)
            if column in row and name.startswith("auto"):
                assert row["error"] < (0.02 if "int8" in name else 1e-5), (result["case"], name)
