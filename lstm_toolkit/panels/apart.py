"""`apart`: calls a function in a process of its own, where what is in a file may crash, hang or want too much memory.

That process imports TensorFlow only if the function does.
"""

import sys
from collections.abc import Callable
from typing import Any

from lstm_toolkit.errors import ConversionError, InvalidModelError, LstmToolkitError
from lstm_toolkit.runtime.limits import Limits
from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess, limit_memory, serve

Request = tuple[Callable[..., Any], tuple[Any, ...], int | None]

_STOPPED = "stopped"
"""What is said of a function that did not come to its end."""

_ERRORS: dict[str, type[Exception]] = {each.__name__: each for each in (ConversionError, InvalidModelError, ValueError)}


def apart(function: Callable[..., Any], *arguments: Any, name: str, limits: Limits) -> Any:
    """Calls a function in a process that ends with the call.

    Args:
        function: one that pickle finds by its name.
        arguments: what pickle can hold.
        name: of the file that it works on, for messages.
        limits: of time, which includes the start of the process, and of memory.

    Returns:
        What the function returns.

    Raises:
        InvalidModelError: if the process ends or exceeds a limit.
        LstmToolkitError, ValueError: what the function raises of these.
    """
    process = WorkerProcess([sys.executable, "-m", __name__])
    try:
        problem, value = process.ask((function, arguments, limits.memory), time_limit=limits.seconds)
    except (TimeoutError, WorkerEndedError) as error:
        problem, value = _STOPPED, str(error)
    finally:
        process.kill()
    if problem == _STOPPED:
        raise InvalidModelError(
            f"{name!r} stops the process that works on it: {value}; if you trust where it comes from, allow more, with "
            "limits=Limits(seconds=..., memory=...)"
        )
    if problem is not None:
        raise _ERRORS.get(problem, LstmToolkitError)(value)
    return value


def _answer(request: Request, _: Callable[[int], Any]) -> tuple[str | None, Any]:
    """What a function returns, or the name of an error and its text."""
    function, arguments, memory = request
    limit_memory(memory)
    try:
        return None, function(*arguments)
    except MemoryError:
        return _STOPPED, f"it wants more than {memory} bytes"
    except (LstmToolkitError, ValueError) as error:
        return type(error).__name__, str(error)


if __name__ == "__main__":
    serve(_answer)
