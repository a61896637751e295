"""The faults that `diagnose` looks for and `repair` mends: for each a code, how it is found, and how it is mended.

Finding and mending work on the schema's `ModelT`. What `lstm_toolkit` wrote itself says so in the file's description; a
clip, a carried state or split halves are there because they were asked for.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes import bidirectional, int8_scales, joint_outputs, reset, stock_lstm
from lstm_toolkit.passes.loops import fuse, unrolled
from lstm_toolkit.runtime import targets
from lstm_toolkit.tflite import graph, recurrent
from lstm_toolkit.tflite.recurrent import RecurrentOp, recurrent_ops
from lstm_toolkit.tflite.types import Model, Operator, Subgraph

Found = Iterator[tuple[str, str]]
"""Pairs of place and message."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        code: stable name.
        severity: "error" if results are wrong or the file does not run, "warning" if results may be wrong or the
            file is much worse than it could be, "note" otherwise.
        find: yields place and message of each occurrence in a `ModelT`.
        remedy: what to do about it.
        mend: takes it out of a `ModelT` in place and says in a sentence what it changed; None where that takes the
            source model.
        unless_asked_for: not a fault in a file that lstm_toolkit wrote.
        target: the runtime on which it is one; None for all.
    """

    code: str
    severity: str
    find: Callable[[Model], Found]
    remedy: str
    mend: Callable[[Model], str] | None = None
    unless_asked_for: bool = False
    target: str | None = None


def _place(model: Model, subgraph: Subgraph, operator: Operator) -> str:
    """Where an op stands, as messages have it."""
    number, place = model.subgraphs.index(subgraph), subgraph.operators.index(operator)
    where = f"op {place} {graph.operator_name(model, operator)}"
    return where if number == 0 else f"subgraph {number}, {where}"


def _named_place(model: Model, subgraph: Subgraph, operator: Operator) -> str:
    """The place of an op with the name of what it computes."""
    return f"{_place(model, subgraph, operator)} ({graph.text(subgraph.tensors[operator.outputs[0]].name)})"


def _each(
    message_for: Callable[[RecurrentOp], str | None], ops: Callable[[Model], Iterable[RecurrentOp]] = recurrent_ops
) -> Callable[[Model], Found]:
    """Makes a search: it yields place and message of each recurrent op for which the message is not None."""

    def find(model: Model) -> Found:
        for op in ops(model):
            message = message_for(op)
            if message:
                yield _named_place(model, op.subgraph, op.operator), message

    return find


def _with_living_state(model: Model) -> Iterator[RecurrentOp]:
    """The recurrent ops with a state that nothing sets at each call."""
    for subgraph in model.subgraphs:
        settled = recurrent.set_states(model, subgraph).keys()
        yield from (op for op in recurrent_ops(model, subgraph) if set(op.states) - settled)


def _loops(model: Model) -> Found:
    for outcome in fuse.loop_outcomes(model):
        if outcome.op:
            yield outcome.name, "an LSTM is a WHILE loop instead of one fused op"


def _stuck_loops(model: Model) -> Found:
    for outcome in fuse.loop_outcomes(model):
        if outcome.is_lstm and not outcome.op:
            yield outcome.name, f"an LSTM is a WHILE loop, and cannot become a fused op from the file: {outcome.reason}"


def _fuse_loops(model: Model) -> str:
    fused = [outcome.name for outcome in fuse.fuse_loops(model) if outcome.op]
    return f"loops that became fused ops: {', '.join(fused)}" if fused else ""


def _unrolled(model: Model) -> Found:
    for name, steps in unrolled.unrolled_lstms(model):
        yield name, f"an LSTM is unrolled into the ops of its {steps} steps"


def _flex(model: Model) -> Found:
    for name, count in graph.count_operators(model).items():
        if name.startswith("Flex"):
            yield name, f"{count} TensorFlow op(s) {name}, which the plain runtime cannot run"


def _leaking(_op: RecurrentOp) -> str | None:
    return "its state lives on: a call starts where the last one ended"


def _set_once(model: Model, *, to_zero: bool = True) -> Found:
    for index, subgraph, op in reset.set_once(model, to_zero=to_zero):
        state = graph.text(subgraph.tensors[index].name)
        message = f"it sets the state {state!r} to a constant only once, when memory is allocated, and not at each call"
        yield _place(model, subgraph, op), message


def _clip(op: RecurrentOp) -> str | None:
    clip = getattr(op.options, "cellClip", 0.0)
    return f"it clips its cells to {clip:g}, which a Keras LSTM does not do" if clip else None


def _shared(model: Model) -> Found:
    for subgraph in model.subgraphs:
        shared = stock_lstm.shared_states(model, subgraph)
        for op in recurrent_ops(model, subgraph):
            names = [graph.text(subgraph.tensors[index].name) for index in op.states if index in shared]
            where = _named_place(model, subgraph, op.operator)
            yield from ((where, f"its state {name!r} is also another operand") for name in names)


def _halves(model: Model) -> Found:
    for subgraph in model.subgraphs:
        for halves in bidirectional.pairs(model, subgraph):
            names = [graph.text(subgraph.tensors[op.operator.outputs[0]].name) for op in halves.ops]
            yield ", ".join(names), "an op and one over the reversed input could be one bidirectional op"


def _merge(model: Model) -> str:
    return f"bidirectional ops: {', '.join(sorted(set(bidirectional.merge_bidirectional(model).values())))}"


def _joint_outputs(op: RecurrentOp) -> str | None:
    is_wrong = joint_outputs.is_wrong(op.subgraph, op.operator)
    reason = "the kernel joins the two outputs itself, batch-major, which is wrong for more than one row"
    return reason if is_wrong else None


def _no_activation(op: RecurrentOp) -> str | None:
    is_none = "LSTM" in op.name and op.options.fusedActivationFunction == schema.ActivationFunctionType.NONE
    return "its cell activation is none, with which the kernel computes on unwritten memory" if is_none else None


def _open_batch(op: RecurrentOp) -> str | None:
    return "its batch is open, but its states are made for a fixed one" if op.batch < 0 else None


def _coupled_with_layer_norm(op: RecurrentOp) -> str | None:
    is_wrong = op.name == "UNIDIRECTIONAL_SEQUENCE_LSTM" and op.is_integer and op.is_normalized and op.is_coupled
    return "the int8 kernel computes layer normalization with a coupled input gate wrongly" if is_wrong else None


def _cell_range(op: RecurrentOp) -> str | None:
    scale = graph.scale_of(op.tensor("cell_state"))[0] if op.is_integer and op.has("cell_state") else 0.0
    if not scale or SMALLEST_CELL_SCALE <= scale <= LARGEST_CELL_SCALE:
        return None
    return f"its cell state is stored at the scale {scale:.2g}, for which the kernel's tanh is not made"


def _calibrated_on_leak(op: RecurrentOp) -> str | None:
    return "its ranges were taken on states that leaked from sample to sample" if op.is_integer else None


def _variables(op: RecurrentOp) -> str | None:
    keeps = any(op.subgraph.tensors[index].isVariable for index in op.states)
    return "it keeps its state in variable tensors, which CompiledModel refuses" if keeps else None


def _not_on_micro(model: Model) -> Found:
    for name, count in graph.count_operators(model).items():
        if name not in targets.MICRO_OPS:
            yield name, f"TensorFlow Lite Micro has no op {name} ({count} in the file)"


def _micro_lstms(model: Model) -> Found:
    for op, reason in targets.micro_lstms(model):
        where = _named_place(model, op.subgraph, op.operator)
        yield where, f"TensorFlow Lite Micro does not compute this LSTM: {reason}"


def _micro_hybrids(model: Model) -> Found:
    message = "it has int8 weights and a float input, which TensorFlow Lite Micro refuses or computes wrongly"
    for subgraph, operator in targets.hybrids(model):
        yield _named_place(model, subgraph, operator), message


def _micro_float16(model: Model) -> Found:
    if targets.has_float16(model):
        yield "the file", "it holds float16, for which TensorFlow Lite Micro has no kernels"


def _micro_open(model: Model) -> Found:
    for name in targets.open_inputs(model):
        yield name, "this input has an open size, for which TensorFlow Lite Micro takes the number in the file, often 1"


_FOR_MICRO = 'convert the source with target="micro", which chooses forms that run there'
_NOT_HYBRID = 'convert the source without quantization, or with quantization="int8"'

SMALLEST_CELL_SCALE, LARGEST_CELL_SCALE = 2.0**-15, 2.0**-9
"""Scales of an int16 cell state that the int8 kernel takes: below, its tanh writes nothing (`lstm_eval.cc`)."""

FAULTS = (
    Fault(
        "flex-op", "error", _flex, "convert the source with lstm_toolkit.convert, or link the Flex delegate (100 MB)"
    ),
    Fault(
        "loop-lstm",
        "warning",
        _loops,
        "lstm_toolkit.repair makes it a fused op; or convert the Keras model with lstm_toolkit.convert",
        _fuse_loops,
    ),
    Fault("loop-lstm", "warning", _stuck_loops, "convert the Keras model with lstm_toolkit.convert"),
    Fault(
        "unrolled-lstm",
        "note",
        _unrolled,
        "convert the Keras model with lstm_toolkit.convert for one fused op",
        unless_asked_for=True,
    ),
    Fault(
        "shared-state",
        "error",
        _shared,
        "lstm_toolkit.repair gives the state a tensor of its own",
        lambda model: f"{stock_lstm.unshare_states(model)} state(s) have a tensor of their own",
    ),
    Fault(
        "cell-clip",
        "warning",
        _each(_clip),
        "lstm_toolkit.repair takes the clip off; leave it if the source model clips",
        lambda model: f"{stock_lstm.remove_clip(model)} op(s) clip their cells no longer",
        unless_asked_for=True,
    ),
    Fault(
        "state-set-once",
        "error",
        _set_once,
        "lstm_toolkit.repair sets the state to zero at every call; or call reset_all_variables() before each",
        lambda model: (
            f"{reset.set_to_zero_at_each_call(model)} state(s) start from zero at every call, not only at the first"
        ),
    ),
    Fault(
        "state-set-once",
        "error",
        functools.partial(_set_once, to_zero=False),
        "convert the source with lstm_toolkit.convert, which sets the state at every call",
    ),
    Fault(
        "state-leak",
        "warning",
        _each(_leaking, _with_living_state),
        "lstm_toolkit.repair resets the state at every call; leave it if the file is to continue a sequence",
        lambda model: f"{reset.reset_states(model)} state(s) start from zero at every call",
        unless_asked_for=True,
    ),
    Fault(
        "joint-outputs",
        "error",
        _each(_joint_outputs),
        "lstm_toolkit.repair gives the op two outputs and joins them by a CONCATENATION",
        lambda model: f"{joint_outputs.part(model)} op(s) have two outputs and a CONCATENATION",
    ),
    Fault(
        "no-activation",
        "error",
        _each(_no_activation),
        "convert the source with lstm_toolkit.convert, which refuses a linear cell activation or lowers it",
    ),
    Fault(
        "open-batch",
        "error",
        _each(_open_batch),
        "convert with batch_size, or resize the input to the batch of the states before allocation",
    ),
    Fault(
        "split-halves",
        "note",
        _halves,
        "lstm_toolkit.repair makes them one op; leave them for TensorFlow Lite Micro and for quantization to int8",
        _merge,
        unless_asked_for=True,
    ),
    Fault(
        "int8-scales",
        "error",
        int8_scales.unequal_scales,
        "lstm_toolkit.repair gives the op one scale and requantizes where the next op needs another",
        int8_scales.equalize,
    ),
    Fault(
        "int8-coupled-layer-norm",
        "error",
        _each(_coupled_with_layer_norm),
        "quantize a form with an input gate of its own, or keep the LSTM in float",
    ),
    Fault(
        "int8-cell-range",
        "error",
        _each(_cell_range),
        "quantize with lstm_toolkit.convert, which keeps the range of the cell state between 1 and 64",
    ),
    Fault(
        "calibrated-on-leak",
        "note",
        _each(_calibrated_on_leak, _with_living_state),
        "quantize with lstm_toolkit.convert, which calibrates on states that start from zero",
        unless_asked_for=True,
    ),
    Fault(
        "variable-tensors",
        "error",
        _each(_variables),
        "lstm_toolkit.lower writes it as plain ops, which have no variables",
        target="compiled",
    ),
    Fault("micro-op", "error", _not_on_micro, _FOR_MICRO, target="micro"),
    Fault("micro-lstm", "error", _micro_lstms, _FOR_MICRO, target="micro"),
    Fault("micro-hybrid", "error", _micro_hybrids, _NOT_HYBRID, target="micro"),
    Fault("micro-float16", "error", _micro_float16, _NOT_HYBRID, target="micro"),
    Fault("micro-open", "error", _micro_open, "convert with time_steps (and batch_size)", target="micro"),
)
"""Every fault, in the order in which `repair` mends them."""
