"""Pass: the composite ops of traced recurrent layers become fused ops.

    before  [lstm_toolkit.LSTM (CUSTOM): input, packed weights, perhaps h0, c0 -> sequence, c]
    after   [UNIDIRECTIONAL_SEQUENCE_LSTM: input, weights by gate, states -> sequence]

    before  [lstm_toolkit.SimpleRNN (CUSTOM): input, weights, perhaps h0 -> sequence]
    after   [UNIDIRECTIONAL_SEQUENCE_RNN: input, weights, state -> sequence]

Where a layer starts from given states, [ADD_N: h0, 0 -> h] stands before the op; where its last c is used,
[ADD_N: c, 0 -> ...] stands behind it. No clip is written, every weight gets a buffer of its own and the states are new
variable tensors, so that none of them can share memory with a weight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from . import tflite_file as tf_file
from .contract import ABSENT, BIASES, LSTM_COMPOSITE, OPERANDS_OF, SHUT_GATE, SIMPLE_RNN_COMPOSITE, STATES
from .errors import ConversionError
from .gates import GateWeights

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

FUSED_OPS = {LSTM_COMPOSITE: "UNIDIRECTIONAL_SEQUENCE_LSTM", SIMPLE_RNN_COMPOSITE: "UNIDIRECTIONAL_SEQUENCE_RNN"}
"""The fused op that each composite op becomes."""


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
class _Match:
    """A composite op, fully read and checked: what stands here fits the fused op."""

    subgraph: Any
    operator: Any
    layer: str
    op: str
    options: Any
    weights: Mapping[str, npt.NDArray[np.float32]]
    state_sizes: Mapping[str, int]
    batch: int
    carry: bool


_WEIGHTS = slice(1, 4)
"""Operands of a composite op that hold kernel, recurrent_kernel and bias, behind the input; then come given states."""


def graft(model: Any, *, batch: int | None = None) -> Grafted:
    """Replaces every composite op of a `ModelT` in place.

    Args:
        model: the file.
        batch: of the model's inputs, for ops whose own batch the converter did not work out.

    Raises:
        ConversionError: if a composite op uses what the fused op does not have; nothing is changed then.
    """
    taken: set[str] = set()
    matches = [
        _match(model, subgraph, op, batch, taken)
        for subgraph in model.subgraphs
        for op in subgraph.operators
        if tf_file.operator_name(model, op) in FUSED_OPS
    ]
    shared: dict[tuple[int, ...], dict[str, int]] = {}
    for match in matches:
        _replace(model, match, shared)
    return Grafted(
        ops={match.layer: match.op for match in matches},
        carried=frozenset(match.layer for match in matches if match.carry),
    )


def _match(model: Any, subgraph: Any, operator: Any, batch: int | None, taken: set[str]) -> _Match:
    composite = tf_file.operator_name(model, operator)
    attributes = flexbuffers.Loads(bytes(operator.customOptions))
    layer = numbered(attributes["layer"], taken)
    taken.add(layer)
    packed = [tf_file.constant(model, subgraph.tensors[index]) for index in operator.inputs[_WEIGHTS]]
    if any(array is None for array in packed):
        raise ConversionError(f"layer {layer!r}: its weights are not constants, so they cannot go into the fused op")
    own_batch = tf_file.shape_of(subgraph.tensors[operator.outputs[0]])[0]
    if own_batch < 1 and batch is None:
        raise ConversionError(
            f"layer {layer!r}: the batch is open, and a fused op needs a fixed one; pass batch_size, and do not fold "
            "an open axis into the batch"
        )
    read = _lstm if composite == LSTM_COMPOSITE else _simple_rnn
    weights, options, state_sizes = read(packed, attributes)
    return _Match(
        subgraph=subgraph,
        operator=operator,
        layer=layer,
        op=FUSED_OPS[composite],
        options=options,
        weights=weights,
        state_sizes=state_sizes,
        batch=own_batch if own_batch > 0 else batch or 0,
        carry=bool(attributes["carry"]),
    )


def numbered(name: str, taken: Collection[str]) -> str:
    """The name, with a number appended if it is taken, as from a layer's second call on."""
    return next(each for each in (name, *(f"{name}_call{n}" for n in range(1, len(taken) + 1))) if each not in taken)


