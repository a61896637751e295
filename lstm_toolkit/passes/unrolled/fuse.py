"""Pass: recurrent layers that a converter unrolled over time become fused ops, or GRUs a loop of plain ops.

    before  [UNPACK: x -> x0, x1, ...] [FULLY_CONNECTED] [SPLIT] [LOGISTIC] ... [PACK: h0, h1, ... -> y]
    after   [UNIDIRECTIONAL_SEQUENCE_LSTM: x -> y], [UNIDIRECTIONAL_SEQUENCE_RNN: x -> y], or the ops of
            `passes.plain.loop` with a WHILE

How the steps are spelled does not matter (`elements`): each is read for what its numbers are computed of (`steps`), by
the expressions of the cells (`cells`), then joined with those before it (`chains`, `sequences`), and then the subgraph
is built anew without them (`rewrite`, `layers`). A layer that does not match completely stays, and the outcome has the
reason.
"""

import copy
import dataclasses
import itertools
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from lstm_toolkit.passes import reset, small_weights
from lstm_toolkit.passes.unrolled.elements import Names, TooLarge
from lstm_toolkit.passes.unrolled.evaluate import evaluate
from lstm_toolkit.passes.unrolled.evaluation import Evaluation
from lstm_toolkit.passes.unrolled.glance import UNNAMED, Glance, glances, layer_name
from lstm_toolkit.passes.unrolled.layers import op_of
from lstm_toolkit.passes.unrolled.rewrite import Rewriting, Stands
from lstm_toolkit.passes.unrolled.sequences import Sequence, Stuck, sequences
from lstm_toolkit.passes.unrolled.steps import why_no_step
from lstm_toolkit.tflite import files, graph, recurrent
from lstm_toolkit.tflite.types import Model, Subgraph


