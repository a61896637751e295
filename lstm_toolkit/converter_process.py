"""Runs TensorFlow's converter and quantizer in a process of its own, where they may crash without the caller.

Functions and SavedModels of users can hold annotations that end the converter's process with a segmentation fault
(`_implements` = "LSTMCellSimple" does), and the calibrator ends its process on models that it does not expect. So they
are handled by a worker, which is started at the first need, kept for the next ones, and ends with the process that
started it, whatever it is doing.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .errors import ConversionError

_lock = threading.Lock()


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's log lines and prints, which hold paths of temporary folders, out of the caller's output."""
    import tensorflow as tf

    tf_logger = tf.get_logger()
    level = tf_logger.level
    tf_logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tf_logger.setLevel(level)


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


class _Worker:
    """The process at the other end of two pipes: a request a line goes in, an answer a line comes out."""

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        atexit.register(self._close)

    def ask(self, request: dict[str, Any], progress: Callable[[int], Any]) -> dict[str, Any] | None:
        """Sends a request and waits for its answer; None if the process ends instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "done" not in answer:
                return answer
            progress(answer["done"])
        return None

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()
        atexit.unregister(self._close)

    def last_words(self) -> str:
        """How the process ended, and the last line that it wrote."""
        status = self._process.wait()
        ending = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        atexit.unregister(self._close)
        return f"{ending}; its last line was {lines[-1]!r}" if lines else ending

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()


def _serve() -> None:
    """The worker's side: answers requests until the pipe is closed."""
    # What TensorFlow prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    tasks = {"convert": _convert, "quantize": _quantize}
    while True:
        request = json.loads(requests.get())
        try:
            tasks[request["task"]](request, lambda number: answers.write(json.dumps({"done": number}) + "\n"))
            answer = {"result": "ok"}
        except ConversionError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")


def _read(requests: queue.Queue[str]) -> None:
    """Passes requests on; when there is nobody left who could send one, ends the process, also out of a task."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _convert(request: dict[str, Any], progress: Callable[[int], Any]) -> None:
    import tensorflow as tf

    from .conversion import run_converter

    converter = tf.lite.TFLiteConverter.from_saved_model(request["saved_model"])
    converter.allow_custom_ops = True
    Path(request["output"]).write_bytes(run_converter(converter))


def _quantize(request: dict[str, Any], progress: Callable[[int], Any]) -> None:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    from . import int8
    from . import tflite_file as tf_file

    folder = Path(request["folder"])
    inputs = [np.load(folder / f"input_{n}.npy", allow_pickle=False) for n in range(request["inputs"])]

    def samples() -> Iterator[list[npt.NDArray[Any]]]:
        for number, arrays in enumerate(zip(*inputs, strict=True)):
            yield list(arrays)
            progress(number + 1)

    try:
        calibrated = Calibrator((folder / "float.tflite").read_bytes()).calibrate(samples)
        model = tf_file.read_model(bytes(calibrated))
        int8.widen_ranges(model)
        calibrated = tf_file.write_model(model)
        dtype = tf.dtypes.as_dtype(request["io_dtype"])
        quantized = mlir_quantize(
            calibrated, input_data_type=dtype, output_data_type=dtype, denylisted_ops=set(request["kept_float"])
        )
    except Exception as error:  # the quantizer's own error types are not public
        raise ConversionError(f"TensorFlow's quantizer refuses the model: {error}") from error
    (folder / "int8.tflite").write_bytes(quantized)


if __name__ == "__main__":
    _serve()
