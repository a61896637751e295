"""Joins steps that follow each other, and have the same weights, to LSTMs over sequences."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from lstm_toolkit.passes.unrolled.elements import Elements, Names, Products
from lstm_toolkit.passes.unrolled.steps import Step, steps
from lstm_toolkit.weights.operands import GATES

Array = npt.NDArray[np.float32]

BIAS_TOLERANCE = 1e-6
"""By how much a bias may differ from step to step, relative to the largest: converters add up the constants of the
first step, whose h is zero, and round the sum."""


class Departs(Exception):
    """Why steps that look like those of an LSTM are not one that the fused op computes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """An LSTM over a sequence.

    Attributes:
        x: names of its input, [time, batch, input_size].
        h: names of its output, [time, batch, output size].
        c: names of its cell states, [time, batch, units].
        hidden: names of its output before the projection, [time, batch, units]; without one, h.
        h_before, c_before: names of what it starts from; None for zeros.
        weights: arrays by operand name of the fused op.
        activation: of the cell, by Keras's name.
    """

    x: Names
    h: Names
    c: Names
    hidden: Names
    h_before: Names | None
    c_before: Names | None
    weights: Mapping[str, Array]
    activation: str


@dataclasses.dataclass(frozen=True, eq=False)
class Stuck:
    """Steps that follow each other and cannot be fused.

    Attributes:
        hidden: names of their outputs before a projection, one array a step.
        reason: why.
    """

    hidden: list[Names]
    reason: str


def sequences(elements: Elements) -> Iterator[Sequence | Stuck]:
    """Yields each LSTM of two steps or more."""
    projections = _Projections(elements)
    for chain in _chains(list(steps(elements))):
        try:
            yield _Reader(elements, projections, chain).sequence()
        except Departs as departs:
            yield Stuck([step.h for step in chain], str(departs))


def _chains(found: list[Step]) -> list[list[Step]]:
    """Steps that follow each other: each starts from the c of the one before."""
    chains: list[list[Step]] = []
    ends: dict[tuple[int, int], list[Step]] = {}
    for step in found:
        chain = None if step.before is None else ends.get(_key(step.before))
        if chain is not None and step.before is not None and np.array_equal(chain[-1].c, step.before):
            del ends[_key(step.before)]
            chain.append(step)
        else:
            chain = [step]
            chains.append(chain)
        ends.setdefault(_key(step.c), chain)
    return [chain for chain in chains if len(chain) > 1]


def _key(names: Names) -> tuple[int, int]:
    return int(names.flat[0]), int(names.flat[-1])


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


@dataclasses.dataclass(frozen=True, eq=False)
class _Weights:
    """The weights of a step, by gate."""

    x: Names
    input_weights: Mapping[str, Array]
    recurrent_weights: Mapping[str, Array]
    biases: Mapping[str, npt.NDArray[np.float64]]


