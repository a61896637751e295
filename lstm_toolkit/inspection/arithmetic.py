"""Multiply-adds of the operators of a file: of matrix products and convolutions; element-wise work counts as none.

What cannot be known from the file (a dynamic shape, a loop without a fixed number of turns, an op that is not in the
list) is None, never a guess.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.graph import called_subgraphs
from lstm_toolkit.tflite.recurrent import RecurrentOp
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT, OPERANDS_OF

_MATRIX_OPERANDS = ("weights", "recurrent_weights")
"""Endings of the operands of recurrent ops that are multiplied at every step, peephole and projection among them."""

_NOT_COUNTED = {"CONV_3D", "CONV_3D_TRANSPOSE", "SVDF", "TRANSPOSE_CONV", "LSH_PROJECTION", "RFFT2D", "DILATE"}
_NOT_COUNTED |= {"RNN", "EMBEDDING_LOOKUP_SPARSE", "CALL", "CONCAT_EMBEDDINGS", "CUSTOM", "DELEGATE"}

_BUILTINS = {name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


@dataclasses.dataclass(frozen=True)
class Work:
    """What one run of an operator takes.

    Attributes:
        multiply_adds: of the whole run; None where it is not known.
        turns: of a loop, how often its body runs; None where it is not known, and for other operators.
        multiply_adds_per_turn: of a loop, the multiply-adds of one turn; None where not known, and for other operators.
    """

    multiply_adds: int | None
    turns: int | None = None
    multiply_adds_per_turn: int | None = None


class Arithmetic:
    """Counts the multiply-adds of one model; subgraphs that several operators run are counted once and kept."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._subgraphs: dict[int, int | None] = {}

    def subgraph(self, number: int) -> int | None:
        """Multiply-adds of one run of a subgraph."""
        if number not in self._subgraphs:
            subgraph = self._model.subgraphs[number]
            self._subgraphs[number] = known_sum(self.operator(subgraph, op).multiply_adds for op in subgraph.operators)
        return self._subgraphs[number]

    def operator(self, subgraph: Subgraph, op: Operator) -> Work:
        """Multiply-adds of one run of an operator."""
        name = graph.operator_name(self._model, op)
        if name == "WHILE":
            return self._loop(subgraph, op)
        if called_subgraphs(op):
            is_free = all(self.subgraph(number) == 0 for number in called_subgraphs(op))
            return Work(0 if is_free else None)
        if name in OPERANDS_OF:
            return Work(_recurrent(RecurrentOp(self._model, subgraph, op)))
        if name in _SUMMED:
            return Work(_product(subgraph, op, name))
        known = name in _BUILTINS and name not in _NOT_COUNTED and not name.startswith("STABLEHLO")
        return Work(0 if known else None)

    def _loop(self, subgraph: Subgraph, op: Operator) -> Work:
        condition = self.subgraph(op.builtinOptions.condSubgraphIndex)
        per_turn = known_sum([condition, self.subgraph(op.builtinOptions.bodySubgraphIndex)])
        turns = turns_of(self._model, subgraph, op)
        if turns is None or per_turn is None or condition is None:
            return Work(0 if per_turn == 0 else None, turns, per_turn)
        return Work(turns * per_turn + condition, turns, per_turn)


def operators_executed(tflite: bytes, time_steps: int | None = None) -> int | None:
    """Operators that one call executes; the body of a loop counts as often as it runs, an initializer not at all.

    Args:
        tflite: the file. If its number of time steps is fixed, this is what it executes, whatever else is asked.
        time_steps: of a call, if the file leaves them open.

    Returns:
        The number; None where neither the file nor `time_steps` tells how often a loop runs.

    Raises:
        InvalidModelError: if the bytes are no readable `.tflite` file.
        ValueError: if the file takes sequences of other lengths alone.
    """
    model = files.read_model(tflite)
    _require_length(model, time_steps)

    def executed(number: int) -> int | None:
        subgraph = model.subgraphs[number]
        return known_sum(of_operator(subgraph, op) for op in subgraph.operators)

    def of_operator(subgraph: Subgraph, op: Operator) -> int | None:
        name = graph.operator_name(model, op)
        if name == "CALL_ONCE":
            return 0
        if name != "WHILE":
            return None if called_subgraphs(op) else 1
        condition, body = (executed(number) for number in called_subgraphs(op))
        turns = turns_of(model, subgraph, op, time_steps)
        if condition is None or body is None or turns is None:
            return None
        return 1 + (turns + 1) * condition + turns * body

    return executed(0)


def _require_length(model: Model, time_steps: int | None) -> None:
    """Refuses a number of time steps that no input of the file can have."""
    main = model.subgraphs[0]
    shapes = [graph.shape_of(main.tensors[index]) for index in main.inputs]
    sequences = [shape for shape in shapes if len(shape) > 2]
    if time_steps is None or not sequences:
        return
    if all(-1 not in shape and time_steps not in shape[:-1] for shape in sequences):
        raise ValueError(
            f"time_steps is {time_steps}, but the file takes {' and '.join(map(str, sequences))} and executes the same "
            f"at every call; leave time_steps out, or convert the model for {time_steps} steps"
        )


