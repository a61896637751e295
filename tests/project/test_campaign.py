"""The campaign sees each kind of finding: here the package, or what it leaves behind, is broken on purpose."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lstm_toolkit
from tests.helpers.packed_weights import everything

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def attack(monkeypatch):
    """Modules of the campaign by name."""
    monkeypatch.syspath_prepend(TOOLS)
    return lambda name: importlib.import_module(f"attacks.{name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the files of a campaign stand already."""
    folder = tmp_path_factory.mktemp("campaign")
    (folder / "whole").mkdir()
    weights = everything(np.random.default_rng(0))
    for state in ("reset", "carry"):
        file = lstm_toolkit.convert(weights, state=state, time_steps=7, verify=False).tflite
        (folder / "whole" / f"{state}.tflite").write_bytes(file)
    return folder


def campaign(folder, *arguments, broken=""):
    first = folder / "first.py"
    first.write_text(broken)
    command = [sys.executable, TOOLS / "campaign.py", "--folder", folder, "--first", first, "--processes", "1"]
    environment = os.environ | {"PYTHONPATH": str(TOOLS.parent)}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=200, env=environment)


@pytest.mark.parametrize(
    ("does", "seen"),
    [
        ("raise KeyError('odd')", "runs, foreign in a call: KeyError at <string>"),
        ("os.kill(os.getpid(), 11)", "runs, crash in a call: SIGSEGV"),
        ("time.sleep(60)", "runs, hang in a call: over 5 seconds"),
    ],
)
def test_what_goes_wrong_is_counted_with_the_command_that_repeats_it(folder, does, seen):
    broken = f"""
import os, time
import lstm_toolkit
class Broken(lstm_toolkit.Runner):
    calls = 0
    def outputs(self, **inputs):
        Broken.calls += 1
        if Broken.calls > 4:  # the whole files are called first
            {does}
        return super().outputs(**inputs)
lstm_toolkit.Runner = Broken
"""
    source = f"exec(compile({broken!r}, '<string>', 'exec'))"
    done = campaign(folder, "--only", "runs", "--runs", "3", "--seed", "3", broken=source)
    assert done.returncode == 1, done.stderr
    assert seen in done.stdout
    assert "python tools/campaign.py --only runs --seed " in done.stdout


def test_a_wrong_file_is_found(folder):
    """Every file has other numbers in its largest constants than the model, and nothing of that in its report."""
    broken = """
import dataclasses
import numpy as np
import lstm_toolkit
from ai_edge_litert.tools import flatbuffer_utils
right = lstm_toolkit.convert
def wrong(model, **options):
    made = right(model, **options)
    read = flatbuffer_utils.read_model_from_bytearray(bytearray(made.tflite))
    buffer = max((each for each in read.buffers if each.data is not None), key=lambda each: len(each.data))
    values = np.frombuffer(bytes(buffer.data), np.float32) + np.float32(0.5)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    return dataclasses.replace(made, tflite=bytes(flatbuffer_utils.convert_object_to_bytearray(read)))
lstm_toolkit.convert = wrong
"""
    done = campaign(folder, "--only", "models", "--models", "1", "--seed", "60", broken=broken)
    assert done.returncode == 1, done.stderr
    assert "models, wrong in comparing: " in done.stdout
    assert " is off by " in done.stdout


def test_what_stays_as_it_should_ends_well(folder):
    done = campaign(folder, "--only", "runs", "--runs", "4")
    assert done.returncode == 0, done.stdout
    assert "runs  4 " in done.stdout


def test_what_a_killed_program_leaves(attack, tmp_path):
    kills = attack("kills")
    out = tmp_path / "out"
    out.mkdir()
    half = out / "out.svg"
    half.write_bytes(b"<svg>")
    assert "half written" in kills._of_files(out, set(), signal.SIGKILL, at_once=True)
    half.write_bytes(b"<svg></svg>\n")
    assert kills._of_files(out, {"out.svg"}, signal.SIGKILL, at_once=True) == ""
    assert "are gone" in kills._of_files(out, {"out.tflite"}, signal.SIGTERM, at_once=True)
    (out / ".temporary").touch()
    assert "is left beside the target" in kills._of_files(out, set(), signal.SIGTERM, at_once=True)
    assert "left in TMPDIR" in kills._of_temporary(out, set())
    assert "exit code 1" in kills._of_ending("plot", signal.SIGINT, 1, "")
    assert "2 lines" in kills._of_ending("plot", signal.SIGINT, 130, "Aborted!\nand more\n")
    assert "a traceback" in kills._of_ending("plot", signal.SIGTERM, -15, "Traceback ...")


def test_a_process_that_lives_on_is_found(attack, monkeypatch):
    kills = attack("kills")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    monkeypatch.setattr(kills.time, "monotonic", iter([0.0, 10.0]).__next__)
    assert "processes live on" in kills._of_survivors(process.pid)
    assert process.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crash"),
        ("{}['x']", "foreign"),
        ("import time; time.sleep(60)", "hang"),
        ("bytearray(2**27)", "wrong"),
        ("raise SystemExit('Error: no')", "refused"),
    ],
)
def test_how_a_program_with_a_strange_file_ends(attack, monkeypatch, program, verdict):
    strange = attack("strange")
    monkeypatch.setattr(strange, "SECONDS", 3.0)
    if verdict == "wrong":  # a process has at least the memory of the one that it was forked from
        monkeypatch.setattr(strange, "MEMORY", 2**26)
    assert strange.run([sys.executable, "-c", program]).verdict == verdict


def test_what_threads_change(attack):
    threads = attack("threads")

    def of_the_main_thread():
        return threads.threading.current_thread() is threads.threading.main_thread()

    outcome = threads.attacking({"where": of_the_main_thread})(0, lambda _: None)
    assert "where gives another result than in one thread" in outcome.what
    before = sys.stdout

    def redirects():
        if not of_the_main_thread():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (left open on purpose)

    try:
        outcome = threads.attacking({"redirects": redirects})(0, lambda _: None)
    finally:
        sys.stdout = before
    assert "another stdout" in outcome.what
