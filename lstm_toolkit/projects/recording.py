"""Records what TensorFlow Lite Micro computes here for a few calls in a row, for a board to be compared with."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.quantization.samples import read_samples, split
from lstm_toolkit.runtime.compare import finite_share
from lstm_toolkit.runtime.integers import quantized
from lstm_toolkit.runtime.random_inputs import DOMAINS
from lstm_toolkit.runtime.targets import int16_lstms
from lstm_toolkit.runtime.trial import (
    FLOAT_TOLERANCE,
    INTEGER_TOLERANCE,
    LEAST_FINITE,
    Call,
    Trial,
    computes_in_integers,
    random_calls,
    run_on,
    signature_names,
    why_apart,
)
from lstm_toolkit.tflite import graph, recurrent
from lstm_toolkit.tflite.files import read_model
from lstm_toolkit.tflite.types import Model

MOST_SAMPLES = 5
"""Samples that a project holds, since all of them go into the board's flash."""

MOST_BYTES = 1 << 20
"""Bytes that the inputs and outputs of a call may have: few boards have more flash than some of these."""

STEPS_ALLOWED = 2
"""Steps of its scale that an output may be off: kernels made for one processor round in another way."""

_TYPES = {schema.TensorType.FLOAT32, schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16} | {
    schema.TensorType.INT32,
    schema.TensorType.INT64,
    schema.TensorType.BOOL,
}
"""Types of inputs and outputs that Micro's interpreter and C++ have in common."""


