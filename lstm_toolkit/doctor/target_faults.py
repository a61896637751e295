"""What keeps a file from running on a target."""

from collections import Counter

from lstm_toolkit.doctor.fault import Fault, Found, each, named_place, place
from lstm_toolkit.passes import micro_ops
from lstm_toolkit.runtime import targets
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.recurrent import RecurrentOp
from lstm_toolkit.tflite.types import Model


def _variables(op: RecurrentOp) -> str | None:
    keeps = any(op.subgraph.tensors[index].isVariable for index in op.states)
    return "it keeps its state in variable tensors, which CompiledModel refuses" if keeps else None


def _micro_alone(model: Model) -> Found:
    for op in targets.int16_lstms(model):
        where = named_place(model, op.subgraph, op.operator)
        yield where, "its inputs are int16 and its weights int8, for which LiteRT has no kernel, but Micro has"


def _not_on_micro(model: Model) -> Found:
    """Yields each op that Micro lacks, once for those with an equal there, and once for those without."""
    with_equal = {id(operator) for _, operator in micro_ops.with_equals(model)}
    counted: Counter[tuple[str, bool]] = Counter()
    first: dict[tuple[str, bool], str] = {}
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            name, has_equal = graph.operator_name(model, operator), id(operator) in with_equal
            if name not in targets.MICRO_OPS or has_equal:
                counted[name, has_equal] += 1
                where = named_place if len(operator.outputs) else place
                first.setdefault((name, has_equal), where(model, subgraph, operator))
    for (name, has_equal), count in counted.items():
        lacks = "has no op" if name not in targets.MICRO_OPS else "takes other types than these of"
        message = f"TensorFlow Lite Micro {lacks} {name} ({count} in the file)"
        if has_equal:
            yield name, message
        else:
            yield name, f"{message}, and ops that compute the same are not known for {first[name, False]}", _FOR_MICRO


def _write_micro_ops(model: Model) -> str:
    written = micro_ops.use_micro_ops(model)
    counted = ", ".join(f"{count} {name}" for name, count in sorted(written.items()))
    return f"ops of TensorFlow Lite Micro compute what these did: {counted}" if written else ""


def _micro_lstms(model: Model) -> Found:
    for op, reason in targets.micro_lstms(model):
        where = named_place(model, op.subgraph, op.operator)
        yield where, f"TensorFlow Lite Micro does not compute this LSTM: {reason}"


def _micro_hybrids(model: Model) -> Found:
    message = "it has int8 weights and a float input, which TensorFlow Lite Micro refuses or computes wrongly"
    for subgraph, operator in targets.hybrids(model):
        yield named_place(model, subgraph, operator), message


def _micro_float16(model: Model) -> Found:
    if targets.has_float16(model):
        yield "the file", "it holds float16, for which TensorFlow Lite Micro has no kernels"


def _micro_open(model: Model) -> Found:
    for name in targets.open_inputs(model):
        yield name, "this input has an open size, for which TensorFlow Lite Micro takes the number in the file, often 1"


_FOR_MICRO = 'convert the source with target="micro", which chooses forms that run there'
_NOT_HYBRID = 'convert the source without quantization, or with quantization="int8"'

TARGET_FAULTS = (
    Fault(
        "variable-tensors",
        "error",
        each(_variables),
        "lstm_toolkit.lower writes it as plain ops, which have no variables",
        target="compiled",
    ),
    Fault(
        "int16-lstm",
        "error",
        _micro_alone,
        'run it on TensorFlow Lite Micro, or convert the source without target="micro", which gives plain ops',
        target="litert",
    ),
    Fault(
        "micro-op",
        "error",
        _not_on_micro,
        'lstm_toolkit.repair with target="micro" writes it as ops that run there, which compute the same',
        _write_micro_ops,
        target="micro",
    ),
    Fault("micro-lstm", "error", _micro_lstms, _FOR_MICRO, target="micro"),
    Fault("micro-hybrid", "error", _micro_hybrids, _NOT_HYBRID, target="micro"),
    Fault("micro-float16", "error", _micro_float16, _NOT_HYBRID, target="micro"),
    Fault("micro-open", "error", _micro_open, "convert with time_steps (and batch_size)", target="micro"),
)
"""The faults on one of the runtimes."""
