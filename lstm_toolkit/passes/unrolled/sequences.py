"""Joins steps that follow each other, and have the same weights, to recurrent layers over sequences."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from lstm_toolkit.passes.unrolled.cells import CELLS, LSTM, Cell, H
from lstm_toolkit.passes.unrolled.chains import chains
from lstm_toolkit.passes.unrolled.elements import Elements, Names, Products, places_of
from lstm_toolkit.passes.unrolled.patterns import Named
from lstm_toolkit.passes.unrolled.steps import Step, Sum

Array = npt.NDArray[np.float32]

BIAS_TOLERANCE = 1e-6
"""By how much a bias may differ from step to step, relative to the largest: converters add up the constants of the
first step, whose h is zero, and round the sum."""


class Departs(Exception):
    """Why steps that look like those of a recurrent layer are not one."""


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a step, by gate.

    Attributes:
        inputs: [units, input_size], of the gates that take x.
        recurrent: [units, output size], of the gates that take h, or what is computed of it.
        biases: [units].
    """

    inputs: Mapping[str, Array]
    recurrent: Mapping[str, Array]
    biases: Mapping[str, npt.NDArray[np.float64]]


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """A recurrent layer over a sequence.

    Attributes:
        cell: its kind.
        x: names of its input, [time, batch, input_size].
        h: names of its output, [time, batch, output size].
        c: names of its cell states, [time, batch, units]; None where a cell has none.
        steps: what was read, whose output is h before the projection.
        before: names of the states that it starts from, None for zeros, in the order of the op's states.
        weights: by gate.
        projection: weights, [output size, units], and bias, [output size]; None without one.
        activation: of the cell, by Keras's name.
    """

    cell: Cell
    x: Names
    h: Names
    c: Names | None
    steps: list[Step]
    before: tuple[Names | None, ...]
    weights: Weights
    projection: tuple[Array, Array] | None
    activation: str


@dataclasses.dataclass(frozen=True, eq=False)
class Stuck:
    """Steps that follow each other and are not one layer.

    Attributes:
        cell: their kind.
        steps: what was read of them.
        reason: why.
    """

    cell: Cell
    steps: list[Step]
    reason: str


def sequences(elements: Elements) -> Iterator[Sequence | Stuck]:
    """Yields each recurrent layer of two steps or more."""
    projections = _Projections(elements)
    for cell in CELLS:
        for chain in chains(elements, cell):
            try:
                yield _Reader(elements, projections, cell, chain).sequence()
            except Departs as departs:
                yield Stuck(cell, chain, str(departs))


class _Projections:
    """What multiplies an h, by the names of the first row."""

    def __init__(self, elements: Elements) -> None:
        self._found: dict[tuple[int, int], list[tuple[Products, Names]]] = {}
        for block, names in elements:
            if isinstance(block, Products):
                self._found.setdefault(_key(block.inputs[0]), []).append((block, names))

    def of(self, h: Names) -> Iterator[tuple[Products, Names]]:
        """Yields each product of all of an h, [batch, units], with its names, [batch, outputs]."""
        for block, names in self._found.get(_key(h[0]), []):
            if np.array_equal(block.inputs, h):
                yield block, names.reshape(len(h), -1)


def _key(names: Names) -> tuple[int, int]:
    return int(names.flat[0]), int(names.flat[-1])


