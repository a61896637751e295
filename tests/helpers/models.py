"""Small Keras models with random weights, and inputs for them."""

from typing import Any

import numpy as np


def randomized(model: Any, seed: int = 0, scale: float = 0.6) -> Any:
    """Gives every weight of a model or layer a random value, so that no two gates, units or layers are alike."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if "seed" not in getattr(variable, "path", variable.name):
            variable.assign(random.normal(0.0, scale, variable.shape))
    return model


def inputs_for(model: Any, *, batch: int, time: int, seed: int) -> list[np.ndarray]:
    """One random array per input of a model, with open batch and time as given."""
    random = np.random.default_rng(seed)
    shapes = [(batch, *(time if size is None else size for size in tensor.shape[1:])) for tensor in model.inputs]
    return [random.normal(0.0, 1.0, shape).astype(np.float32) for shape in shapes]
