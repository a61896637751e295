"""Pass: a bidirectional op whose kernel would join the outputs wrongly leaves that to a CONCATENATION.

    before  [BIDIRECTIONAL_SEQUENCE_LSTM, merge_outputs: x -> y]
    after   [BIDIRECTIONAL_SEQUENCE_LSTM: x -> a, b] [CONCATENATION: a, b -> y]

Batch-major, the kernel finds the state of the second and later rows by the width of the joint output and so runs over
the end of the state (`EvalFloat` in `lstm_eval.cc`). Time-major, or with one row, it is right.
"""

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph


def is_wrong(subgraph: Subgraph, operator: Operator) -> bool:
    """Whether an op is a bidirectional LSTM that joins its outputs batch-major, for more rows than one."""
    options = operator.builtinOptions
    if not isinstance(options, schema.BidirectionalSequenceLSTMOptionsT):
        return False
    shape = graph.shape_of(subgraph.tensors[operator.outputs[0]])
    return bool(options.mergeOutputs) and not options.timeMajor and len(shape) == 3 and shape[0] != 1


def part(model: Model) -> int:
    """Gives every such op of a `ModelT` two outputs, in place; returns how many there were."""
    count = 0
    for subgraph in model.subgraphs:
        for operator in [op for op in subgraph.operators if is_wrong(subgraph, op)]:
            joint = operator.outputs[0]
            *sizes, width = graph.shape_of(subgraph.tensors[joint])
            shape = (*sizes, width // 2)
            operator.outputs = [edit.like(subgraph, joint, each, shape=shape) for each in ("forward", "backward")]
            operator.builtinOptions.mergeOutputs = False
            join = edit.new_operator(model, "CONCATENATION", operator.outputs, [joint], axis=len(shape) - 1)
            subgraph.operators.insert(subgraph.operators.index(operator) + 1, join)
            count += 1
    return count
