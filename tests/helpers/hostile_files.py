"""Files that do harm when they run: made by an edit of the smallest file that runs."""

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tests.helpers.sum_file import sum_file


def edited_sum(edit: Callable[[Any], Any]) -> bytes:
    """`sum_file` after an edit of its `ModelT`."""
    model = flatbuffer_utils.read_model_from_bytearray(sum_file())
    edit(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def crashing() -> bytes:
    """An ADD of integers without scales, which ends the process at allocation."""

    def edit(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            tensor.type = schema.TensorType.INT8
        model.buffers[1].data = model.buffers[1].data[:6]

    return edited_sum(edit)


def fine_sum() -> bytes:
    """An ADD of integers whose output has too fine a scale, which ends the process too, and which no check foresees."""

    def edit(model: Any) -> None:
        for tensor, scale in zip(model.subgraphs[0].tensors, (1e-2, 1e-2, 1e-9), strict=True):
            tensor.type = schema.TensorType.INT8
            tensor.quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[0])
        model.buffers[1].data = model.buffers[1].data[:6]

    return edited_sum(edit)


def endless() -> bytes:
    """A WHILE whose condition is constantly true."""

    def edit(model: Any) -> None:
        main = model.subgraphs[0]
        model.operatorCodes.append(_code(schema.BuiltinOperator.WHILE))
        model.buffers.append(schema.BufferT(data=np.ones(1, np.uint8)))
        tensors = [
            schema.TensorT(shape=[2, 3], name="a"),
            schema.TensorT(shape=[], type=schema.TensorType.BOOL, buffer=2, name="true"),
        ]
        condition = schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[1], operators=[])
        body = schema.SubGraphT(tensors=main.tensors, inputs=[0], outputs=[2], operators=main.operators)
        options = schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2)
        kind = schema.BuiltinOptions.WhileOptions
        loop = schema.OperatorT(opcodeIndex=1, inputs=[0], outputs=[2], builtinOptions=options, builtinOptionsType=kind)
        main.operators = [loop]
        model.subgraphs += [condition, body]

    return edited_sum(edit)


def large(*shape: int) -> bytes:
    """A BROADCAST_TO to a shape that ends in [2, 3]."""

    def edit(model: Any) -> None:
        main = model.subgraphs[0]
        model.operatorCodes.append(_code(schema.BuiltinOperator.BROADCAST_TO, version=2))
        model.buffers.append(schema.BufferT(data=np.array(shape, np.int32).view(np.uint8)))
        main.tensors += [
            schema.TensorT(shape=[len(shape)], type=schema.TensorType.INT32, buffer=2, name="shape"),
            schema.TensorT(shape=list(shape), name="large"),
        ]
        main.operators.append(schema.OperatorT(opcodeIndex=1, inputs=[2, 3], outputs=[4]))
        main.outputs = [4]

    return edited_sum(edit)


def _code(builtin: int, version: int = 1) -> Any:
    return schema.OperatorCodeT(builtinCode=builtin, deprecatedBuiltinCode=min(builtin, 127), version=version)
