"""Ends commands and Python programs that write files, at random moments, by SIGKILL, SIGINT and SIGTERM.

Whatever the moment: the file that stood at the target is there, or the whole new one; nothing else is left beside it,
nor in the folder for temporary files once the program has run again; no process is left; and Control-C, which a
terminal sends to all processes of a command, is one line and the exit code 130.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from attacks.children import Attack, Outcome, Tell
from attacks.source import one_of

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
ENDING = 20.0
"""Seconds that a program may take to end after a signal."""
OWN_START = 0.08
"""Seconds of processor time after which Python has started, and what the program does counts."""
OLD = b"what was here before"

WRITER = """
import sys
from lstm_toolkit.micro import save_c_array
from lstm_toolkit.tflite import files
data = files.read_bytes(sys.argv[1])
for _ in range(40):
    files.write_whole(sys.argv[2] + "/out.tflite", data * 200)
    save_c_array(data, sys.argv[2], "out")
files.write_whole(sys.argv[2] + "/out.tflite", data)
"""


def programs(whole: Path, out: Path) -> dict[str, tuple[list[str], float]]:
    """The programs that are ended, and about how many seconds each takes."""
    command = [sys.executable, "-m", "lstm_toolkit"]
    file, stock, target = str(whole / "stacked.tflite"), str(whole / "stock.tflite"), str(out / "out.tflite")
    return {
        "convert": ([*command, "convert", str(whole / "stacked.keras"), "-o", target], 9.0),
        "convert, auto": ([*command, "convert", str(whole / "both.h5"), "-o", target, "--lowering", "auto"], 9.0),
        "repair": ([*command, "repair", stock, "-o", target], 0.8),
        "export": ([*command, "export", file, "-o", str(out), "--name", "out"], 1.5),
        "plot": ([*command, "plot", file, "-o", str(out / "out.svg")], 1.5),
        "bench": ([*command, "bench", file, "--csv", str(out / "out.csv"), "--runs", "20"], 2.0),
        "writer": ([sys.executable, "-c", WRITER, file, str(out)], 1.5),
    }


ENDS: dict[str, Callable[[bytes], bool]] = {
    "out.tflite": lambda data: data[4:8] == b"TFL3",
    "out.svg": lambda data: data.rstrip().endswith(b"</svg>"),
    "out.h": lambda data: data.rstrip().endswith(b"#endif"),
    "out.cc": lambda data: data.rstrip().endswith(b";"),
    "out.csv": lambda data: data.endswith(b"\n"),
}


def begin(folder: Path) -> Attack:
    """Measures nothing; each case starts programs of its own."""

    def attack(seed: int, tell: Tell) -> Outcome:
        own = Path(tempfile.mkdtemp(dir=folder, prefix="kill-"))
        try:
            return _attack(np.random.default_rng((seed, 5)), own, folder / "whole", tell)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    return attack


def _attack(random: np.random.Generator, own: Path, whole: Path, tell: Tell) -> Outcome:
    out, temporary = own / "out", own / "tmp"
    out.mkdir()
    temporary.mkdir()
    every = programs(whole, out)
    name = one_of(random, "convert", "convert, auto", *list(every)[2:], "repair", "plot", "writer")
    program, seconds = every[name]
    number, moment = one_of(random, *SIGNALS), float(random.random()) * seconds
    if random.random() < 0.5:
        for each in ENDS:
            (out / each).write_bytes(OLD)
    before = {path.name for path in out.iterdir()}
    tell(f"{name}, {number.name} after {moment:.2f} s")
    environment = os.environ | {"TMPDIR": str(temporary)}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            program, stdout=subprocess.DEVNULL, stderr=said, env=environment, start_new_session=True
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        while number == signal.SIGINT and process.poll() is None and processor_time(process.pid) < OWN_START:
            time.sleep(0.01)
        was_running = process.poll() is None
        if was_running:
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        try:
            code = process.wait(ENDING)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Outcome("hang", f"it does not end in {ENDING:g} seconds")
        said.seek(0)
        text = said.read().decode(errors="replace")
    problem = _of_ending(name, number, code if was_running else None, text) or _of_survivors(process.pid)
    problem = problem or _of_files(out, before, number, at_once=True)
    if problem:
        return Outcome("wrong", problem)
    tell(f"{name} once more")
    left = {path.name for path in temporary.iterdir()}
    again = subprocess.run(program, capture_output=True, env=environment, timeout=100)
    if again.returncode:
        return Outcome("wrong", f"run again, it fails: {again.stderr.decode(errors='replace')[-300:]}")
    problem = _of_files(out, before | set(ENDS), number, at_once=False) or _of_temporary(temporary, left)
    return (
        Outcome("wrong", f"after {number.name}: {problem}") if problem else Outcome("right", f"{number.name}: {code}")
    )


def processor_time(process: int) -> float:
    """Seconds of processor time that a process has taken."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return np.inf


def _of_ending(name: str, number: int, code: int | None, text: str) -> str:
    if code is None or name == "writer":
        return ""
    if number == signal.SIGINT and code not in (0, 130):
        return f"Control-C gave exit code {code}: {text[-300:]!r}"
    if "Traceback" in text:
        return f"{signal.Signals(number).name} showed a traceback: {text[-300:]!r}"
    lines = [line for line in text.splitlines() if line.strip() and not line.endswith(" ...")]
    if number == signal.SIGINT and code == 130 and len(lines) != 1:
        return f"Control-C gave {len(lines)} lines: {text[-300:]!r}"
    return ""


def _of_survivors(session: int) -> str:
    end = time.monotonic() + 5.0
    while found := in_session(session):
        if time.monotonic() > end:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(session, signal.SIGKILL)
            return f"processes live on: {found}"
        time.sleep(0.05)
    return ""


def in_session(session: int) -> list[str]:
    """What runs in a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((path / "cmdline").read_text().replace("\0", " ")[:100])
    return found


def _of_files(out: Path, before: set[str], number: int, *, at_once: bool) -> str:
    for path in out.iterdir():
        if path.name in ENDS:
            data = path.read_bytes()
            if data != OLD and not ENDS[path.name](data):
                return f"{path.name} is half written: {len(data)} bytes"
        elif not at_once or number != signal.SIGKILL:
            return f"{path.name} is left beside the target"
    missing = before - {path.name for path in out.iterdir()} if at_once else set()
    return f"{sorted(missing)} are gone" if missing else ""


def _of_temporary(temporary: Path, before: set[str]) -> str:
    left = sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*"))
    return f"left in TMPDIR: {left[:5]}, and there was {before} after the signal" if left else ""
