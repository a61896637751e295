"""Recurrent ops in a model file: their names, operands, activations, states and layers. It only reads."""

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any
from urllib.parse import unquote

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph, Tensor
from lstm_toolkit.weights.operands import (
    ABSENT,
    LSTM_COMPOSITE,
    OPERANDS_OF,
    SHUT_GATE,
    SIMPLE_RNN_COMPOSITE,
    STATES,
)

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
    """The name, or the name with a number where it is taken, as it is at a layer's second call."""
    return next(each for each in (name, *(f"{name}_call{n}" for n in range(1, len(taken) + 1))) if each not in taken)


def attributes_of(operator: Operator) -> dict[str, Any]:
    """What a composite op was marked with, the name of its layer as it was before it was quoted."""
    attributes: dict[str, Any] = flexbuffers.Loads(bytes(operator.customOptions))
    return attributes | {"layer": unquote(attributes["layer"])}


@dataclasses.dataclass(frozen=True)
class RecurrentOp:
    """A view of a recurrent op that knows its operands by name; it shows the file as it is now, and edits nothing.

    Attributes:
        model, subgraph: where the op stands.
        operator: the op, whose name is one of `OPERANDS_OF`.
    """

    model: Model
    subgraph: Subgraph
    operator: Operator

    @property
    def name(self) -> str:
        """Name of the builtin."""
        return graph.operator_name(self.model, self.operator)

    @property
    def options(self) -> Any:
        """Options of the op, as the schema names them."""
        return self.operator.builtinOptions

    @property
    def operands(self) -> dict[str, int]:
        """Indices of the tensors that the op takes, by operand name, without those that are absent."""
        pairs = zip(OPERANDS_OF[self.name], self.operator.inputs, strict=False)
        return {name: int(index) for name, index in pairs if index != ABSENT}

    def has(self, operand: str) -> bool:
        """Whether the op takes an operand."""
        return operand in self.operands

    def tensor(self, operand: str) -> Tensor:
        """The tensor of an operand that the op takes."""
        return self.subgraph.tensors[self.operands[operand]]

    @property
    def states(self) -> tuple[int, ...]:
        """Indices of the state tensors, in the order of the op."""
        return state_tensors(self.model, self.operator)

    @property
    def layer(self) -> str:
        """Name of the layer that the op belongs to."""
        return layer_of(self.subgraph.tensors[self.states[0]])

    @property
    def is_time_major(self) -> bool:
        """Whether the sequences are [time, batch, size]."""
        return bool(getattr(self.options, "timeMajor", False))

    @property
    def time_axis(self) -> int:
        """The axis of time in the sequences."""
        return 0 if self.is_time_major else 1

    @property
    def batch(self) -> int:
        """Number of sequences, -1 where it is open."""
        shape = graph.shape_of(self.tensor("input"))
        if not shape:  # the file leaves it to the runtime
            return graph.shape_of(self.subgraph.tensors[self.states[0]])[0]
        return shape[1 - self.time_axis if len(shape) > 2 else 0]

    @property
    def steps(self) -> int:
        """Length of the sequences, -1 where it is open; 1 for an op over one step."""
        shape = graph.shape_of(self.tensor("input"))
        if not shape:
            return -1
        return shape[self.time_axis] if len(shape) > 2 else 1

    @property
    def units(self) -> int:
        """Number of units: the rows of the first weights."""
        weights = next(name for name in self.operands if name != "input")
        return graph.shape_of(self.tensor(weights))[0]

    @property
    def is_integer(self) -> bool:
        """Whether the op computes in integers."""
        return self.tensor("input").type in (schema.TensorType.INT8, schema.TensorType.INT16)

    @property
    def is_coupled(self) -> bool:
        """Whether the op is an LSTM in one direction without an input gate of its own."""
        return "input_to_forget_weights" in self.operands and "input_to_input_weights" not in self.operands

    @property
    def is_normalized(self) -> bool:
        """Whether the op has layer normalization."""
        return "forget_layer_norm_coefficients" in self.operands

    @property
    def shuts_gates(self) -> bool:
        """Whether the op has the input channel that shuts its gates at padded steps (`SHUT_GATE`)."""
        weights = (self.subgraph.tensors[index] for name, index in self.operands.items() if "input_to_" in name)
        arrays = (graph.constant(self.model, tensor) for tensor in weights)
        return any(
            array is not None and array.dtype.kind == "f" and np.abs(array).max(initial=0) >= SHUT_GATE
            for array in arrays
        )


def recurrent_ops(model: Model, *subgraphs: Subgraph) -> Iterator[RecurrentOp]:
    """Yields the recurrent ops of some subgraphs, by default of all, in the order in which they run."""
    for subgraph in subgraphs or model.subgraphs:
        for operator in subgraph.operators:
            if state_tensors(model, operator):
                yield RecurrentOp(model, subgraph, operator)


_STATE_PLACES = {
    op: tuple(place for place, name in enumerate(operands) if name.endswith(STATES))
    for op, operands in OPERANDS_OF.items()
}


def state_places(model: Model, operator: Operator) -> tuple[int, ...]:
    """Where the states stand among the operands of an operator; empty for one that keeps no state."""
    return _STATE_PLACES.get(graph.operator_name(model, operator), ())


