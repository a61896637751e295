"""Measures what `benchmark` promises, on this machine: a file against itself, a known ratio, and its own overhead.

    python tools/check_benchmark.py [TRIES]

Prints how often two copies of one file showed "no difference" (at least 19 of 20), how often the interval alone held 1,
the overhead a call for a model of about 20 microseconds (below 5 percent), and the ratio of calling that model twice to
calling it once (2).
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from lstm_toolkit.benchmarking.benchmark import benchmark
from lstm_toolkit.panels.measured import Sizes, converted, lstm_model
from lstm_toolkit.runtime.runner import Runner

SIZES = (Sizes(1, 28, 28, 20), Sizes(1, 50, 32, 64), Sizes(1, 20, 128, 256))


def against_itself(file: bytes, tries: int) -> str:
    """How often a file is found to be no different from itself, in two copies at different places in memory."""
    ratios = [
        benchmark({"one": file, "two": bytes(bytearray(file))}, seed=seed, progress=False).ratio("two")
        for seed in range(tries)
    ]
    same = sum(ratio.verdict.startswith("no difference") for ratio in ratios)
    held = sum(ratio.low <= 1 <= ratio.high for ratio in ratios)
    farthest = max(ratios, key=lambda ratio: abs(np.log(ratio.ratio)))
    return f"no difference {same} of {tries}, the interval held 1 {held} of {tries}, farthest {farthest}"


def twice(file: bytes) -> str:
    """The ratio of two calls to one call of the same interpreter."""
    runner = Runner(file)
    shapes = runner.input_shapes
    once, _ = runner.bound(**{name: np.ones(shape, np.float32) for name, shape in shapes.items()})

    def two_calls() -> None:
        once()
        once()

    return str(benchmark({"once": lambda: once(), "twice": two_calls}, progress=False).ratio("twice"))


if __name__ == "__main__":
    tries = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for number, sizes in enumerate(SIZES):
        file = converted(lstm_model(sizes))
        print(f"{sizes}: {against_itself(file, tries)}", flush=True)
        if number == 0:
            shares = [benchmark(file, seed=seed, progress=False).overhead for seed in range(tries)]
            print(
                f"  overhead: {shares[0]}; in {tries} tries {min(o.share for o in shares):.2%} to "
                f"{max(o.share for o in shares):.2%}"
            )
            print(f"  two calls against one: {twice(file)}", flush=True)