@dataclasses.dataclass(frozen=True)
class Edge:
    """An input or an output of a file, with its values in each call.

    Attributes:
        name: as the file has it.
        shape: of one call.
        scale: of its integers; 0 where they are no quantized numbers.
        zero_point: of its integers.
        values: as the file takes or gives them, [calls, entries].
        tolerance: how far an output on a board may be from the one here, in the units of the model.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    values: npt.NDArray[Any]
    tolerance: float = 0.0


@dataclasses.dataclass(frozen=True)
class Recording:
    """Some calls in a row, the last one with the inputs of the first.

    Attributes:
        inputs: in the order of the file.
        outputs: in the order of the file, as TensorFlow Lite Micro gave them here.
        origin: where the inputs come from, as a sentence.
        carries_state: whether a call starts where the last one ended.
        arena_size: bytes of the smallest arena in which the file ran.
    """

    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    origin: str
    carries_state: bool
    arena_size: int


def record(tflite: bytes, dataset: Any = None) -> Recording:
    """Runs a file on TensorFlow Lite Micro here, and on LiteRT to compare where that has its kernels.

    Args:
        tflite: the file.
        dataset: samples as `convert` takes them, of which those are taken that it holds back; None draws random inputs.

    Raises:
        InvalidModelError: if an input or output has a type that C++ lacks, or is too large; if the outputs are no
            numbers; or if TensorFlow Lite Micro does not compute what LiteRT does.
        LstmToolkitError: if TensorFlow Lite Micro is not installed.
        ValueError: if the samples do not fit.
    """
    model = read_model(tflite)
    _check_edges(model)
    carries_state = bool(recurrent.carried_states(model, model.subgraphs[0]))
    candidates, origin = _calls(tflite, model, dataset, in_order=carries_state)
    calls, given = _first_with_numbers(tflite, candidates)
    reason = None
    if not any(int16_lstms(model)):  # for these LiteRT has no kernel
        (wanted,) = run_on("litert", [(tflite, calls)])
        reason = wanted.refused if wanted.refused is not None else why_apart(model, wanted, given)
    if reason is not None:
        raise InvalidModelError(
            f'TensorFlow Lite Micro does not compute what LiteRT does: {reason}; convert the source with target="micro"'
        )
    assert given.arena_size is not None
    inputs, outputs = _edges(model, "inputs", calls), _edges(model, "outputs", given.outputs)
    return Recording(inputs, outputs, origin, carries_state, given.arena_size)


def _first_with_numbers(tflite: bytes, candidates: Sequence[Sequence[Call]]) -> tuple[Sequence[Call], Trial]:
    for calls in candidates:
        (trial,) = run_on("micro", [(tflite, calls)], arena=True)
        if trial.refused is not None:
            raise InvalidModelError(f"TensorFlow Lite Micro cannot run this model: {trial.refused}")
        if finite_share(*trial.outputs) >= LEAST_FINITE:
            return calls, trial
    raise InvalidModelError(
        "the outputs are hardly ever finite numbers for these inputs, so nothing can be compared; pass a "
        "representative_dataset for which they are"
    )


def _check_edges(model: Model) -> None:
    main = model.subgraphs[0]
    tensors = [main.tensors[index] for index in [*main.inputs, *main.outputs]]
    for tensor in tensors:
        if tensor.type not in _TYPES:
            raise InvalidModelError(
                f"{graph.text(tensor.name)!r}, an input or output, is of type {graph.type_name(tensor)}, which a "
                "project cannot hold; convert the model with inputs and outputs of float32, int32 or a quantized type"
            )
    size = sum(_size(tensor.shape) * np.dtype(graph.DTYPES[tensor.type]).itemsize for tensor in tensors)
    if not len(main.inputs) or not len(main.outputs) or not all(_size(tensor.shape) for tensor in tensors):
        raise InvalidModelError("an input or output has no entries, so nothing can be compared; convert another model")
    if size > MOST_BYTES:
        raise InvalidModelError(
            f"the inputs and outputs of a call have {size:,} bytes, more than the {MOST_BYTES:,} that a project holds; "
            "convert the model with fewer time_steps"
        )


def _size(shape: Sequence[int] | None) -> int:
    return math.prod(map(int, shape)) if shape is not None else 1


def _calls(tflite: bytes, model: Model, dataset: Any, *, in_order: bool) -> tuple[list[tuple[Call, ...]], str]:
    """Candidates for the calls, of which the first that gives numbers is taken, and where they come from."""
    if dataset is None:
        drawn = [random_calls(tflite, count=MOST_SAMPLES, domain=domain) for domain in DOMAINS]
        return [(*calls, calls[0]) for calls in drawn], (
            "They are random numbers, the same each time, because no samples were given; integers without a scale are "
            "0. They show that the board computes what the computer does, and nothing about real data."
        )
    main, names = model.subgraphs[0], signature_names(model)["inputs"]
    tensors = [main.tensors[index] for index in main.inputs]
    scales = [graph.scale_of(tensor) for tensor in tensors]
    dtypes = [np.dtype(graph.DTYPES[tensor.type]) for tensor in tensors]
    shapes = [tuple(map(int, graph.listed(tensor.shape))) for tensor in tensors]
    real = [np.dtype(np.float32) if scale else dtype for (scale, _), dtype in zip(scales, dtypes, strict=True)]
    samples = read_samples(dataset, names, shapes, real)
    held_back = split(samples, in_order=in_order)[1]
    details = {
        name: {"quantization": scale, "dtype": dtype} for name, scale, dtype in zip(names, scales, dtypes, strict=True)
    }
    taken = [
        {name: quantized(array, details[name]) for name, array in sample.items()}
        for sample in (held_back or samples)[:MOST_SAMPLES]
    ]
    kind = "samples that `convert` holds back, if it was given the same" if held_back else "all the samples given"
    return [(*taken, taken[0])], f"They are {kind}."


def _edges(model: Model, kind: str, calls: Sequence[Call]) -> tuple[Edge, ...]:
    main, names = model.subgraphs[0], signature_names(model)[kind]
    edges = []
    for index, name in zip(map(int, getattr(main, kind)), names, strict=True):
        tensor = main.tensors[index]
        scale, zero_point = graph.scale_of(tensor)
        values = np.stack([np.ravel(call[name]) for call in calls])
        shape = tuple(map(int, graph.listed(tensor.shape)))
        tolerance = _tolerance(model, index, values) if kind == "outputs" else 0.0
        edges.append(Edge(name, shape, scale, zero_point, values, tolerance))
    return tuple(edges)


def _tolerance(model: Model, index: int, values: npt.NDArray[Any]) -> float:
    """How far an output may be off: not at all for integers that count, such as those of an ARG_MAX."""
    main = model.subgraphs[0]
    scale, zero_point = graph.scale_of(main.tensors[index])
    if values.dtype.kind != "f" and not scale:
        return 0.0
    real = (values.astype(np.float64) - zero_point) * (scale or 1.0)
    largest = float(np.abs(real[np.isfinite(real)]).max(initial=0.0))
    if not computes_in_integers(model):
        return FLOAT_TOLERANCE * max(1.0, largest)
    producer = graph.producers(main).get(index)
    if producer is not None and graph.operator_name(model, producer) == "DEQUANTIZE":
        scale = graph.scale_of(main.tensors[producer.inputs[0]])[0]
    return max(INTEGER_TOLERANCE * largest, STEPS_ALLOWED * scale)
