"""The faults that `diagnose` looks for and `repair` mends: for each a code, how it is found, and how it is mended.

Finding and mending work on the schema's `ModelT`. What `lstm_toolkit` wrote itself says so in the file's description; a
clip, a carried state or split halves are there because they were asked for.
"""

from collections.abc import Iterator

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.doctor.fault import Fault, Found, each, named_place, place
from lstm_toolkit.doctor.target_faults import TARGET_FAULTS
from lstm_toolkit.doctor.variables import unset_variables
from lstm_toolkit.passes import bidirectional, int8_scales, joint_outputs, reset, stock_lstm
from lstm_toolkit.passes.loops import fuse
from lstm_toolkit.passes.unrolled import fuse as unrolled
from lstm_toolkit.tflite import files, graph, recurrent
from lstm_toolkit.tflite.recurrent import RecurrentOp, recurrent_ops
from lstm_toolkit.tflite.types import Model

SMALLEST_CELL_SCALE, LARGEST_CELL_SCALE = 2.0**-15, 2.0**-9
"""Scales of an int16 cell state that the int8 kernel takes: below, its tanh writes nothing (`lstm_eval.cc`)."""


def _is_stream(op: RecurrentOp) -> bool:
    """Whether an op sees one step a call: from zero each time, it would not be recurrent."""
    return op.steps == 1


def _is_sequence(op: RecurrentOp) -> bool:
    return not _is_stream(op)


def _leaks(model: Model) -> Iterator[RecurrentOp]:
    """The ops over sequences with a state that nothing sets."""
    for subgraph in model.subgraphs:
        settled = recurrent.set_states(model, subgraph).keys() | recurrent.set_once(model, subgraph).keys()
        yield from (op for op in recurrent_ops(model, subgraph) if _is_sequence(op) and set(op.states) - settled)


def _streams(model: Model) -> Iterator[RecurrentOp]:
    """The ops over one step with a state that nothing sets at each call."""
    for subgraph in model.subgraphs:
        settled = recurrent.set_states(model, subgraph).keys()
        yield from (op for op in recurrent_ops(model, subgraph) if _is_stream(op) and set(op.states) - settled)


def _stop_streams(model: Model) -> str:
    count = reset.set_at_each_call(model, _is_stream) + reset.reset_states(model, is_wanted=_is_stream)
    return f"{count} state(s) of ops over one step are set at every call"


def _loops(model: Model) -> Found:
    for outcome in fuse.loop_outcomes(model):
        if outcome.op:
            yield outcome.name, "an LSTM is a WHILE loop instead of one fused op"
        elif outcome.is_lstm and not files.is_own(model):
            message = f"an LSTM is a WHILE loop, and cannot become a fused op from the file: {outcome.reason}"
            yield outcome.name, message, "convert the Keras model with lstm_toolkit.convert"


def _fuse_loops(model: Model) -> str:
    fused = [outcome.name for outcome in fuse.fuse_loops(model) if outcome.op]
    return f"loops that became fused ops: {', '.join(fused)}" if fused else ""


def _unrolled(model: Model) -> Found:
    for outcome in unrolled.unrolled_outcomes(model):
        message = f"{outcome.kind} is unrolled into the ops of its {outcome.steps} steps"
        if outcome.op:
            yield outcome.name, message
        else:
            message += f", which cannot be joined from the file: {outcome.reason}"
            yield outcome.name, message, "convert the source with lstm_toolkit.convert for one fused op, or a loop"


def _fuse_unrolled(model: Model) -> str:
    fused = [outcome for outcome in unrolled.fuse_unrolled(model) if outcome.op]
    kinds = [each.op if each.weights == "float32" else f"{each.op} with {each.weights} weights" for each in fused]
    names = ", ".join(f"{each.name} ({each.steps} steps, {kind})" for each, kind in zip(fused, kinds, strict=True))
    return f"unrolled layers that became one op or a loop: {names}" if fused else ""


def _flex(model: Model) -> Found:
    for name, count in graph.count_operators(model).items():
        if name.startswith("Flex"):
            yield name, f"{count} TensorFlow op(s) {name}, which the plain runtime cannot run"


def _leaking(_op: RecurrentOp) -> str | None:
    return "its state lives on: a call starts where the last one ended"


def _streaming(_op: RecurrentOp) -> str | None:
    return "it takes one step a call, and its state lives on: a stream, unless every call is a sequence of one step"


