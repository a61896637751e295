"""What the int16 kernels of LiteRT and TensorFlow Lite Micro take for granted of each op.

All zero points are 0. Ops that are missing here have no int16 kernel in one of the two, or one that gives other numbers
there. Sources: the `Prepare` functions of `tflite/kernels` and of `tensorflow/lite/micro/kernels`.
"""

import dataclasses
from enum import Enum

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT

UNIT = 2.0**-15
"""The scale that the kernels of LOGISTIC, TANH and SOFTMAX ask of their outputs."""


class Scales(Enum):
    """How the scale of an op's outputs depends on those of the data that it takes."""

    FREE = "the kernel rescales"
    SAME = "the kernel moves or compares stored numbers"
    JOINED = "the same; what has another scale is rescaled before"
    UNIT = "the output has the scale `UNIT`"


@dataclasses.dataclass(frozen=True)
class Rule:
    """The int16 form of an op.

    Attributes:
        scales: of its outputs.
        data: the first of its inputs that are int16, and the one behind the last; None is behind all.
        channels: for an op whose input 1 are int8 weights and input 2 an int64 bias, the axis of the weights that
            counts the outputs; None for others.
        is_table: whether the op takes rows out of its input 0, a constant that becomes int8.
    """

    scales: Scales
    data: tuple[int, int | None] = (0, 1)
    channels: int | None = None
    is_table: bool = False


_PAIR, _ALL = (0, 2), (0, None)

RULES = {
    "ADD": Rule(Scales.FREE, _PAIR),
    "SUB": Rule(Scales.FREE, _PAIR),
    "MUL": Rule(Scales.FREE, _PAIR),
    "BATCH_MATMUL": Rule(Scales.FREE, _PAIR),
    "FULLY_CONNECTED": Rule(Scales.FREE, channels=0),
    "CONV_2D": Rule(Scales.FREE, channels=0),
    "DEPTHWISE_CONV_2D": Rule(Scales.FREE, channels=3),
    "MEAN": Rule(Scales.FREE),
    "RELU": Rule(Scales.FREE),
    "LEAKY_RELU": Rule(Scales.FREE),
    "LOGISTIC": Rule(Scales.UNIT),
    "TANH": Rule(Scales.UNIT),
    "SOFTMAX": Rule(Scales.UNIT),
    "MINIMUM": Rule(Scales.SAME, _PAIR),
    "MAXIMUM": Rule(Scales.SAME, _PAIR),
    "RELU6": Rule(Scales.SAME),
    "RESHAPE": Rule(Scales.SAME),
    "TRANSPOSE": Rule(Scales.SAME),
    "REVERSE_V2": Rule(Scales.SAME),
    "SLICE": Rule(Scales.SAME),
    "STRIDED_SLICE": Rule(Scales.SAME),
    "SPLIT": Rule(Scales.SAME, (1, 2)),
    "UNPACK": Rule(Scales.SAME),
    "SQUEEZE": Rule(Scales.SAME),
    "EXPAND_DIMS": Rule(Scales.SAME),
    "PAD": Rule(Scales.SAME),
    "MAX_POOL_2D": Rule(Scales.SAME),
    "AVERAGE_POOL_2D": Rule(Scales.SAME),
    "RESIZE_NEAREST_NEIGHBOR": Rule(Scales.SAME),
    "SELECT_V2": Rule(Scales.SAME, (1, 3)),
    "DYNAMIC_UPDATE_SLICE": Rule(Scales.SAME, _PAIR),
    "PACK": Rule(Scales.SAME, _ALL),
    "CONCATENATION": Rule(Scales.JOINED, _ALL),
    # Micro's kernel knows no int16.
    "GATHER": Rule(Scales.FREE, (0, 0), is_table=True),
    "WHILE": Rule(Scales.SAME, _ALL),
}
"""The ops that have an int16 kernel in both runtimes; the two give the same numbers."""

_FUSED = (
    schema.ActivationFunctionType.NONE,
    schema.ActivationFunctionType.RELU,
    schema.ActivationFunctionType.RELU6,
)


def rule_of(model: Model, subgraph: Subgraph, operator: Operator) -> Rule | None:
    """The rule of an op in a float file, or None if it has no int16 form."""
    rule = RULES.get(graph.operator_name(model, operator))
    if rule is None or getattr(operator.builtinOptions, "fusedActivationFunction", 0) not in _FUSED:
        return None
    touched = [*data_of(subgraph, operator, rule), *floats_of(subgraph, operator.outputs)]
    if not touched or any(len(graph.shape_of(subgraph.tensors[index])) > _MOST_AXES for index in touched):
        return None
    if rule.is_table and (
        graph.float_constant(model, subgraph.tensors[operator.inputs[0]]) is None
        or subgraph.tensors[operator.inputs[1]].type != schema.TensorType.INT32
    ):
        return None
    if rule.channels is not None:
        operands = [subgraph.tensors[index] for index in operator.inputs[1:] if index != ABSENT]
        if any(graph.float_constant(model, each) is None for each in operands):
            return None
    return rule


_MOST_AXES = 5
"""Axes that the kernels of TensorFlow Lite Micro take."""


def data_of(subgraph: Subgraph, operator: Operator, rule: Rule) -> list[int]:
    """The inputs of an op that its int16 form has in int16."""
    return floats_of(subgraph, list(operator.inputs)[slice(*rule.data)])


def floats_of(subgraph: Subgraph, indices: list[int]) -> list[int]:
    """Those of some tensors that are float32."""
    return [
        int(index) for index in indices if index != ABSENT and subgraph.tensors[index].type == schema.TensorType.FLOAT32
    ]
