"""`Picture`: a figure with a text that says what it shows."""

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import matplotlib.style
from matplotlib.figure import Figure

from lstm_toolkit.display.images import PNG, image
from lstm_toolkit.escapes import printable
from lstm_toolkit.process_state import alone


@contextlib.contextmanager
def plain_figure(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure of matplotlib, whose size is in inches, and its axes; while it is open, they have the default style."""
    # A style is that of all threads.
    with alone(), matplotlib.style.context("default"):
        figure = Figure((width, height), layout="constrained")
        yield figure, figure.subplots()


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure that shows itself in a notebook, once, with a text for those who do not see it.

    Attributes:
        figure: of matplotlib.
        alt: what the figure shows, in a sentence.
    """

    figure: Any
    alt: str

    def __post_init__(self) -> None:
        # Otherwise the notebook shows every open figure a second time, without its text.
        plt.close(self.figure)

    def _repr_html_(self) -> str:
        data = io.BytesIO()
        self.figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
        return image(data.getvalue(), PNG, self.alt)

    def __repr__(self) -> str:
        return printable(self.alt)
