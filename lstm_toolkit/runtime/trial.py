"""Tries a file on a runtime, in a process of its own, where a kernel may crash or hang without the caller."""

import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import InvalidModelError, LstmToolkitError
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.files import read_model, text
from lstm_toolkit.tflite.types import Model, Tensor

Call = Mapping[str, npt.NDArray[Any]]

RUNTIMES = ("litert", "litert without XNNPACK", "compiled", "micro")
"""The LiteRT interpreter with and without its default delegate, LiteRT's `CompiledModel`, TensorFlow Lite Micro."""

FLOAT_TOLERANCE, INTEGER_TOLERANCE = 1e-4, 0.05
"""Largest allowed difference between two runtimes, relative to the largest output where that is above 1: for a file
that computes in float, and for one with integers, in which one step can grow from layer to layer."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a runtime did with a file.

    Attributes:
        refused: why it did not run the file, in its own words; None if it did.
        outputs: for each call, the outputs by name.
        arena_size: bytes of memory that TensorFlow Lite Micro gets by with, if it was asked for.
    """

    refused: str | None
    outputs: tuple[dict[str, npt.NDArray[Any]], ...] = ()
    arena_size: int | None = None


def is_installed(runtime: str) -> bool:
    """Whether a runtime of `RUNTIMES` is there; those of LiteRT always are."""
    return runtime != "micro" or importlib.util.find_spec("tflite_micro") is not None


def require_micro() -> None:
    """Raises the error with the remedy where TensorFlow Lite Micro is not installed."""
    if not is_installed("micro"):
        raise LstmToolkitError(
            "TensorFlow Lite Micro is not installed, so nothing can be run on it: pip install tflite-micro (Linux, "
            "Python 3.11 and later)"
        )


def run_on(
    runtime: str, files: Sequence[tuple[bytes, Sequence[Call]]], *, arena: bool = False, time_limit: float = 60.0
) -> tuple[Trial, ...]:
    """Runs files on a runtime, each with calls in a row that nothing is reset between.

    Args:
        runtime: one of `RUNTIMES`.
        files: for each the bytes, and the inputs by name of each call, in the dtypes and shapes of the file.
        arena: whether to look for the smallest arena, on TensorFlow Lite Micro.
        time_limit: seconds for each file.

    Returns:
        What became of each file. One that crashes or hangs does not keep the next ones from running.

    Raises:
        LstmToolkitError: if TensorFlow Lite Micro is asked for and not installed.
        InvalidModelError: if the bytes are no readable `.tflite` file.
    """
    if runtime == "micro":
        require_micro()
    names = [signature_names(read_model(tflite)) for tflite, _ in files]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = {"runtime": runtime, "arena": arena, "names": names, "calls": [len(calls) for _, calls in files]}
        (folder / "request.json").write_text(json.dumps(request))
        for number, (tflite, calls) in enumerate(files):
            (folder / f"{number}.tflite").write_bytes(tflite)
            arrays: dict[str, Any] = {
                f"{turn} {place}": call[key]
                for turn, call in enumerate(calls)
                for place, key in enumerate(names[number]["inputs"])
            }
            np.savez(folder / f"{number}.inputs.npz", **arrays)
        ends = _serve(folder, len(files), time_limit)
        return tuple(_read(folder, number, names[number], ends.get(number)) for number in range(len(files)))


def _serve(folder: Path, count: int, time_limit: float) -> dict[int, str]:
    """Starts workers until every file has its answer or has ended one; returns how these ended."""
    ends: dict[int, str] = {}
    first = 0
    while first < count:
        command = [sys.executable, "-m", f"{__package__}.trial_worker", str(folder), str(first)]
        try:
            code = subprocess.run(
                command,
                timeout=time_limit * (count - first),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            ).returncode
            end = f"it ended its process with {_code_name(code)}"
        except subprocess.TimeoutExpired:
            end = f"it did not answer in {time_limit:g} seconds"
        while first < count and (folder / f"{first}.json").exists():
            first += 1
        if first < count:
            ends[first] = end
            first += 1
    return ends


def _code_name(code: int) -> str:
    known = {each.value: each.name for each in signal.Signals}
    return known.get(-code, f"signal {-code}") if code < 0 else f"code {code}"


def _read(folder: Path, number: int, names: Mapping[str, list[str]], end: str | None) -> Trial:
    said = _words(folder / f"{number}.said")
    if end is not None:
        return Trial("; ".join([*said, end]))
    answer = json.loads((folder / f"{number}.json").read_text())
    if answer["error"] is not None:
        return Trial("; ".join([*said, answer["error"]]))
    outputs: dict[int, dict[str, Any]] = {}
    with np.load(folder / f"{number}.outputs.npz") as stored:
        for key in stored.files:
            turn, place = map(int, key.split())
            outputs.setdefault(turn, {})[names["outputs"][place]] = stored[key]
    return Trial(None, tuple(outputs[turn] for turn in sorted(outputs)), answer["arena_size"])


