"""`inspect`: what is in a `.tflite` file, as frozen values, without TensorFlow."""

import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.inspection.arithmetic import Arithmetic
from lstm_toolkit.inspection.memory import memory_of
from lstm_toolkit.inspection.summary import ModelSummary
from lstm_toolkit.inspection.unrolled import unrolled_layers
from lstm_toolkit.inspection.values import (
    LstmNode,
    OpSummary,
    Quantization,
    SignatureSummary,
    SubgraphSummary,
    TensorSummary,
)
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.recurrent import ACTIVATIONS, RecurrentOp, recurrent_ops, set_states
from lstm_toolkit.tflite.types import Model, Tensor
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import ABSENT, LAYER_NORM_COEFFICIENTS, PEEPHOLE_WEIGHTS, STATES, WEIGHT_OPERANDS

_ACTIVATION_NAMES = {
    code: name.lower() for name, code in vars(schema.ActivationFunctionType).items() if isinstance(code, int)
} | {code: name for name, code in ACTIVATIONS.items()}

_DIRECTIONS = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("",),
    "LSTM": ("",),
    "BIDIRECTIONAL_SEQUENCE_LSTM": ("forward_", "backward_"),
}


def inspect(tflite: bytes | str | os.PathLike[str]) -> ModelSummary:
    """Summarizes a `.tflite` file.

    Args:
        tflite: its bytes or its path, or a `Conversion`.

    Returns:
        Frozen values: operators, tensors, LSTM nodes with their weights by gate, unrolled layers, memory and
        multiply-adds.

    Raises:
        InvalidModelError: if it cannot be read, or contradicts itself.
    """
    data = files.read_bytes(getattr(tflite, "tflite", tflite))
    model = files.read_model(data)
    subgraphs = _subgraphs(model)
    signatures = tuple(_signature(model, each) for each in model.signatureDefs or [])
    interface = signatures[0] if signatures else subgraphs[0]
    nodes = _Nodes(model, subgraphs, most_values=4 * len(data))
    return ModelSummary(
        subgraphs=subgraphs,
        signatures=signatures,
        lstm_nodes=tuple(node for number in range(len(subgraphs)) for node in nodes.of(number)),
        inputs=interface.inputs,
        outputs=interface.outputs,
        size=len(data),
        memory=memory_of(model),
        unrolled_layers=tuple(layer for number in range(len(subgraphs)) for layer in unrolled_layers(model, number)),
    )


def _subgraphs(model: Model) -> tuple[SubgraphSummary, ...]:
    arithmetic, summaries = Arithmetic(model), []
    for number, subgraph in enumerate(model.subgraphs):
        tensors = tuple(_tensor(model, tensor, index) for index, tensor in enumerate(subgraph.tensors))
        ops = []
        for place, op in enumerate(subgraph.operators):
            name, called = graph.operator_name(model, op), tuple(graph.called_subgraphs(op))
            takes, gives = (
                tuple(None if n == ABSENT else tensors[n] for n in side) for side in (op.inputs, op.outputs)
            )
            work = vars(arithmetic.operator(subgraph, op))
            ops.append(OpSummary(place, name, takes, gives, **work, subgraphs=called))
        inputs, outputs = (tuple(tensors[index] for index in each) for each in (subgraph.inputs, subgraph.outputs))
        name, total = graph.text(subgraph.name), arithmetic.subgraph(number)
        summaries.append(SubgraphSummary(name, tensors, inputs, outputs, tuple(ops), total))
    return tuple(summaries)


def _tensor(model: Model, tensor: Tensor, index: int, name: str | None = None) -> TensorSummary:
    is_constant = model.buffers[tensor.buffer].data is not None
    return TensorSummary(
        name=graph.text(tensor.name) if name is None else name,
        shape=graph.shape_of(tensor),
        dtype=graph.type_name(tensor),
        quantization=_quantization(tensor),
        index=index,
        role="variable" if tensor.isVariable else "constant" if is_constant else "computed",
    )


def _quantization(tensor: Tensor) -> Quantization | None:
    stored = tensor.quantization
    if stored is None or stored.scale is None or not len(stored.scale):
        return None
    zero_point = () if stored.zeroPoint is None else tuple(int(each) for each in stored.zeroPoint)
    axis = int(stored.quantizedDimension) if len(stored.scale) > 1 else None
    return Quantization(tuple(float(each) for each in stored.scale), zero_point or (0,) * len(stored.scale), axis)


def _signature(model: Model, signature: Any) -> SignatureSummary:
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    inputs, outputs = (
        tuple(_tensor(model, tensors[e.tensorIndex], e.tensorIndex, graph.text(e.name)) for e in entries or [])
        for entries in (signature.inputs, signature.outputs)
    )
    return SignatureSummary(graph.text(signature.signatureKey), int(signature.subgraphIndex), inputs, outputs)


