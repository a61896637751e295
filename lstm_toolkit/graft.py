"""Pass: the composite ops of traced recurrent layers become fused ops.

    before  [lstm_toolkit.LSTM (CUSTOM): input, h0, c0, packed weights -> sequence, c]
    after   [UNIDIRECTIONAL_SEQUENCE_LSTM: input, weights by gate, states -> sequence]

    before  [lstm_toolkit.SimpleRNN (CUSTOM): input, h0, weights -> sequence]
    after   [UNIDIRECTIONAL_SEQUENCE_RNN: input, weights, state -> sequence]

Where a layer starts from given states, [ADD_N: h0, 0 -> h] stands before the op; where its last c is used,
[ADD_N: c, 0 -> ...] stands behind it. No clip is written, every weight gets a buffer of its own and the states are new
variable tensors, so that none of them can share memory with a weight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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
    weight_operands: tuple[int, ...]
    start: tuple[tuple[str, int, npt.NDArray[np.float32] | None], ...]
    batch: int
    carry: bool


def graft(model: Any) -> Grafted:
    """Replaces every composite op of a `ModelT` in place.

    Raises:
        ConversionError: if a composite op uses what the fused op does not have; nothing is changed then.
    """
    matches = [
        _match(model, subgraph, op)
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


def _match(model: Any, subgraph: Any, operator: Any) -> _Match:
    composite = tf_file.operator_name(model, operator)
    attributes = flexbuffers.Loads(bytes(operator.customOptions))
    layer, is_lstm = attributes["layer"], composite == LSTM_COMPOSITE
    constants = [tf_file.constant(model, subgraph.tensors[index]) for index in operator.inputs]
    states = STATES if is_lstm else STATES[:1]
    packed = constants[1 + len(states) :]
    if any(array is None for array in packed):
        raise ConversionError(f"layer {layer!r}: its weights are not constants, so they cannot go into the fused op")
    batch = tf_file.shape_of(subgraph.tensors[operator.outputs[0]])[0]
    if batch < 1:
        raise ConversionError(
            f"layer {layer!r}: the batch is open, and a fused op needs a fixed one; pass batch_size, and do not fold "
            "an open axis into the batch"
        )
    read = _lstm if is_lstm else _simple_rnn
    weights, options = read(packed, attributes)
    return _Match(
        subgraph=subgraph,
        operator=operator,
        layer=layer,
        op=FUSED_OPS[composite],
        options=options,
        weights=weights,
        weight_operands=tuple(operator.inputs[1 + len(states) :]),
        start=tuple(zip(states, operator.inputs[1:], constants[1:], strict=False)),
        batch=batch,
        carry=bool(attributes["carry"]),
    )


def _lstm(packed: list[Any], attributes: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    weights = GateWeights.from_keras(packed)
    if attributes["masked"]:
        weights = _with_mask_channel(weights)
    required_biases = BIASES if weights.has_input_gate else BIASES[1:]
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[attributes["activation"]]
    options.cellClip = options.projClip = 0.0
    return dict.fromkeys(required_biases, np.zeros(weights.units, np.float32)) | dict(weights.operands()), options


def _with_mask_channel(weights: GateWeights) -> GateWeights:
    """Appends an input channel whose 1 shuts the input gate and opens the forget gate, so that c stays as it is."""
    pushes = {"input": -SHUT_GATE, "forget": SHUT_GATE, "cell": 0.0, "output": 0.0}
    columns = {}
    for gate, push in pushes.items():
        name = f"input_to_{gate}_weights"
        columns[name] = np.pad(getattr(weights, name), ((0, 0), (0, 1)), constant_values=push)
    return dataclasses.replace(weights, **columns)


def _simple_rnn(packed: list[Any], attributes: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    kernel, recurrent_kernel, bias = packed
    options = schema.SequenceRNNOptionsT()
    options.fusedActivationFunction = RNN_ACTIVATIONS[attributes["activation"]]
    return {"weights": kernel.T, "recurrent_weights": recurrent_kernel.T, "bias": bias}, options


def _replace(model: Any, match: _Match, shared: dict[tuple[int, ...], dict[str, int]]) -> None:
    subgraph, operator = match.subgraph, match.operator
    if match.weight_operands not in shared:
        shared[match.weight_operands] = {
            name: tf_file.add_constant(model, subgraph, f"{match.layer}/{name}", array)
            for name, array in match.weights.items()
        }
    before, after = [], []
    states = {}
    for name, start, values in match.start:
        shape = tf_file.shape_of(subgraph.tensors[start])
        states[name] = tf_file.add_tensor(subgraph, f"{match.layer}/{name}", shape, variable=True)
        if values is None or values.any():
            before.append(_copy(model, subgraph, start, states[name]))
    last_c = operator.outputs[1] if len(operator.outputs) > 1 else None
    if last_c is not None and last_c in tf_file.consumed(subgraph):
        after.append(_copy(model, subgraph, states["cell_state"], last_c))

    operands = OPERANDS_OF[match.op]
    indices = dict.fromkeys(operands, ABSENT) | {"input": operator.inputs[0]} | shared[match.weight_operands] | states
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
