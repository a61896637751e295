"""A recurrent layer as a loop over time: one WHILE or a few, with several steps a turn in the body.

    before  [rows of the input product, states]
    after   [WHILE: next row, last row, place, rows, outputs, states] ... [RESHAPE: outputs]
    body    [SLICE: rows of the turn] [SPLIT] [step] [step] ... [CONCATENATION] [DYNAMIC_UPDATE_SLICE: outputs]

A WHILE copies what its body changes at each turn, so the outputs of long sequences are gathered by a few loops after
one another, which share one body. What goes through the body unchanged, such as the rows, is not copied.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite.builder import OpBuilder

if TYPE_CHECKING:
    from lstm_toolkit.passes.plain.recurrence import Recurrence

MOST_STEPS_A_TURN = 10
"""More would crowd the caches with the ops of the steps, fewer would spend the time on the turns."""

WEIGHTS_A_TURN = 5 << 16
"""Number of recurrent weights over all steps of a turn. The interpreter keeps a packed copy of them for each step, and
all copies together should fit into a second-level cache, for each turn reads them all."""

OUTPUTS_A_LOOP = 1 << 14
"""Number of outputs that one WHILE gathers, about."""

LEAST_TURNS_A_LOOP = 5
"""A WHILE takes some time to begin with."""

_INTEGERS = schema.TensorType.INT32


def steps_per_turn(recurrence: Recurrence) -> int:
    """As many as the sizes allow, or somewhat fewer where that divides the number of steps."""
    sizes = recurrence.cell.state_sizes
    most = max(1, min(MOST_STEPS_A_TURN, WEIGHTS_A_TURN // (4 * sizes[0] * sizes[-1])))
    if recurrence.steps is None:
        return max(1, most // 2)
    divisors = [count for count in range(most // 2, most + 1) if count and recurrence.steps % count == 0]
    return max(divisors, default=most)


def loop(builder: OpBuilder, recurrence: Recurrence, rows: int, turn: int) -> tuple[int, ...]:
    """Appends the loops over all steps.

    Args:
        builder: where the ops go; the loops' bodies become subgraphs of their own.
        recurrence: the layer.
        rows: the input product, [time * batch, columns].
        turn: number of steps a turn.

    Returns:
        The states after the last step.
    """
    batch, has_outputs = recurrence.batch, recurrence.outputs is not None
    states = starts(builder, recurrence)
    loops = _Loops(builder, recurrence, rows)
    if recurrence.steps is None:
        outputs = loops.unwritten(turn) if has_outputs else None
        at = _Place(builder.constant([0]), builder.constant([0, 0]))
        for steps in (turn, 1):
            at, outputs, states = loops.run(steps, at, _last_start(builder, rows, steps * batch), outputs, states)
        if outputs is not None:
            bounds = [builder.constant(each) for each in ([0, 0], [-turn * batch, 0], [1, 1])]
            shape = (-1, builder.shape(outputs)[1])
            outputs = builder.op("STRIDED_SLICE", outputs, *bounds, shape=shape, beginMask=0b11, endMask=0b10)
    else:
        parts = []
        for span in _spans(recurrence, turn):
            part = loops.unwritten(span.room) if has_outputs else None
            at = _Place(builder.constant([span.start * batch]), builder.constant([0, 0]))
            last = builder.constant([(span.stop - span.steps) * batch])
            _, part, states = loops.run(span.steps, at, last, part, states)
            if part is not None:
                rows_written, size = (span.stop - span.start) * batch, builder.shape(part)[1]
                parts.append(builder.slice(part, [0, 0], [rows_written, size]) if span.is_short else part)
        outputs = parts[0] if len(parts) == 1 else None
        if len(parts) > 1:
            shape = (recurrence.steps * batch, builder.shape(parts[0])[1])
            outputs = builder.op("CONCATENATION", *parts, shape=shape, axis=0)
    if outputs is not None:
        _store(builder, recurrence, outputs)
    return states


def starts(builder: OpBuilder, recurrence: Recurrence) -> tuple[int, ...]:
    """The states before the first step, as tensors even where they are zeros."""
    return tuple(
        builder.constant(np.zeros((recurrence.batch, size))) if tensor is None else tensor
        for tensor, size in zip(recurrence.start, recurrence.cell.state_sizes, strict=True)
    )


@dataclasses.dataclass(frozen=True)
class _Span:
    """What one loop over a known number of steps takes.

    Attributes:
        steps: of a turn.
        start, stop: its first step, and the one behind its last.
        room: steps for whose outputs there is room: as many as in the other loops, so that all have the same shapes.
    """

    steps: int
    start: int
    stop: int
    room: int

    @property
    def is_short(self) -> bool:
        """Whether there is room for more steps than it takes."""
        return self.stop - self.start < self.room


def _spans(recurrence: Recurrence, turn: int) -> list[_Span]:
    """One loop or a few equal ones, of which the last may be shorter, and one for the steps that fill no turn."""
    assert recurrence.steps is not None
    turns, rest = divmod(recurrence.steps, turn)
    loops = 1
    if recurrence.outputs is not None:
        outputs = turns * turn * recurrence.batch * recurrence.cell.state_sizes[0]
        loops = max(1, min(round(outputs / OUTPUTS_A_LOOP), turns // LEAST_TURNS_A_LOOP))
    room, whole = -(-turns // loops) * turn, turns * turn
    spans = [_Span(turn, start, min(start + room, whole), room) for start in range(0, whole, room)]
    return [*spans, _Span(rest, whole, recurrence.steps, rest)] if rest else spans


def _last_start(builder: OpBuilder, rows: int, rows_per_turn: int) -> int:
    """The last row at which a turn can start, [1], where only a call tells how many there are."""
    sizes = builder.op("SHAPE", rows, shape=(2,), dtype=_INTEGERS, outType=_INTEGERS)
    bounds = builder.constant([0]), builder.constant([1])
    total = builder.op("SLICE", sizes, *bounds, shape=(1,), dtype=_INTEGERS)
    return builder.op("ADD", total, builder.constant([-rows_per_turn]), shape=(1,), dtype=_INTEGERS)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a turn begins.

    Attributes:
        row: its first row of the input product, [1].
        target: its first row and column of the outputs, [2].
    """

    row: int
    target: int


