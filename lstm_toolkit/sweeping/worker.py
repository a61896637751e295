"""The worker of `sweeping`: converts and times one configuration in a process of its own.

An executor runs `measure_elsewhere`, in whatever threads or processes it has; each call there passes the configuration
on to a child process, which is kept for the next call. So TensorFlow, which can neither be forked nor convert in two
threads at once, stays out of the executor's own processes; a crash ends the child alone, and a time limit can end it.
A child ends with the process that started it, whatever it is doing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.runtime import worker
from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess

COMMAND = (sys.executable, "-m", __name__)
"""Starts a child."""

_LONGEST_ERROR = 2000

_lock = threading.Lock()
_children: set[_Child] = set()
_idle: list[_Child] = []


def measure_elsewhere(config: Mapping[str, Any], timeout: float | None, token: str) -> dict[str, Any]:
    """Measures a configuration in a child.

    Args:
        config: a `SweepConfig` as a dict.
        timeout: seconds after which the child is ended, its start included; None waits for ever.
        token: unlike that of any other call, since some executors (Dask's) answer equal calls from memory.

    Returns:
        The figures of a `SweepRow` by name.

    Raises:
        WorkerEndedError: if the child ends.
    """
    with _lock:
        child = _idle.pop() if _idle else None
    child = child or _Child()
    try:
        answer = child.row(config, timeout)
    except BaseException:
        child.end()
        raise
    if answer is None:
        child.end()
        return {"error": f"TimeoutError: no answer within {timeout:g} s", "unanswered": True}
    with _lock:
        _idle.append(child)
    return answer


def end_children(*, idle_only: bool) -> None:
    """Ends the children of this process: those without work, or all."""
    with _lock:
        ended = list(_idle if idle_only else _children)
        _idle.clear()
    for child in ended:
        child.end()


def files_digest(config: Mapping[str, Any]) -> str | None:
    """SHA-256 of the files that a configuration names; None if it names none, or one is not there."""
    paths = [config["model"], config["options"].get("representative_dataset")]
    files = [Path(path) for path in paths if path and Path(path).suffix]
    if not files or not all(file.is_file() for file in files):
        return None
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


class _Child(WorkerProcess):
    """The process at the other end: a configuration goes in, a row comes out."""

    def __init__(self) -> None:
        super().__init__(COMMAND)
        with _lock:
            _children.add(self)

    def row(self, config: Mapping[str, Any], timeout: float | None) -> dict[str, Any] | None:
        """Sends a configuration and waits for its row; None if the time is over.

        Raises:
            WorkerEndedError: if the process ends instead.
        """
        try:
            return self.ask(config, time_limit=timeout)
        except TimeoutError:
            return None
        except WorkerEndedError as error:
            raise WorkerEndedError(f"the worker process ended: {error}") from error

    def end(self) -> None:
        """Ends the process at once."""
        with _lock:
            _children.discard(self)
        self.kill()
        self._errors.close()


def _forget_children() -> None:
    """A forked process has its parent's list, but must not write into its parent's pipes."""
    global _lock
    _lock = threading.Lock()
    _children.clear()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_children)


def measure(config: Mapping[str, Any]) -> dict[str, Any]:
    """Converts and times a configuration in this process.

    Returns:
        The figures of a `SweepRow` by name; whatever goes wrong is its error.
    """
    figures: dict[str, Any] = {"machine": platform.node(), "digest": files_digest(config)}
    try:
        tflite = _converted(config, figures)
        figures["size"] = len(tflite)
        _time(tflite, config, figures)
    except Exception as error:  # a row has any error that a configuration can have
        figures["error"] = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
    return figures


def _converted(config: Mapping[str, Any], figures: dict[str, Any]) -> bytes:
    source, options = config["model"], dict(config["options"])
    if source.endswith(".tflite"):
        return Path(source).read_bytes()
    import keras

    from lstm_toolkit import models
    from lstm_toolkit.conversion.convert import convert

    keras.backend.clear_session()
    model = source if Path(source).suffix else getattr(models, source)(**config["sizes"])
    if "representative_dataset" in options:
        options["representative_dataset"] = np.load(options["representative_dataset"], allow_pickle=False)
    start = time.perf_counter()
    conversion = convert(model, **options)
    figures["conversion_seconds"] = time.perf_counter() - start
    figures["max_abs_error"] = conversion.report.max_abs_error
    return conversion.tflite


def _time(tflite: bytes, config: Mapping[str, Any], figures: dict[str, Any]) -> None:
    from lstm_toolkit.inspection.read import inspect
    from lstm_toolkit.runtime.runner import Runner

    summary = inspect(tflite)
    figures["ops"] = dict(sorted(summary.ops.items()))
    runner = Runner(tflite, num_threads=config["num_threads"])
    named = [each for signature in summary.signatures for each in signature.inputs]
    dtypes = {each.name: each.dtype for each in (*summary.inputs, *named)}
    shapes = runner.input_shapes | {name: tuple(shape) for name, shape in config["input_shapes"].items()}
    inputs = {name: _input(name, shape, dtypes[name]) for name, shape in shapes.items()}
    times = np.empty(config["runs"])
    for number in range(-config["warmup"], len(times)):
        start = time.perf_counter()
        runner(**inputs)
        if number >= 0:
            times[number] = 1e6 * (time.perf_counter() - start)
    figures["median"] = float(np.median(times))
    figures["percentile_90"] = float(np.percentile(times, 90))


def _input(name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    if -1 in shape:
        raise ValueError(
            f"input {name!r} has open sizes, {list(shape)}; give input_shapes={{{name!r}: [...]}} to the SweepConfig"
        )
    if dtype.startswith("float"):
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)
    # 1 is an index of every vocabulary of two and more, and not the one that masks use.
    return np.ones(shape, dtype)


def serve() -> None:
    """The child's side: answers until the pipe is closed."""
    worker.serve(lambda config, _: measure(config))


if __name__ == "__main__":
    serve()
