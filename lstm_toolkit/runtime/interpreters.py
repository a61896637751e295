"""The interpreters that run a file in this process."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from lstm_toolkit.process_state import captured_stderr

_has_greeted = False
"""Whether LiteRT has printed in this process what it prints with the first interpreter."""


def interpreter(
    data: bytes,
    *,
    num_threads: int = 1,
    xnnpack: bool = True,
    runtime: str = "interpreter",
    keeps_all_tensors: bool = False,
) -> Any:
    """An interpreter that is ready to be called.

    Args:
        data: the bytes of the file.
        num_threads: threads that it may use.
        xnnpack: whether XNNPACK may take over the ops that it has.
        runtime: of `Runner`.
        keeps_all_tensors: whether every tensor, and not only inputs and outputs, can be read after a call; only on the
            runtime "interpreter".
    """
    if runtime == "compiled":
        from lstm_toolkit.runtime.compiled import CompiledInterpreter

        return CompiledInterpreter(data, num_threads=num_threads, xnnpack=xnnpack)
    with _greeting() if xnnpack else contextlib.nullcontext():
        made = Interpreter(
            model_content=data,
            num_threads=num_threads,
            experimental_op_resolver_type=OpResolverType.AUTO
            if xnnpack
            else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=keeps_all_tensors,
        )
        made.allocate_tensors()
    return made


@contextlib.contextmanager
def _greeting() -> Iterator[None]:
    """Keeps from the caller what LiteRT prints with the first interpreter of a process: it has made its delegate."""
    global _has_greeted
    if _has_greeted:
        yield
        return
    # If somebody else's was the first, nothing is printed; to wait for it would put every later one behind the lock.
    _has_greeted = True
    with captured_stderr():
        yield
