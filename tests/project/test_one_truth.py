"""What several documents say is said alike: versions of Python, times, and the files to copy for one's own CI."""

import json
import os
import re
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from lstm_toolkit import versions, widgets

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name]
MAIN = versions.RUNS["make test"]["python"]
WORKFLOW = ROOT / "notebooks" / "ci" / "notebooks.yml"
CONFTEST = ROOT / "notebooks" / "ci" / "conftest.py"
DOCUMENTS = ("README.md", "README.ja.md", "docs/index.rst", "docs/codelabs.rst", "notebooks/index.ipynb")


def text_of(document):
    path = ROOT / document
    if path.suffix != ".ipynb":
        return path.read_text()
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def minutes_to_read():
    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    cells = [nbformat.read(path, as_version=4).cells[0].source for path in paths]
    return [int(re.search(r"\*Takes (\d+) minutes", cell)[1]) for cell in cells]


def test_the_versions_of_python():
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(30) if f"3.{minor}" in allowed] == PYTHONS
    assert versions.tested("python") == (PYTHONS[0], PYTHONS[-1])
    # What sets up all that the tests and the codelabs need.
    whole = f"Python {MAIN}(?: to |〜){PYTHONS[-1]}"
    for document in DOCUMENTS:
        text = text_of(document)
        named = re.findall(
            r"Python (3\.\d+)\b", re.sub(whole, "", text.split("## Versions")[0].split("## バージョン")[0])
        )
        assert not named, f"{document}: names {named}, and not {MAIN} to {PYTHONS[-1]}"
        assert re.search(whole, text) or document == "docs/codelabs.rst", document


def test_what_sets_python_up_takes_the_version_that_all_tests_run_with():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python={MAIN}" in environment
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["image"].endswith(f":{MAIN}")
    assert f'python-version: "{MAIN}"' in WORKFLOW.read_text()
    assert f"All tests run with Python {MAIN}" in text_of("README.md")
    assert f"Python {MAIN} ではすべて" in text_of("README.ja.md")


def test_the_workflow_runs_what_the_table_says():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]["include"]
    commands = {each["command"].replace("bash .ci/run", "make test"): each["python"] for each in matrix}
    assert commands == {command: run["python"] for command, run in versions.RUNS.items()}
    assert "exec make test\n" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(("document", "title"), [("README.md", "Versions"), ("README.ja.md", "バージョン")])
def test_the_table_of_versions_is_what_the_warning_goes_by(document, title):
    section = text_of(document).split(f"\n## {title}\n")[1].split("\n## ")[0]
    header, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "|" in line
    ]
    assert {row[0].strip("`"): dict(zip(header[1:], row[1:], strict=True)) for row in rows} == versions.RUNS
    assert versions.RUN_ON in section


