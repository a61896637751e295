"""`Runner`: calls a `.tflite` model like a function, on the LiteRT interpreter or on `CompiledModel`."""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.runtime.integers import dequantized, quantized
from lstm_toolkit.runtime.interpreters import interpreter
from lstm_toolkit.runtime.isolated import IsolatedInterpreter
from lstm_toolkit.runtime.limits import Limits
from lstm_toolkit.runtime.signature import signature
from lstm_toolkit.tflite import files, graph, recurrent
from lstm_toolkit.weights.operands import STATES

Outputs = npt.NDArray[Any] | dict[str, npt.NDArray[Any]]

_KINDS = dict(zip(STATES, ("h", "c"), strict=True))


RUNTIMES = ("interpreter", "compiled")
"""The runtimes of `Runner`."""


_RAISED = (ValueError, RuntimeError)
"""What LiteRT's Python interface raises."""

_runners: "weakref.WeakSet[Runner]" = weakref.WeakSet()


def _renew_locks() -> None:
    """In a fork, where a thread that is not there any more may hold one."""
    for runner in _runners:
        runner._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


@contextlib.contextmanager
def _refusals(of: str = "this model") -> Iterator[None]:
    """Turns what LiteRT raises into an `InvalidModelError`."""
    try:
        yield
    except _RAISED as error:
        raise InvalidModelError(f"LiteRT cannot run {of}: {error}") from error


def keeping_all_tensors(data: bytes) -> Interpreter:
    """An interpreter, without XNNPACK, from which every tensor of a valid file can be read after a call."""
    with _refusals():
        return interpreter(data, xnnpack=False, keeps_all_tensors=True)


