"""The checks of the exercises in the codelabs, a module for each codelab.

Each check takes what the reader wrote, tries it on data that the reader has not seen, raises `AssertionError` with a
hint where an answer is wrong, and returns nothing where all are right.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import BIASES, INPUT_WEIGHTS, RECURRENT_WEIGHTS

Array = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def attempt(check: Callable[..., None], *answers: Any) -> None:
    """Prints whether answers pass a check: "Solved!", or "Not yet: " and the hint.

    Args:
        check: one of the checks of this package.
        *answers: what the reader wrote.
    """
    try:
        check(*answers)
    except AssertionError as hint:
        print("Not yet:", hint)
    else:
        print("Solved!")


def require(fulfilled: Any, hint: str) -> None:
    """Raises AssertionError with a hint where an answer does not fulfil what is asked."""
    if not fulfilled:
        raise AssertionError(hint)


def require_answer(answer: Any) -> None:
    """Raises AssertionError where a function returned None."""
    require(answer is not None, "the function returns nothing")


def several(answer: Any, count: int | None = None, hint: str = "") -> tuple[Any, ...]:
    """An answer of several things as a tuple.

    Raises AssertionError where it is one thing, or not as many as `count`; the hint has {} for their number.
    """
    require_answer(answer)
    require(np.iterable(answer), f"the function returns a single {type(answer).__name__}, and not several things")
    things = tuple(answer)
    require(count in (None, len(things)), hint.format(len(things)))
    return things


def require_bool(answer: Any) -> None:
    """Raises AssertionError where an answer is neither True nor False."""
    require(isinstance(answer, (bool, np.bool_)), f"return True or False, not {type(answer).__name__}")


def is_number(answer: Any) -> bool:
    """Whether an answer is one number: of Python, of NumPy, or an array or tensor without axes."""
    if isinstance(answer, (str, bytes, type(...))):
        return False
    array = np.asarray(answer)
    return array.ndim == 0 and array.dtype.kind in "iuf"


def require_number(answer: Any) -> None:
    """Raises AssertionError where an answer is not one number."""
    require(is_number(answer), f"return a number, not {type(answer).__name__}")


def require_shape(given: npt.NDArray[Any], expected: Sequence[int], what: str) -> None:
    """Raises AssertionError where an array has another shape; `what` is as "b must be", and both shapes follow it."""
    require(given.shape == tuple(expected), f"{what} {list(expected)}, not {list(given.shape)}")


def as_numbers(answer: Any, nothing: str = "the function returns nothing") -> npt.NDArray[np.float64]:
    """An answer as one float64 array; raises AssertionError where it is None or no array of numbers."""
    require(answer is not None, nothing)
    try:
        return np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        raise AssertionError(f"return one array of numbers, not {type(answer).__name__}") from None


def random_weights(seed: int, units: int, input_size: int) -> GateWeights:
    """Weights of an LSTM with four gates and biases that the reader has not seen, float32."""
    random = np.random.default_rng(seed)
    groups = ((INPUT_WEIGHTS, (units, input_size)), (RECURRENT_WEIGHTS, (units, units)), (BIASES, (units,)))
    return GateWeights(
        **{name: random.normal(size=shape).astype(np.float32) for group, shape in groups for name in group}
    )
