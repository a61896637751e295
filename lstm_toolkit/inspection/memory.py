"""How much memory a file takes: its weights, its states, and an estimate of the arena of all other tensors.

The arena is planned as TensorFlow Lite's `ArenaPlanner` does (`arena_planner.cc`, `simple_memory_arena.cc` of LiteRT):
tensors that live through the whole run first, then the largest first, each into the tightest gap among the tensors
that live at the same time, at multiples of 64 bytes; some ops write into the tensor that they read. What kernels ask
for beside (temporaries such as an LSTM's scratch buffer) and what XNNPACK packs is not in the file, so not in the plan.
"""

import dataclasses
import math
from collections import Counter
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Subgraph, Tensor
from lstm_toolkit.weights.operands import ABSENT

ALIGNMENT = 64
"""Bytes to whose multiples the interpreter aligns its tensors (`kDefaultTensorAlignment`)."""

MOST_TENSORS = 10_000
"""Subgraphs with more tensors are not planned: the time grows with the square of their number."""

_SCALAR_BYTES = 4

_BITS = {code: 8 * np.dtype(dtype).itemsize for code, dtype in graph.DTYPES.items()} | {
    schema.TensorType.INT4: 4,
    schema.TensorType.BFLOAT16: 16,
    schema.TensorType.COMPLEX64: 64,
    schema.TensorType.COMPLEX128: 128,
}

_IN_PLACE = dict.fromkeys(("ADD", "DIV", "MUL", "SUB"), 2) | dict.fromkeys(("DYNAMIC_UPDATE_SLICE", "SOFTMAX"), 1)
"""Ops that may write into one of their first inputs, and how many of these come into question."""

