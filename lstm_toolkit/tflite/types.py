"""The schema's mutable objects as types: the fields that passes read and write.

Source: `tflite/converter/schema/schema.fbs` of LiteRT. The objects are those of
`ai_edge_litert.schema_py_generated`.
Fields that a file may leave out are None there.
"""

from typing import Any, Protocol


class Quantization(Protocol):
    """Scales and zero points of a tensor (`QuantizationParametersT`)."""

    min: Any
    max: Any
    scale: Any
    zeroPoint: Any
    quantizedDimension: int


class Tensor(Protocol):
    """A tensor (`TensorT`): `shape` has 1 where `shapeSignature` has -1, which is an open size."""

    name: Any
    shape: Any
    shapeSignature: Any
    type: int
    buffer: int
    isVariable: bool
    hasRank: bool
    quantization: Any
    sparsity: Any


class Operator(Protocol):
    """An operator (`OperatorT`): tensors by index, -1 for one that is absent."""

    opcodeIndex: int
    inputs: Any
    outputs: Any
    intermediates: Any
    builtinOptions: Any
    builtinOptionsType: int
    builtinOptions2: Any
    customOptions: Any


class Subgraph(Protocol):
    """A subgraph (`SubGraphT`): its operators run in their order."""

    name: Any
    tensors: list[Tensor]
    operators: list[Operator]
    inputs: Any
    outputs: Any


class Model(Protocol):
    """A whole file (`ModelT`); buffer 0 is empty, and the first subgraph is the main one."""

    description: Any
    buffers: list[Any]
    subgraphs: list[Subgraph]
    operatorCodes: list[Any]
    signatureDefs: Any
    metadata: Any
