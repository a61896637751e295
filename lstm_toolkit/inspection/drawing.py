"""`draw`: the graph of a `.tflite` file as a static SVG with a text alternative."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from lstm_toolkit.display.images import SVG, image
from lstm_toolkit.escapes import in_html
from lstm_toolkit.inspection.merged import in_order, merged
from lstm_toolkit.inspection.placement import Placement, place
from lstm_toolkit.inspection.values import (
    LstmNode,
    OpSummary,
    SubgraphSummary,
    TensorSummary,
    UnrolledLayer,
    shape_text,
    shown_name,
)
from lstm_toolkit.tflite.files import write_whole

MOST_OPERATORS = 60
"""Operators that are drawn one by one; in a larger graph runs of operators become one box, and the rest is left out."""

_MOST_ENDS = 12
_MOST_EDGES = 400
_MOST_PARALLEL = 4
_MARGIN, _LINE, _GAP = 16, 15, 52
_CHARACTER = 7.4

_Ends = tuple[Sequence[TensorSummary], Sequence[TensorSummary]]
_Known = dict[int, LstmNode | UnrolledLayer]
_Layers = tuple[Sequence[LstmNode], Sequence[UnrolledLayer]]

_COLORS = {
    "end": ("#ffffff", "#5f6368"),
    "lstm": ("#cfe3ff", "#0b57a4"),
    "loop": ("#dff3df", "#1e6b2c"),
    "state": ("#fff0c2", "#8a5a00"),
    "op": ("#f1f3f4", "#5f6368"),
}


_LEGIBLE = 0.75
"""How small a drawing may be shown."""


@dataclasses.dataclass(frozen=True, repr=False)
class Drawing:
    """A drawing that a notebook shows.

    Attributes:
        svg: the drawing, one `<svg>` element.
        alt: what it shows, in words.
        width: of the drawing, in pixels.
    """

    svg: str
    alt: str
    width: float

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        return self.html("Drawing")

    def html(self, label: str) -> str:
        """The drawing as HTML. Where the page is narrow it shrinks as long as it can be read, and then scrolls.

        Args:
            label: what a screen reader calls the place that scrolls.
        """
        style = f"max-width: max(100%, {_LEGIBLE * self.width:.0f}px); height: auto"
        picture = image(self.svg.encode(), SVG, self.alt, style)
        return f'<div role="region" aria-label="{in_html(label)}" tabindex="0" style="overflow-x: auto">{picture}</div>'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the SVG.

        Raises:
            OSError: as writing does; nothing is left behind then.
        """
        write_whole(path, self.svg.encode())


@dataclasses.dataclass(frozen=True)
class _Box:
    """One or several operators, or an input or output of the graph."""

    lines: tuple[str, ...]
    kind: str
    takes: tuple[TensorSummary, ...]
    gives: tuple[TensorSummary, ...]

    @property
    def width(self) -> float:
        labels = sum(len(shape_text(each)) + 2 for each in self.gives[:4])
        return max(64.0, _CHARACTER * max(*map(len, self.lines), 0.8 * labels) + 20)

    @property
    def height(self) -> float:
        return _LINE * len(self.lines) + 12


@dataclasses.dataclass(frozen=True)
class _Edge:
    """An arrow between two boxes, which stands for tensors of which one is drawn."""

    source: int
    target: int
    tensor: TensorSummary
    count: int = 1

    @property
    def label(self) -> str:
        return f"{self.count:,} x {shape_text(self.tensor)}" if self.count > 1 else shape_text(self.tensor)


def draw(subgraphs: Sequence[SubgraphSummary], number: int, *, layers: _Layers, ends: _Ends) -> Drawing:
    """Draws a subgraph of a `.tflite` file: operators as boxes from top to bottom, tensors as arrows with their shapes.

    LSTM ops are blue and say their units, layout and state; what sets states is yellow and its arrows are dashed;
    loops are green, and so is an unrolled layer, which is one box. Constants are not drawn.

    Args:
        subgraphs: all of the file.
        number: index of the one to draw; 0 is the main one.
        layers: its LSTM ops, and its unrolled layers.
        ends: its inputs and its outputs.
    """
    graph = subgraphs[number]
    boxes, left_out = _boxes(subgraphs, graph, ends, layers)
    alt = _description(graph, ends, layers, number, left_out)
    edges = _edges(boxes)
    placement = place([box.width for box in boxes], [(edge.source, edge.target) for edge in edges])
    note = f"{left_out:,} more operators are left out." if left_out else ""
    return Drawing(_svg(boxes, edges, placement, alt, note), alt, _width(placement))


