"""How much memory a file takes: its weights, its states, and a lower bound on the arena that holds all other tensors.

In the arena a tensor may take the place of one that no operator needs any more. How well the interpreter plans that is
not computed here; it cannot do with less than the tensors that live at the worst moment.
"""

import dataclasses
import itertools
import math
from collections import Counter

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.inspection.arithmetic import known_sum
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Subgraph, Tensor
from lstm_toolkit.weights.operands import ABSENT

_BITS = {code: 8 * np.dtype(dtype).itemsize for code, dtype in graph.DTYPES.items()} | {
    schema.TensorType.INT4: 4,
    schema.TensorType.BFLOAT16: 16,
    schema.TensorType.COMPLEX64: 64,
    schema.TensorType.COMPLEX128: 128,
}

_SAME_DATA = ("BITCAST", "EXPAND_DIMS", "RESHAPE", "SQUEEZE")
"""Ops whose output may be their first input."""

_IN_PLACE = ("ADD", "DIV", "DYNAMIC_UPDATE_SLICE", "MUL", "SOFTMAX", "SUB")
"""Ops that may write their output where an input was."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory of a file in bytes.

    Attributes:
        weights: of the constant tensors, also axes and bounds; a buffer that several tensors share counts once.
        variables: of the variable tensors, which live from call to call; None where a shape is dynamic.
        largest_live: a lower bound on what the interpreter's arena needs for all other tensors: the bytes of those that
            live at the worst moment. Alignment, gaps, temporaries of kernels (such as an LSTM's scratch buffer) and
            what XNNPACK packs come on top. The bounds of the subgraphs, which have an arena each, are added up. None
            where a shape is dynamic.
    """

    weights: int
    variables: int | None
    largest_live: int | None


def memory_of(model: Model) -> Memory:
    """The memory of a file."""
    tensors = [tensor for subgraph in model.subgraphs for tensor in subgraph.tensors]
    buffers = [model.buffers[index].data for index in {tensor.buffer for tensor in tensors}]
    return Memory(
        weights=sum(len(data) for data in buffers if data is not None),
        variables=known_sum(_byte_size(tensor) for tensor in tensors if tensor.isVariable),
        largest_live=known_sum(_largest_live(model, subgraph) for subgraph in model.subgraphs),
    )


def _byte_size(tensor: Tensor) -> int | None:
    """Bytes of a tensor's values; None for a dynamic shape, and for types whose elements have no fixed size."""
    shape = graph.shape_of(tensor)
    if -1 in shape or tensor.type not in _BITS:
        return None
    return -(-math.prod(shape) * _BITS[tensor.type] // 8)


def _largest_live(model: Model, subgraph: Subgraph) -> int | None:
    """Bytes of the tensors that live at the worst moment; moment n is when operator n runs."""
    end = len(subgraph.operators)
    first, last, same = dict.fromkeys(subgraph.inputs, 0), dict[int, int](), dict[int, int]()
    for place, op in enumerate(subgraph.operators):
        name = graph.operator_name(model, op)
        last |= {same.get(index, index): place for index in op.inputs}
        if name in _SAME_DATA:
            same[op.outputs[0]] = same.get(op.inputs[0], op.inputs[0])
        else:
            for index in op.outputs:
                first.setdefault(index, place + (name in _IN_PLACE))
    # The interpreter keeps inputs and outputs, and what nothing takes, to the end.
    last |= {same.get(index, index): end for index in (*subgraph.inputs, *subgraph.outputs)}
    changes = Counter[int]()
    for index in first.keys() - {ABSENT}:
        tensor = subgraph.tensors[index]
        if not tensor.isVariable and model.buffers[tensor.buffer].data is None:
            size = _byte_size(tensor)
            if size is None:
                return None
            changes[first[index]] += size
            changes[last.get(index, end) + 1] -= size
    return max(itertools.accumulate(changes[moment] for moment in sorted(changes)), default=0)
