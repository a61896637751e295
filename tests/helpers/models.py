"""Small Keras models with random weights, and what the tests measure on them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
"""With and without XNNPACK."""


def randomized(model: Any, seed: int = 0) -> Any:
    """Gives every weight of a model random values, so that no two gates, units or layers are alike."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        if "seed" not in variable.path:
            variable.assign(generator.normal(0.0, 0.6, variable.shape))
    return model


def inputs_for(model: Any, *, batch: int, time: int, seed: int) -> list[np.ndarray]:
    """One random array per input of a model, with open batch and time as given."""
    generator = np.random.default_rng(seed)
    shapes = [(batch, *(time if size is None else size for size in tensor.shape[1:])) for tensor in model.inputs]
    return [generator.normal(0.0, 1.0, shape).astype(np.float32) for shape in shapes]


def largest_errors(
    tflite: bytes, source: Callable[[list[np.ndarray]], Any], calls: Sequence[list[np.ndarray]]
) -> list[float]:
    """Largest absolute error call by call, on one interpreter per resolver, without a reset between the calls."""
    errors = []
    for resolver in RESOLVERS:
        interpreter = Interpreter(model_content=tflite, experimental_op_resolver_type=resolver)
        runner = interpreter.get_signature_runner("serving_default")
        names = [interpreter_name(details) for details in interpreter.get_input_details()]
        for arrays in calls:
            outputs = runner(**dict(zip(names, arrays, strict=True)))
            expected = keras.tree.flatten(source(arrays))
            assert len(outputs) == len(expected)
            errors += [
                float(np.abs(outputs[name] - np.asarray(value)).max())
                for name, value in zip(sorted(outputs), expected, strict=True)
            ]
    return errors


def interpreter_name(details: dict[str, Any]) -> str:
    return details["name"].removeprefix("serving_default_").removesuffix(":0")
