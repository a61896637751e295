"""A recurrent layer over a whole sequence as plain ops: unrolled over time, or as a loop.

unrolled  [FULLY_CONNECTED: all inputs -> rows] [SPLIT: rows -> one row a step] [step] [step] ... [PACK: outputs]
loop      [FULLY_CONNECTED: all inputs -> rows] [WHILE: rows, states -> outputs], several steps a turn in its body
"""

import dataclasses
from typing import Any

from lstm_toolkit.passes.plain import loop
from lstm_toolkit.passes.plain.loop import starts
from lstm_toolkit.passes.plain.recurrence import Recurrence
from lstm_toolkit.tflite.builder import OpBuilder
from lstm_toolkit.tflite.types import Model, Subgraph


def emit(
    model: Model, subgraph: Subgraph, recurrence: Recurrence, *, form: str, steps_per_turn: int | None = None
) -> list[Any]:
    """Writes a recurrence as plain ops.

    Args:
        model: the file; the bodies of loops become subgraphs of their own.
        subgraph: that has its tensors.
        recurrence: the layer.
        form: "unrolled", for sequences of a known length, or "loop".
        steps_per_turn: of a loop; None chooses.

    Returns:
        The operators, which the caller puts into the subgraph.
    """
    builder = OpBuilder(model, subgraph, recurrence.layer)
    is_step = len(builder.shape(recurrence.input)) == 2
    rows = _input_product(builder, recurrence, is_step=is_step)
    turn = steps_per_turn or loop.steps_per_turn(recurrence)
    if recurrence.alike:
        recurrence = dataclasses.replace(recurrence, start=starts(builder, recurrence))
    if form == "unrolled" or (recurrence.steps is not None and recurrence.steps <= turn):
        states = _unrolled(builder, recurrence, rows, is_step=is_step)
    else:
        states = loop.loop(builder, recurrence, rows, turn)
    for state, targets in zip(states, recurrence.last, strict=True):
        for target in targets:
            assert state is not None
            (builder.copy if recurrence.alike else builder.store)(state, target)
    return builder.operators


def _input_product(builder: OpBuilder, recurrence: Recurrence, *, is_step: bool) -> int:
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


def _unrolled(builder: OpBuilder, recurrence: Recurrence, rows: int, *, is_step: bool) -> tuple[int | None, ...]:
    states, outputs = recurrence.start, []
    batch, columns = recurrence.batch, builder.shape(rows)[1]
    for number in range(recurrence.steps or 1):
        # Unlike one SPLIT into all rows, XNNPACK takes a SLICE, and so everything up to the outputs.
        row = rows if recurrence.steps == 1 else builder.slice(rows, [number * batch, 0], [batch, columns])
        with builder.step():
            states = recurrence.cell.step(builder, row, states)
        outputs.append(states[0])
    outputs = outputs[::-1] if recurrence.backwards else outputs
    if recurrence.outputs is None:
        return states
    if is_step:
        (builder.copy if recurrence.alike else builder.store)(outputs[0], recurrence.outputs)
    else:
        axis = 0 if recurrence.time_major else 1
        builder.add("PACK", outputs, [recurrence.outputs], axis=axis, valuesCount=len(outputs))
    return states
