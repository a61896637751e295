"""Pass: every call of the file starts its recurrent layers from zero.

    before  [UNIDIRECTIONAL_SEQUENCE_LSTM with states h, c] ...
    after   [ZEROS_LIKE: h -> h] [ZEROS_LIKE: c -> c] [UNIDIRECTIONAL_SEQUENCE_LSTM with states h, c] ...

The runtime keeps variable tensors from one call to the next, so without this the second call starts where the first
one ended. `ZEROS_LIKE` with the state as both its input and its output is run at every call; an op that copies a
constant into the state may not be, since the interpreter evaluates some of them once, at allocation.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from . import tflite_file as tf_file
from .contract import ABSENT, OPERANDS_OF, STATES

STATE_OPERANDS = {
    op: tuple(index for index, name in enumerate(operands) if name.endswith(STATES))
    for op, operands in OPERANDS_OF.items()
}
"""Indices of the state operands of each op that keeps state."""


def reset_states(model: Any, *, keep: Collection[str] = ()) -> int:
    """Puts a reset before everything else for each state of a `ModelT` that nothing sets yet, in place.

    Args:
        model: the file.
        keep: names of layers whose states live on from call to call.

    Returns:
        The number of states that are reset now and were not before.
    """
    added = 0
    for subgraph in model.subgraphs:
        settled = set(set_states(model, subgraph))
        wanted = [index for op in subgraph.operators for index in state_tensors(model, op) if index not in settled]
        wanted = [index for index in wanted if layer_of(subgraph.tensors[index]) not in keep]
        subgraph.operators[:0] = [_zeros_like(model, index) for index in wanted]
        added += len(wanted)
    return added


def state_tensors(model: Any, operator: Any) -> tuple[int, ...]:
    """Indices of the state tensors of an operator; empty for one that keeps no state."""
    operands = STATE_OPERANDS.get(tf_file.operator_name(model, operator), ())
    indices = (int(operator.inputs[position]) for position in operands if position < len(operator.inputs))
    return tuple(index for index in indices if index != ABSENT)


def set_states(model: Any, subgraph: Any) -> dict[int, str]:
    """The states that are set at each call before their op reads them: "reset" to zero, or "explicit"ly."""
    found: dict[int, str] = {}
    read: set[int] = set()
    for op in subgraph.operators:
        for index in set(op.outputs) - read:
            if subgraph.tensors[index].isVariable:
                found[index] = "reset" if tf_file.operator_name(model, op) == "ZEROS_LIKE" else "explicit"
        read |= set(state_tensors(model, op))
    return found


def layer_of(tensor: Any) -> str:
    """Name of the layer that a state tensor belongs to, as `graft` names it."""
    return tf_file.text(tensor.name).rpartition("/")[0]


def _zeros_like(model: Any, index: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = tf_file.operator_code(model, schema.BuiltinOperator.ZEROS_LIKE)
    operator.builtinOptionsType = schema.BuiltinOptions.ZerosLikeOptions
    operator.builtinOptions = schema.ZerosLikeOptionsT()
    operator.inputs, operator.outputs = [index], [index]
    return operator
