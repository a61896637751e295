"""A `.tflite` file run call after call on one interpreter, with XNNPACK and without, and compared with an oracle."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
"""With and without XNNPACK."""
TOLERANCE = 1e-5

Arrays = dict[str, np.ndarray]


def run_in_a_row(tflite: bytes, calls: Sequence[Arrays], resolvers: Sequence[Any] = RESOLVERS) -> list[Arrays]:
    """The outputs by name of each call, on one interpreter with XNNPACK and then on one without; never a reset."""
    results = []
    for resolver in resolvers:
        interpreter = Interpreter(model_content=tflite, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        signature = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
        inputs = {name: details["index"] for name, details in signature.get_input_details().items()}
        outputs = {name: details["index"] for name, details in signature.get_output_details().items()}
        del signature  # it holds the interpreter, which must have no other holder when it runs
        given = {details["index"]: details for details in interpreter.get_input_details()}
        allocated = {index: tuple(details["shape"]) for index, details in given.items()}
        for arrays in calls:
            assert set(arrays) == set(inputs)
            changed = [name for name, array in arrays.items() if allocated[inputs[name]] != array.shape]
            for name in changed:
                interpreter.resize_tensor_input(inputs[name], arrays[name].shape, strict=True)
                allocated[inputs[name]] = arrays[name].shape
            if changed:
                interpreter.allocate_tensors()
            for name, array in arrays.items():
                dtype = given[inputs[name]]["dtype"]
                interpreter.set_tensor(inputs[name], array.astype(dtype, casting="same_kind"))
            interpreter.invoke()
            results.append({name: interpreter.get_tensor(index) for name, index in outputs.items()})
    return results


def assert_agrees(
    tflite: bytes, calls: Sequence[Arrays], expected: Sequence[Arrays], *, relative: bool = False
) -> float:
    """Runs the calls in a row with and without XNNPACK; returns the largest error."""
    assert len(calls) == len(expected) >= 3
    largest = 0.0
    for number, (outputs, wanted) in enumerate(zip(run_in_a_row(tflite, calls), [*expected] * 2, strict=True)):
        assert set(outputs) == set(wanted)
        for name, value in wanted.items():
            assert outputs[name].shape == value.shape
            assert np.isfinite(value).all()
            allowed = TOLERANCE * (max(1.0, float(np.abs(value).max())) if relative else 1.0)
            error = float(np.abs(outputs[name] - value).max())
            assert error < allowed, f"call {number} of {2 * len(calls)}, {name}: {error:.3g}"
            largest = max(largest, error)
    return largest


def by_input(tflite: bytes, arrays: Sequence[np.ndarray]) -> Arrays:
    """Arrays in the order of a file's inputs, under the names that its signature gives."""
    interpreter = Interpreter(model_content=tflite)
    signature = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
    names = {details["index"]: name for name, details in signature.get_input_details().items()}
    order = [names[details["index"]] for details in interpreter.get_input_details()]
    return dict(zip(order, arrays, strict=True))


def by_output(outputs: Any) -> Arrays:
    """What a Keras model returned, under the names that a file's signature gives."""
    if isinstance(outputs, Mapping):
        return {name: np.asarray(value) for name, value in outputs.items()}
    return {f"output_{number}": np.asarray(value) for number, value in enumerate(keras.tree.flatten(outputs))}
