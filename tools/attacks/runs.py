"""Damaged `.tflite` files through `Runner` and `benchmark`, in this process."""

from pathlib import Path
from typing import Any

import lstm_toolkit
from attacks.children import Attack, Outcome, Tell, limit_memory
from attacks.damage import damaged, whole_files
from lstm_toolkit.errors import LstmToolkitError

LIMIT = 5.0
MEMORY = 2**32


def inputs_of(runner: Any) -> dict[str, Any]:
    """Zeros and ones for every input of a runner, with 3 for open sizes."""
    import numpy as np

    shapes = {name: [3 if size < 0 else size for size in shape] for name, shape in runner.input_shapes.items()}
    return {name: np.ones(shape).astype(runner.input_dtypes[name]) for name, shape in shapes.items()}


def use(data: bytes, tell: Tell, **options: Any) -> None:
    """Everything that a user does with a runner."""
    tell("Runner")
    runner = lstm_toolkit.Runner(data, **options)
    tell("a call")
    inputs = inputs_of(runner)
    runner.outputs(**inputs)
    tell("the state")
    states = runner.state
    tell("setting the state")
    runner.state = states
    tell("reset")
    runner.reset()
    tell("a second call")
    runner.dequantized(runner.outputs(**runner.quantized(inputs)))


def begin(folder: Path) -> Attack:
    """Reads the whole files of `folder`."""
    files = whole_files(folder)
    for data in files:
        use(data, lambda _: None)
    limit_memory(MEMORY)

    def attack(seed: int, tell: Tell) -> Outcome:
        data = damaged(files, seed)
        try:
            use(data, tell, xnnpack=seed % 3 != 0)
            if seed % 10 == 0:
                tell("benchmark")
                lstm_toolkit.benchmark(data, runs=1, warmup=0, progress=False)
        except LstmToolkitError as error:
            return Outcome("refused", str(error))
        return Outcome("right")

    return attack
