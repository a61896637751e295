"""The doctor's desk, without a browser."""

import base64
import dataclasses
import os
import pickle
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.panels import apart, desk, three_calls
from lstm_toolkit.panels.desk import PATIENT, examine, treat
from tests.helpers import hostile_files, patients
from tests.helpers.imports import run_without
from tests.helpers.sum_file import sum_file
from tools.attacks import damage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def examination():
    return examine(PATIENT)


@pytest.fixture(scope="module")
def treatment(examination):
    return treat(examination)


def test_an_examination_says_what_diagnose_and_inspect_say(examination):
    summary = lt.inspect(PATIENT)
    assert examination.name == "patient.tflite"
    assert examination.tflite == PATIENT.read_bytes()
    assert examination.findings == lt.diagnose(PATIENT)
    assert examination.summary == summary.tables()
    assert dict(examination.ops) == summary.ops
    assert examination.drawing == summary.drawing()
    assert [(each.word, each.is_on) for each in examination.choices] == [("cell-clip", True), ("state-leak", True)]
    assert not examination.refusal


def test_a_treatment_is_a_repair(examination, treatment):
    assert treatment.tflite == lt.repair(PATIENT).tflite
    assert treatment.changes == lt.repair(PATIENT).changes
    assert treatment.findings == ()
    assert treatment.before is examination
    sides = {what: (before, after) for what, before, after in treatment.tables()[1].rows}
    assert sides["finding cell-clip"] == sides["finding state-leak"] == (1, 0)
    assert sides["op ZEROS_LIKE"] == (0, 2)
    assert sides["op UNIDIRECTIONAL_SEQUENCE_LSTM"] == (1, 1)
    assert sides["bytes"] == (len(examination.tflite), len(treatment.tflite))


def test_a_treatment_is_written_whole(treatment, tmp_path):
    treatment.save(tmp_path / "mended.tflite")
    assert (tmp_path / "mended.tflite").read_bytes() == treatment.tflite


def test_three_calls_tell_the_leak(treatment):
    calls = treatment.calls
    assert calls.holds
    assert "started anew" in calls.claim
    assert max(calls.anew) < 1e-6
    assert calls.in_a_row[0] < 1e-6
    assert min(calls.in_a_row[1:]) > 0.1
    (table,) = calls.tables()
    assert table.rows[0] == (1, "agrees", "agrees")
    assert all(row[1].startswith("differs by ") and row[2] == "agrees" for row in table.rows[1:])


def test_differences_are_those_of_runner(treatment):
    """The figures of the three calls, computed once more by other code."""
    calls = three_calls.random_calls(treatment.before.tflite)
    mended, original = lt.Runner(treatment.tflite), lt.Runner(treatment.before.tflite)
    for number, call in enumerate(calls):
        wanted, given = original(**call), mended(**call)
        anew = lt.Runner(treatment.before.tflite)(**call)
        assert np.abs(wanted - given).max() == pytest.approx(treatment.calls.in_a_row[number], abs=1e-6)
        assert np.abs(anew - given).max() == pytest.approx(treatment.calls.anew[number], abs=1e-6)


def test_what_is_kept_stays(examination):
    kept = treat(examination, "state-leak")
    assert kept.tflite == lt.repair(PATIENT, keep="state-leak").tflite
    assert [finding.code for finding in kept.findings] == ["state-leak"]
    assert kept.calls.holds
    assert "called in a row too" in kept.calls.claim
    assert max(kept.calls.in_a_row) < 1e-6
    assert max(kept.calls.anew) > 0.1
    nothing = treat(examination, ["state-leak", "cell-clip"])
    assert nothing.tflite == examination.tflite
    assert nothing.calls is None
    assert nothing.findings == examination.findings
    assert "Nothing was changed" in repr(nothing)


def test_a_file_is_told_what_it_lacks_on_a_target():
    examined = examine(PATIENT, target="compiled")
    assert {each.code for each in examined.findings} >= {"variable-tensors", "cell-clip", "state-leak"}
    assert examined.findings == lt.diagnose(PATIENT, target="compiled", run=True)
    mended = treat(examined)
    assert [finding.code for finding in mended.findings] == ["variable-tensors"]


