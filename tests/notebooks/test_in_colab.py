"""A notebook that is opened where the package is missing installs it, and replaces nothing that is there.

`make test-colab` runs the codelabs in such a place.
"""

import shlex
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from lstm_toolkit import versions
from tests.helpers.cells import in_python
from tests.helpers.tools import tool

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("[!.]*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
COLAB = ROOT / "constraints" / "colab.txt"
INSTALL = f"""\
# @title Install lstm_toolkit where it is missing, as in Colab. What is there stays as it is.
import importlib.util

if importlib.util.find_spec("lstm_toolkit") is None:
    %pip install --quiet "lstm_toolkit[colab] @ git+{PROJECT["urls"]["Repository"]}\""""
WITH_TORCH = INSTALL.replace("[colab]", "[colab,torch]").replace(
    "lstm_toolkit where it is missing, as in Colab. What is there stays as it is.",
    "lstm_toolkit and litert-torch where lstm_toolkit is missing, as in Colab.",
)
"""Of the codelabs that need PyTorch. Colab has it, and lacks litert-torch, which may replace what is there."""

each_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT / "notebooks").with_suffix(""))
)


class Shell:
    """Takes the place of IPython's shell, and keeps the magics that a cell runs."""

    def __init__(self):
        self.magics = []

    def run_line_magic(self, name, line):
        self.magics.append((name, line))


def magics():
    """What the cell asks IPython to do."""
    shell = Shell()
    exec(in_python(nbformat.v4.new_code_cell(INSTALL)), {"get_ipython": lambda: shell})
    return shell.magics


def colab():
    """The versions that Colab has."""
    return dict(line.split("==") for line in COLAB.read_text().splitlines() if not line.startswith("#"))


def requirements(*extras):
    """What the package needs with some of its extras, by name."""
    texts = [*PROJECT["dependencies"], *(each for extra in extras for each in EXTRAS[extra])]
    return {requirement.name: requirement for requirement in map(Requirement, texts)}


@each_notebook
def test_the_first_code_cell_installs_the_package(path):
    cells = nbformat.read(path, as_version=4).cells
    cell = next(cell for cell in cells if cell.cell_type == "code")
    assert cell.source == (WITH_TORCH if tool("run_notebooks").NEEDS.get(path.stem) else INSTALL)
    # Collapsed in JupyterLab and, by the name that it has there, in Colab.
    assert cell.metadata == {"tags": ["install"], "jupyter": {"source_hidden": True}, "cellView": "form"}
    assert cell.outputs == []
    assert [cell.cell_type for cell in cells[:2]] == ["markdown", "code"], "the title comes first"
    assert not [other for other in cells if "install" in other.metadata.get("tags", []) and other is not cell]


def test_where_the_package_is_nothing_happens(capfd):
    assert magics() == []
    assert capfd.readouterr() == ("", "")


def test_where_the_package_is_missing_pip_gets_the_repository(monkeypatch):
    monkeypatch.setitem(sys.modules, "lstm_toolkit", None)
    ((name, line),) = magics()
    command, quiet, text = shlex.split(line)
    requirement = Requirement(text)
    assert (name, command, quiet) == ("pip", "install", "--quiet")
    assert (requirement.name, requirement.extras) == ("lstm_toolkit", {"colab"})
    assert requirement.url == f"git+{PROJECT['urls']['Repository']}"


def test_the_extra_is_what_codelabs_need_beside_jupyterlab():
    needed = requirements("codelabs", "legacy")
    del needed["jupyterlab"], needed["nbval"]
    assert requirements("colab") == needed


def test_what_colab_has_stays_as_it_is():
    """All that the package needs is there in a version that it takes, but for the runtime."""
    there = colab()
    missing = [name for name in requirements("colab") if name not in there]
    assert missing == ["ai-edge-litert", "tflite-micro"]
    for name, requirement in requirements("colab").items():
        assert name in missing or there[name] in requirement.specifier, f"{requirement}, and Colab has {there[name]}"


def test_the_table_of_versions_has_a_row_for_colab():
    row = versions.RUNS["make test-colab"]
    of_the_package = {"python": row["python"], "ai-edge-litert": row["ai-edge-litert"]}
    assert row == {name: colab()[name] for name in row if name not in of_the_package} | of_the_package
    assert f"COLAB_PYTHON ?= python{row['python']}\n" in (ROOT / "Makefile").read_text()
    assert f"with Python {row['python']}," in COLAB.read_text()


def test_binder_installs_what_codelabs_need():
    environment = (ROOT / "environment.yml").read_text()
    version = (ROOT / ".binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f"- python={version}\n" in environment
    assert (ROOT / ".binder" / "requirements.txt").read_text() == "-e .[codelabs,legacy]\n"


@pytest.fixture
def environment(monkeypatch):
    """An environment that changes as a test says while a notebook runs."""
    states = [{"numpy": "2.1.3"}]
    check = tool("check_colab")
    monkeypatch.setattr(check, "installed", lambda: states.pop(0))
    monkeypatch.setattr(check, "run", lambda path: None)
    return states


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"numpy": "2.1.3", "lstm_toolkit": "1.0.0"}, None),
        ({"numpy": "2.2.0", "lstm_toolkit": "1.0.0"}, "a.ipynb replaced {'numpy': '2.2.0'}"),
        ({"lstm_toolkit": "1.0.0"}, "a.ipynb replaced {'numpy': None}"),
        ({"numpy": "2.1.3"}, "no notebook installed lstm_toolkit"),
    ],
)
def test_what_was_replaced_is_told(environment, after, said):
    environment.append(after)
    assert tool("check_colab").main(["a.ipynb"]) == said


def test_an_environment_that_has_the_package_shows_nothing(environment):
    environment[0]["lstm_toolkit"] = "1.0.0"
    assert "already" in tool("check_colab").main(["a.ipynb"])


def test_only_the_first_cell_is_led_to_the_checkout():
    cell = nbformat.v4.new_code_cell(INSTALL, metadata={"tags": ["install"]})
    other = nbformat.v4.new_code_cell(INSTALL)
    tool("check_colab").from_checkout(nbformat.v4.new_notebook(cells=[cell, other]))
    assert f'"lstm_toolkit[colab] @ {ROOT.as_uri()}"' in cell.source
    assert other.source == INSTALL
