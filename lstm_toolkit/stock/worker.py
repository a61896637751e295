"""Runs TensorFlow's converter and quantizer in a process of its own, where they may crash without the caller.

Functions and SavedModels of users can hold annotations that end the converter's process with a segmentation fault
(`_implements` = "LSTMCellSimple" does), and the calibrator ends its process on models that it does not expect. So they
are handled by a worker, which is started at the first need, kept for the next ones, and ends with the process that
started it, whatever it is doing.
"""

import contextlib
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess, serve
from lstm_toolkit.stock.converter import quiet_tensorflow, run_converter


class ConvertRequest(TypedDict):
    """A SavedModel to convert, and the path of the `.tflite` file that it becomes."""

    task: Literal["convert"]
    saved_model: str
    output: str


class CalibrateRequest(TypedDict):
    """A `.tflite` file, one `.npy` file [samples, ...] an input, and the path of the file with ranges."""

    task: Literal["calibrate"]
    tflite: str
    inputs: list[str]
    output: str


class QuantizeRequest(TypedDict):
    """A `.tflite` file with ranges, and the path of the int8 file that it becomes."""

    task: Literal["quantize"]
    tflite: str
    io_dtype: str
    kept_float: list[str]
    output: str


_lock = threading.Lock()
_worker: WorkerProcess | None = None


def process_id() -> int | None:
    """The worker's process; None if there is none now. For tests."""
    return _worker.process_id if _worker is not None else None


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

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with quiet_tensorflow():
            tf.saved_model.save(trackable, str(path / "saved_model"), signatures=function)
        return _ask(ConvertRequest(task="convert", saved_model=str(path / "saved_model"), output=f"{folder}/tflite"))


def calibrate_elsewhere(
    tflite: bytes,
    samples: Sequence[Sequence[npt.NDArray[Any]]],
    *,
    progress: Callable[[int], Any] | None = None,
) -> bytes:
    """Runs a file on samples in the worker, and writes down which values its tensors take.

    Args:
        tflite: a float file whose LSTM ops have intermediates.
        samples: for each sample one array an input, in the order of the file's inputs.
        progress: called with the number of samples that are done.

    Returns:
        The file, with the range of each tensor in its quantization parameters.

    Raises:
        ConversionError: with the calibrator's reason, or with its last words if it ended its process.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "float.tflite").write_bytes(tflite)
        inputs = [str(path / f"input_{number}.npy") for number in range(len(samples[0]))]
        for name, arrays in zip(inputs, zip(*samples, strict=True), strict=True):
            np.save(name, np.stack(arrays), allow_pickle=False)
        request = CalibrateRequest(
            task="calibrate", tflite=str(path / "float.tflite"), inputs=inputs, output=f"{folder}/calibrated"
        )
        return _ask(request, progress)


def quantize_elsewhere(calibrated: bytes, *, io_dtype: str, kept_float: Sequence[str] = ()) -> bytes:
    """Quantizes a file with ranges to int8 in the worker.

    Args:
        calibrated: the file.
        io_dtype: of the inputs and outputs of the new file, "float32" or "int8".
        kept_float: names of ops that stay float.

    Returns:
        The quantized file.

    Raises:
        ConversionError: with the quantizer's reason, or with its last words if it ended its process.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "calibrated.tflite")
        path.write_bytes(calibrated)
        request = QuantizeRequest(
            task="quantize",
            tflite=str(path),
            io_dtype=io_dtype,
            kept_float=list(kept_float),
            output=f"{folder}/int8",
        )
        return _ask(request)


def _ask(
    request: ConvertRequest | CalibrateRequest | QuantizeRequest, progress: Callable[[int], Any] | None = None
) -> bytes:
    """Lets the worker do a task.

    Returns:
        The bytes of the output.

    Raises:
        ConversionError: with the reason, or with the worker's last words if the task ended it.
    """
    global _worker
    with _lock:
        if _worker is None:
            _worker = WorkerProcess([sys.executable, "-m", __name__])
        try:
            answer = _worker.ask(request, progress or (lambda _: None))
        except BaseException as error:
            # An answer that nobody waits for would be taken for that of the next request.
            _worker.kill()
            _worker = None
            if isinstance(error, WorkerEndedError):
                raise ConversionError(f"TensorFlow's converter ended its own process: {error}") from error
            raise
        if answer["error"] is not None:
            raise ConversionError(answer["error"])
    return Path(request["output"]).read_bytes()


def _answer(
    request: ConvertRequest | CalibrateRequest | QuantizeRequest, progress: Callable[[int], Any]
) -> Mapping[str, str | None]:
    try:
        if request["task"] == "convert":
            made = _convert(request)
        elif request["task"] == "calibrate":
            made = _calibrate(request, progress)
        else:
            made = _quantize(request)
    except ConversionError as error:
        return {"error": str(error)}
    Path(request["output"]).write_bytes(made)
    return {"error": None}


def _convert(request: ConvertRequest) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(request["saved_model"])
    converter.allow_custom_ops = True
    return run_converter(converter)


def _calibrate(request: CalibrateRequest, progress: Callable[[int], Any]) -> bytes:
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    inputs = [np.load(path, allow_pickle=False) for path in request["inputs"]]

    def samples() -> Iterator[list[npt.NDArray[Any]]]:
        for number, arrays in enumerate(zip(*inputs, strict=True)):
            yield list(arrays)
            progress(number + 1)

    with _quantizer_reasons():
        return bytes(Calibrator(Path(request["tflite"]).read_bytes()).calibrate(samples))


def _quantize(request: QuantizeRequest) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    dtype = tf.dtypes.as_dtype(request["io_dtype"])
    with _quantizer_reasons():
        return mlir_quantize(
            Path(request["tflite"]).read_bytes(),
            input_data_type=dtype,
            output_data_type=dtype,
            denylisted_ops=set(request["kept_float"]),
        )


@contextlib.contextmanager
def _quantizer_reasons() -> Iterator[None]:
    """Turns what the quantizer raises into a `ConversionError`."""
    try:
        yield
    except Exception as error:  # the quantizer's own error types are not public
        raise ConversionError(f"TensorFlow's quantizer refuses the model: {error}") from error


if __name__ == "__main__":
    serve(_answer)
