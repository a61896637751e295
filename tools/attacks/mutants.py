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
from lstm_toolkit.tflite import files
from tests.helpers import fuzz_worker

LIMIT = 5.0
MEMORY = 2**30

EXIT_CODES = {"diagnose": (0, 1, 2, 3)}


HOSTILE = '"; system("x"); // */ ${x} $(x) `x` @{calls}'
"""A name that would be code where a text repeats it as it is."""


def with_hostile_names(data: bytes) -> bytes:
    """A file whose inputs and outputs have such names."""
    model = files.read_model(data)
    for subgraph in model.subgraphs:
        for index in (*subgraph.inputs, *subgraph.outputs):
            subgraph.tensors[index].name = HOSTILE.encode()
    for signature in model.signatureDefs or []:
        for number, entry in enumerate([*signature.inputs, *signature.outputs]):
            entry.name = f"{HOSTILE}{number}".encode()
    return files.write_model(model)


def begin(folder: Path) -> Attack:
    """Reads the whole files of `folder` and loads everything."""
    whole = whole_files(folder)
    own = Path(tempfile.mkdtemp(dir=folder, prefix="mutants-"))
    calls = entry_points(own, whole)
    for number, data in enumerate(whole):  # what is loaded late is loaded before memory is limited
        for _, call, every in calls:
            if number % every == 0:
                _refused(call, data)
    limit_memory(MEMORY)

    def attack(seed: int, tell: Tell) -> Outcome:
        data = damaged(whole, seed)
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


def entry_points(folder: Path, whole: list[bytes]) -> list[tuple[str, Callable[[bytes], Any], int]]:
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

    def project(data: bytes) -> None:
        # A sound file, since one that hangs may take a minute there.
        named = with_hostile_names(whole[len(data) % len(whole)])
        with tempfile.TemporaryDirectory(dir=folder) as own:
            micro.save_project(named, Path(own) / "project", project="generic")
            for each in Path(own).rglob("*"):
                assert each.is_dir() or HOSTILE not in each.read_text(), each.name

    return [
        ("inspect", fuzz_worker.show, 1),
        ("diagnose", fuzz_worker.diagnose, 1),
        ("repair", fuzz_worker.repair, 1),
        ("repair, micro", lambda data: lstm_toolkit.repair(data, target="micro"), 1),
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
        ("save_project", project, 40),
        ("micro_report, run", lambda data: micro.micro_report(data, run=True, time_limit=4), 40),
    ]
