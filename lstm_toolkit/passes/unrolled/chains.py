"""Finds out which steps of a kind of cell follow each other."""

from collections.abc import Iterator

import numpy as np

from lstm_toolkit.passes.unrolled.cells import Cell
from lstm_toolkit.passes.unrolled.elements import Elements, Names, places_of
from lstm_toolkit.passes.unrolled.steps import Step, steps


def chains(elements: Elements, cell: Cell) -> list[list[Step]]:
    """Steps that follow each other, two or more: each starts from the state of the one before."""
    found = steps(elements, cell)
    joined = _by_weights(found) if cell.state is None else _by_state(found, cell.state)
    return [chain for chain in joined if len(chain) > 1]


def _by_state(found: Iterator[Step], state: str) -> list[list[Step]]:
    """Joins steps whose expression says what they start from."""
    joined: list[list[Step]] = []
    ends: dict[tuple[int, int], list[Step]] = {}
    for step in found:
        before = step.before.get(state)
        chain = None if before is None else ends.get(_key(before))
        if chain is not None and before is not None and np.array_equal(chain[-1].state(state), before):
            del ends[_key(before)]
            chain.append(step)
        else:
            chain = [step]
            joined.append(chain)
        ends.setdefault(_key(step.state(state)), chain)
    return joined


def _key(names: Names) -> tuple[int, int]:
    return int(names.flat[0]), int(names.flat[-1])


def _by_weights(found: Iterator[Step]) -> list[list[Step]]:
    """Joins steps of which only the sum takes the output of the one before.

    A step takes the outputs of other layers too, and those may be steps: the one before is that with the most weights
    in common.
    """
    joined: list[list[Step]] = []
    ends: dict[int, list[Step]] = {}
    for step in found:
        (taken,) = step.sums.values()
        columns = _columns(step)
        best, most = None, 0
        for name in taken.inputs[0]:
            chain = ends.get(int(name))
            if chain is None or not _takes(taken.inputs, chain[-1].h):
                continue
            common = len(columns & _columns(chain[-1]))
            if common > most:
                best, most = chain, common
        if best is None:
            best = []
            joined.append(best)
        else:
            del ends[int(best[-1].h.flat[0])]
        best.append(step)
        ends[int(step.h.flat[0])] = best
    return joined


def _columns(step: Step) -> set[bytes]:
    (taken,) = step.sums.values()
    return {column.tobytes() for column in taken.weights.T}


def _takes(inputs: Names, h: Names) -> bool:
    """Whether all of an output is among some inputs, and something else."""
    if len(inputs) != len(h):
        return False
    places = places_of(inputs, h)
    return bool((places < 0).any() and len(np.unique(places[places >= 0])) == h.shape[1])
