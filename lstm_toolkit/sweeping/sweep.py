"""`sweep`: converts and times many configurations, through any executor of `concurrent.futures`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from lstm_toolkit.sweeping.values import SweepConfig, SweepResult, SweepRow, grid
from lstm_toolkit.sweeping.worker import end_children, files_digest, measure_elsewhere

logger = logging.getLogger("lstm_toolkit")

__all__ = ["SweepConfig", "SweepResult", "SweepRow", "grid", "sweep"]

TRIES = 3
"""How often a configuration is given to a worker that then ends, before this is its error."""

_LINE_START = b'{"config": '


def sweep(
    configs: Iterable[SweepConfig],
    executor: Executor | None = None,
    *,
    workers: int = 1,
    results: str | os.PathLike[str] | None = None,
    retry_errors: bool = False,
    timeout: float | None = None,
    progress: Callable[[SweepRow, int, int], None] | None = None,
) -> SweepResult:
    """Converts and times every configuration.

    Args:
        configs: the configurations; equal ones are measured once. `grid` makes them out of lists.
        executor: any executor of `concurrent.futures`, such as `Client.get_executor()` of a Dask cluster, whose
            workers have lstm_toolkit installed. Each of its threads keeps a child process that does the work. None
            takes processes of this machine.
        workers: number of these processes.
        results: path of a file of JSON lines, one a row, written as the rows come. Where it has rows already, those
            of a configuration whose files are unchanged are taken and not measured again.
        retry_errors: also measure again what ended in an error. What no worker answered (it ended, or the time was
            over) is measured again in any case.
        timeout: seconds for a configuration, the start of its process and of TensorFlow included; what takes longer
            is ended and is a row with that error. The time in which it waits for a worker does not count.
        progress: called with each row as it comes, the number of rows that there are, and the number of all.

    Workers that share a machine disturb each other's timings, so `workers` is 1 unless conversion is what takes the
    time; the same holds for more than one worker or thread a machine of an executor. A row has its executor and
    machine, and rows of unlike ones are not to be compared.

    A worker that ends, ends alone: what it was doing is given to another, and has the error after three times. A
    `ProcessPoolExecutor` that breaks by this is replaced by processes of this machine. When the sweep is interrupted,
    its own processes are ended, what waits for an executor is cancelled, and the rows that came are in the file.

    Returns:
        A row for each configuration, in their order.

    Raises:
        ValueError: if `configs` has something else than configurations, a number is out of range, or `results` is
            another file than the one of a sweep.
        OSError: if `results` cannot be written.
    """
    wanted = tuple(configs)
    for each in wanted:
        if not isinstance(each, SweepConfig):
            raise ValueError(f"configs must hold SweepConfig, got {type(each).__name__}")
    if type(workers) is not int or workers < 1:
        raise ValueError(f"workers must be an integer from 1, got {workers!r}")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, got {timeout!r}")
    total = len(set(wanted))
    with _ResultsFile(results) as file:
        # The last row of a configuration holds, so what was measured again replaces what was there.
        known = {row.config: row for row in file.rows}
        landed = {config: known[config] for config in wanted if config in known and _holds(known[config], retry_errors)}
        left = [config for config in dict.fromkeys(wanted) if config not in landed]
        with contextlib.closing(_measured(left, executor, workers, timeout)) as rows:
            for row in rows:
                file.append(row)
                landed[row.config] = row
                logger.info("%d of %d: %s", len(landed), total, row.config)
                if progress is not None:
                    progress(row, len(landed), total)
    return SweepResult(tuple(landed[config] for config in wanted))


def _measured(
    configs: Sequence[SweepConfig], executor: Executor | None, workers: int, timeout: float | None
) -> Generator[SweepRow, None, None]:
    """Rows as they come; a configuration whose worker ends goes to another, up to `TRIES` times."""
    own = ThreadPoolExecutor(workers) if executor is None else None
    pending: dict[Future[dict[str, Any]], SweepConfig] = {}
    waiting, tries = deque(configs), Counter[SweepConfig]()
    try:
        while waiting or pending:
            while waiting:
                pending[_submitted(own or executor, waiting[0], timeout)] = waiting[0]
                waiting.popleft()
            done = wait(pending, return_when=FIRST_COMPLETED).done
            for future in [each for each in pending if each in done]:
                config = pending.pop(future)
                label = type(executor).__name__ if own is None else f"{workers} process{'es' * (workers > 1)} of sweep"
                error = CancelledError("cancelled") if future.cancelled() else future.exception()
                if error is None:
                    yield SweepRow(config, executor=label, **future.result())
                    continue
                if isinstance(error, BrokenProcessPool):
                    # It takes no more work, and which of its configurations is guilty is unknown.
                    own = own or ThreadPoolExecutor(workers)
                    waiting.append(config)
                    continue
                tries[config] += 1
                if tries[config] < TRIES:
                    waiting.append(config)
                else:
                    message = f"{type(error).__name__}: {error} (tried {TRIES} times)"
                    yield SweepRow(config, executor=label, error=message, unanswered=True)
    finally:
        _stop(pending, own)


def _submitted(executor: Executor | None, config: SweepConfig, timeout: float | None) -> Future[dict[str, Any]]:
    """The future of a configuration; it has failed already where the executor does not take it."""
    assert executor is not None
    try:
        return executor.submit(measure_elsewhere, config.to_dict(), timeout, uuid.uuid4().hex)
    except Exception as error:  # executors say in many ways that they are broken
        failed: Future[dict[str, Any]] = Future()
        failed.set_exception(error)
        return failed


def _stop(pending: Mapping[Future[Any], SweepConfig], own: ThreadPoolExecutor | None) -> None:
    """Leaves nothing running: ends what was not finished, and the processes of this process."""
    for future in pending:
        future.cancel()
    end_children(idle_only=not pending)
    if own is not None:
        # A thread may have been about to start its process when the others were ended.
        while wait(pending, timeout=0.1).not_done:
            end_children(idle_only=False)
        own.shutdown()
        end_children(idle_only=True)


class _ResultsFile:
    """A file of JSON lines. A line that was not written to its end is passed over.

    Attributes:
        rows: those that were in the file when it was opened.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.rows: tuple[SweepRow, ...] = ()
        self._file: BinaryIO | None = None
        if path is None:
            return
        data = Path(path).read_bytes() if Path(path).exists() else b""
        self.rows = tuple(row for n, line in enumerate(data.split(b"\n"), 1) if (row := _row(line, path, n)))
        self._file = open(path, "ab")  # noqa: SIM115 (closed by __exit__)
        if data and not data.endswith(b"\n"):
            self._file.write(b"\n")

    def append(self, row: SweepRow) -> None:
        """Writes a row, and returns when it is on the disk."""
        if self._file is not None:
            self._file.write(json.dumps(row.to_dict()).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> _ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def _row(line: bytes, path: str | os.PathLike[str], number: int) -> SweepRow | None:
    """The row of a line, None if it was not written to its end."""
    if not line.strip():
        return None
    try:
        values = json.loads(line)
    except ValueError as error:
        if line.startswith(_LINE_START) or _LINE_START.startswith(line):
            return None
        raise ValueError(f"{os.fspath(path)!r} has lines that no sweep wrote; line {number} is not JSON") from error
    try:
        return SweepRow(**values | {"config": SweepConfig(**values["config"])})
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{os.fspath(path)!r} has lines that this sweep cannot read; line {number}: {error}"
        ) from error


def _holds(row: SweepRow, retry_errors: bool) -> bool:
    """Whether a row of an earlier sweep need not be measured again."""
    if row.unanswered or (row.error is not None and retry_errors):
        return False
    now = files_digest(row.config.to_dict())
    return now is None or now == row.digest
