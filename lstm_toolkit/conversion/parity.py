"""Compares a converted file with its source: random inputs, several calls in a row on one interpreter."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.compare import compare
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.sources.traced import TracedModel

DYNAMIC_SIZES = (16, 23, 11)
"""Sizes that dynamic dimensions take, call by call."""


def verify(
    tflite: bytes, traced: TracedModel, *, reset: bool = False, runtime: str = "interpreter", seed: int = 0
) -> float:
    """Runs file and source side by side, three calls in a row.

    Args:
        tflite: the converted model.
        traced: its source.
        reset: whether to reset what the file carries between the calls, for a source that carries nothing.
        runtime: that runs the file, of `Runner`.
        seed: of the random inputs.

    Returns:
        The largest absolute error over all outputs and calls.

    Raises:
        ParityError: if an output is missing or differs by more than `TOLERANCE`.
        ConversionError: if the source itself cannot run on the random inputs.
    """
    random, runner, largest = np.random.default_rng(seed), Runner(tflite, runtime=runtime), 0.0
    for call, dynamic_size in enumerate(DYNAMIC_SIZES, start=1):
        inputs = draw(traced, runner, random, dynamic_size)
        try:
            expected = traced.source(list(inputs.values()))
        except Exception as error:  # whatever the source's own layers raise
            shapes = [list(array.shape) for array in inputs.values()]
            raise ConversionError(
                f"the source model cannot run on random inputs of shape {shapes} ({type(error).__name__}: {error}); "
                "fix the dynamic dimensions (time_steps), or pass verify=False"
            ) from error
        if reset:
            runner.reset()
        largest = max(largest, compare(expected, runner.outputs(**inputs), call=call))
    return largest


def draw(
    traced: TracedModel, runner: Runner, random: np.random.Generator, dynamic_size: int = DYNAMIC_SIZES[0]
) -> dict[str, npt.NDArray[Any]]:
    """Random inputs by name that suit a model, in the shapes of its file, with one size for all open ones."""
    names = traced.input_names
    shapes = [[dynamic_size if size < 0 else size for size in runner.input_shapes[name]] for name in names]
    dtypes = [spec.dtype.as_numpy_dtype for spec in traced.function.inputs[: len(names)]]
    return dict(zip(names, traced.random_inputs.draw(random, shapes, dtypes), strict=True))
