"""The wheel that users install: the package, and nothing of the notebooks, tests and tools around it."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = ("notebooks", "tests", "tools", "docs", "benchmarks")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy, since building writes into the folder that it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    unneeded = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("lstm_toolkit", *LEFT_BEHIND):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=unneeded)
    for name in ("pyproject.toml", "README.md", "LICENSE", "conftest.py"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(folder), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


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
    assert "lstm-toolkit = lstm_toolkit.cli:main" in commands
    for name in project["optional-dependencies"]:
        assert f"Provides-Extra: {name}" in metadata
    low, high = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups())
    versions = re.findall(r"^Classifier: Programming Language :: Python :: 3\.(\d+)$", metadata, re.MULTILINE)
    assert versions
    assert set(map(int, versions)) <= set(range(low, high))
