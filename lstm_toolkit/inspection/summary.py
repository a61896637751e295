"""`ModelSummary`: what `inspect` returns, which shows itself as text, as HTML and as JSON."""

import dataclasses
from collections import Counter
from typing import Any

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.escapes import in_html
from lstm_toolkit.inspection.drawing import Drawing, draw
from lstm_toolkit.inspection.memory import Memory
from lstm_toolkit.inspection.merged import merged
from lstm_toolkit.inspection.values import (
    LstmNode,
    OpSummary,
    SignatureSummary,
    SubgraphSummary,
    TensorSummary,
    UnrolledLayer,
    jsonable,
    shape_text,
    shown_name,
)

MOST_ROWS = 1000
"""Rows of the operator table that are shown; `to_dict` has all."""

_MOST_SHOWN = 6


@dataclasses.dataclass(frozen=True, repr=False)
class ModelSummary(Tabular):
    """What is in a `.tflite` file. It shows itself as tables; `drawing()` draws a subgraph.

    Attributes:
        subgraphs: all of them; the first is the main one, the others are bodies and conditions of loops and branches.
        signatures: the ways of calling the file.
        lstm_nodes: the fused LSTM ops in the order in which they run.
        inputs, outputs: of the first signature, or of the main subgraph where there is none.
        size: bytes of the file.
        memory: bytes of weights and states, and how many the arena needs at least.
        unrolled_layers: recurrent layers whose steps are laid out as ops, in the order in which they begin.
    """

    subgraphs: tuple[SubgraphSummary, ...]
    signatures: tuple[SignatureSummary, ...]
    lstm_nodes: tuple[LstmNode, ...]
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    size: int
    memory: Memory
    unrolled_layers: tuple[UnrolledLayer, ...] = ()

    @property
    def subgraph_ops(self) -> tuple[Counter[str], ...]:
        """Number of operators by name, for each subgraph."""
        return tuple(Counter(op.name for op in subgraph.ops) for subgraph in self.subgraphs)

    @property
    def ops(self) -> Counter[str]:
        """Number of operators by name, over all subgraphs."""
        return sum(self.subgraph_ops, Counter())

    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds of one call of the main subgraph; None where the file does not tell."""
        return self.subgraphs[0].multiply_adds

    def drawing(self, *, subgraph: int = 0) -> Drawing:
        """Draws a subgraph as SVG.

        Args:
            subgraph: its index; 0 is the main one.

        Raises:
            IndexError: if there is no such subgraph.
        """
        interface = next((each for each in self.signatures if each.subgraph == subgraph), self.subgraphs[subgraph])
        nodes = [node for node in self.lstm_nodes if node.subgraph == subgraph]
        layers = [layer for layer in self.unrolled_layers if layer.subgraph == subgraph]
        return draw(self.subgraphs, subgraph, layers=(nodes, layers), ends=(interface.inputs, interface.outputs))

    def tables(self) -> tuple[Table, ...]:
        """The summary as tables: interface, operators, memory, LSTM nodes and unrolled layers if there are any."""
        interface = [
            (kind, shown_name(tensor.name), shape_text(tensor), tensor.dtype)
            for kind, tensors in (("input", self.inputs), ("output", self.outputs))
            for tensor in tensors
        ]
        interface += [
            ("signature", shown_name(each.key), f"{len(each.inputs)} in, {len(each.outputs)} out", "")
            for each in self.signatures[1:]
        ]
        counts = [(shown_name(op), count) for op, count in sorted(self.ops.items())]
        tables = [
            Table(f"Interface ({self.size:,} bytes)", ("kind", "name", "shape", "dtype"), interface[:MOST_ROWS]),
            Table("Operators", ("op", "count"), counts[:MOST_ROWS]),
            self.cost_table(),
        ]
        if self.lstm_nodes:
            header = ("name", "op", "input", "units", "layout", "activation", "clip", "state", "weights", "variants")
            rows = [
                (
                    *(shown_name(n.name), n.op, n.input_size, n.units, n.layout, n.activation, n.cell_clip, n.state),
                    f"{n.weight_dtype}, {n.weight_bytes:,} bytes",
                    ", ".join(n.variants),
                )
                for n in self.lstm_nodes[:MOST_ROWS]
            ]
            tables.append(Table("LSTM ops", header, rows))
        if self.unrolled_layers:
            layers = self.unrolled_layers[:MOST_ROWS]
            unrolled = [
                (shown_name(each.name), each.cell, each.units, each.steps, f"{len(each.ops):,}") for each in layers
            ]
            tables.append(Table("Unrolled layers", ("name", "cell", "units", "steps", "ops"), unrolled))
        return tuple(tables)

    def cost_table(self) -> Table:
        """Memory and multiply-adds; what the file does not tell is "unknown"."""
        rows = [
            ("weights, bytes", _count(self.memory.weights)),
            ("states, bytes", _count(self.memory.variables)),
            ("arena, bytes at least (largest live size, without temporaries)", _count(self.memory.largest_live)),
            ("multiply-adds of a call", _count(self.multiply_adds)),
        ]
        return Table("Cost", ("what", "amount"), rows)

    def op_table(self) -> Table:
        """Every operator of every subgraph with its shapes, and its multiply-adds in one run of the subgraph.

        The operators of an unrolled layer are one row, in the place of the first.
        """
        every = [
            (number, op)
            for number, subgraph in enumerate(self.subgraphs)
            for op in merged(subgraph, [each for each in self.unrolled_layers if each.subgraph == number])
        ]
        rows = [
            (number, op.index, shown_name(op.name), _shapes(op.inputs), _shapes(op.outputs), _work(op))
            for number, op in every[:MOST_ROWS]
        ]
        left_out = f", the first {MOST_ROWS:,}" if len(every) > MOST_ROWS else ""
        header = ("subgraph", "index", "op", "inputs", "outputs", "multiply-adds")
        total = sum(len(subgraph.ops) for subgraph in self.subgraphs)
        return Table(f"All {total:,} operators{left_out}", header, rows)

    def to_dict(self) -> dict[str, Any]:
        """The summary as values that JSON can hold; numbers that are not finite become null."""
        return {
            "size": self.size,
            "inputs": jsonable(self.inputs),
            "outputs": jsonable(self.outputs),
            "signatures": jsonable(self.signatures),
            "ops": dict(sorted(self.ops.items())),
            "memory": dataclasses.asdict(self.memory),
            "multiply_adds": self.multiply_adds,
            "lstm_nodes": [node.to_dict() for node in self.lstm_nodes],
            "unrolled_layers": jsonable(self.unrolled_layers),
            "subgraphs": [subgraph.to_dict() for subgraph in self.subgraphs],
        }

    def _repr_html_(self) -> str:
        table = self.op_table()
        body = dataclasses.replace(table, title="")._repr_html_()
        details = f"<details><summary>{in_html(table.title)}</summary>{body}</details>"
        return super()._repr_html_() + details


def _shapes(tensors: tuple[TensorSummary | None, ...]) -> str:
    shown = ["-" if tensor is None else shape_text(tensor) for tensor in tensors[:_MOST_SHOWN]]
    return " ".join(shown) + (f" and {len(tensors) - _MOST_SHOWN} more" if len(tensors) > _MOST_SHOWN else "")


def _work(op: OpSummary) -> str:
    if op.multiply_adds is None and op.multiply_adds_per_turn is not None:
        return f"{op.multiply_adds_per_turn:,} a turn"
    if op.turns is not None:
        return f"{_count(op.multiply_adds)} in {op.turns:,} turns"
    return _count(op.multiply_adds)


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"
