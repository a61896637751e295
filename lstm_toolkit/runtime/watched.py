"""`WatchedRunner`: a `Runner` that can be asked what every tensor of the file held after a call."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.runtime.integers import dequantized
from lstm_toolkit.runtime.runner import Runner


class WatchedRunner(Runner):
    """Runs a `.tflite` model on the interpreter, without XNNPACK, and keeps every tensor.

    Args:
        model: the bytes or the path of a `.tflite` file.

    Raises:
        InvalidModelError: as `Runner`.
    """

    _keeps_all_tensors = True

    def __init__(self, model: bytes | str | os.PathLike[str]) -> None:
        super().__init__(model, xnnpack=False)
        self._details = {details["index"]: details for details in self._interpreter.get_tensor_details()}

    def tensor(self, index: int) -> npt.NDArray[Any]:
        """What a tensor of the main subgraph holds; floats for integers that have a scale."""
        with self._lock:
            return dequantized(np.array(self._interpreter.get_tensor(index)), self._details[index])
