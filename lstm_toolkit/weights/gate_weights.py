"""`GateWeights`: the weights of one LSTM, one array per gate and operand, as the fused op takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.weights import frameworks
from lstm_toolkit.weights.operands import (
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

    The fields carry the operand names of TensorFlow Lite's fused op (`operands.OPERANDS`) and its shapes, with
    `units` cells, `input_size` numbers a step in and `output_size` out (`units` unless there is a projection)::

        input_to_*_weights         [units, input_size]
        recurrent_to_*_weights     [units, output_size], or all [units]: the diagonals of an IndyLSTM's matrices
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
        shapes |= dict.fromkeys(RECURRENT_WEIGHTS, (units,) if self.has_diagonal_recurrence else (units, outputs))
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

    @property
    def has_diagonal_recurrence(self) -> bool:
        """Whether the recurrent weights are vectors: each cell sees only its own last output (IndyLSTM)."""
        return self.recurrent_to_forget_weights.ndim == 1

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
        return cls(**frameworks.read_keras(layer).split())

    def to_keras(self) -> list[Array]:
        """Packs the weights for `set_weights` of a Keras LSTM: [kernel, recurrent_kernel] and, if any, bias.

        The inverse of `from_keras`, shapes as there.

        Raises:
            ValueError: if there is something that a Keras LSTM does not have (peephole, projection, layer
                normalization, or a coupled input gate).
        """
        return list(frameworks.KERAS.pack(dict(self.operands())).values())

    @classmethod
    def from_lingvo(
        cls,
        cell_or_theta: Any,
        *,
        num_input_nodes: int | None = None,
        forget_gate_bias: float | None = None,
        couple_input_forget_gates: bool | None = None,
    ) -> GateWeights:
        """Splits the packed weights of a Lingvo LSTM by gate.

        Args:
            cell_or_theta: a cell of `lstm_toolkit.lingvo`, or its theta as a mapping: `wm` [num_input_nodes +
                num_output_nodes, gates * hidden], and where the cell has them `b` [gates * hidden], `w_proj`
                [hidden, num_output_nodes] and `ln_scale` [gates * hidden]; columns in the order cell, input, forget,
                output, or cell, forget, output where the input gate is coupled. `to_lingvo` is the inverse.
            num_input_nodes: for a mapping without `w_proj`, whose shapes do not tell it.
            couple_input_forget_gates: the same; one of the two is enough.
            forget_gate_bias: for a mapping, the option of the cell, 0 where None. The op has no such option, so it
                is added to the bias of the forget gate, in float32, as the cell does at every step.

        Raises:
            ValueError: for unknown or missing names, other shapes, and options given beside a cell.

        The cell's `cell_value_cap` is an option of the op, `cell_clip`, and no weight.
        Source: `lingvo/core/rnn_cell.py`.
        """
        packed = frameworks.read_lingvo(
            cell_or_theta,
            num_input_nodes=num_input_nodes,
            forget_gate_bias=forget_gate_bias,
            couple_input_forget_gates=couple_input_forget_gates,
        )
        return cls(**packed.split())

    def to_lingvo(self, *, forget_gate_bias: float = 0.0) -> dict[str, Array]:
        """Packs the weights as the theta of a Lingvo cell, for `load_theta`; names and shapes as in `from_lingvo`.

        Args:
            forget_gate_bias: the option of the cell that will hold them; it is taken off the forget part of `b`. With
                0.0 the round trip is exact, else exact up to float32 rounding of one addition and one subtraction.
                A cell without bias but with a forget gate bias comes back with a `b` of zeros.

        Raises:
            ValueError: if there is something that Lingvo's cells do not have (peephole or projection bias).
        """
        packing = dataclasses.replace(frameworks.LINGVO, forget_gate_bias=forget_gate_bias)
        return packing.pack(dict(self.operands()))

    @classmethod
    def from_torch(cls, module_or_state_dict: Any, *, layer: int = 0, reverse: bool = False) -> GateWeights:
        """Splits the packed weights of one layer and direction of a PyTorch LSTM by gate.

        Args:
            module_or_state_dict: a `torch.nn.LSTM`, or its `state_dict()` as a mapping of tensors or arrays:
                `weight_ih_l0` [4 * units, input_size], `weight_hh_l0` [4 * units, output_size], with `bias` both
                `bias_ih_l0` and `bias_hh_l0` [4 * units], with `proj_size` `weight_hr_l0` [output_size, units]; rows
                in the order i, f, g, o, that is input, forget, cell, output. The op has one bias: the sum of both.
            layer: the number after `_l` in those names.
            reverse: takes the backward direction, whose names end in `_reverse`.

        Raises:
            ValueError: for missing names, and for other shapes, as those of a GRU.

        Source: the section "Variables" of `torch.nn.LSTM`.
        """
        return cls(**frameworks.read_torch(module_or_state_dict, layer=layer, reverse=reverse).split())

    def to_torch(self, *, layer: int = 0, reverse: bool = False) -> dict[str, Array]:
        """Packs the weights as the entries that one layer and direction has in the `state_dict` of a PyTorch LSTM.

        Names, shapes and arguments as in `from_torch`. The bias is in `bias_ih_l0`, and `bias_hh_l0` is zeros, so
        `from_torch` gives back exactly these weights. The values are arrays: `torch.from_numpy` makes them tensors.

        Raises:
            ValueError: if there is something that a PyTorch LSTM does not have (peephole, projection bias, layer
                normalization, or a coupled input gate).
        """
        return frameworks.torch_packing(layer=layer, reverse=reverse).pack(dict(self.operands()))

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
