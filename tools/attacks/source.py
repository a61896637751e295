"""`Source`: a random model as its user calls it, beside what is given to `convert`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Twin:
    """A model of the same weights.

    Attributes:
        call: from inputs by name to outputs under the names that a file has for them.
        reset: makes the next call start from zero.
    """

    call: Callable[[Arrays], Arrays]
    reset: Callable[[], Any] = lambda: None


@dataclasses.dataclass(frozen=True)
class Source:
    """A random model.

    Attributes:
        what: in a few words.
        model: what is given to `convert`.
        options: what has to be given with it.
        draw: inputs by name from a generator, a batch and a number of time steps.
        own: computes what the user's calls of the model give, in float32.
        exact: the same in float64, or None.
        carrying: makes the model that carries its state, of a batch and a dtype; None if there is none.
        carries: whether the model itself does so.
        batch: of the model; None if it is open.
        time: the steps of the model; None if they are open.
    """

    what: str
    model: Any
    draw: Callable[[np.random.Generator, int, int], Arrays]
    own: Twin
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    exact: Callable[[], Twin] | None = None
    carrying: Callable[[int, str], Twin] | None = None
    carries: bool = False
    batch: int | None = None
    time: int | None = None


def one_of(random: np.random.Generator, *values: Any) -> Any:
    """A random one of the values, as it is."""
    return values[int(random.integers(len(values)))]


def chance(random: np.random.Generator, probability: float) -> bool:
    """Whether something of a probability is so."""
    return bool(random.random() < probability)


def random_mask(random: np.random.Generator, batch: int, time: int) -> Array:
    """A mask [batch, time] whose rows are padded on a side, have holes, or have all or none of their steps."""
    steps = np.arange(time)
    rows = [
        one_of(
            random,
            steps < random.integers(time + 1),
            steps >= random.integers(time + 1),
            random.random(time) < 0.5,
            np.ones(time, bool),
            np.zeros(time, bool),
        )
        for _ in range(batch)
    ]
    return np.stack(rows)
