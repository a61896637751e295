"""Compares outputs, by name, with one tolerance and one rule for NaN."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ParityError

TOLERANCE = 1e-5
"""Largest allowed absolute error, relative to the largest absolute output where that is above 1.

float32 keeps 7 digits; sums in another order, and the runtime's own tanh and sigmoid, use up a little more than one.
"""


def difference(expected: npt.NDArray, actual: npt.NDArray) -> tuple[float, float]:
    """The largest absolute difference between two arrays of one shape, and the largest absolute value expected.

    Equal entries differ by 0 even where both are infinite or NaN; NaN in one place only is an infinite difference. The
    largest value is that of the finite entries, and 0 if there is none.
    """
    wanted, given = expected.astype(np.float64), actual.astype(np.float64)
    same = (wanted == given) | (np.isnan(wanted) & np.isnan(given))
    with np.errstate(invalid="ignore"):
        distances = np.where(same, 0.0, np.nan_to_num(np.abs(wanted - given), nan=np.inf))
    return float(distances.max(initial=0.0)), float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))


def compare(
    expected: Mapping[str, npt.NDArray],
    actual: Mapping[str, npt.NDArray],
    *,
    call: int = 1,
    kind: str = "",
    largest_input: float = 0.0,
) -> float:
    """Compares two sets of outputs by name.

    Args:
        expected: the outputs of the source.
        actual: those of the file.
        call: the number of the call, for the message.
        kind: the kind of its inputs, for the message. Where it is given, only those entries are compared that are
            finite in the source: the inputs may be none that the model is made for.
        largest_input: the tolerance grows with it as with the largest output, since sums round to the digits of their
            largest terms.

    Returns:
        The largest absolute difference.

    Raises:
        ParityError: if names or shapes differ, or a difference is above the tolerance; the message has the numbers.
    """
    where = f"call {call}{f' ({kind})' if kind else ''}"
    if set(expected) != set(actual):
        message = f"{where}: the source has the outputs {sorted(expected)}, the file {sorted(actual)}"
        raise ParityError(message, max_abs_error=np.inf, tolerance=TOLERANCE)
    largest = 0.0
    for name, wanted in expected.items():
        given = actual[name]
        if wanted.shape != given.shape:
            message = f"{where}: output {name!r} has shape {list(wanted.shape)}, the file {list(given.shape)}"
            raise ParityError(message, max_abs_error=np.inf, tolerance=TOLERANCE)
        error, size = difference(wanted, np.where(np.isfinite(wanted), given, wanted) if kind else given)
        tolerance = TOLERANCE * max(1.0, size, largest_input)
        if error > tolerance:
            message = f"{where}: output {name!r} differs from the source by {error:.3g}, and {tolerance:.3g} is allowed"
            raise ParityError(message, max_abs_error=error, tolerance=tolerance)
        largest = max(largest, error)
    return largest


def finite_share(*results: Mapping[str, npt.NDArray]) -> float:
    """The share of finite entries in the output that has the fewest, over all results; 1 for no entries at all."""
    finite = {name: [np.isfinite(each[name]) for each in results] for name in (results[0] if results else ())}
    counts = {name: sum(each.size for each in arrays) for name, arrays in finite.items()}
    shares = [sum(map(np.sum, arrays)) / counts[name] for name, arrays in finite.items() if counts[name]]
    return float(min(shares, default=1.0))


def signal_to_noise(expected: npt.NDArray, actual: npt.NDArray) -> float:
    """The power of an array against that of another one's distance from it, in decibels; infinite without distance."""
    wanted = expected.astype(np.float64)
    noise = float(np.sum((wanted - actual) ** 2))
    return 10 * math.log10(max(float(np.sum(wanted**2)), 1e-300) / noise) if noise else math.inf