def test_a_wrong_repair_is_told(examination, treatment):
    """A file that still leaks, and one with other weights, do not pass for mended ones."""

    def spoil(model):
        for buffer in model.buffers:
            buffer.data = None if buffer.data is None else np.zeros(len(buffer.data), np.uint8)

    for wrong in (examination.tflite, patients.edited(spoil)):
        compared = three_calls.compare_calls(examination.tflite, wrong, ["state-leak"], carries=False)
        assert compared.holds is False
        assert "do not use the mended file" in compared.verdict
    compared = three_calls.compare_calls(examination.tflite, patients.edited(spoil), ["int8-scales"], carries=False)
    assert compared.holds is None


def test_ops_can_be_left_alone_one_by_one():
    def second(place):
        return lt.Finding("cell-clip", "warning", "it clips", "", f"op {place} UNIDIRECTIONAL_SEQUENCE_LSTM (x)", True)

    choices = desk._choices(desk.gravest_first([second(0), second(3)]))
    words = [each.word for each in choices]
    assert words == ["cell-clip", "op 0 UNIDIRECTIONAL_SEQUENCE_LSTM", "op 3 UNIDIRECTIONAL_SEQUENCE_LSTM"]
    assert choices[0].text == "cell-clip, 2 times"
    many = desk._choices(desk.gravest_first([second(place) for place in range(desk.MOST_PLACES + 1)]))
    assert [each.word for each in many] == ["cell-clip"]


def test_what_may_be_meant_is_not_on():
    stream = lt.Finding("stream", "note", "it streams", "", "op 0 UNIDIRECTIONAL_SEQUENCE_LSTM (x)")
    halves = lt.Finding("split-halves", "note", "two halves", "", "a, b", True)
    found = desk.gravest_first([stream, halves])
    assert [each.is_on for each in desk._choices(found)] == [False, True]


@pytest.mark.parametrize("data", [b"", b"Dear doctor,", PATIENT.read_bytes()[:700]])
def test_a_damaged_file_is_refused_as_by_diagnose(data):
    with pytest.raises(InvalidModelError) as wanted:
        lt.diagnose(data)
    with pytest.raises(InvalidModelError, match=re.escape(str(wanted.value))):
        examine(data)


def test_mutants_are_examined_as_diagnose_does():
    """What is refused has the reason of `diagnose`; what cannot be shown has that of `inspect`."""
    whole, outcomes = [PATIENT.read_bytes(), sum_file()], set()
    for number in range(150):
        data = damage.damaged(whole, number)
        try:
            findings = lt.diagnose(data)
        except InvalidModelError as error:
            outcomes.add("refused")
            with pytest.raises(InvalidModelError, match=re.escape(str(error))):
                desk._of_tflite(data, "mutant", None)
            continue
        examined = desk._of_tflite(data, "mutant", None)
        assert examined.findings == findings
        if examined.refusal:
            with pytest.raises(InvalidModelError, match=re.escape(examined.refusal)):
                lt.inspect(data)
        outcomes.add("not shown" if examined.refusal else "shown")
        assert "<script" not in examined._repr_html_()
    assert outcomes == {"refused", "not shown", "shown"}


@pytest.mark.parametrize("name", ["crashing", "endless"])
def test_a_file_that_does_harm_is_examined(name):
    data = getattr(hostile_files, name)()
    examined = examine(data, name=name)
    assert examined.findings == lt.diagnose(data)
    assert treat(examined).tflite == data


@pytest.mark.parametrize("name", ["fine_sum", "endless"])
def test_a_file_that_does_harm_is_compared_in_other_processes(name):
    data = getattr(hostile_files, name)()
    compared = three_calls.compare_calls(data, data, ["loop-lstm"], carries=False, time_limit=2.0)
    assert compared.holds is None
    assert compared.why_not.startswith("the original does not run: it ")
    assert compared.verdict.startswith("Nothing was compared: ")
    assert compared.tables() == ()


@pytest.mark.parametrize(
    ("function", "argument", "limits", "reason"),
    [
        (os._exit, 3, lt.Limits(), "exit code 3"),
        (signal.raise_signal, signal.SIGSEGV, lt.Limits(), "SIGSEGV"),
        (time.sleep, 60, lt.Limits(seconds=2.0), "did not answer in 2 seconds"),
        (bytearray, 1 << 33, lt.Limits(memory=1 << 29), "wants more than 536870912 bytes"),
    ],
)
def test_what_ends_or_exceeds_its_process_is_refused(function, argument, limits, reason):
    name = "\u202egnp"
    with pytest.raises(InvalidModelError, match=reason) as refused:
        apart.apart(function, argument, name=name, limits=limits)
    assert "\u202e" not in str(refused.value)