@dataclasses.dataclass(frozen=True)
class UnrolledOutcome:
    """What became, or can become, of a recurrent layer that is unrolled.

    Attributes:
        name: of the layer, as the names of the tensors tell it, or else `unrolled`, numbered.
        kind: what it is, with its article.
        steps: how many there are.
        op: the fused op, or WHILE, or None if the steps stay.
        reason: why they stay, or None.
        weights: how those of the op are stored.
    """

    name: str
    kind: str
    steps: int
    op: str | None
    reason: str | None
    weights: str = "float32"


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What would be done with a file.

    Attributes:
        outcomes: what becomes of each layer.
        model: the file with the tensors that are needed more; it shares the operators.
        rewriting: puts ops in the place of the steps; None where all of them stay.
        state: of the file that the plan is for.
    """

    outcomes: tuple[UnrolledOutcome, ...]
    model: Model
    rewriting: Rewriting | None
    state: tuple[Any, ...]


_PLANS: weakref.WeakKeyDictionary[Model, _Plan] = weakref.WeakKeyDictionary()
"""The plan that was made last for a file: to find and then to mend, its numbers are named once."""


def unrolled_outcomes(model: Model) -> tuple[UnrolledOutcome, ...]:
    """What `fuse_unrolled` would do with a `ModelT`, which stays as it is."""
    _PLANS[model] = _plan(model)
    return _PLANS[model].outcomes


def fuse_unrolled(model: Model) -> tuple[UnrolledOutcome, ...]:
    """Replaces every unrolled recurrent layer of the main subgraph of a `ModelT`, in place.

    Returns:
        An outcome per layer of two steps or more, those that were replaced first.
    """
    kept, plan = recurrent.layers_of(model), _PLANS.pop(model, None)
    if plan is None or plan.state != _state(model):
        plan = _plan(model)
    if plan.rewriting is not None:
        plan.rewriting.apply()
        model.buffers, model.operatorCodes = plan.model.buffers, plan.model.operatorCodes
        model.subgraphs = plan.model.subgraphs
        if any(outcome.weights == "float16" for outcome in plan.outcomes):
            small_weights.to_float16(model, exactly=True)
        reset.reset_states(model, keep=kept)
        files.prune(model)
    return plan.outcomes


def _plan(model: Model) -> _Plan:
    trial, main = copy.copy(model), copy.copy(model.subgraphs[0])
    trial.buffers, trial.operatorCodes = list(model.buffers), list(model.operatorCodes)
    main.tensors = list(main.tensors)
    trial.subgraphs = [main, *model.subgraphs[1:]]
    outcomes, rewriting = _planned(trial)
    return _Plan(outcomes, trial, rewriting, _state(model))


def _state(model: Model) -> tuple[Any, ...]:
    """What differs once a file has been changed."""
    main = model.subgraphs[0]
    operators = tuple((id(op), op.opcodeIndex, *op.inputs, -1, *op.outputs) for op in main.operators)
    lists = (model.buffers, model.operatorCodes, model.subgraphs, main.tensors)
    return (operators, *(tuple(map(id, each)) for each in lists), *main.inputs, -1, *main.outputs)


def _planned(model: Model) -> tuple[tuple[UnrolledOutcome, ...], Rewriting | None]:
    """The outcomes, and what puts ops in the place of the steps; None where all of them stay."""
    subgraph = model.subgraphs[0]
    # Cheap, and most files have none.
    counts = graph.count_operators(model, subgraph)
    if counts["FULLY_CONNECTED"] + counts["BATCH_MATMUL"] < _LEAST_PRODUCTS:
        return (), None
    seen = glances(model, subgraph)
    reason = "the file computes more numbers than are looked at"
    try:
        is_open = any(-1 in graph.shape_of(subgraph.tensors[index]) for index in subgraph.inputs)
        evaluation = None if is_open else evaluate(model, subgraph)
        reason = "an input has an open size, and the op needs a fixed batch" if is_open else reason
    except TooLarge:
        evaluation = None
    if evaluation is None:
        return tuple(UnrolledOutcome(each.name, each.kind, each.steps, None, reason) for each in seen), None
    found, stuck = _found(model, evaluation, seen)
    rewriting = None
    while found and rewriting is None:
        try:
            rewriting = Rewriting(model, subgraph, evaluation, found)
        except Stands as stands:
            stays = found.pop(stands.layer)
            stuck.append(UnrolledOutcome(stands.layer, stays.cell.kind, len(stays.h), None, str(stands)))
    weights = "float16" if evaluation.has_float16 else "float32"
    fused = [
        UnrolledOutcome(layer, each.cell.kind, len(each.h), op_of(each.cell), None, weights)
        for layer, each in found.items()
    ]
    return (*fused, *stuck), rewriting


def _found(
    model: Model, evaluation: Evaluation, seen: list[Glance]
) -> tuple[dict[str, Sequence], list[UnrolledOutcome]]:
    """The layers that match, by layer, and the outcomes of those that do not."""
    found, stuck = dict[str, Sequence](), list[UnrolledOutcome]()
    covered = np.zeros(evaluation.elements.count, np.bool_)
    taken, names = recurrent.layers_of(model), _Names(model.subgraphs[0], evaluation)
    for each in sequences(evaluation.elements):
        layer = recurrent.numbered(names.of(step.h for step in each.steps), taken)
        taken.add(layer)
        for step in each.steps:
            covered[[step.h, *step.named.values()]] = True
        if isinstance(each, Stuck):
            stuck.append(UnrolledOutcome(layer, each.cell.kind, len(each.steps), None, each.reason))
        else:
            found[layer] = each
    for glance in seen:
        held = [evaluation.names[index] for index in glance.outputs if index in evaluation.names]
        if not any(covered[h.flat[0]] for h in held if h.size):
            layer = recurrent.numbered(glance.name, taken)
            taken.add(layer)
            stuck.append(UnrolledOutcome(layer, glance.kind, glance.steps, None, _why(evaluation, held)))
    return found, stuck


def _why(evaluation: Evaluation, held: list[Names]) -> str:
    """Why the outputs of some steps are not those of a recurrent layer."""
    for number, h in enumerate(held):
        reason = why_no_step(evaluation.elements, h)
        if reason is not None:
            return f"in step {number}, {reason}"
    return "no step starts from the state of the one before"


class _Names:
    """Names of layers by what their tensors hold."""

    def __init__(self, subgraph: Subgraph, evaluation: Evaluation) -> None:
        self._tensors: dict[int, str] = {}
        for index, names in evaluation.names.items():
            if names.size:
                self._tensors.setdefault(int(names.flat[0]), graph.text(subgraph.tensors[index].name))

    def of(self, hidden: Iterable[Names]) -> str:
        """The name that the tensors of the first steps tell."""
        steps = itertools.islice(hidden, _LOOKED_AT)
        told = (layer_name(self._tensors.get(int(step.flat[0]), "")) for step in steps)
        return next((name for name in told if name != UNNAMED), UNNAMED)


_LEAST_PRODUCTS = 2
_LOOKED_AT = 4
