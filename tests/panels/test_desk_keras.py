"""The doctor's desk with Keras files."""

import base64
import re
import zipfile

import keras
import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.panels import desk
from tests.helpers.models import randomized

layers = keras.layers


def saved(path, *stack):
    model = randomized(keras.Sequential([keras.Input((7, 3), name="x"), *stack]), 4)
    model.save(path)
    return model


def test_a_keras_file_is_converted_in_another_process(tmp_path):
    path = tmp_path / "model.keras"
    model = saved(path, layers.LSTM(4, return_sequences=True), layers.LSTM(5))
    examination = desk.examine(path)
    assert [finding.code for finding in examination.findings] == ["open-batch"]
    assert "first three calls in a row" in examination.converted[0].title
    runner, random = lt.Runner(examination.tflite), np.random.default_rng(2)
    for _ in range(3):
        x = random.standard_normal((1, 7, 3)).astype(np.float32)
        np.testing.assert_allclose(runner(x), model(x), rtol=0, atol=1e-5)
    assert desk.treat(examination).tflite == examination.tflite


def test_state_and_target_are_those_of_convert(tmp_path):
    saved(tmp_path / "model.h5", layers.LSTM(4, name="lstm"))
    data = (tmp_path / "model.h5").read_bytes()
    examination = desk._of_keras(data, "model.h5", "micro", "explicit")
    assert {row[1] for row in examination.summary[0].rows} >= {"lstm_h", "lstm_c"}
    assert not [each for each in examination.findings if each.severity == "error"]


def test_what_cannot_be_converted_has_findings_and_the_reason(tmp_path):
    saved(tmp_path / "model.keras", layers.LSTM(4, activation="elu", name="second"))
    data = (tmp_path / "model.keras").read_bytes()
    examination = desk._of_keras(data, "model.keras", None, "auto")
    assert [finding.code for finding in examination.findings] == ["not-fusable", "open-batch"]
    assert "its activation is 'elu'" in examination.refusal
    assert "its activation is &#x27;elu&#x27;" in examination._repr_html_()
    assert examination.tflite == b""
    with pytest.raises(ValueError, match="keep takes what can be mended in the file, , got a model that was not conv"):
        desk.treat(examination)


def test_a_damaged_file_is_refused_under_its_own_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.keras", "w") as archive:
        archive.writestr("../config.json", "{}")
    data = (tmp_path / "evil.keras").read_bytes()
    with pytest.raises(InvalidModelError, match=r"^'evil.keras' has a member '../config.json', which is "):
        desk._of_keras(data, "evil.keras", None, "auto")
    with pytest.raises((InvalidModelError, ConversionError), match=r"^'half.h5' "):
        desk._of_keras(b"\x89HDF\r\n\x1a\n" + bytes(100), "half.h5", None, "auto")


def test_the_panel_offers_the_converted_file(tmp_path, monkeypatch):
    pytest.importorskip("ipywidgets", reason="comes with the extra codelabs")
    from lstm_toolkit import widgets

    saved(tmp_path / "model.keras", layers.LSTM(4))
    monkeypatch.setattr(desk, "apart", lambda function, *arguments, **_: function(*arguments))
    panel = widgets.doctors_desk(tmp_path / "model.keras")
    name, content = re.search(r'download="([^"]+)" href="[^,]+,([^"]+)"', panel.examined.value).groups()
    assert name == "model.tflite"
    assert base64.b64decode(content) == panel.examination.tflite
    assert panel.repairs.children == ()
