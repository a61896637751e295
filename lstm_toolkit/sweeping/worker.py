"""Converts and times one configuration of a sweep, in the process that an executor has chosen."""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.process_state import alone
from lstm_toolkit.runtime.random_inputs import random_array
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.runtime.stopwatch import timed_calls
from lstm_toolkit.runtime.worker import serve
from lstm_toolkit.sweeping.values import SweepConfig, SweepRow
from lstm_toolkit.tflite import files

_LONGEST_ERROR = 2000

sweeping_process: int | None = None
"""The number of the process that called `sweep`."""


def measure(config: SweepConfig) -> SweepRow:
    """Converts and times a configuration in this process; whatever goes wrong is the error of the row."""
    figures: dict[str, Any] = {"machine": platform.node()}
    # Two timings would disturb each other.
    with alone():
        try:
            tflite = _converted(config, figures)
            figures["size"] = len(tflite)
            _time(tflite, config, figures)
        except Exception as error:  # a row has any error that a configuration can have
            figures["error"] = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
    return SweepRow(config, **figures)


def _converted(config: SweepConfig, figures: dict[str, Any]) -> bytes:
    if config.model.endswith(".tflite"):
        return files.read_bytes(config.model)
    if sweeping_process != os.getpid():
        _forget_models()
    from lstm_toolkit import models
    from lstm_toolkit.conversion.convert import convert

    model = config.model if Path(config.model).suffix else getattr(models, config.model)(**config.sizes)
    options = dict(config.options)
    if "representative_dataset" in options:
        options["representative_dataset"] = np.load(options["representative_dataset"], allow_pickle=False)
    start = time.perf_counter()
    conversion = convert(model, **options)
    figures["conversion_seconds"] = time.perf_counter() - start
    figures["max_abs_error"] = conversion.report.max_abs_error
    return conversion.tflite


def _forget_models() -> None:
    """Clears what Keras keeps of the models before, in a process where nobody else has any."""
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()


def _time(tflite: bytes, config: SweepConfig, figures: dict[str, Any]) -> None:
    figures["ops"] = dict(sorted(inspect(tflite).ops.items()))
    runner = Runner(tflite, num_threads=config.num_threads)
    shapes = runner.input_shapes | {name: tuple(shape) for name, shape in config.input_shapes.items()}
    inputs = {name: _input(name, shape, runner.input_dtypes[name]) for name, shape in shapes.items()}
    timed_calls(lambda: runner(**inputs), config.warmup)
    times = timed_calls(lambda: runner(**inputs), config.runs)
    figures["median"] = float(np.median(times))
    figures["percentile_90"] = float(np.percentile(times, 90))


def _input(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if -1 in shape:
        raise ValueError(
            f"input {name!r} has open sizes, {list(shape)}; give input_shapes={{{name!r}: [...]}} to the SweepConfig"
        )
    # 1 is an index of every vocabulary of two and more, and not the one that masks use.
    return random_array(np.random.default_rng(0), shape, dtype, low=1, high=2)


if __name__ == "__main__":
    serve(lambda request, _: request[0](*request[1], **request[2]))
