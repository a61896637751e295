"""Places the boxes of a directed graph in layers from top to bottom, for drawing. The graphs are nearly chains."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean

_SWEEPS = 3
_GAP = 24
_PASSING = 10


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where everything goes, in pixels.

    Attributes:
        centers: for each box, the x of its centre.
        layers: for each box, the number of its layer, 0 at the top.
        passing: for each edge, the x at which it passes each layer between those of its ends.
        width: of everything.
    """

    centers: Sequence[float]
    layers: Sequence[int]
    passing: Mapping[tuple[int, int], Sequence[float]]
    width: float


def place(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Placement:
    """Places boxes.

    Args:
        widths: of each box.
        edges: pairs of box numbers, each from a lower to a higher number.
    """
    layers = _layers(len(widths), edges)
    # An edge has a point in every layer that it passes, which takes room as a box does.
    sizes, layer_of, passing = list(widths), list(layers), {}
    above, below = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    for source, target in dict.fromkeys(edges):
        between = range(layers[source] + 1, layers[target])
        passing[source, target] = range(len(sizes), len(sizes) + len(between))
        sizes += [_PASSING] * len(between)
        layer_of += between
        for upper, lower in pairwise([source, *passing[source, target], target]):
            above[lower].append(upper)
            below[upper].append(lower)
    rows = [[n for n, layer in enumerate(layer_of) if layer == row] for row in range(max(layer_of, default=-1) + 1)]
    centers = [0.0] * len(sizes)
    for _ in range(_SWEEPS):
        for row in rows:
            _spread(row, above, sizes, centers)
        for row in reversed(rows):
            _spread(row, below, sizes, centers)
    _close_gaps(sizes, centers)
    width = max((center + size / 2 for center, size in zip(centers, sizes, strict=True)), default=0.0)
    through = {edge: [centers[point] for point in points] for edge, points in passing.items()}
    return Placement(centers[: len(widths)], layers, through, width)


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest path from the top; what nothing leads to stands right above what it leads to."""
    layers = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        layers[target] = max(layers[target], layers[source] + 1)
    for number in set(range(count)) - {target for _, target in edges}:
        layers[number] = min((layers[target] for source, target in edges if source == number), default=1) - 1
    return layers


def _spread(row: list[int], neighbours: Mapping[int, list[int]], sizes: Sequence[float], centers: list[float]) -> None:
    """Moves each box of a row to the mean of its neighbours, and apart from the box before it."""
    wanted = {n: fmean(centers[other] for other in neighbours.get(n, [n])) for n in row}
    row.sort(key=lambda n: wanted[n])
    reached = -math.inf
    for n in row:
        centers[n] = max(wanted[n], reached + _GAP + sizes[n] / 2)
        reached = centers[n] + sizes[n] / 2
    shift = fmean(centers[n] - wanted[n] for n in row)
    for n in row:
        centers[n] -= shift


def _close_gaps(sizes: Sequence[float], centers: list[float]) -> None:
    """Moves everything to the left until it starts at 0 and no column wider than the gap is empty."""
    shift, reached = -math.inf, -float(_GAP)
    for n in sorted(range(len(sizes)), key=lambda n: centers[n] - sizes[n] / 2):
        shift = max(shift, centers[n] - sizes[n] / 2 - reached - _GAP)
        centers[n] -= shift
        reached = max(reached, centers[n] + sizes[n] / 2)
