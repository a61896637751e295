"""Finds the LSTMs of a subgraph whose steps a converter laid out one by one.

    c = LOGISTIC(...) * c_before + LOGISTIC(...) * activation(...)        h = LOGISTIC(...) * activation(c)

What is found is certain, and takes a fraction of the time that reading the file takes: every step takes the h and the c
of the one before, and from the second step on all of them are the same ops with the same constants. Where one differs,
nothing is found. Whether the fused op computes the same is for `passes.unrolled` to say.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.inspection.values import UnrolledLayer
from lstm_toolkit.passes.loops.evaluate import ACTIVATION_OPS
from lstm_toolkit.passes.unrolled.glance import UNNAMED, layer_name
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.recurrent import numbered
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT

LEAST_STEPS = 3
"""Two steps have no third one to be compared with."""

_READERS = ("GATHER", "SLICE", "STRIDED_SLICE")
"""What takes a step out of a sequence at a constant place, which differs from step to step."""

_SHARED = (-1, -1)
_MOST_MOVES = 4


_ACTIVATIONS = {code: name for name, code in vars(schema.ActivationFunctionType).items() if name in ACTIVATION_OPS}
"""The activations that an operator can apply to what it computes, by code, as the operators are called."""

_DATA_OF = {"RESHAPE": 0, "SLICE": 0, "SPLIT": 1, "SPLIT_V": 0, "STRIDED_SLICE": 0}
"""Which operand is moved by what may stand between a sigmoid and where it is a gate."""


@dataclasses.dataclass(frozen=True)
class _Step:
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


def unrolled_layers(model: Model, number: int) -> list[UnrolledLayer]:
    """The unrolled LSTMs of a subgraph, in the order in which they begin."""
    steps = _Steps(model, model.subgraphs[number])
    chains = _chains(list(steps.found()))
    if not chains:
        return []
    owners = _Owners(steps, chains)
    layers, taken = [], set[str]()
    ops = owners.operators()
    for place, chain in enumerate(chains):
        reader = _Signatures(steps, owners, place)
        second, *others = (reader.of(step, chain[step - 1], chain[step]) for step in range(1, len(chain)))
        has_units = bool(graph.shape_of(steps.subgraph.tensors[chain[1].c]))
        if has_units and "h" in second and all(each == second for each in others):
            name = numbered(steps.name(ops[place]), taken)
            taken.add(name)
            units = graph.shape_of(steps.subgraph.tensors[chain[1].c])[-1]
            layers.append(UnrolledLayer(name, "LSTM", len(chain), units, tuple(ops[place]), number))
    return sorted(layers, key=lambda layer: layer.ops[0])


class _Steps:
    """What the operators of a subgraph compute, as far as steps of an LSTM ask."""

    def __init__(self, model: Model, subgraph: Subgraph) -> None:
        self._model, self.subgraph = model, subgraph
        self.names = [graph.operator_name(model, op) for op in subgraph.operators]
        self.producers = {int(index): place for place, op in enumerate(subgraph.operators) for index in op.outputs}
        self.positions = {int(index): n for op in subgraph.operators for n, index in enumerate(op.outputs)}
        self._contents: dict[bytes, int] = {}
        self._ids: dict[int, int] = {}
        self._computed = set[int]()
        for op in subgraph.operators:
            if len(op.inputs) and all(map(self.is_fixed, map(int, op.inputs))):
                self._computed |= set(map(int, op.outputs))

    def operator(self, place: int) -> Operator:
        """An operator by its place."""
        return self.subgraph.operators[place]

    def found(self) -> Iterator[_Step]:
        """Yields what may be a step of an LSTM."""
        for place, name in enumerate(self.names):
            outputs = self.operator(place).outputs
            c = self._gated(int(outputs[0])) if name == "MUL" and len(outputs) == 1 else None
            if c is not None:
                is_last = self.activation(self.producers.get(c)) is not None
                before = self._before(c, is_last=is_last)
                if before is not None:
                    yield _Step(int(outputs[0]), c, before, is_last)

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

    def name(self, places: list[int]) -> str:
        """The name of a layer as the tensors tell that some of its operators compute."""
        indices = (index for place in places for index in self.operator(place).outputs)
        told = (layer_name(graph.text(self.subgraph.tensors[index].name)) for index in indices)
        return next((name for name in told if name != UNNAMED), UNNAMED)


def _chains(found: list[_Step]) -> list[list[_Step]]:
    """Steps of which each starts from the c of the one before."""
    by_c = {step.c: step for step in found}
    follower: dict[int, _Step] = {}
    followers = set[int]()
    for step in by_c.values():
        before = next((c for c in step.before if c in by_c and c not in follower and not by_c[c].is_last), None)
        if before is not None:
            follower[before] = step
            followers.add(step.c)
    chains = []
    for step in by_c.values():
        if step.c not in followers:
            chain = [step]
            while chain[-1].c in follower:
                chain.append(follower[chain[-1].c])
            chains.append(chain)
    return [chain for chain in chains if len(chain) >= LEAST_STEPS]


class _Owners:
    """For each operator the one step that needs it, as a pair of layer and step, or that several do."""

    def __init__(self, steps: _Steps, chains: list[list[_Step]]) -> None:
        self._steps = steps
        self._states = {
            index: layer for layer, chain in enumerate(chains) for step in chain for index in (step.h, step.c)
        }
        self._owners: dict[int, tuple[int, int]] = {}
        self._layers = len(chains)
        for layer, chain in enumerate(chains):
            for number, step in enumerate(chain):
                self._visit((layer, number), step)

    def _visit(self, owner: tuple[int, int], step: _Step) -> None:
        waiting = [(index, owner) for index in (step.h, step.c)]
        while waiting:
            index, claim = waiting.pop()
            place = self._steps.producers.get(index)
            before = None if place is None else self._owners.get(place)
            if place is None or before in (claim, _SHARED):
                continue
            inputs = [int(each) for each in self._steps.operator(place).inputs]
            claim = claim if before is None else self._settled(before, claim, inputs)
            if claim != before:
                self._owners[place] = claim
                waiting += [(each, claim) for each in inputs if each not in self._states]

    def _settled(self, one: tuple[int, int], other: tuple[int, int], inputs: list[int]) -> tuple[int, int]:
        """Who owns an operator that two steps need: of two layers, the one that projects its own h."""
        layers = {self._states.get(index) for index in inputs}
        own = [claim for claim in (one, other) if claim[0] in layers] if one[0] != other[0] else []
        return own[0] if len(own) == 1 else _SHARED

    def has(self, place: int | None, layer: int, step: int) -> bool:
        """Whether a step is the one that needs an operator."""
        return place is not None and self._owners.get(place) == (layer, step)

    def operators(self) -> list[list[int]]:
        """The operators of each layer, in their order."""
        found: list[list[int]] = [[] for _ in range(self._layers)]
        for place in sorted(self._owners):
            layer, _ = self._owners[place]
            if layer >= 0:
                found[layer].append(place)
        return found


class _Signatures:
    """Writes down what a step of a layer computes, so that steps that compute the same are written alike."""

    def __init__(self, steps: _Steps, owners: _Owners, layer: int) -> None:
        self._steps, self._owners, self._layer = steps, owners, layer

    def of(self, number: int, before: _Step, step: _Step) -> list[Any]:
        """What is met on the way back from the h of a step, to the h and c of the one before and to what is given."""
        said: list[Any] = []
        waiting, met = [(step.h, True)], dict[tuple[int, bool], int]()
        while waiting:
            index, activated = waiting.pop()
            place = self._steps.producers.get(index)
            if index in (before.h, before.c):
                said.append("h" if index == before.h else "c")
                continue
            if place is None or not self._owners.has(place, self._layer, number):
                said.append(self._given(index))
                continue
            # The last step may have an activation in the op before, where the others have an op of its own.
            name = self._steps.activation(place) if activated else None
            key, op = (place, name is None), self._steps.operator(place)
            is_new = key not in met
            said.append((met.setdefault(key, len(met)), self._steps.positions[index], self._like(index)))
            if is_new and name is not None:
                said.append((name, []))
                waiting.append((index, False))
            elif is_new:
                inputs = self._inputs(place, number)
                said.append((self._steps.names[place], _options(op)))
                waiting += [(each, True) for each in reversed(inputs)]
        return said

    def _inputs(self, place: int, number: int) -> list[int]:
        """What an operator takes; of one that takes a step out of a sequence, the sequence alone."""
        inputs = [int(index) for index in self._steps.operator(place).inputs]
        if self._steps.names[place] not in _READERS or self._steps.is_fixed(inputs[0]):
            return inputs
        is_inside = self._owners.has(self._steps.producers.get(inputs[0]), self._layer, number)
        return inputs if is_inside else inputs[:1]

    def _given(self, index: int) -> Any:
        if not self._steps.is_fixed(index):
            return "x", self._like(index)
        content = self._steps.content(index)
        return ("computed", index) if content is None else ("constant", content, self._like(index))

    def _like(self, index: int) -> Any:
        tensor = self._steps.subgraph.tensors[index]
        return tensor.type, graph.shape_of(tensor), graph.scale_of(tensor)


def _options(op: Operator) -> list[Any]:
    """What an operator is told to do, but for its activation, as a value to compare."""
    custom = [] if op.customOptions is None else [bytes(op.customOptions)]
    options = [vars(each) for each in (op.builtinOptions, op.builtinOptions2) if each is not None]
    said = [{k: np.asarray(v).tolist() for k, v in each.items() if k != "fusedActivationFunction"} for each in options]
    return [each for each in said if each] + custom
