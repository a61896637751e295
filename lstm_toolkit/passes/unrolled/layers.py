"""What a recurrent layer that was found becomes: a fused op, or, where none computes its cell, a loop of plain ops."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.passes import graft
from lstm_toolkit.passes.plain.cells import GruCell
from lstm_toolkit.passes.plain.loop import steps_per_turn
from lstm_toolkit.passes.plain.recurrence import Recurrence
from lstm_toolkit.passes.plain.sequence import emit
from lstm_toolkit.passes.unrolled.cells import GRU_RESET_AFTER, LSTM, RNN, Cell
from lstm_toolkit.passes.unrolled.sequences import Sequence
from lstm_toolkit.tflite import graph, recurrent
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import GATES, LSTM_COMPOSITE, SIMPLE_RNN_COMPOSITE, STATES

LOOP = "WHILE"


def op_of(cell: Cell) -> str:
    """The name of the op that a kind of cell becomes."""
    fused = {LSTM.kind: LSTM_COMPOSITE, RNN.kind: SIMPLE_RNN_COMPOSITE}
    return recurrent.FUSED_OPS[fused[cell.kind]] if cell.kind in fused else LOOP


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a layer is put.

    Attributes:
        subgraph: where it stands.
        operator: what stands for it, from its input and the tensors that its states start from, none where all start
            from zero, to its outputs: the sequence, and perhaps the last value of its last state.
        layer: its name.
        time_major: the layout of input and output.
    """

    subgraph: Subgraph
    operator: Operator
    layer: str
    time_major: bool

    @property
    def given(self) -> tuple[int, ...]:
        """The tensors that its states start from; none where all start from zero."""
        return tuple(self.operator.inputs[1:])


def put(model: Model, sequence: Sequence, place: Place) -> None:
    """Puts a layer in the place of the operator that stands for it."""
    if op_of(sequence.cell) == LOOP:
        _put_loop(model, sequence, place)
        return
    by_name = _lstm_operands(sequence) if sequence.cell is LSTM else _rnn_operands(sequence)
    sizes = (sequence.h.shape[2], sequence.h.shape[2] if sequence.c is None else sequence.c.shape[2])
    fusion = graft.Fusion(
        subgraph=place.subgraph,
        operator=place.operator,
        layer=place.layer,
        op=op_of(sequence.cell),
        options={
            "fusedActivationFunction": recurrent.RNN_ACTIVATIONS[sequence.activation],
            "timeMajor": place.time_major,
        },
        weights=by_name,
        packed=(),
        given=place.given,
        state_sizes=dict(zip(STATES[: len(sequence.before)], sizes, strict=False)),
        batch=sequence.h.shape[1],
        carry=False,
    )
    graft.replace(model, fusion, {})


def _lstm_operands(sequence: Sequence) -> Mapping[str, npt.NDArray[np.float32]]:
    weights = sequence.weights
    arrays = {f"input_to_{gate}_weights": weights.inputs[gate] for gate in GATES}
    arrays |= {f"recurrent_to_{gate}_weights": weights.recurrent[gate] for gate in GATES}
    arrays |= {f"{gate}_gate_bias": weights.biases[gate].astype(np.float32) for gate in GATES}
    if sequence.projection is not None:
        arrays["projection_weights"], bias = sequence.projection
        arrays |= {"projection_bias": bias} if bias.any() else {}
    return arrays


def _rnn_operands(sequence: Sequence) -> Mapping[str, npt.NDArray[np.float32]]:
    weights = sequence.weights
    return {
        "weights": weights.inputs["cell"],
        "recurrent_weights": weights.recurrent["cell"],
        "bias": weights.biases["cell"].astype(np.float32),
    }


def _put_loop(model: Model, sequence: Sequence, place: Place) -> None:
    subgraph, (output, last) = place.subgraph, place.operator.outputs
    used = graph.consumed(subgraph) | {int(index) for index in subgraph.outputs}
    recurrence = Recurrence(
        layer=place.layer,
        cell=_gru(sequence),
        input=place.operator.inputs[0],
        outputs=output if output in used else None,
        start=place.given or (None,),
        last=((last,) if last in used else (),),
        batch=sequence.h.shape[1],
        steps=len(sequence.h),
        time_major=place.time_major,
    )
    turn = _turn(recurrence)
    operators: list[Any] = emit(model, subgraph, recurrence, form="loop", steps_per_turn=turn)
    where = subgraph.operators.index(place.operator)
    subgraph.operators[where : where + 1] = operators


def _gru(sequence: Sequence) -> GruCell:
    weights, units = sequence.weights, sequence.h.shape[2]
    is_after = sequence.cell is GRU_RESET_AFTER
    gates = ("update", "reset", "candidate")
    recurrent_gates = (*gates[:2], "recurrent") if is_after else gates
    zeros = np.zeros(units)
    return GruCell(
        kernel=np.concatenate([weights.inputs[gate] for gate in gates]),
        recurrent_kernel=np.concatenate([weights.recurrent[gate] for gate in recurrent_gates]),
        bias=np.concatenate([weights.biases[gate] for gate in gates]).astype(np.float32),
        recurrent_bias=np.concatenate([zeros, zeros, weights.biases["recurrent"] if is_after else zeros]).astype(
            np.float32
        ),
        activation=sequence.activation,
        recurrent_activation="sigmoid",
        reset_after=is_after,
    )


def _turn(recurrence: Recurrence) -> int:
    """Steps a turn: fewer than there are, for a loop of one turn has all of them one by one."""
    assert recurrence.steps is not None
    most = min(steps_per_turn(recurrence), recurrence.steps // 2)
    return next(turn for turn in range(most, 0, -1) if (turn * 2 > most and not recurrence.steps % turn) or turn == 1)
