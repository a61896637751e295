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
from pathlib import Path
from typing import Any

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from peer_models import FUSED, ONNX, ONNX_INT8, OURS, OURS_INT8, PEERS, UNROLLED, WHILE, Case, SkippedError

SHAPES = ((28, 28, 20), (100, 32, 128), (50, 64, 256), (20, 128, 512), (1000, 40, 64))
"""Time steps, input size, units."""

GROWTH = {
    "time": [Case(time, 32, 64) for time in (16, 32, 64, 128, 256, 512)],
    "units": [Case(40, 32, units) for units in (32, 64, 128, 256, 512)],
    "batch": [Case(40, 32, 128, batch) for batch in (1, 2, 4, 8, 16)],
}
"""Cases that differ in one size."""

GROWTH_PEERS = (OURS, FUSED, WHILE, ONNX)

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
        call, ratio = result[name].call, result.ratio(name)
        rows[name] |= {"median": call.median, "quartiles": [call.quartile_1, call.quartile_3]}
        rows[name] |= {"best": min(call.rounds)}
        rows[name] |= {"ratio": ratio.ratio, "interval": [ratio.low, ratio.high]}
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
    results = []
    for values in content["cases"]:
        case = Case(*values)
        click.echo(f"  {case}", err=True)
        results.append(measured(case, runs, tuple(content["names"])))
        output.write_text(json.dumps(results))
        gc.collect()


HEADER = "| | fastest round µs | x auto | median µs | quartiles | error | |"


def table(result: dict[str, Any]) -> str:
    """One case in Markdown: a row a peer, and the limits of the machine."""
    case, rows, limit = Case(**result["case"]), result["rows"], result["limit"]
    ours = rows[OURS]["best"]
    lines = [f"### {case}", "", HEADER, "|---" * 7 + "|"]
    for name, row in rows.items():
        if "median" in row:
            first, third = row["quartiles"]
            figures = f"{row['best']:.1f} | {row['best'] / ours:.2f} | {row['median']:.1f} | {first:.1f} to {third:.1f}"
            figures += f" | {row['error']:.0e}"
        else:
            figures = " | | | | "
        lines.append(f"| {name} | {figures} | {row['note']} |")
    limits = {
        f"limit: weights read at {limit['bandwidth']:.0f} GB/s": limit["reading"],
        f"limit: arithmetic at {limit['peak']:.0f} GFLOP/s": limit["arithmetic"],
        "limit: int8 weights read": limit["reading_int8"],
    }
    lines += [f"| {name} | {value:.1f} | {value / ours:.2f} | | | | |" for name, value in limits.items()]
    return "\n".join(lines) + "\n"


