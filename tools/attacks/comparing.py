"""Compares a file with its model on LiteRT's interpreter, called directly; shares no code with the package."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from attacks.source import Array, Arrays, Twin

TOLERANCE = 1e-5
"""What the package states: relative to the largest output where that is above 1."""
RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


class File:
    """A file on an interpreter that is never reset.

    Args:
        tflite: the file.
        resolver: with or without XNNPACK.
    """

    def __init__(self, tflite: bytes, resolver: Any = RESOLVERS[0]) -> None:
        self._interpreter = Interpreter(model_content=tflite, experimental_op_resolver_type=resolver)
        self._interpreter.allocate_tensors()
        runner = self._interpreter.get_signature_runner(next(iter(self._interpreter.get_signature_list())))
        self.inputs, self.outputs = runner.get_input_details(), runner.get_output_details()
        del runner
        self._shapes = {name: tuple(details["shape"]) for name, details in self.inputs.items()}

    def states(self, known: set[str]) -> list[str]:
        """Names of the inputs beside the known ones."""
        return sorted(set(self.inputs) - known)

    def zeros(self, name: str) -> Array:
        """Zeros for an input of fixed shape."""
        details = self.inputs[name]
        return np.zeros(details["shape"], np.float32)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Runs the file once; integers with a scale are made of floats and become floats again."""
        values = {name: quantized(array, self.inputs[name]) for name, array in arrays.items()}
        shapes = {name: value.shape for name, value in values.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self.inputs[name]["index"], shape, strict=True)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, value in values.items():
            self._interpreter.set_tensor(self.inputs[name]["index"], value)
        self._interpreter.invoke()
        return {
            name: dequantized(self._interpreter.get_tensor(details["index"]), details)
            for name, details in self.outputs.items()
        }


def quantized(array: Array, details: Any) -> Array:
    scale, zero = details["quantization"]
    dtype = np.dtype(details["dtype"])
    if not scale or dtype.kind not in "iu" or array.dtype.kind != "f":
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(dtype)


def dequantized(array: Array, details: Any) -> Array:
    scale, zero = details["quantization"]
    if not scale or array.dtype.kind not in "iu":
        return array.astype(np.float64)
    return (array.astype(np.float64) - zero) * scale


def swapped(arrays: Arrays, *, time_major: bool, inputs: bool) -> Arrays:
    """Arrays with time first where the file has it so."""
    if not time_major:
        return arrays

    def turns(array: Array) -> bool:
        return array.ndim > 2 or (inputs and array.ndim == 2 and array.dtype.kind in "ib")

    return {name: array.swapaxes(0, 1) if turns(array) else array for name, array in arrays.items()}


def run_in_a_row(file: File, calls: Sequence[Arrays], *, time_major: bool) -> list[Arrays]:
    """The outputs of calls; inputs beside those of the model start from zero and go on from the outputs."""
    states: Arrays = {name: file.zeros(name) for name in file.states(set(calls[0]))}
    results = []
    for arrays in calls:
        outputs = file(swapped(arrays, time_major=time_major, inputs=True) | states)
        states = {name: outputs.pop(name).astype(np.float32) for name in states}
        results.append(swapped(outputs, time_major=time_major, inputs=False))
    return results


def called(twin: Twin, calls: Sequence[Arrays], *, fresh: bool) -> list[Arrays]:
    """The outputs of a model for calls in a row; with `fresh` each starts from zero."""
    twin.reset()
    results = []
    for arrays in calls:
        if fresh:
            twin.reset()
        results.append(twin.call(arrays))
    return results


def error_of(wanted: Array, given: Array) -> tuple[float, float]:
    """The largest difference where the model gives finite numbers, and the largest of these."""
    finite = np.isfinite(wanted)
    if not finite.any():
        return 0.0, 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(wanted[finite] - given[finite])
    return float(np.nan_to_num(difference, nan=np.inf).max()), float(np.abs(wanted[finite]).max())


def first_difference(wanted: Sequence[Arrays], given: Sequence[Arrays], doubt: Sequence[Arrays] | None = None) -> str:
    """The first difference above the tolerance, or nothing.

    Args:
        wanted: outputs of the model, call by call.
        given: those of the file.
        doubt: those of the model in float64: what rounding in float32 moves there is allowed to move the file too.
    """
    for number, (expected, found) in enumerate(zip(wanted, given, strict=True), start=1):
        if set(expected) != set(found):
            return f"call {number}: the model has the outputs {sorted(expected)}, the file {sorted(found)}"
        for name, array in expected.items():
            if array.shape != found[name].shape:
                return f"call {number}: {name} has shape {array.shape}, the file {found[name].shape}"
            error, largest = error_of(array, found[name])
            allowed = TOLERANCE * max(1.0, largest)
            if doubt is not None:
                allowed += 4 * error_of(doubt[number - 1][name], array)[0]
            if error > allowed:
                return f"call {number}: {name} is off by {error:.3g} of {largest:.3g}"
    return ""
