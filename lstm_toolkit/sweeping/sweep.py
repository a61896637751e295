"""`sweep`: converts and times many configurations, through any executor of `concurrent.futures`."""

import contextlib
import dataclasses
import json
import logging
import os
import queue
import sys
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from typing import Any, TextIO

from lstm_toolkit.runtime.worker import WorkerProcess
from lstm_toolkit.sweeping import worker
from lstm_toolkit.sweeping.values import SweepConfig, SweepResult, SweepRow, grid

logger = logging.getLogger("lstm_toolkit")

__all__ = ["SweepConfig", "SweepResult", "SweepRow", "grid", "sweep"]


def sweep(
    configs: Iterable[SweepConfig],
    executor: Executor | None = None,
    *,
    workers: int = 1,
    results: str | os.PathLike[str] | None = None,
    progress: Callable[[SweepRow, int, int], None] | None = None,
) -> SweepResult:
    """Converts and times every configuration.

    Args:
        configs: the configurations; equal ones are measured once. `grid` makes them out of lists.
        executor: any executor of `concurrent.futures`, such as `Client.get_executor()` of a Dask cluster, whose
            workers have lstm_toolkit installed. Scheduling, time limits, lost workers and second tries are its own
            business. None takes processes of this machine.
        workers: number of these processes.
        results: path of a file of JSON lines, one a row, written as the rows come. A configuration that has a row in
            it already is not measured again; delete the file after a change of a model's file or of the toolkit.
        progress: called with each row as it comes, the number of rows that there are, and the number of all.

    Workers that share a machine disturb each other's timings, so `workers` is 1 unless conversion is what takes the
    time; the same holds for more than one worker a machine of an executor. A worker measures one configuration at a
    time, whatever the number of its threads. A row has its executor and machine, and rows of unlike ones are not to be
    compared.

    A process of this machine that crashes is replaced, and the row of the configuration that it was measuring has the
    error. Rows with an error of the executor are not written to `results`, so that the next sweep measures them.

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
    worker.sweeping_process = os.getpid()
    with contextlib.ExitStack() as stack:
        # Opened to append, a file of something else stays as it is.
        file = None if results is None else stack.enter_context(open(results, "a+", encoding="utf-8", errors="replace"))
        known = {} if file is None else _rows_of(file)
        rows = {config: known[config] for config in wanted if config in known}
        left = [config for config in dict.fromkeys(wanted) if config not in rows]
        engine = executor or stack.enter_context(_Processes(workers))
        label = type(executor).__name__ if executor else f"{workers} process{'es' * (workers > 1)} of sweep"
        for row in stack.enter_context(contextlib.closing(_measured(left, engine, label))):
            if file is not None and row.machine:
                file.write(json.dumps(row.to_dict()) + "\n")
                file.flush()
            rows[row.config] = row
            logger.info("%d of %d: %s", len(rows), len(set(wanted)), row.config)
            if progress is not None:
                progress(row, len(rows), len(set(wanted)))
    return SweepResult(tuple(rows[config] for config in wanted))


_START = '{"config": '
"""How each line of a results file begins."""


def _rows_of(file: TextIO) -> dict[SweepConfig, SweepRow]:
    """The rows of a results file; half a row at its end, which a killed sweep was writing, is cut off."""
    file.seek(0)
    rows, lines = {}, file.readlines()
    is_cut = bool(lines) and not lines[-1].endswith("\n") and _START.startswith(lines[-1][: len(_START)])
    whole = lines[:-1] if is_cut else lines
    for number, line in enumerate(whole, 1):
        try:
            values = json.loads(line)
            config = SweepConfig(**values["config"])
            rows[config] = SweepRow(**values | {"config": config})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{file.name!r} is not the results file of a sweep; line {number}: {error}; pass another file, or none"
            ) from error
    if is_cut:
        file.truncate(sum(len(line.encode()) for line in whole))
    return rows


def _measured(configs: list[SweepConfig], executor: Executor, label: str) -> Generator[SweepRow, None, None]:
    """Rows as they come; one without a machine has an error of the executor."""
    futures = {executor.submit(worker.measure, config): config for config in configs}
    try:
        for future in as_completed(futures):
            try:
                row = future.result()
            except Exception as error:  # every executor has errors of its own
                row = SweepRow(futures[future], error=f"{type(error).__name__}: {error}")
            yield dataclasses.replace(row, executor=label)
    finally:
        for future in futures:
            future.cancel()


class _Processes(ThreadPoolExecutor):
    """A process for each thread, so that a crash ends one measurement alone. After it comes a new process."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        self._started: list[WorkerProcess] = []
        self._is_given_up = False

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> bool | None:
        if kind is not None:
            # What is being measured has nobody who waits for it.
            self._is_given_up = True
            for process in self._started:
                process.kill()
        return super().__exit__(kind, *rest)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(self._run, function, *args, **kwargs)

    def _run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = WorkerProcess([sys.executable, "-m", worker.__name__])
            self._started.append(process)
            if self._is_given_up:
                process.kill()
        result = process.ask((function, args, kwargs))
        self._idle.put(process)
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001 (the base class)
        super().shutdown(wait, cancel_futures=cancel_futures)
        while not self._idle.empty():
            self._idle.get().kill()