def verdicts(results: list[dict[str, Any]]) -> str:
    """What the project aims at, case by case: times of others in those of `auto`, the fastest round of each."""
    header = ["case", "fused op", "best stock form", "ONNX Runtime", "int8: ONNX Runtime / auto", "limit"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for result in results:
        rows, limit = result["rows"], result["limit"]
        least = max(limit["reading"], limit["arithmetic"]) / rows[OURS]["best"]
        figures = [_ratio(rows, FUSED), _ratio(rows, WHILE, UNROLLED), _ratio(rows, ONNX)]
        figures += [_ratio(rows, ONNX_INT8, by=OURS_INT8), f"{least:.2f}"]
        lines.append(f"| {Case(**result['case'])} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _ratio(rows: dict[str, Any], *names: str, by: str = OURS) -> str:
    """The least of some peers' times in those of another; empty where none was measured."""
    found = [rows[name]["best"] for name in names if "best" in rows.get(name, {})]
    return f"{min(found) / rows[by]['best']:.2f}" if found else ""


def slope(sizes: list[int], times: list[float]) -> tuple[float, float]:
    """Exponent and factor of the power law that fits times best, by least squares of the logarithms."""
    exponent, offset = np.polyfit(np.log(sizes), np.log(times), 1)
    return float(exponent), math.exp(offset)


def picture_of_growth(size: str, results: list[dict[str, Any]], path: Path) -> dict[str, float]:
    """Draws how times grow with one size; returns the exponent of each peer."""
    sizes = [result["case"][size] for result in results]
    figure, axes = plt.subplots(figsize=(6.6, 4.4), layout="constrained")
    exponents = {}
    for name, marker in zip(GROWTH_PEERS, "os^D", strict=True):
        measured_sizes = [own for own, result in zip(sizes, results, strict=True) if "best" in result["rows"][name]]
        times = [result["rows"][name]["best"] for result in results if "best" in result["rows"][name]]
        if len(times) > 1:
            exponents[name], factor = slope(measured_sizes, times)
            (line,) = axes.loglog(measured_sizes, times, marker, label=f"{name}: ~ {size}^{exponents[name]:.2f}")
            fitted = factor * np.array(measured_sizes, float) ** exponents[name]
            axes.loglog(measured_sizes, fitted, "-", color=line.get_color(), linewidth=1)
    least = [max(result["limit"]["reading"], result["limit"]["arithmetic"]) for result in results]
    axes.loglog(sizes, least, "k--", linewidth=1, label="limit of the machine")
    first = Case(**results[0]["case"])
    fixed = {"time": first.time, "input": first.input, "units": first.units, "batch": first.batch}
    others = ", ".join(f"{name} {value}" for name, value in fixed.items() if name != size)
    axes.set(xlabel=size, ylabel="µs, fastest round", title=f"{others}, one thread")
    axes.set_xticks(sizes, [str(each) for each in sizes])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return exponents


def picture_of_shapes(results: list[dict[str, Any]], path: Path) -> None:
    """Draws all peers of the plain cases (batch 1, one thread, one direction) as bars of times in those of `auto`."""
    plain = [each for each in results if Case(**each["case"]) in cases(quick=True)]
    names = [name for name in PEERS if any("median" in result["rows"].get(name, {}) for result in plain)]
    figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        found = [result["rows"].get(name, {}).get("best") for result in plain]
        ratios = [own / result["rows"][OURS]["best"] if own else 0 for own, result in zip(found, plain, strict=True)]
        hatch = ("", "//", "..", "xx")[number % 4]
        places = np.arange(len(plain)) + (number - len(names) / 2 + 0.5) * width
        axes.bar(places, ratios, width, label=name, hatch=hatch, edgecolor="black", linewidth=0.4)
    labels = ["{time} x {input}, {units} units".format(**result["case"]) for result in plain]
    axes.set_xticks(np.arange(len(plain)), labels)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(yscale="log", ylabel="time, in those of auto", title="batch 1, one thread, one direction")
    axes.legend(ncols=3, fontsize="small")
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
    picture_of_shapes(results, output / "shapes.png")
    growth, exponents = {}, {}
    for size, own in GROWTH.items():
        growth[size] = in_processes(own, runs, GROWTH_PEERS)
        exponents[size] = picture_of_growth(size, growth[size], output / f"growth_{size}.png")
    figures = {"machine": _machine(), "runs": runs, "cases": results, "growth": growth, "exponents": exponents}
    (output / "peers.json").write_text(json.dumps(figures, indent=1))
    slopes = ["| grows with | " + " | ".join(GROWTH_PEERS) + " |", "|---" * (len(GROWTH_PEERS) + 1) + "|"]
    for size, found in exponents.items():
        values = [f"{found[name]:.2f}" if name in found else "" for name in GROWTH_PEERS]
        slopes.append(f"| {size} | {' | '.join(values)} |")
    parts = [
        f"Measured on {_machine()}; {runs} rounds.\n",
        "## Times of others in those of `auto`\n",
        verdicts(results),
    ]
    parts += ["## Exponents of growth\n", "\n".join(slopes) + "\n", "## All figures\n", *map(table, results)]
    (output / "peers.md").write_text("\n".join(parts))
    click.echo(output / "peers.md")


if __name__ == "__main__":
    main()
