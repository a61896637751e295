"""Times one LSTM in every library on this machine: `python benchmarks/peers.py --output FOLDER [--quick]`.

Writes `peers.md` (tables), `peers.json` (all figures) and pictures. See README.md beside this file.
"""

import dataclasses
import gc
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from peer_models import COLUMNS, FUSED, ONNX, ONNX_INT8, OURS, OURS_INT8, PEERS, UNROLLED, WHILE, Case, SkippedError

SHAPES = ((28, 28, 20), (100, 32, 128), (50, 64, 256), (20, 128, 512), (1000, 40, 64))
"""Time steps, input size, units."""

GROWTH = {
    "time": [Case(time, 32, 64) for time in (16, 32, 64, 128, 256, 512)],
    "units": [Case(40, 32, units) for units in (32, 64, 128, 256, 512)],
    "batch": [Case(40, 32, 128, batch) for batch in (1, 2, 4, 8, 16)],
}
"""Cases that differ in one size."""

GROWTH_PEERS = (*OURS.values(), FUSED, WHILE, ONNX)

TITLES = {"hot": "calls in a row", "cold": "calls between other work"}

THREADS = [field.name for field in dataclasses.fields(Case)].index("threads")

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
    if hasattr(os, "sched_setaffinity"):
        # A case on one thread has one processor, which `lowering="auto"` sees too.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: content["cases"][0][THREADS]])
    results = []
    for values in content["cases"]:
        case = Case(*values)
        click.echo(f"  {case}", err=True)
        results.append(measured(case, runs, tuple(content["names"])))
        output.write_text(json.dumps(results))
        gc.collect()


HEADER = "| | µs in a row | x auto | quartiles | µs cold | x auto | quartiles | error | |"


def table(result: dict[str, Any]) -> str:
    """One case in Markdown: a row a peer, and the limits of the machine."""
    case, rows, limit = Case(**result["case"]), result["rows"], result["limit"]
    lines = [f"### {case}", "", HEADER, "|---" * 9 + "|"]
    for name, row in rows.items():
        figures = [""] * 7
        if "hot" in row:
            figures = []
            for column, quartiles in zip(COLUMNS, ("quartiles", "cold quartiles"), strict=True):
                first, third = row[quartiles]
                times = row[column] / rows[OURS[column]][column]
                figures += [f"{row[column]:.1f}", f"{times:.2f}", f"{first:.1f} to {third:.1f}"]
            figures.append(f"{row['error']:.0e}")
        lines.append(f"| {name} | {' | '.join(figures)} | {row['note']} |")
    limits = {
        f"limit: weights read at {limit['bandwidth']:.0f} GB/s": limit["reading"],
        f"limit: arithmetic at {limit['peak']:.0f} GFLOP/s": limit["arithmetic"],
        "limit: int8 weights read": limit["reading_int8"],
    }
    ours = rows[OURS["hot"]]["hot"]
    lines += [f"| {name} | {value:.1f} | {value / ours:.2f} | | | | | | |" for name, value in limits.items()]
    return "\n".join(lines) + "\n"