def _boxes(
    subgraphs: Sequence[SubgraphSummary], graph: SubgraphSummary, ends: _Ends, layers: _Layers
) -> tuple[list[_Box], int]:
    """Boxes in the order in which they run, and the number of operators that none of them stands for."""
    known: _Known = {node.index: node for node in layers[0]}
    ops = in_order(merged(graph, layers[1])) if layers[1] else None
    known |= {layer.ops[0]: layer for layer in layers[1]} if ops is not None else {}
    runs: list[list[OpSummary]] = [[op] for op in ops or graph.ops]
    if len(runs) > MOST_OPERATORS:
        runs = _condensed(runs, known)
    shown = runs[:MOST_OPERATORS]
    inputs = [_Box(("input", shown_name(t.name), t.dtype), "end", (), (t,)) for t in ends[0][:_MOST_ENDS]]
    outputs = [_Box(("output", shown_name(t.name), t.dtype), "end", (t,), ()) for t in ends[1][:_MOST_ENDS]]
    boxes = [*inputs, *(_box(subgraphs, run, known) for run in shown), *outputs]
    return boxes, sum(_size(op, known) for run in runs[MOST_OPERATORS:] for op in run)


def _size(op: OpSummary, known: _Known) -> int:
    layer = known.get(op.index)
    return len(layer.ops) if isinstance(layer, UnrolledLayer) else 1


def _condensed(ops: list[list[OpSummary]], known: _Known) -> list[list[OpSummary]]:
    """Runs of operators of which each takes what the one before gives, cut at LSTMs, loops and states."""

    def is_plain(op: OpSummary) -> bool:
        return op.index not in known and not op.subgraphs and not _sets_state(op)

    runs: list[list[OpSummary]] = []
    for (op,) in ops:
        before = runs[-1][-1] if runs else None
        if before and is_plain(before) and is_plain(op) and _indices(before.outputs) & _indices(op.inputs):
            runs[-1].append(op)
        else:
            runs.append([op])
    return runs


def _indices(tensors: Iterable[TensorSummary | None]) -> set[int | None]:
    return {tensor.index for tensor in tensors if tensor is not None}


def _box(subgraphs: Sequence[SubgraphSummary], run: list[OpSummary], known: _Known) -> _Box:
    op, takes = run[0], [each for op in run for each in op.inputs if each is not None and each.role != "constant"]
    gives = [each for op in run for each in op.outputs if each is not None]
    takes = [each for each in takes if len(run) == 1 or each.index not in _indices(gives)]
    kind, lines = "op", [shown_name(op.name)]
    layer = known.get(op.index)
    if len(run) > 1:
        names = Counter(each.name for each in run).most_common(2)
        lines = [f"{len(run)} ops", ", ".join(f"{shown_name(name)} {count}" for name, count in names)]
    elif isinstance(layer, LstmNode):
        kind = "lstm"
        lines += [shown_name(layer.name), f"{layer.units} units, {layer.layout}", f"state: {layer.state}"]
    elif layer is not None:
        kind = "loop"
        lines += [shown_name(layer.name), f"{layer.units} units, unrolled"]
    elif op.name == "WHILE":
        body = len(subgraphs[op.subgraphs[-1]].ops)
        kind = "loop"
        lines += [f"body: subgraph {op.subgraphs[-1]}, {body} ops"]
        lines += [f"{op.turns:,} turns"] if op.turns is not None else []
    elif _sets_state(op):
        kind = "state"
        lines += [shown_name(each.name) for each in gives[:2]]
    return _Box(tuple(lines), kind, tuple(takes), tuple(gives))


def _sets_state(op: OpSummary) -> bool:
    return any(tensor is not None and tensor.role == "variable" for tensor in op.outputs)


