"""Shows the operators of each unrolled layer as one."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence

from lstm_toolkit.inspection.arithmetic import known_sum
from lstm_toolkit.inspection.values import OpSummary, SubgraphSummary, TensorSummary, UnrolledLayer


def merged(subgraph: SubgraphSummary, layers: Sequence[UnrolledLayer]) -> list[OpSummary]:
    """The operators of a subgraph, in the place of the first one of a layer one that stands for all of them.

    That one takes what its operators take from others, without constants, and gives what others take of them.
    """
    layer_of = {index: layer for layer in layers for index in layer.ops}
    made_in = {tensor.index: layer_of[index] for index in layer_of for tensor in _there(subgraph.ops[index].outputs)}
    given: dict[int, dict[int | None, TensorSummary]] = defaultdict(dict)
    takers = [(layer_of.get(op.index), op.inputs) for op in subgraph.ops]
    for layer, tensors in [*takers, (None, subgraph.outputs)]:
        for tensor in _there(tensors):
            maker = made_in.get(tensor.index)
            if maker is not None and maker is not layer:
                given[maker.ops[0]].setdefault(tensor.index, tensor)
    ops = []
    for op in subgraph.ops:
        layer = layer_of.get(op.index)
        if layer is None:
            ops.append(op)
        elif op.index == layer.ops[0]:
            every = [subgraph.ops[index] for index in layer.ops]
            taken = {each.index: each for part in every for each in _there(part.inputs) if each.role != "constant"}
            takes = tuple(each for index, each in taken.items() if made_in.get(index) is not layer)
            work = known_sum(part.multiply_adds for part in every)
            ops.append(OpSummary(op.index, str(layer), takes, tuple(given[op.index].values()), work))
    return ops


def in_order(ops: Sequence[OpSummary]) -> list[OpSummary] | None:
    """The operators so that each stands behind those whose outputs it takes; None if some take of each other."""
    made_by = {tensor.index: place for place, op in enumerate(ops) for tensor in _there(op.outputs)}
    behind, waits = defaultdict[int, list[int]](list), [0] * len(ops)
    last_use: dict[int | None, int] = {}
    for place, op in enumerate(ops):
        states = {tensor.index for tensor in _there((*op.inputs, *op.outputs)) if tensor.role == "variable"}
        before = {made_by[t.index] for t in _there(op.inputs) if t.index in made_by and t.index not in states}
        before |= {last_use[index] for index in states if index in last_use}
        last_use |= dict.fromkeys(states, place)
        for other in before - {place}:
            behind[other].append(place)
            waits[place] += 1
    ready, ordered = [place for place, count in enumerate(waits) if not count], []
    while ready:
        place = heapq.heappop(ready)
        ordered.append(ops[place])
        for other in behind[place]:
            waits[other] -= 1
            if not waits[other]:
                heapq.heappush(ready, other)
    return ordered if len(ordered) == len(ops) else None


def _there(tensors: Iterable[TensorSummary | None]) -> Iterable[TensorSummary]:
    return (tensor for tensor in tensors if tensor is not None)
