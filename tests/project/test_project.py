"""The project's own files: dependencies, public names, imports, notebooks, and the server of `make lab`."""

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
import yaml

import lstm_toolkit
from tests.helpers.imports import run_without
from tests.helpers.tools import tool

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def python(code, **kwargs):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **kwargs)


def test_environment_yml_equals_pyproject():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    extras = PROJECT["optional-dependencies"]
    wanted = [
        *PROJECT["dependencies"],
        *(
            each
            for extra in ("codelabs", "core-test", "docs", "legacy", "sweep", "viewer", "test")
            for each in extras[extra]
        ),
    ]
    wanted = [each for each in wanted if not each.startswith("lstm_toolkit[")]
    assert sorted(pip) == sorted({*wanted, "-e ."})
    (version,) = [entry.removeprefix("python=") for entry in entries if str(entry).startswith("python=")]
    assert f'Language :: Python :: {version}"' in (ROOT / "pyproject.toml").read_text()


def test_public_names():
    assert sorted(lstm_toolkit.__all__) == [
        "BenchmarkResult",
        "Conversion",
        "ConversionReport",
        "Finding",
        "GateActivations",
        "GateWeights",
        "Limits",
        "LstmNode",
        "ModelSummary",
        "Repair",
        "Runner",
        "SweepConfig",
        "SweepResult",
        "benchmark",
        "composite",
        "convert",
        "diagnose",
        "errors",
        "fusable_lstms",
        "gate_activations",
        "grid",
        "inspect",
        "lingvo",
        "lower",
        "plot_gates",
        "repair",
        "sweep",
        "widgets",
    ]
    for name in lstm_toolkit.__all__:
        value = getattr(lstm_toolkit, name)
        assert value.__doc__, name
        assert name in dir(lstm_toolkit)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lstm_toolkit.nothing


def test_importing_inspecting_and_running_do_not_import_tensorflow():
    done = run_without({"tensorflow", "ai_edge_litert", "numpy"}, "import lstm_toolkit")
    assert done.stderr == ""
    names = ("Runner", "inspect", "GateWeights", "Conversion")
    code = f"import lstm_toolkit; {', '.join(f'lstm_toolkit.{name}' for name in names)}"
    assert run_without({"tensorflow", "keras"}, code).stderr == ""


def test_there_are_notebooks():
    assert NOTEBOOKS[0].name == "00_quickstart.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT / "notebooks").with_suffix("")))
def test_notebooks_have_run_and_hold_nothing_of_the_machine(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    compared = [cell for cell in cells if "nbval-ignore-output" not in cell.metadata.get("tags", [])]
    # In solutions every second cell is a function; the map has two or three cells.
    few = len(cells) / 2 if path.name[0].isdigit() and path.parent.name == "notebooks" else 1
    assert sum(bool(cell.outputs) for cell in compared) > few
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    # Pictures are long words of letters, digits, + and /, in which any path may stand by chance.
    assert not re.search(r"/(tmp|home|root|Users|work)/", re.sub(r"[A-Za-z0-9+/]{200,}", "", path.read_text()))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT / "notebooks").with_suffix("")))
