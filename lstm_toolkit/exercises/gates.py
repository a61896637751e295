"""Checks of the exercises in codelab 01: packing the weights of the gates."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.exercises import Array, Float64, random_weights, require, require_shape, several
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import GATES

INPUT_SIZE, UNITS = 3, 6

MysteryLstm = Callable[[npt.ArrayLike], tuple[Float64, Float64]]

_LINGVO_ORDER = ("cell", "input", "forget", "output")

_BEHAVIOUR = {
    "input": "last_c is 0 everywhere, so nothing came in",
    "forget": "last_c has no trace of the steps before the last one",
    "cell": "last_c is negative everywhere, since tanh makes -1 of it at each step",
    "output": "outputs are 0 everywhere, but last_c is not",
}


def check_split(split: Callable[[Array], Any]) -> None:
    """Checks a function from Keras's `kernel` [input_size, 4 * units] to the four `input_to_*_weights` of the op.

    Args:
        split: returns four arrays, each [units, input_size], in the order input, forget, cell, output.
    """
    kernel = _random(1, INPUT_SIZE, 4 * UNITS)
    arrays = _arrays(split(kernel.copy()), 4, "the op has four gates, the function returns {} arrays")
    for number, (gate, given) in enumerate(zip(GATES, arrays, strict=True)):
        require_shape(given, (UNITS, INPUT_SIZE), f"of a kernel {list(kernel.shape)} the {gate} gate is")
        for unit, row in np.ndindex(given.shape):
            column = number * UNITS + unit
            hint = f"array {number} must be the {gate} gate: its [{unit}, {row}] is not kernel[{row}, {column}]"
            require(given[unit, row] == kernel[row, column], hint)


def check_pack_lingvo(pack: Callable[[GateWeights], Any]) -> None:
    """Checks a function from `GateWeights` to the arrays of a Lingvo cell without projection.

    Args:
        pack: returns `wm` [input_size + units, 4 * units] and `b` [4 * units].
    """
    weights = random_weights(2, UNITS, INPUT_SIZE)
    wm, b = _arrays(pack(weights), 2, "a Lingvo cell has wm and b, the function returns {} arrays")
    expected = (INPUT_SIZE + UNITS, 4 * UNITS)
    require_shape(wm, expected, "wm must be")
    require_shape(b, expected[1:], "b must be")
    for number, gate in enumerate(_LINGVO_ORDER):
        columns = slice(number * UNITS, (number + 1) * UNITS)
        where = f"{columns.start} to {columns.stop - 1}"
        first = f"columns {where} of wm belong to the {gate} gate: "
        given, recurrent = wm[:INPUT_SIZE, columns], wm[INPUT_SIZE:, columns]
        own = [getattr(weights, f"{part}_to_{gate}_weights").T for part in ("input", "recurrent")]
        require(np.array_equal(given, own[0]), f"{first}their first rows are its input weights, transposed")
        require(np.array_equal(recurrent, own[1]), f"{first}the rows below are its recurrent weights, transposed")
        bias = getattr(weights, f"{gate}_gate_bias")
        require(np.array_equal(b[columns], bias), f"{where} of b belong to the {gate} gate")


def check_find_order(find_order: Callable[[MysteryLstm, int], Any]) -> None:
    """Checks a function that finds the order of the gates of an LSTM that it can only run.

    Args:
        find_order: takes an LSTM as `mystery_lstm` gives it, and its units; returns the names of the gates in the
            order of its bias. All 24 orders are tried.
    """
    for order in itertools.permutations(GATES):
        answer = tuple(map(str, several(find_order(mystery_lstm(order), UNITS))))
        require(sorted(answer) == sorted(GATES), f"an order has each of {', '.join(GATES)} once, not {answer}")
        for block, (given, gate) in enumerate(zip(answer, order, strict=True)):
            require(
                given == gate,
                f"an LSTM with the order {', '.join(order)}: block {block} is not the {given} gate. With -10000 in "
                f"that block {_BEHAVIOUR[gate]}",
            )


def mystery_lstm(order: Sequence[str]) -> MysteryLstm:
    """An LSTM of 6 units with fixed random weights and a fixed sequence, whose packed bias is in a given order.

    Args:
        order: the names of the four gates.

    Returns:
        A function of a bias [24] that runs the sequence and returns the outputs [time, 6] and the last c [6].
    """
    weights, x = random_weights(3, UNITS, INPUT_SIZE), _random(4, 1, 7, INPUT_SIZE)

    def run(bias: npt.ArrayLike) -> tuple[Float64, Float64]:
        parts = np.split(np.asarray(bias, np.float32), 4)
        biases = {f"{gate}_gate_bias": part for gate, part in zip(order, parts, strict=True)}
        outputs, _, last_c = reference.lstm(dataclasses.replace(weights, **biases), x)
        return outputs[0], last_c[0]

    return run


def _arrays(answer: Any, count: int, hint: str) -> list[npt.NDArray[Any]]:
    """An answer of several arrays; raises AssertionError where it is something else."""
    try:
        return [np.asarray(each) for each in several(answer, count, hint)]
    except ValueError:
        raise AssertionError("one of the things that the function returns has rows of unequal length") from None


def _random(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
