"""What the operators of a subgraph compute, as far as the steps of an unrolled layer ask."""

import dataclasses
import itertools
from collections.abc import Iterator

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes.loops.evaluate import ACTIVATION_OPS
from lstm_toolkit.passes.unrolled.glance import UNNAMED, layer_name
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT

_COMPUTED = {*ACTIVATION_OPS, "ADD", "MUL", "SUB"}
_MOST_MOVES = 4
_MOST_OPS = 200
"""Operators of a step."""

_ACTIVATIONS = {code: name for name, code in vars(schema.ActivationFunctionType).items() if name in ACTIVATION_OPS}
"""The activations that an operator can apply to what it computes, by code, as the operators are called."""

_DATA_OF = {"RESHAPE": 0, "SLICE": 0, "SPLIT": 1, "SPLIT_V": 0, "STRIDED_SLICE": 0}
"""Which operand is moved by what may stand between a sigmoid and where it is a gate."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of an LSTM, or what may be one.

    Attributes:
        h, c: indices of the tensors that hold them. If no other step takes the c, it may be held activated alone.
        before: tensors that may hold the c before; none for zeros.
        is_last: whether c is held activated alone.
    """

    h: int
    c: int
    before: tuple[int, ...]
    is_last: bool


class StepGraph:
    """What the operators of a subgraph compute, as far as steps of an LSTM ask."""

    def __init__(self, model: Model, subgraph: Subgraph) -> None:
        self._model, self.subgraph = model, subgraph
        self.names = [graph.operator_name(model, op) for op in subgraph.operators]
        self.producers = {int(index): place for place, op in enumerate(subgraph.operators) for index in op.outputs}
        self.positions = {int(index): n for op in subgraph.operators for n, index in enumerate(op.outputs)}
        self._users: dict[int, list[int]] = {}
        for place, op in enumerate(subgraph.operators):
            for index in {*map(int, op.inputs)}:
                self._users.setdefault(index, []).append(place)
        self._contents: dict[bytes, int] = {}
        self._ids: dict[int, int] = {}
        self._computed = set[int]()
        for op in subgraph.operators:
            if len(op.inputs) and all(map(self.is_fixed, map(int, op.inputs))):
                self._computed |= set(map(int, op.outputs))

    def operator(self, place: int) -> Operator:
        """An operator by its place."""
        return self.subgraph.operators[place]

    def found(self) -> Iterator[Step]:
        """Yields what may be a step of an LSTM."""
        for place, name in enumerate(self.names):
            outputs = self.operator(place).outputs
            c = self._gated(int(outputs[0])) if name == "MUL" and len(outputs) == 1 else None
            if c is not None:
                is_last = self.activation(self.producers.get(c)) is not None
                before = self._before(c, is_last=is_last)
                if before is not None:
                    yield Step(int(outputs[0]), c, before, is_last)

    def activation(self, place: int | None) -> str | None:
        """The activation that an operator applies to what it computes, as the operator is called that does it alone."""
        options = None if place is None else self.operator(place).builtinOptions
        return _ACTIVATIONS.get(getattr(options, "fusedActivationFunction", 0))

    def _operands(self, index: int, name: str, *, activated: bool = False) -> list[int]:
        """The two operands of the ADD or MUL that computes a tensor; none if another operator does."""
        place = self.producers.get(index)
        if place is None or self.names[place] != name or (self.activation(place) is not None) != activated:
            return []
        inputs = [int(index) for index in self.operator(place).inputs]
        return inputs if len(inputs) == 2 else []

    def _gated(self, index: int) -> int | None:
        """What is activated in gate * activation(...), or holds that activated; None if a tensor is something else."""
        factors = self._operands(index, "MUL")
        for gate, other in (factors, factors[::-1]) if factors else ():
            made = self.producers.get(other)
            if made is not None and self._is_gate(gate):
                if self.names[made] in ACTIVATION_OPS and len(self.operator(made).inputs) == 1:
                    return int(self.operator(made).inputs[0])
                if self.activation(made) is not None:
                    return other
        return None

    def _is_gate(self, index: int) -> bool:
        """Whether a tensor is a sigmoid of something, or a part of one."""
        for _ in range(_MOST_MOVES):
            place = self.producers.get(index)
            data = None if place is None else _DATA_OF.get(self.names[place])
            if place is None or data is None or data >= len(self.operator(place).inputs):
                break
            index = int(self.operator(place).inputs[data])
        return place is not None and self.names[place] == "LOGISTIC"

    def _before(self, c: int, *, is_last: bool) -> tuple[int, ...] | None:
        """What may hold the c before; nothing where it is zero, None where it is no c of an LSTM."""
        if self._gated(c) is not None:
            return ()
        found = []
        parts = self._operands(c, "ADD", activated=is_last)
        for kept, new in (parts, parts[::-1]) if parts else ():
            factors = self._operands(kept, "MUL") if self._gated(new) is not None else []
            found += [state for gate, state in (factors, factors[::-1]) if self._is_gate(gate)] if factors else []
        return tuple(found) or None

    def content(self, index: int) -> int | None:
        """A number that tells what a constant tensor holds from what others hold; None if it is not constant."""
        tensor = self.subgraph.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        if data is None or tensor.isVariable:
            return None
        if tensor.buffer not in self._ids:
            self._ids[tensor.buffer] = self._contents.setdefault(bytes(data), len(self._contents))
        return self._ids[tensor.buffer]

    def is_fixed(self, index: int) -> bool:
        """Whether a tensor holds the same at every call."""
        return index == ABSENT or index in self._computed or self.content(index) is not None

    def unmoved(self, index: int) -> int:
        """The tensor that another one is in another shape."""
        for _ in range(_MOST_MOVES):
            place = self.producers.get(index)
            if place is None or self.names[place] != "RESHAPE":
                break
            index = int(self.operator(place).inputs[0])
        return index

    def is_computed(self, index: int) -> bool:
        """Whether an operator computes a tensor number by number, and of more than constants."""
        place = self.producers.get(index)
        return place is not None and self.names[place] in _COMPUTED and not self.is_fixed(index)

    def between(self, before: int, after: int) -> set[int]:
        """The operators that compute one state of the one before it; none if there are too many."""
        first, found, waiting = self.producers.get(before, -1), set[int](), [after]
        while waiting and len(found) <= _MOST_OPS:
            place = self.producers.get(waiting.pop())
            if place is not None and place > first and place not in found:
                found.add(place)
                waiting += map(int, self.operator(place).inputs)
        return set() if waiting else found

    def alike(self, before: int, after: int, inside: set[int]) -> int | None:
        """What is computed of a state as that is of the one before; None if nothing is, or several tensors are."""
        same = {before: after}
        for place in sorted(inside):
            inputs = [int(index) for index in self.operator(place).inputs]
            known = {n: same[index] for n, index in enumerate(inputs) if index in same}
            if known:
                users = [
                    user for user in self._users.get(next(iter(known.values())), ()) if self._fits(user, place, known)
                ]
                if len(users) != 1:
                    return None
                outputs = self.operator(place).outputs, self.operator(users[0]).outputs
                same |= {int(old): int(new) for old, new in zip(*outputs, strict=True)}
        return same.get(after)

    def _fits(self, user: int, place: int, known: dict[int, int]) -> bool:
        op, other = self.operator(user), self.operator(place)
        sizes = [(len(each.inputs), len(each.outputs)) for each in (op, other)]
        if self.names[user] != self.names[place] or sizes[0] != sizes[1]:
            return False
        wanted = {n: int(index) for n, index in enumerate(other.inputs) if self.is_fixed(int(index))} | known
        return all(
            int(op.inputs[n]) == index or (n not in known and self.content(int(op.inputs[n])) == self.content(index))
            for n, index in wanted.items()
        )

    def is_alone(self, states: list[int]) -> bool:
        """Whether each state is computed of the one before, and of nothing else that depends on the first one."""
        depends = {states[0]}
        for op in self.subgraph.operators[self.producers.get(states[0], -1) + 1 :]:
            if not depends.isdisjoint(map(int, op.inputs)):
                depends |= set(map(int, op.outputs))
        for before, after in itertools.pairwise(states):
            inside = [self.operator(place) for place in self.between(before, after)]
            own = {before} | {int(index) for op in inside for index in op.outputs}
            if any(int(index) in depends and int(index) not in own for op in inside for index in op.inputs):
                return False
        return True

    def name(self, places: list[int]) -> str:
        """The name of a layer as the tensors tell that some of its operators compute."""
        indices = (index for place in places for index in self.operator(place).outputs)
        told = (layer_name(graph.text(self.subgraph.tensors[index].name)) for index in indices)
        return next((name for name in told if name != UNNAMED), UNNAMED)
