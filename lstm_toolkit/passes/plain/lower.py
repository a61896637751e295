"""Pass: recurrent ops become plain ops, without variable tensors.

    before  [ZEROS_LIKE: h -> h] [ZEROS_LIKE: c -> c] [UNIDIRECTIONAL_SEQUENCE_LSTM: input, weights, h, c -> sequence]
    after   [FULLY_CONNECTED] [SPLIT] ... [PACK: -> sequence] ("unrolled"), or [FULLY_CONNECTED] [WHILE] ... ("loop")

    before  [lstm_toolkit.Cell (CUSTOM): input, weights, perhaps h, c -> sequence, perhaps c]
    after   the same

A state that an ADD_N sets from a given one becomes the start of the plain ops, and what reads a state behind the op
reads their last one. Such files run where variable tensors are refused, and often faster than with the fused ops.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence

from lstm_toolkit.passes.plain.cells import GruCell, LstmCell, SimpleRnnCell
from lstm_toolkit.passes.plain.match import Lowering, matches
from lstm_toolkit.passes.plain.recurrence import FORMS, Recurrence
from lstm_toolkit.passes.plain.sequence import emit
from lstm_toolkit.tflite import edit, files, graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph

ASIDE = "lstm_toolkit.Recurrence"
"""The CUSTOM op that stands for a recurrence."""

Write = Callable[[Model, Subgraph, Recurrence], list[Operator]]
"""Gives the ops of a recurrence, and adds their tensors to a file."""

UNROLLED: Write = functools.partial(emit, form="unrolled")

_CLASSES = {LstmCell: "LSTM", GruCell: "GRU", SimpleRnnCell: "SimpleRNN"}


def lower(tflite: bytes, *, form: str = "unrolled", steps_per_turn: int | None = None) -> bytes:
    """Writes the fused recurrent ops of a file, wherever it comes from, as plain ops without variable tensors.

    Args:
        tflite: a `.tflite` file with float32 weights.
        form: "unrolled" over time, which has to be fixed; or "loop", a WHILE with several steps a turn.
        steps_per_turn: of a loop; None chooses.

    Returns:
        The file, or the same bytes where there is no recurrent op.

    Raises:
        ConversionError: if an op cannot be lowered exactly; names the layer, the reason and the remedy.
        InvalidModelError: if the bytes are no readable `.tflite` file.
        ValueError: for another form, and for less than one step a turn.
    """
    model = files.read_model(tflite)
    return files.write_model(model) if lower_model(model, form=form, steps_per_turn=steps_per_turn) else tflite


def lower_model(
    model: Model, *, form: str, steps_per_turn: int | None = None, alike: bool = False, cells_only: bool = False
) -> dict[str, str]:
    """Lowers every recurrent op of a `ModelT`, in place; nothing is changed where one of them is refused.

    Args:
        model: the file.
        form: as `lower` takes it.
        steps_per_turn: as `lower` takes them.
        alike: whether all steps are the same ops, as `Recurrence` has it.
        cells_only: whether fused ops stay, and only the composite ops of layers that no fused op can hold are lowered.

    Returns:
        For the name of each layer that is lowered, its class in Keras.

    Raises:
        ConversionError: as `lower` does.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if steps_per_turn is not None and steps_per_turn < 1:
        raise ValueError(f"steps_per_turn must be at least 1, got {steps_per_turn}")
    write = functools.partial(emit, form=form, steps_per_turn=steps_per_turn)
    return _rewrite(model, form, write, alike=alike, cells_only=cells_only)


def set_aside(model: Model) -> list[Recurrence]:
    """Lets every recurrent op of a `ModelT` be a CUSTOM op for a while, in place, which other tools leave as it is.

    Returns:
        What `put_back` makes plain ops of, with steps that are all alike.

    Raises:
        ConversionError: as `lower` does.
    """
    found: list[Recurrence] = []

    def write(model: Model, _: Subgraph, recurrence: Recurrence) -> list[Operator]:
        operator = edit.new_operator(model, "CUSTOM", _taken(recurrence), _given(recurrence))
        code = copy.copy(model.operatorCodes[operator.opcodeIndex])
        code.customCode = ASIDE.encode()
        model.operatorCodes.append(code)
        operator.opcodeIndex, operator.customOptions = len(model.operatorCodes) - 1, list(str(len(found)).encode())
        found.append(recurrence)
        return [operator]

    _rewrite(model, "unrolled", write, alike=True)
    files.prune(model)
    return found


def put_back(model: Model, recurrences: Sequence[Recurrence], write: Write) -> None:
    """Makes plain ops of the ops that `set_aside` left, in place."""
    for subgraph in model.subgraphs:
        operators: list[Operator] = []
        for operator in subgraph.operators:
            if graph.operator_name(model, operator) != ASIDE:
                operators.append(operator)
                continue
            recurrence = recurrences[int(bytes(operator.customOptions))]
            old: list[int | None] = [*_taken(recurrence), *_given(recurrence)]
            new = dict(zip(old, [*operator.inputs, *operator.outputs], strict=True))
            moved = dataclasses.replace(
                recurrence,
                input=new[recurrence.input],
                outputs=new.get(recurrence.outputs),
                start=tuple(new.get(each) for each in recurrence.start),
                last=tuple(tuple(new[target] for target in targets) for targets in recurrence.last),
            )
            operators += write(model, subgraph, moved)
        subgraph.operators = operators


def _taken(recurrence: Recurrence) -> list[int]:
    return [recurrence.input, *(each for each in recurrence.start if each is not None)]


def _given(recurrence: Recurrence) -> list[int]:
    outputs = [] if recurrence.outputs is None else [recurrence.outputs]
    return [*outputs, *(target for targets in recurrence.last for target in targets)]


def _rewrite(model: Model, form: str, write: Write, *, alike: bool, cells_only: bool = False) -> dict[str, str]:
    """Writes every recurrent op as what a function makes of it; returns the class of each layer by its name."""
    found_in = [(subgraph, list(matches(model, subgraph, form, cells_only=cells_only))) for subgraph in model.subgraphs]
    for subgraph, found in found_in:
        for match in found:
            if alike:
                match = match.with_like_steps()
            _replace(model, subgraph, match, write)
        if found:
            edit.drop_unused(subgraph)
    lowered = [each for _, found in found_in for match in found for each in match.recurrences]
    return {each.layer: _CLASSES[type(each.cell)] for each in lowered}


def _replace(model: Model, subgraph: Subgraph, match: Lowering, write: Write) -> None:
    operators = []
    for recurrence in match.recurrences:
        operators += write(model, subgraph, recurrence)
    if match.joined is not None:
        axis = len(graph.shape_of(subgraph.tensors[match.joined])) - 1
        halves = [each.outputs for each in match.recurrences if each.outputs is not None]
        operators.append(edit.new_operator(model, "CONCATENATION", halves, [match.joined], axis=axis))
    place = subgraph.operators.index(match.operator)
    subgraph.operators[place : place + 1] = operators
    subgraph.operators = [op for op in subgraph.operators if op not in match.dropped]
    for state, target in match.moved.items():
        edit.redirect(subgraph, state, target)
