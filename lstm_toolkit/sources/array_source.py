"""What sources of all libraries have in common: the layout of their arrays, and many calls as the rows of one."""

import abc
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_toolkit.sources.traced import Arrays


class Layout(NamedTuple):
    """How arrays are laid out in a file.

    Attributes:
        turned: for each input whether time is its first axis.
        batch: of all inputs.
        time_major: whether time is the first axis of outputs that are sequences.
    """

    turned: tuple[bool, ...]
    batch: int
    time_major: bool


class ArraySource(abc.ABC):
    """A `Source`, but for what computes it.

    Args:
        layout: of its arrays.
        values: gives the values of the variables that are in the file.
        apart: whether rows of a batch are computed apart from each other, by all that is known.
    """

    def __init__(self, layout: Layout, values: Callable[[], Iterable[npt.NDArray[Any]]], *, apart: bool) -> None:
        self._layout, self._variables, self._apart = layout, values, apart
        self._values = self._checksums()
        self._carried: dict[Any, Any] = {}

    @abc.abstractmethod
    def __call__(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """See `Source`."""

    @property
    def has_changed(self) -> bool:
        """See `Source`."""
        return self._checksums() != self._values

    @property
    def carries(self) -> bool:
        """See `Source`."""
        return bool(self._carried)

    def reset(self) -> None:
        """See `Source`."""
        self._carried.clear()

    def as_rows(self, calls: Sequence[Arrays]) -> list[dict[str, npt.NDArray[Any]]] | None:
        """See `Source`."""
        if not self._apart or len(calls) < 2:
            return None
        turned, batch, time_major = self._layout
        inputs = zip(turned, zip(*calls, strict=True), strict=True)
        self.reset()
        try:
            outputs = self([np.concatenate(arrays, axis=int(turned)) for turned, arrays in inputs])
        except Exception:  # a layer of the model that takes no other batch
            return None
        finally:
            self.reset()
        axes = {name: int(time_major and value.ndim > 2) for name, value in outputs.items()}
        rows = len(calls) * batch
        if any(value.shape[axes[name] : axes[name] + 1] != (rows,) for name, value in outputs.items()):
            return None
        split = {name: np.split(value, len(calls), axis=axes[name]) for name, value in outputs.items()}
        return [{name: parts[number] for name, parts in split.items()} for number in range(len(calls))]

    def _checksums(self) -> list[int]:
        return [zlib.crc32(np.ascontiguousarray(each).tobytes()) for each in self._variables()]