def pinned(name):
    lines = (ROOT / "constraints" / f"{name}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("name", ["oldest", "newest"])
def test_the_constraints_are_what_the_table_says(name):
    run, makefile = versions.RUNS[f"make test-{name}"], (ROOT / "Makefile").read_text()
    assert {package: pinned(name)[package] for package in run if package != "python"} == {
        package: version for package, version in run.items() if package != "python"
    }
    assert f"{name.upper()}_PYTHON ?= python{run['python']}" in makefile


def test_the_bounds_are_what_was_run():
    wanted = [Requirement(each) for each in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["legacy"]]
    oldest, newest = pinned("oldest"), pinned("newest")
    for each in wanted:
        (lowest,) = [Version(spec.version) for spec in each.specifier if spec.operator == ">="]
        assert Version(oldest[each.name]).release[: len(lowest.release)] == lowest.release, each
        assert newest[each.name] in each.specifier, each
    for name in versions.WATCHED:
        (bounds,) = [each.specifier for each in wanted if each.name == name]
        major, minor = versions.tested(name)[1].split(".")
        assert f"{major}.{int(minor) + 1}.0" not in bounds, name


def test_the_minutes():
    minutes = minutes_to_read()
    least, most, hours = min(minutes), max(minutes), round(sum(minutes) / 60)
    for document in ("README.md", "docs/codelabs.rst", "notebooks/index.ipynb"):
        found = re.findall(r"(\d+)\s+to\s+(\d+)\s+minutes", text_of(document))
        assert found == [(str(least), str(most))], document
    assert re.findall(r"(\d+)〜(\d+) 分", text_of("README.ja.md")) == [(str(least), str(most))]
    assert re.findall(r"about (\d+) hours", text_of("notebooks/index.ipynb")) == [str(hours)]


def is_wide(character):
    return unicodedata.east_asian_width(character) in "WF"


def test_no_space_inside_japanese_sentences():
    """A line break in Markdown is a space on the page; none may stand between two Japanese characters."""
    code = False
    lines = (ROOT / "README.ja.md").read_text().splitlines()
    for number, (line, after) in enumerate(zip(lines, [*lines[1:], ""], strict=True), 1):
        code ^= line.startswith("```")
        assert line == line.rstrip(), f"line {number} ends with a space"
        if code or not line or not after or after.startswith(("|", "- ", "#", "```")):
            continue
        at_the_break = {is_wide(line[-1]), is_wide(after.lstrip()[0])}
        assert at_the_break == {False}, f"lines {number} and {number + 1}"


def test_the_index_shows_the_files_to_copy():
    text = text_of("notebooks/index.ipynb")
    for path, language in ((CONFTEST, "python"), (WORKFLOW, "yaml")):
        assert f"```{language}\n{path.read_text()}```" in text, path.name
        assert f"(ci/{path.name})" in text


def steps():
    """The steps of the workflow that is there to copy."""
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    return job["steps"]


def test_the_workflow_checks_out_and_sets_python_up_first():
    used = [step["uses"].partition("@")[0] for step in steps() if "uses" in step]
    assert used == ["actions/checkout", "actions/setup-python"]
    assert [next(iter(step)) for step in steps()] == ["uses", "uses", "run", "run"]
    assert steps()[1]["with"] == {
        "python-version": MAIN,
        "cache": "pip",
        "cache-dependency-path": "requirements.txt",
    }


@pytest.fixture
def repository(tmp_path):
    """A repository with one notebook, as a reader would have it, and the files copied into it."""
    cells = [
        nbformat.v4.new_code_cell(source, execution_count=number, outputs=[])
        for number, source in enumerate(["x = 6", "import sys\nprint('noise', file=sys.stderr)\nprint(x * 7)"], 1)
    ]
    cells[1].outputs = [nbformat.v4.new_output("stream", text="42\n")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "P"}})
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(notebook, folder / "mine.ipynb")
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "requirements.txt").write_text("nbformat\n")
    return tmp_path


def run(command, folder):
    """Runs a command of the workflow; pip installs nothing and asks nobody, since all is there."""
    python = folder / "bin" / "python"
    if not python.exists():
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    settings = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_DRY_RUN": "1",
        "PIP_NO_INDEX": "1",
        "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:xdist",
    }
    shell = ["bash", "-e", "-o", "pipefail", "-c", command]  # as GitHub runs it
    return subprocess.run(shell, cwd=folder, env=os.environ | settings, capture_output=True, text=True, timeout=100)


def test_the_commands_of_the_workflow_run(repository):
    for step in steps():
        if command := step.get("run"):
            done = run(command, repository)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "2 passed" in done.stdout


def test_the_workflow_notices_another_output(repository):
    path = repository / "notebooks" / "mine.ipynb"
    path.write_text(path.read_text().replace("x * 7", "x * 8"))
    assert "1 failed" in run(steps()[-1]["run"], repository).stdout


def test_the_workflow_takes_no_package_that_is_not_there(repository):
    (repository / "requirements.txt").write_text("nbformat\na-package-that-nobody-has\n")
    assert run(steps()[2]["run"], repository).returncode


def test_the_readmes_name_every_panel():
    for document in ("README.md", "README.ja.md"):
        text = text_of(document)
        for name in widgets.__all__:
            assert f"`{name}()`" in text or not name.islower(), f"{document}: {name}"
