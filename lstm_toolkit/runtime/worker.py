"""A process that answers requests over two pipes, and ends with the process that started it, whatever it is doing.

A request a line goes in, an answer a line comes out, both as JSON; between them may come lines that tell how many parts
of the work are done.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NoReturn

Answer = Callable[[dict[str, Any], Callable[[int], Any]], Mapping[str, Any]]
"""Takes a request, and a function to call with the number of parts that are done, and returns the answer."""


class WorkerProcess:
    """The process, seen from the one that started it.

    Args:
        command: starts it; it is to call `serve`.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def ask(self, request: Mapping[str, Any], progress: Callable[[int], Any] = lambda _: None) -> dict[str, Any] | None:
        """Sends a request and waits for its answer; None if the process ends instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if not line.endswith("\n"):
                    break
                answer = json.loads(line)
                if "done" not in answer:
                    return answer
                progress(answer["done"])
        return None

    def kill(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()

    def last_words(self) -> str:
        """How the process ended, and the last line that it wrote."""
        status = self._process.wait()
        ending = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        said = b""
        with contextlib.suppress(ValueError):  # whoever ended the process may have closed the file
            self._errors.seek(0)
            said = self._errors.read()
        lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
        return f"{ending}; its last line was {lines[-1]!r}" if lines else ending


def serve(answer: Answer) -> NoReturn:
    """The side of the process itself: answers until the pipe is closed."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()

    def write(value: Mapping[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")

    while True:
        write(answer(json.loads(requests.get()), lambda number: write({"done": number})))


def _read(requests: queue.Queue[str]) -> None:
    """Passes requests on; when there is nobody left who could send one, ends the process, also out of its work."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)
