"""Pass: the composite ops of traced recurrent layers become fused ops.

    before  [lstm_toolkit.LSTM (CUSTOM): input, packed weights, perhaps h0, c0 -> sequence, perhaps c]
    after   [UNIDIRECTIONAL_SEQUENCE_LSTM: input, weights by gate, states -> sequence], or
            [LSTM: ...] where the input is a single step, [batch, input]

    before  [lstm_toolkit.SimpleRNN (CUSTOM): input, weights, perhaps h0 -> sequence]
    after   [UNIDIRECTIONAL_SEQUENCE_RNN: input, weights, state -> sequence]

Where a layer starts from given states, [ADD_N: h0, 0 -> h] stands before the op; where its last c is used, behind it
stand [STRIDED_SLICE: sequence -> last] [MUL: last, 0 -> zeros] [ADD_N: c, zeros -> ...]. The only clip that is written
is one that was asked for; every weight gets a buffer of its own and the states are new variable tensors, so that none
of them can share memory with a weight.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import (
    ACTIVATIONS,
    FUSED_OPS,
    RNN_ACTIVATIONS,
    SINGLE_STEP_OP,
    attributes_of,
    numbered,
)
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import (
    ABSENT,
    BIASES,
    LSTM_COMPOSITE,
    OPERANDS_OF,
    SHUT_GATE,
    SIMPLE_RNN_COMPOSITE,
    STATES,
)
from lstm_toolkit.weights.packing import Packing


@dataclasses.dataclass(frozen=True)
class Grafted:
    """What `graft` did.

    Attributes:
        ops: for each layer name, the op that its call became.
        carried: the layers whose state lives on from one call to the next.
    """

    ops: Mapping[str, str]
    carried: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Fusion:
    """An operator, fully read and checked, that can become a fused op.

    Attributes:
        subgraph, operator: where the operator stands; of its operands, the first one is the input.
        layer: name of the layer.
        op: name of the fused op.
        options: fields of its options, as the schema names them.
        weights: arrays by operand name of the fused op.
        packed: the operands that the weights were made of.
        given: the tensors that the states start from; none where they start from zero.
        state_sizes: size of each state, by operand name.
        batch: number of sequences.
        carry: whether the states live on from call to call.
    """

    subgraph: Subgraph
    operator: Operator
    layer: str
    op: str
    options: Mapping[str, Any]
    weights: Mapping[str, npt.NDArray[np.float32]]
    packed: tuple[int, ...]
    given: tuple[int, ...]
    state_sizes: Mapping[str, int]
    batch: int
    carry: bool


def graft(model: Model, *, batch: int | None = None) -> Grafted:
    """Replaces every composite op of a `ModelT` in place.

    Args:
        model: the file.
        batch: of the model's inputs, for ops whose own batch the converter did not work out.

    Raises:
        ConversionError: if a composite op uses what the fused op does not have; nothing is changed then.
    """
    taken: set[str] = set()
    fusions = [
        _fusion(model, subgraph, op, batch, taken)
        for subgraph in model.subgraphs
        for op in subgraph.operators
        if graph.operator_name(model, op) in FUSED_OPS
    ]
    shared: dict[tuple[int, ...], dict[str, int]] = {}
    for fusion in fusions:
        replace(model, fusion, shared)
    return Grafted(
        ops={fusion.layer: fusion.op for fusion in fusions},
        carried=frozenset(fusion.layer for fusion in fusions if fusion.carry),
    )


def marked_weights(model: Model, subgraph: Subgraph, operator: Operator, layer: str) -> dict[str, npt.NDArray[Any]]:
    """The weights of a composite op by the names that its mark gives them.

    Raises:
        ConversionError: if one of them is computed; names the layer.
    """
    kinds = attributes_of(operator)["weights"].split(",")
    packed = {}
    for kind, index in zip(kinds, operator.inputs[1 : 1 + len(kinds)], strict=True):
        array = graph.constant(model, subgraph.tensors[index])
        if array is None:
            raise ConversionError(
                f"layer {layer!r}: its {kind} is not a constant, so it cannot go into the file; make it of variables "
                "and constants alone, not of what the model is given"
            )
        packed[kind] = array
    return packed


def _fusion(model: Model, subgraph: Subgraph, operator: Operator, batch: int | None, taken: set[str]) -> Fusion:
    composite = graph.operator_name(model, operator)
    attributes = attributes_of(operator)
    layer = numbered(attributes["layer"], taken)
    taken.add(layer)
    packed = marked_weights(model, subgraph, operator, layer)
    output_shape = graph.shape_of(subgraph.tensors[operator.outputs[0]])
    own_batch = output_shape[1 if attributes.get("time_major") else 0]
    if own_batch < 1 and batch is None:
        raise ConversionError(
            f"layer {layer!r}: the batch is open, since an open axis is folded into it, and a fused op needs a fixed "
            "one; pass time_steps, or an input_signature without open sizes"
        )
    read = _simple_rnn if composite == SIMPLE_RNN_COMPOSITE else _lstm
    is_step = len(output_shape) == 2
    try:
        weights, options, state_sizes = read(packed, attributes, is_step=is_step)
    except ValueError as error:
        raise ConversionError(f"layer {layer!r}: its weights do not fit the fused op: {error}") from error
    return Fusion(
        subgraph=subgraph,
        operator=operator,
        layer=layer,
        op=SINGLE_STEP_OP if is_step and composite == LSTM_COMPOSITE else FUSED_OPS[composite],
        options=options,
        weights=weights,
        packed=tuple(operator.inputs[1 : 1 + len(packed)]),
        given=tuple(operator.inputs[1 + len(packed) :]),
        state_sizes=state_sizes,
        batch=own_batch if own_batch > 0 else batch or 0,
        carry=bool(attributes.get("carry")),
    )


def _lstm(
    packed: Mapping[str, Any], attributes: Mapping[str, Any], *, is_step: bool
) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    packing = Packing(
        gates=tuple(attributes["gates"].split(",")),
        gate_axis=attributes.get("gate_axis", -1),
        forget_gate_bias=attributes.get("forget_gate_bias", 0.0),
    )
    weights = GateWeights.from_operands(packing.split(packed))
    if attributes.get("masked"):
        weights = with_mask_channel(weights)
    options = {
        "fusedActivationFunction": ACTIVATIONS[attributes.get("activation", "tanh")],
        "cellClip": attributes.get("cell_clip", 0.0),
        "projClip": attributes.get("proj_clip", 0.0),
    }
    if not is_step:
        options["timeMajor"] = bool(attributes.get("time_major"))
        options["diagonalRecurrentTensors"] = weights.has_diagonal_recurrence
    required_biases = BIASES if weights.has_input_gate else BIASES[1:]
    by_name = dict.fromkeys(required_biases, np.zeros(weights.units, np.float32)) | dict(weights.operands())
    return by_name, options, dict(zip(STATES, (weights.output_size, weights.units), strict=True))


def with_mask_channel(weights: GateWeights) -> GateWeights:
    """Appends an input channel whose 1 opens the forget gate and shuts the others: c stays as it is, and h is zero."""
    pushes = {"forget": SHUT_GATE, "cell": 0.0, "output": -SHUT_GATE} | (
        {"input": -SHUT_GATE} if weights.has_input_gate else {}
    )
    columns = {}
    for gate, push in pushes.items():
        name = f"input_to_{gate}_weights"
        columns[name] = np.pad(getattr(weights, name), ((0, 0), (0, 1)), constant_values=push)
    return dataclasses.replace(weights, **columns)


def _simple_rnn(
    packed: Mapping[str, Any],
    attributes: Mapping[str, Any],
    *,
    is_step: bool,  # noqa: ARG001 (as `_lstm`)
) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    kernel, recurrent_kernel, bias = packed.values()
    options = {"fusedActivationFunction": RNN_ACTIVATIONS[attributes["activation"]]}
    weights = {"weights": kernel.T, "recurrent_weights": recurrent_kernel.T, "bias": bias}
    return weights, options, {STATES[0]: len(recurrent_kernel)}


def replace(model: Model, fusion: Fusion, shared: dict[tuple[int, ...], dict[str, int]]) -> Operator:
    """Puts the fused op in the place of an operator.

    Args:
        model: the file.
        fusion: the operator.
        shared: the weights that are in the file already, by the operands that they were made of; gets the new ones.

    Returns:
        The fused op.
    """
    subgraph, operator, layer = fusion.subgraph, fusion.operator, fusion.layer
    if fusion.packed not in shared:
        shared[fusion.packed] = {
            name: edit.add_constant(model, subgraph, f"{layer}/{name}", array) for name, array in fusion.weights.items()
        }
    states = {
        name: edit.add_tensor(subgraph, f"{layer}/{name}", (fusion.batch, size), variable=True)
        for name, size in fusion.state_sizes.items()
    }
    before: list[Operator] = []
    after: list[Operator] = []
    for start, state in zip(fusion.given, states.values(), strict=False):
        zeros = np.zeros(graph.shape_of(subgraph.tensors[state]), np.float32)
        before.append(_add(model, start, edit.add_constant(model, subgraph, "zeros", zeros), state))
    last_c = operator.outputs[1] if len(operator.outputs) > 1 else None
    if last_c is not None and last_c in graph.consumed(subgraph):
        shape = (fusion.batch, fusion.state_sizes["cell_state"])
        zeros_once_computed, after = _zeros_once_computed(model, fusion, shape)
        after.append(_add(model, states["cell_state"], zeros_once_computed, last_c))

    inputs = dict.fromkeys(OPERANDS_OF[fusion.op], ABSENT)
    inputs |= {"input": operator.inputs[0]} | shared[fusion.packed] | states
    fused = edit.new_operator(model, fusion.op, list(inputs.values()), operator.outputs[:1], **fusion.options)
    if fused.outputs[0] not in subgraph.outputs:
        subgraph.tensors[fused.outputs[0]].name = layer.encode()
    place = subgraph.operators.index(operator)
    subgraph.operators[place : place + 1] = [*before, fused, *after]
    return fused


def _add(model: Model, source: int, zeros: int, target: int) -> Operator:
    """An op that copies a tensor into or out of a state at every call, by adding zeros.

    Of the ops that copy, ADD_N is neither evaluated once at allocation (as RESHAPE, GATHER and TILE of a constant are)
    nor taken by XNNPACK.
    """
    return edit.new_operator(model, "ADD_N", [source, zeros], [target])


def _zeros_once_computed(model: Model, fusion: Fusion, shape: tuple[int, int]) -> tuple[int, list[Operator]]:
    """Zeros that exist only after the recurrent op has run, and the ops that make them of its output.

    A state has no producer among the ops, so what reads it after the op could run before it: with a delegate, the
    interpreter puts ops in another order, as far as their inputs and outputs allow.
    """
    subgraph, output = fusion.subgraph, fusion.operator.outputs[0]
    rank = len(graph.shape_of(subgraph.tensors[output]))
    bounds = {"begin": [0] * rank, "end": [0] * (rank - 1) + [1], "strides": [1] * rank}
    batch_axis = 1 if fusion.options.get("timeMajor") else 0
    masks = {"beginMask": 1 << batch_axis, "endMask": 1 << batch_axis}
    if rank == 3:
        bounds["begin"][1 - batch_axis] = -1
        masks["shrinkAxisMask"] = 1 << (1 - batch_axis)
    constants = [edit.add_constant(model, subgraph, key, np.array(each, np.int32)) for key, each in bounds.items()]
    last = edit.add_tensor(subgraph, f"{fusion.layer}/last", (shape[0], 1))
    zeros = edit.add_constant(model, subgraph, "zeros", np.zeros(shape, np.float32))
    computed = edit.add_tensor(subgraph, f"{fusion.layer}/zeros", shape)
    return computed, [
        edit.new_operator(model, "STRIDED_SLICE", [output, *constants], [last], **masks),
        edit.new_operator(model, "MUL", [last, zeros], [computed]),
    ]
