"""The gates of the LSTM ops in `.tflite` files: what goes into an op is read from the interpreter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstm_toolkit.activations.compute import Call, Cell, chosen_number, computed
from lstm_toolkit.activations.values import Array, GateActivations
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.inspection.values import LstmNode, OpSummary, TensorSummary
from lstm_toolkit.runtime.compare import TOLERANCE
from lstm_toolkit.runtime.watched import WatchedRunner
from lstm_toolkit.tflite import files
from lstm_toolkit.weights.operands import STATES
from lstm_toolkit.weights.reference import ACTIVATIONS

INTEGER_TOLERANCE = 0.2
"""How far the op may be from float arithmetic where it computes in integers, relative to the largest number."""


def of_file(source: Any, inputs: Sequence[Any], chosen: str | int | None) -> GateActivations:
    """The gates of one LSTM node of a file. Arguments and errors as for `gate_activations`."""
    data = files.read_bytes(getattr(source, "tflite", source))
    summary = inspect(data)
    nodes = summary.lstm_nodes
    if not nodes:
        raise InvalidModelError(
            "the .tflite file has no fused LSTM op: its gates, if it has any, are spread over plain ops or loops; give "
            'the Keras model, or a file of convert(model, lowering="fused")'
        )
    node = nodes[chosen_number([each.name for each in nodes], chosen, "file")]
    _refuse_unreadable(node)
    runner = WatchedRunner(data)
    halves = [_Half(node, summary.subgraphs[0].ops, prefix) for prefix in _prefixes(node)]
    calls: list[list[Call]] = [[] for _ in halves]
    for given in _in_calls(runner, inputs, node):
        before = [half.states(runner) for half in halves]
        runner.outputs(**runner.quantized(_by_name(runner, given)))
        for half, states, made in zip(halves, before, calls, strict=True):
            made.append(half.call(runner, states))
    forward, *backward = (computed(half.cell, made) for half, made in zip(halves, calls, strict=True))
    return dataclasses.replace(forward, backward=backward[0]) if backward else forward


def _refuse_unreadable(node: LstmNode) -> None:
    if node.subgraph != 0:
        raise InvalidModelError(
            f"node {node.name!r} stands in subgraph {node.subgraph}, the body of a loop or a branch, where the "
            "interpreter shows only its last turn; give the Keras model, or a file whose LSTM op has the whole sequence"
        )
    if node.activation not in ACTIVATIONS:
        raise InvalidModelError(
            f"node {node.name!r} has the cell activation {node.activation!r}, for which the op's result is undefined; "
            f"convert the model with one of {', '.join(ACTIVATIONS)}"
        )


def _prefixes(node: LstmNode) -> tuple[str, ...]:
    return ("",) if node.backward_weights is None else ("forward_", "backward_")


def _in_calls(runner: WatchedRunner, inputs: Sequence[Any], node: LstmNode) -> list[Any]:
    """The inputs of each call; one that is longer than the file's fixed length is cut."""
    shapes = list(runner.input_shapes.values())
    if len(inputs) > 1 or len(shapes) > 1 or isinstance(inputs[0], Mapping):
        return list(inputs)
    array, shape, axis = np.asarray(inputs[0]), shapes[0], 0 if node.layout == "time_major" else 1
    length = shape[axis] if len(shape) > axis else -1
    if array.ndim != len(shape) or length < 1 or array.shape[axis] % length:
        return [array]
    return list(np.split(array, array.shape[axis] // length, axis)) if array.shape[axis] else [array]


def _by_name(runner: WatchedRunner, given: Any) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    if len(runner.input_shapes) > 1:
        raise ValueError(f"the file has the inputs {list(runner.input_shapes)}; pass a dict of arrays by name")
    return {next(iter(runner.input_shapes)): np.asarray(given)}


class _Half:
    """One direction of an LSTM op, and where its inputs, outputs and states stand.

    Args:
        node: the op.
        ops: all operators of the subgraph, in their order.
        prefix: what the names of this direction's operands start with.
    """

    def __init__(self, node: LstmNode, ops: Sequence[OpSummary], prefix: str) -> None:
        self._node, self._op, self._number = node, ops[node.index], int(prefix == "backward_")
        operands = dict(node.operands)
        self._input = operands["input"]
        self._states = tuple(operands[prefix + name] for name in STATES)
        # What sets a state at each call does so before the op reads it.
        before = {each.index: op for op in ops[: node.index] for each in op.outputs if each is not None}
        self._setters = [before.get(state.index) for state in self._states]
        weights = node.backward_weights if self._number else node.weights
        assert weights is not None
        integers = any("int" in dtype for dtype in (self._input.dtype, node.weight_dtype))
        self.cell = Cell(
            kind="node",
            name=node.name,
            weights=weights,
            activation=node.activation,
            cell_clip=node.cell_clip,
            proj_clip=node.proj_clip,
            backwards=bool(self._number),
            tolerance=INTEGER_TOLERANCE if integers else TOLERANCE,
        )

    def states(self, runner: WatchedRunner) -> list[Array]:
        """Both states as they are now, [batch, size]."""
        return [_tensor(runner, state) for state in self._states]

    def call(self, runner: WatchedRunner, before: Sequence[Array]) -> Call:
        """What the latest call did; `before` is what `states` said ahead of it."""
        output = self._sequence(runner, self._op.outputs[min(self._number, len(self._op.outputs) - 1)])
        size = self.cell.weights.output_size
        if self._node.backward_weights is not None and len(self._op.outputs) == 1:
            output = output[..., -size:] if self._number else output[..., :-size]
        h, c = (self._start(runner, *each) for each in zip(self._setters, before, strict=True))
        return Call(
            x=self._sequence(runner, self._input),
            h=h,
            c=c,
            output=output[:, ::-1] if self._number else output,
            last_c=_tensor(runner, self._states[1]),
        )

    def _start(self, runner: WatchedRunner, setter: OpSummary | None, before: Array) -> Array:
        """What a state was when the op read it."""
        takes = [] if setter is None else [each for each in setter.inputs if each is not None]
        if setter is not None and setter.name == "ZEROS_LIKE":
            return np.zeros_like(before)
        if all(each.role == "constant" for each in takes):  # such an op is run only once, at allocation
            return before
        return np.broadcast_to(_tensor(runner, takes[0]), before.shape)

    def _sequence(self, runner: WatchedRunner, tensor: TensorSummary | None) -> Array:
        """A sequence that goes into the op or comes out of it, [batch, time, size]."""
        assert tensor is not None
        array = _tensor(runner, tensor)
        if self._node.layout == "step":
            return array[:, np.newaxis]
        return array.swapaxes(0, 1) if self._node.layout == "time_major" else array


def _tensor(runner: WatchedRunner, tensor: TensorSummary) -> Array:
    assert tensor.index is not None
    return runner.tensor(tensor.index)
