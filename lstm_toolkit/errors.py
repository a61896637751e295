"""The errors of lstm_toolkit. All derive from `LstmToolkitError`, so one `except` catches them."""

from lstm_toolkit.escapes import printable_lines


class LstmToolkitError(Exception):
    """Base of every error that lstm_toolkit raises on purpose."""

    def __str__(self) -> str:
        # What libraries say of a file may repeat names out of it.
        return printable_lines(super().__str__())


class ConversionError(LstmToolkitError):
    """A model cannot be converted exactly.

    The message names the layer or option, the fact that stands in the way, and what to do about it.
    """


class InvalidModelError(LstmToolkitError):
    """A path or some bytes are not the model they are said to be."""


class ParityError(LstmToolkitError):
    """A converted file does not compute what its source model computes.

    Attributes:
        max_abs_error: largest absolute difference seen over all outputs and calls.
        tolerance: the largest difference that was allowed.
    """

    def __init__(self, message: str, *, max_abs_error: float, tolerance: float) -> None:
        super().__init__(message)
        self.max_abs_error = max_abs_error
        self.tolerance = tolerance
