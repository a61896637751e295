"""`Runner`: calls a `.tflite` model like a function, on the LiteRT interpreter or on `CompiledModel`."""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.runtime.carried import carried_states
from lstm_toolkit.runtime.integers import dequantized, quantized
from lstm_toolkit.runtime.interpreters import interpreter
from lstm_toolkit.runtime.isolated import IsolatedInterpreter
from lstm_toolkit.runtime.limits import Limits
from lstm_toolkit.runtime.signature import signature
from lstm_toolkit.tflite import files

Outputs = npt.NDArray[Any] | dict[str, npt.NDArray[Any]]

RUNTIMES = ("interpreter", "compiled")
"""The runtimes of `Runner`."""

_ndarray = np.ndarray
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


_Slot = tuple[str, int, tuple[int, ...], np.dtype[Any]]
"""An input as the interpreter holds it now: name, index, shape and dtype. A plain tuple, which is unpacked fastest."""


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
        self._only_input = next(iter(self._inputs)) if len(self._inputs) == 1 else None
        self._lock = threading.RLock()
        _runners.add(self)
        self._hold(
            (name, details["index"], tuple(map(int, details["shape"])), np.dtype(details["dtype"]))
            for name, details in self._inputs.items()
        )

    def _hold(self, slots: Iterable[_Slot]) -> None:
        """Gathers what a call needs, so that it need not look for it."""
        held, indices = self._interpreter, [details["index"] for details in self._outputs.values()]
        self._ready = list(slots), indices, held.set_tensor, held.invoke, held.get_tensor

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
        results = self._run(args, inputs)
        return results[0] if len(results) == 1 else dict(zip(self._outputs, results, strict=True))

    def outputs(self, /, *args: npt.ArrayLike, **inputs: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
        """Runs the model once, as a call does, and returns its outputs by name, also where there is only one."""
        return dict(zip(self._outputs, self._run(args, inputs), strict=True))

    def _run(self, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
        """Runs the model once, and returns its outputs in the order of the file; `runner_overhead.py` times it."""
        if args:
            if inputs or len(args) > 1 or self._only_input is None:
                raise ValueError(f"pass the inputs by name: {list(self._inputs)}")
            inputs = {self._only_input: args[0]}
        lock = self._lock
        lock.acquire()
        try:
            slots, indices, set_tensor, invoke, get_tensor = self._ready
            for name, index, shape, dtype in slots:
                value = inputs.get(name)
                if type(value) is not _ndarray or value.dtype is not dtype or value.shape != shape:
                    break
                set_tensor(index, value)
            else:
                if len(inputs) == len(slots):
                    invoke()
                    outputs = []
                    for index in indices:
                        outputs.append(get_tensor(index))  # noqa: PERF401 (a comprehension takes longer)
                    return outputs
        except _RAISED as error:
            raise InvalidModelError(f"LiteRT cannot run this model on these inputs: {error}") from error
        finally:
            lock.release()
        with lock:
            return self._run((), self._fitted(inputs))

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
        values = {name: value.copy() for name, value in self._checked(inputs).items()}
        with self._lock, _refusals("this model on these inputs"):
            self._fitted(values)
            slots, indices, set_tensor, invoke, get_tensor = self._ready
            arrays = [(index, values[name]) for name, index, *_ in slots]
            for index, array in arrays:
                set_tensor(index, array)

        def call() -> list[npt.NDArray[Any]]:
            for index, array in arrays:
                set_tensor(index, array)
            invoke()
            return [get_tensor(index) for index in indices]

        return invoke, call

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
        return carried_states(self._data)

    def _fitted(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
        """The inputs as the file takes them, and slots for them, allocated anew where their shapes are other ones."""
        arrays = self._checked(inputs)
        before = self._ready[0]
        slots: list[_Slot] = [(name, index, arrays[name].shape, arrays[name].dtype) for name, index, *_ in before]
        if [shape for _, _, shape, _ in slots] != [shape for _, _, shape, _ in before]:
            # Allocation sets every variable tensor to zero, which would lose what is carried.
            carried = self.state
            try:
                self._allocate(slots)
            except InvalidModelError:
                with contextlib.suppress(InvalidModelError):
                    self._allocate(before)
                    self.state = carried
                raise
            self.state = carried
        self._hold(slots)
        return arrays

    def _allocate(self, slots: Sequence[_Slot]) -> None:
        with _refusals(f"this model on inputs of the shapes {[list(shape) for _, _, shape, _ in slots]}"):
            for _, index, shape, _ in slots:
                self._interpreter.resize_tensor_input(index, shape)
            self._interpreter.allocate_tensors()

    def _checked(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
        if inputs.keys() != self._inputs.keys():
            raise ValueError(f"the model has the inputs {list(self._inputs)}, got {list(inputs)}")
        return {name: self._converted(name, value) for name, value in inputs.items()}

    def _converted(self, name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
        array, shape, dtype = np.asarray(value), self.input_shapes[name], self.input_dtypes[name]
        if len(array.shape) != len(shape) or any(
            size not in (-1, given) for size, given in zip(shape, array.shape, strict=True)
        ):
            raise ValueError(f"input {name!r} has shape {list(shape)} (-1 is any), got {list(array.shape)}")
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise ValueError(f"input {name!r} is {dtype}, got {array.dtype}")
        return array.astype(dtype, copy=False)
