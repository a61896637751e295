"""Checks of the exercises in codelab 03: both directions out of one, and where each half ends."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.exercises import Float64, as_numbers, random_weights, require, require_shape
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights

BATCH, TIME_STEPS, INPUT_SIZE, UNITS = 3, 7, 5, 4
LENGTHS = (7, 3, 1, 5, 2, 6)

OneWay = Callable[[npt.ArrayLike], Float64]

_MERGES: dict[str, Callable[[Float64, Float64], Float64]] = {
    "concat": lambda forward, backward: np.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
    "mul": lambda forward, backward: forward * backward,
}


def check_both_ways(both_ways: Callable[[OneWay, OneWay, Float64, str], Any]) -> None:
    """Checks a function that makes a bidirectional layer out of two LSTMs that run from the start.

    Args:
        both_ways: takes two LSTMs, each a function from [batch, time, input_size] to [batch, time, units]; x [batch,
            time, input_size]; and a merge mode, "concat", "sum", "ave" or "mul". Returns [batch, time, 2 * units] for
            "concat", else [batch, time, units].
    """
    x = np.random.default_rng(1).normal(size=(BATCH, TIME_STEPS, INPUT_SIZE))
    first, second = random_weights(2, UNITS, INPUT_SIZE), random_weights(3, UNITS, INPUT_SIZE)
    forward, backward = _one_way("forward", first), _one_way("backward", second)
    outputs, right = forward(x), _from_the_end(second, x)
    for mode, merge in _MERGES.items():
        answer = both_ways(forward, backward, x.copy(), mode)
        wanted = merge(outputs, right)
        given = as_numbers(answer)
        side_by_side = f'"{mode}" puts the numbers of a step side by side' if mode == "concat" else f'"{mode}"'
        require_shape(given, wanted.shape, f"{side_by_side}: of x {list(x.shape)} and {UNITS} units comes")
        if np.allclose(given, wanted, atol=1e-6):
            continue
        mistakes = {hint: merge(outputs, wrong) for hint, wrong in _wrong_halves(x, first, second).items()}
        others = (name for name in _MERGES if mode not in (name, "concat") and name != "concat")
        mistakes |= {f'that is "{name}"': _MERGES[name](outputs, right) for name in others}
        mistakes["the forward half comes first"] = merge(right, outputs)
        hints = (hint for hint, wrong in mistakes.items() if np.allclose(given, wrong, atol=1e-6))
        raise AssertionError(f'"{mode}": {next(hints, _first_difference(given, wanted))}')


def check_last(last_of_both: Callable[[Float64, npt.NDArray[np.int64]], Any]) -> None:
    """Checks a function that takes the last output of each half out of the joined outputs of padded rows.

    Args:
        last_of_both: takes outputs [batch, time, 2 * units], the forward half first, both in the order of time; and
            the number of real steps of each row, [batch]. Returns [batch, 2 * units].
    """
    random, lengths = np.random.default_rng(4), np.array(LENGTHS)
    first, second = random_weights(5, UNITS, INPUT_SIZE), random_weights(6, UNITS, INPUT_SIZE)
    outputs = random.uniform(-1, 1, size=(len(LENGTHS), TIME_STEPS, 2 * UNITS))
    wanted = np.empty((len(LENGTHS), 2 * UNITS))
    for row, length in enumerate(LENGTHS):
        x = random.normal(size=(1, length, INPUT_SIZE))
        outputs[row, :length, :UNITS], last, _ = (each[0] for each in reference.lstm(first, x))
        outputs[row, :length, UNITS:] = _from_the_end(second, x)[0]
        wanted[row] = np.concatenate([last, outputs[row, 0, UNITS:]])
    given = as_numbers(last_of_both(outputs.copy(), lengths.copy()))
    hint = f"of outputs {list(outputs.shape)} comes {list(wanted.shape)}, a row of each, not {list(given.shape)}"
    require(given.shape == wanted.shape, hint)
    halves = (("forward", slice(None, UNITS)), ("backward", slice(UNITS, None)))
    for row, length in enumerate(LENGTHS):
        for half, numbers in halves:
            if np.allclose(given[row, numbers], wanted[row, numbers], atol=1e-6):
                continue
            where = f"row {row} has {length} real steps, and its {half} half "
            found = [
                f"was taken from step {step}" + (" of the other half" if name != half else "")
                for name, place in halves
                for step in range(TIME_STEPS)
                if np.allclose(given[row, numbers], outputs[row, step, place], atol=1e-6)
            ]
            raise AssertionError(where + next(iter(found), "is not among its outputs") + f". {_ENDS[half]}")


_ENDS = {
    "forward": "It has read the whole row at the last real step; what stands behind that is padding",
    "backward": "It starts at the last real step; where has it read the whole row?",
}


def _wrong_halves(x: Float64, first: GateWeights, second: GateWeights) -> dict[str, Float64]:
    """What backward halves look like after typical mistakes, by hint."""
    right, from_start = _from_the_end(second, x), reference.lstm(second, x)[0]
    numbers_turned = reference.lstm(second, x[..., ::-1])[0]
    return {
        "the outputs of the backward half are still in the order in which it read; its first one belongs to the last "
        "step": right[:, ::-1],
        "the backward half read x from the start; time is axis 1, and x[::-1] turns the batch round": from_start,
        "the backward half read x from the start, and only its outputs were turned round": from_start[:, ::-1],
        "the second half ran on the weights of the first; call `backward`": _from_the_end(first, x),
        "x was turned round along axis 2, the numbers of a step; time is axis 1": numbers_turned[..., ::-1],
    }


def _first_difference(given: Float64, wanted: Float64) -> str:
    row, step, number = np.argwhere(~np.isclose(given, wanted, atol=1e-6))[0]
    half = ", in the backward half," if number >= UNITS else ""
    return f"number {number} of step {step} of row {row}{half} is {given[row, step, number]:.3f}, and should be " + (
        f"{wanted[row, step, number]:.3f}"
    )


def _one_way(name: str, weights: GateWeights) -> OneWay:
    """An LSTM that runs from the start, as the reader gets it."""

    def run(x: npt.ArrayLike) -> Float64:
        shape = np.shape(x)
        hint = f"{name} takes [batch, time, {INPUT_SIZE}], and was given {list(shape)}"
        require(len(shape) == 3 and shape[-1] == INPUT_SIZE, hint)
        return reference.lstm(weights, x)[0]

    return run


def _from_the_end(weights: GateWeights, x: Float64) -> Float64:
    """Outputs in the order of time of an LSTM that goes from the last step to the first: [batch, time, units]."""
    return reference.lstm(weights, x[:, ::-1])[0][:, ::-1]