def verdicts(results: list[dict[str, Any]], column: str) -> str:
    """What the project aims at, case by case: times of others in those of `auto`.

    In a row these are fastest rounds, and cold they are medians.
    """
    header = ["case", "fused op", "best stock form", "ONNX Runtime", "int8: ONNX Runtime / auto"]
    header += ["limit"] * (column == "hot")
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for result in results:
        rows, limit = result["rows"], result["limit"]
        figures = [_ratio(rows, column, *names) for names in ((FUSED,), (WHILE, UNROLLED), (ONNX,))]
        figures.append(_ratio(rows, column, ONNX_INT8, by=OURS_INT8))
        if column == "hot":
            figures.append(f"{max(limit['reading'], limit['arithmetic']) / rows[OURS[column]][column]:.2f}")
        lines.append(f"| {Case(**result['case'])} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _ratio(rows: dict[str, Any], column: str, *names: str, by: Mapping[str, str] = OURS) -> str:
    """The least of some peers' times in those of `auto` for this column; empty where none was measured."""
    found = [rows[name][column] for name in names if column in rows.get(name, {})]
    return f"{min(found) / rows[by[column]][column]:.2f}" if found else ""


def slope(sizes: list[int], times: list[float]) -> tuple[float, float]:
    """Exponent and factor of the power law that fits times best, by least squares of the logarithms."""
    exponent, offset = np.polyfit(np.log(sizes), np.log(times), 1)
    return float(exponent), math.exp(offset)


def picture_of_growth(size: str, results: list[dict[str, Any]], path: Path) -> dict[str, dict[str, float]]:
    """Draws how times grow with one size, in a row and cold; returns the exponent of each peer in each column."""
    sizes = [result["case"][size] for result in results]
    figure, both = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", sharey=True)
    exponents: dict[str, dict[str, float]] = {}
    for axes, column in zip(both, COLUMNS, strict=True):
        exponents[column] = {}
        for name, marker in zip(_shown(GROWTH_PEERS, column), "os^D", strict=True):
            rows = zip(sizes, (result["rows"].get(name, {}) for result in results), strict=True)
            found = {own: row[column] for own, row in rows if column in row}
            if len(found) > 1:
                exponent, factor = slope(list(found), list(found.values()))
                exponents[column][name] = exponent
                label = f"{name}: ~ {size}^{exponent:.2f}"
                (line,) = axes.loglog(list(found), list(found.values()), marker, label=label)
                fitted = factor * np.array(list(found), float) ** exponent
                axes.loglog(list(found), fitted, "-", color=line.get_color(), linewidth=1)
        axes.set(xlabel=size, title=TITLES[column])
        axes.set_xticks(sizes, [str(each) for each in sizes])
        axes.minorticks_off()
    least = [max(result["limit"]["reading"], result["limit"]["arithmetic"]) for result in results]
    both[0].loglog(sizes, least, "k--", linewidth=1, label="limit of the machine")
    first = Case(**results[0]["case"])
    fixed = {"time": first.time, "input": first.input, "units": first.units, "batch": first.batch}
    others = ", ".join(f"{name} {value}" for name, value in fixed.items() if name != size)
    both[0].set_ylabel("µs")
    figure.suptitle(f"{others}, one thread")
    for axes in both:
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return exponents


def _shown(names: Iterable[str], column: str) -> list[str]:
    """Without what `auto` chose for the other column."""
    return [name for name in names if column in name or not name.startswith("auto")]


def picture_of_shapes(results: list[dict[str, Any]], path: Path) -> None:
    """Draws all peers of the plain cases (batch 1, one thread, one direction) as bars of times in those of `auto`."""
    plain = [each for each in results if Case(**each["case"]) in cases(quick=True)]
    measured_names = [name for name in PEERS if any("hot" in result["rows"].get(name, {}) for result in plain)]
    figure, both = plt.subplots(2, 1, figsize=(9, 8), layout="constrained", sharex=True)
    for axes, column in zip(both, COLUMNS, strict=True):
        names = _shown(measured_names, column)
        width = 0.8 / len(names)
        for number, name in enumerate(names):
            rows = [result["rows"] for result in plain]
            ratios = [each.get(name, {}).get(column, 0) / each[OURS[column]][column] for each in rows]
            places = np.arange(len(plain)) + (number - len(names) / 2 + 0.5) * width
            hatch = ("", "//", "..", "xx")[number % 4]
            axes.bar(places, ratios, width, label=name, hatch=hatch, edgecolor="black", linewidth=0.4)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set(yscale="log", ylabel="time, in those of auto", title=f"{TITLES[column]}: batch 1, one thread")
        axes.legend(ncols=3, fontsize="small")
    labels = ["{time} x {input}, {units} units".format(**result["case"]) for result in plain]
    both[1].set_xticks(np.arange(len(plain)), labels)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"


def report(figures: dict[str, Any], output: Path) -> None:
    """Writes the tables and the pictures of what `peers.json` holds."""
    results = figures["cases"]
    picture_of_shapes(results, output / "shapes.png")
    slopes = ["| grows with | " + " | ".join(GROWTH_PEERS) + " |", "|---" * (len(GROWTH_PEERS) + 1) + "|"]
    for size, grown in figures["growth"].items():
        for column, found in picture_of_growth(size, grown, output / f"growth_{size}.png").items():
            values = [f"{found[name]:.2f}" if name in found else "" for name in GROWTH_PEERS]
            slopes.append(f"| {size}, {TITLES[column]} | {' | '.join(values)} |")
    parts = [f"Measured on {figures['machine']}; {figures['runs']} rounds.\n"]
    for column in COLUMNS:
        parts += [f"## Times of others in those of `auto`: {TITLES[column]}\n", verdicts(results, column)]
    parts += ["## Exponents of growth\n", "\n".join(slopes) + "\n", "## All figures\n", *map(table, results)]
    (output / "peers.md").write_text("\n".join(parts))


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
