"""Whether a loop runs over the whole of its sequence, for a length that is fixed and for one that is open."""

import numpy as np

from lstm_toolkit.passes.loops.body import LstmLoop, Mismatch
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.recurrent import FUSED_OPS
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT


def check_length(model: Model, subgraph: Subgraph, operator: Operator, loop: LstmLoop) -> None:
    """Checks that a loop runs as many steps as its sequence and its list of outputs have.

    Args:
        model: the file.
        subgraph: that has the loop.
        operator: the WHILE.
        loop: what it computes.

    Raises:
        Mismatch: if it does not, or the file does not tell.
    """
    sequence, outputs = operator.inputs[loop.sequence], operator.inputs[loop.outputs]
    (steps, length) = (graph.shape_of(subgraph.tensors[index])[0] for index in (sequence, outputs))
    numbers, computed = [], []
    for bound in loop.bounds:
        index = ABSENT if isinstance(bound, int) else operator.inputs[bound.index]
        values = np.array(bound) if isinstance(bound, int) else graph.constant(model, subgraph.tensors[index])
        if values is None:
            computed.append(index)
        else:
            numbers.append(int(values.reshape(())))
    if steps > 0:
        if computed or min(numbers) != steps:
            count = "a computed number of" if computed else min(numbers)
            raise Mismatch(f"it runs {count} steps over a sequence of {steps}")
        if loop.keeps_all and length != steps:
            raise Mismatch(f"its list of outputs has {length} places for {steps} steps")
        return
    measure = _Measure(model, subgraph)
    same = measure.axis(sequence, 0)
    if numbers or any(measure.size(index) != same for index in computed):
        raise Mismatch("the number of its steps is not the length of its sequence, as far as the file tells")
    if loop.keeps_all and measure.filled(outputs) != same:
        raise Mismatch("its list of outputs is not as long as its sequence, as far as the file tells")


class _Measure:
    """Follows an open size back to where it comes from, given as (tensor, axis)."""

    def __init__(self, model: Model, subgraph: Subgraph) -> None:
        self.model, self.subgraph, self.producers = model, subgraph, graph.producers(subgraph)

    def axis(self, tensor: int, axis: int) -> tuple[int, int]:
        """The axis from which this one has its length."""
        for _ in self.subgraph.operators:
            op = self.producers.get(tensor)
            if op is None:
                break
            name = graph.operator_name(self.model, op)
            if name == "TRANSPOSE":
                permutation = graph.constant(self.model, self.subgraph.tensors[op.inputs[1]])
                if permutation is None or not axis < permutation.size:
                    break
                axis = int(permutation[axis])
            elif name not in _KEEPING_LENGTH or axis > 1:
                break
            tensor = op.inputs[0]
        return tensor, axis

    def size(self, scalar: int) -> tuple[int, int] | None:
        """The axis whose size a number of shape [] or [1] is; None if the number is something else."""
        op = self._made_by(scalar, "RESHAPE")
        op = self._made_by(scalar if op is None else op.inputs[0], "STRIDED_SLICE")
        if op is None or op.builtinOptions.shrinkAxisMask != 1 or op.builtinOptions.beginMask:
            return None
        shape = self._made_by(op.inputs[0], "SHAPE")
        begin = graph.constant(self.model, self.subgraph.tensors[op.inputs[1]])
        if shape is None or begin is None or begin.shape != (1,) or begin[0] < 0:
            return None
        return self.axis(shape.inputs[0], int(begin[0]))

    def filled(self, tensor: int) -> tuple[int, int] | None:
        """The axis that is as long as the first one of a filled tensor."""
        fill = self._made_by(tensor, "FILL")
        dimensions = None if fill is None else self._made_by(fill.inputs[0], "CONCATENATION")
        return None if dimensions is None else self.size(dimensions.inputs[0])

    def _made_by(self, tensor: int, name: str) -> Operator | None:
        op = self.producers.get(tensor)
        return op if op is not None and graph.operator_name(self.model, op) == name else None


_KEEPING_LENGTH = {*FUSED_OPS.values(), "REVERSE_V2", "TANH", "RELU", "LOGISTIC", "GELU", "ELU", "RELU6"}
"""Operators whose output is as long as their input along the first two axes."""
