"""Damaged `.tflite` files through every entry point that reads one."""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import lstm_toolkit
from attacks.children import Attack, Outcome, Tell, limit_memory
from attacks.damage import damaged, whole_files
from lstm_toolkit import cli, micro
from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.gate_pictures.layout import gate_layout
from lstm_toolkit.passes import bidirectional
from lstm_toolkit.passes.loops import fuse
from tests.helpers import fuzz_worker

LIMIT = 5.0
MEMORY = 2**30

EXIT_CODES = {"diagnose": (0, 1, 2, 3)}


def begin(folder: Path) -> Attack:
    """Reads the whole files of `folder` and loads everything."""
    files = whole_files(folder)
    own = Path(tempfile.mkdtemp(dir=folder, prefix="mutants-"))
    calls = entry_points(own, files)
    for number, data in enumerate(files):  # what is loaded late is loaded before memory is limited
        for _, call, every in calls:
            if number % every == 0:
                _refused(call, data)
    limit_memory(MEMORY)

    def attack(seed: int, tell: Tell) -> Outcome:
        data = damaged(files, seed)
        reason = ""
        for name, call, every in calls:
            if seed % every == 0:
                tell(name)
                refusal = _refused(call, data)
                if not refusal.isprintable():
                    return Outcome("wrong", f"a message with characters that cannot be printed: {refusal!r}"[:300])
                reason = reason or refusal
        return Outcome("refused" if reason else "right", reason)

    return attack


def _refused(call: Callable[[bytes], Any], data: bytes) -> str:
    try:
        call(data)
    except LstmToolkitError as error:
        return str(error)
    return ""


def entry_points(folder: Path, files: list[bytes]) -> list[tuple[str, Callable[[bytes], Any], int]]:
    """Name, call, and of how many mutants one goes through it: slow ones take fewer."""
    path = folder / "mutant.tflite"

    def command(*arguments: str) -> Callable[[bytes], None]:
        def call(data: bytes) -> None:
            path.write_bytes(data)
            done = CliRunner().invoke(cli.main, [arguments[0], str(path), *arguments[1:]])
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                raise done.exception
            assert done.exit_code in EXIT_CODES.get(arguments[0], (0, 1, 2)), done.exit_code
            assert done.exit_code not in (1, 2) or len(done.stderr.splitlines()) <= 4, done.stderr

        return call

    def draw(data: bytes) -> None:
        try:
            lstm_toolkit.plot_gates(data).savefig(io.BytesIO(), format="svg")
        finally:
            import matplotlib.pyplot

            matplotlib.pyplot.close("all")

    def second_node(data: bytes) -> None:
        try:
            gate_layout(data, node=1)
        except ValueError as error:  # documented: where there is no such node
            if not str(error).startswith("node must be"):
                raise

    return [
        ("inspect", fuzz_worker.show, 1),
        ("diagnose", fuzz_worker.diagnose, 1),
        ("repair", fuzz_worker.repair, 1),
        ("gate_layout", fuzz_worker.gates, 1),
        ("fuse", fuse.fuse, 1),
        ("merge", bidirectional.merge, 1),
        ("lower, loop", lambda data: lstm_toolkit.lower(data, form="loop"), 1),
        ("lower, unrolled", lambda data: lstm_toolkit.lower(data, form="unrolled"), 2),
        ("gate_layout, node 1", second_node, 2),
        ("micro_report", lambda data: micro.micro_report(data, run=False), 1),
        ("save_c_array", lambda data: micro.save_c_array(data, folder, "model"), 5),
        ("plot_gates", draw, 20),
        ("command inspect", command("inspect"), 5),
        ("command inspect --json", command("inspect", "--json"), 7),
        ("command diagnose", command("diagnose"), 9),
        ("command repair", command("repair", "-o", str(folder / "repaired.tflite")), 5),
        ("command plot", command("plot"), 7),
        ("command export", command("export", "-o", str(folder), "--no-run"), 9),
        ("diagnose, run", lambda data: lstm_toolkit.diagnose(data, target="litert", run=True, time_limit=2), 40),
        ("micro_report, run", lambda data: micro.micro_report(data, run=True, time_limit=4), 40),
    ]
