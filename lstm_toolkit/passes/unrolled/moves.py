"""Makes tensors out of others that hold the same numbers: the operators that move data, as few as do."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lstm_toolkit.passes.unrolled.elements import Names
from lstm_toolkit.tflite import edit
from lstm_toolkit.tflite.types import Model, Operator, Subgraph


class Mover:
    """Finds tensors by what they hold, and adds operators that put it into another form.

    Attributes:
        operators: those that were added.
    """

    def __init__(self, model: Model, subgraph: Subgraph) -> None:
        """Knows no tensor yet."""
        self.operators: list[Operator] = []
        self._model, self._subgraph = model, subgraph
        self._holders: dict[int, list[tuple[int, Names]]] = {}
        self._sequences: list[tuple[int, Names, int]] = []

    def know(self, index: int, names: Names) -> None:
        """Enters a tensor by what it holds; of two that hold the same, the one entered first is taken."""
        if names.size:
            self._holders.setdefault(int(names.flat[0]), []).append((index, names))

    def know_sequence(self, index: int, names: Names, axis: int) -> None:
        """Enters a tensor of three axes whose steps along one of them may be taken out one by one."""
        self.know(index, names)
        self._sequences.append((index, names, axis))

    def exactly(self, names: Names) -> int | None:
        """The tensor that holds some numbers in the same shape."""
        found = self._holders.get(int(names.flat[0]), [])
        return next((index for index, each in found if np.array_equal(each, names)), None)

    def moved(self, names: Names) -> int | None:
        """A tensor that holds some numbers: one that is there, or one made of it; None if none has just these."""
        found = self.exactly(names)
        if found is not None:
            return found
        for permutation, axes, wanted in _forms(names):
            holder = self._flat(wanted)
            if holder is None:
                continue
            index, held = holder
            index = self._reshaped(index, held.shape, wanted.shape)
            if permutation is not None:
                index = self._add("TRANSPOSE", index, permutation, names.shape)
            if axes:
                index = self._add("REVERSE_V2", index, axes, names.shape)
            return self._known(index, names)
        return self._step(names)

    def joined(self, parts: Sequence[int], names: Names, axis: int) -> int:
        """A tensor that holds others one behind the other."""
        target = edit.add_tensor(self._subgraph, "joined", names.shape)
        self.operators.append(edit.new_operator(self._model, "CONCATENATION", parts, [target], axis=axis))
        return self._known(target, names)

    def packed(self, parts: Sequence[int], names: Names, axis: int) -> int:
        """A tensor that holds others along a new axis."""
        target = edit.add_tensor(self._subgraph, "packed", names.shape)
        options = {"valuesCount": len(parts), "axis": axis}
        self.operators.append(edit.new_operator(self._model, "PACK", parts, [target], **options))
        return self._known(target, names)

    def _known(self, index: int, names: Names) -> int:
        self.know(index, names)
        return index

    def _flat(self, names: Names) -> tuple[int, Names] | None:
        """A tensor that holds some numbers in this order, in any shape, the same one first."""
        found = self._holders.get(int(names.flat[0]), [])
        same = [(index, each) for index, each in found if np.array_equal(each.reshape(-1), names.reshape(-1))]
        return min(same, key=lambda pair: pair[1].shape != names.shape, default=None)

    def _reshaped(self, index: int, held: tuple[int, ...], wanted: tuple[int, ...]) -> int:
        return index if held == wanted else self._add("RESHAPE", index, wanted, wanted, newShape=list(wanted))

    def _add(self, name: str, source: int, numbers: Sequence[int], shape: Sequence[int], **options: Any) -> int:
        """Adds an operator whose second operand is some numbers."""
        constant = edit.add_constant(self._model, self._subgraph, name.lower(), np.array(numbers, np.int32))
        target = edit.add_tensor(self._subgraph, f"moved/{name.lower()}", shape)
        self.operators.append(edit.new_operator(self._model, name, [source, constant], [target], **options))
        return target

    def _step(self, names: Names) -> int | None:
        """Takes one step out of a sequence."""
        for index, held, axis in self._sequences:
            first = held[:, 0, 0] if axis == 0 else held[0, :, 0]
            for place in np.flatnonzero(first == names.flat[0]):
                step: Any = held.take(int(place), axis)
                if np.array_equal(step.reshape(-1), names.reshape(-1)):
                    taken = self._known(self._sliced(index, held, axis, int(place)), step)
                    return (
                        taken
                        if step.shape == names.shape
                        else self._known(self._reshaped(taken, step.shape, names.shape), names)
                    )
        return None

    def _sliced(self, index: int, held: Names, axis: int, place: int) -> int:
        shape = [size for each, size in enumerate(held.shape) if each != axis]
        target = edit.add_tensor(self._subgraph, "step", shape)
        step = place if place < held.shape[axis] - 1 else -1
        self.operators.append(edit.step_operator(self._model, self._subgraph, index, target, axis=axis, step=step))
        return target


def _forms(names: Names) -> Iterator[tuple[list[int] | None, tuple[int, ...], Names]]:
    """Yields how some numbers can come out of others: the transpose and the axes to reverse, and the others."""
    turns = [None] if names.ndim < 3 else [None, [1, 0, *range(2, names.ndim)]]
    reversals: tuple[tuple[int, ...], ...] = ((), (0,), (1,))
    for axes in reversals[: names.ndim]:
        flipped = np.flip(names, axes)
        for permutation in turns:
            yield permutation, axes, flipped if permutation is None else flipped.transpose(permutation)
