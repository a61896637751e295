"""Pass: every call of the file starts its LSTMs from zero.

    before  [UNIDIRECTIONAL_SEQUENCE_LSTM with states h, c] ...
    after   [ZEROS_LIKE: h -> h] [ZEROS_LIKE: c -> c] [UNIDIRECTIONAL_SEQUENCE_LSTM with states h, c] ...

The runtime keeps variable tensors from one call to the next, so without this the second call starts where the first
one ended. `ZEROS_LIKE` with the state as both its input and its output is run at every call; an op that copies a
constant into the state is not, since the interpreter evaluates it once, at allocation.
"""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from . import tflite_file as tf_file
from .contract import ABSENT, OPERANDS, STATES

STATE_OPERANDS = {"UNIDIRECTIONAL_SEQUENCE_LSTM": tuple(OPERANDS.index(name) for name in STATES)}
"""Indices of the state operands (h, c) of each op that keeps state."""


def reset_states(model: Any) -> int:
    """Puts a reset before everything else for each state of a `ModelT` that has none yet, in place.

    Returns:
        The number of states that are reset now and were not before.
    """
    added = 0
    for subgraph in model.subgraphs:
        present = reset_tensors(model, subgraph)
        wanted = [index for op in subgraph.operators for index in state_tensors(model, op) if index not in present]
        subgraph.operators[:0] = [_zeros_like(model, index) for index in wanted]
        added += len(wanted)
    return added


def state_tensors(model: Any, operator: Any) -> tuple[int, ...]:
    """Indices of the state tensors (h, c) of an operator; empty for one that keeps no state."""
    operands = STATE_OPERANDS.get(tf_file.operator_name(model, operator), ())
    indices = (int(operator.inputs[position]) for position in operands if position < len(operator.inputs))
    return tuple(index for index in indices if index != ABSENT)


def reset_tensors(model: Any, subgraph: Any) -> set[int]:
    """Indices of the states that are set to zero at each call before any LSTM reads them."""
    present: set[int] = set()
    read: set[int] = set()
    for op in subgraph.operators:
        if tf_file.operator_name(model, op) == "ZEROS_LIKE" and list(op.inputs) == list(op.outputs):
            present |= set(op.outputs) - read
        read |= set(state_tensors(model, op))
    return present


def _zeros_like(model: Any, index: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = tf_file.operator_code(model, schema.BuiltinOperator.ZEROS_LIKE)
    operator.builtinOptionsType = schema.BuiltinOptions.ZerosLikeOptions
    operator.builtinOptions = schema.ZerosLikeOptionsT()
    operator.inputs, operator.outputs = [index], [index]
    return operator
