"""Compares outputs, by name, with one tolerance and one rule for NaN."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ParityError

TOLERANCE = 1e-5
"""Largest allowed absolute error, relative to the largest absolute output where that is above 1.

float32 keeps 7 digits; sums in another order, and the runtime's own tanh and sigmoid, use up a little more than one.
"""


def compare(expected: Mapping[str, npt.NDArray], actual: Mapping[str, npt.NDArray], *, call: int = 1) -> float:
    """Largest absolute difference between two sets of outputs by name.

    Raises:
        ParityError: if names or shapes differ, or a difference is above the tolerance; the message has the numbers.
    """
    if set(expected) != set(actual):
        message = f"call {call}: the source has the outputs {sorted(expected)}, the file {sorted(actual)}"
        raise ParityError(message, max_abs_error=np.inf, tolerance=TOLERANCE)
    largest = 0.0
    for name, wanted in expected.items():
        if wanted.shape != actual[name].shape:
            message = (
                f"call {call}: output {name!r} has shape {list(wanted.shape)}, the file {list(actual[name].shape)}"
            )
            raise ParityError(message, max_abs_error=np.inf, tolerance=TOLERANCE)
        # Equal entries differ by 0 even where both are infinite; NaN in one place only is an infinite difference.
        wanted64, actual64 = wanted.astype(np.float64), actual[name].astype(np.float64)
        same = (wanted64 == actual64) | (np.isnan(wanted64) & np.isnan(actual64))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.nan_to_num(np.abs(wanted64 - actual64), nan=np.inf))
        error = float(difference.max(initial=0.0))
        finite = np.abs(wanted64[np.isfinite(wanted64)])
        tolerance = TOLERANCE * max(1.0, float(finite.max(initial=0.0)))
        if error > tolerance:
            raise ParityError(
                f"call {call}: output {name!r} differs from the source by {error:.3g}, and {tolerance:.3g} is allowed "
                "(a chaotic model, whose rounding grows from step to step, differs so from itself: compare it on your "
                "own inputs, or over fewer time_steps, and pass verify=False)",
                max_abs_error=error,
                tolerance=tolerance,
            )
        largest = max(largest, error)
    return largest