class Runner:
    """Runs a `.tflite` model.

    Args:
        model: the bytes or the path of a `.tflite` file.
        num_threads: threads that the interpreter may use.
        xnnpack: whether XNNPACK may take over the ops that it has, as it does by default in LiteRT.
        runtime: "interpreter"; or "compiled", LiteRT's `CompiledModel` with XNNPACK's weight cache, which takes only
            files without variable tensors, and runs unrolled ones much faster.
        isolated: whether the file runs in a process of its own, as a file from a stranger should: one that crashes,
            hangs or wants too much memory raises an `InvalidModelError`, after which the runner cannot be used. True
            stands for `Limits()`. A call takes a fraction of a millisecond longer. It protects from accidents; it is no
            sandbox.

    Raises:
        InvalidModelError: if the model cannot be read, or the runtime refuses it. Calls and all other methods raise it
            too, where the runtime cannot go on; carried states are undefined then, until they are set or reset.
        ValueError: for an unknown runtime, or a number of threads below 1.

    A call takes one array for a model with one input, or keyword arguments by input name, and returns one array for
    a model with one output, or a dict by output name. Names are those of the file's signature. Arrays are converted
    to the input's dtype where the kind allows it (float64 to float32, integer to float, but not float to integer).

    A file with carried state starts a call where the last one ended, also where the number of time steps changes from
    call to call; `reset` starts anew, and `state` reads and sets what is carried.

    Threads can share a runner, and then call it one after the other, on the same state. For speed, use one a thread.
    """

    _keeps_all_tensors = False

    def __init__(
        self,
        model: bytes | str | os.PathLike[str],
        *,
        num_threads: int = 1,
        xnnpack: bool = True,
        runtime: str = "interpreter",
        isolated: bool | Limits = False,
    ) -> None:
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
        if not isinstance(num_threads, int) or num_threads < 1:
            raise ValueError(f"num_threads must be a whole number above 0, got {num_threads!r}")
        self._data = files.read_bytes(model)
        files.require_runnable(self._data)
        options: dict[str, Any] = {"num_threads": num_threads, "xnnpack": xnnpack, "runtime": runtime}
        self._options = options | {"isolated": isolated}
        with _refusals():
            if isolated:
                limits = isolated if isinstance(isolated, Limits) else Limits()
                self._interpreter: Any = IsolatedInterpreter(self._data, limits, **options)
                self._inputs, self._outputs = self._interpreter.signature
            else:
                self._interpreter = interpreter(self._data, keeps_all_tensors=self._keeps_all_tensors, **options)
                self._inputs, self._outputs = signature(self._interpreter)
        self._input_indices = {name: details["index"] for name, details in self._inputs.items()}
        self._output_indices = {name: details["index"] for name, details in self._outputs.items()}
        self._lock = threading.RLock()
        _runners.add(self)
        self._allocated = {name: tuple(map(int, details["shape"])) for name, details in self._inputs.items()}

    def close(self) -> None:
        """Ends the process of an isolated file, which also ends when nothing refers to the runner any more.

        A `with` statement closes the runner too. Without `isolated`, there is nothing to close.
        """
        if isinstance(self._interpreter, IsolatedInterpreter):
            with self._lock:
                self._interpreter.close()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def tflite(self) -> bytes:
        """The bytes of the file."""
        return self._data

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments that the runner was made with."""
        return dict(self._options)

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each input by name, -1 where it is dynamic."""
        return {name: tuple(map(int, details["shape_signature"])) for name, details in self._inputs.items()}

    @property
    def input_dtypes(self) -> dict[str, np.dtype[Any]]:
        """Dtype of each input by name."""
        return {name: np.dtype(details["dtype"]) for name, details in self._inputs.items()}

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the order of the file."""
        return tuple(self._outputs)

    def __call__(self, /, *args: npt.ArrayLike, **inputs: npt.ArrayLike) -> Outputs:
        """Runs the model once.

        Args:
            *args: the one input of a model that has one.
            **inputs: inputs by name.

        Returns:
            The output array, or a dict of them by name where there are several.

        Raises:
            ValueError: if inputs are missing or unknown, or a shape or dtype does not fit; the message has what was
                expected and what was given.
            InvalidModelError: if the runtime cannot run the model on these inputs, such as an index beyond a table.
        """
        results = self.outputs(*args, **inputs)
        return next(iter(results.values())) if len(results) == 1 else results

    def outputs(self, /, *args: npt.ArrayLike, **inputs: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
        """Runs the model once, as a call does, and returns its outputs by name, also where there is only one."""
        values = self._checked(args, inputs)
        interpreter = self._interpreter
        # Neither `with` nor `_refusals`, which take as long as checks and copies together.
        self._lock.acquire()
        try:
            self._fit(values)
            for name, value in values.items():
                interpreter.set_tensor(self._input_indices[name], value)
            interpreter.invoke()
            return {name: interpreter.get_tensor(index) for name, index in self._output_indices.items()}
        except _RAISED as error:
            raise InvalidModelError(f"LiteRT cannot run this model on these inputs: {error}") from error
        finally:
            self._lock.release()

    def bound(self, **inputs: npt.ArrayLike) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """The model on fixed inputs as two functions, for a stopwatch.

        Args:
            **inputs: by name, as for a call; they are checked, converted, and copied in once, here.

        Returns:
            `invoke`, which runs the model on the contents of its input tensors, without any copy; and `call`, which
            copies the inputs in, runs the model, and returns copies of the outputs in the order of `output_names`.
            Neither checks anything or keeps other threads out. After a call of the runner with other shapes, use
            neither.

        Raises:
            ValueError: as a call.
        """
        values = {name: value.copy() for name, value in self._checked((), inputs).items()}
        interpreter = self._interpreter
        arrays = [(self._input_indices[name], value) for name, value in values.items()]
        outputs = list(self._output_indices.values())
        with self._lock, _refusals("this model on these inputs"):
            self._fit(values)
            for index, array in arrays:
                interpreter.set_tensor(index, array)

        def call() -> list[npt.NDArray[Any]]:
            for index, array in arrays:
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in outputs]

        return interpreter.invoke, call

    def quantized(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
        """Quantizes inputs for a file with integer inputs: floats become integers with the scale of their input.

        Args:
            inputs: by name; an array that has the dtype of its input stays as it is.

        Returns:
            Inputs to call the runner with. Values beyond the range of an input become the nearest one in it.
        """
        return {name: quantized(np.asarray(value), self._inputs[name]) for name, value in inputs.items()}

    def dequantized(self, outputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Turns outputs that are integers with a scale into floats; other outputs stay as they are."""
        return {name: dequantized(value, self._outputs[name]) for name, value in outputs.items()}

    def reset(self) -> None:
        """Sets every carried state to zero, so that the next call starts a new sequence."""
        with self._lock, _refusals():
            self._interpreter.reset_all_variables()

    @property
    def state(self) -> dict[str, npt.NDArray[np.float32]]:
        """The carried states by name, as copies; empty for a file that carries none.

        In files that lstm_toolkit wrote they are `NAME_h` and `NAME_c` of each layer, [batch, units]; in others they
        have the names of their tensors. Assigning a dict with some or all of them sets these. The states of an int8
        file are given and taken as floats, rounded to the steps of its scales.

        Raises:
            ValueError: on assigning, for an unknown name or a wrong shape; the message has expected and actual.
        """
        with self._lock, _refusals():
            stored = {name: self._interpreter.get_tensor(d["index"]) for name, d in self._state_tensors.items()}
        return {name: dequantized(value, self._state_tensors[name]) for name, value in stored.items()}

    @state.setter
    def state(self, values: Mapping[str, npt.ArrayLike]) -> None:
        current = self.state
        unknown = sorted(set(values) - set(current))
        if unknown:
            raise ValueError(f"the model carries the states {list(current)}, got {unknown}")
        arrays = {name: np.asarray(value, np.float32) for name, value in values.items()}
        for name, array in arrays.items():
            if array.shape != current[name].shape:
                raise ValueError(f"state {name!r} has shape {list(current[name].shape)}, got {list(array.shape)}")
        with self._lock, _refusals():
            for name, array in arrays.items():
                details = self._state_tensors[name]
                self._interpreter.set_tensor(details["index"], quantized(array, details))

    @cached_property
    def _state_tensors(self) -> dict[str, dict[str, Any]]:
        """Index, dtype and quantization of each carried state, by name. A state that an op sets is not carried."""
        model = files.read_model(self._data)
        main = model.subgraphs[0]
        named = {}
        for index in recurrent.carried_states(model, main):
            layer, _, kind = graph.text(main.tensors[index].name).rpartition("/")
            name = f"{layer}_{_KINDS[kind]}" if kind in _KINDS else graph.text(main.tensors[index].name)
            scale, zero_point = graph.scale_of(main.tensors[index])
            dtype = graph.DTYPES.get(main.tensors[index].type, np.float32)
            named[name] = {"index": index, "dtype": dtype, "quantization": (scale, zero_point)}
        return named

    def _fit(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Allocates anew where the shapes are not those of the call before."""
        for name, value in values.items():
            if value.shape != self._allocated[name]:
                break
        else:
            return
        # Allocation sets every variable tensor to zero, which would lose what is carried.
        carried, shapes = self.state, {name: value.shape for name, value in values.items()}
        try:
            self._allocate(shapes)
        except InvalidModelError:
            with contextlib.suppress(InvalidModelError):
                self._allocate(self._allocated)
                self.state = carried
            raise
        self._allocated, self.state = shapes, carried

    def _allocate(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        with _refusals(f"this model on inputs of the shapes {[list(shape) for shape in shapes.values()]}"):
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._input_indices[name], shape)
            self._interpreter.allocate_tensors()

    def _checked(self, args: tuple[npt.ArrayLike, ...], inputs: dict[str, npt.ArrayLike]) -> dict[str, Any]:
        if args:
            if len(args) > 1 or len(self._inputs) > 1 or inputs:
                raise ValueError(f"pass the inputs by name: {list(self._inputs)}")
            inputs = {next(iter(self._inputs)): args[0]}
        if inputs.keys() != self._inputs.keys():
            raise ValueError(f"the model has the inputs {list(self._inputs)}, got {list(inputs)}")
        return {name: self._converted(name, value) for name, value in inputs.items()}

    def _converted(self, name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
        array, details = np.asarray(value), self._inputs[name]
        if array.shape == self._allocated[name] and array.dtype == details["dtype"]:
            return array  # the checks below take as long as a small model
        shape = self.input_shapes[name]
        if len(array.shape) != len(shape) or any(
            size not in (-1, given) for size, given in zip(shape, array.shape, strict=True)
        ):
            raise ValueError(f"input {name!r} has shape {list(shape)} (-1 is any), got {list(array.shape)}")
        if not np.can_cast(array.dtype, details["dtype"], "same_kind"):
            raise ValueError(f"input {name!r} is {np.dtype(details['dtype'])}, got {array.dtype}")
        return array.astype(details["dtype"])
