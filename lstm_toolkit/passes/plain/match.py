"""Finds the recurrent ops of a file that can be written as plain ops, and reads them whole.

These are the fused ops, with their states set to zero or from given ones and perhaps copied out, and the composite ops
of layers that no fused op can hold.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.graft import with_mask_channel
from lstm_toolkit.passes.plain.cells import Array, Cell, GruCell, LstmCell, SimpleRnnCell
from lstm_toolkit.passes.plain.recurrence import Recurrence
from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import (
    ACTIVATIONS,
    RNN_ACTIVATIONS,
    RecurrentOp,
    attributes_of,
    numbered,
    set_once,
    state_tensors,
)
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.frameworks import KERAS
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import CELL_COMPOSITE, STATES, WEIGHT_OPERANDS

_LSTM_NAMES = {code: name for name, code in ACTIVATIONS.items()}
_RNN_NAMES = {code: name for name, code in RNN_ACTIVATIONS.items()}


@dataclasses.dataclass(frozen=True)
class Lowering:
    """A recurrent op that can be lowered.

    Attributes:
        operator: the op.
        recurrences: what it computes: one, or one a direction.
        joined: the tensor that takes the outputs of both directions side by side, or None.
        dropped: the ops around it that only set or read its states.
        moved: for a state of the op, the tensor that others read instead.
    """

    operator: Operator
    recurrences: tuple[Recurrence, ...]
    joined: int | None
    dropped: tuple[Any, ...]
    moved: Mapping[int, int]

    def with_like_steps(self) -> "Lowering":
        """The same, with steps that are all alike (`Recurrence`)."""
        recurrences = tuple(dataclasses.replace(each, alike=True) for each in self.recurrences)
        return dataclasses.replace(self, recurrences=recurrences)


def matches(model: Model, subgraph: Subgraph, form: str, *, cells_only: bool = False) -> Iterator[Lowering]:
    """Yields every recurrent op of a subgraph, or only what no fused op can hold, checked for a form of plain ops.

    Raises:
        ConversionError: if one cannot be lowered exactly; names the layer, the reason and the remedy.
    """
    taken: set[str] = set()
    for operator in subgraph.operators:
        name = graph.operator_name(model, operator)
        if name == CELL_COMPOSITE:
            match = _composite(model, subgraph, operator, taken)
        elif state_tensors(model, operator) and not cells_only:
            match = _fused(RecurrentOp(model, subgraph, operator))
        else:
            continue
        for each in match.recurrences:
            taken.add(each.layer)
            if each.batch < 1:
                raise ConversionError(
                    f"layer {each.layer!r}: the batch is open, since an open axis is folded into it, and plain ops "
                    "need a fixed one; pass time_steps, or an input_signature without open sizes"
                )
            if each.steps is None and form == "unrolled":
                raise ConversionError(
                    f"layer {each.layer!r}: the number of time steps is open, and unrolling needs a fixed one; pass "
                    'time_steps, or lowering="loop"'
                )
        yield match


def _composite(model: Model, subgraph: Subgraph, operator: Operator, taken: set[str]) -> Lowering:
    attributes = attributes_of(operator)
    layer = numbered(attributes["layer"], taken)
    kinds = attributes["weights"].split(",")
    arrays = {
        kind: _float_constant(model, subgraph, index, kind, layer)
        for kind, index in zip(kinds, operator.inputs[1:], strict=False)
    }
    cell = _cell(arrays, attributes)
    given = tuple(operator.inputs[1 + len(kinds) :])
    consumed = graph.consumed(subgraph)
    others = [(index,) if index in consumed else () for index in operator.outputs[1:]]
    sizes = _sizes(subgraph, operator.inputs[0], time_major=False)
    outputs, slices = _outputs(model, subgraph, operator.outputs[0], sizes)
    recurrence = Recurrence(
        layer=layer,
        cell=cell,
        input=operator.inputs[0],
        outputs=outputs,
        start=given or (None,) * len(cell.state_sizes),
        last=(tuple(op.outputs[0] for op in slices), *others),
        **sizes,
    )
    return Lowering(operator, (recurrence,), None, tuple(slices), {})


def _cell(packed: Mapping[str, Array], attributes: Mapping[str, Any]) -> Cell:
    """The cell of a composite op, from weights as Keras packs them."""
    activation, recurrent_activation = attributes["activation"], attributes["recurrent_activation"]
    if attributes["kind"] == "lstm":
        weights = GateWeights.from_operands(KERAS.split(packed))
        if attributes["masked"]:
            weights = with_mask_channel(weights)
        return LstmCell(weights, activation, recurrent_activation)
    kernel, recurrent_kernel, bias = packed.values()
    if attributes["kind"] == "simple_rnn":
        return SimpleRnnCell(kernel.T, recurrent_kernel.T, bias, activation)
    biases = bias.reshape(-1, recurrent_kernel.shape[1])
    return GruCell(
        kernel=kernel.T,
        recurrent_kernel=recurrent_kernel.T,
        bias=biases[0],
        recurrent_bias=biases[1] if len(biases) > 1 else np.zeros_like(biases[0]),
        activation=activation,
        recurrent_activation=recurrent_activation,
        reset_after=attributes["reset_after"],
    )


def _fused(op: RecurrentOp) -> Lowering:
    outputs = op.operator.outputs
    layer = op.layer or graph.text(op.subgraph.tensors[outputs[0]].name)
    if any("auxiliary" in each for each in op.operands):
        raise ConversionError(
            f"layer {layer!r}: its op has auxiliary inputs, which plain ops are not written for; convert the source "
            "model with lstm_toolkit.convert, which writes none"
        )
    if not graph.shape_of(op.tensor("input")):
        raise ConversionError(
            f"layer {layer!r}: the file does not store the shape of its input, which plain ops are made for; convert "
            "the source model with lstm_toolkit.convert"
        )
    prefixes = ("forward_", "backward_") if op.name.startswith("BIDIRECTIONAL") else ("",)
    directions = [_direction(op, layer, prefix) for prefix in prefixes]
    return Lowering(
        operator=op.operator,
        recurrences=tuple(recurrence for each in directions for recurrence in each.recurrences),
        joined=outputs[0] if len(directions) > len(outputs) else None,
        dropped=tuple(dropped for each in directions for dropped in each.dropped),
        moved={state: last for each in directions for state, last in each.moved.items()},
    )


def _direction(op: RecurrentOp, layer: str, prefix: str) -> Lowering:
    """The direction of a fused op whose operands begin with a prefix."""
    own = {name.removeprefix(prefix): index for name, index in op.operands.items() if name.startswith(prefix)}
    try:
        cell = _fused_cell(op, own, layer)
    except (KeyError, ValueError) as error:
        raise ConversionError(
            f"layer {layer!r}: its weights do not fit its op: {error}; convert the source model again"
        ) from error
    states = [own[each] for each in STATES if each in own]
    uses = [_state_use(op, state, layer) for state in states]
    sizes = _sizes(op.subgraph, op.operands["input"], time_major=op.is_time_major)
    given = op.operator.outputs
    slices: list[Any] = []
    if not prefix:
        outputs, slices = _outputs(op.model, op.subgraph, given[0], sizes)
    elif len(given) == 1:
        shape = (*graph.shape_of(op.subgraph.tensors[given[0]])[:-1], cell.state_sizes[0])
        outputs = edit.like(op.subgraph, given[0], "half", shape=shape)
    else:
        outputs = given[prefix == "backward_"]
    last = [() if use.last is None else (use.last,) for use in uses]
    recurrence = Recurrence(
        layer=f"{layer}_backward" if prefix == "backward_" else layer,
        cell=cell,
        input=op.operands["input"],
        outputs=outputs,
        start=tuple(use.start for use in uses),
        last=((*last[0], *(each.outputs[0] for each in slices)), *last[1:]),
        backwards=prefix == "backward_",
        **sizes,
    )
    moved = {state: use.last for state, use in zip(states, uses, strict=True) if use.last is not None}
    return Lowering(op.operator, (recurrence,), None, (*(each for use in uses for each in use.around), *slices), moved)


def _fused_cell(op: RecurrentOp, operands: Mapping[str, int], layer: str) -> Cell:
    options = op.options
    arrays = {
        name: _float_constant(op.model, op.subgraph, index, name, layer)
        for name, index in operands.items()
        if name in WEIGHT_OPERANDS or name in ("weights", "recurrent_weights", "bias")
    }
    known = _RNN_NAMES if "weights" in arrays else _LSTM_NAMES
    if options.fusedActivationFunction not in known:
        raise ConversionError(
            f"layer {layer!r}: its op has the activation {options.fusedActivationFunction} of the schema, for which "
            'the fused op has no defined result; convert the source model with lowering="unrolled" or "loop"'
        )
    activation = known[options.fusedActivationFunction]
    if "weights" in arrays:
        return SimpleRnnCell(arrays["weights"], arrays["recurrent_weights"], arrays["bias"], activation)
    weights = GateWeights.from_operands(arrays)
    return LstmCell(weights, activation, cell_clip=options.cellClip, proj_clip=options.projClip)


def _sizes(subgraph: Subgraph, sequence: int, *, time_major: bool) -> dict[str, Any]:
    """Batch, steps and layout of an input."""
    shape = graph.shape_of(subgraph.tensors[sequence])
    steps = 1 if len(shape) == 2 else shape[0 if time_major else 1]
    batch = shape[1 if time_major and len(shape) == 3 else 0]
    return {"batch": batch, "steps": steps if steps >= 0 else None, "time_major": time_major}


def _outputs(model: Model, subgraph: Subgraph, outputs: int, sizes: Mapping[str, Any]) -> tuple[int | None, list[Any]]:
    """The tensor of all outputs, and no ops; or none, and the slices, where all that is used is the last step."""
    users = [op for op in subgraph.operators if outputs in op.inputs]
    time = 0 if sizes["time_major"] else 1
    if not users or outputs in subgraph.outputs:
        return outputs, []
    is_last = [graph.takes_last_step(model, subgraph, op, time, steps=sizes["steps"]) for op in users]
    return (None, users) if all(is_last) else (outputs, [])


def _float_constant(model: Model, subgraph: Subgraph, index: int, name: str, layer: str) -> Array:
    tensor = subgraph.tensors[index]
    array = graph.float_constant(model, tensor)
    if array is None:
        kind = "not a constant" if graph.constant(model, tensor) is None else graph.type_name(tensor)
        raise ConversionError(
            f"layer {layer!r}: its {name} is {kind}, and only float32 constants can be lowered; lower the float file, "
            "and quantize what comes out"
        )
    return array


@dataclasses.dataclass(frozen=True)
class StateUse:
    """What is done with a state around its op.

    Attributes:
        start: the tensor that it starts from; None for zeros.
        last: the tensor that takes its last value; None if nobody reads it.
        around: the ops that set it or copy it out.
    """

    start: int | None
    last: int | None
    around: tuple[Operator, ...]


def _state_use(op: RecurrentOp, state: int, layer: str) -> StateUse:
    others = [each for each in op.subgraph.operators if each is not op.operator]
    setters = [each for each in others if state in each.outputs]
    readers = [each for each in others if state in each.inputs and each not in setters]
    _check_state(op, state, layer, setters, readers)
    start = None if graph.operator_name(op.model, setters[0]) == "ZEROS_LIKE" else setters[0].inputs[0]
    if not readers:
        return StateUse(start, None, tuple(setters))
    copy = next((each for each in readers if _adds_nothing(op.model, op.subgraph, each)), None)
    if copy is not None:
        return StateUse(start, copy.outputs[0], (*setters, copy))
    return StateUse(start, edit.like(op.subgraph, state, "last"), tuple(setters))


def _check_state(
    op: RecurrentOp, state: int, layer: str, setters: Sequence[Operator], readers: Sequence[Operator]
) -> None:
    """Refuses a state that is not set once before its op, to zeros or a given tensor, and read only behind it."""
    model, subgraph, operators = op.model, op.subgraph, op.subgraph.operators
    are_known = [
        graph.operator_name(model, each) == "ZEROS_LIKE" or _adds_nothing(model, subgraph, each) for each in setters
    ]
    # These run at every call, so that only others have to be looked for in the whole file.
    if not setters or (not all(are_known) and state in set_once(model, subgraph)):
        raise ConversionError(
            f"layer {layer!r}: it carries its state from call to call in a variable tensor, and plain ops have none; "
            'convert the model with state="explicit", or, in a file of another converter, let lstm_toolkit.repair set '
            "the state at every call"
        )
    place = operators.index(op.operator)
    is_in_order = all((operators.index(each) < place) == (each in setters) for each in (*setters, *readers))
    is_matrix = [len(graph.shape_of(subgraph.tensors[index])) for index in setters[0].inputs[:1]] == [2]
    if len(setters) > 1 or not are_known[0] or not is_in_order or not is_matrix or state in subgraph.outputs:
        raise ConversionError(
            f"layer {layer!r}: its state {graph.text(subgraph.tensors[state].name)!r} is set or read in a way that "
            "plain ops cannot follow; convert the model again with lstm_toolkit"
        )


def _adds_nothing(model: Model, subgraph: Subgraph, operator: Operator) -> bool:
    """Whether an operator is an ADD_N of something and zeros, which may be the product of something and zeros."""
    if graph.operator_name(model, operator) != "ADD_N" or len(operator.inputs) != 2:
        return False
    producer = graph.producers(subgraph).get(operator.inputs[1])
    added = operator.inputs[1:]
    if producer is not None and graph.operator_name(model, producer) == "MUL":
        added = producer.inputs
    tensors = [subgraph.tensors[index] for index in added]
    constants = [array for tensor in tensors if (array := graph.constant(model, tensor)) is not None]
    return any(not array.any() for array in constants)
