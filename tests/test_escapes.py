"""Text out of files: what does not show, or moves other text, is escaped wherever it is shown, and only there."""

import csv
import dataclasses
import html
import io
import json
import os
import pickle
import subprocess
import sys
import unicodedata
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given
from hypothesis import strategies as st

import lstm_toolkit as lt
from lstm_toolkit import escapes
from lstm_toolkit.benchmarking.result import BenchmarkResult
from lstm_toolkit.cli import main
from lstm_toolkit.display.picture import Picture
from lstm_toolkit.display.tables import Table
from lstm_toolkit.errors import ConversionError, ParityError
from lstm_toolkit.gate_pictures.layout import gate_layout
from tests.helpers import properties
from tests.helpers.models import randomized

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""What Unicode says of characters that do not show, or that move other text."""

SPOOF = "layer\u202egnp.\u2066\x1b[2J\x9b\n\r\u2028\u200b\ufeff\ud800\U000e0041<script>\"'&]]>$\\frac{$|`"
READABLE = "名前 größe Ωλ 🙂 ﬁ العربية"

names = st.text(
    st.one_of(
        st.sampled_from("\u202e\u2066\u200b\u2028\u2029\x1b\x07\x9b\n\r\t\x7f\ufeff\U000e0041\ue000\u0378<>&\"'$=@/;"),
        st.characters(),
    ),
    min_size=1,
    max_size=12,
)


def hidden(text, *, lines=True):
    """The characters of a text that should not be shown as they are."""
    return [c for c in text if unicodedata.category(c) in HIDDEN and not (lines and c == "\n")]


@pytest.fixture(scope="module")
def carried():
    """A file with faults: its state is carried, and it does not say that this was asked for."""
    model = randomized(
        keras.Sequential([keras.Input((7, 5), batch_size=1), keras.layers.LSTM(6, return_sequences=True)])
    )
    return lt.convert(model, state="carry", verify=False).tflite


def renamed(tflite, name):
    """The file with every name in it made of another one."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    model.description = b"by hand"
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"{name}{number}".encode("utf-8", "replace")
    model.subgraphs[0].name = name.encode("utf-8", "replace")
    for signature in model.signatureDefs:
        signature.signatureKey = name.encode("utf-8", "replace")
        for entry in (*signature.inputs, *signature.outputs):
            entry.name = f"{name}-{entry.tensorIndex}".encode("utf-8", "replace")
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def with_custom_op(tflite, name):
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.ZEROS_LIKE or len(model.operatorCodes) == 1:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = name.encode("utf-8", "replace")
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def refusal(act):
    try:
        act()
    except (lt.errors.LstmToolkitError, ValueError) as error:
        return str(error)
    return ""


def texts_of(tflite):
    """All that is shown of a file as text."""
    summary = lt.inspect(tflite)
    found = lt.diagnose(tflite, target="micro")
    yield from (str(summary), str(summary.op_table()), repr(summary.drawing()), str(summary.inputs), str(found))
    yield from (field for finding in found for field in dataclasses.astuple(finding) if isinstance(field, str))
    yield str(lt.repair(tflite))
    yield refusal(lambda: lt.repair(tflite, keep="op 99 LSTM"))
    yield refusal(lambda: lt.lower(tflite))


def pages_of(tflite):
    """All that is shown of it as HTML and SVG."""
    summary = lt.inspect(tflite)
    yield from (summary._repr_html_(), summary.drawing().svg, summary.drawing()._repr_html_())
    yield lt.diagnose(tflite)._repr_html_()
    yield lt.repair(tflite)._repr_html_()


@properties.of_models(40)
@given(name=names)
def test_no_text_or_page_of_a_file_shows_what_does_not_show(carried, name):
    tflite = renamed(carried, name)
    for text in texts_of(tflite):
        assert not hidden(text), text
    for page in pages_of(tflite):
        assert not hidden(page)
        assert "<script" not in page
    ElementTree.fromstring(lt.inspect(tflite).drawing().svg)


@properties.of_models(200)
@given(name=names)
def test_every_way_out_escapes(name):
    table = Table(name, (name, "b"), [(name, 1), ("x", name)])
    assert not hidden(str(table))
    assert len(str(table).splitlines()) == 5
    assert not hidden(table._repr_html_())
    assert not hidden(escapes.in_html(name))
    assert not hidden(str(ConversionError(name)))
    assert escapes.printable(escapes.printable(name)) == escapes.printable(name)
    for indent in (None, 2):
        text = escapes.json_text({name: [name, 1]}, indent=indent)
        assert json.loads(text) == {name: [name, 1]}
        assert not hidden(text)
        assert escapes.json_text({name: name}, encoding="latin-1").isascii()


def test_what_can_be_read_stays_as_it_is(carried):
    tflite = renamed(carried, READABLE)
    for text in (str(lt.inspect(tflite)), lt.inspect(tflite).drawing().svg, lt.diagnose(tflite)[0].location):
        assert READABLE in text
    assert f'"{READABLE}"' in escapes.json_text([READABLE])


