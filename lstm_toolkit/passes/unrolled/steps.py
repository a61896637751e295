"""Reads one step of a recurrent cell out of what the numbers of its output are computed of."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.passes.unrolled.cells import CELLS, Cell, H
from lstm_toolkit.passes.unrolled.elements import Elements, Elementwise, Names, Products, places_of
from lstm_toolkit.passes.unrolled.matching import DEEP, Matcher, NoStep, Terms, may_match
from lstm_toolkit.passes.unrolled.patterns import Named, Op, Pattern


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


def steps(elements: Elements, cell: Cell) -> Iterator[Step]:
    """Yields every step of a kind of cell, in the order of the file."""
    for block, names in elements:
        if isinstance(block, Elementwise):
            forms = [form for form in cell.forms if may_match(elements, form, int(names[0]))]
            if forms:
                with contextlib.suppress(NoStep):
                    yield _step(elements, cell, forms, names)


def why_no_step(elements: Elements, h: Names) -> str | None:
    """Why numbers are not the output of a step of any cell; None if they are of one."""
    reasons = []
    for cell in CELLS:
        try:
            _step(elements, cell, cell.forms, h)
        except NoStep as reason:
            reasons.append(reason)
        else:
            return None
    return str(max(reasons, key=lambda each: each.depth))


def _step(elements: Elements, cell: Cell, forms: Iterable[Pattern], h: Names) -> Step:
    reasons = [NoStep("")]
    for form in forms:
        try:
            return _Reader(elements, cell.kind).step(form, h)
        except NoStep as reason:
            reasons.append(reason)
    raise max(reasons, key=lambda each: each.depth)


class _Reader:
    def __init__(self, elements: Elements, kind: str) -> None:
        self._elements, self._kind = elements, kind
        self._order: npt.NDArray[np.intp] | None = None
        self._shape = (0, 0)

    def step(self, pattern: Pattern, h: Names) -> Step:
        """Reads the step whose output has some names.

        Raises:
            NoStep: if it does not match the pattern.
        """
        bound = Matcher(self._elements, self._kind).match(pattern, h)
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

    def _with_inner(self, step: Step, taken: Sum, pattern: Named) -> Step:
        """A step with what its state goes through before a sum takes it, which is read like a step of its own."""
        assert isinstance(pattern.operand, Op)
        columns: dict[int, list[int]] = {}
        for column, name in enumerate(taken.inputs[0]):
            found = self._elements.block(np.array([name]))
            if found is not None and isinstance(found[0], Elementwise):
                columns.setdefault(id(found[0]), []).append(column)
        reason = NoStep("what a gate takes is not reset", DEEP)
        for each in columns.values():
            try:
                inner = _Reader(self._elements, self._kind).step(pattern.operand, taken.inputs[:, each])
                return _joined(step, inner, pattern.name)
            except NoStep as departs:
                reason = departs
        raise reason

    def _sum(self, terms: Terms) -> Sum:
        """Lays a sum out by rows and units."""
        parts = [self._rows(*each) for each in terms.products]
        values = [self._placed(each) for each in terms.constants]
        if any((each != each[:1]).any() for each in values):
            raise NoStep("the bias of a gate differs from row to row", DEEP)
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
            raise NoStep("a gate takes its rows from different weights", DEEP)
        return block.inputs[rows[:, 0]], block.weights[outputs[0]], block.bias[outputs[0]]

    def _placed(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Numbers of the step as [batch, units], in the order in which the first product read has them."""
        order = self._order
        if order is None or flat.size != order.size or self._shape[0] * self._shape[1] != order.size:
            raise NoStep("its gates differ in size", DEEP)
        return flat.reshape(-1)[order].reshape(self._shape)


def _joined(step: Step, inner: Step, name: str) -> Step:
    """A step with what was read by itself, its units in the order of the step's."""
    before, own = step.before[H.name], inner.before[H.name]
    places = places_of(before, own) if before.shape == own.shape else np.array([-1])
    # Which unit is which cannot be told from a state that has one number twice.
    if places.min() < 0 or len(np.unique(places)) != before.shape[1]:
        raise NoStep("its gates take different states", DEEP)
    sums = {gate: Sum(each.inputs, each.weights[places], each.bias[places]) for gate, each in inner.sums.items()}
    return dataclasses.replace(step, named={**step.named, name: inner.h[:, places]}, sums={**step.sums, **sums})
