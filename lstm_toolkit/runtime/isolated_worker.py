"""Holds an interpreter for another process: `python -m lstm_toolkit.runtime.isolated_worker`."""

from collections.abc import Callable
from typing import Any

from lstm_toolkit.runtime.interpreters import interpreter
from lstm_toolkit.runtime.signature import signature
from lstm_toolkit.runtime.worker import limit_memory, serve


class _Holder:
    """Holds at most one interpreter."""

    def __init__(self) -> None:
        self._interpreter: Any = None

    def load(self, data: bytes, memory_limit: int | None, options: dict[str, Any]) -> Any:
        """Makes an interpreter, and gives the details of its inputs and of its outputs by name."""
        limit_memory(memory_limit)
        self._interpreter = interpreter(data, **options)
        self._outputs = [int(each["index"]) for each in self._interpreter.get_output_details()]
        return signature(self._interpreter)

    def drop(self) -> None:
        """Lets go of the interpreter; a heap that its file has damaged tends to end the process here."""
        self._interpreter = None
        limit_memory(None)

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Calls a method of the interpreter."""
        return getattr(self._interpreter, method)(*arguments)

    def invoke(self) -> dict[int, Any]:
        """Runs the file, and gives its outputs by index."""
        self._interpreter.invoke()
        return {index: self._interpreter.get_tensor(index) for index in self._outputs}

    def answer(self, request: tuple[dict[int, Any], str, tuple[Any, ...]], _: Callable[[int], Any]) -> Any:
        """Sets tensors, and then does one of the above.

        Returns:
            (None, what came back), or the name of an exception and its text.
        """
        values, method, arguments = request
        try:
            for index, value in values.items():
                self._interpreter.set_tensor(index, value)
            return None, getattr(self, method)(*arguments)
        except Exception as error:  # whatever the runtime raises is its answer
            return type(error).__name__, str(error)


if __name__ == "__main__":
    serve(_Holder().answer)
