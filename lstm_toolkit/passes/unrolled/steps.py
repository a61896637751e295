"""Reads one step of a recurrent cell out of what the numbers of its output are computed of."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.passes.unrolled.cells import CELLS, Cell, H
from lstm_toolkit.passes.unrolled.elements import (
    Block,
    Constants,
    Elements,
    Elementwise,
    Given,
    Names,
    Products,
    places_of,
)
from lstm_toolkit.passes.unrolled.patterns import (
    COMMUTATIVE,
    Activation,
    Constant,
    Named,
    Op,
    Pattern,
    State,
)
from lstm_toolkit.passes.unrolled.patterns import Sum as SumPattern

ACTIVATIONS = {"TANH": "tanh", "RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "hard_tanh"}
"""Keras's name for each operator that is an activation of a cell."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sum:
    """What a gate adds up, for every row of the batch.

    Attributes:
        inputs: names, [batch, terms].
        weights: [units, terms].
        bias: [units].
    """

    inputs: Names
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A step of a recurrent cell.

    Attributes:
        h: names of the output, [batch, units].
        named: names of what the cell's expression has a name for, [batch, units].
        before: names of the states that it starts from, [batch, units]; without those that are zeros.
        sums: by gate; without those that a step from zeros does not need.
        activation: by Keras's name; None where the expression has none.
    """

    h: Names
    named: Mapping[str, Names]
    before: Mapping[str, Names]
    sums: Mapping[str, Sum]
    activation: str | None

    def state(self, name: str) -> Names:
        """Names of a state after the step."""
        return self.h if name == "h" else self.named[name]


class NoStep(Exception):
    """Why numbers are not what a step of a cell computes.

    Attributes:
        depth: how far into the expression they are.
    """

    def __init__(self, reason: str, depth: int = 0) -> None:
        super().__init__(reason)
        self.depth = depth


def steps(elements: Elements, cell: Cell) -> Iterator[Step]:
    """Yields every step of a kind of cell, in the order of the file."""
    for block, names in elements:
        if isinstance(block, Elementwise) and any(_begins(each, block) for each in cell.forms):
            with contextlib.suppress(NoStep):
                yield _step(elements, cell, names)


def why_no_step(elements: Elements, h: Names) -> str | None:
    """Why numbers are not the output of a step of any cell; None if they are of one."""
    reasons = []
    for cell in CELLS:
        try:
            _step(elements, cell, h)
        except NoStep as reason:
            reasons.append(reason)
        else:
            return None
    return str(max(reasons, key=lambda each: each.depth))


def _begins(pattern: Pattern, block: Elementwise) -> bool:
    if isinstance(pattern, Op):
        return block.operation == pattern.operation
    return block.operation in ACTIVATIONS


def _step(elements: Elements, cell: Cell, h: Names) -> Step:
    reasons = []
    for form in cell.forms:
        try:
            return _Reader(elements, cell.kind).step(form, h)
        except NoStep as reason:
            reasons.append(reason)
    raise max(reasons, key=lambda each: each.depth)


@dataclasses.dataclass(frozen=True, eq=False)
class _Terms:
    """What a sum adds up, before it is laid out.

    Attributes:
        pattern: the sum.
        products: blocks and the places of the sum's numbers in them.
        constants: values.
    """

    pattern: SumPattern
    products: list[tuple[Products, Names]]
    constants: list[npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Bound:
    """What the leaves of a pattern stand for."""

    sums: Mapping[str, _Terms] = dataclasses.field(default_factory=dict)
    states: Mapping[str, Names] = dataclasses.field(default_factory=dict)
    named: Mapping[str, Names] = dataclasses.field(default_factory=dict)
    activation: str | None = None


class _Reader:
    def __init__(self, elements: Elements, kind: str) -> None:
        self._elements, self._kind = elements, kind
        self._order: npt.NDArray[np.intp] | None = None
        self._shape = (0, 0)
        self._reason = NoStep("nothing computes it", -1)

    def step(self, pattern: Pattern, h: Names) -> Step:
        """Reads the step whose output has some names.

        Raises:
            NoStep: if it does not match the pattern.
        """
        bound = next(self._matches(pattern, h, _Bound(), 0), None)
        if bound is None:
            raise self._reason
        # A product says what is a row, and what a unit; constants do not.
        terms = sorted(bound.sums.items(), key=lambda item: not item[1].products)
        step = Step(
            sums={gate: self._sum(each) for gate, each in terms},
            h=self._placed(h),
            named={name: self._placed(each) for name, each in bound.named.items()},
            before={name: self._placed(each) for name, each in bound.states.items()},
            activation=bound.activation,
        )
        for each in bound.sums.values():
            if isinstance(each.pattern.of, Named):
                step = self._with_inner(step, step.sums[each.pattern.gate], each.pattern.of)
        return step

    def _matches(self, pattern: Pattern, names: Names, bound: _Bound, depth: int) -> Iterator[_Bound]:
        """Yields what the leaves of a pattern can stand for, so that it computes some numbers."""
        match pattern:
            case State(name):
                if name not in bound.states or np.array_equal(bound.states[name], names):
                    yield dataclasses.replace(bound, states={**bound.states, name: names})
            case Named(name, operand):
                if name not in bound.named:
                    for each in self._matches(operand, names, bound, depth):
                        yield dataclasses.replace(each, named={**each.named, name: names})
                elif np.array_equal(bound.named[name], names):
                    yield bound
            case Constant(value):
                values = self._elements.values(names)
                if values is not None and (values == value).all():
                    yield bound
                else:
                    self._fail(names, f"the constant {value:g}", depth)
            case SumPattern():
                yield from self._matching_sums(pattern, names, bound, depth)
            case Op() | Activation():
                yield from self._matching_operators(pattern, names, bound, depth)

    def _matching_operators(
        self, pattern: Op | Activation, names: Names, bound: _Bound, depth: int
    ) -> Iterator[_Bound]:
        found = self._elements.block(names)
        block, places = found or (None, names)
        operation = block.operation if isinstance(block, Elementwise) else ""
        if isinstance(pattern, Activation):
            allowed = tuple(each for each, name in ACTIVATIONS.items() if bound.activation in (None, name))
        else:
            allowed = (pattern.operation,)
        if not isinstance(block, Elementwise) or operation not in allowed:
            self._fail(names, ", ".join(allowed), depth)
            return
        if isinstance(pattern, Activation):
            bound = dataclasses.replace(bound, activation=ACTIVATIONS[operation])
        wanted = (pattern.operand,) if isinstance(pattern, Activation) else pattern.operands
        operands = [each[places] for each in block.operands]
        for order in itertools.permutations(operands) if operation in COMMUTATIVE else (operands,):
            yield from self._matching_all(list(zip(wanted, order, strict=True)), bound, depth + 1)

    def _matching_all(self, pairs: list[tuple[Pattern, Names]], bound: _Bound, depth: int) -> Iterator[_Bound]:
        if not pairs:
            yield bound
            return
        for each in self._matches(*pairs[0], bound, depth):
            yield from self._matching_all(pairs[1:], each, depth)

    def _matching_sums(self, pattern: SumPattern, names: Names, bound: _Bound, depth: int) -> Iterator[_Bound]:
        waiting, others = [names], list[Names]()
        terms = _Terms(pattern, [], [])
        while waiting:
            each = waiting.pop()
            found = self._elements.block(each)
            block, places = found or (None, each)
            if isinstance(block, Products):
                terms.products.append((block, places))
            elif isinstance(block, Constants):
                terms.constants.append(block.values[places])
            elif isinstance(block, Elementwise) and block.operation == "ADD" and len(terms.products) < _MOST_TERMS:
                waiting += [operand[places] for operand in block.operands]
            elif pattern.plus is not None and not others:
                others.append(each)
            else:
                self._fail(each, "products and biases in a sum", depth)
                return
        if not terms.products and pattern.has_x:
            self._fail(names, "a product", depth)
            return
        if len(others) < (pattern.plus is not None):
            self._fail(names, "what depends on a gate in a sum", depth)
            return
        bound = dataclasses.replace(bound, sums={**bound.sums, pattern.gate: terms})
        if pattern.plus is None:
            yield bound
        else:
            yield from self._matches(pattern.plus, others[0], bound, depth + 1)

    def _fail(self, names: Names, wanted: str, depth: int) -> None:
        if depth > self._reason.depth:
            found = self._elements.block(names)
            self._reason = NoStep(
                f"it has {_described(found[0] if found else None)}, where {self._kind} has {wanted}", depth
            )

    def _with_inner(self, step: Step, taken: Sum, pattern: Named) -> Step:
        """A step with what its state goes through before a sum takes it, which is read like a step of its own."""
        assert isinstance(pattern.operand, Op)
        columns: dict[int, list[int]] = {}
        for column, name in enumerate(taken.inputs[0]):
            found = self._elements.block(np.array([name]))
            if found is not None and isinstance(found[0], Elementwise):
                columns.setdefault(id(found[0]), []).append(column)
        reason = NoStep("what a gate takes is not reset", _DEEP)
        for each in columns.values():
            try:
                inner = _Reader(self._elements, self._kind).step(pattern.operand, taken.inputs[:, each])
                return _joined(step, inner, pattern.name)
            except NoStep as departs:
                reason = departs
        raise reason

    def _sum(self, terms: _Terms) -> Sum:
        """Lays a sum out by rows and units."""
        parts = [self._rows(*each) for each in terms.products]
        values = [self._placed(each) for each in terms.constants]
        if any((each != each[:1]).any() for each in values):
            raise NoStep("the bias of a gate differs from row to row", _DEEP)
        batch, units = self._shape
        none: tuple[Any, Any, Any] = (np.zeros((batch, 0), np.int32), np.zeros((units, 0), np.float32), np.zeros(units))
        return Sum(
            np.concatenate([inputs for inputs, _, _ in (none, *parts)], axis=1, dtype=np.int32),
            np.concatenate([weights for _, weights, _ in (none, *parts)], axis=1, dtype=np.float32),
            np.sum([*(bias for _, _, bias in (none, *parts)), *(each[0] for each in values)], axis=0, dtype=np.float64),
        )

    def _rows(self, block: Products, places: Names) -> tuple[Names, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The inputs, [batch, terms], weights and biases of some products."""
        rows, outputs = np.divmod(places.reshape(-1), len(block.weights))
        if self._order is None:
            self._order = np.lexsort((outputs, rows))
            batch = len(np.unique(rows))
            self._shape = (batch, rows.size // batch)
        rows, outputs = self._placed(rows), self._placed(outputs)
        if (rows != rows[:, :1]).any() or (outputs != outputs[:1]).any():
            raise NoStep("a gate takes its rows from different weights", _DEEP)
        return block.inputs[rows[:, 0]], block.weights[outputs[0]], block.bias[outputs[0]]

    def _placed(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Numbers of the step as [batch, units], in the order in which the first product read has them."""
        order = self._order
        if order is None or flat.size != order.size or self._shape[0] * self._shape[1] != order.size:
            raise NoStep("its gates differ in size", _DEEP)
        return flat.reshape(-1)[order].reshape(self._shape)


def _joined(step: Step, inner: Step, name: str) -> Step:
    """A step with what was read by itself, its units in the order of the step's."""
    before, own = step.before[H.name], inner.before[H.name]
    places = places_of(before, own) if before.shape == own.shape else np.array([-1])
    # Which unit is which cannot be told from a state that has one number twice.
    if places.min() < 0 or len(np.unique(places)) != before.shape[1]:
        raise NoStep("its gates take different states", _DEEP)
    sums = {gate: Sum(each.inputs, each.weights[places], each.bias[places]) for gate, each in inner.sums.items()}
    return dataclasses.replace(step, named={**step.named, name: inner.h[:, places]}, sums={**step.sums, **sums})


_MOST_TERMS = 8
_DEEP = 100


def _described(block: Block | None) -> str:
    if block is None:
        return "what several operators compute"
    if isinstance(block, Given):
        return f"what {block.operator} computes" if block.operator else "an input"
    if isinstance(block, Elementwise):
        return block.operation
    return "constants" if isinstance(block, Constants) else "a product of its own"
