"""One step of a recurrent layer as plain ops: the cells that can be written without a fused op.

The input product of all steps is computed once, before the first: a step takes its row of it and adds what depends on
the state. `h` or `c` of None is a state of zeros, which needs no ops.
"""

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lstm_toolkit.passes.plain.activations import activated, clipped, is_elementwise, normalized
from lstm_toolkit.tflite.builder import OpBuilder
from lstm_toolkit.weights.gate_weights import GateWeights

Array = npt.NDArray[np.float32]


class Cell(Protocol):
    """What a lowered layer computes in a step."""

    @property
    def input_weights(self) -> Array:
        """The weights of the input, [columns, input_size]."""

    @property
    def input_bias(self) -> Array | None:
        """What is added to the input product at every step, [columns]."""

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The size of each state; the first state is the output."""

    def step(self, builder: OpBuilder, row: int, states: tuple[int | None, ...]) -> tuple[int, ...]:
        """Appends the ops of a step.

        Args:
            builder: where they go.
            row: the input product of the step, [batch, columns].
            states: [batch, size] each.

        Returns:
            The states after the step.
        """


@dataclasses.dataclass(frozen=True)
class LstmCell:
    """An LSTM with everything that the fused op has, and any activations.

    Attributes:
        weights: by gate.
        activation, recurrent_activation: of the cell and of the gates, of `activations.ACTIVATIONS`.
        cell_clip, proj_clip: bounds of c and of the projected output; 0 for none.
    """

    weights: GateWeights
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    cell_clip: float = 0.0
    proj_clip: float = 0.0

    @property
    def gates(self) -> tuple[str, ...]:
        """The order of the gates in the columns."""
        return ("input", "forget", "cell", "output") if self.weights.has_input_gate else ("forget", "cell", "output")

    @property
    def input_weights(self) -> Array:
        """The weights of the gates that there are, one below the other."""
        return self._packed("input_to_{}_weights")

    @property
    def input_bias(self) -> Array | None:
        """The biases of the gates, or None where they are added later or not at all."""
        # Behind a layer normalization the bias is added to what it gives.
        return None if self._is_normalized or self.weights.forget_gate_bias is None else self._packed("{}_gate_bias")

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The sizes of h and c."""
        return self.weights.output_size, self.weights.units

    @property
    def _is_normalized(self) -> bool:
        return self.weights.forget_layer_norm_coefficients is not None

    def _packed(self, operand: str) -> Array:
        return np.concatenate([getattr(self.weights, operand.format(gate)) for gate in self.gates])

    def step(self, builder: OpBuilder, row: int, states: tuple[int | None, ...]) -> tuple[int, ...]:
        """Appends the ops of a step; see `Cell`."""
        h, c = states
        sums = self._sums(builder, row, h)
        parts = self._activated_at_once(builder, sums) if self._has_like_gates else self._parts(builder, sums)
        forget = self._gate(builder, "forget", parts, c)
        if self.weights.has_input_gate:
            admit = self._gate(builder, "input", parts, c)
        else:
            admit = builder.binary("SUB", builder.constant(np.float32(1.0)), forget)
        candidate = activated(builder, self._total(builder, "cell", parts, None), self.activation)
        new_c = builder.binary("MUL", admit, candidate)
        if c is not None:
            new_c = builder.binary("ADD", builder.binary("MUL", forget, c), new_c)
        new_c = clipped(builder, new_c, self.cell_clip)
        opened = self._gate(builder, "output", parts, new_c)
        new_h = builder.binary("MUL", opened, activated(builder, new_c, self.activation))
        if self.weights.projection_weights is not None:
            new_h = builder.fully_connected(new_h, self.weights.projection_weights, self.weights.projection_bias)
            new_h = clipped(builder, new_h, self.proj_clip)
        return new_h, new_c

    def _sums(self, builder: OpBuilder, row: int, h: int | None) -> int:
        """What goes into all gates, [batch, gates * units]."""
        if h is None:
            return row
        weights = self._packed("recurrent_to_{}_weights")
        if self.weights.has_diagonal_recurrence:
            shape = (builder.shape(h)[0], len(weights))
            repeated = builder.op("CONCATENATION", *[h] * len(self.gates), shape=shape, axis=1)
            product = builder.binary("MUL", repeated, builder.constant(weights))
        else:
            product = builder.fully_connected(h, weights)
        return builder.binary("ADD", product, row)

    @property
    def _has_like_gates(self) -> bool:
        """Whether nothing stands between the sums of the gates and their activation, which takes each for itself."""
        is_bare = self.weights.cell_to_forget_weights is None and not self._is_normalized
        return is_bare and is_elementwise(self.recurrent_activation)

    def _parts(self, builder: OpBuilder, sums: int) -> dict[str, int]:
        return dict(zip(self.gates, builder.split(sums, len(self.gates), axis=1), strict=True))

    def _activated_at_once(self, builder: OpBuilder, sums: int) -> dict[str, int]:
        """The gates after their activation, which one op takes of all of them, and the cell gate before its own."""
        batch, units = builder.shape(sums)[0], self.weights.units
        parts = self._parts(builder, activated(builder, sums, self.recurrent_activation))
        return parts | {"cell": builder.slice(sums, [0, self.gates.index("cell") * units], [batch, units])}

    def _gate(self, builder: OpBuilder, gate: str, parts: dict[str, int], c: int | None) -> int:
        if self._has_like_gates:
            return parts[gate]
        return activated(builder, self._total(builder, gate, parts, c), self.recurrent_activation)

    def _total(self, builder: OpBuilder, gate: str, parts: dict[str, int], c: int | None) -> int:
        """What goes into one gate, with peephole and layer normalization."""
        total = parts[gate]
        peephole = getattr(self.weights, f"cell_to_{gate}_weights", None)
        if peephole is not None and c is not None:
            total = builder.binary("ADD", total, builder.binary("MUL", c, builder.constant(peephole)))
        if self._is_normalized:
            total = normalized(builder, total)
            coefficients = getattr(self.weights, f"{gate}_layer_norm_coefficients")
            total = builder.binary("MUL", total, builder.constant(coefficients))
            bias = getattr(self.weights, f"{gate}_gate_bias")
            if bias is not None:
                total = builder.binary("ADD", total, builder.constant(bias))
        return total