class _Reader:
    def __init__(self, elements: Elements, projections: _Projections, cell: Cell, chain: list[Step]) -> None:
        self._elements, self._cell, self._chain = elements, cell, chain
        self._projection: tuple[Array, Array] | None = None
        self._h = [step.h for step in chain]
        if not self._uses(chain[1], chain[0].h):
            self._project(projections)

    def _uses(self, step: Step, h: Names) -> bool:
        taking = (each.inputs for gate, each in step.sums.items() if self._cell.sums[gate].of == H)
        return any((places_of(inputs, h) >= 0).any() for inputs in taking if inputs.size)

    def _project(self, projections: _Projections) -> None:
        """Finds out through which projection h goes on."""
        for block, names in projections.of(self._chain[0].h):
            if self._cell is LSTM and self._uses(self._chain[1], names):
                self._projection = block.weights, block.bias
                break
        else:
            raise Departs("its second step does not take the output of its first one")
        weights, bias = self._projection
        for number, step in enumerate(self._chain):
            same = [
                names
                for block, names in projections.of(step.h)
                if np.array_equal(block.weights, weights) and np.array_equal(block.bias, bias)
            ]
            if not same:
                raise Departs(f"step {number} has no projection with the weights of the first one")
            self._h[number] = same[0]

    def sequence(self) -> Sequence:
        """Reads all steps."""
        chain = self._chain
        x, reference = self._read(1)
        xs = [x]
        for number in range(2, len(chain)):
            x, weights = self._read(number)
            _check_same(number, weights, reference)
            xs.append(x)
        first, h_before = self._first(xs[0], reference)
        has_c = self._cell is LSTM
        return Sequence(
            cell=self._cell,
            x=np.stack([first, *xs]),
            h=np.stack(self._h),
            c=np.stack([step.named["c"] for step in chain]) if has_c else None,
            steps=chain,
            before=(h_before, self._unless_zeros(chain[0].before.get("c"))) if has_c else (h_before,),
            weights=reference,
            projection=self._projection,
            activation=chain[1].activation or "",
        )

    def _unless_zeros(self, names: Names | None) -> Names | None:
        values = None if names is None else self._elements.values(names)
        return None if values is not None and not values.any() else names

    def _taken(self, number: int, gate: str) -> Names | None:
        """What a gate of a step takes besides x: the h before, or what is computed of it."""
        of = self._cell.sums[gate].of
        if of is None:
            return None
        return self._chain[number].named[of.name] if isinstance(of, Named) else self._h[number - 1]

    def _read(self, number: int) -> tuple[Names, Weights]:
        """The x and the weights of a step whose h before is known."""
        step, first = self._chain[number], self._chain[0]
        if step.activation != first.activation:
            raise Departs(f"step {number} activates with {step.activation}, the first one with another function")
        if step.h.shape != first.h.shape:
            raise Departs(f"step {number} has another size than the first one")
        x: Names | None = None
        input_weights, recurrent_weights = {}, {}
        for gate in self._cell.sums:
            if gate not in step.sums:
                raise Departs(f"step {number} has no {gate} gate")
            each, taken = step.sums[gate], self._taken(number, gate)
            places = np.full(each.inputs.shape[1], -1) if taken is None else places_of(each.inputs, taken)
            own, rest = each.inputs[:, places < 0], each.weights[:, places < 0]
            if self._cell.sums[gate].has_x:
                x = own if x is None else x
                input_weights[gate] = _ordered(number, gate, x, own, rest)
            elif own.size:
                raise Departs(f"the {gate} gate of step {number} takes more than the h of the step before")
            if taken is not None:
                recurrent_weights[gate] = _recurrent(number, gate, each, places, taken.shape[1])
        assert x is not None
        if not x.size:
            raise Departs(f"step {number} has no input")
        return x, Weights(input_weights, recurrent_weights, {gate: each.bias for gate, each in step.sums.items()})

    def _first(self, second_x: Names, reference: Weights) -> tuple[Names, Names | None]:
        """The x of the first step and the h that it starts from; None for zeros."""
        xs, hs = list[Names](), [self._unless_zeros(self._chain[0].before.get("h"))] if self._cell.state == "h" else []
        for gate, pattern in self._cell.sums.items():
            if gate not in self._chain[0].sums:
                # A gate of zeros lets nothing through; a sum of zeros has no bias.
                if not pattern.has_x and reference.biases[gate].any():
                    raise Departs(f"the bias of the {gate} gate differs in the first step")
                continue
            x, taken = self._gate_of_first(gate, second_x, reference)
            xs += [x] if pattern.has_x else []
            hs += [self._unless_zeros(taken)] if pattern.of == H else []
            if isinstance(pattern.of, Named) and self._unless_zeros(taken) is not None:
                named = self._chain[0].named.get(pattern.of.name)
                if not _same(taken, named):
                    raise Departs("the gates of its first step take different inputs")
        if not all(_same(x, xs[0]) for x in xs) or not all(_same(h, hs[0]) for h in hs):
            raise Departs("the gates of its first step take different inputs")
        return xs[0], hs[0]

    def _gate_of_first(self, gate: str, second_x: Names, reference: Weights) -> tuple[Names, Names | None]:
        """What a gate of the first step takes: x, and what it takes besides, None where that is nothing."""
        each, taken = self._chain[0].sums[gate], None
        inputs, weights = each.inputs, each.weights
        if inputs.shape[1] != (second_x.shape[1] if self._cell.sums[gate].has_x else 0):
            of_second = self._taken(1, gate)
            places = np.array([]) if of_second is None else places_of(self._chain[1].sums[gate].inputs, of_second)
            if len(places) != inputs.shape[1]:
                raise Departs(f"the {gate} gate of its first step takes another number of inputs than later ones")
            columns = np.flatnonzero(places >= 0)
            columns = columns[np.argsort(places[columns])]
            taken = inputs[:, columns]
            if not np.array_equal(weights[:, columns], reference.recurrent[gate]):
                raise Departs(f"the recurrent weights of the {gate} gate differ in the first step")
            inputs, weights = inputs[:, places < 0], weights[:, places < 0]
        if self._cell.sums[gate].has_x and not np.array_equal(weights, reference.inputs[gate]):
            raise Departs(f"the input weights of the {gate} gate differ in the first step")
        if not _close(each.bias, reference.biases[gate]):
            raise Departs(f"the bias of the {gate} gate differs in the first step")
        return inputs, taken


