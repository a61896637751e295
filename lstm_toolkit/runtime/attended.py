"""`attended`: does the work of a command in a child process, which Control-C ends at any moment."""

import contextlib
import ctypes
import errno
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NoReturn

from lstm_toolkit.runtime.scratch import scratch_folder

GRACE = 0.3
"""Seconds that the child has to clean up behind itself, of which native code takes no notice."""

INTERRUPTED = 128 + 2
"""The exit code after Control-C."""

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""The signals that end a command."""

_PR_SET_PDEATHSIG = 1


def attended(work: Callable[[], Any]) -> NoReturn:
    """Does some work in a child process and ends as it ends.

    Control-C ends both with one line and the exit code 130, SIGTERM and SIGHUP by themselves. Temporary files of the
    child are removed, and the processes that it started end with it. Elsewhere than on Linux the work is done in this
    process.

    Args:
        work: ends by a SystemExit or by returning.
    """
    _fill_closed_streams()
    # What was started to ignore a signal, as with nohup, goes on ignoring it.
    signals = {each for each in signal.Signals if each.name in _ENDING and signal.getsignal(each) != signal.SIG_IGN}
    if sys.platform != "linux":
        if signal.SIGINT in signals:
            signal.signal(signal.SIGINT, _aborted)
        raise SystemExit(_code(work))
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with contextlib.ExitStack() as stack:
        folder = None
        with contextlib.suppress(OSError):  # what needs no temporary files works without a folder for them
            folder = stack.enter_context(scratch_folder())
        parent, child = os.getpid(), os.fork()
        if child == 0:
            _be_the_child(work, parent, folder, signals)
        ended_by, status = _wait(child, signals)
    if ended_by == signal.SIGINT:
        _aborted()
    if ended_by is not None:
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)
    if os.WIFSIGNALED(status):
        _say(f"Error: the command ended with {signal.Signals(os.WTERMSIG(status)).name}")
    raise SystemExit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def _aborted(*_: object) -> NoReturn:
    _say("Aborted!")
    raise SystemExit(INTERRUPTED)


def _fill_closed_streams() -> None:
    """Gives closed standard streams something to stand for.

    The next file that is opened would have their number, and get what native code prints. Writing fails on these.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 (lives as long as the process)


def _be_the_child(work: Callable[[], Any], parent: int, folder: str | None, signals: set[signal.Signals]) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Of a group of its own, it may be kept from the terminal by the last two.
        for each in (signal.SIGINT, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(each, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _terminated)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        if folder is not None:
            os.environ["TMPDIR"] = tempfile.tempdir = folder
        if os.getppid() == parent:
            code = _code(work)
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _terminated(*_: object) -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    raise SystemExit(1)


def _code(work: Callable[[], Any]) -> int:
    """The exit code of some work, whose output has been written then."""
    code = 0
    try:
        try:
            work()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:
            _say(f"Error: cannot write the output: {error.strerror or error}")
        return 1
    return code


def _wait(child: int, signals: set[signal.Signals]) -> tuple[int | None, int]:
    """The signal that ended the command, if any did, and the status of the child."""
    received = []

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number) if number in (signal.SIGSTOP, signal.SIGCONT) else os.kill(child, number)

    def ended(number: int, _: object) -> None:
        received.append(number)
        if len(received) == 1:
            send(signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, GRACE)

    def stopped(*_: object) -> None:
        send(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        send(signal.SIGCONT)

    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    for each in signals:
        signal.signal(each, ended)
    signal.signal(signal.SIGALRM, lambda *_: send(signal.SIGKILL))
    signal.signal(signal.SIGTSTP, stopped)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    _, status = os.waitpid(child, 0)
    for each in (*signals, signal.SIGALRM):
        signal.signal(each, signal.SIG_IGN)
    # What the child started.
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    return next(iter(received), None), status


def _say(line: str) -> None:
    """Writes a line where it can be shown."""
    for stream in (2, 1):
        with contextlib.suppress(OSError):
            os.write(stream, f"{line}\n".encode())
            return
