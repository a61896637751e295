"""What `benchmark` times: files, Keras models and callables, each as functions without arguments."""

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.conversion.report import Conversion
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.process_state import prepare_tensorflow
from lstm_toolkit.runtime.random_inputs import random_array
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.tflite import files

Load = Callable[[], tuple[Callable[[], Any] | None, Callable[[], Any]]]
Arrays = Mapping[str, npt.NDArray[Any]]

OPEN_SIZE = 16
"""Size that open dimensions of random inputs take, but for the batch of a Keras model, which takes 1."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that is ready to be timed.

    Attributes:
        name: unlike that of any other.
        kind: "file", "Keras model" or "callable".
        place: gives a function that loads the model and gives `invoke`, or None, and `call`. For a file, both the bytes
            and the interpreter are new each time, and lie elsewhere in memory.
        runner: of a file, or None.
        inputs: by name; empty for a callable that takes none.
        notes: choices made for the caller, such as open sizes.
    """

    name: str
    kind: str
    place: Callable[[], Load]
    inputs: Arrays
    runner: Runner | None = None
    notes: tuple[str, ...] = ()


def named_models(models: Any) -> dict[str, Any]:
    """Models by name: those of a mapping, or names made of file names, Keras names and numbers.

    Raises:
        ValueError: if there is no model.
    """
    if isinstance(models, Mapping):
        named = {str(name): model for name, model in models.items()}
    else:
        named = {}
        for number, model in enumerate(models if isinstance(models, (list, tuple)) else [models], start=1):
            name = Path(model).stem if isinstance(model, (str, os.PathLike)) else getattr(model, "name", None)
            name = name if isinstance(name, str) else getattr(model, "__name__", f"model {number}")
            named[name if name not in named else f"{name} ({number})"] = model
    if not named:
        raise ValueError("there is no model to time")
    return named


def subjects(models: Mapping[str, Any], inputs: Any, *, num_threads: int, seed: int) -> tuple[Subject, ...]:
    """Makes models ready to be timed; see `benchmark` for what they and their inputs may be.

    Raises:
        InvalidModelError: if a file cannot be run.
        TypeError: for anything that is not a model.
        ValueError: if the inputs do not fit. All messages name the model.
    """
    by_model = isinstance(inputs, Mapping) and inputs and set(inputs) <= set(models)
    random = _RandomInputs(seed)
    found: dict[str, Subject] = {}
    # Files know their sizes, Keras models may leave them open, and callables know nothing of them.
    kinds = {name: _kind(name, model) for name, model in models.items()}
    for name in sorted(models, key=lambda name: _KINDS.index(kinds[name])):
        make = _MAKERS[kinds[name]]
        try:
            found[name] = make(name, models[name], inputs.get(name) if by_model else inputs, random, num_threads)
        except InvalidModelError as error:
            raise InvalidModelError(f"model {name!r}: {error}") from error
        except ValueError as error:
            raise ValueError(f"model {name!r}: {error}") from error
    return tuple(found[name] for name in models)


_KINDS = ("file", "Keras model", "callable")


def _kind(name: str, model: Any) -> str:
    if isinstance(model, (bytes, bytearray, memoryview, str, os.PathLike, Conversion, Runner)):
        return "file"
    if _keras_package(model):
        return "Keras model"
    if callable(model):
        return "callable"
    raise TypeError(
        f"model {name!r}: expected a .tflite file (bytes, a path, a Conversion, a Runner), a Keras model or a "
        f"callable, got {type(model).__name__}"
    )


def _keras_package(model: Any) -> Any:
    """The package of a Keras model: keras or tf_keras; None for anything else. It imports neither."""
    packages = (sys.modules.get("keras"), sys.modules.get("tf_keras"))
    layers = [(package, getattr(getattr(package, "layers", None), "Layer", None)) for package in packages]
    return next((package for package, layer in layers if layer and isinstance(model, layer)), None)


