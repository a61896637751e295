"""What a call of `Runner` costs beyond set, invoke and get by hand, in microseconds.

    python benchmarks/runner_overhead.py

Three ways to call one interpreter are timed in turn, in loops of a millisecond: by hand, `runner(x)`, and
`runner(name=x)`. An overhead is the median over the rounds of the difference to the loop by hand beside it.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable, Iterator
from typing import Any

import click
import keras
import numpy as np
from tabulate import tabulate

from lstm_toolkit import Runner, convert
from lstm_toolkit.benchmarking.benchmark import bare_loop
from lstm_toolkit.benchmarking.timings import median_interval

SHAPES = ((1, 2, 2), (28, 28, 20))
"""Time steps, input size and units; the whole sequence is returned."""


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(6), default=400, show_default=True)
def main(rounds: int) -> None:
    print(tabulate(rows(rounds), ("T x input, units", "runtime", "by hand", "x, more", "name=x, more"), floatfmt=".2f"))


def rows(rounds: int) -> Iterator[tuple[Any, ...]]:
    """A row a file: its shape, its runtime, microseconds by hand, and what both ways of a call add, with intervals."""
    for steps, size, units in SHAPES:
        model = keras.Sequential(
            [keras.Input((steps, size), batch_size=1), keras.layers.LSTM(units, return_sequences=True)]
        )
        for runtime, lowering in (("interpreter", "fused"), ("compiled", "unrolled")):
            runner = Runner(convert(model, lowering=lowering).tflite, runtime=runtime)
            by_hand, *added = overheads(runner, rounds)
            yield f"{steps} x {size}, {units}", runtime, by_hand, *added


def overheads(runner: Runner, rounds: int) -> tuple[float, str, str]:
    """Microseconds by hand of a runner with one input and one output, and what `runner(x)` and a name add."""
    ((name, shape),) = runner.input_shapes.items()
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    _, by_hand = runner.bound(**{name: x})
    ways: list[Callable[[], Any]] = [by_hand, lambda: runner(x), lambda: runner(**{name: x})]
    count = max(1, int(1000 / bare_loop(by_hand, 100)))
    random = np.random.default_rng(0)
    times = np.zeros((rounds, len(ways)))
    for row in times:
        for number in random.permutation(len(ways)):
            row[number] = bare_loop(ways[number], count)
    added = ["{:.2f} [{:.2f}, {:.2f}]".format(*median_interval(times[:, number] - times[:, 0])) for number in (1, 2)]
    return float(np.median(times[:, 0])), added[0], added[1]


if __name__ == "__main__":
    main()
