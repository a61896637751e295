"""What users install: the wheel has the package alone, the source distribution all that is in the repository, and type
checkers find an editable install."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = ("notebooks", "tests", "tools", "docs", "benchmarks")
BUILD = [sys.executable, "-m", "hatchling", "build"]


def tracked():
    """The files of the repository, or of a source distribution that was unpacked."""
    if not (ROOT / ".git").exists():
        pytest.skip("the sources are no git checkout, so nothing tells which files belong to them")
    if shutil.which("git") is None:
        pytest.skip("there is no git, which tells which files belong to the sources")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with wheel and source distribution, built from a copy, since building writes into its folder."""
    folder = tmp_path_factory.mktemp("built")
    for name in tracked():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    done = subprocess.run([*BUILD, "-d", folder], cwd=folder / "source", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_source_distribution_holds_the_repository(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert inside - {"PKG-INFO"} == tracked()


def test_mypy_finds_the_editable_install(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from lstm_toolkit import Runner\n\nreveal_type(Runner.reset)\n")
    command = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent", script.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "def (self: lstm_toolkit.runtime.runner.Runner)" in done.stdout


def test_wheel_holds_the_package_and_nothing_else(wheel):
    package = [path for path in (ROOT / "lstm_toolkit").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == {path.relative_to(ROOT).as_posix() for path in package}
    assert {"lstm_toolkit/py.typed", "lstm_toolkit/exercises/__init__.py"} <= inside


def test_wheel_says_what_the_project_says(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [name for name in wheel.namelist() if ".dist-info/" in name]
    (metadata,) = [wheel.read(name).decode() for name in names if name.endswith("/METADATA")]
    (commands,) = [wheel.read(name).decode() for name in names if name.endswith("/entry_points.txt")]
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert f"Requires-Python: {','.join(reversed(project['requires-python'].split(',')))}" in metadata
    assert "lstm-toolkit = lstm_toolkit.__main__:main" in commands
    for name in project["optional-dependencies"]:
        assert f"Provides-Extra: {name}" in metadata
    low, high = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups())
    versions = re.findall(r"^Classifier: Programming Language :: Python :: 3\.(\d+)$", metadata, re.MULTILINE)
    assert versions
    assert set(map(int, versions)) <= set(range(low, high))
