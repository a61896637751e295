"""Pass: no int8 sum or difference has an output so fine beside its inputs that its kernel ends the process.

    before  [SUB int8: inputs at a scale of 1e-2, output at 1e-9]
    after   [SUB int8: inputs at a scale of 1e-2, output at 4e-8] [QUANTIZE: to 1e-9]

Nearly equal numbers, one taken from the other, leave a range that is far narrower than a step of the inputs. Nothing is
lost: the result has no more digits than the inputs. Source: `QuantizeMultiplierSmallerThanOneExp`, as it is called in
`tflite/kernels/add.cc`, `sub.cc` and `squared_difference.cc`.
"""

from collections.abc import Callable

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph

_MARGIN = 2

_FINEST: dict[str, Callable[[float], float]] = {
    "ADD": lambda largest: 2.0**-19 * largest,
    "SUB": lambda largest: 2.0**-19 * largest,
    "SQUARED_DIFFERENCE": lambda largest: 2.0**-12 * largest**2,
}
"""For each op the scale above which the one of its output must be, by the larger scale of its inputs."""


def coarsen(model: Model) -> int:
    """Gives such sums of a `ModelT` a coarser output, in place; returns their number."""
    count = 0
    for subgraph in model.subgraphs:
        operators = []
        for operator in subgraph.operators:
            after = _rescaled(model, subgraph, operator)
            operators += [operator, *after]
            count += len(after)
        subgraph.operators = operators
    return count


def _rescaled(model: Model, subgraph: Subgraph, operator: Operator) -> list[Operator]:
    finest = _FINEST.get(graph.operator_name(model, operator))
    wanted = operator.outputs[0] if finest else 0
    if finest is None or subgraph.tensors[wanted].type != schema.TensorType.INT8:
        return []
    scale, zero_point = graph.scale_of(subgraph.tensors[wanted])
    least = _MARGIN * finest(max(graph.scale_of(subgraph.tensors[index])[0] for index in operator.inputs))
    if scale >= least:
        return []
    operator.outputs = [edit.like(subgraph, wanted, "coarse", quantization=edit.scaled(least, zero_point))]
    return [edit.new_operator(model, "QUANTIZE", [operator.outputs[0]], [wanted])]