def state_tensors(model: Model, operator: Operator) -> tuple[int, ...]:
    """Indices of the state tensors of an operator; empty for one that keeps no state."""
    places = (place for place in state_places(model, operator) if place < len(operator.inputs))
    return tuple(int(operator.inputs[place]) for place in places if operator.inputs[place] != ABSENT)


def set_states(model: Model, subgraph: Subgraph) -> dict[int, str]:
    """How states are set at each call before their op reads them: "reset" to zero, or "explicit", from an input."""
    found: dict[int, str] = {}
    read: set[int] = set()
    once = {id(op) for _, op, _ in _from_constants(model, subgraph)}
    for op in subgraph.operators:
        for index in set(op.outputs) - read if id(op) not in once else ():
            if subgraph.tensors[index].isVariable:
                is_zero = (
                    graph.operator_name(model, op) == "ZEROS_LIKE"
                    or found.get(next(iter(op.inputs), ABSENT)) == "reset"
                )
                found[index] = "reset" if is_zero else "explicit"
        read |= set(state_tensors(model, op))
    return found


def carried_states(model: Model, subgraph: Subgraph) -> list[int]:
    """Indices of the states that live on from call to call, since no op sets them."""
    settled = set_states(model, subgraph)
    return [index for op in subgraph.operators for index in state_tensors(model, op) if index not in settled]


@dataclasses.dataclass(frozen=True)
class SetOnce:
    """An op that sets a state from constants, and runs only once.

    Attributes:
        operator: the op.
        is_zero: whether it surely sets the state to zero.
    """

    operator: Operator
    is_zero: bool


def set_once(
    model: Model, subgraph: Subgraph, is_wanted: Callable[[RecurrentOp], bool] = lambda _: True
) -> dict[int, SetOnce]:
    """The states of wanted recurrent ops that an op sets from constants only once, and nothing at each call.

    Where the converter stores a state of zeros in fewer bits, a DEQUANTIZE at the first call is all that sets it; such
    a state is like one that nothing sets, and is left out.
    """
    states = {index for op in recurrent_ops(model, subgraph) if is_wanted(op) for index in op.states}
    states -= set_states(model, subgraph).keys()
    return {
        index: SetOnce(op, is_zero)
        for index, op, is_zero in _from_constants(model, subgraph)
        if index in states and not (is_zero and graph.operator_name(model, op) == "DEQUANTIZE")
    }


_EVALUATED_ONCE = ("CONCATENATION", "DEQUANTIZE", "GATHER", "MUL", "RESHAPE", "STRIDED_SLICE", "TILE")
"""Ops whose kernels compute a result of constants once: DEQUANTIZE at the first call, the others at allocation."""


def _from_constants(model: Model, subgraph: Subgraph) -> Iterator[tuple[int, Operator, bool]]:
    """Yields each state that such an op computes from constants, the op, and whether the result is surely zero."""
    states = {index for op in recurrent_ops(model, subgraph) for index in op.states}
    folded: set[int] = set()
    for op in subgraph.operators if states else ():
        name, inputs = graph.operator_name(model, op), [index for index in op.inputs if index != ABSENT]
        if name not in _EVALUATED_ONCE:
            continue
        arrays = {index: graph.constant(model, subgraph.tensors[index]) for index in inputs}
        if any(array is None and index not in folded for index, array in arrays.items()):
            continue
        for index in states & {*op.outputs}:
            yield index, op, _gives_zeros(name, [_is_zero(subgraph.tensors[each], arrays[each]) for each in inputs])
        # What DEQUANTIZE computes is no constant to the ops behind it.
        folded |= {*op.outputs} if name != "DEQUANTIZE" else set()


def _gives_zeros(name: str, are_zero: list[bool]) -> bool:
    """Whether an op of constants gives zeros; the inputs after the first are mostly shapes and indices."""
    return {"CONCATENATION": all, "MUL": any}.get(name, lambda each: each[0])(are_zero)


def _is_zero(tensor: Tensor, array: Any) -> bool:
    """Whether a constant stands for zeros: an integer with a scale does where it is the zero point."""
    return array is not None and bool((array == graph.scale_of(tensor)[1]).all())


def layer_of(tensor: Tensor) -> str:
    """Name of the layer that a state tensor belongs to, as `graft` names it."""
    return graph.text(tensor.name).rpartition("/")[0]


def layers_of(model: Model) -> set[str]:
    """Names of the layers whose recurrent ops have states in a `ModelT`."""
    return {layer_of(op.subgraph.tensors[index]) for op in recurrent_ops(model) for index in op.states}


def states_are_given(op: RecurrentOp) -> bool:
    """Whether an op starts from states that are computed at each call, not from zero or where it ended."""
    ways = set_states(op.model, op.subgraph)
    return any(ways.get(index) == "explicit" for index in op.states)


def is_read_behind(op: RecurrentOp, state: int) -> bool:
    """Whether anything but an op itself takes one of its states, other than to set it."""
    others = [each for each in op.subgraph.operators if each is not op.operator]
    return state in op.subgraph.outputs or any(state in {*each.inputs} - {*each.outputs} for each in others)
