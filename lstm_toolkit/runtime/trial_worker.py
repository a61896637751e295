"""Runs files on a runtime that may crash, in a process of its own: `python -m lstm_toolkit.runtime.trial_worker`."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from lstm_toolkit.runtime.worker import serve

Arrays = list[npt.NDArray[Any]]
Names = dict[str, list[str]]


class TrialRequest(TypedDict):
    """A file to run.

    Attributes:
        runtime: of `trial.RUNTIMES`.
        folder: holds `model.tflite`, and for each call N `N.inputs.npz` with the inputs in the order of the file; it
            takes `N.outputs.npz`.
        names: of the "inputs" and "outputs", in the order of the file.
        calls: the number of calls.
        arena: whether to look for the smallest arena of TensorFlow Lite Micro.
    """

    runtime: str
    folder: str
    names: Names
    calls: int
    arena: bool


class TrialAnswer(TypedDict):
    """What stopped the runtime, if anything did, and the size of the smallest arena, if it was asked for."""

    error: str | None
    arena_size: int | None


AMPLE_ARENA = 1 << 28
"""Bytes; memory that is never written costs nothing."""

ARENA_STEP = 16
"""Arenas are aligned to this many bytes."""


def _interpreter(data: bytes, arena_size: int) -> Any:
    # It has no type stubs, and on some platforms no wheel.
    return importlib.import_module("tflite_micro").runtime.Interpreter.from_bytes(data, arena_size=arena_size)


def _micro(data: bytes, names: Names) -> Callable[[Arrays], Arrays]:
    interpreter = _interpreter(data, AMPLE_ARENA)

    def call(arrays: Arrays) -> Arrays:
        for place, array in enumerate(arrays):
            interpreter.set_input(array, place)
        interpreter.invoke()
        return [np.array(interpreter.get_output(place)) for place in range(len(names["outputs"]))]

    return call


def _litert(data: bytes, names: Names, **options: Any) -> Callable[[Arrays], Arrays]:
    from lstm_toolkit.runtime.runner import Runner

    runner = Runner(data, **options)

    def call(arrays: Arrays) -> Arrays:
        results = runner.outputs(**dict(zip(names["inputs"], arrays, strict=True)))
        return [results[name] for name in names["outputs"]]

    return call


_RUNTIMES: dict[str, Callable[[bytes, Names], Callable[[Arrays], Arrays]]] = {
    "litert": _litert,
    "litert without XNNPACK": lambda data, names: _litert(data, names, xnnpack=False),
    "compiled": lambda data, names: _litert(data, names, runtime="compiled"),
    "micro": _micro,
}


def _is_enough(data: bytes, arena_size: int) -> bool:
    """Whether a file runs in an arena of that many bytes; kernels may crash in one that is too small."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            _interpreter(data, arena_size).invoke()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _smallest_arena(data: bytes) -> int:
    too_small, enough = 0, ARENA_STEP
    while not _is_enough(data, enough):
        too_small, enough = enough, 2 * enough
    while enough - too_small > ARENA_STEP:
        middle = (too_small + enough) // (2 * ARENA_STEP) * ARENA_STEP
        if _is_enough(data, middle):
            enough = middle
        else:
            too_small = middle
    return enough


def _answer(request: TrialRequest, _: Callable[[int], Any]) -> TrialAnswer:
    folder = Path(request["folder"])
    data = (folder / "model.tflite").read_bytes()
    try:
        call = _RUNTIMES[request["runtime"]](data, request["names"])
        for turn in range(request["calls"]):
            with np.load(folder / f"{turn}.inputs.npz") as stored:
                arrays = list(stored.values())
            np.savez(folder / f"{turn}.outputs.npz", *call(arrays))
        return {"error": None, "arena_size": _smallest_arena(data) if request["arena"] else None}
    except Exception as error:  # whatever the runtime raises is its answer
        return {"error": str(error) or type(error).__name__, "arena_size": None}


if __name__ == "__main__":
    serve(_answer)
