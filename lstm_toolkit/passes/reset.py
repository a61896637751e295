"""Pass: every call of the file starts its recurrent layers from zero.

    before  [UNIDIRECTIONAL_SEQUENCE_LSTM with states h, c] ...
    after   [ZEROS_LIKE: h -> h] [ZEROS_LIKE: c -> c] [UNIDIRECTIONAL_SEQUENCE_LSTM with states h, c] ...

The runtime keeps variable tensors from one call to the next, so without this the second call starts where the first
one ended. `ZEROS_LIKE` with the state as both its input and its output is run at every call; an op that copies a
constant into the state may not be, since the interpreter evaluates some of them once, at allocation or the first call.

ZEROS_LIKE has no int8 and no int16, and the zero of an int8 state is its zero point, so an integer state is set from a
float variable that is zero:

    after   [ZEROS_LIKE: z -> z] [QUANTIZE: z -> h] ... [UNIDIRECTIONAL_SEQUENCE_LSTM int8 with states h, c] ...

A constant other than zero gets an op behind it that copies it at every call:

    before  [GATHER: constant -> h] ...
    after   [GATHER: constant -> start] [ADD_N: start, zeros -> h, or QUANTIZE: start -> h in integers] ...
"""

from collections.abc import Callable, Collection

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import RecurrentOp, layer_of, recurrent_ops, set_once, set_states
from lstm_toolkit.tflite.types import Model, Operator, Subgraph


def reset_states(
    model: Model, *, keep: Collection[str] = (), is_wanted: Callable[[RecurrentOp], bool] = lambda _: True
) -> int:
    """Puts a reset before everything else for each state of a `ModelT` that nothing sets yet, in place.

    Args:
        model: the file.
        keep: names of layers whose states live on from call to call.
        is_wanted: whether an op starts from zero; the states of the others live on.

    Returns:
        The number of states that are reset now and were not before.
    """
    added = 0
    for subgraph in model.subgraphs:
        settled = set_states(model, subgraph).keys() | set_once(model, subgraph).keys()
        ops = [op for op in recurrent_ops(model, subgraph) if is_wanted(op)]
        wanted = [index for op in ops for index in op.states if index not in settled]
        wanted = [index for index in wanted if layer_of(subgraph.tensors[index]) not in keep]
        others = [op for op in subgraph.operators if not {*wanted} & {*op.outputs}]
        subgraph.operators = [op for index in wanted for op in _to_zero(model, subgraph, index)] + others
        added += len(wanted)
    return added


def set_at_each_call(model: Model, is_wanted: Callable[[RecurrentOp], bool] = lambda _: True) -> int:
    """Lets the states of wanted ops that are set only once be set at each call, in place; returns their number."""
    count = 0
    for subgraph in model.subgraphs:
        found = set_once(model, subgraph, is_wanted)
        for index, once in found.items():
            place = subgraph.operators.index(once.operator)
            if once.is_zero:
                subgraph.operators[place : place + 1] = _to_zero(model, subgraph, index)
            else:
                subgraph.operators.insert(place + 1, _copied_at_each_call(model, subgraph, index, once.operator))
        count += len(found)
    return count


def _copied_at_each_call(model: Model, subgraph: Subgraph, index: int, operator: Operator) -> Operator:
    """Gives the op that computes a state once another output; returns the op that copies that into the state."""
    state = subgraph.tensors[index]
    start = edit.like(subgraph, index, "start", quantization=state.quantization)
    operator.outputs = [start]
    if state.type != schema.TensorType.FLOAT32:
        return edit.new_operator(model, "QUANTIZE", [start], [index])
    zeros = edit.add_constant(model, subgraph, "zeros", np.zeros(graph.shape_of(state), np.float32))
    return edit.new_operator(model, "ADD_N", [start, zeros], [index])


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
