"""A recurrent cell that a model calls itself, on one frame: `h, [h, c] = cell(frame, [h, c])`.

Such a call is marked as a sequence of one step that starts from given states. What cannot be marked is plain ops of
TensorFlow already, which the stock converter writes as they are.
"""

from typing import Any

import tensorflow as tf

from lstm_toolkit.sources.cells import marked_cell
from lstm_toolkit.sources.known_cells import KnownCell
from lstm_toolkit.sources.own_arithmetic import overridden


def why_not(known: KnownCell, frame: Any, states: list[Any], training: Any) -> str | None:
    """Why a call of a cell cannot be marked exactly; None if it can.

    Args:
        known: the cell.
        frame: [batch, input_size].
        states: [batch, units] each, or [1, units].
        training: as the cell takes it.
    """
    cell = known.cell
    layers = known.library.layers
    is_own = type(cell) not in (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
    if is_own or overridden(cell, type(cell), base=layers.Layer) is not None:
        return "it may override the computation of Keras's own cell; use Keras's own"
    if is_in_a_loop():
        return "it is called in a loop, into which no fused op can be put; use an RNN layer"
    batch, sizes = frame.shape[0] if frame.shape.rank == 2 else None, known.states.values()
    fits = [list(each.shape) in ([batch, size], [1, size]) for each, size in zip(states, sizes, strict=False)]
    if batch is None or len(states) != len(sizes) or not all(fits):
        return "its frame is not [batch, input] with a known batch, or its states are not [batch, units]"
    if known.drops(training):
        return "its dropout is on; call it without training=True"
    return known.why_not()


def marked(known: KnownCell, frame: Any, states: list[Any], name: str) -> list[Any]:
    """The states after a call of a cell, which is marked under a name; the first one is the output."""
    options, start = known.options(name), in_every_row(states, frame, axis=0)
    if known.plain or not options.fused:
        output, others = marked_cell(known.cell, frame, start, options)
        return [output, *others]
    # TensorFlow Lite Micro has fused ops for sequences alone, and a simple RNN's is for sequences everywhere.
    outputs, others = marked_cell(known.cell, frame[:, tf.newaxis], start, options)
    return [outputs[:, 0], *others]


def in_every_row(states: list[Any], sequences: Any, *, axis: int) -> list[Any]:
    """States [batch, units], also where they are given as one row, [1, units], for a larger batch.

    Args:
        states: as a layer or cell is given them.
        sequences: the input with them.
        axis: the axis of the batch in the input.
    """
    batch = sequences.shape[axis]
    if batch == 1:
        return states
    rows = tf.shape(sequences)[axis] if batch is None else batch
    return [tf.broadcast_to(each, [rows, each.shape[1]]) if each.shape[0] == 1 else each for each in states]


def is_in_a_loop() -> bool:
    """Whether what is being traced is the body of a loop, or of one of several cases."""
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if "While" in type(graph).__name__ or "Cond" in type(graph).__name__:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False
