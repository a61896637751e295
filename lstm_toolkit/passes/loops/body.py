"""Recognizes a WHILE loop that runs an LSTM over a sequence, as TensorFlow's converter writes one for Keras.

    body       x_t = GATHER(sequence, t)          z = x_t W + h U + b, split by gate into i, f, g, o
               c' = sigmoid(f) * c + sigmoid(i) * activation(g)          h' = sigmoid(o) * activation(c')
               outputs[t] = h', or last = h'      t' = t + 1
    condition  t < number of steps

The gates are told apart by what they are used for, not by their order.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes.loops.evaluate import UNDERSTOOD, evaluate
from lstm_toolkit.passes.loops.values import (
    Activation,
    Affine,
    Argument,
    Binary,
    Constant,
    Counter,
    Indices,
    Joined,
    Part,
    Reshaped,
    Step,
    Unknown,
    Updated,
)
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.recurrent import ACTIVATIONS
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT, GATES


class Mismatch(Exception):
    """Why a loop is not one that can be fused."""


@dataclasses.dataclass(frozen=True)
class LstmLoop:
    """What a loop computes, and the part that each of its arguments plays.

    Attributes:
        sequence: argument that holds the input, [time, batch, input size].
        outputs: argument that holds the outputs, [time, batch, units], or the last one, [1, batch, units].
        keeps_all: whether `outputs` holds the output of every step.
        output_state, cell_state: arguments that hold h and c, [batch, units].
        unchanged: arguments that no step changes.
        activation: of the cell, by Keras's name.
        weights: arrays by operand name of the fused op.
        bounds: what the step counters stay below: numbers, or arguments that no step changes.
        batch, units: sizes.
    """

    sequence: int
    outputs: int
    keeps_all: bool
    output_state: int
    cell_state: int
    unchanged: frozenset[int]
    activation: str
    weights: dict[str, npt.NDArray[np.float32]]
    bounds: tuple[int | Argument, ...]
    batch: int
    units: int


def subgraphs_of(model: Model, operator: Operator) -> tuple[Subgraph, Subgraph]:
    """The condition and the body of a WHILE.

    Raises:
        Mismatch: if they are not in the file, or have other numbers of arguments and results than the operator.
    """
    options, count = operator.builtinOptions, len(operator.inputs)
    indices = [getattr(options, f"{name}SubgraphIndex", -1) for name in ("cond", "body")]
    if not all(0 < index < len(model.subgraphs) for index in indices):
        raise Mismatch("its condition or its body is not in the file")
    condition, body = (model.subgraphs[index] for index in indices)
    if min([*operator.inputs, *operator.outputs], default=ABSENT) == ABSENT:
        raise Mismatch("it lacks an argument or a result")
    sizes = {len(operator.outputs), len(body.outputs), *(len(set(each.inputs)) for each in (condition, body))}
    if sizes | {len(condition.inputs), len(body.inputs)} != {count} or len(condition.outputs) != 1:
        raise Mismatch("its condition, its body and the loop differ in the number of arguments")
    return condition, body


def is_lstm(model: Model, operator: Operator) -> bool:
    """Whether a state of a loop is multiplied with weights for four gates, which is how an LSTM looks at a glance."""
    try:
        _, body = subgraphs_of(model, operator)
    except Mismatch:
        return False
    rows: dict[int, int] = {}
    for op in body.operators:
        if graph.operator_name(model, op) == "FULLY_CONNECTED" and len(op.inputs) > 1:
            shape = graph.shape_of(body.tensors[op.inputs[1]])
            rows[op.inputs[0]] = rows.get(op.inputs[0], 0) + (shape[0] if shape else 0)
    units = {index: graph.shape_of(body.tensors[index])[-1:] for index in body.inputs}
    return any(units.get(index) == (count / 4,) for index, count in rows.items())


def match(model: Model, subgraph: Subgraph, operator: Operator) -> LstmLoop:
    """Reads a WHILE completely.

    Args:
        model: the file.
        subgraph: that has the loop.
        operator: the WHILE.

    Raises:
        Mismatch: with the reason, if it is anything but an LSTM that the fused op can compute.
    """
    condition, body = subgraphs_of(model, operator)
    for part, called in (("condition", condition), ("body", body)):
        strange = sorted({graph.operator_name(model, op) for op in called.operators} - UNDERSTOOD)
        if strange:
            raise Mismatch(f"its {part} has {', '.join(strange)}, which {_MEANING.get(strange[0], _NO_PART)}")
    arguments = [
        Argument(number, graph.shape_of(subgraph.tensors[index])) for number, index in enumerate(operator.inputs)
    ]
    results = evaluate(model, body, arguments)
    unchanged = frozenset(number for number, argument in enumerate(arguments) if results[number] == argument)
    counters = _counters(model, subgraph, operator, results)
    bounds = _bounds(evaluate(model, condition, arguments)[0], counters, unchanged)
    outputs, h, c = _carried(results, unchanged | counters)
    gates, activation = _cell(results[c], results[h], c)
    weights, sequence = _weights(gates, arguments, counters, h)
    if sequence not in unchanged:
        raise Mismatch("its input sequence changes from step to step")
    _check_types(subgraph, operator, (sequence, outputs, h, c))
    batch, units = arguments[c].shape
    if not results[h].shape == results[c].shape == (batch, units) or arguments[sequence].shape[1:2] != (batch,):
        raise Mismatch("its input, its states and what it computes differ in batch or units")
    return LstmLoop(
        sequence=sequence,
        outputs=outputs,
        keeps_all=_keeps_all(results[outputs], arguments[outputs], results[h], counters),
        output_state=h,
        cell_state=c,
        unchanged=unchanged,
        activation=activation,
        weights=weights,
        bounds=bounds,
        batch=batch,
        units=units,
    )


_NO_SUM = "what its {} gate is computed of is not the input times weights plus h times weights plus a bias"
_NO_PART = "no part of an LSTM is"
_MEANING = {
    "FlexTensorListSetItem": "needs TensorFlow's Flex ops; convert with a fixed batch and without SELECT_TF_OPS",
    "SELECT": "a mask becomes, and the fused op has no mask; convert the Keras model itself",
    "SELECT_V2": "a mask becomes, and the fused op has no mask; convert the Keras model itself",
}


def _carried(results: tuple[Any, ...], others: frozenset[int]) -> tuple[int, int, int]:
    """The arguments that hold the list of outputs, h and c."""
    for value in results:
        if isinstance(value, Unknown):
            raise Mismatch(f"its body has {value.reason}, which the fused op does not compute")
    lists = [number for number, value in enumerate(results) if isinstance(value, (Joined, Reshaped, Updated))]
    states = [number for number in range(len(results)) if number not in {*others, *lists}]
    if len(states) != 2 or len(lists) != 1:
        count = f"{len(states)} state{'s' * (len(states) != 1)} and {len(lists)} list{'s' * (len(lists) != 1)}"
        raise Mismatch(f"it carries {count} of outputs from step to step, and an LSTM 2 states and 1 list")
    for h, c in (states, states[::-1]):
        if _multiplies(results[h], results[c]):
            return lists[0], h, c
    raise Mismatch("none of its states is sigmoid(o) * activation(c), as the output of an LSTM is")


def _counters(model: Model, subgraph: Subgraph, operator: Operator, results: tuple[Any, ...]) -> frozenset[int]:
    """Arguments that count the steps from 0."""
    found = set()
    for number, index in enumerate(operator.inputs):
        start = graph.constant(model, subgraph.tensors[index])
        is_zero = start is not None and start.shape == () and start.dtype.kind == "i" and not start
        if is_zero and results[number] == Counter(number, 1, ()):
            found.add(number)
    return frozenset(found)


def _bounds(condition: Any, counters: frozenset[int], unchanged: frozenset[int]) -> tuple[int | Argument, ...]:
    """What the counters stay below while the loop runs."""
    terms: list[Any] = [condition]
    bounds: list[int | Argument] = []
    for _ in range(_MOST_TERMS):
        if not terms:
            break
        term = terms.pop()
        if isinstance(term, Binary) and term.operation == "LOGICAL_AND":
            terms += [term.left, term.right]
            continue
        if not isinstance(term, Binary) or term.operation != "LESS" or not isinstance(term.left, Argument):
            raise Mismatch("its condition is not that a step counter is less than the number of steps")
        if term.left.index not in counters:
            raise Mismatch("what its condition compares does not count the steps from 0, one by one")
        if isinstance(term.right, Constant) and term.right.values.dtype.kind == "i":
            bounds.append(int(term.right.values.reshape(())))
        elif isinstance(term.right, Argument) and term.right.index in unchanged:
            bounds.append(term.right)
        else:
            raise Mismatch("the number of its steps is computed while it runs")
    if terms:
        raise Mismatch("its condition is not that a step counter is less than the number of steps")
    return tuple(bounds)


_MOST_TERMS = 9


def _multiplies(h: Any, c: Any) -> bool:
    factors = (h.left, h.right) if isinstance(h, Binary) and h.operation == "MUL" else ()
    return any(each is c or _is_of(each, c) for each in factors)


def _cell(c: Any, h: Any, cell_state: int) -> tuple[dict[str, Affine], str]:
    """The sums of the gates and the cell activation, of c = sigmoid(f) * c + sigmoid(i) * activation(g)."""
    products = (c.left, c.right) if isinstance(c, Binary) and c.operation == "ADD" else ()
    if len(products) != 2 or not all(isinstance(each, Binary) and each.operation == "MUL" for each in products):
        raise Mismatch("its cell state is not sigmoid(f) * c + sigmoid(i) * activation(g)")
    keeping = [each for each in products if _is_argument(each.left, cell_state) or _is_argument(each.right, cell_state)]
    if len(keeping) != 1:
        raise Mismatch("its cell state is not sigmoid(f) * c + sigmoid(i) * activation(g)")
    (kept,) = keeping
    new = products[0] if kept is products[1] else products[1]
    forget = kept.right if _is_argument(kept.left, cell_state) else kept.left
    input_gate, candidate = _gate_and_activated(new)
    is_right = h.right is c or _is_of(h.right, c)
    output_gate, activated = (h.left, h.right) if is_right else (h.right, h.left)
    gates = {"input": input_gate, "forget": forget, "output": output_gate}
    for name, gate in gates.items():
        if not isinstance(gate, Activation) or gate.function != "sigmoid":
            raise Mismatch(f"its {name} gate is {_described(gate)}, and those of the fused op are sigmoid")
    if not isinstance(candidate, Activation):
        raise Mismatch(f"its cell activation is {_described(candidate)}; the fused op has {', '.join(ACTIVATIONS)}")
    if not isinstance(activated, Activation) or candidate.function != activated.function:
        raise Mismatch(f"it activates with both {candidate.function} and {_described(activated)}")
    if candidate.function not in ACTIVATIONS:
        raise Mismatch(f"its cell activation is {candidate.function}; the fused op has {', '.join(ACTIVATIONS)}")
    gates["cell"] = candidate
    for name, gate in gates.items():
        if not isinstance(gate.operand, Affine):
            raise Mismatch(_NO_SUM.format(name))
    return {name: gates[name].operand for name in GATES}, candidate.function


def _gate_and_activated(product: Binary) -> tuple[Any, Any]:
    gates = [each for each in (product.left, product.right) if isinstance(each, Activation)]
    gates = [each for each in gates if each.function == "sigmoid"]
    gate = gates[0] if gates else product.left
    return gate, product.right if gate is product.left else product.left


def _is_argument(value: Any, index: int) -> bool:
    return isinstance(value, Argument) and value.index == index


def _is_of(value: Any, operand: Any) -> bool:
    return isinstance(value, Activation) and value.operand is operand


def _described(value: Any) -> str:
    if isinstance(value, Activation):
        return value.function
    return "linear" if isinstance(value, (Affine, Binary)) else "something else"


def _weights(
    gates: dict[str, Affine], arguments: list[Argument], counters: frozenset[int], output_state: int
) -> tuple[dict[str, npt.NDArray[np.float32]], int]:
    """The weights by operand name, and the argument that is the input sequence."""
    state = arguments[output_state]
    weights, sequences = {}, set()
    for name, gate in gates.items():
        steps = [(source, array) for source, array in gate.terms if isinstance(source, Step)]
        recurrent = [array for source, array in gate.terms if source == state]
        if len(steps) != 1 or len(recurrent) != 1 or len(gate.terms) != 2:
            raise Mismatch(_NO_SUM.format(name))
        source, array = steps[0]
        if source.counter not in {Counter(each, 0, ()) for each in counters}:
            raise Mismatch("the step that it takes from its input is not the one that it counts")
        if len(state.shape) != 2 or recurrent[0].shape != (state.shape[1],) * 2 or len(source.shape) != 2:
            raise Mismatch(f"the weights of its {name} gate are not [units, input size] and [units, units]")
        sequences.add(source.argument)
        weights[f"input_to_{name}_weights"], weights[f"recurrent_to_{name}_weights"] = array, recurrent[0]
        weights[f"{name}_gate_bias"] = gate.bias
    if len(sequences) != 1:
        raise Mismatch("its gates take their input from different sequences")
    return weights, sequences.pop()


def _keeps_all(value: Any, argument: Argument, h: Any, counters: frozenset[int]) -> bool:
    """Whether the list of outputs gets h at the place of the step, or is replaced by it; raises if neither."""
    single = (1, *h.shape)
    if isinstance(value, Reshaped) and value.operand is h and value.shape == argument.shape == single:
        return False
    heres = {Counter(each, 0, ()) for each in counters}
    nexts = {Counter(each, 1, ()) for each in counters}
    new, lists = None, set()
    if isinstance(value, Updated) and value.begin.items[1:] == (0, 0) and value.begin.items[0] in heres:
        new, lists = value.update, {value.argument}
    parts = value.parts if isinstance(value, Joined) else ()
    kinds = (Part, Reshaped, Part)
    if len(parts) == 3 and all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True)):
        before, update, after = parts
        if (
            before.begin == Indices((0, 0, 0))
            and before.size.items[0] in heres
            and after.begin.items[0] in nexts
            and after.begin.items[1:] == (0, 0)
            and after.size.items[0] == -1
            and all(size.items[1:] in ((-1, -1), h.shape) for size in (before.size, after.size))
        ):
            new, lists = update, {before.argument, after.argument}
    is_h = isinstance(new, Reshaped) and new.operand is h and new.shape == single
    if is_h and lists == {argument.index} and argument.shape[1:] == h.shape:
        return True
    raise Mismatch("its list of outputs does not get h at the place of the step")


def _check_types(subgraph: Subgraph, operator: Operator, arguments: tuple[int, ...]) -> None:
    for number in arguments:
        tensor = subgraph.tensors[operator.inputs[number]]
        if tensor.type != schema.TensorType.FLOAT32:
            raise Mismatch(f"it computes in {graph.type_name(tensor)}, and the fused op in float32")
    states = [graph.shape_of(subgraph.tensors[operator.inputs[number]]) for number in arguments[2:]]
    if states[0] != states[1] or len(states[0]) != 2 or min(states[0]) < 1:
        raise Mismatch(f"its states have the shapes {[list(shape) for shape in states]}, not [batch, units] both")
