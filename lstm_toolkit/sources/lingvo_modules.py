"""Lingvo's LSTM cells as small TensorFlow modules, with Lingvo's names, shapes, order of gates and arithmetic.

They train like any `tf.Module`, take the arrays of a Lingvo checkpoint (`load_theta`), and give their weights to the
fused op (`GateWeights.from_lingvo`). Source of names and semantics: `lingvo/core/rnn_cell.py` and `rnn_layers.py`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lstm_toolkit.sources import marks
from lstm_toolkit.sources.own_arithmetic import overridden_in
from lstm_toolkit.weights.frameworks import LINGVO
from lstm_toolkit.weights.operands import LSTM_COMPOSITE
from lstm_toolkit.weights.packing import Packing

__all__ = ["RNN", "LSTMCellSimple", "LayerNormalizedLSTMCellSimple"]

LAYER_NORM_EPSILON = 1e-8
"""Added to the variance inside the root: Lingvo's default, and what the fused op has built in."""


class LSTMCellSimple(tf.Module):
    """An LSTM cell with the options and parameters of Lingvo's class of this name.

    With `gates` 4, or 3 where the input gate is coupled, and `hidden` either `num_hidden_nodes` or, without a
    projection, `num_output_nodes`::

        wm      [num_input_nodes + num_output_nodes, gates * hidden], rows: the input, then m
        b       [gates * hidden], only with enable_lstm_bias
        w_proj  [hidden, num_output_nodes], only with num_hidden_nodes

    Columns are in the order cell, input, forget, output, or cell, forget, output. All are float32 and trainable.
    Matrices start as Xavier uniform, the bias as zeros.

    Args:
        num_input_nodes: size of one input step.
        num_output_nodes: size of one output step, m.
        num_hidden_nodes: number of cells before the projection to `num_output_nodes`; 0 for no projection.
        cell_value_cap: bound of the absolute value of c; None or 0 for none. (Lingvo itself knows only None; its 0
            would pin c to 0.)
        forget_gate_bias: a number that every step adds to the forget part of the bias; it is not in `b`.
        couple_input_forget_gates: the input gate is 1 minus the forget gate (CIFG).
        enable_lstm_bias: whether there is `b`.
        output_nonlinearity: whether m takes tanh(c) or c itself; the fused op has only the former.
        seed: of the initial matrices; where None they follow `tf.random.set_seed`.
        name: of the module.

    Raises:
        ValueError: for sizes below 1 (`num_hidden_nodes`: below 0) and a negative cap; the message names the option.
    """

    _runs: dict[tuple[bool, bool], Any]
    """The functions that `marked_run` has marked, by whether they are masked and whether they carry their state."""

    def __init__(  # noqa: PLR0913 (public)
        self,
        *,
        num_input_nodes: int,
        num_output_nodes: int,
        num_hidden_nodes: int = 0,
        cell_value_cap: float | None = 10.0,
        forget_gate_bias: float = 0.0,
        couple_input_forget_gates: bool = False,
        enable_lstm_bias: bool = True,
        output_nonlinearity: bool = True,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        least = {"num_input_nodes": (num_input_nodes, 1), "num_output_nodes": (num_output_nodes, 1)}
        least |= {"num_hidden_nodes": (num_hidden_nodes, 0)}
        for option, (value, bound) in least.items():
            if value < bound:
                raise ValueError(f"{option} must be at least {bound}, got {value}")
        if cell_value_cap is not None and cell_value_cap < 0:
            raise ValueError(f"cell_value_cap must be positive, or None or 0 for no cap, got {cell_value_cap}")
        self.num_input_nodes = int(num_input_nodes)
        self.num_output_nodes = int(num_output_nodes)
        self.num_hidden_nodes = int(num_hidden_nodes)
        self.cell_value_cap = float(cell_value_cap) if cell_value_cap else None
        self.forget_gate_bias = float(forget_gate_bias)
        self.couple_input_forget_gates = bool(couple_input_forget_gates)
        self.enable_lstm_bias = bool(enable_lstm_bias)
        self.output_nonlinearity = bool(output_nonlinearity)
        # `tf.Module` puts into checkpoints what is assigned to it, and they cannot hold these functions.
        object.__setattr__(self, "_runs", {})
        shapes = self._theta_shapes()
        for index, (parameter, shape) in enumerate(shapes.items()):
            # Each parameter is an attribute of its own, so a checkpoint holds it under Lingvo's name.
            setattr(self, parameter, tf.Variable(_initial(parameter, shape, seed, index), name=parameter))

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates in the order of the columns of `wm`."""
        return self._packing.gates

    @property
    def _packing(self) -> Packing:
        return LINGVO.coupled() if self.couple_input_forget_gates else LINGVO

    @property
    def hidden_size(self) -> int:
        """Number of cells, the size of c."""
        return self.num_hidden_nodes or self.num_output_nodes

    @property
    def output_size(self) -> int:
        """Size of one output step, m."""
        return self.num_output_nodes

    @property
    def theta(self) -> dict[str, tf.Variable]:
        """The variables by Lingvo's names."""
        return {parameter: getattr(self, parameter) for parameter in self._theta_shapes()}

    def _theta_shapes(self) -> dict[str, tuple[int, ...]]:
        sizes = {"units": self.hidden_size, "outputs": self.num_output_nodes, "inputs": self.num_input_nodes}
        wanted = {"wm": True, "b": self.enable_lstm_bias, "w_proj": self.num_hidden_nodes > 0}
        return {parameter: self._packing.shape(parameter, **sizes) for parameter, there in wanted.items() if there}

    def load_theta(self, theta: Mapping[str, Any]) -> None:
        """Assigns all parameters at once, as from a Lingvo checkpoint or `GateWeights.to_lingvo`.

        Args:
            theta: arrays or tensors by name; exactly the names of `self.theta`, with their shapes.

        Raises:
            ValueError: for unknown or missing names, or another shape; nothing is assigned then.
        """
        variables = self.theta
        unknown = sorted(set(theta) - set(variables))
        missing = [parameter for parameter in variables if parameter not in theta]
        if unknown or missing:
            kind = type(self).__name__
            raise ValueError(f"theta of this {kind} is {list(variables)}; unknown: {unknown}; missing: {missing}")
        arrays = {parameter: np.asarray(theta[parameter], np.float32) for parameter in variables}
        for parameter, expected in self._theta_shapes().items():
            if arrays[parameter].shape != expected:
                raise ValueError(f"{parameter} must have shape {list(expected)}, got {list(arrays[parameter].shape)}")
        for parameter, variable in variables.items():
            variable.assign(arrays[parameter])

    def zero_state(self, batch_size: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The state (m, c) before the first step: zeros, [batch, num_output_nodes] and [batch, hidden]."""
        return tf.zeros([batch_size, self.output_size]), tf.zeros([batch_size, self.hidden_size])

    def step(self, m: Any, c: Any, inputs: Any, padding: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes one step.

        Args:
            m: last output, [batch, num_output_nodes].
            c: last cell state, [batch, hidden].
            inputs: [batch, num_input_nodes].
            padding: [batch, 1]; where it is 1.0 (or True) the old m and c stand, where 0.0 the step counts. None
                for no padding.

        Returns:
            The new m and c, float32, shapes as before.
        """
        return self.step_with(self.theta, m, c, inputs, padding)

    def step_with(
        self, theta: Mapping[str, Any], m: Any, c: Any, inputs: Any, padding: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The same as `step`, with tensors of the names and shapes of `theta` in the place of the variables."""
        products = tf.split(tf.matmul(tf.concat([inputs, m], axis=1), theta["wm"]), len(self.gates), axis=1)
        products, biases = self._normalize(theta, products), self._biases(theta)
        sums = [product + bias for product, bias in zip(products, biases, strict=True)]
        gate = dict(zip(self.gates, sums, strict=True))
        forget = tf.sigmoid(gate["forget"])
        admit = 1.0 - forget if self.couple_input_forget_gates else tf.sigmoid(gate["input"])
        new_c = forget * c + admit * tf.tanh(gate["cell"])
        if self.cell_value_cap is not None:
            new_c = tf.clip_by_value(new_c, -self.cell_value_cap, self.cell_value_cap)
        new_m = tf.sigmoid(gate["output"]) * (tf.tanh(new_c) if self.output_nonlinearity else new_c)
        if self.num_hidden_nodes:
            new_m = tf.matmul(new_m, theta["w_proj"])
        if padding is None:
            return new_m, new_c
        keep = tf.cast(padding, tf.bool)
        return tf.where(keep, m, new_m), tf.where(keep, c, new_c)

    def _normalize(self, theta: Mapping[str, Any], products: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:  # noqa: ARG002 (a subclass reads it)
        """What happens to the matrix product of each gate before the bias: here, nothing."""
        return products

    def _biases(self, theta: Mapping[str, Any]) -> list[tf.Tensor]:
        """One bias a gate, the forget gate's with `forget_gate_bias`."""
        count = len(self.gates)
        biases = tf.split(theta["b"], count) if self.enable_lstm_bias else [tf.zeros([self.hidden_size])] * count
        return [
            b + self.forget_gate_bias if gate == "forget" else b for gate, b in zip(self.gates, biases, strict=True)
        ]


class LayerNormalizedLSTMCellSimple(LSTMCellSimple):
    """`LSTMCellSimple` with each gate's matrix product normalized over the cells, then scaled, then biased.

    One parameter more than there, `ln_scale` [gates * hidden], which starts as ones: the normalized product is
    multiplied by it as it stands. The variance has 1e-8 added inside the root. Options and errors as there.
    """

    def _theta_shapes(self) -> dict[str, tuple[int, ...]]:
        return super()._theta_shapes() | {"ln_scale": (len(self.gates) * self.hidden_size,)}

    def _normalize(self, theta: Mapping[str, Any], products: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        scales = tf.split(theta["ln_scale"], len(self.gates))
        return [_layer_norm(product) * scale for product, scale in zip(products, scales, strict=True)]


class RNN(tf.Module):
    """Runs a cell over sequences.

    Args:
        cell: an `LSTMCellSimple` or `LayerNormalizedLSTMCellSimple`.
        name: of the module.
    """

    def __init__(self, cell: LSTMCellSimple, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.cell = cell

    def __call__(
        self,
        inputs: Any,
        *,
        padding: Any = None,
        initial_state: tuple[Any, Any] | None = None,
        return_state: bool = False,
    ) -> Any:
        """Runs the cell.

        Args:
            inputs: [batch, time, num_input_nodes], float32, at least one step.
            padding: [batch, time], float, int or bool; at a step where it is 1 the state stays as it is, and the
                output is the last one again. None for no padding. (Lingvo's own layers take time first.)
            initial_state: (m, c) as `LSTMCellSimple.step` takes them; zeros where None.
            return_state: whether the last m and c are returned too.

        Returns:
            The outputs [batch, time, num_output_nodes], float32; with `return_state` a triple (outputs, m, c).

        Raises:
            ValueError: if `inputs` or `padding` has another rank or size; the message names both shapes.
        """
        inputs = tf.convert_to_tensor(inputs, tf.float32)
        _check("inputs", inputs, [None, None, self.cell.num_input_nodes])
        state = self.cell.zero_state(tf.shape(inputs)[0]) if initial_state is None else initial_state
        m, c = (tf.convert_to_tensor(value, tf.float32) for value in state)
        _check("m of initial_state", m, [inputs.shape[0], self.cell.output_size])
        _check("c of initial_state", c, [inputs.shape[0], self.cell.hidden_size])
        if padding is not None:
            padding = tf.cast(tf.cast(padding, tf.bool), tf.float32)
            _check("padding", padding, inputs.shape[:2])
        start = () if initial_state is None else (m, c)
        # With padding the function is not marked: the body of a marked one does not hold its state over it.
        masked = padding is not None
        inputs = tf.concat([inputs, padding[:, :, tf.newaxis]], axis=2) if masked else inputs
        outputs, last_c = marked_run(self.cell, inputs, start, masked=masked, mark=not masked)
        return (outputs, outputs[:, -1], last_c) if return_state else outputs


def marked_run(
    cell: LSTMCellSimple,
    inputs: Any,
    start: Sequence[Any],
    *,
    masked: bool = False,
    mark: bool = True,
    carry: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs a cell over a sequence, or one step, as a function that the converter keeps as one op.

    Args:
        cell: the cell.
        inputs: [batch, time, num_input_nodes], or [batch, num_input_nodes] for one step; if `masked`, a sequence with
            one more channel.
        start: m and c to start from; empty for zeros.
        masked: whether the inputs have a last channel that is 1 at padded steps, where the state stays as it is.
        mark: whether the function is marked; otherwise, and if the cell has arithmetic of its own, it runs op by op.
        carry: whether a call of the file starts where the last one ended.

    Returns:
        The outputs [batch, time, num_output_nodes] or [batch, num_output_nodes], and the last c [batch, hidden].
    """
    mark = mark and overridden_in(__name__, cell, base=tf.Module) is None
    if mark and (masked, carry) not in cell._runs:
        cell._runs[masked, carry] = _marked(cell, masked=masked, carry=carry)
    run = cell._runs[masked, carry] if mark else functools.partial(_run, cell, masked=masked)
    outputs, c = run(inputs, *(tf.convert_to_tensor(variable) for variable in cell.theta.values()), *start)
    shape = [*inputs.shape[:-1], cell.output_size]
    return tf.ensure_shape(outputs, shape), tf.ensure_shape(c, [inputs.shape[0], cell.hidden_size])


def _run(cell: LSTMCellSimple, x: Any, *tensors: Any, masked: bool) -> tuple[Any, Any]:
    """Runs a cell over a sequence or a step, whose last channel is the padding if `masked`.

    `tensors` are the parameters in the order of `theta`, and perhaps m and c to start from. Returns outputs and last c.
    """
    names, is_step = list(cell.theta), len(x.shape) == 2
    theta = dict(zip(names, tensors, strict=False))
    steps = x[tf.newaxis] if is_step else tf.transpose(x, [1, 0, 2])

    def step(state: tuple[Any, Any], now: Any) -> tuple[Any, Any]:
        return cell.step_with(theta, *state, *((now[:, :-1], now[:, -1:]) if masked else (now,)))

    ms, cs = tf.scan(step, steps, initializer=tuple(tensors[len(names) :] or cell.zero_state(tf.shape(x)[0])))
    return (ms[0] if is_step else tf.transpose(ms, [1, 0, 2])), cs[-1]


def _marked(cell: LSTMCellSimple, *, masked: bool, carry: bool) -> Any:
    return marks.mark(
        lambda *tensors: _run(cell, *tensors, masked=masked),
        LSTM_COMPOSITE,
        layer=cell.name,
        weights=",".join(LINGVO.arrays[name] for name in cell.theta),
        gates=",".join(cell.gates),
        forget_gate_bias=cell.forget_gate_bias,
        cell_clip=cell.cell_value_cap or 0.0,
        masked=masked,
        carry=carry,
    )


def _check(what: str, tensor: tf.Tensor, expected: Sequence[int | None]) -> None:
    if not tensor.shape.is_compatible_with(expected):
        raise ValueError(f"{what} must have shape {list(expected)}, got {tensor.shape.as_list()}")


def _layer_norm(x: tf.Tensor) -> tf.Tensor:
    centered = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
    return centered * tf.math.rsqrt(variance + LAYER_NORM_EPSILON)


def _initial(parameter: str, shape: tuple[int, ...], seed: int | None, index: int) -> tf.Tensor:
    if len(shape) == 1:
        return tf.ones(shape) if parameter == "ln_scale" else tf.zeros(shape)
    limit = math.sqrt(6.0 / sum(shape))
    if seed is None:
        return tf.random.uniform(shape, -limit, limit)
    return tf.random.stateless_uniform(shape, [seed, index], -limit, limit)