def test_names_stay_keys(carried):
    """What shows a name escaped does not change it: a call and `inspect` have the one of the file."""
    name = "x\u202ey\u200b"
    tflite = renamed(carried, name)
    summary, runner = lt.inspect(tflite), lt.Runner(tflite)
    assert [each.name for each in summary.inputs] == list(runner.input_shapes)
    assert summary.inputs[0].name.startswith(name)
    x = np.ones((1, 7, 5), np.float32)
    np.testing.assert_array_equal(runner(**{summary.inputs[0].name: x}), lt.Runner(carried)(x))
    assert not hidden(refusal(lambda: runner(**{name: x})))
    assert not hidden(refusal(lambda: runner(**{summary.inputs[0].name: x[0]})))


def test_the_place_that_is_shown_is_the_one_that_repair_keeps(carried):
    tflite = renamed(carried, "x\u202ey")
    (finding,) = [each for each in lt.diagnose(tflite) if each.code == "state-leak"]
    assert "x\\u202ey" in finding.location
    assert lt.repair(tflite).tflite != tflite
    assert lt.repair(tflite, keep=finding.location).tflite == tflite


def test_custom_ops(carried):
    tflite = with_custom_op(carried, SPOOF)
    assert not hidden("".join(texts_of(tflite)))
    assert not hidden(refusal(lambda: lt.Runner(tflite)))


def test_pictures_of_gates(carried, tmp_path):
    tflite = renamed(carried, SPOOF)
    figure = lt.plot_gates(tflite)
    figure.savefig(tmp_path / "gates.svg")
    layout = gate_layout(tflite)
    for text in (figure.alt, str(figure), layout._repr_html_(), (tmp_path / "gates.svg").read_text()):
        assert not hidden(text)
        assert "<script" not in text
    ElementTree.parse(tmp_path / "gates.svg")


def test_pictures_with_names_that_look_like_formulas():
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.set_title(escapes.in_figure(SPOOF))
    picture = Picture(figure, SPOOF)
    assert not hidden(repr(picture))
    assert not hidden(picture._repr_html_())
    assert html.escape("<script>") in picture._repr_html_()


@pytest.fixture(scope="module")
def timed(carried):
    return lt.benchmark({SPOOF: carried, "=1+1": carried, READABLE: carried}, runs=3, warmup=0)


def test_benchmarks(timed):
    for text in (str(timed), timed._repr_html_(), timed.to_json(), timed.to_csv(), repr(timed.plot())):
        assert not hidden(text)
    assert BenchmarkResult.from_dict(json.loads(timed.to_json())) == timed
    assert READABLE in timed.to_csv()


def test_no_spreadsheet_takes_a_name_for_a_formula(timed):
    rows = list(csv.DictReader(io.StringIO(timed.to_csv())))
    assert [row["name"][:5] for row in rows[1:]] == ["'=1+1", READABLE[:5]]
    assert float(rows[1]["invoke_median"]) > 0
    assert list(map(escapes.in_csv, ("+1", "@x", "-x", "a=b", -1))) == ["'+1", "'@x", "'-x", "a=b", -1]


def test_errors_keep_what_they_were_made_of():
    error = ParityError("a\u202eb", max_abs_error=1.0, tolerance=0.5)
    assert (str(error), error.args) == ("a\\u202eb", ("a\u202eb",))
    assert pickle.loads(pickle.dumps(ConversionError("a\u202eb"))).args == ("a\u202eb",)


@pytest.fixture
def shown(capfd):
    def shown(*args):
        with pytest.raises(SystemExit):
            main([*map(str, args)])
        return capfd.readouterr()

    return shown


def test_the_command_line(carried, tmp_path, shown):
    tflite = renamed(carried, SPOOF)
    (tmp_path / "evil.tflite").write_bytes(tflite)
    evil = tmp_path / "evil.tflite"
    for command in (["inspect", evil], ["diagnose", evil], ["repair", evil, "-o", tmp_path / "x"], ["plot", evil]):
        output = shown(*command)
        assert not hidden(output.out + output.err)
    output = shown("inspect", evil, "--json")
    assert not hidden(output.out)
    assert json.loads(output.out)["inputs"][0]["name"] == lt.inspect(tflite).inputs[0].name
    strange = tmp_path / "a\u202eb\n\x1b[2J.tflite"
    output = shown("inspect", strange)
    assert len(output.err.splitlines()) == 1
    assert not hidden(output.err)


def test_a_terminal_with_few_characters(carried, tmp_path):
    (tmp_path / "m.tflite").write_bytes(renamed(carried, READABLE))
    command = [sys.executable, "-X", "utf8=0", "-m", "lstm_toolkit", "inspect", tmp_path / "m.tflite"]
    for more in ([], ["--json"]):
        done = subprocess.run(
            [*command, *more], capture_output=True, timeout=60, env=os.environ | {"PYTHONIOENCODING": "latin-1"}
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert "größe" in done.stdout.decode("latin-1") or more
        if more:
            assert json.loads(done.stdout)["inputs"][0]["name"].startswith(READABLE)
