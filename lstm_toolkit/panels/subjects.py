"""What the panels compare in place of their example: the reader's own model or file, at the sizes that it leaves open.

Needs the extra `codelabs`.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.panels.sizes import Sizes
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.sources.source import loaded
from lstm_toolkit.tflite.files import read_bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A reader's model or file.

    Attributes:
        name: as a reader knows it.
        sizes: to begin with. The units are those of its first recurrent layer.
        settled: names of the sizes that it settles; the others are free.
        at: what a candidate converts, for sizes.
        call: what that does with an input; its calls begin where the last one ended, as those of a file do.
        is_file: whether it is a `.tflite` file, and not a Keras model.
    """

    name: str
    sizes: Sizes
    settled: frozenset[str]
    at: Callable[[Sizes], Any]
    call: Callable[[Any], Callable[[Any], Any]]
    is_file: bool = False


def subject(source: Any, preset: Sizes) -> Subject:
    """A reader's model or file, to be compared.

    Args:
        source: a Keras 3 model, functional or sequential, with one input [batch, time, input] of floats and one output,
            and without `stateful`; the path of one (`.keras`, `.h5`); or a `.tflite` file with such inputs and outputs
            and a fused LSTM op: its path, its bytes or a `Conversion`.
        preset: sizes where the source leaves them open.

    Raises:
        TypeError: for anything else.
        ValueError: if its inputs, outputs or layers are others, or its sizes are beyond the limits.
        ConversionError, InvalidModelError: if it cannot be loaded.
    """
    source = getattr(source, "tflite", source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _of_file("the file", bytes(source), preset)
    if is_keras_path(source):
        source = loaded(source)
    elif isinstance(source, (str, os.PathLike)):
        return _of_file(os.path.basename(os.fspath(source)), read_bytes(source), preset)
    return _of_model(source, preset)


def is_keras_path(source: Any) -> bool:
    """Whether it is the path of a Keras model, and not of a `.tflite` file."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    return os.path.isdir(source) or os.fspath(source).endswith((".keras", ".h5", ".hdf5"))


def _of_file(name: str, file: bytes, preset: Sizes) -> Subject:
    summary = inspect(file)
    if not summary.lstm_nodes:
        raise ValueError(f"{name} has no fused LSTM op; pass the model that it was made from")
    shape = _input_shape(name, [(each.shape, each.dtype) for each in summary.inputs], len(summary.outputs))
    settled, sizes = _sizes(shape, summary.lstm_nodes[0].units, preset)
    return Subject(name, sizes, settled, lambda _: file, Runner, is_file=True)


def _of_model(model: Any, preset: Sizes) -> Subject:
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.Model):
        raise TypeError(f"expected a Keras 3 model, its path or a .tflite file, got {type(model).__name__}")
    name = f"model {model.name!r}"
    if not getattr(model, "inputs", None):
        raise ValueError(f"{name} does not know its inputs; pass keras.Model(inputs, model(inputs))")
    shape = _input_shape(name, [(each.shape, str(each.dtype)) for each in model.inputs], len(model.outputs))
    recurrent = [layer for layer in model._flatten_layers() if hasattr(layer, "return_sequences")]
    cells = [cell for layer in recurrent for cell in (layer, getattr(layer, "cell", None))]
    units = [units for cell in cells if (units := getattr(cell, "units", None))]
    if not units:
        raise ValueError(f"{name} has no layer LSTM, GRU or SimpleRNN, which the panel could compare")
    if any(getattr(layer, "stateful", False) for layer in recurrent):
        raise ValueError(f"{name} is stateful, so that a call changes it; build it with stateful=False, and pass that")
    settled, sizes = _sizes(shape, units[0], preset)

    def at(sizes: Sizes) -> Any:
        inputs = keras.Input(batch_shape=(sizes.batch_size, sizes.time_steps, sizes.input_size), name="sequence")
        try:
            return keras.Model(inputs, model(inputs))
        except Exception as error:  # whatever the layers of a model raise
            said = str(error).strip().partition("\n")[0]
            raise ConversionError(f"{name} does not take {sizes}: {said}; choose other sizes") from error

    return Subject(name, sizes, settled, at, keras_call)


def keras_call(model: Any) -> Callable[[Any], Any]:
    """A call of a Keras model that gives an array."""
    return lambda x: np.asarray(model(x))


def _input_shape(name: str, inputs: Sequence[tuple[Any, str]], outputs: int) -> tuple[int | None, ...]:
    shapes = [tuple(size if size and size > 0 else None for size in shape) for shape, _ in inputs]
    fits = len(shapes) == outputs == 1 and len(shapes[0]) == 3 and shapes[0][2] and inputs[0][1] == "float32"
    if not fits:
        got = ", ".join(f"{dtype} {list(shape)}" for shape, (_, dtype) in zip(shapes, inputs, strict=True))
        raise ValueError(
            f"{name} must have one input float32 [batch, time, input] and one output for the panel to compare it, "
            f"got {got} and {outputs} outputs"
        )
    return shapes[0]


def _sizes(shape: Sequence[int | None], units: int, preset: Sizes) -> tuple[frozenset[str], Sizes]:
    """Names of the sizes that are settled, and sizes to begin with."""
    names = [field.name for field in dataclasses.fields(Sizes)]
    own = dict(zip(names, [*shape, units], strict=True))
    settled = {name: size for name, size in own.items() if size is not None}
    return frozenset(settled), dataclasses.replace(preset, **settled)
