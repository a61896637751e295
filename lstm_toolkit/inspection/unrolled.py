"""Finds the recurrent layers of a subgraph whose steps a converter laid out one by one.

    c = LOGISTIC(...) * c_before + LOGISTIC(...) * activation(...)        h = LOGISTIC(...) * activation(c)

What is found is certain, and takes a fraction of the time that reading the file takes: every step takes the h and the c
of the one before, and from the second step on all of them are the same ops with the same constants. Where one differs,
nothing is found. Whether the fused op computes the same is for `passes.unrolled` to say.

Other cells have h alone. The graph does not tell what they are: `passes.unrolled` does, by every number of the file.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from lstm_toolkit.inspection.step_graph import Step, StepGraph
from lstm_toolkit.inspection.values import UnrolledLayer
from lstm_toolkit.passes.unrolled.fuse import unrolled_outcomes
from lstm_toolkit.passes.unrolled.glance import Glance, glances
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.recurrent import numbered
from lstm_toolkit.tflite.types import Model, Operator

LEAST_STEPS = 3
"""Two steps have no third one to be compared with."""

_READERS = ("GATHER", "SLICE", "STRIDED_SLICE")
"""What takes a step out of a sequence at a constant place, which differs from step to step."""

_SHARED = (-1, -1)


def unrolled_layers(model: Model, number: int) -> list[UnrolledLayer]:
    """The unrolled layers of a subgraph, in the order in which they begin; only LSTMs of any but the main one."""
    steps = StepGraph(model, model.subgraphs[number])
    lstms = _chains(list(steps.found()))
    chains = lstms + ([] if number else _other_chains(steps, glances(model, steps.subgraph), lstms))
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
            cell = "LSTM" if place < len(lstms) else ""
            layers.append(UnrolledLayer(name, cell, len(chain), units, tuple(ops[place]), number))
    return sorted(_told_apart(model, layers), key=lambda layer: layer.ops[0])


def _told_apart(model: Model, layers: list[UnrolledLayer]) -> Iterator[UnrolledLayer]:
    """The layers, each with its cell; without those whose cell the numbers of the file do not tell."""
    cells = {}
    if not all(layer.cell for layer in layers):
        cells = {(each.name, each.steps): each.kind.split()[-1] for each in unrolled_outcomes(model) if each.op}
    for layer in layers:
        cell = layer.cell or cells.get((layer.name, layer.steps))
        if cell:
            yield dataclasses.replace(layer, cell=cell)


def _chains(found: list[Step]) -> list[list[Step]]:
    """Steps of which each starts from the c of the one before."""
    by_c = {step.c: step for step in found}
    follower: dict[int, Step] = {}
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


def _other_chains(steps: StepGraph, seen: list[Glance], lstms: list[list[Step]]) -> list[list[Step]]:
    """Steps of other cells, whose one state is h: each product takes the h of the step before."""
    taken = {steps.producers.get(step.h) for chain in lstms for step in chain}
    chains = []
    for glance in seen:
        states = [steps.unmoved(index) for index in glance.inputs]
        # The first product may take a state that is given.
        states = states if steps.is_computed(states[0]) else states[1:]
        if len(states) < LEAST_STEPS - 1:
            continue
        before, after = states[-2:]
        inside = steps.between(before, after)
        last = steps.alike(before, after, inside) if inside and not inside & taken else None
        # A cell that multiplies twice in a step is seen twice.
        if last is not None and steps.is_alone([*states, last]):
            taken |= inside
            chains.append([Step(state, state, (), False) for state in (*states, last)])
    return chains


class _Owners:
    """For each operator the one step that needs it, as a pair of layer and step, or that several do."""

    def __init__(self, steps: StepGraph, chains: list[list[Step]]) -> None:
        self._steps = steps
        self._states = {
            index: layer for layer, chain in enumerate(chains) for step in chain for index in (step.h, step.c)
        }
        self._owners: dict[int, tuple[int, int]] = {}
        self._layers = len(chains)
        for layer, chain in enumerate(chains):
            for number, step in enumerate(chain):
                self._visit((layer, number), step)

    def _visit(self, owner: tuple[int, int], step: Step) -> None:
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

    def __init__(self, steps: StepGraph, owners: _Owners, layer: int) -> None:
        self._steps, self._owners, self._layer = steps, owners, layer

    def of(self, number: int, before: Step, step: Step) -> list[Any]:
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
