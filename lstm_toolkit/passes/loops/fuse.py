"""Pass: loops that TensorFlow's converter made of Keras's LSTMs become fused ops, without the Keras model.

    before  [TRANSPOSE: x -> t] [WHILE: 0, list, h, c, t -> ..., list] [TRANSPOSE: list -> y]
    after   [UNIDIRECTIONAL_SEQUENCE_LSTM: x -> y]

A loop is read completely first (`body`, `length`). A loop that is not an LSTM as the fused op computes it stays, and
the outcome has the reason. A loop starts from the states that it is given, so the states of the op
are reset, or set, at each call.
"""

import copy
import dataclasses
from collections.abc import Collection

from lstm_toolkit.passes import reset
from lstm_toolkit.passes.loops import body
from lstm_toolkit.passes.loops.body import LstmLoop, Mismatch
from lstm_toolkit.passes.loops.length import check_length
from lstm_toolkit.passes.loops.rewrite import FUSED_OP, rewrite
from lstm_toolkit.tflite import files, graph, recurrent
from lstm_toolkit.tflite.graph import called_subgraphs
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT


@dataclasses.dataclass(frozen=True)
class LoopOutcome:
    """What became, or can become, of a WHILE.

    Attributes:
        name: of the layer, as the names of the tensors tell it, or else `loop`, numbered.
        op: the fused op, or None if the loop stays.
        reason: why it stays, or None.
        is_lstm: whether it runs an LSTM; judged at a glance where the loop stays.
    """

    name: str
    op: str | None
    reason: str | None
    is_lstm: bool


def fuse(tflite: bytes) -> tuple[bytes, tuple[LoopOutcome, ...]]:
    """Fuses the loops of a file, wherever it comes from.

    Args:
        tflite: a `.tflite` file.

    Returns:
        The file, or the same bytes where nothing was fused, and an outcome per loop.

    Raises:
        InvalidModelError: if the bytes are no readable `.tflite` file.

    A sequence of no steps, which a file with open time can be given, leaves the fused op without a last output, where
    the loop has zeros.
    """
    model = files.read_model(tflite)
    outcomes = fuse_loops(model)
    return (files.write_model(model) if any(each.op for each in outcomes) else tflite), outcomes


def loop_outcomes(model: Model) -> tuple[LoopOutcome, ...]:
    """What `fuse_loops` would do with a `ModelT`, which stays as it is."""
    if not graph.count_operators(model)["WHILE"]:
        return ()
    trial = copy.copy(model)
    trial.subgraphs = copy.deepcopy(model.subgraphs)
    trial.signatureDefs = copy.deepcopy(model.signatureDefs)
    trial.buffers, trial.operatorCodes = list(model.buffers), list(model.operatorCodes)
    return fuse_loops(trial)


def fuse_loops(model: Model) -> tuple[LoopOutcome, ...]:
    """Replaces every WHILE of a `ModelT` that is an LSTM, in place.

    Returns:
        An outcome per WHILE, in the order of the file.
    """
    called = {index for subgraph in model.subgraphs for op in subgraph.operators for index in called_subgraphs(op)}
    taken = recurrent.layers_of(model)
    kept, outcomes = frozenset(taken), []
    for number, subgraph in enumerate(model.subgraphs):
        for op in [op for op in subgraph.operators if graph.operator_name(model, op) == "WHILE"]:
            layer = recurrent.numbered(_layer_name(subgraph, op), taken)
            taken.add(layer)
            is_lstm = body.is_lstm(model, op)
            try:
                if number in called:
                    raise Mismatch("it stands inside another loop or a branch, where a fused op cannot keep its state")
                _check_operators(model, subgraph)
                loop = body.match(model, subgraph, op)
                _check_results(subgraph, op, loop)
                check_length(model, subgraph, op, loop)
            except Mismatch as mismatch:
                reason = str(mismatch) if is_lstm else f"it runs no LSTM: {mismatch}"
                outcomes.append(LoopOutcome(layer, None, reason, is_lstm))
                continue
            rewrite(model, subgraph, op, loop, layer)
            outcomes.append(LoopOutcome(layer, FUSED_OP, None, True))
    if any(each.op for each in outcomes):
        reset.reset_states(model, keep=kept)
        drop_subgraphs(model, called)
    return tuple(outcomes)


def drop_subgraphs(model: Model, candidates: Collection[int]) -> int:
    """Drops those candidates among the subgraphs that no operator and no signature uses, in place.

    Args:
        model: the file.
        candidates: indices of subgraphs; the first one always stays.

    Returns:
        The number of subgraphs that are gone.
    """
    entries = {0, *(signature.subgraphIndex for signature in model.signatureDefs or [])}
    entries |= set(range(len(model.subgraphs))) - set(candidates)
    used: set[int] = set()
    while entries - used:
        new = entries - used
        used |= new
        entries = {index for each in new for op in model.subgraphs[each].operators for index in called_subgraphs(op)}
    dropped = len(model.subgraphs) - len(used)
    model.subgraphs, moved = files.renumbered(model.subgraphs, used)
    for op in [op for subgraph in model.subgraphs for op in subgraph.operators]:
        for options, field, indices in graph.calls(op):
            new_indices = [moved[index] for index in indices]
            setattr(options, field, new_indices[0] if isinstance(getattr(options, field), int) else new_indices)
    for signature in model.signatureDefs or []:
        signature.subgraphIndex = moved[signature.subgraphIndex]
    return dropped


def _layer_name(subgraph: Subgraph, operator: Operator) -> str:
    """Name of the layer: what stands before "/while" in the names of the loop's results."""
    for index in operator.outputs:
        # Split, not searched: a search for a pattern takes the square of a stranger's long name.
        scopes, _, last = graph.text(subgraph.tensors[index].name).rpartition("/")
        layer = scopes.rpartition("/")[2].rpartition(";")[2]
        if layer and last.startswith("while"):
            return layer
    return "loop"


_OPERANDS = {"RESHAPE": 1, "SHAPE": 1, "CONCATENATION": 1, "TRANSPOSE": 2, "REVERSE_V2": 2, "FILL": 2}
_OPERANDS |= {"DEQUANTIZE": 1, "STRIDED_SLICE": 4}
"""How many operands the operators need that may stand around a loop."""


def _check_operators(model: Model, subgraph: Subgraph) -> None:
    for op in subgraph.operators:
        name = graph.operator_name(model, op)
        count = _OPERANDS.get(name, 0)
        if len(op.inputs) < count or ABSENT in op.inputs[:count] or (count and len(op.outputs) != 1):
            raise Mismatch(f"the file is damaged: a {name} lacks an operand")
        if name == "STRIDED_SLICE" and op.builtinOptions is None:
            raise Mismatch("the file is damaged: a STRIDED_SLICE lacks its options")


def _check_results(subgraph: Subgraph, operator: Operator, loop: LstmLoop) -> None:
    consumed = graph.consumed(subgraph)
    available = {loop.outputs, loop.output_state, loop.cell_state}
    for number, index in enumerate(operator.outputs):
        if index in consumed and number not in available | loop.unchanged:
            raise Mismatch("the number of steps that it has run is used behind it")
        if index in subgraph.outputs and number in loop.unchanged:
            raise Mismatch("an input that it passes on is an output of the model")
