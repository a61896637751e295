"""The arithmetic that gives the gates, and its comparison with what the source itself computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.activations.values import Array, GateActivations
from lstm_toolkit.errors import ParityError
from lstm_toolkit.runtime.compare import TOLERANCE, difference
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Cell:
    """An LSTM in one direction.

    Attributes:
        kind, name: as of `GateActivations`.
        weights, activation, cell_clip, proj_clip: as for `reference.lstm`.
        backwards: whether it reads from the last step to the first.
        tolerance: allowed difference from what the source computes, relative to the largest number where that is
            above 1.
    """

    kind: str
    name: str
    weights: GateWeights
    activation: str = "tanh"
    cell_clip: float = 0.0
    proj_clip: float = 0.0
    backwards: bool = False
    tolerance: float = TOLERANCE


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """What went into an LSTM in one call, and what came out.

    Attributes:
        x: [batch, time, input_size].
        h, c: the states at the start, [batch, output_size] and [batch, units].
        output: the outputs of the last steps that were run, [batch, any number of them, output_size], in the order in
            which they were run; None if unknown.
        last_c: the last cell state, [batch, units]; None if unknown.
    """

    x: Array
    h: Array
    c: Array
    output: Array | None = None
    last_c: Array | None = None


def computed(cell: Cell, calls: Sequence[Call]) -> GateActivations:
    """The gates of an LSTM over some calls in a row.

    Raises:
        ParityError: if the source computed something else.
    """
    if len({len(call.x) for call in calls}) > 1:
        raise ValueError(f"every call must have as many sequences, got {[len(call.x) for call in calls]}")
    errors, parts = [], []
    for call in calls:
        steps, error = _steps(cell, call)
        errors += [] if error is None else [error]
        order = -1 if cell.backwards else 1
        parts.append({name: getattr(steps, name)[::order].swapaxes(0, 1) for name in "ifgoch"})
    lengths = [call.x.shape[1] for call in calls]
    gates: dict[str, Any] = {name: _fixed(np.concatenate([part[name] for part in parts], 1)) for name in "ifgoch"}
    return GateActivations(
        kind=cell.kind,
        name=cell.name,
        x=_fixed(np.concatenate([call.x for call in calls], axis=1)),
        **gates,
        starts=tuple(int(sum(lengths[:number])) for number in range(len(lengths))),
        h_start=_fixed(np.stack([call.h for call in calls])),
        c_start=_fixed(np.stack([call.c for call in calls])),
        max_abs_error=max(errors, default=None),
        tolerance=cell.tolerance,
    )


def _fixed(array: npt.ArrayLike) -> Array:
    fixed = np.array(array, np.float32)
    fixed.setflags(write=False)
    return fixed


def _steps(cell: Cell, call: Call) -> tuple[reference.Steps, float | None]:
    """Runs one call, and compares it with what the source computed."""
    sequence = np.asarray(call.x, np.float64).swapaxes(0, 1)[:: -1 if cell.backwards else 1]
    states = (np.asarray(each, np.float64) for each in (call.h, call.c))
    clips = (cell.cell_clip, cell.proj_clip)
    steps = reference.steps(cell.weights, sequence, *states, activation=cell.activation, clips=clips)
    pairs = [] if call.last_c is None or not len(steps.c) else [("cell state", steps.c[-1], call.last_c)]
    if call.output is not None:
        given = call.output.swapaxes(0, 1)
        pairs.append(("output", steps.h[len(steps.h) - len(given) :], given))
    for what, wanted, given in pairs:
        error, largest = difference(given, wanted)
        allowed = cell.tolerance * max(1.0, largest)
        if error > allowed:
            raise ParityError(
                f"{cell.kind} {cell.name!r}: its {what} differs by {error:.3g} from what its weights say, and "
                f"{allowed:.3g} is allowed, so its gates cannot be told; `diagnose` finds what is wrong with a file",
                max_abs_error=error,
                tolerance=allowed,
            )
    return steps, max((difference(given, wanted)[0] for _, wanted, given in pairs), default=None)


def chosen_number(names: Sequence[str], chosen: str | int | None, what: str) -> int:
    """The number of an LSTM by its name or number; the first where None.

    Raises:
        ValueError: if there is none of this name or number; the message has those that there are.
    """
    if chosen is None:
        return 0
    if isinstance(chosen, str) and chosen in names:
        return names.index(chosen)
    if isinstance(chosen, int) and 0 <= chosen < len(names):
        return chosen
    listed = ", ".join(f"{number}: {name!r}" for number, name in enumerate(names))
    raise ValueError(f"there is no LSTM {chosen!r} in the {what}; it has {listed}")
