"""The checks of the exercises in the codelabs, a module for each codelab.

Each check takes what the reader wrote, tries it on data that the reader has not seen, raises `AssertionError` with a
hint where an answer is wrong, and returns nothing where all are right.
"""

from collections.abc import Callable
from typing import Any


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