def _set_once(model: Model) -> Found:
    for subgraph in model.subgraphs:
        for index, once in recurrent.set_once(model, subgraph, _is_sequence).items():
            state = graph.text(subgraph.tensors[index].name)
            message = f"it sets the state {state!r} to a constant only once, before or at the first call, not at each"
            yield place(model, subgraph, once.operator), message


def _clip(op: RecurrentOp) -> str | None:
    clip = getattr(op.options, "cellClip", 0.0)
    return f"it clips its cells to {clip:g}, which a Keras LSTM does not do" if clip else None


def _shared(model: Model) -> Found:
    for subgraph in model.subgraphs:
        shared = stock_lstm.shared_states(model, subgraph)
        for op in recurrent_ops(model, subgraph):
            names = [graph.text(subgraph.tensors[index].name) for index in op.states if index in shared]
            where = named_place(model, subgraph, op.operator)
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


FAULTS = (
    Fault(
        "flex-op", "error", _flex, "convert the source with lstm_toolkit.convert, or link the Flex delegate (100 MB)"
    ),
    Fault(
        "unset-variable",
        "error",
        unset_variables,
        "convert the model with lstm_toolkit.convert; or give from_concrete_functions a tf.Module with the variables",
    ),
    Fault(
        "loop-lstm",
        "warning",
        _loops,
        "lstm_toolkit.repair makes it a fused op; or convert the Keras model with lstm_toolkit.convert",
        _fuse_loops,
    ),
    Fault(
        "unrolled-lstm",
        "note",
        _unrolled,
        "lstm_toolkit.repair makes it a fused op, or a GRU a loop; or convert the source with lstm_toolkit.convert",
        _fuse_unrolled,
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
        each(_clip),
        'lstm_toolkit.repair takes the clip off; pass keep="cell-clip" if the source model clips',
        lambda model: f"{stock_lstm.remove_clip(model)} op(s) clip their cells no longer",
        unless_asked_for=True,
    ),
    Fault(
        "state-set-once",
        "error",
        _set_once,
        "lstm_toolkit.repair sets the state at every call",
        lambda model: f"{reset.set_at_each_call(model, _is_sequence)} state(s) are set at every call, not only once",
    ),
    Fault(
        "state-leak",
        "warning",
        each(_leaking, _leaks),
        'lstm_toolkit.repair resets the state at every call; pass keep="state-leak" if the file is to continue a '
        "sequence",
        lambda model: f"{reset.reset_states(model, is_wanted=_is_sequence)} state(s) start from zero at every call",
        unless_asked_for=True,
    ),
    Fault(
        "stream",
        "note",
        each(_streaming, _streams),
        'nothing, if calls continue each other; if not, lstm_toolkit.repair with codes="stream" resets the state',
        _stop_streams,
        unless_asked_for=True,
        only_if_named=True,
    ),
    Fault(
        "joint-outputs",
        "error",
        each(_joint_outputs),
        "lstm_toolkit.repair gives the op two outputs and joins them by a CONCATENATION",
        lambda model: f"{joint_outputs.part(model)} op(s) have two outputs and a CONCATENATION",
    ),
    Fault(
        "no-activation",
        "error",
        each(_no_activation),
        "convert the source with lstm_toolkit.convert, which refuses a linear cell activation or lowers it",
    ),
    Fault(
        "open-batch",
        "error",
        each(_open_batch),
        "convert with batch_size, or resize the input to the batch of the states before allocation",
    ),
    Fault(
        "split-halves",
        "note",
        _halves,
        "lstm_toolkit.repair makes them one op; leave them for TensorFlow Lite Micro and for quantization to int8",
        _merge,
        unless_asked_for=True,
        not_on="micro",
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
        each(_coupled_with_layer_norm),
        "quantize a form with an input gate of its own, or keep the LSTM in float",
    ),
    Fault(
        "int8-cell-range",
        "error",
        each(_cell_range),
        "quantize with lstm_toolkit.convert, which keeps the range of the cell state between 1 and 64",
    ),
    Fault(
        "calibrated-on-leak",
        "note",
        each(_calibrated_on_leak, _leaks),
        "quantize with lstm_toolkit.convert, which calibrates on states that start from zero",
        unless_asked_for=True,
    ),
    *TARGET_FAULTS,
)
"""Every fault, in the order in which `repair` mends them."""
