"""Times loops with several numbers of steps a turn: `python benchmarks/loop_turns.py`.

One thread, batch 1, float32. The interpreter packs a copy of the recurrent weights for each step of a turn,
`CompiledModel` one for all.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
from peer_models import Case, keras_model
from tabulate import tabulate

from lstm_toolkit import Runner, benchmark, convert, lower

SHAPES = ((300, 40, 64), (100, 32, 96), (100, 32, 128), (100, 64, 192), (50, 64, 256), (20, 128, 512))
"""Time steps, input size, units."""

STEPS = (1, 2, 5, 10)
RUNTIMES = ("interpreter", "compiled")


@click.command(help=__doc__)
@click.option("--runs", type=click.IntRange(6), default=20, show_default=True, help="Rounds of each shape.")
def main(runs: int) -> None:
    rows = [(*shape, runtime, *times) for shape in SHAPES for runtime, times in of_shape(Case(*shape), runs).items()]
    header = ("steps", "inputs", "units", "runtime", *(f"{count} a turn" for count in STEPS))
    print("Microseconds in a row, and between other work:\n" + tabulate(rows, header))


def of_shape(case: Case, runs: int) -> dict[str, list[str]]:
    """For each runtime the times of all numbers of steps a turn, in a row and cold."""
    fused = convert(keras_model(case)).tflite
    files = {count: lower(fused, form="loop", steps_per_turn=count) for count in STEPS}
    runners = {
        f"{runtime} {count}": Runner(file, runtime=runtime) for count, file in files.items() for runtime in RUNTIMES
    }
    found = benchmark(runners, inputs=dict.fromkeys(runners, case.inputs), runs=runs)
    times = {row.name: f"{row.call.median:.0f}, {row.cold.median:.0f}" for row in found.models if row.cold is not None}
    return {runtime: [times[f"{runtime} {count}"] for count in STEPS] for runtime in RUNTIMES}


if __name__ == "__main__":
    main()
