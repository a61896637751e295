"""Checks of the exercises in codelab 04: many streams, a file of unknown state, and who remembers longest."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.activations.gates import gate_activations
from lstm_toolkit.activations.values import GateActivations
from lstm_toolkit.exercises import (
    Float64,
    as_numbers,
    random_weights,
    require,
    require_answer,
    require_number,
    several,
)
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import BIASES, RECURRENT_WEIGHTS

INPUT_SIZE, UNITS = 3, 5

Step = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], tuple[Float64, Float64, Float64]]
Request = tuple[str, Float64]
Call = Callable[[npt.ArrayLike], Float64]

_REQUESTS = (("ann", 4), ("ann", 6), ("bob", 3), ("ann", 1), ("cem", 5), ("bob", 7), ("cem", 2), ("bob", 4), ("ann", 8))
"""Who asks, and with how many time steps."""


_WATCHED = (274, 1470, 1914, 2835)
"""Seeds of LSTMs of which each of the mistakes in `_mistakes` names another unit than the right one."""


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call of a reader's `step`: what came in and what went out."""

    x: Float64
    h: Float64
    c: Float64
    results: tuple[Float64, Float64, Float64]


def check_serve(serve: Callable[[Step, int, Sequence[Request]], Any]) -> None:
    """Checks a function that answers many users with one LSTM that keeps no state of its own.

    Args:
        serve: takes `step`, a function from x [1, time, input_size], h [1, units] and c [1, units] to the outputs
            [1, time, units], the new h and the new c; units; and requests, pairs of a user's name and the next x of
            that user's stream. Returns a list of outputs, one for each request, in their order.
    """
    weights = random_weights(1, UNITS, INPUT_SIZE)
    for round_number in range(2):
        random = np.random.default_rng(10 + round_number)
        requests = [(user, random.normal(size=(1, time, INPUT_SIZE))) for user, time in _REQUESTS]
        calls: list[_Call] = []
        answer = serve(_step(weights, calls), UNITS, [(user, x.copy()) for user, x in requests])
        count = len(requests)
        answers = several(answer, count, f"{count} requests have {count} answers, not {{}}")
        again = "in a second list of requests, which has nothing to do with the first, " if round_number else ""
        for number, ((user, x), (wanted, h, c), answer) in enumerate(
            zip(requests, _alone(weights, requests), answers, strict=True)
        ):
            given = as_numbers(answer, nothing="one of the answers is None")
            where = f"{again}request {number}, by {user}: "
            hint = f"{where}the answer is {list(given.shape)}, and not {list(wanted.shape)}"
            require(given.shape == wanted.shape, hint)
            if not np.allclose(given, wanted, atol=1e-6):
                is_new = user not in [each for each, _ in requests[:number]]
                raise AssertionError(where + _reason(calls, x, h, c, is_new=is_new))


def check_which_state(which_state: Callable[[Call], Any]) -> None:
    """Checks a function that finds out what a file does with its state between two calls.

    Args:
        which_state: takes a function from x [1, time, 3] to outputs [1, time, 5], where time is any, that runs a file
            as a `Runner` does; returns "reset" or "carry". Among the files are some that have been called before, one
            that forgets fast, and one whose outputs are 0 as long as its inputs are.
    """
    for forgetful, silent, called_before in ((0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0)):
        weights = random_weights(2, UNITS, INPUT_SIZE)
        if forgetful:
            weights = _forgetful(weights)
        if silent:
            weights = dataclasses.replace(weights, **dict.fromkeys(BIASES, np.zeros(UNITS, np.float32)))
        for mode in ("reset", "carry"):
            calls: list[tuple[Float64, Float64]] = []
            run = _file(weights, mode, calls)
            if called_before:
                run(np.random.default_rng(5).normal(size=(1, 9, INPUT_SIZE)))
                calls.clear()
            answer = which_state(run)
            require_answer(answer)
            hint = f'return "reset" or "carry", not {answer!r}'
            require(isinstance(answer, str) and answer in ("reset", "carry"), hint)
            used = "has been called before, and " if called_before else ""
            does = "starts every call from zero" if mode == "reset" else "starts a call where the last one ended"
            require(answer == mode, f"a file {used}{does}, and the function says {answer!r}: {_evidence(calls, mode)}")


def check_lasts_longest(lasts_longest: Callable[[GateActivations], Any]) -> None:
    """Checks a function that finds the unit in which what comes in at a call's start lasts longest.

    Args:
        lasts_longest: takes what `gate_activations` returned of one sequence in three calls; returns the number of the
            unit that keeps the largest share of its c from the start of the last call to its end.
    """
    for seed in _WATCHED:
        random = np.random.default_rng(seed)
        calls = [random.normal(size=(1, time, INPUT_SIZE)) for time in (9, 4, 6)]
        watched = gate_activations(random_weights(seed, UNITS, INPUT_SIZE), calls)
        answer = lasts_longest(watched)
        require_answer(answer)
        require_number(answer)
        require(answer in range(UNITS), f"return the number of a unit, 0 to {UNITS - 1}, not {answer}")
        given, shares = int(answer), watched.f[0, watched.starts[-1] :].prod(axis=0)
        best = int(shares.argmax())
        reason = next((why for why, unit in _mistakes(watched) if unit == given), "multiply f over the steps")
        hint = f"unit {given} keeps {shares[given]:.1e} of its c, unit {best} {shares[best]:.1e}: {reason}"
        require(given == best, hint)


