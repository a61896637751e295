"""What `inspect` returns: frozen values that show themselves as text, as HTML and as JSON."""

from __future__ import annotations

import dataclasses
import html
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from lstm_toolkit.display.tables import Table, Tabular, printable
from lstm_toolkit.inspection.memory import Memory
from lstm_toolkit.weights.gate_weights import GateWeights

if TYPE_CHECKING:
    from lstm_toolkit.inspection.drawing import Drawing

MOST_ROWS = 1000
"""Rows of the operator table that are shown; `to_dict` has all."""

_MOST_SHOWN = 6
_LONGEST_NAME = 60


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How the integers of a tensor stand for real numbers: (integer - zero_point) * scale.

    Attributes:
        scale: one for the tensor, or one for each index of `axis`.
        zero_point: as many.
        axis: the axis that has a scale for each index; None where one scale holds for all.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None


@dataclasses.dataclass(frozen=True)
class TensorSummary:
    """One tensor.

    Attributes:
        name: in the signature for inputs and outputs of a signature, else the tensor's own.
        shape: -1 where it is dynamic.
        dtype: as TensorFlow Lite spells it, in lower case.
        quantization: scales and zero points, None where it has none.
        index: its index in the subgraph.
        role: "constant", "variable" (it lives from call to call) or "computed".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    index: int | None = None
    role: str = "computed"


@dataclasses.dataclass(frozen=True)
class OpSummary:
    """One operator.

    Attributes:
        index: its place in the order in which the subgraph runs.
        name: of the builtin, or the custom code.
        inputs, outputs: None where an optional one is absent.
        multiply_adds: of one run; None where the file does not tell.
        turns: of a loop, how often its body runs; None where the file does not tell, and for other operators.
        multiply_adds_per_turn: of one turn of a loop; None where not known, and for other operators.
        subgraphs: indices of the subgraphs that it runs, as the condition and the body of a loop.
    """

    index: int
    name: str
    inputs: tuple[TensorSummary | None, ...]
    outputs: tuple[TensorSummary | None, ...]
    multiply_adds: int | None
    turns: int | None = None
    multiply_adds_per_turn: int | None = None
    subgraphs: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The operator as values that JSON can hold; tensors by their index in the subgraph, null where absent."""
        return vars(self) | {
            "inputs": [tensor and tensor.index for tensor in self.inputs],
            "outputs": [tensor and tensor.index for tensor in self.outputs],
            "subgraphs": list(self.subgraphs),
        }


@dataclasses.dataclass(frozen=True)
class SubgraphSummary:
    """One subgraph: the main one, or the condition or the body of a loop or a branch.

    Attributes:
        name: of the subgraph.
        tensors: all of them, by index.
        inputs, outputs: those that it takes and gives.
        ops: its operators in the order in which they run.
        multiply_adds: of one run; None where the file does not tell.
    """

    name: str
    tensors: tuple[TensorSummary, ...]
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    ops: tuple[OpSummary, ...]
    multiply_adds: int | None

    def to_dict(self) -> dict[str, Any]:
        """The subgraph as values that JSON can hold."""
        return {
            "name": self.name,
            "tensors": _jsonable(self.tensors),
            "inputs": [tensor.index for tensor in self.inputs],
            "outputs": [tensor.index for tensor in self.outputs],
            "ops": [op.to_dict() for op in self.ops],
            "multiply_adds": self.multiply_adds,
        }


@dataclasses.dataclass(frozen=True)
class SignatureSummary:
    """One signature: a way of calling the file, with named inputs and outputs.

    Attributes:
        key: its name.
        subgraph: index of the subgraph that it calls.
        inputs, outputs: with their names in the signature.
    """

    key: str
    subgraph: int
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]


