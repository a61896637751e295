"""Runs TensorFlow's converter in a process of its own, where it may crash without taking the caller along.

Functions and SavedModels of users can hold annotations that end the converter's process with a segmentation fault
(`_implements` = "LSTMCellSimple" does). So they are converted by a worker, which is started at the first need, kept
for the next ones, and ends with the process that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

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

    global _worker
    with _lock, tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with quiet_tensorflow():
            tf.saved_model.save(trackable, str(path / "saved_model"), signatures=function)
        if _worker is None:
            _worker = _Worker()
        answer = _worker.ask({"saved_model": str(path / "saved_model"), "output": str(path / "model.tflite")})
        if answer is None:
            last_words, _worker = _worker.last_words(), None
            raise ConversionError(f"TensorFlow's converter ended its own process: {last_words}")
        if "error" in answer:
            raise ConversionError(answer["error"])
        return (path / "model.tflite").read_bytes()


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

    def ask(self, request: dict[str, str]) -> dict[str, str] | None:
        """Sends a request and waits for its answer; None if the process ends instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

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
    import tensorflow as tf

    from .conversion import run_converter

    for line in sys.stdin:
        request = json.loads(line)
        try:
            converter = tf.lite.TFLiteConverter.from_saved_model(request["saved_model"])
            converter.allow_custom_ops = True
            Path(request["output"]).write_bytes(run_converter(converter))
            answer = {"output": request["output"]}
        except ConversionError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _serve()
