"""`OpBuilder`: appends plain ops to a subgraph, each with its constants, options and output shape."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT

STEP = "/step/"
"""What stands in the name of a tensor that a step computes, between the layer and its place in the step."""

_VERSIONS = {"BROADCAST_TO": 2, "FULLY_CONNECTED": 5}
"""The version of each op that is not 1: there is no older BROADCAST_TO, and FULLY_CONNECTED keeps the rank of its input
from 5 on."""


class OpBuilder:
    """Appends ops to a list, and their tensors and constants to a subgraph.

    Args:
        model, subgraph: the file, and where the tensors go.
        name: what the tensors' names begin with.
        layer: what their names begin with in a step; None is `name`.

    Attributes:
        operators: the ops so far, in the order in which they run; the caller puts them into the subgraph.

    Tensors are indices. Equal constants of one builder share a tensor.
    """

    def __init__(self, model: Model, subgraph: Subgraph, name: str, layer: str | None = None) -> None:
        self.model, self.subgraph, self.name = model, subgraph, name
        self.layer = layer or name
        self._in_step: int | None = None
        self.operators: list[Operator] = []
        self._constants: dict[tuple[Any, ...], int] = {}
        self._stored: dict[int, int] = {}

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor, -1 where it is dynamic."""
        return graph.shape_of(self.subgraph.tensors[tensor])

    def dtype(self, tensor: int) -> int:
        """The schema's type of a tensor."""
        return int(self.subgraph.tensors[tensor].type)

    def constant(self, values: npt.ArrayLike, name: str = "constant") -> int:
        """A constant; integers become int32, the rest float32."""
        array = np.asarray(values)
        array = array.astype(np.int32 if array.dtype.kind in "iu" else np.float32)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = edit.add_constant(self.model, self.subgraph, f"{self.name}/{name}", array)
        return self._constants[key]

    def tensor(self, name: str, shape: Sequence[int], dtype: int = schema.TensorType.FLOAT32) -> int:
        """A new tensor; -1 in its shape is an open size."""
        if self._in_step is None:
            full_name = f"{self.name}/{name}"
        else:
            full_name = f"{self.layer}{STEP}{self._in_step}/{name}"
            self._in_step += 1
        return edit.add_tensor(self.subgraph, full_name, shape, dtype=dtype)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Names what one step computes by its place in the step, so that it has one name in all steps of a layer."""
        self._in_step = 0
        yield
        self._in_step = None

    def add(self, op: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> None:
        """Appends an op that writes to tensors which are there already."""
        version = _VERSIONS.get(op, 1)
        self.operators.append(edit.new_operator(self.model, op, inputs, outputs, version=version, **options))

    def op(
        self, op: str, *inputs: int, shape: Sequence[int], dtype: int = schema.TensorType.FLOAT32, **options: Any
    ) -> int:
        """Appends an op with one output of that shape, and returns the output."""
        output = self.tensor(op.lower(), shape, dtype)
        self.add(op, inputs, [output], **options)
        return output

    def unary(self, op: str, tensor: int) -> int:
        """An element-wise op on floats."""
        return self.op(op, tensor, shape=self.shape(tensor))

    def binary(self, op: str, left: int, right: int) -> int:
        """An element-wise op that keeps the type; the shapes are broadcast."""
        shapes = self.shape(left), self.shape(right)
        rank = max(map(len, shapes))
        aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
        shape = [b if a == 1 else a for a, b in zip(*aligned, strict=True)]
        return self.op(op, left, right, shape=shape, dtype=self.dtype(left))

    def fully_connected(self, tensor: int, weights: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None) -> int:
        """Tensor [..., inputs] times the transposed weights [outputs, inputs], plus bias [outputs]."""
        # Where the op does not keep the rank of its input, XNNPACK puts a copy in front of it.
        operands = [tensor, self.constant(weights, "weights"), ABSENT if bias is None else self.constant(bias, "bias")]
        shape = (*self.shape(tensor)[:-1], len(weights))
        return self.op("FULLY_CONNECTED", *operands, shape=shape, keepNumDims=True)

    def split(self, tensor: int, count: int, axis: int) -> list[int]:
        """Equal parts along an axis."""
        if count == 1:
            return [tensor]
        shape = list(self.shape(tensor))
        shape[axis] //= count
        outputs = [self.tensor("part", shape) for _ in range(count)]
        self.add("SPLIT", [self.constant(np.array(axis)), tensor], outputs, numSplits=count)
        return outputs

    def slice(self, tensor: int, begin: Sequence[int], size: Sequence[int]) -> int:
        """A part of a tensor; a size of -1 is all that is left."""
        whole = self.shape(tensor)
        shape = [rest - first if own < 0 <= rest else own for rest, first, own in zip(whole, begin, size, strict=True)]
        return self.op("SLICE", tensor, self.constant(list(begin)), self.constant(list(size)), shape=shape)

    def reshape(self, tensor: int, shape: Sequence[int]) -> int:
        """The tensor in another shape; one size may be -1, which is open."""
        return self.op("RESHAPE", tensor, self.constant(list(shape)), shape=shape, newShape=list(shape))

    def transpose(self, tensor: int, permutation: Sequence[int]) -> int:
        """The tensor with its axes in another order."""
        shape = [self.shape(tensor)[axis] for axis in permutation]
        return self.op("TRANSPOSE", tensor, self.constant(list(permutation)), shape=shape)

    def store(self, tensor: int, target: int) -> None:
        """Lets the op that makes a tensor write it to a target that is there already, or else copies it there."""
        tensor = self._stored.get(tensor, tensor)
        if tensor not in self._stored.values() and any(tensor in op.outputs for op in self.operators):
            for op in self.operators:
                op.inputs = [target if index == tensor else index for index in op.inputs]
                op.outputs = [target if index == tensor else index for index in op.outputs]
            self._stored[tensor] = target
        else:
            self.copy(tensor, target)

    def copy(self, tensor: int, target: int) -> None:
        """Copies a tensor into a target that is there already."""
        shape = list(self.shape(target))
        self.add("RESHAPE", [tensor, self.constant(shape)], [target], newShape=shape)

    def nested(self, name: str, inputs: Sequence[int]) -> tuple[OpBuilder, int]:
        """A builder on a new subgraph, with inputs like some tensors, and the subgraph's index."""
        subgraph = schema.SubGraphT()
        full_name = f"{self.name}/{name}"
        subgraph.name, subgraph.tensors, subgraph.operators = full_name.encode(), [], []
        self.model.subgraphs.append(subgraph)
        inner = OpBuilder(self.model, subgraph, full_name, self.layer)
        subgraph.inputs = [inner.tensor("input", self.shape(each), self.dtype(each)) for each in inputs]
        return inner, len(self.model.subgraphs) - 1
