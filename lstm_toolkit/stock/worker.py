"""Runs TensorFlow's converter and quantizer in a process of its own, where they may crash without the caller.

Functions and SavedModels of users can hold annotations that end the converter's process with a segmentation fault
(`_implements` = "LSTMCellSimple" does), and the calibrator ends its process on models that it does not expect. So they
are handled by a worker, which is started at the first need, kept for the next ones, and ends with the process that
started it, whatever it is doing.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.process_state import alone
from lstm_toolkit.runtime.scratch import scratch_folder
from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess, limited_memory, serve
from lstm_toolkit.stock.converter import quiet_tensorflow, run_converter_in_worker


class _Task(TypedDict):
    task: str


class Request(_Task, total=False):
    """A task, whose answer is the bytes of a file.

    Attributes:
        task: "convert", "calibrate" or "quantize"; "wait", which answers when TensorFlow is imported; or "call".
        folder: of the SavedModel to convert.
        tflite: the file to calibrate or to quantize.
        inputs: to calibrate with, one array [samples, ...] an input.
        kept_float: an argument of `quantize_elsewhere`.
        function, arguments, memory: arguments of `call_elsewhere`.
    """

    folder: str
    tflite: bytes
    inputs: list[npt.NDArray[Any]]
    kept_float: list[str]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    memory: int | None


_worker: WorkerProcess | None = None


def process_id() -> int | None:
    """The number of the worker's process, for tests; None if there is no worker now."""
    return _worker.process_id if _worker is not None else None


def start() -> None:
    """Starts the worker, if there is none, so that it imports TensorFlow while this process does."""
    with alone():
        _started()


def stop() -> None:
    """Ends the worker, so that the next one knows nothing of what this one has imported."""
    global _worker
    with alone():
        if _worker is not None:
            _worker.kill()
        _worker = None


def call_elsewhere(
    function: Callable[..., Any], *arguments: Any, seconds: float | None = None, memory: int | None = None
) -> Any:
    """Calls a function in the worker, where it may take too long, want too much memory, or crash.

    Args:
        function: one that pickle finds by its name.
        arguments: what pickle can hold.
        seconds: that it may take, once TensorFlow is imported; None for no limit.
        memory: bytes of data that the worker may hold during the call, beyond those that it holds before; where there
            is no such limit, any number; None for no limit. What wants more gets a MemoryError, or ends the worker.

    Returns:
        What the function returns.

    Raises:
        TimeoutError: if it takes longer.
        WorkerEndedError: if it raises something, or ends the worker.
    """
    with alone():
        _exchange({"task": "wait"})
        request: Request = {"task": "call", "function": function, "arguments": arguments, "memory": memory}
        return _exchange(request, time_limit=seconds)["result"]


def convert_elsewhere(function: Any, trackable: Any) -> bytes:
    """Converts a concrete function in the worker.

    Args:
        function: the concrete function.
        trackable: holds the variables that it reads.

    Returns:
        The `.tflite` file, CUSTOM ops allowed.

    Raises:
        ConversionError: with the converter's reason, or with its last words if it ended its process.
    """
    import tensorflow as tf

    with scratch_folder() as folder:
        with quiet_tensorflow():
            tf.saved_model.save(trackable, folder, signatures=function)
        return _ask({"task": "convert", "folder": folder})


def calibrate_elsewhere(
    tflite: bytes,
    samples: Sequence[Sequence[npt.NDArray[Any]]],
    *,
    progress: Callable[[int], Any] = lambda _: None,
) -> bytes:
    """Runs a file on samples in the worker, to find the range of each tensor.

    Args:
        tflite: a float file whose LSTM ops have intermediates.
        samples: for each sample one array an input, in the order of the file's inputs.
        progress: called with the number of samples that are done.

    Returns:
        The file, with the ranges in the quantization parameters of its tensors.

    Raises:
        ConversionError: with the calibrator's reason, or with its last words if it ended its process.
    """
    inputs = list(map(np.stack, zip(*samples, strict=True)))
    return _ask({"task": "calibrate", "tflite": tflite, "inputs": inputs}, progress)


