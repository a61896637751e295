"""Inputs and outputs of a file become integers, with the scales of what the file has behind them, or of samples."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes import integer_edges
from lstm_toolkit.quantization import ranges
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.tflite.types import Model

FLOAT = ("float32", "float32")
"""Types of inputs and outputs of which none are integers."""


def set_types(
    model: Model, dtypes: tuple[str, str], *, float_file: bytes, calibration: Samples, held_out: Samples
) -> int:
    """Gives the float inputs and outputs of a file integer types, in place.

    Args:
        model: the file.
        dtypes: of the inputs, and of the outputs, as `integer_edges.set_types` takes them.
        float_file: the file that it was made of.
        calibration: the samples to take ranges on.
        held_out: other samples, to see whether they keep to those ranges; may be empty.

    Returns:
        The number of held-out samples that go beyond a range.

    Raises:
        ConversionError: if an output is not finite.
    """
    found: list[dict[str, ranges.Range]] = [{}, {}]
    cut = 0
    for side in (side for side, dtype in enumerate(dtypes) if dtype != "float32"):
        values, new = (_columns(_outputs(float_file, each) if side else each) for each in (calibration, held_out))
        found[side] = {name: ranges.of_values(arrays) for name, arrays in values.items()}
        if new:
            cut = max(cut, ranges.beyond(found[side], {name: ranges.reached(arrays) for name, arrays in new.items()}))
    integer_edges.set_types(model, dtypes, (found[0], found[1]))
    return cut


def _columns(calls: Samples) -> dict[str, list[npt.NDArray[Any]]]:
    """What each float input, or output, is in each of some calls."""
    first = calls[0] if calls else {}
    return {name: [call[name] for call in calls] for name, array in first.items() if array.dtype.kind == "f"}


def _outputs(float_file: bytes, samples: Samples) -> Samples:
    runner = Runner(float_file)
    results = [runner.outputs(**sample) for sample in samples]
    for name in runner.output_names if results else ():
        if not all(np.isfinite(each[name]).all() for each in results):
            raise ConversionError(
                f"output {name!r} cannot be integers: it holds NaN or infinity on representative_dataset; leave such "
                'samples out, or pass io_dtype="float32"'
            )
    return results