def _edges(boxes: Sequence[_Box]) -> list[_Edge]:
    """The arrows: from the box that gave a tensor last to one that takes it; a bundle of many becomes one arrow."""
    made: dict[int | None, int] = {}
    bundles: dict[tuple[int, int], dict[int | None, TensorSummary]] = {}
    for number, box in enumerate(boxes):
        for tensor in box.takes:
            if tensor.index in made:
                bundles.setdefault((made[tensor.index], number), {})[tensor.index] = tensor
        made |= {tensor.index: number for tensor in box.gives}
    edges = []
    for (source, target), bundle in bundles.items():
        tensors = list(bundle.values())
        is_bundle = len(tensors) > _MOST_PARALLEL and len({shape_text(each) for each in tensors}) == 1
        drawn = [tensors[len(tensors) // 2]] if is_bundle else tensors
        edges += [_Edge(source, target, each, len(tensors) if is_bundle else 1) for each in drawn]
    return edges[:_MOST_EDGES]


def _description(graph: SubgraphSummary, ends: _Ends, layers: _Layers, number: int, left_out: int) -> str:
    def named(tensors: Sequence[TensorSummary]) -> str:
        shown = ", ".join(f"{shown_name(each.name)} {shape_text(each)}" for each in tensors[:_MOST_ENDS])
        return shown + (" and more" if len(tensors) > _MOST_ENDS else "")

    ops = ", ".join(f"{shown_name(name)} {n}" for name, n in Counter(op.name for op in graph.ops).most_common(20))
    parts = [
        f"Graph of the {'main subgraph' if number == 0 else f'subgraph {number}'}.",
        f"From {named(ends[0]) or 'nothing'} to {named(ends[1]) or 'nothing'}.",
        f"{len(graph.ops):,} operators: {ops}.",
        *(
            f"{shown_name(n.name)}: {n.op}, {n.units} units, {n.layout}, state {n.state}."
            for n in layers[0][:_MOST_ENDS]
        ),
        *(f"{shown_name(each.name)}: {each}, {each.units} units." for each in layers[1][:_MOST_ENDS]),
    ]
    return " ".join([*parts, f"{left_out:,} operators are not drawn."] if left_out else parts)


def _width(placed: Placement) -> float:
    return placed.width + 2 * _MARGIN + 60


def _svg(boxes: list[_Box], edges: list[_Edge], placed: Placement, alt: str, note: str) -> str:
    tops, y = [], float(_MARGIN)
    for layer in range(max(placed.layers, default=-1) + 1):
        tops.append(y)
        y += max((box.height for n, box in enumerate(boxes) if placed.layers[n] == layer), default=0.0) + _GAP
    places = {n: (placed.centers[n] + _MARGIN, tops[placed.layers[n]]) for n in range(len(boxes))}
    width, height = _width(placed), y - _GAP + _MARGIN + (24 if note else 0)
    shapes = [_arrow(boxes, places, tops, placed, edge) for edge in edges]
    shapes += [_rectangle(box, *places[number]) for number, box in enumerate(boxes)]
    shapes += _labels(boxes, edges, places)
    shapes += [_text(width / 2, height - 12, note, "#202124", 12)] if note else []
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{in_html(alt)}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'font-family="DejaVu Sans, Verdana, sans-serif">'
        f"<title>Graph of the model</title><desc>{in_html(alt)}</desc>"
        f'<rect width="100%" height="100%" rx="8" fill="#ffffff"/>{"".join(shapes)}</svg>'
    )


def _rectangle(box: _Box, x: float, y: float) -> str:
    fill, stroke = _COLORS[box.kind]
    radius = box.height / 2 if box.kind == "end" else 7
    frame = (
        f'<rect x="{x - box.width / 2:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
        f'rx="{radius:.1f}" fill="{fill}" stroke="{stroke}" stroke-width="{2 if box.kind == "lstm" else 1}"/>'
    )
    lines = [
        _text(x, y + _LINE * (place + 1) + 2, line, "#202124", 11, _BOLD if place == 0 else "")
        for place, line in enumerate(box.lines)
    ]
    return frame + "".join(lines)


def _arrow(boxes: list[_Box], places: dict[int, Any], tops: list[float], placed: Placement, edge: _Edge) -> str:
    source, target, tensor = edge.source, edge.target, edge.tensor
    x, y = _port(boxes[source], places[source], tensor)
    end_x, end_y = places[target][0] + _offset(boxes[target], tensor), places[target][1]
    points = [(x, y)]
    for step, passing in enumerate(placed.passing[source, target], placed.layers[source] + 1):
        points += [(passing + _MARGIN, tops[step]), (passing + _MARGIN, tops[step + 1] - _GAP)]
    points.append((end_x, end_y - 5))
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        path += f" C{x0:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}"
    is_state = tensor.role == "variable"
    color, dashes = ("#8a5a00", ' stroke-dasharray="5 3"') if is_state else ("#5f6368", "")
    head = f"{end_x - 4:.1f},{end_y - 7:.1f} {end_x + 4:.1f},{end_y - 7:.1f} {end_x:.1f},{end_y:.1f}"
    return f'<path d="{path}" fill="none" stroke="{color}"{dashes}/><polygon points="{head}" fill="{color}"/>'


def _port(box: _Box, place: tuple[float, float], tensor: TensorSummary) -> tuple[float, float]:
    """Where an arrow leaves a box: the outputs share its lower side."""
    indices = [each.index for each in box.gives]
    share = (indices.index(tensor.index) + 0.5) / len(indices) - 0.5
    return place[0] + share * box.width, place[1] + box.height


def _offset(box: _Box, tensor: TensorSummary) -> float:
    """Where on the upper side of a box an arrow ends, from its middle."""
    indices = list(dict.fromkeys(each.index for each in box.takes))
    return ((indices.index(tensor.index) + 0.5) / len(indices) - 0.5) * box.width * 0.7


def _labels(boxes: list[_Box], edges: list[_Edge], places: dict[int, Any]) -> list[str]:
    """The shape of each tensor that is drawn, once, beside where its arrow starts."""
    drawn = {(edge.source, edge.tensor.index): edge for edge in edges}
    labels = []
    for edge in drawn.values():
        x, y = _port(boxes[edge.source], places[edge.source], edge.tensor)
        labels.append(_text(x + 5, y + 13, edge.label[:40], "#3c4043", 10, _HALO))
    return labels


_BOLD = ' font-weight="bold"'
_HALO = ' stroke="#ffffff" stroke-width="3" paint-order="stroke"'


def _text(x: float, y: float, line: str, color: str, size: int, style: str = "") -> str:
    """A line of text: centred on x, or with a halo starting at x."""
    anchor = "start" if style == _HALO else "middle"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{style}>'
        f"{in_html(line)}</text>"
    )
