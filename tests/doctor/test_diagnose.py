"""`diagnose` and `repair` over the corpus of faults."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.doctor import faults
from lstm_toolkit.doctor.diagnose import SEVERITIES
from lstm_toolkit.runtime.targets import MICRO_OPS
from tests.helpers import fault_corpus
from tests.helpers.imports import run_without


def codes(found: tuple[lt.Finding, ...]) -> set[str]:
    return {finding.code for finding in found}


def test_corpus_is_large_and_covers_every_fault_of_files(corpus):
    assert tuple(corpus) == fault_corpus.NAMES
    assert len(corpus) >= 30
    covered = set().union(*(case.codes for case in corpus.values()))
    expected = {fault.code for fault in faults.FAULTS if fault.target is None}
    assert expected - covered == {"int8-coupled-layer-norm", "int8-cell-range"}  # have tests of their own


@pytest.mark.parametrize("name", fault_corpus.NAMES)
def test_finds_the_fault_and_no_other(corpus, name):
    found = lt.diagnose(corpus[name].tflite)
    assert codes(found) == corpus[name].codes
    for finding in found:
        assert finding.severity in SEVERITIES
        assert finding.message
        assert finding.remedy
        assert finding.location


@pytest.mark.parametrize("name", fault_corpus.NAMES)
def test_repaired_file_agrees_with_its_source(corpus, name):
    case = corpus[name]
    repaired = lt.repair(case.tflite)
    assert not any(finding.repairable for finding in repaired.left)
    assert {change.code for change in repaired.changes} == {f.code for f in lt.diagnose(case.tflite) if f.repairable}
    if not repaired.changes:
        assert repaired.tflite is case.tflite
    if case.source is None:
        return
    random = np.random.default_rng(7)
    for xnnpack in (True, False):
        runner = lt.Runner(repaired.tflite, xnnpack=xnnpack)
        for _ in range(3):
            x = fault_corpus.within_range(random, case.shape)
            want = case.source(x)
            np.testing.assert_allclose(runner(x), want, rtol=0, atol=case.tolerance * max(1, np.abs(want).max()))


def test_each_repair_can_be_asked_for_alone(corpus):
    case = corpus["keras 2, sequence, as it is"]
    only_clip = lt.repair(case.tflite, codes=["cell-clip"])
    assert [change.code for change in only_clip.changes] == ["cell-clip"]
    assert codes(only_clip.left) == {"state-leak"}
    assert lt.repair(case.tflite, codes=[]).tflite is case.tflite
    with pytest.raises(ValueError, match=r"only loop-lstm, .* can be mended, got flex-op"):
        lt.repair(case.tflite, codes=["flex-op"])


def test_a_repair_leaves_the_bytes_that_it_was_given_alone(corpus):
    tflite = corpus["keras 2, sequence, as it is"].tflite
    before = bytes(tflite)
    once = lt.repair(tflite)
    assert tflite == before != once.tflite
    assert lt.repair(once.tflite).tflite is once.tflite


def test_what_cannot_be_mended_stays_in_the_report(corpus):
    repaired = lt.repair(corpus["int8, both ways"].tflite)
    assert codes(repaired.left) == {"calibrated-on-leak"}
    assert "calibrated-on-leak" in str(repaired)


def test_int8_repair_takes_most_of_the_error_away(corpus):
    """The stock file is off by a fifth and more of the largest output even with its state reset by hand."""
    case = corpus["int8, both ways"]
    stock, mended = lt.Runner(case.tflite), lt.Runner(lt.repair(case.tflite).tflite)
    random, errors = np.random.default_rng(7), []
    for _ in range(3):
        x = fault_corpus.within_range(random, case.shape)
        want = case.source(x)
        stock.reset()
        errors.append([np.abs(runner(x) - want).max() / np.abs(want).max() for runner in (stock, mended)])
    stock_error, mended_error = np.max(errors, axis=0)
    assert stock_error > 0.15
    assert mended_error < 0.06


def test_int8_coupled_input_gate_with_layer_norm_is_found():
    """Quantized by TensorFlow's calibrator and quantizer; no message of theirs says that the result is wrong."""
    cell = lt.lingvo.LayerNormalizedLSTMCellSimple(
        num_input_nodes=3, num_output_nodes=5, couple_input_forget_gates=True, cell_value_cap=0.0
    )
    tflite = fault_corpus.quantized(lt.convert(lt.lingvo.RNN(cell), time_steps=6).tflite, (1, 6, 3))
    assert codes(lt.diagnose(tflite)) == {"int8-coupled-layer-norm"}
    (finding,) = lt.diagnose(tflite)
    assert finding.severity == "error"
    assert lt.repair(tflite).tflite is tflite


