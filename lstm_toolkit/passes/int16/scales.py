"""Which int16 tensors of a file share a scale, and the scales.

Tensors that a kernel takes for equally scaled form a group; so do the same tensor of all steps of a layer, and the
variables of a loop in its body and around it. A group has the range of all its tensors together.

A scale is 4, 5, 6 or 7 times a power of two. With such scales, and weights whose scales are chosen in `weights`, the
kernels of both runtimes round alike, though LiteRT rescales by a double and TensorFlow Lite Micro by 15 bits.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from lstm_toolkit.passes.int16.rules import UNIT, Rule, Scales, data_of, floats_of
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.builder import STEP
from lstm_toolkit.tflite.types import Model, Operator, Subgraph

Range = tuple[float, float]

Node = tuple[int, int]
"""Number of a subgraph, and index of a tensor in it."""

Chosen = list[tuple[int, Operator, Rule]]
"""The ops that become int16: the number of the subgraph, the op and its rule."""

LARGEST = 32767
_UNLIKE = 2.0
"""By how many times ranges differ that a CONCATENATION does not give one scale."""

_SATURATING = ("LOGISTIC", "TANH")


def scale_for(largest: float, *, saturating: bool = False) -> float:
    """The finest scale at which int16 holds numbers up to the largest.

    Args:
        largest: above 0.
        saturating: whether a LOGISTIC or TANH takes them, which at some powers of two LiteRT computes by other means
            than TensorFlow Lite Micro (`TanhPrepare`, `SigmoidPrepare`).
    """
    mantissa, exponent = math.frexp(largest / LARGEST)
    quarters = max(math.ceil(mantissa * 8), 4)
    if saturating and quarters in (4, 8):
        quarters = 5 if quarters == 4 else 10
    return math.ldexp(quarters, exponent - 3)


class Groups:
    """The groups of tensors that share a scale.

    Args:
        model: the file, in which no constant is the data of two inputs.
        chosen: the ops that become int16.
        ranges: what float tensors reach, by name.
    """

    def __init__(self, model: Model, chosen: Chosen, ranges: Mapping[str, Range]) -> None:
        self._model, self._chosen, self._ranges = model, chosen, ranges
        self._parent: dict[Node, Node] = {}
        self._tie_same()
        self._tie_steps()
        self._tie_joined()
        self._scales = self._finest_scales()

    def scale(self, node: Node) -> float:
        """The scale of a tensor."""
        return self._scales[self._root(node)]

    def _root(self, node: Node) -> Node:
        parent = self._parent.setdefault(node, node)
        if parent != node:
            self._parent[node] = parent = self._root(parent)
        return parent

    def _tie(self, nodes: Iterable[Node]) -> None:
        for one, other in itertools.pairwise(nodes):
            self._parent[self._root(one)] = self._root(other)

    def _tie_same(self) -> None:
        for number, operator, rule in self._chosen:
            subgraph = self._model.subgraphs[number]
            if graph.operator_name(self._model, operator) == "WHILE":
                for nodes in loop_variables(self._model, number, operator):
                    self._tie(nodes)
                continue
            nodes = [(number, index) for index in data_of(subgraph, operator, rule)]
            outputs = [(number, index) for index in floats_of(subgraph, operator.outputs)]
            for node in (*nodes, *outputs):
                self._root(node)
            if rule.scales is Scales.SAME:
                self._tie((*nodes, *outputs))

    def _tie_steps(self) -> None:
        """Ties what one op takes and gives in all steps of its layer."""
        alike: dict[tuple[str, int], list[Node]] = defaultdict(list)
        for number, operator, rule in self._chosen:
            subgraph = self._model.subgraphs[number]
            name = graph.text(subgraph.tensors[operator.outputs[0]].name)
            if STEP in name:
                places = [*data_of(subgraph, operator, rule), *floats_of(subgraph, operator.outputs)]
                for place, index in enumerate(places):
                    alike[name, place].append((number, index))
        for nodes in alike.values():
            self._tie(nodes)

    def _tie_joined(self) -> None:
        ranges = self._known_ranges()
        for number, operator, rule in self._chosen:
            if rule.scales is Scales.JOINED:
                output = (number, int(operator.outputs[0]))
                for index in data_of(self._model.subgraphs[number], operator, rule):
                    one, other = (ranges.get(self._root(each)) for each in ((number, index), output))
                    if not one or not other or 1 / _UNLIKE <= _largest(one) / _largest(other) <= _UNLIKE:
                        self._tie([(number, index), output])

    def _known_ranges(self) -> dict[Node, Range]:
        """The range of what enters each group, by its root; a group of which nothing was seen is left out."""
        copies, units = self._copies(), self._outputs_of(Scales.UNIT)
        found: dict[Node, Range] = {}
        for number, index in self._parent.keys() - copies:
            tensor, root = self._model.subgraphs[number].tensors[index], self._root((number, index))
            values, name = graph.float_constant(self._model, tensor), graph.text(tensor.name)
            if (number, index) in units:
                seen = (-1.0, 1.0)
            elif values is not None:
                seen = (float(values.min(initial=0.0)), float(values.max(initial=0.0)))
            elif name in self._ranges:
                seen = self._ranges[name]
            else:
                continue
            low, high = found.get(root, (0.0, 0.0))
            found[root] = min(low, seen[0]), max(high, seen[1])
        return found

    def _outputs_of(self, scales: Scales) -> set[Node]:
        return {
            (number, int(index)) for number, op, rule in self._chosen if rule.scales is scales for index in op.outputs
        }

    def _copies(self) -> set[Node]:
        """The tensors that hold nothing but what others of their group hold."""
        copies = set()
        for number, operator, rule in self._chosen:
            subgraph = self._model.subgraphs[number]
            if graph.operator_name(self._model, operator) == "WHILE":
                variables = loop_variables(self._model, number, operator)
                copies |= {node for outer, *others, _ in variables for node in others if node != outer}
            elif rule.scales in (Scales.SAME, Scales.JOINED):
                roots = {self._root((number, index)) for index in data_of(subgraph, operator, rule)}
                outputs = {(number, index) for index in floats_of(subgraph, operator.outputs)}
                copies |= {node for node in outputs if roots == {self._root(node)}}
        return copies

    def _finest_scales(self) -> dict[Node, float]:
        ranges = self._known_ranges()
        saturating = {
            self._root((number, int(operator.inputs[0])))
            for number, operator, _ in self._chosen
            if graph.operator_name(self._model, operator) in _SATURATING
        }
        units = {self._root(node) for node in self._outputs_of(Scales.UNIT)}
        scales = {}
        for root in {self._root(node) for node in self._parent}:
            largest = _largest(ranges.get(root, (0.0, 0.0)))
            is_unit = root in units and largest <= 1.0
            scales[root] = UNIT if is_unit else scale_for(largest, saturating=root in saturating)
        while self._coarsened(scales):
            pass
        return scales

    def _coarsened(self, scales: dict[Node, float]) -> bool:
        """Makes scales coarse enough for the multipliers of kernels, which have to be 1 at most."""
        changed = False
        for number, operator, rule in self._chosen:
            name = graph.operator_name(self._model, operator)
            if name not in ("ADD", "SUB", "MUL"):
                continue
            subgraph = self._model.subgraphs[number]
            inputs = [scales[self._root((number, index))] for index in data_of(subgraph, operator, rule)]
            least = math.prod(inputs) if name == "MUL" else 2.0**-14 * max(inputs)
            output = self._root((number, int(operator.outputs[0])))
            if scales[output] < least:
                scales[output] = scale_for(least * LARGEST, saturating=True)
                changed = True
        return changed


def loop_variables(model: Model, number: int, operator: Operator) -> Iterator[list[Node]]:
    """Yields, for each float variable of a WHILE in a subgraph, its tensors around and inside of the loop."""
    condition, body = graph.called_subgraphs(operator)
    inner: tuple[Subgraph, Subgraph] = model.subgraphs[condition], model.subgraphs[body]
    columns = zip(operator.inputs, operator.outputs, inner[0].inputs, inner[1].inputs, inner[1].outputs, strict=True)
    for indices in columns:
        nodes = list(zip((number, number, condition, body, body), map(int, indices), strict=True))
        if floats_of(model.subgraphs[number], [indices[0]]):
            yield nodes


def _largest(ends: Range) -> float:
    largest = max(map(abs, ends))
    return float(largest) if largest > np.finfo(np.float32).tiny else 1.0
