"""Tables and pictures of what `peers.py` measured: `python benchmarks/peers_report.py FOLDER`, which has `peers.json`.

In a row, a time is that of the fastest round, and cold it is the median.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from peer_models import COLUMNS, FUSED, ONNX, ONNX_INT8, OURS, OURS_INT8, PEERS, UNROLLED, WHILE, Case

GROWTH_PEERS = (*OURS.values(), FUSED, WHILE, ONNX)

TITLES = {"hot": "calls in a row", "cold": "calls between other work"}

LIMITS = {"weights read": "reading", "arithmetic": "arithmetic", "int8 weights read": "reading_int8"}

RATIOS = (
    ("fused op / auto", (FUSED,), OURS),
    ("best stock form / auto", (WHILE, UNROLLED), OURS),
    ("ONNX Runtime / auto", (ONNX,), OURS),
    ("ONNX Runtime int8 / auto int8", (ONNX_INT8,), OURS_INT8),
)
"""Peers in times of `auto`: a title, the peers of which the best counts, and which `auto`."""

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
    """What the project aims at, case by case: times of others in those of `auto`."""
    header = ["case", *(title for title, *_ in RATIOS), *(["limit / auto"] if column == "hot" else [])]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for result in results:
        rows, limit = result["rows"], result["limit"]
        figures = [_ratio(rows, column, *others, by=by) for _, others, by in RATIOS]
        if column == "hot":
            figures.append(f"{max(limit['reading'], limit['arithmetic']) / rows[OURS[column]][column]:.2f}")
        lines.append(f"| {Case(**result['case'])} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _ratio(rows: dict[str, Any], column: str, *names: str, by: Mapping[str, str]) -> str:
    """The least of some peers' times in those of `auto` for this column; empty where none was measured."""
    found = [rows[name][column] for name in names if column in rows.get(name, {})]
    return f"{min(found) / rows[by[column]][column]:.2f}" if found else ""


def summary(results: list[dict[str, Any]], column: str) -> str:
    """The plain cases side by side: a row a peer, microseconds, and how many times as long as `auto` others take."""
    plain = [each for each in results if is_plain(Case(**each["case"]))]
    sizes = [Case(**each["case"]) for each in plain]
    lines = [f"| µs, {TITLES[column]} | " + " | ".join(f"{c.time} x {c.input}, {c.units}" for c in sizes) + " |"]
    lines.append("|---" * (len(plain) + 1) + "|")
    rows = {name: [each["rows"].get(name, {}).get(column) for each in plain] for name in _shown(PEERS, column)}
    if column == "hot":
        rows |= {f"limit: {name}": [each["limit"][key] for each in plain] for name, key in LIMITS.items()}
    for name, times in rows.items():
        lines.append(f"| {name} | " + " | ".join("" if each is None else _figure(each) for each in times) + " |")
    for name, others, by in RATIOS:
        ratios = [_ratio(each["rows"], column, *others, by=by) for each in plain]
        lines.append(f"| {name} | {' | '.join(ratios)} |")
    return "\n".join(lines) + "\n"


def _figure(microseconds: float) -> str:
    return f"{microseconds:.{1 if microseconds < 100 else 0}f}"  # three digits, or all before the point


def is_plain(case: Case) -> bool:
    """Whether a case has one sequence, one thread and one direction."""
    return (case.batch, case.threads, case.directions) == (1, 1, 1)


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
    least = [max(result["limit"]["reading"], result["limit"]["arithmetic"]) for result in results]
    both[0].loglog(sizes, least, "k--", linewidth=1, label="limit of the machine")
    first = Case(**results[0]["case"])
    fixed = {"time": first.time, "input": first.input, "units": first.units, "batch": first.batch}
    others = ", ".join(f"{name} {value}" for name, value in fixed.items() if name != size)
    both[0].set_ylabel("µs")
    figure.suptitle(f"{others}, one thread")
    for axes in both:
        axes.set_xticks(sizes, [str(each) for each in sizes])
        axes.minorticks_off()
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return exponents


def _shown(names: Iterable[str], column: str) -> list[str]:
    """Without what `auto` chose for the other column."""
    return [name for name in names if column in name or not name.startswith("auto")]


def picture_of_shapes(results: list[dict[str, Any]], path: Path) -> None:
    """Draws all peers of the plain cases (batch 1, one thread, one direction) as bars of times in those of `auto`."""
    plain = [each for each in results if is_plain(Case(**each["case"]))]
    measured_names = [name for name in PEERS if any("hot" in result["rows"].get(name, {}) for result in plain)]
    figure, both = plt.subplots(2, 1, figsize=(11, 7), layout="constrained", sharex=True)
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
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    labels = ["{time} x {input}, {units} units".format(**result["case"]) for result in plain]
    both[1].set_xticks(np.arange(len(plain)), labels)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


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


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
def main(folder: Path) -> None:
    report(json.loads((folder / "peers.json").read_text()), folder)


if __name__ == "__main__":
    main()