@dataclasses.dataclass
class _Loops:
    """The loops of one layer; those of one size share their subgraphs."""

    builder: OpBuilder
    recurrence: Recurrence
    rows: int
    subgraphs: dict[tuple[int, ...], tuple[int, int]] = dataclasses.field(default_factory=dict)

    def unwritten(self, steps: int) -> int:
        """A tensor with a row for each output, which may hold anything: every row is overwritten.

        Where the time is open there are all rows and `steps` more, since a turn must fit in even if none is run. What
        the tensor is cut out of has these rows: no other shape that is open is known before the ops run.
        """
        builder, rows, width = self.builder, self.rows, self.recurrence.cell.state_sizes[0]
        columns, count = builder.shape(rows)[1], steps * self.recurrence.batch
        if self.recurrence.steps is None:
            more = builder.constant(np.zeros((count, columns)))
            rows = builder.op("CONCATENATION", rows, more, shape=(-1, columns), axis=0)
            count = -1
        if width > columns:
            copies = -(-width // columns)
            shape = (builder.shape(rows)[0], copies * columns)
            rows = builder.op("CONCATENATION", *[rows] * copies, shape=shape, axis=1)
        rows = builder.slice(rows, [0, 0], [count, width])
        # An integer product has a scale of its own, and a part of the rows has theirs.
        return builder.binary("MUL", rows, builder.constant(np.float32(0.0))) if self.recurrence.alike else rows

    def run(
        self, steps: int, place: _Place, limit: int, outputs: int | None, states: tuple[int, ...]
    ) -> tuple[_Place, int | None, tuple[int, ...]]:
        """A WHILE over turns of some steps, from a place up to the limit; returns place, outputs and states then."""
        builder = self.builder
        variables = [place.row, limit, self.rows, *states]
        variables += [] if outputs is None else [place.target, outputs]
        shapes = [builder.shape(each) for each in variables]
        key = (steps, *(size for shape in shapes for size in shape))
        if key not in self.subgraphs:
            self.subgraphs[key] = self._condition(variables), self._body(steps, variables)
        results = [
            builder.tensor("after", shape, builder.dtype(each)) for shape, each in zip(shapes, variables, strict=True)
        ]
        condition, body = self.subgraphs[key]
        builder.add("WHILE", variables, results, condSubgraphIndex=condition, bodySubgraphIndex=body)
        after = tuple(results[3 : 3 + len(states)])
        if outputs is None:
            return _Place(results[0], place.target), None, after
        return _Place(results[0], results[-2]), results[-1], after

    def _condition(self, variables: list[int]) -> int:
        condition, index = self.builder.nested("condition", variables)
        row, limit, *_ = condition.subgraph.inputs
        more = condition.op("LESS_EQUAL", row, limit, shape=(1,), dtype=schema.TensorType.BOOL)
        condition.subgraph.outputs, condition.subgraph.operators = [more], condition.operators
        return index

    def _body(self, steps: int, variables: list[int]) -> int:
        body, index = self.builder.nested("body", variables)
        count = len(self.recurrence.start)
        row, limit, rows, *others = body.subgraph.inputs
        states, gathered = tuple(others[:count]), others[count:]
        rows_per_turn, columns = steps * self.recurrence.batch, body.shape(rows)[1]
        # TensorFlow Lite Micro has no GATHER of int16.
        first = body.op("CONCATENATION", row, body.constant([0]), shape=(2,), dtype=_INTEGERS, axis=0)
        shape = (rows_per_turn, columns)
        own = body.op("SLICE", rows, first, body.constant(list(shape)), shape=shape)
        outputs = []
        for each in body.split(own, steps, axis=0):
            with body.step():
                states = self.recurrence.cell.step(body, each, states)
            outputs.append(states[0])
        if gathered:
            target, before = gathered
            shape = (rows_per_turn, body.shape(before)[1])
            joined = body.op("CONCATENATION", *outputs, shape=shape, axis=0) if steps > 1 else outputs[0]
            written = body.op("DYNAMIC_UPDATE_SLICE", before, joined, target, shape=body.shape(before))
            gathered = [_advanced(body, target, [rows_per_turn, 0]), written]
        body.subgraph.outputs = [_advanced(body, row, [rows_per_turn]), limit, rows, *states, *gathered]
        body.subgraph.operators = body.operators
        return index


def _advanced(builder: OpBuilder, place: int, step: list[int]) -> int:
    return builder.op("ADD", place, builder.constant(step), shape=(len(step),), dtype=_INTEGERS)


def _store(builder: OpBuilder, recurrence: Recurrence, outputs: int) -> None:
    """Lays outputs [time * batch, size] out as the layer does."""
    assert recurrence.outputs is not None
    batch, size = recurrence.batch, builder.shape(outputs)[1]
    steps = -1 if recurrence.steps is None else recurrence.steps
    transposed = batch > 1 and not recurrence.time_major
    shape = (steps, batch, size) if transposed or recurrence.time_major else (1, steps, size)
    outputs = builder.reshape(outputs, shape)
    if recurrence.backwards:
        time = builder.constant([0 if transposed or recurrence.time_major else 1])
        outputs = builder.op("REVERSE_V2", outputs, time, shape=shape)
    if transposed:
        outputs = builder.transpose(outputs, (1, 0, 2))
    builder.store(outputs, recurrence.outputs)
