"""A process that answers requests over two pipes, and ends with the process that started it, whatever it is doing.

A request goes in, an answer comes out, both pickled; between them may come numbers: of the parts of the work that are
done.
"""

import contextlib
import os
import pickle
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NoReturn

if sys.platform != "win32":
    import resource

Answer = Callable[[Any, Callable[[int], Any]], Any]
"""Takes a request, and a function to call with the number of parts that are done, and returns the answer: no number."""


_started: weakref.WeakSet["WorkerProcess"] = weakref.WeakSet()
_left: list["WorkerProcess"] = []
"""The processes of the one that this was forked from."""


class WorkerEndedError(RuntimeError):
    """A worker ended before it answered; the message says how, and what it wrote last."""


class WorkerProcess:
    """The process, seen from the one that started it.

    Args:
        command: starts it; it is to call `serve`.

    Attributes:
        process_id: the number of the process.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (lives as long as the process)
        self._last_request = 0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.process_id = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: queue.Queue[Any] = queue.Queue()
        # Not every platform can wait for a pipe with a time limit.
        passing = threading.Thread(target=_pass_on, args=(self._process.stdout, self._answers), daemon=True)
        passing.start()
        self._owner = os.getpid()
        weakref.finalize(self, _close, self._process, self._owner)
        _started.add(self)

    def ask(
        self,
        request: Any,
        progress: Callable[[int], Any] = lambda _: None,
        time_limit: float | None = None,
    ) -> Any:
        """Sends a request and waits for its answer.

        After any error, also one that `progress` raises, the process cannot be asked again: `kill` it.

        Args:
            request: what pickle can hold.
            progress: called with the number of parts of the work that are done.
            time_limit: seconds to wait, which include the start of a new process; None for no limit.

        Returns:
            The answer.

        Raises:
            WorkerEndedError: if the process ends instead.
            TimeoutError: if there is no answer in time; the process is killed then.
        """
        end = None if time_limit is None else time.monotonic() + time_limit
        # The process writes at the place that a seek leaves, so it must be the end of the file.
        self._last_request = self._errors.seek(0, os.SEEK_END)
        # What is too large for the pipe waits until the process reads, which may be never.
        threading.Thread(target=_send, args=(self._requests, pickle.dumps(request)), daemon=True).start()
        while True:
            try:
                answer = self._answers.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
            except queue.Empty:
                self.kill()
                raise TimeoutError(f"it did not answer in {time_limit:g} seconds") from None
            if answer is None:
                self._answers.put(None)
                said = self.said()
                raise WorkerEndedError(self.ending() + (f"; its last line was {said[-1]!r}" if said else ""))
            if not isinstance(answer, int):
                return answer
            progress(answer)

    @property
    def is_ours(self) -> bool:
        """Whether this process started it, and not one that this was forked from; only then can it be asked."""
        return self._owner == os.getpid()

    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.is_ours and self._process.poll() is None

    def kill(self) -> None:
        """Ends the process at once, if it is ours."""
        if self.is_ours:
            self._process.kill()
            self._process.wait()

    def _leave(self) -> None:
        """Lets go of it in a forked process, so that it still ends with the one that started it."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for pipe in (self._process.stdin, self._process.stdout):
            # A thread that is missing here may have locked the pipe, so that it could not be closed.
            if pipe is not None and not pipe.closed:
                os.dup2(nothing, pipe.fileno(), inheritable=False)
        os.close(nothing)

    def ending(self) -> str:
        """How the process ended: the name of a signal, or its exit code."""
        status = self._process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit code {status}"

    def said(self) -> list[str]:
        """The lines that the process has written since the last request, but for empty ones and those of a log."""
        self._errors.seek(self._last_request)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip() and not re.match(r"(INFO|WARNING|[IW]\d{4})\b", line)]


def serve(answer: Answer, prepare: Callable[[], object] = lambda: None) -> NoReturn:
    """The side of the process itself: answers until the pipe is closed.

    Args:
        answer: answers a request.
        prepare: called before the first answer, also when there is no request yet.
    """
    # Control-C reaches all processes of a terminal; the one that started this one decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()

    def write(value: Any) -> None:
        pickle.dump(value, answers)
        answers.flush()

    prepare()
    while True:
        write(answer(requests.get(), write))


def limit_memory(most: int | None) -> None:
    """Limits the bytes of data that this process may hold; None takes the limit away.

    What wants more gets a MemoryError, or ends the process. Windows has no such limit, and macOS does not keep it.
    """
    if sys.platform != "win32":
        # Of the data alone: libraries reserve far more of the address space than they ever use.
        _, highest = resource.getrlimit(resource.RLIMIT_DATA)
        if most is None or highest != resource.RLIM_INFINITY:
            most = highest if most is None else min(most, highest)
        resource.setrlimit(resource.RLIMIT_DATA, (most, highest))


@contextlib.contextmanager
def limited_memory(most: int) -> Iterator[None]:
    """While it is open, this process can hold so many bytes of data more; only Linux keeps such a limit."""
    if sys.platform != "linux":
        yield
        return
    with open("/proc/self/status", encoding="ascii") as status:
        data = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
    before, hardest = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [each for each in (data + most, before, hardest) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hardest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hardest))


def _read(requests: queue.Queue[Any]) -> None:
    """Passes requests on; when there is nobody left who could send one, ends the process, also out of its work."""
    _pass_on(sys.stdin.buffer, requests)
    os._exit(0)


def _pass_on(pickles: IO[bytes], read: queue.Queue[Any]) -> None:
    """Passes on what is pickled, and None when there is no more."""
    # A process that ends may leave half a pickle.
    with contextlib.suppress(EOFError, pickle.UnpicklingError):
        while True:
            read.put(pickle.load(pickles))
    read.put(None)


def _send(requests: IO[bytes], pickled: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        requests.write(pickled)
        requests.flush()


def _close(process: subprocess.Popen[bytes], owner: int) -> None:
    """Ends a process, unless this is a fork of the one that started it."""
    if os.getpid() == owner:
        # A fork may hold its pipe open, so that closing it here would not end it.
        process.kill()
        process.wait()


def _leave_to_parent() -> None:
    _left.extend(_started)
    _started.clear()
    for process in _left:
        process._leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