def _lstm(packed: list[Any], attributes: Mapping[str, Any]) -> tuple[dict[str, Any], Any, dict[str, int]]:
    weights = GateWeights.from_keras(packed)
    if attributes["masked"]:
        weights = _with_mask_channel(weights)
    required_biases = BIASES if weights.has_input_gate else BIASES[1:]
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[attributes["activation"]]
    options.cellClip = options.projClip = 0.0
    by_name = dict.fromkeys(required_biases, np.zeros(weights.units, np.float32)) | dict(weights.operands())
    return by_name, options, dict(zip(STATES, (weights.output_size, weights.units), strict=True))


def _with_mask_channel(weights: GateWeights) -> GateWeights:
    """Appends an input channel whose 1 shuts the input gate and opens the forget gate, so that c stays as it is."""
    pushes = {"input": -SHUT_GATE, "forget": SHUT_GATE, "cell": 0.0, "output": 0.0}
    columns = {}
    for gate, push in pushes.items():
        name = f"input_to_{gate}_weights"
        columns[name] = np.pad(getattr(weights, name), ((0, 0), (0, 1)), constant_values=push)
    return dataclasses.replace(weights, **columns)


def _simple_rnn(packed: list[Any], attributes: Mapping[str, Any]) -> tuple[dict[str, Any], Any, dict[str, int]]:
    kernel, recurrent_kernel, bias = packed
    options = schema.SequenceRNNOptionsT()
    options.fusedActivationFunction = RNN_ACTIVATIONS[attributes["activation"]]
    weights = {"weights": kernel.T, "recurrent_weights": recurrent_kernel.T, "bias": bias}
    return weights, options, {STATES[0]: len(recurrent_kernel)}


def _replace(model: Any, match: _Match, shared: dict[tuple[int, ...], dict[str, int]]) -> None:
    subgraph, operator = match.subgraph, match.operator
    packed, given = tuple(operator.inputs[_WEIGHTS]), operator.inputs[_WEIGHTS.stop :]
    if packed not in shared:
        shared[packed] = {
            name: tf_file.add_constant(model, subgraph, f"{match.layer}/{name}", array)
            for name, array in match.weights.items()
        }
    states = {
        name: tf_file.add_tensor(subgraph, f"{match.layer}/{name}", (match.batch, size), variable=True)
        for name, size in match.state_sizes.items()
    }
    before = [_copy(model, subgraph, start, state) for start, state in zip(given, states.values(), strict=False)]
    after = []
    last_c = operator.outputs[1] if len(operator.outputs) > 1 else None
    if last_c is not None and last_c in tf_file.consumed(subgraph):
        after.append(_copy(model, subgraph, states["cell_state"], last_c))

    operands = OPERANDS_OF[match.op]
    indices = dict.fromkeys(operands, ABSENT) | {"input": operator.inputs[0]} | shared[packed] | states
    operator.opcodeIndex = tf_file.operator_code(model, getattr(schema.BuiltinOperator, match.op))
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(match.options).__name__.removesuffix("T"))
    operator.builtinOptions = match.options
    operator.customOptions = None
    operator.inputs = [indices[name] for name in operands]
    operator.outputs = operator.outputs[:1]
    if operator.outputs[0] not in subgraph.outputs:
        subgraph.tensors[operator.outputs[0]].name = match.layer.encode()
    place = subgraph.operators.index(operator)
    subgraph.operators[place : place + 1] = [*before, operator, *after]


def _copy(model: Any, subgraph: Any, source: int, target: int) -> Any:
    """An op that copies a tensor into or out of a state at every call.

    Of the ops that copy, ADD_N is neither evaluated once at allocation (as RESHAPE, GATHER and TILE of a constant are)
    nor taken by XNNPACK, which would read the state at another time.
    """
    zeros = np.zeros(tf_file.shape_of(subgraph.tensors[source]), np.float32)
    operator = schema.OperatorT()
    operator.opcodeIndex = tf_file.operator_code(model, schema.BuiltinOperator.ADD_N)
    operator.builtinOptionsType = schema.BuiltinOptions.AddNOptions
    operator.builtinOptions = schema.AddNOptionsT()
    operator.inputs = [source, tf_file.add_constant(model, subgraph, "zeros", zeros)]
    operator.outputs = [target]
    return operator
