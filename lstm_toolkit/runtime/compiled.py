"""`CompiledInterpreter`: LiteRT's `CompiledModel` behind the methods of the interpreter that `Runner` calls.

XNNPACK packs the weights of each op for its kernels. In a file that is unrolled over time the same weights serve many
ops, and packed for each of them they no longer fit in the caches, which makes long calls two to five times as slow.
XNNPACK's weight cache packs them once. It is kept in memory here: a cache in a file does not notice that another model
has the same path, and then gives that model's results.
"""

import ctypes
import functools
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ai_edge_litert
import numpy as np
import numpy.typing as npt
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment, EnvironmentOptions
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.options import CpuKernelMode, CpuOptions, Options

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.process_state import captured_stderr
from lstm_toolkit.runtime.signature import signature
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.weights.operands import ABSENT

WEIGHT_CACHE_IN_MEMORY = ":memory"
"""The path that makes XNNPACK keep its weight cache in memory (`weight_cache.h`, `kInMemoryCachePath`)."""

DTYPES = ("float32", "float16", "int32", "int8", "uint8", "bool")
"""The dtypes that buffers of `CompiledModel` can hold."""


class CompiledInterpreter:
    """Runs a `.tflite` model on `CompiledModel`, with XNNPACK's weight cache.

    Args:
        data: the bytes of the file.
        num_threads: threads that it may use.
        xnnpack: whether XNNPACK may take over the ops that it has.

    Raises:
        InvalidModelError: if `CompiledModel` refuses the file; names the reason and the remedy.

    Attributes:
        get_input_details, get_output_details, get_signature_list, get_signature_runner: those of an `Interpreter`; the
            shapes in the details are those of the file.
    """

    def __init__(self, data: bytes, *, num_threads: int = 1, xnnpack: bool = True) -> None:
        # It is never allocated, so that it costs next to nothing. It also checks the bytes.
        self._described = Interpreter(
            model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        self.get_input_details = self._described.get_input_details
        self.get_output_details = self._described.get_output_details
        self.get_signature_list = self._described.get_signature_list
        self.get_signature_runner = self._described.get_signature_runner
        self._data = data
        with captured_stderr() as messages:
            try:
                self._load(num_threads, xnnpack=xnnpack)
            except InvalidModelError:
                raise
            except Exception as error:  # whatever the binding raises
                raise InvalidModelError(_refusal(data, messages(), str(error))) from error

    def _load(self, num_threads: int, *, xnnpack: bool) -> None:
        cpu = CpuOptions(
            num_threads=num_threads,
            kernel_mode=CpuKernelMode.DELEGATE if xnnpack else CpuKernelMode.BUILTIN,
            xnnpack_weight_cache_path=WEIGHT_CACHE_IN_MEMORY if xnnpack else "",
        )
        options = Options(cpu_options=cpu)
        self._model = CompiledModel.from_buffer(self._data, environment=_environment(), options=options)
        signatures = self._model.get_signature_list()
        self._key = next(iter(signatures))
        inputs, outputs = signature(self._described)
        _check_fixed(outputs)
        self._inputs = _numbered(signatures[self._key]["inputs"], inputs)
        self._outputs = _numbered(signatures[self._key]["outputs"], outputs)
        self._output_names = signatures[self._key]["outputs"]
        self.allocate_tensors()
        # The first write of a process prints lines; here they do not reach the caller.
        shapes = {each["index"]: each["shape"] for each in self._described.get_input_details()}
        for index, (_, dtype) in list(self._inputs.items())[:1]:
            self.set_tensor(index, np.zeros(shapes[index], dtype))

    def allocate_tensors(self) -> None:
        """Makes the buffers of inputs and outputs, for the shapes that the inputs have now."""
        self._input_buffers = self._model.create_input_buffers(0)
        self._output_buffers = self._model.create_output_buffers(0)
        details = self._model.get_output_tensor_details(self._key)
        self._shapes = [tuple(map(int, details[name]["shape"])) for name in self._output_names]
        self._sizes = [math.prod(shape) for shape in self._shapes]

    def resize_tensor_input(self, index: int, shape: Sequence[int]) -> None:
        """Gives an input a new shape, [-1 of its shape_signature replaced]; takes effect on `allocate_tensors`."""
        self._model.resize_input_tensor(self._inputs[index][0], shape)

    def set_tensor(self, index: int, value: npt.NDArray[Any]) -> None:
        """Copies values into an input."""
        self._input_buffers[self._inputs[index][0]].write(value)

    def invoke(self) -> None:
        """Runs the model."""
        self._model.run_by_index(0, self._input_buffers, self._output_buffers)

    def get_tensor(self, index: int) -> npt.NDArray[Any]:
        """A copy of an output."""
        number, dtype = self._outputs[index]
        return self._output_buffers[number].read(self._sizes[number], dtype).reshape(self._shapes[number])

    def reset_all_variables(self) -> None:
        """Nothing: such a file has no variable tensors."""


@functools.cache
def _environment() -> Environment:
    """One for all models, since each new one searches for accelerators."""
    # Without the folder it looks for vendors' plug-ins that are not installed.
    folder = os.path.dirname(os.path.abspath(ai_edge_litert.__file__))
    environment = Environment.create(options=EnvironmentOptions(runtime_path=folder))
    # It prints lines when it is destroyed, which otherwise happens as Python exits.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(environment.capsule))
    return environment


def _numbered(names: Sequence[str], details: Mapping[str, dict[str, Any]]) -> dict[int, tuple[int, np.dtype[Any]]]:
    """For the index of each tensor its number among the buffers, and its dtype.

    Raises:
        InvalidModelError: for a dtype that no buffer can hold.
    """
    numbered = {}
    for number, name in enumerate(names):
        dtype = np.dtype(details[name]["dtype"])
        if dtype.name not in DTYPES:
            raise InvalidModelError(
                f"{name!r} is {dtype}, and CompiledModel takes and gives {', '.join(DTYPES)}; "
                'pass runtime="interpreter"'
            )
        numbered[int(details[name]["index"])] = number, dtype
    return numbered


def _check_fixed(outputs: Mapping[str, dict[str, Any]]) -> None:
    """Refuses outputs with open sizes: `CompiledModel` makes their buffers too small, and writes on behind them.

    Raises:
        InvalidModelError: names the output.
    """
    for name, details in outputs.items():
        if -1 in list(details["shape_signature"]):
            raise InvalidModelError(
                f"output {name!r} has an open size, for which CompiledModel has no buffer; convert the model with "
                'time_steps, or pass runtime="interpreter"'
            )


def _refusal(data: bytes, messages: str, error: str) -> str:
    """Why `CompiledModel` refuses a file, and the remedy."""
    model = files.read_model(data)
    stateful = {
        graph.operator_name(model, op)
        for subgraph in model.subgraphs
        for op in subgraph.operators
        if any(subgraph.tensors[index].isVariable for index in op.inputs if index != ABSENT)
    }
    if stateful:
        return (
            f"the state of {', '.join(sorted(stateful - {'ZEROS_LIKE'} or stateful))} is in variable tensors, which "
            'CompiledModel does not take; convert the model with lowering="unrolled" or "loop", or pass the file to '
            'lstm_toolkit.lower, or pass runtime="interpreter"'
        )
    reasons = re.findall(r"ERROR: \[[^\]]*\] *(\S.*)", messages)
    return f"CompiledModel cannot run this model: {reasons[0] if reasons else error.splitlines()[0]}"