def _mistakes(watched: GateActivations) -> list[tuple[str, int]]:
    """Units that wrong answers name, each after a hint."""
    f = watched.f[0]
    last = f[watched.starts[-1] :]
    return [
        ("count the steps of the last call alone; starts[-1] is where it starts", int(f.prod(axis=0).argmax())),
        (
            "a mean hides a step that forgets all; what is left is the product of f over the steps",
            int(last.mean(axis=0).argmax()),
        ),
        ("f of one step is not all; c is multiplied by f at every step of the call", int(last[-1].argmax())),
        ("that is the unit that keeps least", int(last.prod(axis=0).argmin())),
    ]


def _reason(calls: Sequence[_Call], x: Float64, h: Float64, c: Float64, *, is_new: bool) -> str:
    """What is wrong with an answer to x, which should have started from h and c."""
    number = next((n for n, call in enumerate(calls) if np.array_equal(call.x, x)), None)
    if number is None:
        return "step was not called with this x"
    call = calls[number]

    def started_from(*state: Float64) -> bool:
        return all(np.allclose(a, b, atol=1e-9) for a, b in zip((call.h, call.c), state, strict=True))

    if started_from(h, c):
        return "step got the right state, but the answer is not the outputs that it returned"
    if is_new:
        return "this user is new, so h and c must be zeros; they had numbers of somebody else"
    if started_from(c, h):
        return "h and c were swapped; step takes and returns h first"
    if not call.h.any() and not call.c.any():
        return "h and c were zeros again; hand on what step returned for this user's last request"
    if any(started_from(*earlier.results[1:]) for earlier in calls[:number]):
        return "h and c were those of another request; keep them for each user, and keep those of the last one"
    if not call.h.any() or not call.c.any():
        return f"{'c' if call.h.any() else 'h'} was zeros again; hand on both h and c"
    return "h and c are not what step returned for this user's last request"


def _evidence(calls: Sequence[tuple[Float64, Float64]], mode: str) -> str:
    """What the calls of a reader have shown, or why they have shown nothing."""
    if len(calls) < 2:
        return f"it made {len(calls)} call(s), and a single one cannot tell"
    if not any(x.any() for x, _ in calls):
        return "it called with zeros alone, on which some files stay at 0 whatever they do with their state"
    differences = [
        np.abs(second - first).max(axis=(0, 2))
        for (x, first), (other, second) in pairwise(calls)
        if np.array_equal(x, other)
    ]
    if not differences:
        return "call twice in a row with the same x; with two different ones the answers differ anyway"
    if mode == "reset":
        return "of two calls with the same x the answers were the same"
    first, last = differences[0][0], differences[0][-1]
    return (
        f"of two calls with the same x the answers differ by {first:.0e} at the first step, by {last:.0e} at the last"
    )


def _alone(weights: GateWeights, requests: Sequence[Request]) -> Iterator[tuple[Float64, Float64, Float64]]:
    """For each request the outputs that its user would get alone, and the h and c that the request starts from."""
    states: dict[str, Sequence[Float64]] = {}
    for user, x in requests:
        h, c = states.get(user, np.zeros((2, 1, UNITS)))
        outputs, *states[user] = reference.lstm(weights, x, h=h, c=c)
        yield outputs, h, c


def _step(weights: GateWeights, calls: list[_Call]) -> Step:
    """An LSTM without state of its own, as the reader gets it; every call goes into a list."""

    def step(x: npt.ArrayLike, h: npt.ArrayLike, c: npt.ArrayLike) -> tuple[Float64, Float64, Float64]:
        x = np.array(x, np.float64)
        _require_input(x)
        for name, value in (("h", h), ("c", c)):
            require(value is not None, f"step was called with {name} = None; a new stream starts from zeros")
            require(np.shape(value) == (1, UNITS), f"{name} is [1, {UNITS}], and not {list(np.shape(value))}")
        h, c = np.array(h, np.float64), np.array(c, np.float64)
        results = reference.lstm(weights, x, h=h, c=c)
        calls.append(_Call(x, h, c, results))
        outputs, new_h, new_c = results
        return outputs.copy(), new_h.copy(), new_c.copy()

    return step


def _file(weights: GateWeights, mode: str, calls: list[tuple[Float64, Float64]]) -> Call:
    """Stands in for a `Runner` on a file whose state is in a given mode; every call goes into a list."""
    state: tuple[Float64 | None, Float64 | None] = (None, None)

    def run(x: npt.ArrayLike) -> Float64:
        nonlocal state
        x = np.array(x, np.float64)
        _require_input(x)
        h, c = state if mode == "carry" else (None, None)
        outputs, new_h, new_c = reference.lstm(weights, x, h=h, c=c)
        state = new_h, new_c
        calls.append((x, outputs))
        return outputs.astype(np.float32)

    return run


def _require_input(x: Float64) -> None:
    hint = f"x is [1, time, {INPUT_SIZE}], and not {list(x.shape)}"
    require(x.ndim == 3 and x.shape[0] == 1 and x.shape[1] and x.shape[2] == INPUT_SIZE, hint)


def _forgetful(weights: GateWeights) -> GateWeights:
    """The same with a forget gate that is almost shut and weak recurrent weights: a state fades within a few steps."""
    parts = {name: 0.1 * getattr(weights, name) for name in RECURRENT_WEIGHTS}
    parts |= {"forget_gate_bias": np.full(UNITS, -6, np.float32)}
    parts |= {"input_to_forget_weights": 0.1 * weights.input_to_forget_weights}
    return dataclasses.replace(weights, **parts)