@pytest.mark.parametrize(("exponent", "is_found"), [(-16, True), (-15, False), (-9, False), (-8, True)])
def test_a_cell_scale_that_the_kernel_does_not_take_is_found(corpus, exponent, is_found):
    def edit(model):
        for op in fault_corpus.lstms(model):
            model.subgraphs[0].tensors[op.inputs[19]].quantization.scale = [2.0**exponent]

    case = corpus["int8, one way"]
    found = codes(lt.diagnose(fault_corpus.edited(case.tflite, edit)))
    assert found - case.codes == ({"int8-cell-range"} if is_found else set())


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("toolkit", "litert", set()),
        ("toolkit", "compiled", {"variable-tensors"}),
        ("toolkit", "micro", {"micro-op"}),
        ("keras 2, sequence, mended by hand", "micro", set()),
        ("keras 2, sequence, mended by hand", "compiled", {"variable-tensors"}),
        ("keras 3, unrolled", "compiled", {"unrolled-lstm"}),
        ("keras 3, no recurrence", "compiled", set()),
    ],
)
def test_targets(corpus, name, target, expected):
    assert codes(lt.diagnose(corpus[name].tflite, target=target)) == expected


def test_unknown_target():
    with pytest.raises(ValueError, match="target must be one of litert, compiled, micro or None, got 'phone'"):
        lt.diagnose(b"", target="phone")


def test_micro_ops_are_what_the_runtime_of_micro_has():
    """The probes are in `helpers/micro_ops.py`, which runs in a process of its own: kernels may crash on them."""
    script = Path(__file__).parents[1] / "helpers" / "micro_ops.py"
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert set(json.loads(answer.stdout.splitlines()[-1])) == MICRO_OPS


def keras_model(*layers, shape=(6, 3), **options):
    return keras.Sequential([keras.Input(shape, **options), *layers], name="model")


def test_keras_models():
    assert lt.diagnose(keras_model(keras.layers.LSTM(4), batch_size=2)) == ()
    (finding,) = lt.diagnose(keras_model(keras.layers.LSTM(4)))
    assert (finding.code, finding.severity, finding.location) == ("open-batch", "note", "model")
    (finding,) = lt.diagnose(keras_model(keras.layers.LSTM(4, activation="elu", name="odd"), batch_size=2))
    assert (finding.code, finding.severity, finding.location) == ("not-fusable", "error", "odd")
    assert "elu" in finding.message
    masked = keras_model(keras.layers.Masking(), keras.layers.LSTM(4, stateful=True, name="masked"), batch_size=2)
    (finding,) = lt.diagnose(masked)
    assert (finding.code, finding.location) == ("mask", "masked")


def test_paths_and_conversions(tmp_path, corpus):
    model = keras_model(keras.layers.LSTM(4))
    model.save(tmp_path / "model.keras")
    assert codes(lt.diagnose(tmp_path / "model.keras")) == {"open-batch"}
    assert lt.diagnose(lt.convert(model)) == ()
    tflite = corpus["keras 2, sequence, as it is"].tflite
    (tmp_path / "model.tflite").write_bytes(tflite)
    assert lt.diagnose(str(tmp_path / "model.tflite")) == lt.diagnose(tflite)
    repaired = lt.repair(tmp_path / "model.tflite")
    repaired.save(tmp_path / "mended.tflite")
    assert (tmp_path / "mended.tflite").read_bytes() == repaired.tflite


def test_what_is_no_model(tmp_path):
    for call in (lt.diagnose, lt.repair):
        with pytest.raises(lt.errors.InvalidModelError, match=r"not a \.tflite file"):
            call(b"nothing")
        with pytest.raises(lt.errors.InvalidModelError, match="cannot read"):
            call(tmp_path / "absent.tflite")


def test_findings_show_themselves(corpus):
    def rename(model):
        for tensor in model.subgraphs[0].tensors:
            tensor.name = b"<script>alert(1)</script>\xff"

    found = lt.diagnose(fault_corpus.edited(corpus["keras 2, sequence, as it is"].tflite, rename))
    assert str(found).startswith("2 warning(s)")
    assert "<script>" not in found._repr_html_()
    assert "&lt;script&gt;" in found._repr_html_()
    assert json.loads(json.dumps(found.to_dict()))["findings"][0]["code"] == found[0].code
    repaired = lt.repair(corpus["keras 2, sequence, as it is"].tflite)
    assert json.loads(json.dumps(repaired.to_dict()))["changes"][0]["code"] == repaired.changes[0].code
    assert str(lt.diagnose(corpus["toolkit"].tflite)).startswith("Nothing found")


def test_the_worst_comes_first(corpus):
    found = lt.diagnose(corpus["int8, both ways"].tflite)
    assert [SEVERITIES.index(f.severity) for f in found] == sorted(SEVERITIES.index(f.severity) for f in found)
    assert dataclasses.is_dataclass(found[0])


def test_diagnosing_does_not_load_tensorflow(tmp_path, corpus):
    (tmp_path / "model.tflite").write_bytes(corpus["keras 2, sequence, as it is"].tflite)
    code = "import sys, lstm_toolkit as lt; lt.diagnose(sys.argv[1]); lt.repair(sys.argv[1])"
    run_without({"tensorflow", "keras"}, code, tmp_path / "model.tflite")
