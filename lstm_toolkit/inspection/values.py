"""The parts of what `inspect` returns: tensors, operators, subgraphs, signatures and LSTM ops, as frozen values."""

import dataclasses
import math
from typing import Any

from lstm_toolkit.escapes import printable
from lstm_toolkit.weights.gate_weights import GateWeights

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
            "tensors": jsonable(self.tensors),
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
        return dict(jsonable(fields))


@dataclasses.dataclass(frozen=True)
class UnrolledLayer:
    """A recurrent layer whose steps are laid out as ops, one by one.

    From the second step on, all steps are the same ops with the same constants. The first one may be shorter, since
    what starts from zeros need not be computed.

    Attributes:
        name: of the layer, as the names of tensors tell it, or else `unrolled`.
        cell: "LSTM".
        steps: how many there are; at least three.
        units: number of cells.
        ops: indices of the operators that a single step needs, in the order in which they run; what several steps
            share, as the product of all steps with the input weights, is not among them.
        subgraph: index of the subgraph.
    """

    name: str
    cell: str
    steps: int
    units: int
    ops: tuple[int, ...]
    subgraph: int = 0

    def __str__(self) -> str:
        return f"{self.cell}, {self.steps:,} steps, {len(self.ops):,} ops"


def shown_name(name: str) -> str:
    """A name cut to what fits a table, what does not show as escapes."""
    start = printable(name[:_LONGEST_NAME])
    return start if len(name) <= _LONGEST_NAME else f"{start[: _LONGEST_NAME - 3]}..."


def shape_text(tensor: TensorSummary) -> str:
    """The shape as a list, -1 where it is dynamic."""
    return str(list(tensor.shape))


def jsonable(value: Any) -> Any:
    """A value as JSON can hold it: dataclasses by field, numbers that are not finite as null."""
    if dataclasses.is_dataclass(value):
        return {name: jsonable(each) for name, each in vars(value).items()}
    if isinstance(value, dict):
        return {name: jsonable(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [jsonable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
