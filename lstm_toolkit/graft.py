"""Pass: the composite op of a traced LSTM becomes the fused op.

    before  [lstm_toolkit.LSTM (CUSTOM): input, h0, c0, packed weights -> sequence, h, c]
    after   [UNIDIRECTIONAL_SEQUENCE_LSTM: input, weights by gate, states -> sequence]

No clip is written, every weight gets a buffer of its own and the states are new variable tensors, so that none of
them can share memory with a weight.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from . import tflite_file as tf_file
from .contract import ABSENT, BIASES, OPERANDS
from .errors import ConversionError
from .gates import GateWeights

COMPOSITE_NAME = "lstm_toolkit.LSTM"
"""Name of the CUSTOM op that stands for an LSTM between tracing and this pass."""

ACTIVATIONS = {
    "tanh": schema.ActivationFunctionType.TANH,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "hard_tanh": schema.ActivationFunctionType.RELU_N1_TO_1,
}
"""Cell activations of the fused op by Keras's names; its gates are always sigmoid.

`NONE` is left out: the kernel computes with an unwritten buffer then.
"""

PACKED_WEIGHTS = slice(3, 6)
"""Operands of the composite op that hold kernel, recurrent_kernel and bias, behind input, h0 and c0."""

FUSED_OP = "UNIDIRECTIONAL_SEQUENCE_LSTM"


@dataclasses.dataclass(frozen=True)
class _Match:
    subgraph: Any
    operator: Any
    layer: str
    activation: str
    weights: GateWeights
    batch: int


def graft_lstms(model: Any) -> dict[str, str]:
    """Replaces every composite LSTM op of a `ModelT` in place.

    Returns:
        For each layer name, the op that its call became.

    Raises:
        ConversionError: if a composite op uses what the fused op does not have; nothing is changed then.
    """
    matches = [
        _match(model, subgraph, op)
        for subgraph in model.subgraphs
        for op in subgraph.operators
        if tf_file.operator_name(model, op) == COMPOSITE_NAME
    ]
    shared: dict[tuple[int, ...], dict[str, int]] = {}
    for match in matches:
        _replace(model, match, shared)
    return {match.layer: FUSED_OP for match in matches}


def _match(model: Any, subgraph: Any, operator: Any) -> _Match:
    options = flexbuffers.Loads(bytes(operator.customOptions))
    layer = options["layer"]
    sequence, *states = operator.outputs
    consumed = {index for op in subgraph.operators for index in op.inputs} | set(subgraph.outputs)
    if consumed & set(states):
        raise ConversionError(f"layer {layer!r}: its final state is used, and only its output can be converted")
    h0, c0, *packed = (tf_file.constant(model, subgraph.tensors[index]) for index in operator.inputs[1:])
    if h0 is None or c0 is None or h0.any() or c0.any():
        raise ConversionError(f"layer {layer!r}: it starts from a given state, and only a zero state can be converted")
    if any(array is None for array in packed):
        raise ConversionError(f"layer {layer!r}: its weights are not constants, so they cannot be split by gate")
    weights = GateWeights.from_keras(packed)
    batch = tf_file.shape_of(subgraph.tensors[sequence])[0]
    if batch < 1:
        raise ConversionError(f"layer {layer!r}: the batch is dynamic, and a fused LSTM needs a fixed one (batch_size)")
    return _Match(subgraph, operator, layer, options["activation"], weights, batch)


def _replace(model: Any, match: _Match, shared: dict[tuple[int, ...], dict[str, int]]) -> None:
    subgraph, operator, weights = match.subgraph, match.operator, match.weights
    packed = tuple(operator.inputs[PACKED_WEIGHTS])
    if packed not in shared:
        required_biases = BIASES if weights.has_input_gate else BIASES[1:]
        by_name = dict.fromkeys(required_biases, np.zeros(weights.units, np.float32)) | dict(weights.operands())
        shared[packed] = {
            name: tf_file.add_constant(model, subgraph, f"{match.layer}/{name}", array)
            for name, array in by_name.items()
        }
    indices = dict.fromkeys(OPERANDS, ABSENT) | {"input": operator.inputs[0]} | shared[packed]
    for name, size in (("output_state", weights.output_size), ("cell_state", weights.units)):
        indices[name] = tf_file.add_tensor(subgraph, f"{match.layer}/{name}", (match.batch, size), variable=True)

    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[match.activation]
    options.cellClip = options.projClip = 0.0
    operator.opcodeIndex = tf_file.operator_code(model, schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM)
    operator.builtinOptionsType = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
    operator.builtinOptions = options
    operator.customOptions = None
    operator.inputs = [indices[name] for name in OPERANDS]
    operator.outputs = operator.outputs[:1]
    if operator.outputs[0] not in subgraph.outputs:
        subgraph.tensors[operator.outputs[0]].name = match.layer.encode()
