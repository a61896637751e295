"""Runs litert-torch in a process of its own, where it may print, import JAX, and crash without the caller.

The process is started at the first need, kept for the next ones, and ends with the one that started it.
"""

import sys
from collections.abc import Callable
from typing import Any, TypedDict

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.process_state import alone
from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess, serve


class Request(TypedDict):
    """What is to be converted.

    Attributes:
        path: of the `torch.export.ExportedProgram`, whose module has the user's own as its submodule `module`, and
            whose recurrent layers are ops of `torch_ops`.
    """

    path: str


class Failure(TypedDict):
    """Why litert-torch does not convert a program.

    Attributes:
        message: its own.
        kind: of the error.
        owner: the path of the module whose op it names; None if it names none.
    """

    message: str
    kind: str
    owner: str | None


_worker: WorkerProcess | None = None


def start() -> None:
    """Starts the process, if there is none, so that it imports litert-torch while this one exports a module."""
    with alone():
        _started()


def converted(request: Request) -> bytes | Failure:
    """The `.tflite` file of a program, in which each recurrent layer is a CUSTOM op for `passes.torch_marks`.

    Raises:
        ConversionError: if the process ends.
    """
    global _worker
    with alone():
        worker = _started()
        try:
            answer: bytes | Failure = worker.ask(request)
        except BaseException as error:
            # An answer that nobody waits for would be taken for that of the next request.
            worker.kill()
            _worker = None
            if not isinstance(error, WorkerEndedError):
                raise
            raise ConversionError(
                f"litert-torch ended its own process: {error}; find the module that it cannot convert by converting "
                "the submodules one by one, and compute that outside of the file"
            ) from error
    return answer


def _started() -> WorkerProcess:
    global _worker
    if _worker is None or not _worker.is_running():
        _worker = WorkerProcess([sys.executable, "-m", __name__])
    return _worker


def _answer(request: Request, _: Callable[[int], Any]) -> bytes | Failure:
    import torch

    from lstm_toolkit.stock import torch_ops

    program: Any = None
    try:
        program = torch.export.load(request["path"])
        return _convert(program.run_decompositions({torch.ops.lstm_toolkit.layers.default: torch_ops.directions}))
    except Exception as error:  # whatever litert-torch, its converter and PyTorch raise
        nodes = program.graph.nodes if program is not None else ()
        owners = (_owner(node) for node in nodes if "." in str(node.target) and str(node.target) in str(error))
        return {"message": str(error), "kind": type(error).__name__, "owner": next(owners, None)}


def _owner(node: Any) -> str:
    """The path of the module, in the user's own, that an op comes from; empty for the user's own itself."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return stack[-1][0].removeprefix("module").removeprefix(".") if stack else ""


def _convert(program: Any) -> bytes:
    # Under the module's own convert, which exports it, there is no public one that takes a program.
    from litert_torch import fx_infra
    from litert_torch._convert import core, litert_converter, signature

    program = fx_infra.graph_utils.reset_from_node_meta(program)
    program = fx_infra.safe_run_decompositions(program, fx_infra.decomp.pre_convert_decomp(), can_skip=False)
    program = core._run_convert_passes(program)
    arguments, _ = program.example_inputs
    named = signature.Signature("serving_default", None, arguments, {})
    return bytes(litert_converter.exported_programs_to_flatbuffer([program], [named]).to_bytes())


def _import_litert_torch() -> None:
    from lstm_toolkit.stock import torch_lowering

    assert torch_lowering is not None


if __name__ == "__main__":
    serve(_answer, _import_litert_torch)
