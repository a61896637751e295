"""Times conversions with two checkouts of the project, side by side.

    python tools/time_conversions.py OTHER_CHECKOUT [--rounds 8]

One process for each checkout (the one that this file lies in, and the other one) is kept alive. In each round both do
the same task, one after the other, so that a change of the machine's speed hits both alike:

- quickstart: `convert`, with `verify`, of the README's model: Input((28, 28)), LSTM(64), Dense(10);
- deep: `convert`, with verify=False, of 40 LSTM layers of 16 units on 20 steps;
- lower: `lower` of the file of the deep model as a loop;
- import: `import lstm_toolkit`, in a fresh Python for each time.

A first round is not counted: it loads TensorFlow and fills caches. The program prints the median seconds of each
checkout, and the ratio here to there: the median over the rounds with both quartiles. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

IMPORT = (
    "import time; start = time.perf_counter(); import lstm_toolkit; "
    "print(time.perf_counter() - start, lstm_toolkit.__file__)"
)


# One checkout


def quickstart_model() -> Any:
    """The model of the README, with random weights."""
    import keras

    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((28, 28)), keras.layers.LSTM(64), keras.layers.Dense(10)])


def deep_model() -> Any:
    """40 LSTM layers on top of each other."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.LSTM(16, return_sequences=True) for _ in range(40)]
    return keras.Sequential([keras.Input((20, 16)), *layers])


def tasks() -> dict[str, Callable[[], Any]]:
    """What is timed, by name; models are made before."""
    import lstm_toolkit

    quickstart, deep = quickstart_model(), deep_model()
    file = lstm_toolkit.convert(deep, verify=False).tflite
    return {
        "quickstart": lambda: lstm_toolkit.convert(quickstart),
        "deep": lambda: lstm_toolkit.convert(deep, verify=False),
        "lower": lambda: lstm_toolkit.lower(file, form="loop"),
    }


def serve(checkout: Path) -> None:
    """Reads the name of a task a line, does it, and writes the seconds that it took; ends with its input.

    Raises:
        SystemExit: if the package is not that of the checkout.
    """
    import lstm_toolkit

    check_origin(lstm_toolkit.__file__, checkout)
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    named = tasks()
    for line in sys.stdin:
        start = time.perf_counter()
        named[line.strip()]()
        answers.write(json.dumps(time.perf_counter() - start) + "\n")


def check_origin(file: str, checkout: Path) -> None:
    """Ends the program if a package does not lie in a checkout."""
    if not Path(file).resolve().is_relative_to(checkout.resolve()):
        raise SystemExit(f"the package is {file}, which is not in {checkout}")


# Both checkouts


class Checkout:
    """One checkout with its process.

    Args:
        path: of the checkout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(self.path)}
        self.environment = os.environ | settings
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(self.path), "--serve"],
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def seconds(self, task: str) -> float:
        """Does a task once; returns the time that it took.

        Raises:
            SystemExit: if the process has ended instead, with the last line that it wrote.
        """
        if task == "import":
            return self._import()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{task}\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            status = self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().strip().splitlines()[-1:]
            raise SystemExit(f"the process for {self.path} ended with {status} at {task!r}: {' '.join(last)}")
        return float(json.loads(answer))

    def _import(self) -> float:
        command = [sys.executable, "-c", IMPORT]
        result = subprocess.run(
            command, cwd=self.path, env=self.environment, capture_output=True, text=True, check=True
        )
        seconds, file = result.stdout.strip().split(" ", 1)
        check_origin(file, self.path)
        return float(seconds)

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def measure(checkouts: tuple[Checkout, Checkout], rounds: int) -> dict[str, np.ndarray]:
    """Seconds by task, as an array [rounds, 2]."""
    named = ("quickstart", "deep", "lower", "import")
    found: dict[str, list[list[float]]] = {task: [] for task in named}
    for number in range(rounds + 1):
        for task in named:
            pair = [checkout.seconds(task) for checkout in checkouts]
            if number:
                found[task].append(pair)
        print(f"round {number} of {rounds}" if number else "warm", file=sys.stderr, flush=True)
    return {task: np.array(pairs) for task, pairs in found.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=8, help="how often each task is timed (default: 8)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (arguments.checkout / "lstm_toolkit" / "__init__.py").is_file():
        parser.error(f"there is no package lstm_toolkit in {arguments.checkout}")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.serve:
        serve(arguments.checkout)
        return
    checkouts = Checkout(Path(__file__).resolve().parent.parent), Checkout(arguments.checkout)
    try:
        found = measure(checkouts, arguments.rounds)
    finally:
        for checkout in checkouts:
            checkout.close()
    print(f"here: {checkouts[0].path}\nthere: {checkouts[1].path}")
    print(f"{'task':12} {'here':>10} {'there':>10}   ratio [quartiles]")
    for task, pairs in found.items():
        here, there = np.median(pairs, axis=0)
        low, middle, high = np.quantile(pairs[:, 0] / pairs[:, 1], [0.25, 0.5, 0.75])
        print(f"{task:12} {here * 1e3:>7.1f} ms {there * 1e3:>7.1f} ms   {middle:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