class _Reader:
    def __init__(self, elements: Elements, projections: _Projections, chain: list[Step]) -> None:
        self._elements, self._chain = elements, chain
        self._projection: tuple[Array, Array] | None = None
        self._h = [step.h for step in chain]
        second = chain[1]
        if not _uses(second, chain[0].h):
            self._project(projections)

    def _project(self, projections: _Projections) -> None:
        """Finds out through which projection h goes on."""
        for block, names in projections.of(self._chain[0].h):
            if _uses(self._chain[1], names):
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
        reference = self._weights(1, self._h[0])
        read = [reference]
        for number in range(2, len(chain)):
            weights = self._weights(number, self._h[number - 1])
            _check_same(number, weights, reference)
            read.append(weights)
        first, h_before = self._first(reference)
        arrays = {f"input_to_{gate}_weights": reference.input_weights[gate] for gate in GATES}
        arrays |= {f"recurrent_to_{gate}_weights": reference.recurrent_weights[gate] for gate in GATES}
        arrays |= {f"{gate}_gate_bias": reference.biases[gate].astype(np.float32) for gate in GATES}
        if self._projection is not None:
            arrays["projection_weights"], bias = self._projection
            arrays |= {"projection_bias": bias} if bias.any() else {}
        return Sequence(
            x=np.stack([first, *(each.x for each in read)]),
            h=np.stack(self._h),
            c=np.stack([step.c for step in chain]),
            hidden=np.stack([step.h for step in chain]),
            h_before=h_before,
            c_before=chain[0].before,
            weights=arrays,
            activation=chain[0].activation,
        )

    def _weights(self, number: int, h_before: Names) -> _Weights:
        """The weights of a step whose h before is known."""
        step = self._chain[number]
        if step.activation != self._chain[0].activation:
            raise Departs(f"step {number} activates with {step.activation}, the first one with another function")
        if step.c.shape != self._chain[0].c.shape:
            raise Departs(f"step {number} has another size than the first one")
        places = _places(step.sums[GATES[0]].inputs, h_before)
        x = step.sums[GATES[0]].inputs[:, places < 0]
        input_weights, recurrent_weights = {}, {}
        for gate in GATES:
            each = step.sums[gate]
            places = _places(each.inputs, h_before)
            is_h = places >= 0
            recurrent = np.zeros((len(each.weights), h_before.shape[1]), np.float32)
            if len(np.unique(places[is_h])) != is_h.sum() or is_h.sum() != h_before.shape[1]:
                raise Departs(f"the {gate} gate of step {number} does not take all of the h of the step before, once")
            recurrent[:, places[is_h]] = each.weights[:, is_h]
            input_weights[gate] = _ordered(number, gate, x, each.inputs[:, ~is_h], each.weights[:, ~is_h])
            recurrent_weights[gate] = recurrent
        return _Weights(x, input_weights, recurrent_weights, {gate: step.sums[gate].bias for gate in GATES})

    def _first(self, reference: _Weights) -> tuple[Names, Names | None]:
        """The x of the first step and the h that it starts from; None for zeros."""
        xs, hs = zip(*(self._gate_of_first(gate, reference) for gate in self._chain[0].sums), strict=True)
        if not all(_same(x, xs[0]) for x in xs) or not all(_same(h, hs[0]) for h in hs):
            raise Departs("the gates of its first step take different inputs")
        values = None if hs[0] is None else self._elements.values(hs[0])
        return xs[0], None if values is not None and not values.any() else hs[0]

    def _gate_of_first(self, gate: str, reference: _Weights) -> tuple[Names, Names | None]:
        """The x and the h that a gate of the first step takes; h is None where it takes none."""
        each, x, h = self._chain[0].sums[gate], reference.x, None
        inputs, weights = each.inputs, each.weights
        if inputs.shape[1] != x.shape[1]:
            places = _places(self._chain[1].sums[gate].inputs, self._h[0])
            if len(places) != inputs.shape[1]:
                raise Departs(f"the {gate} gate of its first step takes another number of inputs than later ones")
            columns = np.flatnonzero(places >= 0)
            columns = columns[np.argsort(places[columns])]
            h = inputs[:, columns]
            if not np.array_equal(weights[:, columns], reference.recurrent_weights[gate]):
                raise Departs(f"the recurrent weights of the {gate} gate differ in the first step")
            inputs, weights = inputs[:, places < 0], weights[:, places < 0]
        if not np.array_equal(weights, reference.input_weights[gate]):
            raise Departs(f"the input weights of the {gate} gate differ in the first step")
        if not _close(each.bias, reference.biases[gate]):
            raise Departs(f"the bias of the {gate} gate differs in the first step")
        return inputs, h


def _same(one: Names | None, other: Names | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def _uses(step: Step, h: Names) -> bool:
    return bool((_places(step.sums["output"].inputs, h) >= 0).any())


def _places(inputs: Names, h: Names) -> npt.NDArray[np.intp]:
    """Which unit of an h, [batch, units], each input of a sum, [batch, inputs], is; -1 for none."""
    order = np.argsort(h[0])
    found = np.searchsorted(h[0], inputs[0], sorter=order).clip(max=len(order) - 1)
    places = order[found]
    return np.where((h[:, places] == inputs).all(axis=0), places, -1)


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


def _check_same(number: int, weights: _Weights, reference: _Weights) -> None:
    if weights.x.shape != reference.x.shape:
        raise Departs(f"step {number} takes another number of inputs than the steps before")
    for gate in GATES:
        for kind in ("input", "recurrent"):
            one, other = (getattr(each, f"{kind}_weights")[gate] for each in (weights, reference))
            if not np.array_equal(one, other):
                raise Departs(f"the {kind} weights of the {gate} gate differ in step {number}")
        if not _close(weights.biases[gate], reference.biases[gate]):
            raise Departs(f"the bias of the {gate} gate differs in step {number}")


def _close(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    return bool(np.abs(one - other).max() <= BIAS_TOLERANCE * max(1e-30, np.abs(other).max()))