def quantize_elsewhere(calibrated: bytes, *, kept_float: Sequence[str] = ()) -> bytes:
    """Quantizes a file with ranges to int8 in the worker; its inputs and outputs stay float.

    Args:
        calibrated: the file.
        kept_float: names of ops that stay float.

    Returns:
        The quantized file.

    Raises:
        ConversionError: with the quantizer's reason, or with its last words if it ended its process.
    """
    return _ask({"task": "quantize", "tflite": calibrated, "kept_float": list(kept_float)})


_NO_INT8 = "quantizer", 'pass quantization="dynamic" or "float16"'
_REMEDIES = {
    "convert": ("converter", "convert the model that the function calls, or mark its LSTMs by lstm_toolkit.composite"),
    "calibrate": _NO_INT8,
    "quantize": _NO_INT8,
}
"""For each task what of TensorFlow does it, and what to do where that fails."""


def _ask(request: Request, progress: Callable[[int], Any] = lambda _: None) -> bytes:
    """Lets the worker do a task, and returns the bytes of its result.

    Raises:
        ConversionError: with the reason, or with the worker's last words if the task ended it.
    """
    try:
        with alone():
            answer = _exchange(request, progress)
    except WorkerEndedError as error:
        part, remedy = _REMEDIES[request["task"]]
        raise ConversionError(f"TensorFlow's {part} ended its own process: {error}; {remedy}") from error
    if answer["error"] is not None:
        raise ConversionError(answer["error"])
    result: bytes = answer["result"]
    return result


def _exchange(
    request: Request, progress: Callable[[int], Any] = lambda _: None, time_limit: float | None = None
) -> Mapping[str, Any]:
    """Asks the worker, under the lock; any error ends it."""
    global _worker
    worker = _started()
    try:
        answer: Mapping[str, Any] = worker.ask(request, progress, time_limit)
    except BaseException:
        # An answer that nobody waits for would be taken for that of the next request.
        worker.kill()
        _worker = None
        raise
    return answer


def _started() -> WorkerProcess:
    global _worker
    if _worker is None or not _worker.is_ours:
        _worker = WorkerProcess([sys.executable, "-m", __name__])
    return _worker


def _answer(request: Request, progress: Callable[[int], Any]) -> Mapping[str, Any]:
    tasks = {"convert": _convert, "calibrate": _calibrate, "quantize": _quantize, "wait": _wait, "call": _call}
    try:
        return {"error": None, "result": tasks[request["task"]](request, progress)}
    except ConversionError as error:
        return {"error": str(error)}
    except Exception as error:  # the quantizer's own error types are not public
        if request["task"] not in ("calibrate", "quantize"):
            raise
        return {"error": f"TensorFlow's quantizer refuses the model: {error}; {_REMEDIES[request['task']][1]}"}


def _convert(request: Request, _: Callable[[int], Any]) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(request["folder"])
    converter.allow_custom_ops = True
    return run_converter_in_worker(converter)


def _calibrate(request: Request, progress: Callable[[int], Any]) -> bytes:
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    def samples() -> Iterator[list[npt.NDArray[Any]]]:
        for number, arrays in enumerate(zip(*request["inputs"], strict=True), start=1):
            yield list(arrays)
            progress(number)

    return bytes(Calibrator(request["tflite"]).calibrate(samples))


def _quantize(request: Request, _: Callable[[int], Any]) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    kept_float = set(request["kept_float"])
    return bytes(
        mlir_quantize(
            request["tflite"], input_data_type=tf.float32, output_data_type=tf.float32, denylisted_ops=kept_float
        )
    )


def _wait(_: Request, __: Callable[[int], Any]) -> None:
    pass


def _call(request: Request, _: Callable[[int], Any]) -> Any:
    memory = request["memory"]
    with contextlib.nullcontext() if memory is None else limited_memory(memory):
        return request["function"](*request["arguments"])


def _import_tensorflow() -> None:
    # What cannot be imported is said by the task that needs it.
    with contextlib.suppress(ImportError, ValueError):
        import tensorflow as tf

        # Its threads, whose stacks count as data, start with the first op.
        tf.zeros(())
        # What is there for good need not be gone through whenever garbage is collected.
        gc.freeze()


if __name__ == "__main__":
    # Whatever backend the models of the process have that started it.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    serve(_answer, _import_tensorflow)