def test_pictures_in_notebooks_have_a_text(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    shown = "\n".join(o.get("data", {}).get("text/html", "") for cell in cells for o in cell.outputs)
    pictures = re.findall(r"<(?:img|svg)\b[^>]*>", shown)
    assert pictures or path.name == "index.ipynb" or path.parent.name == "solutions"
    for picture in pictures:
        assert re.search(r' (?:alt|aria-label)="[^"]{20,}"', picture), picture[:200]


def test_no_test_imports_from_another():
    """What they share lies in `tests/helpers`."""
    tests = (ROOT / "tests").rglob("*.py")
    assert not [path for path in tests if re.search(r"^\s*(from|import) tests[\w. ]*\btest_", path.read_text(), re.M)]


PROGRAMS = [path for folder in ("tools", "benchmarks") for path in sorted((ROOT / folder).glob("*.py"))]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_program_can_be_imported(path, monkeypatch):
    monkeypatch.syspath_prepend(str(path.parent))
    assert tool(path.stem, path.parent.name).__doc__


def test_every_falsehood_finds_its_line():
    """`tools/check_notebooks_notice.py` shows that codelabs notice them."""
    falsehoods = tool("check_notebooks_notice").FALSEHOODS
    assert len({each.codelab for each in falsehoods}) >= 6
    for each in falsehoods:
        assert (ROOT / "lstm_toolkit" / each.module).read_text().count(each.before) == 1, each.what
        assert (ROOT / "notebooks" / f"{each.codelab}.ipynb").exists()


@pytest.mark.parametrize(
    ("conclusion", "error"),
    [("assert number == 2", None), ("assert number == 3", "AssertionError"), ("1 / 0", "ZeroDivisionError")],
)
def test_whether_a_notebook_notices_is_told_by_its_assertions(tmp_path, conclusion, error):
    """What its cells printed before is not compared."""
    (tmp_path / "package.py").write_text("number = 2")
    cells = [nbformat.v4.new_code_cell(source) for source in ("from package import number\nnumber", conclusion)]
    cells[0].outputs = [nbformat.v4.new_output("stream", text="7")]
    found = tool("check_notebooks_notice").first_error(nbformat.v4.new_notebook(cells=cells), tmp_path)
    assert found == (error and (error, conclusion))


def printed_by_make(*arguments, **environment):
    """What `make` would run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", "--always-make", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=kept | environment)
    return done.stdout if done.returncode == 0 else done.stderr


def test_make_lab_installs_what_the_codelabs_need_and_make_test_the_rest():
    assert re.findall(r'"\.\[(.+)\]"', printed_by_make("lab")) == ["codelabs,legacy"]
    assert re.findall(r'"\.\[(.+)\]"', printed_by_make("test")) == ["codelabs,legacy", "test"]


def test_a_machine_without_python_is_told_in_one_line():
    (told,) = printed_by_make("lab", "PYTHON=").splitlines()
    assert "There is no python3 here: install one, or say PYTHON=/its/path" in told


def test_where_home_cannot_be_written_to_there_is_another(tmp_path):
    *_, command = printed_by_make("lab", HOME=str(tmp_path / "nowhere")).splitlines()
    assert command.startswith('HOME="$PWD/.venv/home" .venv/bin/jupyter lab')
    assert printed_by_make("lab", HOME=str(tmp_path)).splitlines()[-1].startswith(".venv/bin/jupyter lab")


def test_make_lab_answers_on_localhost_and_asks_for_its_token(tmp_path):
    """Runs the command that `make lab` runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"LAB_ARGS=--no-browser --port={port} --ServerApp.port_retries=0"
    command = printed_by_make("lab", options).splitlines()[-1]
    assert "--ip=127.0.0.1" in command
    assert "--LabApp.default_url=/lab/tree/index.ipynb" in command
    words = shlex.split(command)
    words[:1] = [sys.executable, "-m", "jupyter"]
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    with subprocess.Popen(
        words, cwd=ROOT, env=os.environ | folders, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            info = wait_for(tmp_path / "RUNTIME", server)
            assert info["hostname"] == "127.0.0.1"
            assert len(info["token"]) >= 32
            url = f"http://127.0.0.1:{port}/api/contents"
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(url, timeout=10)
            with urllib.request.urlopen(f"{url}?token={info['token']}", timeout=10) as answer:
                names = [entry["name"] for entry in json.load(answer)["content"]]
            assert {"index.ipynb", "00_quickstart.ipynb"} <= set(names)
        finally:
            server.terminate()


def wait_for(runtime, server):
    for _ in range(300):
        found = list(runtime.glob("jpserver-*.json")) if runtime.exists() else []
        if found and (text := found[0].read_text()):
            info = json.loads(text)
            with contextlib.suppress(ConnectionRefusedError):  # it says where it is before it listens
                socket.create_connection((info["hostname"], info["port"]), timeout=10).close()
                return info
        assert server.poll() is None, "the server ended"
        time.sleep(0.1)
    raise AssertionError("the server did not start within 30 seconds")
