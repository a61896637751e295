"""Loops that onnx2tf writes become the fused op. The oracle is the file as it was, on LiteRT.

`tests/data/loops/make_onnx2tf.py` made the files.
"""

from pathlib import Path

import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit.tflite import files, graph
from tests.helpers.files import op_counts
from tests.helpers.unrolled_files import run

FILES = sorted((Path(__file__).parents[2] / "data/loops").glob("onnx2tf_*.tflite"))
OPS = {"one": "UNIDIRECTIONAL_SEQUENCE_LSTM", "states": "UNIDIRECTIONAL_SEQUENCE_LSTM"}
OPS |= {"both_ways": "BIDIRECTIONAL_SEQUENCE_LSTM"}


def test_there_is_a_file_of_each_kind():
    assert {path.stem.removeprefix("onnx2tf_") for path in FILES} == set(OPS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_loop_becomes_the_op(path):
    before = path.read_bytes()
    assert op_counts(before)["WHILE"] >= 1
    repaired = lstm_toolkit.repair(before)
    counts = op_counts(repaired.tflite)
    assert (counts[OPS[path.stem.removeprefix("onnx2tf_")]], counts["WHILE"]) == (1, 0)
    assert not repaired.left
    model, random = files.read_model(before), np.random.default_rng(4)
    main = model.subgraphs[0]
    shapes = [graph.shape_of(main.tensors[index]) for index in main.inputs]
    calls = [[random.normal(0, 1, shape).astype(np.float32) for shape in shapes] for _ in range(3)]
    for old, new in zip(run(before, calls), run(repaired.tflite, calls), strict=True):
        for one, other in zip(old, new, strict=True):
            np.testing.assert_allclose(other, one, atol=1e-5)
