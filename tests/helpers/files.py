"""What stands in a `.tflite` file, read with the schema alone and not with the package's own reader."""

from collections import Counter
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

FUSED_LSTMS = (
    schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM,
    schema.BuiltinOperator.BIDIRECTIONAL_SEQUENCE_LSTM,
)


def op_counts(tflite: bytes) -> Counter[str]:
    """Operators of a file by name."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    return Counter(
        flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)
        for subgraph in model.subgraphs
        for op in subgraph.operators
    )


def fused_lstm(tflite: bytes) -> tuple[Any, dict[int, np.ndarray]]:
    """The one fused LSTM of a file, and the constants that it takes by operand index."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    graph = model.subgraphs[0]
    (op,) = (op for op in graph.operators if model.operatorCodes[op.opcodeIndex].builtinCode in FUSED_LSTMS)
    constants = {}
    for place, index in enumerate(op.inputs):
        tensor = graph.tensors[index]
        data = model.buffers[tensor.buffer].data if index >= 0 else None
        if place and data is not None and not tensor.isVariable:
            assert tensor.type == schema.TensorType.FLOAT32
            constants[place] = np.frombuffer(bytes(data), np.float32).reshape(tensor.shape)
    return op, constants
