"""Times one LSTM in every library on this machine: `python benchmarks/peers.py --output FOLDER [--quick]`.

Writes `peers.md` (tables), `peers.json` (all figures) and pictures. See README.md beside this file.
"""

import dataclasses
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from peer_models import PEERS, Case, SkippedError
from peers_report import GROWTH_PEERS, report

SHAPES = ((28, 28, 20), (100, 32, 128), (50, 64, 256), (20, 128, 512), (1000, 40, 64))
"""Time steps, input size, units."""

GROWTH = {
    "time": [Case(time, 32, 64) for time in (16, 32, 64, 128, 256, 512)],
    "units": [Case(40, 32, units) for units in (32, 64, 128, 256, 512)],
    "batch": [Case(40, 32, 128, batch) for batch in (1, 2, 4, 8, 16)],
}
"""Cases that differ in one size."""

ENVIRONMENT = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
"""Variables that say how many threads a library may use; they count when it is loaded."""


def cases(quick: bool) -> list[Case]:
    """The cases of the tables: all shapes on their own, and with a batch, two threads and two directions."""
    variants = [(1, 1, 1)] if quick else [(b, t, d) for t in (1, 2) for d in (1, 2) for b in (1, 8)]
    return [Case(*shape, *variant) for variant in variants for shape in SHAPES]


def measured(case: Case, runs: int, names: tuple[str, ...]) -> dict[str, Any]:
    """Builds the peers of a case, compares their first outputs with Keras, and times them in turn."""
    from limits import limit
    from peer_models import keras_itself

    from lstm_toolkit import benchmark

    expected = keras_itself(case)()
    rows: dict[str, dict[str, Any]] = {}
    calls = {}
    for name in names:
        try:
            calls[name] = PEERS[name](case)
            error = float(np.abs(calls[name]() - expected).max() / np.abs(expected).max())
            rows[name] = {"error": error, "note": getattr(calls[name], "note", "")}
        except ImportError as missing:
            rows[name] = {"note": f"not installed ({missing.name})"}
        except SkippedError as skipped:
            rows[name] = {"note": str(skipped)}
    result = benchmark(calls, runs=runs, warmup=3, baseline=next(iter(calls)), progress=False)
    for name in calls:
        call, cold = result[name].call, result[name].cold
        assert cold is not None
        rows[name] |= {"hot": min(call.rounds), "cold": cold.median}
        rows[name] |= {"median": call.median, "quartiles": [call.quartile_1, call.quartile_3]}
        rows[name] |= {"cold quartiles": [cold.quartile_1, cold.quartile_3]}
    return {"case": dataclasses.asdict(case), "rows": rows, "limit": dataclasses.asdict(limit(case))}


def in_processes(todo: list[Case], runs: int, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Measures cases in a process for each number of threads, which libraries only take when they are loaded."""
    found: dict[Case, dict[str, Any]] = {}
    for threads in sorted({case.threads for case in todo}):
        own = [case for case in todo if case.threads == threads]
        with tempfile.TemporaryDirectory() as folder:
            task, output = Path(folder, "task.json"), Path(folder, "output.json")
            task.write_text(json.dumps({"cases": [dataclasses.astuple(case) for case in own], "names": names}))
            environment = os.environ | dict.fromkeys(ENVIRONMENT, str(threads))
            environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
            command = [sys.executable, __file__, "--worker", str(task), "--output", str(output), "--runs", str(runs)]
            subprocess.run(command, env=environment, check=True)
            found |= dict(zip(own, json.loads(output.read_text()), strict=True))
    return [found[case] for case in todo]


def _work(task: Path, output: Path, runs: int) -> None:
    content = json.loads(task.read_text())
    todo = [Case(*values) for values in content["cases"]]
    if hasattr(os, "sched_setaffinity"):
        # A case on one thread has one processor, which `lowering="auto"` sees too.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: todo[0].threads])
    results = []
    for case in todo:
        click.echo(f"  {case}", err=True)
        results.append(measured(case, runs, tuple(content["names"])))
        output.write_text(json.dumps(results))
        gc.collect()


def _machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for tables and pictures.")
@click.option("--quick", is_flag=True, help="Only batch 1, one thread, one direction, and fewer rounds.")
@click.option("--runs", type=click.IntRange(min=1), help="Rounds of each case; 30, and 10 with --quick.")
@click.option("--worker", type=click.Path(path_type=Path), hidden=True)
def main(output: Path, quick: bool, runs: int | None, worker: Path | None) -> None:
    """Times one LSTM in every library on this machine, and writes tables and pictures."""
    runs = runs or (10 if quick else 30)
    if worker is not None:
        _work(worker, output, runs)
        return
    output.mkdir(parents=True, exist_ok=True)
    results = in_processes(cases(quick), runs, tuple(PEERS))
    growth = {size: in_processes(own, runs, GROWTH_PEERS) for size, own in GROWTH.items()}
    figures = {"machine": _machine(), "runs": runs, "cases": results, "growth": growth}
    (output / "peers.json").write_text(json.dumps(figures, indent=1))
    report(figures, output)
    click.echo(output / "peers.md")


if __name__ == "__main__":
    main()