@dataclasses.dataclass(frozen=True)
class LstmNode:
    """One fused LSTM op of a file.

    Attributes:
        name: name of the layer where lstm_toolkit wrote the file, else of the op's output state.
        op: the builtin's name.
        units: number of cells.
        layout: "batch_major" ([batch, time, ...]), "time_major" ([time, batch, ...]) or "step" ([batch, ...]).
        activation: of the cell; the gates are always sigmoid.
        cell_clip, proj_clip: bounds of the cell state and of the projected output; 0 for none.
        state: "reset" if every call starts from zero, "explicit" if the file sets it at each call, "carry" if a call
            starts where the last one ended.
        weights: the weights by gate, dequantized where they are stored quantized; of a bidirectional op, the forward
            ones.
        backward_weights: those of the backward half of a bidirectional op, else None.
        batch: rows of a call; None where it is dynamic.
        time_steps: of a call; None where it is dynamic, and for an op over one step.
        variants: what it has of "cifg", "peephole", "projection", "layer_norm", "diagonal" (recurrent weights that
            are vectors) and "bidirectional".
        operands: (operand name, tensor) for each operand that is there; dtype and quantization are the tensor's.
        intermediates: the tensors that hold the ranges of quantized internals, in the order of the op.
        weight_bytes: of the weights as they are stored; a buffer that several operands share counts once.
        subgraph, index: where the op stands.
    """

    name: str
    op: str
    units: int
    layout: str
    activation: str
    cell_clip: float
    proj_clip: float
    state: str
    weights: GateWeights
    backward_weights: GateWeights | None = None
    batch: int | None = None
    time_steps: int | None = None
    variants: tuple[str, ...] = ()
    operands: tuple[tuple[str, TensorSummary], ...] = ()
    intermediates: tuple[TensorSummary | None, ...] = ()
    weight_bytes: int = 0
    subgraph: int = 0
    index: int = 0

    @property
    def input_size(self) -> int:
        """Size of one input step."""
        return self.weights.input_size

    @property
    def output_size(self) -> int:
        """Size of one output step of one direction: `units`, or the size of the projection."""
        return self.weights.output_size

    @property
    def weight_dtype(self) -> str:
        """The dtype in which the input weights are stored."""
        return next((tensor.dtype for name, tensor in self.operands if "input_to_forget" in name), "unknown")

    def to_dict(self) -> dict[str, Any]:
        """The node as values that JSON can hold; of the weights, the shapes."""
        shown = ("operands", "intermediates", "weights", "backward_weights")
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in shown}
        fields |= {"input_size": self.input_size, "output_size": self.output_size}
        for name, weights in (("weights", self.weights), ("backward_weights", self.backward_weights)):
            if weights is not None:
                fields[name] = {operand: list(array.shape) for operand, array in weights.operands()}
        fields["operands"] = {name: {"tensor": each.index, "dtype": each.dtype} for name, each in self.operands}
        fields["intermediates"] = [tensor and tensor.index for tensor in self.intermediates]
        return dict(_jsonable(fields))


@dataclasses.dataclass(frozen=True, repr=False)
class ModelSummary(Tabular):
    """What is in a `.tflite` file. It shows itself as tables; `drawing()` draws the main subgraph.

    Attributes:
        subgraphs: all of them; the first is the main one, the others are bodies and conditions of loops and branches.
        signatures: the ways of calling the file.
        lstm_nodes: the fused LSTM ops in the order in which they run.
        inputs, outputs: of the first signature, or of the main subgraph where there is none.
        size: bytes of the file.
        memory: bytes of weights and states, and how many the arena needs at least.
    """

    subgraphs: tuple[SubgraphSummary, ...]
    signatures: tuple[SignatureSummary, ...]
    lstm_nodes: tuple[LstmNode, ...]
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    size: int
    memory: Memory

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

    def drawing(self) -> Drawing:
        """Draws the main subgraph as SVG."""
        from lstm_toolkit.inspection.drawing import draw

        return draw(self)

    def tables(self) -> tuple[Table, ...]:
        """The summary as tables: interface, operators, memory, and LSTM nodes if there are any."""
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
        """Every operator of every subgraph with its shapes, and its multiply-adds in one run of the subgraph."""
        every = [(number, op) for number, subgraph in enumerate(self.subgraphs) for op in subgraph.ops]
        rows = [
            (number, op.index, shown_name(op.name), _shapes(op.inputs), _shapes(op.outputs), _work(op))
            for number, op in every[:MOST_ROWS]
        ]
        left_out = f", the first {MOST_ROWS:,}" if len(every) > MOST_ROWS else ""
        header = ("subgraph", "index", "op", "inputs", "outputs", "multiply-adds")
        return Table(f"All {len(every):,} operators{left_out}", header, rows)

    def to_dict(self) -> dict[str, Any]:
        """The summary as values that JSON can hold; numbers that are not finite become null."""
        return {
            "size": self.size,
            "inputs": _jsonable(self.inputs),
            "outputs": _jsonable(self.outputs),
            "signatures": _jsonable(self.signatures),
            "ops": dict(sorted(self.ops.items())),
            "memory": dataclasses.asdict(self.memory),
            "multiply_adds": self.multiply_adds,
            "lstm_nodes": [node.to_dict() for node in self.lstm_nodes],
            "subgraphs": [subgraph.to_dict() for subgraph in self.subgraphs],
        }

    def _repr_html_(self) -> str:
        table = self.op_table()
        body = dataclasses.replace(table, title="")._repr_html_()
        details = f"<details><summary>{html.escape(table.title)}</summary>{body}</details>"
        return super()._repr_html_() + details


def shown_name(name: str) -> str:
    """A name cut to what fits a table, control characters as escapes."""
    start = printable(name[:_LONGEST_NAME].replace("\n", "\\n"))
    return start if len(name) <= _LONGEST_NAME else f"{start[: _LONGEST_NAME - 3]}..."


def shape_text(tensor: TensorSummary) -> str:
    """The shape as a list, -1 where it is dynamic."""
    return str(list(tensor.shape))


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


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {name: _jsonable(each) for name, each in vars(value).items()}
    if isinstance(value, dict):
        return {name: _jsonable(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_jsonable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
