"""Every number that a file computes gets a name of its own, and each tensor becomes an array of such names.

What only moves data (RESHAPE, TRANSPOSE, SPLIT, GATHER, PACK, ...) moves names, and so leaves no trace: two tensors
that hold the same numbers hold the same names, whatever way those took. What computes makes a block of new names, which
knows what they are computed of.
"""

import bisect
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Names = npt.NDArray[np.int32]
"""Names of numbers, in the shape of the tensor that holds them."""

MOST = 1 << 27
"""Numbers that are named at most: half a GiB of names. 500 steps of four layers of 256 units need a fifteenth."""


class TooLarge(Exception):
    """A file computes more numbers than can be named."""


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """What is not understood, or an input.

    Attributes:
        operator: the operator that computes it, as a reason has it; empty for an input.
    """

    operator: str


@dataclasses.dataclass(frozen=True, eq=False)
class Constants:
    """Values out of the file, or computed of such.

    Attributes:
        values: flat.
    """

    values: npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Products:
    """Rows of inputs times constant weights, plus constant biases; number r * outputs + k is row r, output k.

    Attributes:
        inputs: names, [rows, inputs].
        weights: [outputs, inputs].
        bias: [outputs].
    """

    inputs: Names
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class Elementwise:
    """A function of numbers at the same place.

    Attributes:
        operation: name of the operator, such as MUL or TANH.
        operands: names, each flat and as long as the block.
    """

    operation: str
    operands: tuple[Names, ...]


Block = Given | Constants | Products | Elementwise


class Elements:
    """The names that were given, by blocks."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._blocks: list[Block] = []
        self._count = 0

    def __iter__(self) -> Iterator[tuple[Block, Names]]:
        """Yields each block with its names, in the order in which they were given."""
        for number, block in enumerate(self._blocks):
            yield block, np.arange(self._starts[number], self._end(number), dtype=np.int32)

    def _end(self, number: int) -> int:
        return self._starts[number + 1] if number + 1 < len(self._starts) else self._count

    @property
    def count(self) -> int:
        """How many names were given."""
        return self._count

    def new(self, block: Block, shape: tuple[int, ...]) -> Names:
        """Names for the numbers of a new block, in a shape.

        Raises:
            TooLarge: if there would be more than `MOST`.
        """
        size = math.prod(shape)
        if self._count + size > MOST:
            raise TooLarge
        if size:
            self._starts.append(self._count)
            self._blocks.append(block)
        self._count += size
        return np.arange(self._count - size, self._count, dtype=np.int32).reshape(shape)

    def block(self, names: Names) -> tuple[Block, Names] | None:
        """The block that has all of some names, with their places in it; None if there is no single one."""
        if not names.size:
            return None
        number = bisect.bisect_right(self._starts, int(names.flat[0])) - 1
        start = self._starts[number]
        places = names - start
        if int(places.min()) < 0 or int(names.max()) >= self._end(number):
            return None
        return self._blocks[number], places

    def at(self, name: int) -> tuple[Block, int]:
        """The block of one number, with its place in it."""
        number = bisect.bisect_right(self._starts, name) - 1
        return self._blocks[number], name - self._starts[number]

    def values(self, names: Names) -> npt.NDArray[Any] | None:
        """The values of constant numbers; None unless all are constant, and of one block."""
        found = self.block(names)
        if found is None or not isinstance(found[0], Constants):
            return None
        values: npt.NDArray[Any] = found[0].values[found[1]]
        return values

    def constants(self, values: npt.NDArray[Any]) -> Names:
        """Names for values."""
        return self.new(Constants(np.ravel(values)), values.shape)


def places_of(inputs: Names, h: Names) -> npt.NDArray[np.intp]:
    """Which column of h, [batch, units], each column of some inputs, [batch, inputs], is; -1 for none."""
    order = np.argsort(h[0])
    found = np.searchsorted(h[0], inputs[0], sorter=order).clip(max=len(order) - 1)
    places = order[found]
    return np.where((h[:, places] == inputs).all(axis=0), places, -1)
