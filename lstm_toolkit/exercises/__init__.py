"""The checks of the exercises in the codelabs, a module for each codelab.

Each check takes what the reader wrote, tries it on data that the reader has not seen, raises `AssertionError` with a
hint where an answer is wrong, and returns nothing where all are right.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import BIASES, INPUT_WEIGHTS, RECURRENT_WEIGHTS


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


def require_several(answer: Any) -> None:
    """Raises AssertionError where an answer is not several things, such as a tuple."""
    require(answer is not None, "the function returns nothing")
    require(np.iterable(answer), f"the function returns a single {type(answer).__name__}, and not several things")


def random_weights(seed: int, units: int, input_size: int) -> GateWeights:
    """Weights of an LSTM with four gates and biases that the reader has not seen, float32."""
    random = np.random.default_rng(seed)
    groups = ((INPUT_WEIGHTS, (units, input_size)), (RECURRENT_WEIGHTS, (units, units)), (BIASES, (units,)))
    return GateWeights(
        **{name: random.normal(size=shape).astype(np.float32) for group, shape in groups for name in group}
    )
