"""Names the numbers that a subgraph computes, operator by operator, in one pass."""

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes.unrolled.elements import Names
from lstm_toolkit.passes.unrolled.evaluation import Evaluation, NotUnderstood
from lstm_toolkit.passes.unrolled.rules import RULES
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph

_FUSED = {
    schema.ActivationFunctionType.RELU: "RELU",
    schema.ActivationFunctionType.RELU6: "RELU6",
    schema.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1",
    schema.ActivationFunctionType.TANH: "TANH",
}


def evaluate(model: Model, subgraph: Subgraph) -> Evaluation:
    """Names all numbers of a subgraph whose file was read and checked.

    Raises:
        TooLarge: if it computes more numbers than can be named.
    """
    evaluation = Evaluation(model, subgraph)
    for operator in subgraph.operators:
        name = graph.operator_name(model, operator)
        outputs = [int(index) for index in operator.outputs]
        try:
            if any(subgraph.tensors[index].isVariable for index in outputs):
                raise NotUnderstood
            results = _results(evaluation, name, operator)
            evaluation.hold(sum(each.size for each in results))
        # What does not fit together raises here, and LiteRT refuses such a file.
        except (NotUnderstood, ValueError, IndexError, TypeError, AttributeError, OverflowError) as reason:
            for index in outputs:
                evaluation.give(index, str(reason) or name if isinstance(reason, NotUnderstood) else name)
            continue
        evaluation.names.update(zip(outputs, results, strict=True))
    return evaluation


def _results(evaluation: Evaluation, name: str, operator: Operator) -> list[Names]:
    if name not in RULES:
        raise NotUnderstood
    results = RULES[name](evaluation, operator)
    fused = getattr(operator.builtinOptions, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
    if fused != schema.ActivationFunctionType.NONE:
        if fused not in _FUSED:
            raise NotUnderstood
        results = [evaluation.elementwise(_FUSED[fused], each) for each in results]
    if len(results) != len(operator.outputs):
        raise NotUnderstood
    return results
