"""`GateWeights`: the weights of one LSTM, one array per gate and operand, as the fused op takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .contract import (
    BIASES,
    INPUT_WEIGHTS,
    LAYER_NORM_COEFFICIENTS,
    PEEPHOLE_WEIGHTS,
    RECURRENT_WEIGHTS,
    WEIGHT_OPERANDS,
)

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class GateWeights:
    """The weights of one LSTM in one direction, by gate, never packed.

    The fields carry the operand names of TensorFlow Lite's fused op (`contract.OPERANDS`) and its shapes, with
    `units` cells, `input_size` numbers a step in and `output_size` out (`units` unless there is a projection):

        input_to_*_weights         [units, input_size]
        recurrent_to_*_weights     [units, output_size]
        cell_to_*_weights          [units], peephole; all three, or two without an input gate, or none
        *_gate_bias                [units], all or none
        projection_weights         [output_size, units], or None
        projection_bias            [output_size], or None; only beside projection_weights
        *_layer_norm_coefficients  [units], all or none

    All arrays are float32 and read-only. An LSTM whose input gate is coupled to its forget gate (CIFG) has None in
    every field of the input gate.

    Raises:
        ValueError: where an array is missing or has another shape; the message names it and both shapes.

    Source of names, shapes and order: `tflite/kernels/lstm_shared.h` of LiteRT.
    """

    input_to_input_weights: Array | None = None
    input_to_forget_weights: Array
    input_to_cell_weights: Array
    input_to_output_weights: Array
    recurrent_to_input_weights: Array | None = None
    recurrent_to_forget_weights: Array
    recurrent_to_cell_weights: Array
    recurrent_to_output_weights: Array
    cell_to_input_weights: Array | None = None
    cell_to_forget_weights: Array | None = None
    cell_to_output_weights: Array | None = None
    input_gate_bias: Array | None = None
    forget_gate_bias: Array | None = None
    cell_gate_bias: Array | None = None
    output_gate_bias: Array | None = None
    projection_weights: Array | None = None
    projection_bias: Array | None = None
    input_layer_norm_coefficients: Array | None = None
    forget_layer_norm_coefficients: Array | None = None
    cell_layer_norm_coefficients: Array | None = None
    output_layer_norm_coefficients: Array | None = None

    def __post_init__(self) -> None:
        for name in WEIGHT_OPERANDS:
            value = getattr(self, name)
            if value is not None:
                array = np.array(value, dtype=np.float32, order="C")
                array.setflags(write=False)
                object.__setattr__(self, name, array)
        if self.input_to_forget_weights.ndim != 2:
            raise ValueError(
                f"input_to_forget_weights must be [units, input_size], got {list(self.input_to_forget_weights.shape)}"
            )
        self._check_presence()
        for name, expected in self._expected_shapes().items():
            value = getattr(self, name)
            if value is not None and value.shape != expected:
                raise ValueError(f"{name} must have shape {list(expected)}, got {list(value.shape)}")

    def _check_presence(self) -> None:
        groups = {"peephole": PEEPHOLE_WEIGHTS, "bias": BIASES, "layer normalization": LAYER_NORM_COEFFICIENTS}
        for kind, names in groups.items():
            wanted = [*names] if self.has_input_gate else [*names[1:]]
            given = [name for name in names if getattr(self, name) is not None]
            if given and given != wanted:
                raise ValueError(f"{kind} operands must be all there or all absent: got {given}, expected {wanted}")
        if (self.recurrent_to_input_weights is not None) != self.has_input_gate:
            raise ValueError("input_to_input_weights and recurrent_to_input_weights go together: one of them is None")
        if self.projection_bias is not None and self.projection_weights is None:
            raise ValueError("projection_bias needs projection_weights")

    def _expected_shapes(self) -> dict[str, tuple[int, ...]]:
        units, outputs = self.units, self.output_size
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(WEIGHT_OPERANDS, (units,))
        shapes |= dict.fromkeys(INPUT_WEIGHTS, (units, self.input_size))
        shapes |= dict.fromkeys(RECURRENT_WEIGHTS, (units, outputs))
        return shapes | {"projection_weights": (outputs, units), "projection_bias": (outputs,)}

    @property
    def units(self) -> int:
        """Number of cells."""
        return int(self.input_to_forget_weights.shape[0])

    @property
    def input_size(self) -> int:
        """Size of one input step."""
        return int(self.input_to_forget_weights.shape[1])

    @property
    def output_size(self) -> int:
        """Size of one output step: `units`, or the size of the projection."""
        return self.units if self.projection_weights is None else int(self.projection_weights.shape[0])

    @property
    def has_input_gate(self) -> bool:
        """False where the input gate is coupled to the forget gate (CIFG)."""
        return self.input_to_input_weights is not None

    def operands(self) -> Iterator[tuple[str, Array]]:
        """Yields (operand name, array) for what is there, in the order of the op."""
        for name in WEIGHT_OPERANDS:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def __repr__(self) -> str:
        names = ", ".join(f"{name} {list(array.shape)}" for name, array in self.operands())
        return f"GateWeights(units={self.units}, input_size={self.input_size}: {names})"

    @classmethod
    def from_keras(cls, layer: Any) -> GateWeights:
        """Splits the packed weights of a Keras LSTM by gate.

        Args:
            layer: a built `keras.layers.LSTM` or `LSTMCell`, or what its `get_weights()` returns: `kernel`
                [input_size, 4 * units], `recurrent_kernel` [units, 4 * units] and, with `use_bias`, `bias`
                [4 * units]; columns in the order input, forget, cell, output. `to_keras` is the inverse.

        Raises:
            ValueError: for another number of arrays or other shapes, and for a layer that is not built.

        Source: points 3 and 4 of the guide's contract, "kernel and recurrent_kernel are transposed", "split along
        dimension 0 into input gate, forget gate, cell and output gate".
        """
        packed = layer.get_weights() if hasattr(layer, "get_weights") else list(layer)
        if len(packed) not in (2, 3):
            raise ValueError(
                "expected kernel, recurrent_kernel and perhaps bias of one built Keras LSTM, "
                f"got {len(packed)} array(s); a layer that was never called has no weights yet"
            )
        kernel, recurrent_kernel = (np.asarray(array) for array in packed[:2])
        units = recurrent_kernel.shape[0]
        expected = ([kernel.shape[0], 4 * units], [units, 4 * units], [4 * units])
        for name, shape, array in zip(("kernel", "recurrent_kernel", "bias"), expected, packed, strict=False):
            if list(np.shape(array)) != shape:
                raise ValueError(f"{name} must have shape {shape}, got {list(np.shape(array))}")
        parts = dict(zip(INPUT_WEIGHTS, np.split(kernel.T, 4), strict=True))
        parts |= zip(RECURRENT_WEIGHTS, np.split(recurrent_kernel.T, 4), strict=True)
        if len(packed) == 3:
            parts |= zip(BIASES, np.split(np.asarray(packed[2]), 4), strict=True)
        return cls(**parts)

    def to_keras(self) -> list[Array]:
        """Packs the weights for `set_weights` of a Keras LSTM: [kernel, recurrent_kernel] and, if any, bias.

        The inverse of `from_keras`, shapes as there.

        Raises:
            ValueError: if there is something that a Keras LSTM does not have (peephole, projection, layer
                normalization, or a coupled input gate).
        """
        packable = {*INPUT_WEIGHTS, *RECURRENT_WEIGHTS, *BIASES}
        extra = [name for name, _ in self.operands() if name not in packable]
        if extra or not self.has_input_gate:
            reason = f"there are {extra}" if extra else "the input gate is coupled to the forget gate"
            raise ValueError(f"a Keras LSTM cannot hold these weights: {reason}")
        packed = [self._pack(INPUT_WEIGHTS).T.copy(), self._pack(RECURRENT_WEIGHTS).T.copy()]
        if self.forget_gate_bias is not None:
            packed.append(self._pack(BIASES))
        return packed

    def _pack(self, names: Sequence[str]) -> Array:
        return np.concatenate([getattr(self, name) for name in names])

    @classmethod
    def from_operands(cls, operands: Mapping[str, npt.ArrayLike]) -> GateWeights:
        """Builds the weights from arrays by operand name, as `operands()` yields them.

        Raises:
            ValueError: for an unknown or missing operand name, or a wrong shape.
        """
        unknown = sorted(set(operands) - set(WEIGHT_OPERANDS))
        required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
        missing = [name for name in required if name not in operands]
        if unknown or missing:
            raise ValueError(f"operands unknown to the fused LSTM op: {unknown}; missing: {missing}")
        return cls(**{name: np.asarray(array, np.float32) for name, array in operands.items()})
