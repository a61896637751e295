"""Places the boxes of a directed graph in layers from top to bottom, for drawing.

The steps are those of Sugiyama's method: layers by the longest path, a point in every layer that an edge passes, an
order within the layers by the mean position of the neighbours, then coordinates.
"""

import dataclasses
from collections.abc import Mapping, Sequence

_SWEEPS = 6
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

    centers: Mapping[int, float]
    layers: Mapping[int, int]
    passing: Mapping[tuple[int, int], tuple[float, ...]]
    width: float


def place(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Placement:
    """Places boxes.

    Args:
        widths: of each box.
        edges: pairs of box numbers, each from a lower to a higher number.
    """
    layers = _layers(len(widths), edges)
    all_widths, chains = list(widths), {}
    all_layers = list(layers)
    links: list[tuple[int, int]] = []
    for edge in dict.fromkeys(edges):
        chain = [edge[0]]
        for layer in range(layers[edge[0]] + 1, layers[edge[1]]):
            all_widths.append(_PASSING)
            all_layers.append(layer)
            chain.append(len(all_widths) - 1)
        chains[edge] = tuple(chain[1:])
        links += zip(chain, [*chain[1:], edge[1]], strict=True)
    rows: list[list[int]] = [[] for _ in range(max(all_layers, default=0) + 1)]
    for number, layer in enumerate(all_layers):
        rows[layer].append(number)
    centers = _centers(rows, all_widths, links)
    centers = _without_empty_columns(centers, all_widths)
    return Placement(
        centers={number: centers[number] for number in range(len(widths))},
        layers=dict(enumerate(layers)),
        passing={edge: tuple(centers[number] for number in chain) for edge, chain in chains.items()},
        width=max((centers[n] + all_widths[n] / 2 for n in centers), default=0.0),
    )


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest path from the top; what nothing leads to stands right above what it leads to."""
    layers = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        layers[target] = max(layers[target], layers[source] + 1)
    fed = {target for _, target in edges}
    for number in set(range(count)) - fed:
        below = [layers[target] for source, target in edges if source == number]
        layers[number] = min(below, default=1) - 1
    return layers


def _centers(rows: list[list[int]], widths: Sequence[float], links: Sequence[tuple[int, int]]) -> dict[int, float]:
    """Sweeps down and up, each time moving every box to the mean of its neighbours and apart from the next one."""
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for source, target in links:
        above.setdefault(target, []).append(source)
        below.setdefault(source, []).append(target)
    centers: dict[int, float] = {}
    for row in rows:
        _spread(row, [0.0] * len(row), widths, centers)
    for sweep in range(_SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean([centers[n] for n in neighbours.get(each, [])], centers[each]) for each in row]
            order = sorted(range(len(row)), key=lambda place: (wanted[place], centers[row[place]]))
            row[:] = [row[place] for place in order]
            _spread(row, [wanted[place] for place in order], widths, centers)
    return centers


def _without_empty_columns(centers: Mapping[int, float], widths: Sequence[float]) -> dict[int, float]:
    """Moves everything to the left until it starts at 0 and nothing stands apart from the rest by more than the gap."""
    moved: dict[int, float] = {}
    shift = reached = 0.0
    for number in sorted(centers, key=lambda number: centers[number] - widths[number] / 2):
        left = centers[number] - widths[number] / 2
        allowed = reached + _GAP if moved else 0.0
        shift = left - allowed if not moved else max(shift, left - allowed)
        moved[number] = centers[number] - shift
        reached = max(reached, moved[number] + widths[number] / 2)
    return moved


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _spread(row: Sequence[int], wanted: Sequence[float], widths: Sequence[float], centers: dict[int, float]) -> None:
    """Places a row in its order, near the wanted positions and without overlaps."""
    placed: list[float] = []
    for number, x in zip(row, wanted, strict=True):
        if placed:
            x = max(x, placed[-1] + (widths[row[len(placed) - 1]] + widths[number]) / 2 + _GAP)
        placed.append(x)
    shift = _mean([x - target for x, target in zip(placed, wanted, strict=True)], 0.0)
    centers |= dict(zip(row, (x - shift for x in placed), strict=True))
