"""Reads one step of an LSTM out of what the numbers of its output are computed of.

h = sigmoid(o) * activation(c)      c = sigmoid(f) * c_before + sigmoid(i) * activation(g)
o, f, i, g: sums of inputs times constant weights, and constant biases
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.passes.unrolled.elements import (
    Block,
    Constants,
    Elements,
    Elementwise,
    Given,
    Names,
    Products,
)

ACTIVATIONS = {"TANH": "tanh", "RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "hard_tanh"}
"""Keras's name for each operator that the fused op has as its cell activation."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sum:
    """What a gate adds up, for every row of the batch.

    Attributes:
        inputs: names, [batch, terms].
        weights: [units, terms].
        bias: [units].
    """

    inputs: Names
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A step of an LSTM.

    Attributes:
        h, c: names, [batch, units].
        before: names of the c that it starts from, [batch, units]; None for zeros.
        sums: by gate; without "forget" where c starts from zeros.
        activation: of the cell, by Keras's name.
    """

    h: Names
    c: Names
    before: Names | None
    sums: dict[str, Sum]
    activation: str


class NoStep(Exception):
    """Why numbers are not what a step of an LSTM computes."""


def steps(elements: Elements) -> Iterator[Step]:
    """Yields every step of an LSTM, in the order of the file."""
    for block, names in elements:
        if isinstance(block, Elementwise) and block.operation == "MUL":
            with contextlib.suppress(NoStep):
                yield _Reader(elements).step(names)


def why_no_step(elements: Elements, h: Names) -> str | None:
    """Why numbers are not the output of a step of an LSTM as the fused op computes it; None if they are."""
    try:
        _Reader(elements).step(h)
    except NoStep as reason:
        return str(reason)
    return None


class _Reader:
    def __init__(self, elements: Elements) -> None:
        self._elements = elements
        self._order: npt.NDArray[np.intp] | None = None
        self._shape = (0, 0)

    def step(self, h: Names) -> Step:
        """Reads the step whose output has some names."""
        output_gate, activated = self._gate_and_other(h)
        activation, c = self._function(activated)
        if activation not in ACTIVATIONS:
            raise NoStep(f"its cell activation is {activation}; the fused op has {', '.join(ACTIVATIONS)}")
        before, forget, new = self._cell(c)
        input_gate, candidate = self._gate_and_other(new)
        function, cell = self._function(candidate)
        if function != activation:
            raise NoStep(f"it activates with both {function} and {activation}")
        gates = {"input": input_gate, "cell": cell, "output": output_gate}
        if forget is not None:
            gates["forget"] = forget
        sums = {gate: self._sum(names) for gate, names in gates.items()}
        return Step(
            h=self._placed(h),
            c=self._placed(c),
            before=None if before is None else self._placed(before),
            sums=sums,
            activation=ACTIVATIONS[activation],
        )

    def _computed(self, names: Names) -> tuple[str, tuple[Names, ...]]:
        found = self._elements.block(names)
        block, places = found or (None, names)
        if not isinstance(block, Elementwise):
            raise NoStep(f"it is computed of {_described(block)}")
        return block.operation, tuple(each[places] for each in block.operands)

    def _function(self, names: Names) -> tuple[str, Names]:
        """A function of one number, and what it is applied to."""
        operation, operands = self._computed(names)
        if len(operands) != 1:
            raise NoStep(f"it is computed of {operation}, where an LSTM has an activation")
        return operation, operands[0]

    def _product(self, names: Names) -> tuple[Names, ...]:
        operation, operands = self._computed(names)
        if operation != "MUL":
            raise NoStep(f"it is computed of {operation}, where an LSTM has MUL")
        return operands

    def _gate_and_other(self, names: Names) -> tuple[Names, Names]:
        """What the sigmoid of a product is applied to, and the product's other factor."""
        left, right = self._product(names)
        for gate, other in ((left, right), (right, left)):
            try:
                function, operand = self._function(gate)
            except NoStep:
                continue
            # The sigmoid of a state is the activation of a cell, not a gate.
            if function == "LOGISTIC" and self._is_sum(operand):
                return operand, other
        raise NoStep("it has a product without a gate, which is LOGISTIC of a sum")

    def _cell(self, c: Names) -> tuple[Names | None, Names | None, Names]:
        """The c before, what the forget gate's sigmoid is applied to, and the product that is added."""
        operation, operands = self._computed(c)
        if operation == "MUL":
            return None, None, c
        if operation != "ADD":
            raise NoStep(_NO_CELL)
        for kept, new in (operands, operands[::-1]):
            try:
                _, candidate = self._gate_and_other(new)
                function, operand = self._function(candidate)
                forget, before = self._gate_and_other(kept)
            except NoStep:
                continue
            if function in ACTIVATIONS and self._is_sum(operand):
                return before, forget, new
        raise NoStep(_NO_CELL)

    def _is_sum(self, names: Names) -> bool:
        found = self._elements.block(names)
        if found is None or isinstance(found[0], Products):
            return found is not None
        return isinstance(found[0], Elementwise) and found[0].operation == "ADD"

    def _sum(self, names: Names) -> Sum:
        """Reads a sum of products and biases."""
        waiting, products, constants = [names], [], []
        while waiting:
            found = self._elements.block(waiting.pop())
            block, places = found or (None, names)
            if isinstance(block, Products):
                products.append((block, places))
            elif isinstance(block, Constants):
                constants.append(block.values[places])
            elif isinstance(block, Elementwise) and block.operation == "ADD" and len(products) < _MOST_TERMS:
                waiting += [each[places] for each in block.operands]
            else:
                raise NoStep(f"the sum of a gate has {_described(block)}")
        terms = [self._rows(*each) for each in products]
        if not terms:
            raise NoStep("a gate has no input")
        values = [self._placed(each) for each in constants]
        if any((each != each[:1]).any() for each in values):
            raise NoStep("the bias of a gate differs from row to row")
        return Sum(
            np.concatenate([inputs for inputs, _, _ in terms], axis=1),
            np.concatenate([weights for _, weights, _ in terms], axis=1),
            np.sum([*(bias for _, _, bias in terms), *(each[0] for each in values)], axis=0, dtype=np.float64),
        )

    def _rows(self, block: Products, places: Names) -> tuple[Names, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The inputs, [batch, terms], weights and biases of some products."""
        rows, outputs = np.divmod(places, len(block.weights))
        if self._order is None:
            self._order = np.lexsort((outputs, rows))
            batch = len(np.unique(rows))
            self._shape = (batch, rows.size // batch)
        rows, outputs = self._placed(rows), self._placed(outputs)
        if (rows != rows[:, :1]).any() or (outputs != outputs[:1]).any():
            raise NoStep("a gate takes its rows from different weights")
        return block.inputs[rows[:, 0]], block.weights[outputs[0]], block.bias[outputs[0]]

    def _placed(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Numbers of the step as [batch, units], in the order in which the first product read has them."""
        order = self._order
        if order is None or flat.size != order.size or self._shape[0] * self._shape[1] != order.size:
            raise NoStep("its gates differ in size")
        return flat.reshape(-1)[order].reshape(self._shape)


_MOST_TERMS = 8
_NO_CELL = "its cell state is not sigmoid(f) * c + sigmoid(i) * activation(g)"


def _described(block: Block | None) -> str:
    if block is None:
        return "what several operators compute"
    if isinstance(block, Given):
        return f"what {block.operator} computes" if block.operator else "an input"
    if isinstance(block, Elementwise):
        return block.operation
    return "constants" if isinstance(block, Constants) else "a product of its own"
