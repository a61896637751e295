"""Draws random inputs that suit a model."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ConversionError


def random_array(
    random: np.random.Generator, shape: Sequence[int], dtype: np.dtype[Any], *, low: int = 0, high: int = 2
) -> npt.NDArray[Any]:
    """Draws an array: floats from the standard normal distribution, anything else from `low` to `high` - 1."""
    drawn = random.standard_normal(shape) if dtype.kind == "f" else random.integers(low, high, shape)
    return drawn.astype(dtype)


@dataclasses.dataclass(frozen=True)
class RandomInputs:
    """Says which random inputs suit a model.

    Attributes:
        integer_bound: integers are drawn below it.
        tokens: for each input, whether it takes integers even if its dtype is a float.
        padded: whether rows are padded on the right, with a random number of valid steps from none to all.
        mask_value: the value of padded floating-point steps; None leaves them as they are. Integers are padded with 0
            (the others are then at least 1), booleans with False.
        time_axes: for each input the axis of time, which is 0 or 1; None for an input that is not a sequence.
        paddings: for each input whether it marks the padded steps, which are at the end, by 1.
        time_axis: the axis of time of such an input.
        limits: for each input the largest absolute value that it may have, or None.
    """

    integer_bound: int = 2
    tokens: tuple[bool, ...] = ()
    padded: bool = False
    mask_value: float | None = None
    time_axes: tuple[int | None, ...] = ()
    paddings: tuple[bool, ...] = ()
    time_axis: int = 1
    limits: tuple[float | None, ...] = ()

    def draw(
        self, random: np.random.Generator, shapes: Sequence[Sequence[int]], dtypes: Sequence[npt.DTypeLike]
    ) -> list[npt.NDArray[Any]]:
        """Draws one array an input: floats from the standard normal distribution."""
        tokens = [*self.tokens, *[False] * (len(shapes) - len(self.tokens))]
        arrays = [
            self._one(random, shape, np.dtype(dtype), tokens=are_tokens)
            for shape, dtype, are_tokens in zip(shapes, dtypes, tokens, strict=True)
        ]
        for array, limit in zip(arrays, self.limits, strict=False):
            if limit is not None:
                np.clip(array, -limit, limit, out=array)
        for array, is_padding in zip(arrays, self.paddings, strict=False):
            if is_padding:
                for row in array if self.time_axis else array.T:
                    start = random.integers(0, len(row) + 1)
                    row[:start], row[start:] = 0, 1
        if self.padded:
            for array, axis, are_tokens in zip(arrays, self.time_axes, tokens, strict=False):
                if axis is not None:
                    self._pad(random, array if axis == 1 else array.swapaxes(0, 1), tokens=are_tokens)
        return arrays

    def _one(
        self, random: np.random.Generator, shape: Sequence[int], dtype: np.dtype[Any], *, tokens: bool
    ) -> npt.NDArray[Any]:
        if dtype.kind == "b" and not tokens:
            return np.ones(shape, dtype) if self.padded else random.random(shape) < 0.5
        if dtype.kind not in "fiu" and not tokens:
            raise ConversionError(f"inputs of type {dtype} cannot be drawn at random; pass verify=False")
        low, high = int(self.padded), max(self.integer_bound, 2)
        return random_array(random, shape, np.dtype(np.int64) if tokens else dtype, low=low, high=high).astype(dtype)

    def _pad(self, random: np.random.Generator, batch_major: npt.NDArray[Any], *, tokens: bool) -> None:
        padding = 0 if tokens or batch_major.dtype.kind in "iub" else self.mask_value
        if padding is None:
            return
        for row in batch_major:
            row[random.integers(0, len(row) + 1) :] = padding
