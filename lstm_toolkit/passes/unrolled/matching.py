"""Matches the numbers of a step with the expression of a cell."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.passes.unrolled.elements import Block, Constants, Elements, Elementwise, Given, Names, Products
from lstm_toolkit.passes.unrolled.patterns import COMMUTATIVE, Activation, Constant, Named, Op, Pattern, State
from lstm_toolkit.passes.unrolled.patterns import Sum as SumPattern

ACTIVATIONS = {"TANH": "tanh", "RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "hard_tanh"}
"""Keras's name for each operator that is an activation of a cell."""

DEEP = 100
"""Depth of what is wrong behind the operators."""


class NoStep(Exception):
    """Why numbers are not what a step of a cell computes.

    Attributes:
        depth: how far into the expression they are.
    """

    def __init__(self, reason: str, depth: int = 0) -> None:
        super().__init__(reason)
        self.depth = depth


@dataclasses.dataclass(frozen=True, eq=False)
class Terms:
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
class Bound:
    """What the leaves of a pattern stand for."""

    sums: Mapping[str, Terms] = dataclasses.field(default_factory=dict)
    states: Mapping[str, Names] = dataclasses.field(default_factory=dict)
    named: Mapping[str, Names] = dataclasses.field(default_factory=dict)
    activation: str | None = None


def may_match(elements: Elements, pattern: Pattern, name: int) -> bool:
    """Whether one number may be what a pattern computes, as its operators tell, whatever they have in common."""
    while isinstance(pattern, Named):
        pattern = pattern.operand
    if isinstance(pattern, State):
        return True
    block, place = elements.at(name)
    if isinstance(pattern, SumPattern):
        return isinstance(block, Products | Constants) or (isinstance(block, Elementwise) and block.operation == "ADD")
    if isinstance(pattern, Constant):
        return isinstance(block, Constants) and bool(block.values[place] == pattern.value)
    allowed, wanted = _operators_of(pattern)
    if not isinstance(block, Elementwise) or block.operation not in allowed or len(block.operands) != len(wanted):
        return False
    operands = [int(each[place]) for each in block.operands]
    return any(
        all(may_match(elements, each, operand) for each, operand in zip(wanted, order, strict=True))
        for order in _orders(block.operation, operands)
    )


def _operators_of(pattern: Op | Activation) -> tuple[tuple[str, ...], tuple[Pattern, ...]]:
    """The operators that a pattern stands for, and what it has as their operands."""
    if isinstance(pattern, Activation):
        return tuple(ACTIVATIONS), (pattern.operand,)
    return (pattern.operation,), pattern.operands


def _orders(operation: str, operands: list[Any]) -> Iterable[Sequence[Any]]:
    return itertools.permutations(operands) if operation in COMMUTATIVE else (operands,)


class Matcher:
    """Finds out what the leaves of a pattern stand for."""

    def __init__(self, elements: Elements, kind: str) -> None:
        """Takes the names of a file and what the cell is called in reasons."""
        self._elements, self._kind = elements, kind
        self._reason = NoStep("nothing computes it", -1)

    def match(self, pattern: Pattern, h: Names) -> Bound:
        """What the leaves of a pattern stand for, so that it computes some numbers.

        Raises:
            NoStep: if it does not.
        """
        bound = next(self._matches(pattern, h, Bound(), 0), None)
        if bound is None:
            raise self._reason
        return bound

    def _matches(self, pattern: Pattern, names: Names, bound: Bound, depth: int) -> Iterator[Bound]:
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

    def _matching_operators(self, pattern: Op | Activation, names: Names, bound: Bound, depth: int) -> Iterator[Bound]:
        found = self._elements.block(names)
        block, places = found or (None, names)
        allowed, wanted = _operators_of(pattern)
        if isinstance(pattern, Activation) and bound.activation is not None:
            allowed = tuple(each for each in allowed if ACTIVATIONS[each] == bound.activation)
        if not isinstance(block, Elementwise) or block.operation not in allowed:
            self._fail(names, ", ".join(allowed), depth)
            return
        if isinstance(pattern, Activation):
            bound = dataclasses.replace(bound, activation=ACTIVATIONS[block.operation])
        for order in _orders(block.operation, [each[places] for each in block.operands]):
            yield from self._matching_all(list(zip(wanted, order, strict=True)), bound, depth + 1)

    def _matching_all(self, pairs: list[tuple[Pattern, Names]], bound: Bound, depth: int) -> Iterator[Bound]:
        if not pairs:
            yield bound
            return
        for each in self._matches(*pairs[0], bound, depth):
            yield from self._matching_all(pairs[1:], each, depth)

    def _matching_sums(self, pattern: SumPattern, names: Names, bound: Bound, depth: int) -> Iterator[Bound]:
        waiting, others = [names], list[Names]()
        terms = Terms(pattern, [], [])
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


def _described(block: Block | None) -> str:
    if block is None:
        return "what several operators compute"
    if isinstance(block, Given):
        return f"what {block.operator} computes" if block.operator else "an input"
    if isinstance(block, Elementwise):
        return block.operation
    return "constants" if isinstance(block, Constants) else "a product of its own"


_MOST_TERMS = 8