def test_errors_of_the_package_come_through():
    with pytest.raises(ConversionError, match=r"^no$"):
        apart.apart(refuse, name="x", limits=lt.Limits())


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="target must be one of"):
        examine(PATIENT, target="toaster")


def refuse():
    raise ConversionError("no")


def test_names_out_of_a_file_are_escaped():
    examined = examine(patients.renamed(), name=patients.HOSTILE)
    mended = treat(examined)
    for page in (examined._repr_html_(), mended._repr_html_()):
        assert "<script" not in page
        assert "\u202e" not in page
        for picture in re.findall(r"base64,([^\"]+)", page):
            drawn = base64.b64decode(picture).decode()
            assert "<script" not in drawn
            assert "\u202e" not in drawn
    assert "\u202e" not in repr(examined) + repr(mended)
    assert "alert(1)" in repr(examined)


def test_tensorflow_is_not_loaded():
    run_without(
        {"tensorflow", "keras"},
        "from lstm_toolkit.panels.desk import PATIENT, examine, treat\nassert treat(examine(PATIENT)).calls.holds",
    )
    assert not apart.apart(patients.is_tensorflow_there, PATIENT.read_bytes(), name="x", limits=lt.Limits())


def test_values_survive_a_pickle(treatment):
    assert pickle.loads(pickle.dumps(treatment)) == treatment


def test_a_file_larger_than_it_may_be_is_refused(monkeypatch):
    monkeypatch.setenv("LSTM_TOOLKIT_MAX_MODEL_BYTES", "1000")
    for model in (PATIENT, PATIENT.read_bytes()):
        with pytest.raises(InvalidModelError, match="has 1,576 bytes, more than 1,000"):
            examine(model)


def test_a_conversion_is_a_file():
    @dataclasses.dataclass
    class Made:
        tflite: bytes

    assert examine(Made(PATIENT.read_bytes())).findings == lt.diagnose(PATIENT)


@pytest.fixture
def widgets(monkeypatch):
    """The panels; files that do no harm are handled in this process, which is faster."""
    monkeypatch.setattr(desk, "apart", lambda function, *arguments, **_: function(*arguments))
    pytest.importorskip("ipywidgets", reason="comes with the extra codelabs")
    from lstm_toolkit import widgets

    return widgets


def handed_in(panel, name, content, upload=None):
    """Uploads a file, as the browser does: first it says what is coming."""
    upload = upload or panel.upload
    file = {"name": name, "type": "", "size": len(content)}
    panel._announced.set_state({"files": [file | {"content": {}}]})
    if upload.has_trait("metadata"):  # ipywidgets 7
        upload.set_state({"metadata": [file], "data": [memoryview(content)], "_counter": upload._counter + 1})
    else:
        upload.set_state({"value": [file | {"content": memoryview(content), "last_modified": 1_700_000_000_000}]})


def links(markup):
    """The files that links hold, by their names."""
    found = re.findall(r'<a download="([^"]+)" href="data:application/octet-stream;base64,([^"]+)"', markup)
    return {name: base64.b64decode(content) for name, content in found}


def test_the_value_of_an_upload_in_both_versions_of_ipywidgets(widgets):
    from lstm_toolkit.widgets.desk import uploaded

    assert uploaded(({"name": "a.tflite", "size": 2, "content": memoryview(b"ab")},)) == ("a.tflite", b"ab")
    assert uploaded({"a.tflite": {"metadata": {"name": "a.tflite"}, "content": b"ab"}}) == ("a.tflite", b"ab")
    assert uploaded(()) is uploaded({}) is None