def _words(path: Path) -> list[str]:
    """The lines in which a runtime says what is wrong."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    kept = [line.strip() for line in lines if line.strip() and not re.match(r"(INFO|WARNING|[IW]\d{4})\b", line)]
    return list(dict.fromkeys(kept))[:5]


def signature_names(model: Model) -> dict[str, list[str]]:
    """Names of the inputs and outputs of a `ModelT` in the order of its main subgraph, as `Runner` has them."""
    main = model.subgraphs[0]
    named: dict[str, dict[int, str]] = {"inputs": {}, "outputs": {}}
    for signature in (model.signatureDefs or [])[:1]:
        for kind, known in named.items():
            known |= {entry.tensorIndex: text(entry.name) for entry in getattr(signature, kind) or ()}
    return {
        kind: [known.get(int(index), text(main.tensors[index].name)) for index in getattr(main, kind)]
        for kind, known in named.items()
    }


def random_calls(tflite: bytes, *, count: int = 3, seed: int = 0) -> tuple[Call, ...]:
    """Random inputs for a file: normal floats, any number of a quantized input, zeros of other integers.

    Open sizes are what the file has for them before it is resized.
    """
    model, random = read_model(tflite), np.random.default_rng(seed)
    tensors = [model.subgraphs[0].tensors[index] for index in model.subgraphs[0].inputs]
    names = signature_names(model)["inputs"]
    return tuple(
        {name: _draw(random, tensor) for name, tensor in zip(names, tensors, strict=True)} for _ in range(count)
    )


def _draw(random: np.random.Generator, tensor: Tensor) -> npt.NDArray[Any]:
    if tensor.type not in graph.DTYPES:
        raise InvalidModelError(f"an input is of type {graph.type_name(tensor)}, of which there are no random values")
    dtype = np.dtype(graph.DTYPES[tensor.type])
    shape = tuple(max(int(size), 1) for size in (tensor.shape if tensor.shape is not None else ()))
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    scale = tensor.quantization.scale if tensor.quantization is not None else None
    if scale is not None and len(scale):
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, endpoint=True, dtype=dtype)
    return np.zeros(shape, dtype)


def why_not_on(target: str, tflite: bytes, *, time_limit: float = 20.0) -> str | None:
    """Runs a file on a target and on the LiteRT interpreter, several calls in a row, and compares the results.

    Args:
        target: "litert", which compares the interpreter with itself without XNNPACK; "compiled"; or "micro".
        tflite: the file.
        time_limit: seconds for each of the two.

    Returns:
        Why the file cannot run there, or how its results differ; None if it runs and agrees.

    Raises:
        LstmToolkitError: if TensorFlow Lite Micro is asked for and not installed.
    """
    files = [(tflite, random_calls(tflite))]
    (wanted,) = run_on("litert", files, time_limit=time_limit)
    if wanted.refused is not None:
        return f"the LiteRT interpreter refuses it: {wanted.refused}" if target == "litert" else wanted.refused
    (given,) = run_on("litert without XNNPACK" if target == "litert" else target, files, time_limit=time_limit)
    if given.refused is not None:
        return given.refused
    model = read_model(tflite)
    integers = (schema.TensorType.INT8, schema.TensorType.INT16)
    is_integer = any(tensor.type in integers for subgraph in model.subgraphs for tensor in subgraph.tensors)
    for turn, (want, got) in enumerate(zip(wanted.outputs, given.outputs, strict=True), start=1):
        for name, array in want.items():
            reason = _difference(array, got[name], INTEGER_TOLERANCE if is_integer else FLOAT_TOLERANCE)
            if reason:
                return f"output {name!r} of call {turn} in a row {reason}"
    return None


def _difference(wanted: npt.NDArray[Any], given: npt.NDArray[Any], tolerance: float) -> str | None:
    if wanted.shape != given.shape:
        return f"has shape {list(given.shape)} and not {list(wanted.shape)}"
    first, second = wanted.astype(np.float64), given.astype(np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    if (np.isfinite(first) & ~np.isfinite(second)).any():
        return "is not finite, and it is on the LiteRT interpreter"
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.nan_to_num(np.abs(first - second), nan=np.inf)).max(initial=0.0)
    largest = np.abs(first[np.isfinite(first)]).max(initial=1.0)
    return f"differs from the LiteRT interpreter's by {error:.3g}" if error > tolerance * largest else None
