"""Runs files on a runtime that may crash, in a process of its own: `python -m lstm_toolkit.runtime.trial_worker F N`.

The folder holds `request.json` with the runtime and, for each file, the names of its inputs and outputs in its order;
and for each number N from FIRST on `N.tflite` and `N.inputs.npz`, with the arrays `CALL INPUT`. The worker writes what
the runtime says to `N.said`, the results to `N.outputs.npz`, and last `N.json` with what stopped it, if anything did.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = list[npt.NDArray[Any]]

AMPLE_ARENA = 1 << 28
"""Bytes; memory that is never written costs nothing."""

ARENA_STEP = 16
"""Arenas are aligned to this many bytes."""


def _interpreter(data: bytes, arena_size: int) -> Any:
    # It has no type stubs, and on some platforms no wheel.
    return importlib.import_module("tflite_micro").runtime.Interpreter.from_bytes(data, arena_size=arena_size)


def _micro(data: bytes, names: dict[str, list[str]]) -> Callable[[Arrays], Arrays]:
    interpreter = _interpreter(data, AMPLE_ARENA)

    def call(arrays: Arrays) -> Arrays:
        for place, array in enumerate(arrays):
            interpreter.set_input(array, place)
        interpreter.invoke()
        return [np.array(interpreter.get_output(place)) for place in range(len(names["outputs"]))]

    return call


def _litert(data: bytes, names: dict[str, list[str]], **options: Any) -> Callable[[Arrays], Arrays]:
    from lstm_toolkit.runtime.runner import Runner

    runner = Runner(data, **options)

    def call(arrays: Arrays) -> Arrays:
        results = runner(**dict(zip(names["inputs"], arrays, strict=True)))
        return [results[name] for name in names["outputs"]] if isinstance(results, dict) else [results]

    return call


_RUNTIMES: dict[str, Callable[[bytes, dict[str, list[str]]], Callable[[Arrays], Arrays]]] = {
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


def _serve(folder: Path, number: int, request: dict[str, Any]) -> dict[str, Any]:
    data, names = (folder / f"{number}.tflite").read_bytes(), request["names"][number]
    try:
        call = _RUNTIMES[request["runtime"]](data, names)
        results: dict[str, Any] = {}
        with np.load(folder / f"{number}.inputs.npz") as stored:
            for turn in range(request["calls"][number]):
                arrays = [stored[f"{turn} {place}"] for place in range(len(names["inputs"]))]
                for place, array in enumerate(call(arrays)):
                    results[f"{turn} {place}"] = array
        np.savez(folder / f"{number}.outputs.npz", **results)
        return {"error": None, "arena_size": _smallest_arena(data) if request["arena"] else None}
    except Exception as error:  # whatever the runtime raises is its answer
        return {"error": str(error) or type(error).__name__}


def main(folder: Path, first: int) -> None:
    request = json.loads((folder / "request.json").read_text())
    for number in range(first, len(request["names"])):
        said = os.open(folder / f"{number}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(said, stream)
        os.close(said)
        answer = _serve(folder, number, request)
        (folder / f"{number}.part").write_text(json.dumps(answer))
        (folder / f"{number}.part").rename(folder / f"{number}.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
