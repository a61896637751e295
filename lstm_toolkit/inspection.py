"""`inspect`: what is in a `.tflite` file, as frozen values, without TensorFlow."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from . import reset
from . import tflite_file as tf_file
from .contract import ABSENT, OPERANDS_OF, STATES, WEIGHT_OPERANDS
from .errors import InvalidModelError
from .gates import GateWeights
from .graft import ACTIVATIONS
from .tables import Table, Tabular

_ACTIVATION_NAMES = {
    code: name.lower() for name, code in vars(schema.ActivationFunctionType).items() if isinstance(code, int)
} | {code: name for name, code in ACTIVATIONS.items()}


@dataclasses.dataclass(frozen=True)
class TensorSummary:
    """One input or output: its name in the signature, its shape (-1 where dynamic) and its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class LstmNode:
    """One fused LSTM op of a file.

    Attributes:
        name: name of the layer where lstm_toolkit wrote the file, else of the op's output state.
        op: the builtin's name.
        units: number of cells.
        layout: "batch_major" ([batch, time, ...]), "time_major" ([time, batch, ...]) or "step" ([batch, ...]).
        activation: of the cell; the gates are always sigmoid.
        cell_clip, proj_clip: bounds of the cell state and of the projected output; 0 for none.
        state: "reset" if every call starts from zero, "explicit" if the file sets it at each call, "carry" if a call
            starts where the last one ended.
        weights: the weights by gate, dequantized where they are stored quantized; of a bidirectional op, the forward
            ones.
        backward_weights: those of the backward half of a bidirectional op, else None.
    """

    name: str
    op: str
    units: int
    layout: str
    activation: str
    cell_clip: float
    proj_clip: float
    state: str
    weights: GateWeights
    backward_weights: GateWeights | None = None

    def to_dict(self) -> dict[str, Any]:
        """The node as values that JSON can hold; of the weights, the shapes."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if "weights" not in f.name}
        for name, weights in (("weights", self.weights), ("backward_weights", self.backward_weights)):
            if weights is not None:
                fields[name] = {operand: list(array.shape) for operand, array in weights.operands()}
        return fields


@dataclasses.dataclass(frozen=True, repr=False)
class ModelSummary(Tabular):
    """What is in a `.tflite` file.

    Attributes:
        subgraph_ops: number of operators by name, for each subgraph; the first is the main one, the others are
            bodies and conditions of loops and branches.
        lstm_nodes: the fused LSTM ops in the order in which they run.
        inputs, outputs: of the first signature, or of the main subgraph where there is none.
        size: bytes of the file.
    """

    subgraph_ops: tuple[Counter[str], ...]
    lstm_nodes: tuple[LstmNode, ...]
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    size: int

    @property
    def ops(self) -> Counter[str]:
        """Number of operators by name, over all subgraphs."""
        return sum(self.subgraph_ops, Counter())

    def tables(self) -> tuple[Table, ...]:
        """The summary as tables: interface, operators, and LSTM nodes if there are any."""
        interface = [
            (kind, tensor.name, list(tensor.shape), tensor.dtype)
            for kind, tensors in (("input", self.inputs), ("output", self.outputs))
            for tensor in tensors
        ]
        nodes = [
            (n.name, n.op, n.weights.input_size, n.units, n.layout, n.activation, n.cell_clip, n.state)
            for n in self.lstm_nodes
        ]
        return (
            Table(f"Interface ({self.size:,} bytes)", ("kind", "name", "shape", "dtype"), interface),
            Table("Operators", ("op", "count"), sorted(self.ops.items())),
            *(
                [Table("LSTM ops", ("name", "op", "input", "units", "layout", "activation", "clip", "state"), nodes)]
                if nodes
                else []
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """The summary as values that JSON can hold."""
        return {
            "size": self.size,
            "inputs": [dataclasses.asdict(tensor) for tensor in self.inputs],
            "outputs": [dataclasses.asdict(tensor) for tensor in self.outputs],
            "ops": dict(sorted(self.ops.items())),
            "lstm_nodes": [node.to_dict() for node in self.lstm_nodes],
        }


def inspect(tflite: bytes | str | os.PathLike[str]) -> ModelSummary:
    """Summarizes a `.tflite` file.

    Args:
        tflite: its bytes or its path.

    Raises:
        InvalidModelError: if it cannot be read.
    """
    data = tf_file.read_bytes(getattr(tflite, "tflite", tflite))
    model = tf_file.read_model(data)
    inputs, outputs = _interface(model)
    return ModelSummary(
        subgraph_ops=tuple(tf_file.count_operators(model, subgraph) for subgraph in model.subgraphs),
        lstm_nodes=tuple(node for subgraph in model.subgraphs for node in _lstm_nodes(model, subgraph)),
        inputs=inputs,
        outputs=outputs,
        size=len(data),
    )


def _interface(model: Any) -> tuple[tuple[TensorSummary, ...], tuple[TensorSummary, ...]]:
    if model.signatureDefs:
        signature = model.signatureDefs[0]
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        named = [
            [(tf_file.text(entry.name), tensors[entry.tensorIndex]) for entry in entries or []]
            for entries in (signature.inputs, signature.outputs)
        ]
    else:
        main = model.subgraphs[0]
        named = [
            [(tf_file.text(main.tensors[index].name), main.tensors[index]) for index in indices]
            for indices in (main.inputs, main.outputs)
        ]
    inputs, outputs = (
        tuple(TensorSummary(name, tf_file.shape_of(tensor), tf_file.type_name(tensor)) for name, tensor in entries)
        for entries in named
    )
    return inputs, outputs


_DIRECTIONS = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("",),
    "LSTM": ("",),
    "BIDIRECTIONAL_SEQUENCE_LSTM": ("forward_", "backward_"),
}


def _lstm_nodes(model: Any, subgraph: Any) -> list[LstmNode]:
    ways_of_setting = reset.set_states(model, subgraph)
    nodes = []
    for op in subgraph.operators:
        name = tf_file.operator_name(model, op)
        if name not in _DIRECTIONS:
            continue
        states, options = reset.state_tensors(model, op), op.builtinOptions
        ways = {ways_of_setting.get(index, "carry") for index in states}
        weights, *backward = (_weights(model, subgraph, op, prefix) for prefix in _DIRECTIONS[name])
        nodes.append(
            LstmNode(
                name=tf_file.text(subgraph.tensors[states[0]].name).removesuffix(f"/{STATES[0]}"),
                op=name,
                units=weights.units,
                layout="step" if name == "LSTM" else "time_major" if options.timeMajor else "batch_major",
                activation=_ACTIVATION_NAMES.get(options.fusedActivationFunction, "unknown"),
                cell_clip=float(options.cellClip),
                proj_clip=float(options.projClip),
                state=ways.pop() if len(ways) == 1 else "carry",
                weights=weights,
                backward_weights=backward[0] if backward else None,
            )
        )
    return nodes


def _weights(model: Any, subgraph: Any, operator: Any, prefix: str) -> GateWeights:
    producers, arrays = tf_file.producers(subgraph), {}
    operands = OPERANDS_OF[tf_file.operator_name(model, operator)]
    for operand, index in zip(operands, operator.inputs, strict=False):
        name = operand.removeprefix(prefix)
        if operand.startswith(prefix) and name in WEIGHT_OPERANDS and index != ABSENT:
            arrays[name] = _dequantized(model, subgraph, producers, index, operand)
    try:
        return GateWeights.from_operands(arrays)
    except ValueError as error:
        raise InvalidModelError(f"the weights of an LSTM op do not fit together: {error}") from error


def _dequantized(
    model: Any, subgraph: Any, producers: dict[int, Any], index: int, name: str
) -> npt.NDArray[np.float32]:
    producer = producers.get(index)
    if producer is not None and tf_file.operator_name(model, producer) == "DEQUANTIZE":
        index = producer.inputs[0]
    tensor = subgraph.tensors[index]
    values = tf_file.constant(model, tensor)
    if values is None:
        raise InvalidModelError(f"operand {name} of an LSTM op is not a constant")
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return values.astype(np.float32)
    shape = [1] * values.ndim
    if len(quantization.scale) > 1:
        shape[quantization.quantizedDimension] = -1
    scale = np.asarray(quantization.scale, np.float32).reshape(shape)
    zero_point = np.asarray(quantization.zeroPoint, np.float32).reshape(shape)
    return (values.astype(np.float32) - zero_point) * scale
