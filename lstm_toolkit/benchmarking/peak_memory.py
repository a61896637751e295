"""Measures the peak memory that a file takes, in a process of its own."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.runtime.scratch import scratch_folder
from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess, serve


def peak_memory(runner: Runner, inputs: Mapping[str, npt.NDArray[Any]]) -> int:
    """Bytes that loading and running a file once adds to the peak of a process that has imported the interpreter.

    Raises:
        ValueError: if the process ends before it answers, with what it said last.
    """
    with scratch_folder() as folder:
        request = {"folder": folder, "options": runner.options}
        Path(folder, "model.tflite").write_bytes(runner.tflite)
        np.savez(Path(folder, "inputs.npz"), *(inputs[name] for name in runner.input_shapes))
        process = WorkerProcess([sys.executable, "-m", __name__])
        try:
            return process.ask(request)["bytes"]
        except WorkerEndedError as error:
            raise ValueError(f"peak memory cannot be measured: {error}; leave out memory=True") from error
        finally:
            process.kill()


def _answer(request: dict[str, Any], _: Callable[[int], Any]) -> dict[str, int]:
    _forget_peak()
    before = _peak()
    runner = Runner(Path(request["folder"], "model.tflite"), **request["options"])
    with np.load(Path(request["folder"], "inputs.npz")) as arrays:
        runner(**dict(zip(runner.input_shapes, (arrays[name] for name in arrays.files), strict=True)))
    return {"bytes": _peak() - before}


def _forget_peak() -> None:
    """Lets the peak be what there is now, on Linux: importing may have taken more than the file will."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5)


def _peak() -> int:
    """Bytes of memory that this process has had at most."""
    try:
        # On Linux ru_maxrss starts at what the parent process had.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    serve(_answer)
