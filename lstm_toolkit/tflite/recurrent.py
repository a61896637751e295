"""Recurrent ops in a model file: their names, activations, states and layers. Reads only."""

from collections.abc import Collection

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph, Tensor
from lstm_toolkit.weights.operands import (
    ABSENT,
    LSTM_COMPOSITE,
    OPERANDS,
    OPERANDS_OF,
    SHUT_GATE,
    SIMPLE_RNN_COMPOSITE,
    STATES,
)

_COEFFICIENTS = "forget_layer_norm_coefficients"


def is_coupled(operator: Operator) -> bool:
    """Whether an LSTM op has no input gate of its own."""
    return not _has(operator, "input_to_input_weights")


def is_normalized(operator: Operator) -> bool:
    """Whether an LSTM op has layer normalization."""
    return _has(operator, _COEFFICIENTS)


def _has(operator: Operator, operand: str) -> bool:
    place = OPERANDS.index(operand)
    return len(operator.inputs) > place and operator.inputs[place] != ABSENT


ACTIVATIONS = {
    "tanh": schema.ActivationFunctionType.TANH,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "hard_tanh": schema.ActivationFunctionType.RELU_N1_TO_1,
}
"""Cell activations of the fused LSTM by Keras's names; its gates are always sigmoid.

`NONE` is left out: the LSTM kernel computes with an unwritten buffer then.
"""


RNN_ACTIVATIONS = ACTIVATIONS | {"linear": schema.ActivationFunctionType.NONE}
"""Activations of the fused simple RNN, whose kernel works in place, so that `NONE` is right."""


SINGLE_STEP_OP = "LSTM"
"""The op of an LSTM over one step."""


FUSED_OPS = {LSTM_COMPOSITE: "UNIDIRECTIONAL_SEQUENCE_LSTM", SIMPLE_RNN_COMPOSITE: "UNIDIRECTIONAL_SEQUENCE_RNN"}
"""The fused op that each composite op becomes."""


def numbered(name: str, taken: Collection[str]) -> str:
    """The name, with a number appended if it is taken, as from a layer's second call on."""
    return next(each for each in (name, *(f"{name}_call{n}" for n in range(1, len(taken) + 1))) if each not in taken)


def shuts_gates(model: Model, subgraph: Subgraph, operator: Operator) -> bool:
    """Whether an op has the input channel that shuts its gates at padded steps (`SHUT_GATE`)."""
    name = graph.operator_name(model, operator)
    for operand, index in zip(OPERANDS_OF[name], operator.inputs, strict=False):
        if "input_to_" in operand and index != ABSENT:
            values = graph.constant(model, subgraph.tensors[index])
            if values is not None and values.dtype.kind == "f" and np.abs(values).max(initial=0) >= SHUT_GATE:
                return True
    return False


STATE_OPERANDS = {
    op: tuple(index for index, name in enumerate(operands) if name.endswith(STATES))
    for op, operands in OPERANDS_OF.items()
}
"""Indices of the state operands of each op that keeps state."""


def state_tensors(model: Model, operator: Operator) -> tuple[int, ...]:
    """Indices of the state tensors of an operator; empty for one that keeps no state."""
    operands = STATE_OPERANDS.get(graph.operator_name(model, operator), ())
    indices = (int(operator.inputs[position]) for position in operands if position < len(operator.inputs))
    return tuple(index for index in indices if index != ABSENT)


def set_states(model: Model, subgraph: Subgraph) -> dict[int, str]:
    """The states that are set at each call before their op reads them: "reset" to zero, or "explicit"ly."""
    found: dict[int, str] = {}
    read: set[int] = set()
    for op in subgraph.operators:
        for index in set(op.outputs) - read:
            if subgraph.tensors[index].isVariable:
                is_zero = (
                    graph.operator_name(model, op) == "ZEROS_LIKE"
                    or found.get(next(iter(op.inputs), ABSENT)) == "reset"
                )
                found[index] = "reset" if is_zero else "explicit"
        read |= set(state_tensors(model, op))
    return found


def layer_of(tensor: Tensor) -> str:
    """Name of the layer that a state tensor belongs to, as `graft` names it."""
    return graph.text(tensor.name).rpartition("/")[0]
