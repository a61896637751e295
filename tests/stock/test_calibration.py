"""Calibrating in a process of its own: what is left when it, or the one that waits for it, is killed half-way."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.quantization.quantize import quantize as quantize_file
from lstm_toolkit.stock import worker

WAIT = 60
"""Seconds after which a process that should have ended is taken for a stray one."""


def is_running(pid: int) -> bool:
    """Whether there is a process that is not just waiting to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def ends(pid: int) -> bool:
    deadline = time.monotonic() + WAIT
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


@pytest.fixture(scope="module")
def float_file() -> bytes:
    model = keras.Sequential([keras.Input((20, 4), batch_size=1, name="x"), keras.layers.LSTM(16)])
    return lt.convert(model, verify=False).tflite


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder that the temporary files of this process are in."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def samples(count: int) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    return [{"x": generator.standard_normal((1, 20, 4)).astype(np.float32)} for _ in range(count)]


def quantize(tflite, count, at=None, action=lambda: None):
    """Calibrates on a number of samples; the action is done when so many of them are."""
    done = []

    def progress(number):
        done.append(number)
        if number == at:
            action()

    quantized, _ = quantize_file(tflite, "int8", samples(count), calibrate=True, progress=progress)
    return quantized, done


def test_progress_counts_the_calibrated_samples(float_file, temporary):
    quantized, done = quantize(float_file, 25)
    assert done == list(range(1, 21))
    assert lt.inspect(quantized).ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert list(temporary.iterdir()) == []


def test_the_worker_is_killed(float_file, temporary):
    at = random.randrange(1, 1000)
    quantize(float_file, 25)
    killed = worker.process_id()
    with pytest.raises(ConversionError, match="quantizer ended its own process: SIGKILL; pass quantization="):
        quantize(float_file, 20_000, at, lambda: os.kill(killed, signal.SIGKILL))
    assert list(temporary.iterdir()) == []
    quantized, _ = quantize(float_file, 25)
    assert worker.process_id() != killed
    assert lt.Runner(quantized)(samples(1)[0]["x"]).shape == (1, 16)


def test_the_caller_interrupts(float_file, temporary):
    """As with Control-C: the worker, which would go on with its answer, is ended too."""
    quantize(float_file, 25)
    waited_for = worker.process_id()

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(float_file, 20_000, 5, interrupt)
    assert ends(waited_for)
    assert list(temporary.iterdir()) == []
    quantized, _ = quantize(float_file, 25)
    assert lt.inspect(quantized).ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1


CALLER = """
import sys
from pathlib import Path
import numpy as np
from lstm_toolkit.quantization.quantize import quantize
from lstm_toolkit.stock import worker
from lstm_toolkit.tflite.files import write_whole

float_file, target = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
random = np.random.default_rng(1)
samples = [{"x": random.standard_normal((1, 20, 4)).astype(np.float32)} for _ in range(int(sys.argv[3]))]

def progress(number):
    if number in (1, 50):
        print(number, worker.process_id(), flush=True)

quantized, _ = quantize(float_file, "int8", samples, calibrate=True, progress=progress)
write_whole(target, quantized)
"""


def test_the_worker_ends_with_its_parent(float_file, tmp_path):
    (tmp_path / "float.tflite").write_bytes(float_file)
    caller = [sys.executable, "-c", CALLER, tmp_path / "float.tflite", tmp_path / "int8.tflite", "25"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(caller, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    _, started = done.stdout.split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(started), 0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor SIGINT for a child process")
@pytest.mark.parametrize("kind", ["SIGKILL", "SIGINT"])
def test_the_caller_is_killed(float_file, tmp_path, kind):
    (tmp_path / "float.tflite").write_bytes(float_file)
    target, scratch = tmp_path / "wanted" / "int8.tflite", tmp_path / "scratch"
    target.parent.mkdir()
    scratch.mkdir()
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, tmp_path / "float.tflite", target, "60000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert caller.stdout is not None
        _, started = caller.stdout.readline().split()
        assert caller.stdout.readline().startswith("50 ")
        assert is_running(int(started))
        caller.send_signal(getattr(signal, kind))
        assert caller.wait(WAIT) != 0
    finally:
        caller.kill()
    assert ends(int(started))
    assert list(target.parent.iterdir()) == []
    if kind == "SIGINT":
        assert list(scratch.iterdir()) == []