class _RandomInputs:
    """Draws inputs: what has the same place, shape and dtype is the same array in all models."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._drawn: dict[tuple[int, tuple[int, ...], str], npt.NDArray[Any]] = {}
        self.last: Arrays | None = None

    def draw(
        self, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, Any], *, open_batch: int = OPEN_SIZE
    ) -> dict[str, npt.NDArray[Any]]:
        """Inputs by name; sizes of -1 are those of a model drawn before, where the others fit, or the default."""
        arrays = {}
        for place, (name, shape) in enumerate(shapes.items()):
            key = (place, self._settled(place, shape, open_batch), np.dtype(dtypes[name]).str)
            if key not in self._drawn:
                random, dtype = np.random.default_rng([self._seed, place]), np.dtype(key[2])
                # Wider integers are mostly tokens, and any vocabulary has two.
                limits = np.iinfo(dtype) if dtype.kind in "iu" and dtype.itemsize == 1 else None
                low, high = (limits.min, limits.max + 1) if limits else (0, 2)
                self._drawn[key] = random_array(random, key[1], dtype, low=low, high=high)
            arrays[name] = self._drawn[key]
        self.last = self.last or arrays
        return arrays

    def _settled(self, place: int, shape: tuple[int, ...], open_batch: int) -> tuple[int, ...]:
        for known_place, known, _ in self._drawn:
            if (
                known_place == place
                and len(known) == len(shape)
                and all(size in (-1, other) for size, other in zip(shape, known, strict=True))
            ):
                return known
        defaults = (open_batch, *[OPEN_SIZE] * len(shape))
        return tuple(defaults[axis] if size < 0 else size for axis, size in enumerate(shape))


def _by_name(inputs: Any, names: Sequence[str]) -> dict[str, Any]:
    """The caller's inputs, an array or a mapping, under the names of a model's inputs."""
    if isinstance(inputs, Mapping):
        return {name: np.asarray(value) for name, value in inputs.items()}
    if len(names) != 1:
        raise ValueError(f"it has the inputs {list(names)}; pass a mapping from name to array")
    return {names[0]: np.asarray(inputs)}


def _open_note(name: str, shapes: Mapping[str, tuple[int, ...]], arrays: Arrays) -> tuple[str, ...]:
    return tuple(
        f"{name}: input {key!r} has shape {list(shape)} (-1 is any) and was timed with {list(arrays[key].shape)}; "
        "pass inputs for another size."
        for key, shape in shapes.items()
        if -1 in shape
    )


def _file(name: str, model: Any, inputs: Any, random: _RandomInputs, num_threads: int) -> Subject:
    options: dict[str, Any] = {"num_threads": num_threads}
    if isinstance(model, Runner):
        options = model.options
    elif isinstance(model, Conversion):
        options["runtime"] = model.runtime
    is_known = isinstance(model, (Conversion, Runner))
    data = model.tflite if is_known else files.read_bytes(model)
    # A file from a stranger may crash, and it is timed in this process.
    runner = Runner(data, **(options if is_known else options | {"isolated": True}))
    shapes = runner.input_shapes
    arrays = random.draw(shapes, runner.input_dtypes) if inputs is None else _by_name(inputs, list(shapes))
    notes = _open_note(name, shapes, arrays) if inputs is None else ()
    runner.outputs(**arrays)
    if not is_known:
        runner.close()
        runner = Runner(data, **options)
    random_sizes, ballast = np.random.default_rng(), []

    def place() -> Load:
        # Weights are read where the bytes lie. Blocks of random size move what is allocated after them.
        ballast.append(bytearray(int(random_sizes.integers(1, 4096))))
        copy = bytes(bytearray(runner.tflite))
        return lambda: Runner(copy, **runner.options).bound(**arrays)

    return Subject(name, "file", place, arrays, runner, notes)


def _keras_model(name: str, model: Any, inputs: Any, random: _RandomInputs, _: int) -> Subject:
    prepare_tensorflow()
    tensors = getattr(model, "inputs", None)
    if inputs is None and not tensors:
        raise ValueError("it does not know its inputs; pass inputs")
    names = [tensor.name for tensor in tensors] if tensors else ["input"]
    notes: tuple[str, ...] = ()
    if inputs is None and tensors:
        shapes = {each.name: tuple(-1 if size is None else int(size) for size in each.shape) for each in tensors}
        dtypes = {each.name: getattr(each.dtype, "as_numpy_dtype", each.dtype) for each in tensors}
        arrays = random.draw(shapes, dtypes, open_batch=1)
        notes = _open_note(name, shapes, arrays)
    else:
        arrays = _by_name(inputs, names)
    if set(arrays) != set(names):
        raise ValueError(f"it has the inputs {names}, got {list(arrays)}")
    package = _keras_package(model)
    if package.__name__ == "tf_keras":
        tensorflow = sys.modules["tensorflow"]
        convert, pack = tensorflow.convert_to_tensor, tensorflow.nest.pack_sequence_as
    else:
        convert, pack = package.ops.convert_to_tensor, package.tree.pack_sequence_as
    values = [convert(arrays[each]) for each in names]
    argument = values[0] if len(values) == 1 else pack(model.input, values)
    return Subject(name, "Keras model", lambda: lambda: (None, lambda: model(argument)), arrays, notes=notes)


def _callable(name: str, model: Any, inputs: Any, random: _RandomInputs, _: int) -> Subject:
    arrays = (random.last or {}) if inputs is None else _by_name(inputs, ["input"])
    args, keywords = (tuple(arrays.values()), {}) if len(arrays) == 1 else ((), dict(arrays))
    if not _accepts(model, args, keywords) and _accepts(model, (), {}):
        arrays, args, keywords = {}, (), {}
    call = (lambda: model(*args, **keywords)) if arrays else model
    return Subject(name, "callable", lambda: lambda: (None, call), arrays)


def _accepts(model: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    try:
        inspect.signature(model).bind(*args, **keywords)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


_MAKERS = dict(zip(_KINDS, (_file, _keras_model, _callable), strict=True))
