"""Expressions that a step of a recurrent layer computes, and what is left of them where a state is zero.

Pattern = Op | Activation | Sum | State | Named | Constant
"""

import dataclasses
from collections.abc import Collection, Iterator
from typing import TypeAlias

COMMUTATIVE = ("ADD", "MUL")


@dataclasses.dataclass(frozen=True)
class Op:
    """An element-wise operator, by its name."""

    operation: str
    operands: "tuple[Pattern, ...]"


@dataclasses.dataclass(frozen=True)
class Activation:
    """The activation of the cell, which is the same function wherever the cell has one."""

    operand: "Pattern"


@dataclasses.dataclass(frozen=True)
class Sum:
    """Inputs times constant weights, and constant biases.

    Attributes:
        gate: what it goes into.
        of: which inputs it takes besides x: "h", the output of the step before; a pattern of numbers that are computed
            of it; or None.
        has_x: whether it takes the input of the step.
        plus: what else is added.
    """

    gate: str
    of: "Pattern | None" = None
    has_x: bool = True
    plus: "Pattern | None" = None


@dataclasses.dataclass(frozen=True)
class State:
    """A state before the step, by its name."""

    name: str


@dataclasses.dataclass(frozen=True)
class Named:
    """Numbers that have a name, and are the same wherever it stands."""

    name: str
    operand: "Pattern"


@dataclasses.dataclass(frozen=True)
class Constant:
    """A constant."""

    value: float


Pattern: TypeAlias = Op | Activation | Sum | State | Named | Constant


def without(pattern: Pattern, zeros: Collection[str]) -> Pattern | None:
    """What is left of a pattern where some states and sums are zero; None where nothing is."""
    match pattern:
        case State(name) | Sum(name) if name in zeros:
            return None
        case Sum(_, _, _, plus):
            of = pattern.of if pattern.of == State("h") or pattern.of is None else without(pattern.of, zeros)
            return dataclasses.replace(pattern, of=of, plus=None if plus is None else without(plus, zeros))
        case Named(_, operand) | Activation(operand):
            left = without(operand, zeros)
            return None if left is None else dataclasses.replace(pattern, operand=left)
        case Op("MUL", operands):
            factors = [without(each, zeros) for each in operands]
            return None if None in factors else Op("MUL", tuple(each for each in factors if each is not None))
        case Op("ADD" | "SUB", (first, second)):
            one, other = without(first, zeros), without(second, zeros)
            if other is None:
                return one
            if one is None:
                # No operator negates.
                return other if pattern.operation == "ADD" else Op("SUB", (Constant(0.0), other))
            return Op(pattern.operation, (one, other))
    return pattern


def sums(pattern: Pattern) -> Iterator[Sum]:
    """Yields the sums of a pattern, also of what others take and add."""
    match pattern:
        case Sum():
            yield pattern
            for inner in (pattern.of, pattern.plus):
                if inner is not None:
                    yield from sums(inner)
        case Op(_, operands):
            for each in operands:
                yield from sums(each)
        case Named(_, operand) | Activation(operand):
            yield from sums(operand)
