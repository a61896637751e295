"""`IsolatedInterpreter`: an interpreter in a process of its own, behind the methods that `Runner` calls.

A file that crashes or hangs, or wants more memory than there is, ends that process and not the caller's. It protects
from accidents and from damaged files; it is no sandbox for code that takes over a process.

One idle process is kept, since a new one takes a tenth of a second to start. A process whose file is no longer needed
becomes the idle one if it lets go of that file without an error, and is ended if there is one already.
"""

import collections
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.runtime import isolated_worker
from lstm_toolkit.runtime.limits import Limits
from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess

_SECONDS_TO_LET_GO = 5.0

_idle: collections.deque[WorkerProcess] = collections.deque()
"""The process that waits for a file, or nothing. Threads share it: taking out and putting in are atomic."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


def start_ahead() -> None:
    """Starts the idle process if there is none, without waiting for it."""
    if not _idle:
        _idle.append(_started())


class IsolatedInterpreter:
    """Runs a `.tflite` model in a process of its own.

    Args:
        data: the bytes of the file.
        limits: of time and memory.
        **options: of `interpreters.interpreter`.

    Raises:
        InvalidModelError: here and in each method, if the process ends or exceeds a limit. It cannot be used then.
        RuntimeError: here and in each method, with what the runtime says.

    Attributes:
        signature: what `signature` gives for the interpreter.
    """

    def __init__(self, data: bytes, limits: Limits, **options: Any) -> None:
        self._limits, self._owner, self._failure = limits, os.getpid(), ""
        self._process = _taken()
        self._end = weakref.finalize(self, _give_back_later, self._process, self._owner)
        # At the exit of Python the process ends by itself.
        self._end.atexit = False
        self._waiting: dict[int, npt.NDArray[Any]] = {}
        self._results: dict[int, npt.NDArray[Any]] = {}
        try:
            self._ask("drop")  # the start of the process takes none of the file's time
            self.signature = self._ask("load", data, limits.memory, options)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the process back."""
        if self._end.detach() and os.getpid() == self._owner:
            _give_back(self._process)

    def allocate_tensors(self) -> None:
        """As the interpreter's."""
        self._results.clear()
        self._ask("call", "allocate_tensors", ())

    def resize_tensor_input(self, index: int, shape: Sequence[int]) -> None:
        """As the interpreter's."""
        self._ask("call", "resize_tensor_input", (index, shape))

    def set_tensor(self, index: int, value: npt.NDArray[Any]) -> None:
        """As the interpreter's; errors come with the next method."""
        self._waiting[index] = np.array(value)

    def invoke(self) -> None:
        """As the interpreter's."""
        self._results = self._ask("invoke")

    def get_tensor(self, index: int) -> npt.NDArray[Any]:
        """As the interpreter's."""
        result = self._results.pop(index, None)
        return self._ask("call", "get_tensor", (index,)) if result is None else result

    def reset_all_variables(self) -> None:
        """As the interpreter's."""
        self._ask("call", "reset_all_variables", ())

    def _ask(self, method: str, *arguments: Any) -> Any:
        if os.getpid() != self._owner:
            raise InvalidModelError(
                "the process of this isolated Runner belongs to the process that made it, and this one was forked from "
                "that; make a Runner here"
            )
        if not self._end.alive:
            raise InvalidModelError(self._failure or "this Runner is closed; make a new one")
        values, self._waiting = self._waiting, {}
        time_limit = None if method == "drop" else self._limits.seconds
        try:
            problem, value = self._process.ask((values, method, arguments), time_limit=time_limit)
        except BaseException as error:
            self._process.kill()
            self._failure = self._why_ended(error, "loading" if method == "load" else "running")
            self._end.detach()
            if isinstance(error, (WorkerEndedError, TimeoutError)):
                raise InvalidModelError(self._failure) from error
            raise
        # LiteRT has no words for an allocation that fails.
        if problem == "MemoryError" or (problem is not None and not value):
            raise InvalidModelError(self._why_too_large())
        if problem is not None:
            raise (InvalidModelError if problem == "InvalidModelError" else RuntimeError)(value)
        return value

    def _why_ended(self, error: BaseException, doing: str) -> str:
        if isinstance(error, TimeoutError):
            seconds = self._limits.seconds
            return (
                f"{doing} the file takes longer than {seconds:g} seconds; allow more, with isolated=Limits(seconds=...)"
            )
        if not isinstance(error, WorkerEndedError):
            return "this Runner was interrupted in a call; make a new one"
        if "bad_alloc" in str(error):
            return self._why_too_large()
        return (
            f"{doing} the file ended its process: {error}; never run it without isolated, and if it is a large file of "
            "your own, allow more memory, with isolated=Limits(memory=...)"
        )

    def _why_too_large(self) -> str:
        memory = self._limits.memory
        return f"the file seems to need more than {memory} bytes; allow more, with isolated=Limits(memory=...)"


def _started() -> WorkerProcess:
    return WorkerProcess([sys.executable, "-m", isolated_worker.__name__])


def _taken() -> WorkerProcess:
    while _idle:
        try:
            process = _idle.pop()
        except IndexError:  # another thread was faster
            break
        if process.is_running():
            return process
    return _started()


def _give_back(process: WorkerProcess) -> None:
    try:
        problem, _ = process.ask(({}, "drop", ()), time_limit=_SECONDS_TO_LET_GO)
    except (TimeoutError, WorkerEndedError):
        problem = "it ended"
    if problem is None and not _idle:
        _idle.append(process)
    else:
        process.kill()


def _give_back_later(process: WorkerProcess, owner: int) -> None:
    """Gives a process back without waiting for it, as the garbage collector runs anywhere."""
    if os.getpid() != owner:
        return
    try:
        threading.Thread(target=_give_back, args=(process,), daemon=True).start()
    except RuntimeError:  # Python is about to exit
        process.kill()