@dataclasses.dataclass(frozen=True)
class _Counter:
    """What a loop counts; a number that is not constant is None.

    Attributes:
        start, step, bound: where it starts, what a turn adds, and where it ends.
        last: whether the bound itself has a turn too.
    """

    start: int | None
    step: int | None
    bound: int | None
    last: bool

    def turns(self, time_steps: int | None) -> int | None:
        """Turns until it is not below its bound any more; time steps are counted from 0 by ones."""
        bound = self.bound
        if (self.start, self.step, self.bound, self.last) == (0, 1, None, False):
            bound = time_steps
        if self.start is None or bound is None or self.step is None or self.step < 1:
            return None
        return max(0, -((self.start - bound - self.last) // self.step))


def turns_of(model: Model, subgraph: Subgraph, loop: Any, time_steps: int | None = None) -> int | None:
    """How often the body of a `WHILE` runs, where counters that start, step and end at constants decide that.

    Args:
        model: the file.
        subgraph: the one that the operator stands in.
        loop: the operator.
        time_steps: where a counter ends that goes from 0 by ones, if only a call tells.
    """
    condition = model.subgraphs[loop.builtinOptions.condSubgraphIndex]
    body = model.subgraphs[loop.builtinOptions.bodySubgraphIndex]
    count = len(loop.inputs)
    if len(condition.outputs) != 1 or {len(condition.inputs), len(body.inputs), len(body.outputs)} != {count}:
        return None
    made_by, waiting, seen = graph.producers(condition), [condition.outputs[0]], set[int]()
    turns: list[int | None] = []
    while waiting:
        index = waiting.pop()
        op: Any = made_by.get(index)
        name = "" if op is None or index in seen else graph.operator_name(model, op)
        seen.add(index)
        if name == "LOGICAL_AND":
            waiting += op.inputs
        elif name in ("LESS", "LESS_EQUAL"):
            counter = _counter(model, subgraph, loop, op)
            turns.append(None if counter is None else counter.turns(time_steps))
        else:
            return None
    known = [each for each in turns if each is not None]
    return min(known) if known and len(known) == len(turns) else None


def _counter(model: Model, subgraph: Subgraph, loop: Any, less: Any) -> _Counter | None:
    """What a condition compares with a bound; None where that is no variable of the loop."""
    condition = model.subgraphs[loop.builtinOptions.condSubgraphIndex]
    body = model.subgraphs[loop.builtinOptions.bodySubgraphIndex]
    if len(less.inputs) != 2 or less.inputs[0] not in condition.inputs:
        return None
    counter, bound = less.inputs
    place = condition.inputs.index(counter)
    limit = _integer(model, condition, bound)
    if bound in condition.inputs:
        other = condition.inputs.index(bound)
        if body.outputs[other] == body.inputs[other]:
            limit = _integer(model, subgraph, loop.inputs[other])
    last = graph.operator_name(model, less) == "LESS_EQUAL"
    return _Counter(_integer(model, subgraph, loop.inputs[place]), _step(model, body, place), limit, last)


def _step(model: Model, body: Any, place: int) -> int | None:
    """What a turn adds to a counter."""
    op = graph.producers(body).get(body.outputs[place])
    if op is None or graph.operator_name(model, op) != "ADD" or body.inputs[place] not in op.inputs:
        return None
    others = [index for index in op.inputs if index != body.inputs[place]]
    return _integer(model, body, others[0]) if len(others) == 1 else None


def _integer(model: Model, subgraph: Subgraph, index: int) -> int | None:
    tensor = subgraph.tensors[index]
    if index == ABSENT or math.prod(graph.shape_of(tensor)) != 1:
        return None
    value = graph.constant(model, tensor)
    return int(value.reshape(-1)[0]) if value is not None and np.issubdtype(value.dtype, np.integer) else None


def known_sum(counts: Iterable[int | None]) -> int | None:
    """The sum; None where a count is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _elements(subgraph: Subgraph, index: int) -> int | None:
    """Number of elements of a tensor; None where its shape is dynamic or not known."""
    shape = graph.shape_of(subgraph.tensors[index])
    return None if not shape or -1 in shape else math.prod(shape)


def _recurrent(op: RecurrentOp) -> int | None:
    """Every weight is used once for each row and step."""
    if not op.has("input"):
        return None
    shape = graph.shape_of(op.tensor("input"))
    matrices = [index for name, index in op.operands.items() if name.endswith(_MATRIX_OPERANDS)]
    weights = known_sum(_elements(op.subgraph, index) for index in matrices)
    if len(shape) not in (2, 3) or -1 in shape or weights is None:
        return None
    return math.prod(shape[:-1]) * weights


def _product(subgraph: Subgraph, op: Operator, name: str) -> int | None:
    """An output takes as many as there are numbers in what is summed up for it."""
    operand, summed, rank = _SUMMED[name]
    if name == "BATCH_MATMUL" and op.builtinOptions.adjX:
        summed = slice(-2, -1)
    outputs, sizes = _elements(subgraph, op.outputs[0]), graph.shape_of(subgraph.tensors[op.inputs[operand]])[summed]
    return None if outputs is None or len(sizes) != rank or -1 in sizes else outputs * math.prod(sizes)


_SUMMED = {
    "BATCH_MATMUL": (0, slice(-1, None), 1),
    "CONV_2D": (1, slice(1, None), 3),
    "DEPTHWISE_CONV_2D": (1, slice(1, 3), 2),
    "FULLY_CONNECTED": (1, slice(1, None), 1),
}
"""For each op the operand that tells what is summed up, its axes that are, and their number.

Filters are [output channels, rows, columns, input channels of a group]; of `DEPTHWISE_CONV_2D`, [1, rows, columns,
output channels].
"""