def test_a_large_file_that_does_not_come(widgets, monkeypatch):
    """The browser says what is coming. The control of a large file is not used again: it may wait for ever."""
    monkeypatch.setattr("lstm_toolkit.widgets.desk.LEAST_LOST", 1_500)
    panel = widgets.doctors_desk()
    first = panel.upload
    panel._announced.set_state({"files": [{"name": "a.tflite", "size": 1_499}]})
    assert "Receiving &#x27;a.tflite&#x27; (1,499 bytes).</div>" in panel.status.value
    assert panel.upload is first
    for _ in range(2):
        before = panel.upload
        panel._announced.set_state({"files": [{"name": "<b>.tflite", "size": 1_500}]})
        assert panel.upload is not before
    assert "Receiving &#x27;&lt;b&gt;.tflite&#x27; (1,500 bytes). If this line stays" in panel.status.value
    second = panel.upload
    assert panel._controls.children == (second, panel.target, panel.state, panel.examine)
    handed_in(panel, "c.tflite", PATIENT.read_bytes())
    assert panel.examination.name == "c.tflite"
    assert panel.upload is not second
    assert second.comm is None
    handed_in(panel, "d.tflite", PATIENT.read_bytes())
    assert panel.examination.name == "d.tflite"


def test_the_limit_that_the_panel_names_is_that_of_the_projects_own_server(widgets):
    from lstm_toolkit.widgets import desk as shell

    option = re.search(r"--ServerApp.tornado_settings='{.*: (\d+)}'", (ROOT / "Makefile").read_text())
    assert option[0] in shell._IF_LOST
    assert int(option[1]) > shell.MOST_UPLOADED + 1_000_000


def test_the_panel_from_upload_to_download(widgets):
    panel = widgets.doctors_desk()
    assert "cell-clip" in panel.examined.value
    data = PATIENT.read_bytes()
    handed_in(panel, "my model (1).tflite", data)
    assert panel.examination.name == "my model (1).tflite"
    assert [box.description for box in panel.repairs.children] == ["cell-clip", "state-leak"]
    panel.repairs.children[1].value = False
    assert "Press “Repair”" in panel.outcome.value
    panel.repair.click()
    assert links(panel.treated.value) == {"my_model_1.mended.tflite": lt.repair(data, keep="state-leak").tflite}
    panel.repairs.children[1].value = True
    panel.repair.click()
    assert links(panel.treated.value) == {"my_model_1.mended.tflite": lt.repair(data).tflite}
    panel.target.value = "compiled"
    assert "Press “Examine”" in panel.status.value
    panel.examine.click()
    assert "variable-tensors" in panel.examined.value
    assert not panel.treated.value
    assert panel.treatment is None


def test_the_panel_says_what_is_wrong_in_a_line(widgets, monkeypatch):
    panel = widgets.doctors_desk()
    handed_in(panel, patients.HOSTILE, b"Dear doctor,")
    assert "the model is not a .tflite file: its bytes 4 to 8 are not TFL3" in panel.status.value
    assert panel.examined.value == panel.treated.value == ""
    assert panel.examination is None
    panel.repair.click()
    monkeypatch.setattr("lstm_toolkit.widgets.desk.MOST_UPLOADED", 5)
    handed_in(panel, patients.HOSTILE, b"six123")
    assert "has 6 bytes, more than 5: use doctors_desk(path)" in panel.status.value
    assert "<script" not in panel.status.value
    assert "\u202e" not in panel.status.value


def test_the_panel_escapes_names(widgets):
    panel = widgets.doctors_desk()
    handed_in(panel, patients.HOSTILE, patients.renamed())
    panel.repair.click()
    for shown in (panel.status, panel.examined, panel.outcome, panel.treated):
        assert "<script" not in shown.value
        assert "\u202e" not in shown.value
    assert all(re.fullmatch(r"[\w.-]+\.mended\.tflite", name, re.ASCII) for name in links(panel.treated.value))
    assert all(re.fullmatch(r"[\w, -]+", box.description) for box in panel.repairs.children)


def test_a_file_too_large_for_a_link_is_not_offered(widgets, monkeypatch):
    monkeypatch.setattr("lstm_toolkit.widgets.desk.MOST_OFFERED", 5)
    panel = widgets.doctors_desk()
    panel.repair.click()
    assert not links(panel.treated.value)
    assert "write the file from Python, by its save(path)" in panel.treated.value


def test_limits_reach_the_panel(widgets, monkeypatch):
    monkeypatch.setattr(desk, "apart", apart.apart)
    panel = widgets.doctors_desk(limits=lt.Limits(seconds=0.001))
    assert "stops the process that works on it: it did not answer in 0.001 seconds" in panel.status.value