def _same(one: Names | None, other: Names | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def _recurrent(number: int, gate: str, found: Sum, places: npt.NDArray[np.intp], size: int) -> Array:
    """The weights of all of a state, in its order."""
    is_h = places >= 0
    if len(np.unique(places[is_h])) != is_h.sum() or is_h.sum() != size:
        raise Departs(f"the {gate} gate of step {number} does not take all of the h of the step before, once")
    recurrent = np.zeros((len(found.weights), size), np.float32)
    recurrent[:, places[is_h]] = found.weights[:, is_h]
    return recurrent


def _ordered(number: int, gate: str, x: Names, found: Names, weights: Array) -> Array:
    """The columns of some input weights in the order of x."""
    if found.shape != x.shape:
        raise Departs(f"the {gate} gate of step {number} takes another number of inputs than the gates before")
    if np.array_equal(found, x):
        return weights
    to, order = np.argsort(x[0], kind="stable"), np.argsort(found[0], kind="stable")
    if not np.array_equal(found[:, order], x[:, to]):
        raise Departs(f"the {gate} gate of step {number} takes another input than the gates before")
    ordered = np.empty_like(weights)
    ordered[:, to] = weights[:, order]
    return ordered


def _check_same(number: int, weights: Weights, reference: Weights) -> None:
    for kind, own in (("input", weights.inputs), ("recurrent", weights.recurrent)):
        others = reference.inputs if kind == "input" else reference.recurrent
        for gate, each in own.items():
            if not np.array_equal(each, others[gate]):
                raise Departs(f"the {kind} weights of the {gate} gate differ in step {number}")
    for gate, bias in weights.biases.items():
        if not _close(bias, reference.biases[gate]):
            raise Departs(f"the bias of the {gate} gate differs in step {number}")


def _close(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    return bool(np.abs(one - other).max() <= BIAS_TOLERANCE * max(1e-30, np.abs(other).max()))
