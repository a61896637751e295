"""Pass: every call of the file starts its recurrent layers from zero.

    before  [UNIDIRECTIONAL_SEQUENCE_LSTM with states h, c] ...
    after   [ZEROS_LIKE: h -> h] [ZEROS_LIKE: c -> c] [UNIDIRECTIONAL_SEQUENCE_LSTM with states h, c] ...

The runtime keeps variable tensors from one call to the next, so without this the second call starts where the first
one ended. `ZEROS_LIKE` with the state as both its input and its output is run at every call; an op that copies a
constant into the state may not be, since the interpreter evaluates some of them once, at allocation.

ZEROS_LIKE has no int8 and no int16, and the zero of an int8 state is its zero point, so an integer state is set from a
float variable that is zero:

    after   [ZEROS_LIKE: z -> z] [QUANTIZE: z -> h] ... [UNIDIRECTIONAL_SEQUENCE_LSTM int8 with states h, c] ...
"""

from collections.abc import Collection, Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import layer_of, recurrent_ops, set_states
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT


def reset_states(model: Model, *, keep: Collection[str] = ()) -> int:
    """Puts a reset before everything else for each state of a `ModelT` that nothing sets yet, in place.

    Args:
        model: the file.
        keep: names of layers whose states live on from call to call.

    Returns:
        The number of states that are reset now and were not before.
    """
    added = 0
    for subgraph in model.subgraphs:
        settled, ops = set_states(model, subgraph), recurrent_ops(model, subgraph)
        wanted = [index for op in ops for index in op.states if index not in settled]
        wanted = [index for index in wanted if layer_of(subgraph.tensors[index]) not in keep]
        subgraph.operators[:0] = [op for index in wanted for op in _to_zero(model, subgraph, index)]
        added += len(wanted)
    return added


def set_once(model: Model, *, to_zero: bool) -> Iterator[tuple[int, Subgraph, Operator]]:
    """Yields state, subgraph and op for each op that copies a constant into a state but runs only at allocation.

    Args:
        model: the file.
        to_zero: whether ops that copy zeros are wanted, or those that copy something else.
    """
    for subgraph in model.subgraphs:
        states = {index for op in recurrent_ops(model, subgraph) for index in op.states}
        for op in subgraph.operators:
            if graph.operator_name(model, op) not in _EVALUATED_AT_ALLOCATION or not states & set(op.outputs):
                continue
            values = [graph.constant(model, subgraph.tensors[index]) for index in op.inputs if index != ABSENT]
            if all(each is not None for each in values) and bool(np.any(values[0])) != to_zero:
                yield from ((index, subgraph, op) for index in op.outputs)


_EVALUATED_AT_ALLOCATION = ("GATHER", "MUL", "RESHAPE", "TILE")
"""Ops whose kernels compute a result of constants once, at allocation."""


def set_to_zero_at_each_call(model: Model) -> int:
    """Replaces the ops of `set_once` that copy zeros by resets, in place; returns how many there were."""
    found = list(set_once(model, to_zero=True))
    for index, subgraph, op in found:
        place = subgraph.operators.index(op)
        subgraph.operators[place : place + 1] = _to_zero(model, subgraph, index)
    return len(found)


def _to_zero(model: Model, subgraph: Subgraph, index: int) -> list[Operator]:
    """The ops that set a state to zero at each call."""
    tensor = subgraph.tensors[index]
    if tensor.type == schema.TensorType.FLOAT32:
        return [_zeros_like(model, index)]
    name = f"{graph.text(tensor.name)}/zeros"
    zeros = edit.add_tensor(subgraph, name, graph.shape_of(tensor), variable=True)
    quantize = edit.new_operator(model, "QUANTIZE", [zeros], [index])
    return [_zeros_like(model, zeros), quantize]


def _zeros_like(model: Model, index: int) -> Operator:
    return edit.new_operator(model, "ZEROS_LIKE", [index], [index])
