"""`Sizes`: those of one LSTM, and of the sequence that it reads."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

LIMITS: Mapping[str, int] = MappingProxyType({"batch_size": 16, "time_steps": 1000, "input_size": 1024, "units": 1024})
"""Largest value of each size."""

MAX_MULTIPLICATIONS = 50_000_000
"""Most multiplications of a call; with more, a comparison takes minutes."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of one LSTM and of the sequence that it reads.

    Raises:
        ValueError: if a size is not an integer from 1 to its limit, or all together are too much work.
    """

    batch_size: int
    time_steps: int
    input_size: int
    units: int

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= limit:
                raise ValueError(f"{name} must be an integer from 1 to {limit}, got {value!r}")
        if self.multiplications > MAX_MULTIPLICATIONS:
            raise ValueError(
                f"{self} takes {self.multiplications:,} multiplications a call, more than {MAX_MULTIPLICATIONS:,}; "
                "make one of the sizes smaller"
            )

    @property
    def multiplications(self) -> int:
        """Of the matrix products in one call."""
        return self.batch_size * self.time_steps * 4 * self.units * (self.input_size + self.units)

    def __str__(self) -> str:
        return f"batch {self.batch_size}, time {self.time_steps}, input {self.input_size}, units {self.units}"
