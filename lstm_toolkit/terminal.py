"""What a command writes to: files, standard output as a file, and the lines on a terminal."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from lstm_toolkit.escapes import json_text, printable, printable_lines
from lstm_toolkit.process_state import captured_stderr


def is_stdout(output: Path | None) -> bool:
    """Whether a file to write is standard output."""
    return str(output) in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def check_output(output: Path) -> None:
    """Finds out before any slow step that a file cannot be written.

    Raises:
        OSError: with the reason.
    """
    from lstm_toolkit.tflite import files

    if not is_stdout(output):
        files.check_writable(output)


def write(data: bytes, output: Path) -> None:
    """Writes a file, or to standard output.

    Raises:
        OSError: as writing does.
    """
    from lstm_toolkit.tflite import files

    if not is_stdout(output):
        return files.write_whole(output, data)
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        error.filename = "standard output"
        raise


def show(value: dict[str, Any], text: str, *, as_json: bool, beside: Path | None = None) -> None:
    """Prints a result: on standard error if standard output is what is written to."""
    stream = sys.stderr if is_stdout(beside) else sys.stdout
    show_text(json_text(value, indent=2, encoding=stream.encoding) if as_json else text, err=stream is sys.stderr)


def show_text(text: str, *, err: bool = False) -> None:
    """Prints what holds text out of files."""
    click.echo(printable_lines(text), err=err)


class _Stages(logging.StreamHandler):
    """Writes a line for each stage that is logged; where that fails, the command fails."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without what a name in it would do to a terminal."""
        return f"{printable(super().format(record))} ..."

    def end(self) -> None:
        """Ends the stage that runs."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raises what went wrong."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        error.filename = "standard error"
        raise error


class _LiveStages(_Stages):
    """Keeps a line for each stage, with the time that it takes, up to date on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        super().__init__(stream)
        columns = SpinnerColumn("line"), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        self.live = Progress(*columns, console=_console(stream))
        self.live.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Ends the stage before, and begins one."""
        self.end()
        self.live.add_task(printable(record.getMessage()), total=1)

    def end(self) -> None:
        """Ends the stage that runs."""
        for task in self.live.task_ids:
            self.live.update(task, completed=1)

    def close(self) -> None:
        """Ends the last stage."""
        self.live.stop()
        super().close()


def _console(stream: TextIO) -> Any:
    from rich.console import Console

    class VisibleCursor(Console):
        """What is killed cannot show the cursor again."""

        def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002, FBT001 (Rich's own)
            return False

    return VisibleCursor(file=stream)


@contextlib.contextmanager
def stages(*, shown: bool | None) -> Iterator[None]:
    """Shows each stage that `convert` logs on standard error: live on a terminal, else as a line.

    Args:
        shown: whether to; None on a terminal alone.
    """
    is_terminal = sys.stderr.isatty()
    if not (is_terminal if shown is None else shown):
        yield
        return
    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, errors="backslashreplace")
    handler = _LiveStages(stream) if is_terminal else _Stages(stream)
    logger = logging.getLogger("lstm_toolkit")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
        handler.end()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        handler.close()
        with contextlib.suppress(OSError):
            stream.close()


@contextlib.contextmanager
def own_stderr() -> Iterator[None]:
    """Gives Python's standard error a way to the terminal that `silent_stderr` does not close."""
    with os.fdopen(os.dup(2), "w", buffering=1) as stream, contextlib.redirect_stderr(stream):
        yield


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Keeps what TensorFlow's C++ part and its Python layers print away from the terminal."""
    with captured_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            sys.stderr.flush()
