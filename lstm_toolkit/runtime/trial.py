"""Tries files on a runtime, in a process of its own: a kernel that crashes or hangs does not take the caller along."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import InvalidModelError, LstmToolkitError
from lstm_toolkit.runtime import trial_worker
from lstm_toolkit.runtime.compare import difference, finite_share
from lstm_toolkit.runtime.installed import is_installed as is_installed
from lstm_toolkit.runtime.integers import dequantized, quantized
from lstm_toolkit.runtime.random_inputs import DOMAINS, random_array
from lstm_toolkit.runtime.targets import int16_lstms
from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.files import read_model, text
from lstm_toolkit.tflite.types import Model, Tensor

Call = Mapping[str, npt.NDArray[Any]]

RUNTIMES = ("litert", "litert without XNNPACK", "compiled", "micro")
"""The LiteRT interpreter with and without its default delegate, LiteRT's `CompiledModel`, TensorFlow Lite Micro."""

FLOAT_TOLERANCE, INTEGER_TOLERANCE = 1e-4, 0.05
"""Largest allowed difference between two runtimes, relative to the largest output where that is above 1: for a file
that computes in float, and for one with integers, in which one step can grow from layer to layer."""

LEAST_FINITE = 0.5
"""Share of finite numbers that each output must have for a comparison; the inputs are drawn from elsewhere if not."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a runtime did with a file.

    Attributes:
        refused: why the runtime did not run the file, in its own words; None if it did.
        outputs: for each call, the outputs by name.
        arena_size: bytes of the smallest arena in which TensorFlow Lite Micro runs the file; None if not asked for.
    """

    refused: str | None
    outputs: tuple[dict[str, npt.NDArray[Any]], ...] = ()
    arena_size: int | None = None


def require_micro() -> None:
    """Raises `LstmToolkitError`, with the remedy, if TensorFlow Lite Micro is not installed."""
    if not is_installed("micro"):
        raise LstmToolkitError(
            "TensorFlow Lite Micro is not installed, so nothing can be run on it: pip install tflite-micro (Linux, "
            "Python 3.11 and later)"
        )


def run_on(
    runtime: str, files: Sequence[tuple[bytes, Sequence[Call]]], *, arena: bool = False, time_limit: float = 60.0
) -> tuple[Trial, ...]:
    """Runs files on a runtime, each with several calls in a row without a reset between them.

    Args:
        runtime: one of `RUNTIMES`.
        files: for each the bytes, and the inputs by name of each call, in the dtypes and shapes of the file.
        arena: whether to look for the smallest arena of TensorFlow Lite Micro.
        time_limit: seconds for each file.

    Returns:
        One trial a file. A file that crashes or hangs does not keep the next ones from running.

    Raises:
        LstmToolkitError: if TensorFlow Lite Micro is asked for and not installed.
        InvalidModelError: if the bytes are not a readable `.tflite` file.
    """
    if runtime == "micro":
        require_micro()
    requests = []
    for tflite, calls in files:
        names = signature_names(read_model(tflite))
        ordered = [{name: call[name] for name in names["inputs"]} for call in calls]
        request = {"tflite": tflite, "runtime": runtime, "calls": ordered, "outputs": names["outputs"], "arena": arena}
        requests.append(request)
    trials = []
    process: WorkerProcess | None = None
    try:
        for request in requests:
            if process is None or not process.is_running():
                process = WorkerProcess([sys.executable, "-m", trial_worker.__name__])
            trials.append(_tried(process, request, time_limit))
    finally:
        if process is not None:
            process.kill()
    return tuple(trials)


def _tried(process: WorkerProcess, request: dict[str, Any], time_limit: float) -> Trial:
    try:
        trial = Trial(**process.ask(request, time_limit=time_limit))
    except WorkerEndedError:
        trial = Trial(f"it ended its process with {process.ending()}")
    except TimeoutError as error:
        trial = Trial(str(error))
    if trial.refused is None:
        return trial
    return Trial("; ".join([*list(dict.fromkeys(process.said()))[:5], trial.refused]))


def signature_names(model: Model) -> dict[str, list[str]]:
    """Names of the inputs and outputs of a `ModelT` in the order of its main subgraph, as `Runner` has them."""
    main, named = model.subgraphs[0], {}
    for kind in ("inputs", "outputs"):
        known: dict[int, list[str]] = {}
        for signature in (model.signatureDefs or [])[:1]:
            for entry in getattr(signature, kind) or ():
                known.setdefault(entry.tensorIndex, []).append(text(entry.name))
        # One tensor can be several outputs, each with a name of its own.
        named[kind] = [
            known[index].pop(0) if known.get(index) else text(main.tensors[index].name)
            for index in map(int, getattr(main, kind))
        ]
    return named


def random_calls(tflite: bytes, *, count: int = 3, seed: int = 0, domain: str = "normal") -> tuple[Call, ...]:
    """Draws the inputs of some calls of a file.

    Floats come from one of `DOMAINS`, quantized inputs take any integer of their dtype, other integers are 0. An open
    size is the one that the file has before it is resized.
    """
    model, random = read_model(tflite), np.random.default_rng(seed)
    tensors = [model.subgraphs[0].tensors[index] for index in model.subgraphs[0].inputs]
    names = signature_names(model)["inputs"]
    return tuple(
        {name: _drawn(random, tensor, domain) for name, tensor in zip(names, tensors, strict=True)}
        for _ in range(count)
    )


