"""Child processes that attack, so that what crashes, hangs or fills memory costs one case and not the campaign."""

import contextlib
import importlib
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SOUND = ("right", "refused", "unjudged")
"""Verdicts that are as they are to be; unjudged is what has nothing to be compared with."""
FINDINGS = ("foreign", "crash", "hang", "wrong")
"""Verdicts that are findings."""


class Outcome(NamedTuple):
    """What came of a case.

    Attributes:
        verdict: one of `SOUND` and `FINDINGS`.
        what: the message of a refusal, or what was found.
        where: the call in which it happened.
        seconds: that the case took.
    """

    verdict: str
    what: str = ""
    where: str = ""
    seconds: float = 0.0


Tell = Callable[[str], None]
"""Tells that a call begins, under its name; the time limit is that of a call."""
Attack = Callable[[int, Tell], Outcome]
"""Does the case of a seed. What it raises is a finding."""


class Child:
    """A process that does cases of one kind, one after the other.

    Args:
        kind: a module of this package.
        folder: for files; also the process's TMPDIR.
        first: a Python file that it runs before anything else, or None.
    """

    def __init__(self, kind: str, folder: Path, first: Path | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._process = context.Process(
            target=_serve, args=(other, self._said.fileno(), os.getpid(), kind, folder, first), daemon=False
        )
        # A file descriptor is passed on by its number through /proc, since a spawned process inherits none.
        self._process.start()
        other.close()
        self.cases = 0

    def ready(self, limit: float) -> Outcome:
        """Waits until it can be given cases."""
        return self._answer(limit)

    def do(self, seed: int, limit: float) -> Outcome:
        """Does the case of a seed; after a crash and a hang the process has ended.

        Args:
            seed: of the case.
            limit: seconds that one call of it may take.
        """
        start = time.monotonic()
        self.cases += 1
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(seed)
        return self._answer(limit)._replace(seconds=time.monotonic() - start)

    def _answer(self, limit: float) -> Outcome:
        where = "the start"
        while True:
            try:
                if not self._pipe.poll(limit):
                    self.end()
                    return Outcome("hang", f"over {limit:g} seconds", where)
                message = self._pipe.recv()
            except (EOFError, OSError):
                self._process.join()
                return Outcome("crash", self._ending(), where)
            if isinstance(message, Outcome):
                return message if message.where else message._replace(where=where)
            where = message

    def _ending(self) -> str:
        code = self._process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._said.seek(0)
        lines = self._said.read()[-2000:].decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how

    @property
    def is_alive(self) -> bool:
        """Whether it can be given another case."""
        return self._process.is_alive()

    def end(self) -> None:
        """Ends the process and what it started."""
        if self._process.pid is not None and self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._pipe.close()
        self._said.close()


def limit_memory(more: int) -> None:
    """Lets this process hold so many bytes more than it does now; what wants more gets a MemoryError."""
    with open("/proc/self/statm") as status:
        taken = int(status.read().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (taken + more, taken + more))


def _serve(pipe: Any, said: int, parent: int, kind: str, folder: Path, first: Path | None) -> None:
    os.setsid()
    with open(f"/proc/{parent}/fd/{said}", "wb", buffering=0) as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "MPLBACKEND": "agg"}
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    if first is not None:
        runpy.run_path(str(first))
    attacks: list[Attack] = []

    def begin(_: int, __: Tell) -> Outcome:
        attacks.append(importlib.import_module(f"attacks.{kind}").begin(folder))
        return Outcome("right")

    pipe.send(_judged(begin, 0, pipe.send))
    while attacks:
        pipe.send(_judged(attacks[0], pipe.recv(), pipe.send))


def _judged(attack: Attack, seed: int, tell: Tell) -> Outcome:
    try:
        return attack(seed, tell)
    except BaseException as error:  # whatever comes out is a finding
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return Outcome("foreign", " ".join(f"{type(error).__name__} at {place}: {error}".split())[:400])
