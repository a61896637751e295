"""Draws inputs that suit a model: random ones, and ones at which arithmetic tends to break."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ConversionError

DOMAINS: Mapping[str, tuple[float, float] | None] = {
    "normal": None,
    "from 0 to 1": (0.0, 1.0),
    "from 1 to 2": (1.0, 2.0),
}
"""Where floats come from: the standard normal distribution; uniform ones are for a model with a root or a logarithm."""

EXTREMES = ("zeros", "constant", "tiny", "large")
"""Kinds of inputs beside random ones: all 0; one value throughout; floats times 1e-6; floats times 1e3. Of integers
these are 0, one number throughout, the lowest and the highest one."""

MASKS = ("right", "left", "holes", "all valid", "none valid")
"""How a row is padded: behind its valid steps, before them, between them, not at all, or whole."""

_FACTORS = {"zeros": 0.0, "tiny": 1e-6, "large": 1e3}


def random_array(
    random: np.random.Generator,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    *,
    low: int = 0,
    high: int = 2,
    domain: str = "normal",
) -> npt.NDArray[Any]:
    """Draws an array: floats from one of `DOMAINS`, anything else from `low` to `high` - 1."""
    if dtype.kind not in "fc":
        return random.integers(low, high, shape).astype(dtype)
    limits = DOMAINS[domain]
    return (random.uniform(*limits, shape) if limits else random.standard_normal(shape)).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Draw:
    """What is to be drawn.

    Attributes:
        kind: "random", or one of `EXTREMES`.
        domain: one of `DOMAINS`.
        turn: the number of the call. A row is padded in the way of `MASKS` whose turn it is.
    """

    kind: str = "random"
    domain: str = "normal"
    turn: int = 0


@dataclasses.dataclass(frozen=True)
class RandomInputs:
    """Says which random inputs suit a model.

    Attributes:
        integer_bound: integers are drawn below it.
        tokens: for each input, whether it takes integers even if its dtype is a float.
        padded: whether rows are padded, each in the way of `MASKS` whose turn it is.
        mask_value: the value of padded floating-point steps. None leaves them as they are, or pads them with 0 where no
            other input can be padded. Integers are padded with 0 (the others are then at least 1), booleans with False.
        time_axes: for each input the axis of time, which is 0 or 1; None for an input that is not a sequence.
        paddings: for each input whether it marks the padded steps by 1.
        time_axis: the axis of time of such an input.
        limits: for each input the smallest and the largest value that it may have, or None.
    """

    integer_bound: int = 2
    tokens: tuple[bool, ...] = ()
    padded: bool = False
    mask_value: float | None = None
    time_axes: tuple[int | None, ...] = ()
    paddings: tuple[bool, ...] = ()
    time_axis: int = 1
    limits: tuple[tuple[float, float] | None, ...] = ()

    def draw(
        self,
        random: np.random.Generator,
        shapes: Sequence[Sequence[int]],
        dtypes: Sequence[npt.DTypeLike],
        wanted: Draw,
    ) -> tuple[list[npt.NDArray[Any]], set[str]]:
        """Draws one array an input.

        Returns:
            The arrays, and the members of `MASKS` by which their rows are padded.

        Raises:
            ConversionError: for an input that holds neither numbers nor booleans.
        """
        tokens = [*self.tokens, *[False] * (len(shapes) - len(self.tokens))]
        arrays = [
            self._one(random, shape, np.dtype(dtype), wanted, tokens=are_tokens)
            for shape, dtype, are_tokens in zip(shapes, dtypes, tokens, strict=True)
        ]
        for array, limits in zip(arrays, self.limits, strict=False):
            if limits is not None:
                if wanted.kind == "random":
                    outside = (array < limits[0]) | (array > limits[1])
                    array[outside] = random.uniform(*limits, np.count_nonzero(outside))
                np.clip(array, *limits, out=array)
        return arrays, self._pad(random, arrays, tokens, wanted.turn)

    def is_token(self, number: int) -> bool:
        """Whether an input takes integers even if its dtype is a float."""
        return number < len(self.tokens) and self.tokens[number]

    def _one(
        self, random: np.random.Generator, shape: Sequence[int], dtype: np.dtype[Any], wanted: Draw, *, tokens: bool
    ) -> npt.NDArray[Any]:
        if dtype.kind not in "fiubc":
            raise ConversionError(
                f"no input can be {dtype}; let the model begin behind the layer that reads it, with numbers"
            )
        if dtype.kind == "b" and self.padded and not tokens:
            return np.ones(shape, dtype)
        integers = tokens or dtype.kind in "iu"
        low, high = (int(self.padded), max(self.integer_bound, 2)) if integers else (0, 2)
        drawn_as = np.dtype(np.int64) if tokens else dtype
        drawn = random_array(random, shape, drawn_as, low=low, high=high, domain=wanted.domain)
        if wanted.kind == "constant":
            drawn[...] = drawn.flat[0] if drawn.size else 0
        elif wanted.kind in _FACTORS and drawn_as.kind in "fc":
            drawn = drawn * drawn_as.type(_FACTORS[wanted.kind])
        elif wanted.kind in _FACTORS:
            drawn[...] = {"zeros": 0, "tiny": low, "large": high - 1}[wanted.kind]
        return drawn.astype(dtype)

    def _pad(
        self, random: np.random.Generator, arrays: Sequence[npt.NDArray[Any]], tokens: Sequence[bool], turn: int
    ) -> set[str]:
        """Pads the rows of all sequences, each in the way whose turn it is; returns these ways."""
        marks = [array for array, is_mark in zip(arrays, self.paddings, strict=False) if is_mark]
        for array in marks:
            array[...] = 0
        found = _pad_rows(random, [(array, self.time_axis, 1) for array in marks], turn)
        if not self.padded:
            return found
        sequences = [
            (array, axis, 0 if are_tokens or array.dtype.kind in "iub" else self.mask_value)
            for array, axis, are_tokens in zip(arrays, self.time_axes, tokens, strict=False)
            if axis is not None
        ]
        if all(value is None for _, _, value in sequences):
            sequences = [(array, axis, 0) for array, axis, _ in sequences]
        return found | _pad_rows(random, [each for each in sequences if each[2] is not None], turn)


def _pad_rows(
    random: np.random.Generator,
    inputs: Sequence[tuple[npt.NDArray[Any], int, float | None]],
    turn: int,
) -> set[str]:
    """Writes a value into the padded steps of arrays, each given with its axis of time; returns the ways used."""
    found = set()
    for number, (array, axis, value) in enumerate(inputs):
        rows = array if axis == 1 else array.swapaxes(0, 1)
        for index, row in enumerate(rows, start=turn * len(rows) + number):
            way = MASKS[index % len(MASKS)]
            row[~_valid_steps(random, way, len(row))] = value
            found.add(way)
    return found


def _valid_steps(random: np.random.Generator, way: str, steps: int) -> npt.NDArray[np.bool_]:
    """Which steps of a row are valid, padded in one way of `MASKS`."""
    if way in ("all valid", "none valid"):
        return np.full(steps, way == "all valid")
    if way == "holes":
        valid = random.random(steps) < 0.6
        middle = steps // 2
        valid[middle - 1 : middle + 2] = True
        valid[middle : middle + 1] = False
        return valid
    valid = np.arange(steps) < random.integers(min(1, steps), max(steps, 2))
    return valid[::-1] if way == "left" else valid
