"""What is installed against what was tested: one warning in a process, and the command `environment`."""

import json
import os
import subprocess
import sys

import pytest

from lstm_toolkit import versions
from lstm_toolkit.environment import environment
from tests.helpers.imports import run_without

WARNING = (
    "tensorflow 2.22.0rc1 is newer than what lstm_toolkit was tested with (2.18 to 2.21); "
    "keras 3.7.0 is older than what lstm_toolkit was tested with (3.8 to 3.15)"
)
TWICE = "import lstm_toolkit\nfrom lstm_toolkit import inspect\nlstm_toolkit.Runner, lstm_toolkit.errors"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An environment in which other versions are installed, for the processes that a test starts."""
    for name, version in (("tensorflow", "2.22.0rc1"), ("keras", "3.7.0"), ("tf_keras", "2.21.7")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))


def command(*arguments):
    line = [sys.executable, "-m", "lstm_toolkit", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def test_nothing_here_is_untested():
    assert versions.untested() == []
    assert run_without({"tensorflow", "keras"}, TWICE).stderr == ""


def test_one_warning_in_a_process_that_loads_nothing(elsewhere):
    said = run_without({"tensorflow", "keras"}, TWICE).stderr
    assert said.count(WARNING) == said.count("Warning") == 1
    assert said.startswith("<string>:2: UserWarning: ")
    assert run_without({"importlib.metadata"}, "import lstm_toolkit").stderr == ""


def test_the_command_line_warns_and_goes_on(elsewhere, tmp_path):
    done = command("inspect", str(tmp_path / "nothing.tflite"))
    assert done.stderr.startswith(f"Warning: {WARNING}")
    assert done.stderr.count("tensorflow") == 1
    assert "nothing.tflite" in done.stderr
    assert done.returncode == 1


def test_the_command_says_what_is_beside_what_was_tested(elsewhere):
    done = command("environment")
    assert done.returncode == 3
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("tensorflow ")]
    assert row.split()[:5] == ["tensorflow", "2.22.0rc1", "2.18", "to", "2.21"]
    assert row.endswith("newer than tested")


def test_the_command_for_programs():
    done = command("environment", "--json")
    assert done.returncode == 0
    value = json.loads(done.stdout)
    assert value == json.loads(json.dumps(environment().to_dict()))
    assert value["is_tested"] is True
    by_name = {each["name"].replace("-", "_"): each for each in value["packages"]}
    assert by_name["tensorflow"]["tested"] == ["2.18", "2.21"]
    assert by_name["tf_keras"]["extra"] == "legacy"
    assert by_name["click"]["tested"] is by_name["click"]["extra"] is None
    assert "pytest" not in by_name


def test_what_is_missing(monkeypatch):
    present = versions.installed
    monkeypatch.setattr("lstm_toolkit.environment.installed", lambda name: None if name == "netron" else present(name))
    by_name = {each.name: each for each in environment().packages}
    assert by_name["netron"].remark == "missing: pip install 'lstm_toolkit[viewer]'"
    assert environment().is_tested
    monkeypatch.setattr("lstm_toolkit.environment.installed", lambda name: None if name == "click" else present(name))
    by_name = {each.name: each for each in environment().packages}
    assert by_name["click"].remark == "missing"
    assert not environment().is_tested


@pytest.mark.parametrize(
    ("version", "side"),
    [
        ("2.17.1", "older"),
        ("2.18.0", None),
        ("2.21.9", None),
        ("2.22.0-dev1", "newer"),
        ("3.0", "newer"),
        ("2", "older"),
    ],
)
def test_patch_releases_do_not_count(version, side):
    assert versions.beyond("tensorflow", version) == side


def test_versions_are_compared_by_number():
    assert versions.tested("keras") == ("3.8", "3.15")
    assert versions.tested("python") == ("3.10", "3.13")
