"""`Recurrence`: one recurrent layer in one direction, as plain ops compute it."""

import dataclasses

from lstm_toolkit.passes.plain.cells import Cell

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
        alike: whether all steps are the same ops, in both forms, and write no tensor of the layer's surroundings, so
            that each tensor of a step can have one scale in all of them.
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
    alike: bool = False
