"""Runs files on a runtime that may crash, in a process of its own: `python -m lstm_toolkit.runtime.trial_worker`."""

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.runtime.worker import serve

Arrays = dict[str, npt.NDArray[Any]]


AMPLE_ARENA = 1 << 28
"""Bytes; memory that is never written costs nothing."""

ARENA_STEP = 16
"""Arenas are aligned to this many bytes."""


def _interpreter(data: bytes, arena_size: int) -> Any:
    # It has no type stubs, and on some platforms no wheel.
    return importlib.import_module("tflite_micro").runtime.Interpreter.from_bytes(data, arena_size=arena_size)


def _micro(tflite: bytes, outputs: list[str]) -> Callable[[Arrays], Arrays]:
    interpreter = _interpreter(tflite, AMPLE_ARENA)

    def call(inputs: Arrays) -> Arrays:
        for place, array in enumerate(inputs.values()):
            interpreter.set_input(array, place)
        interpreter.invoke()
        return {name: np.array(interpreter.get_output(place)) for place, name in enumerate(outputs)}

    return call


def _litert(tflite: bytes, **options: Any) -> Callable[[Arrays], Arrays]:
    from lstm_toolkit.runtime.runner import Runner

    runner = Runner(tflite, **options)
    return lambda inputs: runner.outputs(**inputs)


_RUNTIMES: dict[str, Callable[[bytes, list[str]], Callable[[Arrays], Arrays]]] = {
    "litert": lambda tflite, _: _litert(tflite),
    "litert without XNNPACK": lambda tflite, _: _litert(tflite, xnnpack=False),
    "compiled": lambda tflite, _: _litert(tflite, runtime="compiled"),
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


def _answer(request: dict[str, Any], _: Callable[[int], Any]) -> dict[str, Any]:
    """The fields of a `Trial`.

    Args:
        request: the `tflite`; the `runtime`, of `trial.RUNTIMES`; the inputs by name of each of its `calls`, in the
            order of the file; the names of its `outputs`; and `arena`, whether to look for the smallest one.
    """
    try:
        call = _RUNTIMES[request["runtime"]](request["tflite"], request["outputs"])
        outputs = tuple(map(call, request["calls"]))
        arena_size = _smallest_arena(request["tflite"]) if request["arena"] else None
        return {"refused": None, "outputs": outputs, "arena_size": arena_size}
    except Exception as error:  # whatever the runtime raises is its answer
        return {"refused": str(error) or type(error).__name__}


if __name__ == "__main__":
    serve(_answer)
