"""What is refused of a project to flash."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import lstm_toolkit
from lstm_toolkit import GateWeights
from lstm_toolkit.micro import save_project
from lstm_toolkit.runtime import trial
from tests.helpers.fault_corpus import edited
from tests.helpers.refusals import Refusal
from tests.helpers.sum_file import sum_file
from tests.helpers.weights import random_operands

SUM = sum_file()


def project(tflite: bytes, kind: str = "generic", **options: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_project(tflite, Path(folder) / "out", project=kind, **options)


def sums(shape: list[int], kind: int = schema.TensorType.FLOAT32) -> bytes:
    """The sum of an input of a shape and type with itself."""

    def change(model: Any) -> None:
        main = model.subgraphs[0]
        main.operators[0].inputs = [0, 0]
        for index in (0, 2):
            main.tensors[index].shape, main.tensors[index].shapeSignature = shape, None
            main.tensors[index].type = kind

    return edited(SUM, change)


def backwards() -> bytes:
    """Inputs in the other order."""

    def change(model: Any) -> None:
        reverse = schema.BuiltinOperator.REVERSE_V2
        model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = reverse
        model.buffers[1].data = np.zeros(1, np.int32).view(np.uint8)
        main = model.subgraphs[0]
        main.tensors[1].shape, main.tensors[1].type = [1], schema.TensorType.INT32
        main.operators[0].builtinOptionsType, main.operators[0].builtinOptions = 0, None

    return edited(SUM, change)


def logarithm() -> bytes:
    """The logarithm of what an input has above 100."""

    def change(model: Any) -> None:
        log = schema.BuiltinOperator.LOG
        model.operatorCodes.append(schema.OperatorCodeT(builtinCode=log, deprecatedBuiltinCode=log, version=1))
        main = model.subgraphs[0]
        main.tensors.append(schema.TensorT(shape=[2, 3], buffer=0, name="z"))
        main.operators.append(schema.OperatorT(opcodeIndex=1, inputs=[2], outputs=[3]))
        main.outputs = [3]

    return edited(sum_file(addend=-100.0), change)


@functools.cache
def steps(time: int) -> bytes:
    flags = dict.fromkeys(("cifg", "peephole", "projection", "layer_norm"), False)
    weights = GateWeights.from_operands(random_operands(np.random.default_rng(4), **flags))
    return lstm_toolkit.convert(weights, target="micro", verify=False, time_steps=time).tflite


REFUSALS = [
    Refusal(
        ("project must be one of {}, got {}", "esp-idf, arduino, generic", "'stm32'"),
        lambda: project(SUM, "stm32"),
        *(functools.partial(project, SUM, kind) for kind in ("esp-idf", "arduino", "generic")),
    ),
    Refusal(
        ("the library for Arduino, Chirale_TensorFLowLite 2.0.0, has no op {}", "REVERSE_V2", '"esp-idf" or "generic"'),
        lambda: project(backwards(), "arduino"),
        lambda: project(backwards(), "esp-idf"),
        lambda: project(backwards(), "generic"),
    ),
    Refusal(
        (", which a project cannot hold; convert the model with inputs and outputs of float32", "'x'", "float64"),
        lambda: project(sums([2, 3], schema.TensorType.FLOAT64)),
        lambda: project(sums([2, 3])),
        lambda: project(sums([2, 3], schema.TensorType.INT32)),
    ),
    Refusal(
        ("an input or output has no entries, so nothing can be compared", "convert another model"),
        lambda: project(sums([0, 3])),
        lambda: project(sums([1, 3])),
    ),
    Refusal(
        ("the inputs and outputs of a call have {} bytes, more than the {} that a project holds", "time_steps"),
        lambda: project(steps(30_000)),
        lambda: project(steps(7)),
    ),
    Refusal(
        ("the outputs are hardly ever finite numbers for these inputs", "pass a representative_dataset"),
        lambda: project(logarithm()),
        lambda: project(logarithm(), representative_dataset=np.full((4, 2, 3), 120.0, np.float32)),
    ),
]


@pytest.mark.skipif(not trial.is_installed("micro"), reason="tflite-micro has no wheel for this platform")
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_a_refusal_names_a_remedy_that_helps(refusal):
    refusal.follow()