class _Nodes:
    """Reads the LSTM ops of one model; weights that several ops share are read once."""

    def __init__(self, model: Model, subgraphs: tuple[SubgraphSummary, ...], most_values: int) -> None:
        self._model, self._subgraphs, self._values_left = model, subgraphs, most_values
        self._weights: dict[tuple[int, int], npt.NDArray[np.float32]] = {}

    def of(self, number: int) -> list[LstmNode]:
        """The nodes of one subgraph."""
        subgraph = self._model.subgraphs[number]
        ops = [op for op in recurrent_ops(self._model, subgraph) if op.name in _DIRECTIONS]
        if not ops:
            return []
        producers, settled = graph.producers(subgraph).items(), set_states(self._model, subgraph)
        names = {index: graph.operator_name(self._model, producer) for index, producer in producers}
        dequantized = {index: int(op.inputs[0]) for index, op in producers if names[index] == "DEQUANTIZE"}
        return [self._node(number, op, dequantized, settled) for op in ops]

    def _node(self, number: int, op: RecurrentOp, dequantized: dict[int, int], settled: dict[int, str]) -> LstmNode:
        ways = {settled.get(index, "carry") for index in op.states}
        operands, options = op.operands, op.options
        stored = {name: dequantized.get(index, index) for name, index in operands.items()}
        weights, *backward = (self._gate_weights(number, stored, prefix) for prefix in _DIRECTIONS[op.name])
        tensors = self._subgraphs[number].tensors
        has_time = len(tensors[operands["input"]].shape) == 3
        return LstmNode(
            name=tensors[op.states[0]].name.removesuffix(f"/{STATES[0]}"),
            op=op.name,
            units=weights.units,
            layout="step" if op.name == "LSTM" else "time_major" if op.is_time_major else "batch_major",
            activation=_ACTIVATION_NAMES.get(options.fusedActivationFunction, "unknown"),
            cell_clip=float(options.cellClip),
            proj_clip=float(options.projClip),
            state=ways.pop() if len(ways) == 1 else "carry",
            weights=weights,
            backward_weights=backward[0] if backward else None,
            batch=op.batch if op.batch >= 0 else None,
            time_steps=op.steps if has_time and op.steps >= 0 else None,
            variants=_variants(weights, is_bidirectional=bool(backward)),
            operands=tuple((name, tensors[index]) for name, index in operands.items()),
            intermediates=tuple(
                None if index == ABSENT else tensors[index] for index in graph.listed(op.operator.intermediates)
            ),
            weight_bytes=self._stored_bytes(number, stored),
            subgraph=number,
            index=op.subgraph.operators.index(op.operator),
        )

    def _gate_weights(self, number: int, stored: dict[str, int], prefix: str) -> GateWeights:
        arrays = {}
        for operand, index in stored.items():
            name = operand.removeprefix(prefix)
            if operand.startswith(prefix) and name in WEIGHT_OPERANDS:
                arrays[name] = self._values(number, index, operand)
        try:
            return GateWeights.from_operands(arrays)
        except (IndexError, ValueError) as error:
            raise InvalidModelError(f"the weights of an LSTM op do not fit together: {error}") from error

    def _stored_bytes(self, number: int, stored: dict[str, int]) -> int:
        tensors = [self._model.subgraphs[number].tensors[index] for index in set(stored.values())]
        buffers = {tensor.buffer for tensor in tensors if not tensor.isVariable}
        datas = [self._model.buffers[index].data for index in buffers]
        return sum(len(data) for data in datas if data is not None)

    def _values(self, number: int, index: int, operand: str) -> npt.NDArray[np.float32]:
        if (number, index) not in self._weights:
            tensor = self._model.subgraphs[number].tensors[index]
            self._values_left -= math.prod(graph.shape_of(tensor))
            if self._values_left < 0:
                raise InvalidModelError("the .tflite file is damaged: its LSTM ops claim more weights than it can hold")
            self._weights[number, index] = _dequantized(self._model, tensor, operand)
        return self._weights[number, index]


def _variants(weights: GateWeights, *, is_bidirectional: bool) -> tuple[str, ...]:
    flags = {
        "cifg": not weights.has_input_gate,
        "peephole": getattr(weights, PEEPHOLE_WEIGHTS[-1]) is not None,
        "projection": weights.projection_weights is not None,
        "layer_norm": getattr(weights, LAYER_NORM_COEFFICIENTS[-1]) is not None,
        "diagonal": weights.has_diagonal_recurrence,
        "bidirectional": is_bidirectional,
    }
    return tuple(name for name, is_there in flags.items() if is_there)


def _dequantized(model: Model, tensor: Tensor, operand: str) -> npt.NDArray[np.float32]:
    values = graph.constant(model, tensor)
    if values is None:
        raise InvalidModelError(f"operand {operand} of an LSTM op is not a constant")
    quantization = _quantization(tensor)
    if quantization is None:
        return values.astype(np.float32, copy=False)
    count, axis = len(quantization.scale), quantization.axis
    fits = axis is None or (0 <= axis < values.ndim and values.shape[axis] == count)
    if not fits or len(quantization.zero_point) not in (1, count):
        counts = f"{count} scales and {len(quantization.zero_point)} zero points"
        raise InvalidModelError(f"operand {operand} of an LSTM op has {counts} for the shape {list(values.shape)}")
    shape = [-1 if each == axis else 1 for each in range(values.ndim)]
    scale, zero_point = (
        np.asarray(each, np.float32).reshape(shape if len(each) > 1 else ())
        for each in (quantization.scale, quantization.zero_point)
    )
    return (values.astype(np.float32) - zero_point) * scale