def _drawn(random: np.random.Generator, tensor: Tensor, domain: str) -> npt.NDArray[Any]:
    if tensor.type not in graph.DTYPES:
        raise InvalidModelError(f"an input is of type {graph.type_name(tensor)}, of which there are no random values")
    dtype = np.dtype(graph.DTYPES[tensor.type])
    shape = tuple(max(int(size), 1) for size in (tensor.shape if tensor.shape is not None else ()))
    is_quantized = tensor.quantization is not None and graph.listed(tensor.quantization.scale) != []
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max + 1) if is_quantized and dtype.kind in "iu" else (0, 1)
    return random_array(random, shape, dtype, low=low, high=high, domain=domain)


def outputs_on_micro(tflite: bytes, calls: Sequence[Call], *, time_limit: float = 600.0) -> list[Call]:
    """The outputs of TensorFlow Lite Micro for calls in a row, from floats to floats where the file has integers.

    Raises:
        LstmToolkitError: if TensorFlow Lite Micro is not installed.
        InvalidModelError: if it does not run the file.
    """
    model = read_model(tflite)
    main, names = model.subgraphs[0], signature_names(model)
    details = {
        side: {
            name: {"dtype": graph.DTYPES[main.tensors[index].type], "quantization": graph.scale_of(main.tensors[index])}
            for name, index in zip(names[side], map(int, getattr(main, side)), strict=True)
        }
        for side in ("inputs", "outputs")
    }
    given = [{name: quantized(value, details["inputs"][name]) for name, value in call.items()} for call in calls]
    (done,) = run_on("micro", [(tflite, given)], time_limit=time_limit)
    if done.refused is not None:
        raise InvalidModelError(f"TensorFlow Lite Micro cannot run this model: {done.refused}")
    return [
        {name: dequantized(value, details["outputs"][name]) for name, value in each.items()} for each in done.outputs
    ]


def why_not_on(target: str, tflite: bytes, *, time_limit: float = 20.0) -> str | None:
    """Runs a file on a target and on the LiteRT interpreter, several calls in a row, and compares the results.

    Args:
        target: "litert", which compares the interpreter with itself without XNNPACK; "compiled"; or "micro".
        tflite: the file.
        time_limit: seconds for each of the two.

    Returns:
        Why the file cannot run there, or how its results differ; None if it runs and agrees. A file that Micro alone
        can run (`int16_lstms`) is compared with nothing.

    Raises:
        LstmToolkitError: if TensorFlow Lite Micro is asked for and not installed.
    """
    if target == "micro" and any(int16_lstms(read_model(tflite))):
        # LiteRT has no kernel to compare with; `compare_files` compares with the float file.
        return run_on("micro", [(tflite, random_calls(tflite))], time_limit=time_limit)[0].refused
    for domain in DOMAINS:
        files = [(tflite, random_calls(tflite, domain=domain))]
        (wanted,) = run_on("litert", files, time_limit=time_limit)
        if wanted.refused is not None:
            return f"the LiteRT interpreter refuses it: {wanted.refused}" if target == "litert" else wanted.refused
        if finite_share(*wanted.outputs) >= LEAST_FINITE:
            break
    else:
        return "gives hardly a finite number for random inputs, so that nothing can be compared"
    (given,) = run_on("litert without XNNPACK" if target == "litert" else target, files, time_limit=time_limit)
    return given.refused if given.refused is not None else why_apart(read_model(tflite), wanted, given)


def computes_in_integers(model: Model) -> bool:
    """Whether a `ModelT` has quantized tensors, in which one step can grow from layer to layer."""
    integers = (schema.TensorType.INT8, schema.TensorType.INT16)
    return any(tensor.type in integers for subgraph in model.subgraphs for tensor in subgraph.tensors)


def why_apart(model: Model, wanted: Trial, given: Trial) -> str | None:
    """How the outputs of a `ModelT` on another runtime differ from the LiteRT interpreter's; None if they agree."""
    tolerance = INTEGER_TOLERANCE if computes_in_integers(model) else FLOAT_TOLERANCE
    for turn, (want, got) in enumerate(zip(wanted.outputs, given.outputs, strict=True), start=1):
        for name, array in want.items():
            reason = _why_different(array, got[name], tolerance)
            if reason:
                return f"output {name!r} of call {turn} in a row {reason}"
    return None


def _why_different(wanted: npt.NDArray[Any], given: npt.NDArray[Any], tolerance: float) -> str | None:
    if wanted.shape != given.shape:
        return f"has shape {list(given.shape)} and not {list(wanted.shape)}"
    if (np.isfinite(wanted) & ~np.isfinite(given)).any():
        return "is not finite, and it is on the LiteRT interpreter"
    error, size = difference(wanted, given)
    return f"differs from the LiteRT interpreter's by {error:.3g}" if error > tolerance * max(1.0, size) else None
