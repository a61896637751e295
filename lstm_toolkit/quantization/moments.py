"""What the weights of a file are multiplied by, of which some errors of rounded weights cost more than others."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model

OPS = ("FULLY_CONNECTED", "CONV_2D")
"""Ops whose weights have the last axis of their inputs for their own."""

LARGEST = 1024
"""The largest size of a vector: a moment of it takes 8 MB."""


class MomentsOf:
    """The moments (`passes.int16.weights.Moments`) of what the ops of a float file take.

    A convolution's are those of a single position, so that two positions count as independent of each other.

    Args:
        model: the file; the ops of its main subgraph are read.

    Attributes:
        found: the moments over all samples so far.
    """

    def __init__(self, model: Model) -> None:
        self.found: dict[tuple[str, int], npt.NDArray[np.float64]] = {}
        self._inputs: dict[tuple[str, int], list[int]] = defaultdict(list)
        subgraph = model.subgraphs[0]
        for operator in subgraph.operators:
            if graph.operator_name(model, operator) in OPS:
                size = graph.shape_of(subgraph.tensors[operator.inputs[1]])[-1]
                if size <= LARGEST:
                    name = graph.text(subgraph.tensors[operator.outputs[0]].name)
                    self._inputs[name, size].append(int(operator.inputs[0]))

    def add(self, read: Callable[[int], npt.NDArray[np.float32]]) -> None:
        """Adds a sample.

        Args:
            read: what reads a tensor by its index, after the sample was run.
        """
        for (name, size), indices in self._inputs.items():
            rows = np.concatenate([read(index).reshape(-1, size) for index in indices]).astype(np.float64)
            self.found[name, size] = self.found.get((name, size), 0.0) + rows.T @ rows