@dataclasses.dataclass(frozen=True)
class GruCell:
    """A GRU as Keras has it, gates in the order update, reset, candidate.

    Attributes:
        kernel: [3 * units, input_size].
        recurrent_kernel: [3 * units, units].
        bias: [3 * units], added to the input product.
        recurrent_bias: [3 * units], added to the recurrent product; only with `reset_after`.
        activation, recurrent_activation: of the candidate and of the gates, of `activations.ACTIVATIONS`.
        reset_after: whether the reset gate multiplies the recurrent product, or the state before it.
    """

    kernel: Array
    recurrent_kernel: Array
    bias: Array
    recurrent_bias: Array
    activation: str
    recurrent_activation: str
    reset_after: bool

    @property
    def input_weights(self) -> Array:
        """The kernel: update, reset and candidate, one below the other."""
        return self.kernel

    @property
    def input_bias(self) -> Array | None:
        """The bias, and what of the recurrent bias goes with it."""
        # The recurrent bias of both gates may as well be added here.
        units = self.state_sizes[0]
        return self.bias + np.where(np.arange(3 * units) < 2 * units, self.recurrent_bias, np.float32(0.0))

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The size of h."""
        return (self.recurrent_kernel.shape[1],)

    def step(self, builder: OpBuilder, row: int, states: tuple[int | None, ...]) -> tuple[int, ...]:
        """Appends the ops of a step; see `Cell`."""
        units = self.state_sizes[0]
        h = states[0] if states[0] is not None else builder.constant(np.zeros((builder.shape(row)[0], units)))
        update, reset, candidate = builder.split(row, 3, axis=1)
        if self.reset_after:
            bias = np.where(np.arange(3 * units) < 2 * units, np.float32(0.0), self.recurrent_bias)
            products = builder.split(builder.fully_connected(h, self.recurrent_kernel, bias), 3, axis=1)
        else:
            products = builder.split(builder.fully_connected(h, self.recurrent_kernel[: 2 * units]), 2, axis=1)
        update, reset = (
            activated(builder, builder.binary("ADD", part, product), self.recurrent_activation)
            for part, product in zip((update, reset), products, strict=False)
        )
        if self.reset_after:
            recurrent = builder.binary("MUL", reset, products[2])
        else:
            product = builder.binary("MUL", reset, h)
            recurrent = builder.fully_connected(product, self.recurrent_kernel[2 * units :])
        candidate = activated(builder, builder.binary("ADD", candidate, recurrent), self.activation)
        kept = builder.binary("MUL", update, h)
        rest = builder.binary("SUB", builder.constant(np.float32(1.0)), update)
        return (builder.binary("ADD", kept, builder.binary("MUL", rest, candidate)),)


@dataclasses.dataclass(frozen=True)
class SimpleRnnCell:
    """h = activation(x W + h U + b).

    Attributes:
        kernel: [units, input_size].
        recurrent_kernel: [units, units].
        bias: [units].
        activation: of `activations.ACTIVATIONS`.
    """

    kernel: Array
    recurrent_kernel: Array
    bias: Array
    activation: str

    @property
    def input_weights(self) -> Array:
        """The kernel."""
        return self.kernel

    @property
    def input_bias(self) -> Array | None:
        """The bias."""
        return self.bias

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The size of h."""
        return (len(self.recurrent_kernel),)

    def step(self, builder: OpBuilder, row: int, states: tuple[int | None, ...]) -> tuple[int, ...]:
        """Appends the ops of a step; see `Cell`."""
        (h,) = states
        total = row if h is None else builder.binary("ADD", builder.fully_connected(h, self.recurrent_kernel), row)
        return (activated(builder, total, self.activation),)
