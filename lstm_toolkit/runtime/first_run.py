"""Runs a file that was just made for the first time in a process of its own; finds the op that ends that process."""

from typing import Any

import numpy as np

from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.runtime.isolated import IsolatedInterpreter
from lstm_toolkit.runtime.limits import Limits
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.runtime.worker import WorkerEndedError
from lstm_toolkit.tflite import files, graph

LIMITS = Limits(seconds=300.0, memory=None)
"""Of a file of one's own, which may be large."""

LIMITS_OF_PART = Limits(seconds=20.0, memory=None)
"""Of each part of a file that is known to crash or to hang."""


def first_run(tflite: bytes, *, remedy: str, **options: Any) -> None:
    """Loads a file in a process of its own, and calls it once; whether it is right is for others to say.

    Args:
        tflite: the file.
        remedy: what to do where it crashes or hangs, for the message.
        **options: of `Runner`.

    Raises:
        ConversionError: if it crashes or hangs; names the op and the remedy.
    """
    # An open size may be too small here, and why a file is refused is said where its results are wanted.
    try:
        with Runner(tflite, isolated=LIMITS, **options) as runner:
            shapes = {name: [max(size, 1) for size in shape] for name, shape in runner.input_shapes.items()}
            runner.outputs(**{name: np.zeros(shape, runner.input_dtypes[name]) for name, shape in shapes.items()})
    except InvalidModelError as error:
        refuse_ended(tflite, error, remedy=remedy, **options)


def refuse_ended(tflite: bytes, error: InvalidModelError, *, remedy: str, **options: Any) -> None:
    """Raises a ConversionError, as `first_run` does, if it was an end of its process or a hang that stopped a file."""
    if _is_end(error):
        culprit = _culprit(tflite, **options)
        raise ConversionError(f"LiteRT crashes or hangs in {culprit}: {error.__cause__}; {remedy}") from error


def _is_end(error: BaseException) -> bool:
    return isinstance(error.__cause__, (WorkerEndedError, TimeoutError))


def _culprit(tflite: bytes, **options: Any) -> str:
    """The first op up to which a file has to be cut to run."""
    model = files.read_model(tflite)
    main = model.subgraphs[0]
    runs, fails = 0, len(main.operators)
    if not fails or not _ends(tflite, fails, **options):
        return "the file"
    while fails - runs > 1:
        middle = (runs + fails) // 2
        runs, fails = (runs, middle) if _ends(tflite, middle, **options) else (middle, fails)
    operator = main.operators[fails - 1]
    name = graph.text(main.tensors[operator.outputs[0]].name)
    return f"op {fails - 1} {graph.operator_name(model, operator)} ({name})"


def _ends(tflite: bytes, count: int, **options: Any) -> bool:
    """Whether the first ops of a file end their process, or hang."""
    model = files.read_model(tflite)
    main, model.signatureDefs = model.subgraphs[0], None
    main.operators = main.operators[:count]
    main.outputs = list(main.operators[-1].outputs)
    try:
        interpreter = IsolatedInterpreter(files.write_model(model), LIMITS_OF_PART, **options)
        interpreter.invoke()
    except (InvalidModelError, RuntimeError) as error:
        return _is_end(error)
    interpreter.close()
    return False
