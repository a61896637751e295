"""The checks of the exercises in the codelabs.

Each takes the function that the reader wrote, calls it with weights that it has not seen, and returns nothing where the
answers are right.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import reference
from .contract import BIASES, GATES, INPUT_WEIGHTS, RECURRENT_WEIGHTS
from .gates import GateWeights

INPUT_SIZE, UNITS = 3, 6

Array = npt.NDArray[np.float32]
MysteryLstm = Callable[[npt.ArrayLike], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]

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

    Raises:
        AssertionError: with a hint, where the answer is wrong.
    """
    kernel = _random(1, INPUT_SIZE, 4 * UNITS)
    answer = split(kernel.copy())
    _require_several(answer)
    _require(len(answer) == 4, f"the op has four gates, the function returns {len(answer)} arrays")
    for number, gate in enumerate(GATES):
        given = np.asarray(answer[number])
        _require(
            given.shape == (UNITS, INPUT_SIZE),
            f"of a kernel {list(kernel.shape)} the {gate} gate is [{UNITS}, {INPUT_SIZE}], not {list(given.shape)}",
        )
        for unit, row in np.ndindex(given.shape):
            wanted = kernel[row, number * UNITS + unit]
            _require(
                given[unit, row] == wanted,
                f"array {number} must be the {gate} gate: its [{unit}, {row}] is not "
                f"kernel[{row}, {number * UNITS + unit}]",
            )


def check_pack_lingvo(pack: Callable[[GateWeights], Any]) -> None:
    """Checks a function from `GateWeights` to the arrays of a Lingvo cell without projection.

    Args:
        pack: returns `wm` [input_size + units, 4 * units] and `b` [4 * units].

    Raises:
        AssertionError: with a hint, where the answer is wrong.
    """
    weights = _weights(2)
    answer = pack(weights)
    _require_several(answer)
    _require(len(answer) == 2, f"a Lingvo cell has wm and b, the function returns {len(answer)} arrays")
    wm, b = (np.asarray(each) for each in answer)
    expected = (INPUT_SIZE + UNITS, 4 * UNITS)
    _require(wm.shape == expected, f"wm must be {list(expected)}, not {list(wm.shape)}")
    _require(b.shape == expected[1:], f"b must be {list(expected[1:])}, not {list(b.shape)}")
    for number, gate in enumerate(_LINGVO_ORDER):
        columns = slice(number * UNITS, (number + 1) * UNITS)
        where = f"{columns.start} to {columns.stop - 1}"
        first = f"columns {where} of wm belong to the {gate} gate: "
        given, recurrent = wm[:INPUT_SIZE, columns], wm[INPUT_SIZE:, columns]
        own = [getattr(weights, f"{part}_to_{gate}_weights").T for part in ("input", "recurrent")]
        _require(np.array_equal(given, own[0]), f"{first}their first rows are its input weights, transposed")
        _require(np.array_equal(recurrent, own[1]), f"{first}the rows below are its recurrent weights, transposed")
        bias = getattr(weights, f"{gate}_gate_bias")
        _require(np.array_equal(b[columns], bias), f"{where} of b belong to the {gate} gate")


