"""Runs TensorFlow's converter and quantizer in a process of its own, where they may crash without the caller.

Functions and SavedModels of users can hold annotations that end the converter's process with a segmentation fault
(`_implements` = "LSTMCellSimple" does), and the calibrator ends its process on models that it does not expect. So they
are handled by a worker, which is started at the first need, kept for the next ones, and ends with the process that
started it, whatever it is doing.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.worker import WorkerProcess, serve
from lstm_toolkit.stock.converter import quiet_tensorflow

_lock = threading.Lock()


_worker: _Worker | None = None


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
        _ask("convert", {"saved_model": str(path / "saved_model"), "output": str(path / "model.tflite")})
        return (path / "model.tflite").read_bytes()


def quantize_elsewhere(
    tflite: bytes,
    samples: Sequence[Sequence[npt.NDArray[Any]]],
    *,
    io_dtype: str,
    kept_float: Sequence[str] = (),
    progress: Callable[[int], Any] | None = None,
) -> bytes:
    """Calibrates a file on samples and quantizes it to int8 in the worker.

    Args:
        tflite: a float file whose LSTM ops have intermediates.
        samples: for each sample one array an input, in the order of the file's inputs.
        io_dtype: of the inputs and outputs of the new file, "float32" or "int8".
        kept_float: names of ops that stay float.
        progress: called with the number of samples that are done.

    Returns:
        The quantized file.

    Raises:
        ConversionError: with the quantizer's reason, or with its last words if it ended its process.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "float.tflite").write_bytes(tflite)
        for number, arrays in enumerate(zip(*samples, strict=True)):
            np.save(path / f"input_{number}.npy", np.stack(arrays), allow_pickle=False)
        request = {
            "folder": folder,
            "inputs": len(samples[0]),
            "io_dtype": io_dtype,
            "kept_float": list(kept_float),
        }
        _ask("quantize", request, progress)
        return (path / "int8.tflite").read_bytes()


def _ask(task: str, request: dict[str, Any], progress: Callable[[int], Any] | None = None) -> None:
    """Lets the worker do a task.

    Raises:
        ConversionError: with the reason, or with the worker's last words if the task ended it.
    """
    global _worker
    with _lock:
        if _worker is None:
            _worker = _Worker()
        try:
            answer = _worker.ask({"task": task} | request, progress or (lambda _: None))
        except BaseException:
            # An answer that nobody waits for would be taken for that of the next request.
            _worker.kill()
            _worker = None
            raise
        if answer is None:
            last_words, _worker = _worker.last_words(), None
            raise ConversionError(f"TensorFlow's converter ended its own process: {last_words}")
        if "error" in answer:
            raise ConversionError(answer["error"])


class _Worker(WorkerProcess):
    """Ends in peace with the interpreter that started it."""

    def __init__(self) -> None:
        super().__init__([sys.executable, "-m", __name__])
        atexit.register(self._close)

    def kill(self) -> None:
        super().kill()
        atexit.unregister(self._close)

    def last_words(self) -> str:
        atexit.unregister(self._close)
        return super().last_words()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()


def _answer(request: dict[str, Any], progress: Callable[[int], Any]) -> dict[str, str]:
    try:
        {"convert": _convert, "quantize": _quantize}[request["task"]](request, progress)
        return {"result": "ok"}
    except ConversionError as error:
        return {"error": str(error)}


def _convert(request: dict[str, Any], progress: Callable[[int], Any]) -> None:
    import tensorflow as tf

    from lstm_toolkit.stock.converter import run_converter

    converter = tf.lite.TFLiteConverter.from_saved_model(request["saved_model"])
    converter.allow_custom_ops = True
    Path(request["output"]).write_bytes(run_converter(converter))


def _quantize(request: dict[str, Any], progress: Callable[[int], Any]) -> None:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    from lstm_toolkit.quantization import int8
    from lstm_toolkit.tflite import files

    folder = Path(request["folder"])
    inputs = [np.load(folder / f"input_{n}.npy", allow_pickle=False) for n in range(request["inputs"])]

    def samples() -> Iterator[list[npt.NDArray[Any]]]:
        for number, arrays in enumerate(zip(*inputs, strict=True)):
            yield list(arrays)
            progress(number + 1)

    try:
        calibrated = Calibrator((folder / "float.tflite").read_bytes()).calibrate(samples)
        model = files.read_model(bytes(calibrated))
        int8.widen_ranges(model)
        calibrated = files.write_model(model)
        dtype = tf.dtypes.as_dtype(request["io_dtype"])
        quantized = mlir_quantize(
            calibrated, input_data_type=dtype, output_data_type=dtype, denylisted_ops=set(request["kept_float"])
        )
    except Exception as error:  # the quantizer's own error types are not public
        raise ConversionError(f"TensorFlow's quantizer refuses the model: {error}") from error
    (folder / "int8.tflite").write_bytes(quantized)


if __name__ == "__main__":
    serve(_answer)
