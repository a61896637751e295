"""Puts the fused op in the place of a loop that is an LSTM.

    before  [TRANSPOSE: x -> t] [WHILE: 0, list, h, c, t -> ..., list] [TRANSPOSE: list -> y]
    after   [UNIDIRECTIONAL_SEQUENCE_LSTM: x -> y]

The op takes the layout that saves the transposes.
"""

import copy

import numpy as np

from lstm_toolkit.passes import graft, transposes
from lstm_toolkit.passes.loops.body import LstmLoop
from lstm_toolkit.tflite import edit, graph, recurrent
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import LSTM_COMPOSITE, STATES

FUSED_OP = recurrent.FUSED_OPS[LSTM_COMPOSITE]
"""What a loop becomes."""


def rewrite(model: Model, subgraph: Subgraph, operator: Operator, loop: LstmLoop, layer: str) -> None:
    """Replaces a loop by the op, in place.

    Args:
        model: the file.
        subgraph: that has the loop.
        operator: the WHILE.
        loop: what it computes.
        layer: name for the op's weights and states.
    """
    inputs, results = list(operator.inputs), list(operator.outputs)
    for number in loop.unchanged:
        edit.redirect(subgraph, results[number], inputs[number])
    source, time_major, before = _source(model, subgraph, inputs[loop.sequence])
    given = tuple(inputs[number] for number in (loop.output_state, loop.cell_state))
    states_are_zero = all(_is_zero(model, subgraph, index) for index in given)
    shape = (*graph.shape_of(subgraph.tensors[source])[:2], loop.units)
    sequence = edit.add_tensor(subgraph, "sequence", shape)
    operator.inputs, operator.outputs = [source], [sequence, results[loop.cell_state]]
    fusion = graft.Fusion(
        subgraph=subgraph,
        operator=operator,
        layer=layer,
        op=FUSED_OP,
        options={"fusedActivationFunction": recurrent.ACTIVATIONS[loop.activation], "timeMajor": time_major},
        weights=loop.weights,
        packed=(),
        given=() if states_are_zero else given,
        state_sizes=dict.fromkeys(STATES, loop.units),
        batch=loop.batch,
        carry=False,
    )
    place = subgraph.operators.index(operator)
    subgraph.operators[place:place] = before
    fused = graft.replace(model, fusion, {})
    _insert_behind(subgraph, fused, _last_steps(model, subgraph, loop, results, sequence, time_major=time_major))
    if loop.keeps_all:
        _insert_behind(subgraph, fused, _whole(model, subgraph, fused, results[loop.outputs], time_major=time_major))
    _remove_unused(model, subgraph, inputs)


def _insert_behind(subgraph: Subgraph, operator: Operator, new: list[Operator]) -> None:
    place = subgraph.operators.index(operator) + 1
    subgraph.operators[place:place] = new


def _source(model: Model, subgraph: Subgraph, sequence: int) -> tuple[int, bool, list[Operator]]:
    """The op's input, whether it is time-major, and what must stand before the op.

    Where the sequence was transposed for the loop, perhaps reversed too, the op takes it as it was before.
    """
    producers = graph.producers(subgraph)
    producer = producers.get(sequence)
    if producer is not None and transposes.swaps_first_axes(model, subgraph, producer):
        return producer.inputs[0], False, []
    if producer is not None and graph.operator_name(model, producer) == "REVERSE_V2":
        swap = producers.get(producer.inputs[0])
        axis = graph.constant(model, subgraph.tensors[producer.inputs[1]])
        if (
            swap is not None
            and transposes.swaps_first_axes(model, subgraph, swap)
            and axis is not None
            and not axis.any()
        ):
            reverse = copy.deepcopy(producer)
            shape = graph.shape_of(subgraph.tensors[swap.inputs[0]])
            target = edit.add_tensor(subgraph, graph.text(subgraph.tensors[sequence].name), shape)
            reverse.inputs = [swap.inputs[0], edit.add_constant(model, subgraph, "time", np.ones_like(axis))]
            reverse.outputs = [target]
            return target, False, [reverse]
    return sequence, True, []


