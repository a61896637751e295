"""Values that a loop's body and condition compute, as expressions over the loop's arguments."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Argument:
    """One of the values that the loop carries from step to step, at the start of a step."""

    index: int
    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """Values out of the file."""

    values: npt.NDArray[Any]

    @property
    def shape(self) -> Shape:
        """Shape of the values."""
        return self.values.shape


@dataclasses.dataclass(frozen=True)
class Counter:
    """An integer argument with a number added."""

    argument: int
    added: int
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Indices:
    """Integers in a row: numbers, and counters."""

    items: tuple[int | Counter, ...]

    @property
    def shape(self) -> Shape:
        """Shape of the row."""
        return (len(self.items),)


@dataclasses.dataclass(frozen=True)
class Step:
    """The slice of an argument along its first axis that a counter points at."""

    argument: int
    counter: Counter
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Part:
    """A slice of an argument, from `begin` on, of `size`; -1 is all that is left."""

    argument: int
    begin: Indices
    size: Indices
    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """A sum of matrix products and a bias: weights [rows, columns] for each source, bias [rows]."""

    terms: tuple[tuple[Any, npt.NDArray[np.float32]], ...]
    bias: npt.NDArray[np.float32]
    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Activation:
    """An element-wise function of a value."""

    function: str
    operand: Any
    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Binary:
    """A sum ("ADD"), product ("MUL"), comparison ("LESS") or conjunction ("LOGICAL_AND") of two values."""

    operation: str
    left: Any
    right: Any
    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
    """Values one behind the other along the first axis."""

    parts: tuple[Any, ...]
    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Updated:
    """An argument with a slice of it replaced, from `begin` on."""

    argument: int
    update: Any
    begin: Indices
    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Reshaped:
    """A value in another shape, which differs by more than leading ones."""

    operand: Any
    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Unknown:
    """What is not understood, or is computed of that; `reason` names it."""

    reason: str
