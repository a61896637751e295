"""What makes a form cold, by what each part adds to a call between other work: `python benchmarks/cold_parts.py`.

One thread, batch 1, float32. "More" is what a call takes longer between other work than in a row: what it reads then
is no longer in the caches.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable, Iterator
from typing import Any

import click
import keras
import numpy as np
import tensorflow as tf
from peer_models import Case, keras_model, onnx_runtime
from tabulate import tabulate

from lstm_toolkit import Runner, benchmark, convert, lower
from lstm_toolkit.stock.converter import run_converter

INPUT = 32
SHORT, LONG, TURN = 10, 100, 10
"""Steps of both sequences, and of a turn of the loop."""


@click.command(help=__doc__)
@click.option("--units", type=click.IntRange(1), default=64, show_default=True)
@click.option("--runs", type=click.IntRange(6), default=30, show_default=True, help="Rounds.")
def main(units: int, runs: int) -> None:
    found = benchmark(dict(calls(units)), runs=runs)
    times = {row.name: (row.call.median, row.cold.median) for row in found.models if row.cold is not None}
    rows = [(name, hot, cold, cold - hot) for name, (hot, cold) in times.items()]
    print(tabulate(rows, ("", "µs in a row", "µs cold", "more"), floatfmt=".1f"))
    more = {name: cold - hot for name, (hot, cold) in times.items()}
    added = (more[f"unrolled, {LONG} steps"] - more[f"unrolled, {SHORT} steps"]) / (LONG - SHORT)
    print(f"a step more, unrolled: {added:.2f} µs more; a loop: {more[LOOP] - more[f'unrolled, {SHORT} steps']:.0f}")


LOOP = f"loop, {2 * TURN} steps"


def calls(units: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The parts by name, each as a function without arguments."""
    for runtime in ("interpreter", "compiled"):
        yield f"one op, {runtime}", called(plain(keras.layers.ReLU(), units), (1, units), runtime)
    weights = plain(keras.layers.Dense(4 * units, use_bias=False), units)
    yield f"{16 * units**2 / 1000:.0f} kB of weights", called(weights, (1, units), "compiled")
    fused = {
        steps: convert(keras_model(Case(steps, INPUT, units)), verify=False).tflite for steps in (SHORT, 2 * TURN, LONG)
    }
    for steps in (SHORT, LONG):
        shape = (1, steps, INPUT)
        yield f"fused, {steps} steps", called(fused[steps], shape, "interpreter")
        yield f"unrolled, {steps} steps", called(lower(fused[steps]), shape, "compiled")
        yield f"ONNX Runtime, {steps} steps", onnx_runtime(Case(steps, INPUT, units))
    for steps in (2 * TURN, LONG):
        loop = lower(fused[steps], form="loop", steps_per_turn=TURN)
        yield f"loop, {steps} steps", called(loop, (1, steps, INPUT), "compiled")


def plain(layer: keras.layers.Layer, size: int) -> bytes:
    """The file of one layer on a vector."""
    model = keras.Sequential([keras.Input((size,), batch_size=1), layer])
    return run_converter(tf.lite.TFLiteConverter.from_keras_model(model))


def called(tflite: bytes, shape: tuple[int, ...], runtime: str) -> Callable[[], Any]:
    runner, x = Runner(tflite, runtime=runtime), np.ones(shape, np.float32)
    return lambda: runner(x)


if __name__ == "__main__":
    main()
