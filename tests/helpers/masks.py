"""Masks of every kind, row by row."""

from collections.abc import Callable

import numpy as np

KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "left": lambda random, time: np.arange(time) >= random.integers(0, time + 1),
    "holes": lambda random, time: random.random(time) < 0.5,
    "right": lambda random, time: np.arange(time) < random.integers(0, time + 1),
    "none": lambda _, time: np.zeros(time, bool),
    "all": lambda _, time: np.ones(time, bool),
}
"""For each kind what draws a row [time], True where a step is valid."""


def mask_of(seed: int, batch: int, time: int) -> np.ndarray:
    """A mask [batch, time] whose rows, from seed to seed, take every kind in turn."""
    random, kinds = np.random.default_rng(seed), list(KINDS.values())
    return np.stack([kinds[(batch * seed + row) % len(kinds)](random, time) for row in range(batch)])


def blanked(array: np.ndarray, valid: np.ndarray, value: float = 0) -> np.ndarray:
    """The array [batch, time, ...] with one value at the steps that are not valid."""
    return np.where(valid.reshape(*valid.shape, *[1] * (array.ndim - 2)), array, array.dtype.type(value))
