"""What the codelabs need beside the toolkit: real data, the stock converter for comparison, and a stopwatch.

Needs the extra `codelabs`.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.display.picture import Picture
from lstm_toolkit.inspection.arithmetic import turns_of
from lstm_toolkit.stock.converter import stock_conversion
from lstm_toolkit.tflite import files, graph

__all__ = ("Images", "Picture", "interleaved_medians", "load_images", "operators_executed", "stock_conversion")


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of handwritten digits, split for training and testing.

    Attributes:
        x_train, x_test: [images, rows, columns], float32 in 0 to 1. Read as a sequence, a row is a time step.
        y_train, y_test: the digits, [images], integers 0 to 9.
    """

    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]


def load_images(source: str = "digits") -> Images:
    """Loads handwritten digits.

    Args:
        source: "digits", the 1,797 images of 8 x 8 pixels that scikit-learn ships (UCI, Alpaydin and Kaynak, 1998),
            of which every fifth is for testing; or "mnist", 70,000 of 28 x 28, which Keras downloads.

    Raises:
        ValueError: for another source.
    """
    if source == "digits":
        from sklearn.datasets import load_digits

        bundle = load_digits()
        images, labels = (bundle.images / 16).astype(np.float32), bundle.target
        test = np.arange(len(images)) % 5 == 0
        return Images(images[~test], labels[~test], images[test], labels[test])
    if source == "mnist":
        import keras

        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
        x_train, x_test = ((x / 255).astype(np.float32) for x in (x_train, x_test))
        return Images(x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))
    raise ValueError(f'source must be "digits" or "mnist", got {source!r}')


def operators_executed(tflite: bytes, time_steps: int) -> int:
    """Operators that one call executes; the body of a loop counts as often as it runs, an initializer not at all.

    Args:
        tflite: the file.
        time_steps: turns of a loop whose number of turns cannot be read in the file.

    Raises:
        InvalidModelError: if the bytes are no readable `.tflite` file.
    """
    model = files.read_model(tflite)

    def executed(number: int) -> int:
        subgraph, total = model.subgraphs[number], 0
        for op in subgraph.operators:
            name = graph.operator_name(model, op)
            total += name != "CALL_ONCE"
            if name == "WHILE":
                turns = turns_of(model, subgraph, op) or time_steps
                total += (turns + 1) * executed(op.builtinOptions.condSubgraphIndex)
                total += turns * executed(op.builtinOptions.bodySubgraphIndex)
        return total

    return executed(0)


def interleaved_medians(
    calls: dict[str, Callable[[], Any]], *, rounds: int = 300, warmup: int = 20
) -> dict[str, float]:
    """Times calls in turn (A B C A B C ...), so that a change of the machine's speed hits all alike.

    Args:
        calls: functions without arguments by name.
        rounds: how often each is timed.
        warmup: how often each is called before.

    Returns:
        For each name the median time of a call in microseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warmup + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= warmup:
                times[name].append(time.perf_counter() - start)
    return {name: 1e6 * float(np.median(values)) for name, values in times.items()}
