"""A recurrent layer over a whole sequence as plain ops: unrolled over time, or as a loop.

unrolled  [FULLY_CONNECTED: all inputs -> rows] [SPLIT: rows -> one row a step] [step] [step] ... [PACK: outputs]
loop      [FULLY_CONNECTED: all inputs -> rows] [WHILE: rows, states -> outputs], several steps a turn in its body
"""

from __future__ import annotations

import dataclasses
from typing import Any

from lstm_toolkit import loop_ops
from lstm_toolkit.step_ops import Cell
from lstm_toolkit.tflite.builder import OpBuilder

FORMS = ("unrolled", "loop")


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """A recurrent layer in a file, fully read and checked: what stands here can be written as plain ops.

    Attributes:
        layer: name of the layer.
        cell: what a step computes.
        input: tensor [batch, time, input_size], or [time, batch, input_size], or [batch, input_size] for one step.
        outputs: tensor that takes the outputs, shaped like the input; None where nobody asks for them.
        start: for each state the tensor [batch, size] to start from, or None for zeros.
        last: for each state the tensors that take it after the last step.
        batch: number of sequences.
        steps: length of the sequences, or None where only a call tells it.
        time_major: layout of input and outputs.
        backwards: whether the steps are taken from the last to the first, with the outputs in the order of time.
    """

    layer: str
    cell: Cell
    input: int
    outputs: int | None
    start: tuple[int | None, ...]
    last: tuple[tuple[int, ...], ...]
    batch: int
    steps: int | None
    time_major: bool = False
    backwards: bool = False


def emit(
    model: Any, subgraph: Any, recurrence: Recurrence, *, form: str, steps_per_turn: int | None = None
) -> list[Any]:
    """Writes a recurrence as plain ops.

    Args:
        model, subgraph: where its tensors are; the bodies of loops become subgraphs of their own.
        recurrence: the layer.
        form: "unrolled", for sequences of a known length, or "loop".
        steps_per_turn: of a loop; None chooses.

    Returns:
        The operators, which the caller puts into the subgraph.
    """
    builder = OpBuilder(model, subgraph, recurrence.layer)
    is_step = len(builder.shape(recurrence.input)) == 2
    rows = _input_product(builder, recurrence, is_step)
    turn = steps_per_turn or loop_ops.steps_per_turn(recurrence)
    if form == "unrolled" or (recurrence.steps is not None and recurrence.steps <= turn):
        states = _unrolled(builder, recurrence, rows, is_step)
    else:
        states = loop_ops.loop(builder, recurrence, rows, turn)
    for state, targets in zip(states, recurrence.last, strict=True):
        for target in targets:
            assert state is not None
            builder.store(state, target)
    return builder.operators


def _input_product(builder: OpBuilder, recurrence: Recurrence, is_step: bool) -> int:
    """The input product of all steps, step by step: [time * batch, columns]."""
    tensor, cell = recurrence.input, recurrence.cell
    if not is_step:
        if recurrence.batch > 1 and not recurrence.time_major:
            tensor = builder.transpose(tensor, (1, 0, 2))
        if recurrence.backwards:
            time = 0 if recurrence.batch > 1 or recurrence.time_major else 1
            tensor = builder.op("REVERSE_V2", tensor, builder.constant([time]), shape=builder.shape(tensor))
        rows = -1 if recurrence.steps is None else recurrence.steps * recurrence.batch
        tensor = builder.reshape(tensor, (rows, builder.shape(tensor)[-1]))
    return builder.fully_connected(tensor, cell.input_weights, cell.input_bias)


def _unrolled(builder: OpBuilder, recurrence: Recurrence, rows: int, is_step: bool) -> tuple[int | None, ...]:
    states, outputs = recurrence.start, []
    batch, columns = recurrence.batch, builder.shape(rows)[1]
    for number in range(recurrence.steps or 1):
        # Unlike one SPLIT into all rows, XNNPACK takes a SLICE, and so everything up to the outputs.
        row = rows if recurrence.steps == 1 else builder.slice(rows, [number * batch, 0], [batch, columns])
        states = recurrence.cell.step(builder, row, states)
        outputs.append(states[0])
    outputs = outputs[::-1] if recurrence.backwards else outputs
    if recurrence.outputs is None:
        return states
    if is_step:
        builder.store(outputs[0], recurrence.outputs)
    else:
        axis = 0 if recurrence.time_major else 1
        builder.add("PACK", outputs, [recurrence.outputs], axis=axis, valuesCount=len(outputs))
    return states