def _is_zero(model: Model, subgraph: Subgraph, index: int) -> bool:
    producer = graph.producers(subgraph).get(index)
    if producer is not None and graph.operator_name(model, producer) == "DEQUANTIZE":
        index = producer.inputs[0]
    values = graph.constant(model, subgraph.tensors[index])
    return values is not None and values.dtype.kind == "f" and not values.any()


def _last_steps(
    model: Model, subgraph: Subgraph, loop: LstmLoop, results: list[int], sequence: int, *, time_major: bool
) -> list[Operator]:
    """Operators that take the last step for every tensor that held it: the state h, and the list of one output."""
    consumed = graph.consumed(subgraph)
    targets = [results[loop.output_state]] if results[loop.output_state] in consumed else []
    operators = []
    if not loop.keeps_all:
        single = results[loop.outputs]
        for op in [op for op in subgraph.operators if single in op.inputs]:
            if graph.takes_last_step(model, subgraph, op, 0, steps=1):
                subgraph.operators.remove(op)
                targets.append(op.outputs[0])
        if single in graph.consumed(subgraph):
            last = edit.add_tensor(subgraph, "last", (loop.batch, loop.units))
            targets.append(last)
            shape = edit.add_constant(model, subgraph, "shape", np.array([1, loop.batch, loop.units], np.int32))
            operators.append(edit.new_operator(model, "RESHAPE", [last, shape], [single]))
    time = 0 if time_major else 1
    slices = [edit.step_operator(model, subgraph, sequence, target, axis=time) for target in targets]
    return slices + operators


def _whole(model: Model, subgraph: Subgraph, operator: Operator, old: int, *, time_major: bool) -> list[Operator]:
    """Gives the outputs of all steps to what used the loop's list; returns what must stand behind the op."""
    sequence = operator.outputs[0]
    if time_major:
        if old in subgraph.outputs:
            _produce(subgraph, operator, old)
        else:
            edit.redirect(subgraph, old, sequence)
        return []
    users = [op for op in subgraph.operators if old in op.inputs]
    swaps = [op for op in users if transposes.swaps_first_axes(model, subgraph, op)]
    swaps.sort(key=lambda op: op.outputs[0] not in subgraph.outputs)
    for number, swap in enumerate(swaps):
        target = swap.outputs[0]
        if target in subgraph.outputs and number == 0:
            _produce(subgraph, operator, target)
        elif target not in subgraph.outputs:
            edit.redirect(subgraph, target, operator.outputs[0])
        else:
            continue
        subgraph.operators.remove(swap)
    if old not in graph.consumed(subgraph):
        return []
    permutation = edit.add_constant(model, subgraph, "permutation", np.array([1, 0, 2], np.int32))
    return [edit.new_operator(model, "TRANSPOSE", [operator.outputs[0], permutation], [old])]


def _produce(subgraph: Subgraph, operator: Operator, target: int) -> None:
    """Lets the op compute into a tensor that is an output of the model."""
    edit.redirect(subgraph, operator.outputs[0], target)
    operator.outputs = [target]


_PURE = {"CONCATENATION", "DEQUANTIZE", "FILL", "RESHAPE", "REVERSE_V2", "SHAPE", "STRIDED_SLICE", "TRANSPOSE"}


def _remove_unused(model: Model, subgraph: Subgraph, tensors: list[int]) -> None:
    """Removes what computed the arguments of a loop, where nothing else uses it."""
    producers = graph.producers(subgraph)
    waiting = list(tensors)
    while waiting:
        op = producers.get(waiting.pop())
        if op is None or op not in subgraph.operators or graph.operator_name(model, op) not in _PURE:
            continue
        if not set(op.outputs) & graph.consumed(subgraph):
            subgraph.operators.remove(op)
            waiting += op.inputs
