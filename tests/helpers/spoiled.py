"""Conversions in which a pass is wrong and writes an op that ends LiteRT's process, and a process of its own for them.

`python -m tests.helpers.spoiled` answers the names of cases.
"""

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.runtime.worker import serve
from tests.helpers.degenerate import STEPS, of_small_differences, stack
from tests.helpers.elsewhere import answers


def spoil(model: Any) -> None:
    """Adds an ADD of integers to a `ModelT` whose output is so fine that the kernel ends the process."""
    from ai_edge_litert import schema_py_generated as schema

    from lstm_toolkit.tflite import edit

    main = model.subgraphs[0]
    one = edit.add_constant(model, main, "one", np.ones(3, np.int8))
    total = edit.add_tensor(main, "spoiled", [3], dtype=schema.TensorType.INT8)
    for index, scale in ((one, 1e-2), (total, 1e-9)):
        main.tensors[index].quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[0])
    main.operators.insert(1, edit.new_operator(model, "ADD", [one, one], [total], version=2))


def convert_spoiled(**options: Any) -> Any:
    """Converts with a wrong pass at the end."""
    from lstm_toolkit.conversion import pipeline

    with mock.patch.object(pipeline, "PASSES", (*pipeline.PASSES, lambda work: spoil(work.model))):
        return convert(**options)


def convert_with_spoiled_weights() -> Any:
    """Converts with a wrong quantization of weights."""
    from lstm_toolkit.passes import small_weights

    with mock.patch.object(small_weights, "to_int8", lambda model: spoil(model) or []):
        return convert(quantization="dynamic")


def convert_with_spoiled_lowering() -> Any:
    """Converts in all ways, of which a few are wrong."""
    from lstm_toolkit.conversion import fastest
    from lstm_toolkit.tflite import files

    def wrong(tflite: bytes, **options: Any) -> bytes:
        model = files.read_model(lower(tflite, **options))
        spoil(model)
        return files.write_model(model)

    lower = fastest.lower
    with mock.patch.object(fastest, "lower", wrong):
        return convert(lowering="auto")


def convert_fine_sums(**options: Any) -> Any:
    """Quantizes differences of nearly equal numbers to int8, without the pass that makes their kernels take them."""
    import lstm_toolkit
    from lstm_toolkit.passes import coarse_sums

    with mock.patch.object(coarse_sums, "coarsen", return_value=0):
        model, _ = of_small_differences()
        return lstm_toolkit.convert(model, quantization="int8", representative_dataset=STEPS, **options)


def convert(**options: Any) -> Any:
    """Converts the model whose conversion is spoiled."""
    import lstm_toolkit

    model, _ = stack("lstm", "dense")
    return lstm_toolkit.convert(model, **options)


CASES: dict[str, Callable[[], Any]] = {
    "int8": lambda: convert_fine_sums(verify=False),
    "verified": convert_spoiled,
    "not verified": lambda: convert_spoiled(verify=False),
    "all ways": lambda: convert_spoiled(lowering="auto"),
    "int8 weights": convert_with_spoiled_weights,
    "some ways": convert_with_spoiled_lowering,
}


def answer(name: str, _: Callable[[int], Any]) -> dict[str, Any]:
    """Converts; returns the error, and for the choice of the fastest way why others were not chosen."""
    try:
        automatic = CASES[name]().report.automatic
    except LstmToolkitError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": "", "reasons": [each.reason for each in automatic.trials] if automatic else []}


@functools.cache
def results() -> dict[str, dict[str, Any]]:
    """The answers of all cases."""
    return answers("tests.helpers.spoiled", CASES)


if __name__ == "__main__":
    serve(answer)
