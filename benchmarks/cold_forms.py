"""Times the forms of one LSTM, calls in a row and between other work: `python benchmarks/cold_forms.py`.

One thread, batch 1, float32, the whole sequence out. ONNX Runtime is a row where it is installed. "auto" is what
`lowering="auto"` chose by its own times.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import click
from peer_models import Case, keras_model, onnx_runtime
from tabulate import tabulate

from lstm_toolkit import benchmark, convert
from lstm_toolkit.benchmarking.timings import ModelTiming

SHAPES = ((28, 28, 20), (100, 32, 128), (300, 40, 64), (600, 40, 64), (50, 64, 256))
"""Time steps, input size, units."""


@click.command(help=__doc__)
@click.option("--runs", type=click.IntRange(6), default=30, show_default=True, help="Rounds of each shape.")
def main(runs: int) -> None:
    for shape in SHAPES:
        print(of_shape(Case(*shape), runs), flush=True)


def of_shape(case: Case, runs: int) -> str:
    """A table: a row a form, medians in microseconds, and how many times as long as the best of our forms."""
    model = keras_model(case)
    models = {"fused": convert(model).runner()}
    for lowering in ("unrolled", "loop"):
        conversion = convert(model, lowering=lowering)
        for runtime in ("interpreter", "compiled"):
            models[f"{lowering}, {runtime}"] = conversion.runner(runtime=runtime)
    automatic = {caches: convert(model, lowering="auto", caches=caches) for caches in ("hot", "cold")}
    models |= {f"auto, {caches}": conversion.runner() for caches, conversion in automatic.items()}
    subjects: dict[str, Any] = dict(models)
    try:
        subjects["ONNX Runtime"] = onnx_runtime(case)
    except ImportError as missing:
        print(f"{missing.name} is not installed")
    found = benchmark(subjects, inputs={**dict.fromkeys(models, case.inputs), "ONNX Runtime": {}}, runs=runs)
    best = [min(times(found[name])[column] for name in models) for column in (0, 1)]
    rows = []
    for row in found.models:
        hot, cold = times(row)
        rows.append((row.name, hot, hot / best[0], cold, cold / best[1]))
    choices = {caches: each.report.automatic for caches, each in automatic.items()}
    chosen = "; ".join(f"{caches}: {choice.chosen}" for caches, choice in choices.items() if choice)
    header = ("", "µs in a row", "x best", "µs cold", "x best")
    return f"\n{case}\nauto chose {chosen}\n" + tabulate(rows, header, floatfmt=("", ".1f", ".2f", ".1f", ".2f"))


def times(row: ModelTiming) -> tuple[float, float]:
    """Medians in a row and cold, with copies."""
    assert row.cold is not None
    return row.call.median, row.cold.median


if __name__ == "__main__":
    main()