def check_find_order(find_order: Callable[[MysteryLstm, int], Any]) -> None:
    """Checks a function that finds the order of the gates of an LSTM that it can only run.

    Args:
        find_order: takes an LSTM as `mystery_lstm` gives it, and its units; returns the names of the gates in the
            order of its bias.

    Raises:
        AssertionError: with a hint, where an answer is wrong. All 24 orders are tried.
    """
    for order in itertools.permutations(GATES):
        answer = find_order(mystery_lstm(order), UNITS)
        _require_several(answer)
        answer = tuple(answer)
        _require(
            sorted(answer, key=str) == sorted(GATES), f"an order has each of {', '.join(GATES)} once, not {answer}"
        )
        for block, (given, gate) in enumerate(zip(answer, order, strict=True)):
            _require(
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
    weights, x = _weights(3), _random(4, 1, 7, INPUT_SIZE)

    def run(bias: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        parts = np.split(np.asarray(bias, np.float32), 4)
        biases = {f"{gate}_gate_bias": part for gate, part in zip(order, parts, strict=True)}
        outputs, _, last_c = reference.lstm(dataclasses.replace(weights, **biases), x)
        return outputs[0], last_c[0]

    return run


def _require(fulfilled: Any, message: str) -> None:
    if not fulfilled:
        raise AssertionError(message)


def _require_several(answer: Any) -> None:
    _require(answer is not None, "the function returns nothing")
    _require(np.iterable(answer), f"the function returns a single {type(answer).__name__}, and not several things")


def _random(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _weights(seed: int) -> GateWeights:
    groups = ((INPUT_WEIGHTS, (UNITS, INPUT_SIZE)), (RECURRENT_WEIGHTS, (UNITS, UNITS)), (BIASES, (UNITS,)))
    names = [(name, shape) for group, shape in groups for name in group]
    return GateWeights(**{name: _random(100 * seed + n, *shape) for n, (name, shape) in enumerate(names)})


def check_ratio(ratio: Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], Any]) -> None:
    """Checks a function from the times of two models, round by round, to how many times as long the second takes.

    Args:
        ratio: takes two arrays of times of equal length and returns a number.

    Raises:
        AssertionError: with a hint, where the answer is off by more than 2 percent.
    """
    random = np.random.default_rng(7)
    drift = np.linspace(1.0, 3.0, 60)
    first, second = (20 * drift * random.normal(1.0, 0.01, 60), 25 * drift * random.normal(1.0, 0.01, 60))
    answer = ratio(first.copy(), second.copy())
    _require(isinstance(answer, (int, float, np.floating)), f"return a number, not {type(answer).__name__}")
    _require(abs(answer * 1.25 - 1) > 0.02, "that is how many times as long the first takes")
    _require(abs(answer / 1.25 - 1) < 0.02, f"the second takes 1.25 times as long here, not {answer:.2f}")
    second[[3, 17, 40, 41, 58]] *= 30
    first[[9, 22]] *= 50
    answer = ratio(first.copy(), second.copy())
    _require(
        abs(answer / 1.25 - 1) < 0.02,
        f"7 rounds of 60 were disturbed, and the answer moved from 1.25 to {answer:.2f}; one spike must not count more "
        "than any other round",
    )


def check_scale(scale_and_zero_point: Callable[[float, float], Any]) -> None:
    """Checks a function from the range that a tensor had to the scale and zero point of its int8 numbers.

    Args:
        scale_and_zero_point: takes low and high; returns the scale, and the zero point as an integer.

    Raises:
        AssertionError: with a hint, where an answer is wrong.
    """
    for low, high in ((-1.0, 1.0), (-0.3, 2.0), (0.5, 4.0), (-3.0, -1.0), (-0.001, 100.0)):
        answer = scale_and_zero_point(low, high)
        _require_several(answer)
        scale, zero_point = answer
        where = f"for a range of {low} to {high} "
        low, high = min(low, 0.0), max(high, 0.0)
        _require(int(zero_point) == zero_point, f"{where}the zero point is {zero_point}, and must be an integer")
        _require(
            -128 <= zero_point <= 127,
            f"{where}the zero point is {zero_point}, and int8 has -128 to 127. 0 must be in the range: padding is 0",
        )
        ends = [scale * (q - zero_point) for q in (-128, 127)]
        slack = 0.51 * (high - low) / 255
        _require(
            ends[0] <= low + slack and ends[1] >= high - slack,
            f"{where}-128 and 127 stand for {ends[0]:.4g} and {ends[1]:.4g}, which leaves a part of it out",
        )
        _require(
            ends[1] - ends[0] < 1.01 * (high - low),
            f"{where}the 256 numbers reach from {ends[0]:.4g} to {ends[1]:.4g}, which is more than they need to",
        )
