"""Files of TensorFlow's converter, of litert-torch and of the package become fused ops, or say where they depart.

The oracle is the file as it was, on LiteRT. `tests/data/unrolled/make_*.py` made them.
"""

from pathlib import Path

import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit.passes.unrolled import fuse
from lstm_toolkit.passes.unrolled.fuse import fuse_unrolled
from lstm_toolkit.tflite import files, graph
from tests.helpers.files import op_counts
from tests.helpers.unrolled_files import run

FILES = sorted((Path(__file__).parents[2] / "data/unrolled").glob("*.tflite"))
OPS = {"gru": "WHILE", "rnn": "UNIDIRECTIONAL_SEQUENCE_RNN"}
FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"
TOLERANCE = 1e-5
SOURCES = ("keras", "tf_keras", "own", "litert_torch", "tf1")
COUNTS = {"two_layers": 2, "three_layers": 3, "both_ways": 2, "both_ways_last": 2, "dense_between": 2}
COUNTS |= {"both_ways_two_layers": 4, "states_two_layers": 2, "gru_both_ways": 2, "gru_two_layers": 2}


def kind(path):
    """The name without the source."""
    return next(path.stem.removeprefix(f"{each}_") for each in SOURCES if path.stem.startswith(f"{each}_"))


def calls_for(model):
    random, main = np.random.default_rng(3), model.subgraphs[0]
    shapes = [graph.shape_of(main.tensors[index]) for index in main.inputs]
    return [[random.normal(0, 1, shape).astype(np.float32) for shape in shapes] for _ in range(3)]


def test_there_are_files_of_every_source():
    assert len(FILES) >= 73
    for source in SOURCES:
        assert sum(path.stem.startswith(f"{source}_") for path in FILES) >= 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_becomes_the_ops(path):
    before = path.read_bytes()
    model = files.read_model(before)
    outcomes = fuse_unrolled(model)
    op, has_two_directions = OPS.get(kind(path)[:3], FUSED), path.stem.endswith(("rnn_relu_last", "rnn_relu_both_ways"))
    assert [each.reason for each in outcomes] == [None] * (2 if has_two_directions else COUNTS.get(kind(path), 1))
    assert {each.op for each in outcomes} == {op}
    after, calls = files.write_model(model), calls_for(model)
    counts = graph.count_operators(model, model.subgraphs[0])
    assert counts[op] == len(outcomes)
    assert not {"LOGISTIC", "TANH"} & set(counts)
    for old, new in zip(run(before, calls), run(after, calls), strict=True):
        for one, other in zip(old, new, strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(other, one, atol=TOLERANCE, rtol=TOLERANCE)


def test_diagnose_and_repair_tell_a_gru_that_becomes_a_loop():
    file = next(path for path in FILES if path.stem == "litert_torch_gru_state").read_bytes()
    (finding,) = lstm_toolkit.diagnose(file)
    assert (finding.code, finding.location, finding.repairable) == ("unrolled-lstm", "GRU_layer", True)
    assert "a GRU is unrolled into the ops of its 5 steps" in finding.message
    repaired = lstm_toolkit.repair(file)
    assert [each.what for each in repaired.changes] == [
        "unrolled layers that became one op or a loop: GRU_layer (5 steps, WHILE)"
    ]
    assert not repaired.left
    assert op_counts(repaired.tflite)["WHILE"] == 1
    calls = calls_for(files.read_model(file))
    for old, new in zip(run(file, calls), run(repaired.tflite, calls), strict=True):
        for one, other in zip(old, new, strict=True):
            np.testing.assert_allclose(other, one, atol=TOLERANCE)


def test_diagnose_and_repair_name_the_layer_and_merge_both_ways():
    file = next(path for path in FILES if path.stem == "litert_torch_both_ways").read_bytes()
    findings = [each for each in lstm_toolkit.diagnose(file) if each.code == "unrolled-lstm"]
    assert [each.location for each in findings] == ["LSTM_layer", "LSTM_layer_call1"]
    assert all(each.repairable and "its 5 steps" in each.message for each in findings)
    repaired = lstm_toolkit.repair(file)
    assert op_counts(repaired.tflite)["BIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert not [each for each in repaired.left if each.code == "unrolled-lstm"]
    calls = calls_for(files.read_model(file))
    for old, new in zip(run(file, calls), run(repaired.tflite, calls), strict=True):
        np.testing.assert_allclose(new[0], old[0], atol=TOLERANCE)


def test_to_find_and_to_mend_a_file_is_read_once(monkeypatch):
    file = next(path for path in FILES if path.stem == "litert_torch_one").read_bytes()
    calls, own = [], fuse.evaluate
    monkeypatch.setattr(fuse, "evaluate", lambda *given: calls.append(given) or own(*given))
    assert lstm_toolkit.repair(file).changes
    # The mended file has no product left that could belong to a step.
    assert len(calls) == 1


def test_a_file_that_was_changed_after_it_was_looked_at_is_read_anew():
    file = next(path for path in FILES if path.stem == "litert_torch_one").read_bytes()
    model = files.read_model(file)
    (outcome,) = fuse.unrolled_outcomes(model)
    assert outcome.op == FUSED
    main = model.subgraphs[0]
    product = next(op for op in main.operators if graph.operator_name(model, op) == "FULLY_CONNECTED")
    main.outputs = [product.outputs[0]]
    before = files.write_model(model)
    fuse_unrolled(model)
    calls = calls_for(model)
    for old, new in zip(run(before, calls), run(files.write_model(model), calls), strict=True):
        assert [each.shape for each in old] == [each.shape for each in new]
        np.testing.assert_allclose(new[0], old[0], atol=TOLERANCE)
