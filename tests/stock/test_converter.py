"""TensorFlow and LiteRT say nothing on standard error, unless something fails."""

import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf
from tensorflow.lite.python import lite

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.stock.converter import not_read_back, run_converter
from tests.helpers.imports import run_without
from tests.helpers.models import randomized

PROGRAM = """
from lstm_toolkit import codelab
import keras, numpy as np
import lstm_toolkit
model = keras.Sequential([keras.Input((5, 3), batch_size=2), keras.layers.LSTM(4)])
model(np.zeros((2, 5, 3)))
files = [lstm_toolkit.convert(model, verify=False).tflite, codelab.stock_conversion(model, batch_size=2)]
print(*(lstm_toolkit.Runner(file)(np.ones((2, 5, 3), np.float32)).shape for file in files))
"""


def test_a_program_that_converts_and_runs_gets_no_log():
    level = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, env=level)
    assert done.stdout == "(2, 4) (2, 4)\n", done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("level", ["0", None])
def test_the_level_of_the_user_stays(monkeypatch, level):
    if level is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    else:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    done = run_without({"tensorflow"}, "import lstm_toolkit, os\nprint(os.environ['TF_CPP_MIN_LOG_LEVEL'])")
    assert done.stdout.strip() == (level or "3")


def test_what_the_converter_printed_is_shown_with_its_error(capfd):
    def convert():
        os.write(2, b"loc(here): \x1b[31mthe shape is open\n")
        raise RuntimeError("'tf.TensorListReserve' op is not for this\nmore")

    with pytest.raises(
        ConversionError, match=r"refuses the model: 'tf.TensorListReserve' op is not for this(\n|$)"
    ) as raised:
        run_converter(SimpleNamespace(convert=convert))
    notes = [r"On standard error:" + "\n" + r"loc(here): \x1b[31mthe shape is open"]
    assert getattr(raised.value, "__notes__", None) == (notes if sys.version_info >= (3, 11) else None)
    assert capfd.readouterr().err == ""


def test_a_function_becomes_the_same_file_where_nothing_is_read_back(monkeypatch):
    """TensorFlow loads what it has saved by the function that is replaced, once for each file."""
    model = randomized(
        keras.Sequential([keras.Input((5, 3), batch_size=2), keras.layers.LSTM(4), keras.layers.Dense(6)])
    )
    function = tf.function(lambda x: model(x), autograph=False).get_concrete_function(tf.TensorSpec((2, 5, 3)))
    holder, loads = tf.Module(), []
    holder.held = [variable.value for variable in model.variables]
    monkeypatch.setattr(lite, "_load", lambda *given, load=lite._load: loads.append(given) or load(*given))

    def file():
        return run_converter(tf.lite.TFLiteConverter.from_concrete_functions([function], holder))

    with not_read_back():
        short = file()
    assert loads == []
    assert file() == short
    assert len(loads) == 1


def test_what_the_converter_printed_is_forgotten_where_it_succeeds(capfd):
    def convert():
        os.write(2, b"I0000 Reading a model\n")
        return b"a file"

    assert run_converter(SimpleNamespace(convert=convert)) == b"a file"
    assert capfd.readouterr().err == ""
