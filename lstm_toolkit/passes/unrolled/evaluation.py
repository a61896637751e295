"""The names of the numbers that tensors hold, and what is computed of such."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes.unrolled.elements import MOST, Elements, Elementwise, Given, Names, Products, TooLarge
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Subgraph
from lstm_toolkit.weights.operands import ABSENT

FOLDED: dict[str, Callable[..., npt.NDArray[Any]]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "TANH": np.tanh,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
}

BOUNDED = ("LOGISTIC", "TANH", "RELU6", "RELU_N1_TO_1")
"""Functions whose results are finite, so that zero times one of them is zero."""


class NotUnderstood(Exception):
    """An operator does something that no rule covers: what it says, or else what the name of the operator says."""


class Evaluation:
    """The names of every tensor of a subgraph.

    Attributes:
        elements: the names.
        names: by index of the tensor; what an operator computes that is not understood has names too.
        has_float16: whether constants are stored in float16.
    """

    def __init__(self, model: Model, subgraph: Subgraph) -> None:
        """Knows the inputs of a subgraph whose file was read and checked."""
        self.elements, self.names, self._held = Elements(), dict[int, Names](), 0
        self.has_float16 = False
        self._model, self._subgraph = model, subgraph
        self._constants: dict[int, npt.NDArray[Any]] = {}
        self._rows: dict[tuple[int, int, bytes], Names] = {}
        for index in subgraph.inputs:
            self.give(int(index))

    def constant(self, index: int) -> npt.NDArray[Any] | None:
        """The values of a tensor, of any type, that are the same in every call; None if they are not."""
        if index not in self._constants:
            values = graph.constant(self._model, self._subgraph.tensors[index])
            if values is None and index in self.names:
                values = self.elements.values(self.names[index])
            if values is None:
                return None
            self._constants[index] = values
        return self._constants[index]

    def give(self, index: int, operator: str = "") -> Names:
        """Names for the numbers of a tensor that is not understood, or an input."""
        shape = self._subgraph.tensors[index].shape
        sizes = tuple(int(size) for size in shape) if shape is not None else ()
        self.names[index] = self.elements.new(Given(operator), sizes)
        return self.names[index]

    def _read(self, index: int) -> Names:
        """The names of an operand.

        Raises:
            NotUnderstood: if it is absent or not float32.
        """
        if index == ABSENT:
            raise NotUnderstood
        tensor = self._subgraph.tensors[index]
        # What a variable holds depends on when it is read.
        if tensor.isVariable or index not in self.names:
            values = None if tensor.isVariable else graph.float_constant(self._model, tensor)
            if values is None:
                return self.give(index)
            self.names[index] = self.elements.constants(values)
        if tensor.type != schema.TensorType.FLOAT32:
            raise NotUnderstood
        return self.names[index]

    def hold(self, count: int) -> None:
        """Counts numbers that are held in memory.

        Raises:
            TooLarge: if there are too many.
        """
        self._held += count
        if self._held > 2 * MOST:
            raise TooLarge

    def dequantized(self, index: int) -> npt.NDArray[np.float32]:
        """The values that the float16 or int8 numbers of a constant operand stand for.

        Raises:
            NotUnderstood: if it is not such a constant.
        """
        values, tensor = self.constant(index), self._subgraph.tensors[index]
        if values is not None and values.dtype == np.float16:
            self.has_float16 = True
            return values.astype(np.float32)
        scales = tensor.quantization.scale if tensor.quantization is not None else None
        if values is None or values.dtype != np.int8 or scales is None or not len(scales):
            raise NotUnderstood
        shape = [1] * values.ndim
        if len(scales) > 1:
            shape[tensor.quantization.quantizedDimension] = len(scales)
        zeros = np.reshape(np.asarray(tensor.quantization.zeroPoint, np.int32), shape)
        return (values - zeros).astype(np.float32) * np.asarray(scales, np.float32).reshape(shape)

    def elementwise(self, operation: str, *operands: Names) -> Names:
        """Names for a function of numbers; those of its values, or of an operand, where it is one of these."""
        shape = np.broadcast_shapes(*(each.shape for each in operands))
        self.hold(math.prod(shape))
        values = [self.elements.values(each) for each in operands]
        if all(each is not None for each in values):
            with np.errstate(over="ignore", invalid="ignore"):
                folded = FOLDED[operation](*values)
            return self.elements.constants(np.broadcast_to(folded.astype(np.float32), shape))
        wide = [np.ascontiguousarray(np.broadcast_to(each, shape)) for each in operands]
        for place, each in enumerate(values):
            if each is not None and not each.any() and len(operands) == 2:
                other = wide[1 - place]
                if operation == "ADD":
                    return other
                if operation == "MUL" and self._is_bounded(other):
                    return np.ascontiguousarray(np.broadcast_to(operands[place], shape))
        return self.elements.new(Elementwise(operation, tuple(each.reshape(-1) for each in wide)), shape)

    def _is_bounded(self, names: Names) -> bool:
        found = self.elements.block(names)
        return found is not None and isinstance(found[0], Elementwise) and found[0].operation in BOUNDED

    def products(self, inputs: Names, weights: npt.NDArray[Any], bias: npt.NDArray[Any] | None) -> Names:
        """Names for rows of inputs, [..., inputs], times weights, [outputs, inputs]."""
        if weights.dtype != np.float32 or weights.ndim != 2 or inputs.shape[-1] != weights.shape[1]:
            raise NotUnderstood
        offsets = np.zeros(len(weights), np.float32) if bias is None else bias
        if offsets.shape != (len(weights),) or offsets.dtype != np.float32:
            raise NotUnderstood
        shape = (*inputs.shape[:-1], len(weights))
        values = self.elements.values(inputs)
        if values is not None:
            return self.elements.constants((values @ weights.T + offsets).astype(np.float32))
        rows = np.ascontiguousarray(inputs.reshape(-1, inputs.shape[-1]))
        keys = [(id(weights), id(bias), row.tobytes()) for row in rows]
        # A row that is multiplied twice, as by a product of one step and one of all steps, gives the same numbers.
        new = [number for number, key in enumerate(keys) if key not in self._rows]
        if new:
            names = self.elements.new(Products(rows[new], weights, offsets), (len(new), len(weights)))
            self._rows |= {keys[number]: each for number, each in zip(new, names, strict=True)}
        return np.stack([self._rows[key] for key in keys]).reshape(shape)

    def floats(self, index: int) -> Names:
        """The names of a float32 operand."""
        return self._read(index)

    def integers(self, index: int) -> list[int]:
        """The values of a constant operand of integers.

        Raises:
            NotUnderstood: if it is not one.
        """
        values = None if index == ABSENT else self.constant(index)
        if values is None or values.dtype.kind != "i":
            raise NotUnderstood
        return [int(value) for value in values.reshape(-1)]
