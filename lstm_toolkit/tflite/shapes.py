"""Fills in shapes that a file leaves to the runtime, whose kernels work out the shapes of their outputs themselves."""

from collections.abc import Sequence

from lstm_toolkit.tflite.graph import listed, shape_of
from lstm_toolkit.tflite.types import Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT, OPERANDS_OF

_SAME_SHAPE = {"CAST", "DEQUANTIZE", "LOGISTIC", "QUANTIZE", "RELU", "REVERSE_V2", "SOFTMAX", "TANH", "ZEROS_LIKE"}
"""Ops whose output has the shape of the first input."""


def fill_in_shapes(name: str, op: Operator, subgraph: Subgraph) -> None:
    """Gives the outputs of an op their shapes, in place, where the stored ones have another number of axes, or none.

    A tensor without a stored shape looks like a scalar, which no recurrent op takes or gives; one with a false number
    of axes hides what a kernel will not take. What stands between recurrent ops is followed as far as stacks and
    quantized files need it.

    Args:
        name: of the op.
        op: the op; an LSTM of the older kind has other operands and is left alone.
        subgraph: that has the op.
    """
    if ABSENT in (*op.inputs[:1], *op.outputs) or not op.inputs:
        return
    shapes = _output_shapes(name, op, subgraph)
    tensors = [subgraph.tensors[index] for index in op.outputs]
    for tensor, shape in zip(tensors, shapes, strict=True) if len(shapes) == len(tensors) else ():
        if len(listed(tensor.shape)) != len(shape):
            tensor.shape, tensor.hasRank = [1 if size < 0 else size for size in shape], True
            tensor.shapeSignature = list(shape) if -1 in shape else None


def _output_shapes(name: str, op: Operator, subgraph: Subgraph) -> list[Sequence[int]]:
    """The shape of each output, -1 where a size is open; empty where it is not known."""
    first = shape_of(subgraph.tensors[op.inputs[0]])
    if not first:
        return []
    if name in _SAME_SHAPE:
        return [first]
    if name in OPERANDS_OF:
        sizes = _output_sizes(name, op, subgraph)
        return [(*first[:-1], size) for size in (sizes if len(op.outputs) == len(sizes) else [sum(sizes)])]
    if name != "CONCATENATION":
        return []
    inputs = [shape_of(subgraph.tensors[index]) for index in op.inputs if index != ABSENT]
    if len({len(shape) for shape in inputs}) == 1:
        axis, joined = op.builtinOptions.axis % len(first), list(first)
        sizes = [shape[axis] for shape in inputs]
        joined[axis] = -1 if -1 in sizes else sum(sizes)
        return [joined]
    return []


def _output_sizes(name: str, op: Operator, subgraph: Subgraph) -> list[int]:
    """The size of an output step of each direction of a recurrent op: the rows of its projection or other weights."""
    pairs = zip(OPERANDS_OF[name], op.inputs, strict=False)
    rows = {
        operand: shape_of(subgraph.tensors[index])[0]
        for operand, index in pairs
        if index != ABSENT and operand != "input"
    }
    sizes = []
    for direction in ("", "forward_", "backward_"):
        names = (direction + each for each in ("projection_weights", "input_to_forget_weights", "weights"))
        sizes += [rows[each] for each in names if each in rows][:1]
    return sizes