_SAME_DATA = ("BITCAST", "EXPAND_DIMS", "RESHAPE", "SQUEEZE")
"""Ops that leave the data as it is, so that output and first input may be one."""


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Memory of a file in bytes.

    Attributes:
        weights: of the constant tensors, also axes and bounds; a buffer that several tensors share counts once.
        variables: of the variable tensors, which live from call to call; None where a shape is dynamic.
        arena: an estimate of the interpreter's arena for all other tensors, over all subgraphs, without the
            temporaries of kernels and without XNNPACK; None where a shape is dynamic or there are too many tensors.
        live: the most that the tensors in the arena hold at one time, so that no plan can do with less where no op
            works in place; None as for `arena`.
    """

    weights: int
    variables: int | None
    arena: int | None
    live: int | None


@dataclasses.dataclass(frozen=True)
class _Lifetime:
    """A tensor in the arena: its bytes, and the first and the last operator that it must live for."""

    tensor: int
    size: int
    first: int
    last: int


def plan_memory(model: Model) -> MemoryPlan:
    """Plans the memory of a `ModelT`."""
    used = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors}
    weights = sum(len(model.buffers[index].data) for index in used if model.buffers[index].data is not None)
    states = [tensor for subgraph in model.subgraphs for tensor in subgraph.tensors if tensor.isVariable]
    variables = _total(byte_size(tensor) for tensor in states)
    lifetimes = [_lifetimes(model, subgraph) for subgraph in model.subgraphs]
    arena = _total(None if lives is None else _planned(lives) for lives in lifetimes)
    live = _total(None if lives is None else _most_live(lives) for lives in lifetimes)
    return MemoryPlan(weights, variables, arena, live)


def byte_size(tensor: Tensor) -> int | None:
    """Bytes of a tensor's values; None for a dynamic shape, and for types whose elements have no fixed size."""
    shape = graph.shape_of(tensor)
    if -1 in shape or tensor.type not in _BITS:
        return None
    return -(-math.prod(shape) * _BITS[tensor.type] // 8)


def _total(sizes: Any) -> int | None:
    total = 0
    for size in sizes:
        if size is None:
            return None
        total += size
    return total


def _lifetimes(model: Model, subgraph: Subgraph) -> list[_Lifetime] | None:
    """The tensors of a subgraph that the arena holds; None where the size of one is not known."""
    tensors, end = subgraph.tensors, max(len(subgraph.operators), 1)
    in_arena = {
        index
        for index, tensor in enumerate(tensors)
        if not tensor.isVariable and model.buffers[tensor.buffer].data is None
    }
    sizes = {index: byte_size(tensors[index]) for index in in_arena}
    first = {index: 0 for index in subgraph.inputs if index in in_arena}
    for place, op in enumerate(subgraph.operators):
        for index in op.outputs:
            if index in in_arena:
                first.setdefault(index, place)
    if len(tensors) > MOST_TENSORS or any(sizes[index] is None for index in first):
        return None
    owner = _in_place(model, subgraph, sizes)
    last: dict[int, int] = {}
    for place, op in enumerate(subgraph.operators):
        last |= {owner.get(index, index): place for index in op.inputs if index != ABSENT}
    kept = {owner.get(index, index) for index in [*subgraph.inputs, *subgraph.outputs]}
    return [
        _Lifetime(index, sizes[index] or 0, place, end if index in kept else last.get(index, end))
        for index, place in first.items()
        if index not in owner
    ]


def _in_place(model: Model, subgraph: Subgraph, sizes: dict[int, int | None]) -> dict[int, int]:
    """For each output that shares the memory of an input, the tensor whose memory that is."""
    references = Counter([*subgraph.inputs, *subgraph.outputs])
    for op in subgraph.operators:
        references.update(index for index in op.inputs if index != ABSENT)
    fixed, owner = {*subgraph.inputs, *subgraph.outputs}, dict[int, int]()
    for op in subgraph.operators:
        name = graph.operator_name(model, op)
        changes = name not in _SAME_DATA
        candidates = op.inputs[: _IN_PLACE.get(name, 0) if changes else 1]
        if not op.outputs or op.outputs[0] in fixed or sizes.get(op.outputs[0]) is None:
            continue
        size = sizes[op.outputs[0]] or 0
        for index in candidates:
            is_free = index not in fixed and sizes.get(index) == size
            if is_free and (not changes or (size > _SCALAR_BYTES and references[index] == 1)):
                actual = owner.get(index, index)
                if not changes or references[actual] <= 1:
                    owner[op.outputs[0]] = actual
                break
    return owner


def _planned(lifetimes: list[_Lifetime]) -> int:
    """Bytes of the arena that holds all tensors."""
    end = max((each.last for each in lifetimes), default=0)
    order = sorted(
        lifetimes,
        key=lambda each: (0, each.tensor) if each.first == 0 and each.last == end else (1, -each.size, each.first),
    )
    placed = np.zeros((0, 4), np.int64)  # first, last, offset, end; by offset
    for each in order:
        if not each.size:
            continue
        together = placed[(placed[:, 1] >= each.first) & (placed[:, 0] <= each.last)]
        reached = np.concatenate([[0], np.maximum.accumulate(together[:, 3])]) if len(together) else np.zeros(1, int)
        starts = -(-reached // ALIGNMENT) * ALIGNMENT
        gaps = together[:, 2] - starts[:-1]
        fitting = np.flatnonzero(gaps >= each.size)
        offset = int(starts[fitting[np.argmin(gaps[fitting])]] if len(fitting) else starts[-1])
        row = [each.first, each.last, offset, offset + each.size]
        placed = np.insert(placed, np.searchsorted(placed[:, 2], offset, side="right"), row, axis=0)
    return int(placed[:, 3].max(initial=0))


def _most_live(lifetimes: list[_Lifetime]) -> int:
    changes: Counter[int] = Counter()
    for each in lifetimes:
        changes[each.first] += each.size
        changes[each.last + 1] -= each.size
    live = most = 0
    for place in sorted(changes):
        live += changes[place]
        most = max(most, live)
    return most
