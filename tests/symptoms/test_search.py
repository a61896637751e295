"""A pasted message is found whatever stands in and around it, and nothing is said of what is not known."""

import io
import json
import os
import random
import re
import subprocess
import sys
import time

import pytest

from lstm_toolkit.symptoms import search
from lstm_toolkit.symptoms.entries import SYMPTOMS
from tests.helpers.imports import run_without

MESSAGES = [(message, each.code) for each in SYMPTOMS for message in each.messages]
SIGNS = [(sign, each.code) for each in SYMPTOMS for sign in each.signs]
TRACEBACK = """Traceback (most recent call last):
  File "/home/me/my project/convert_{0}.py", line {0}, in <module>
    tflite_model = converter.convert()
  File "/home/me/.venv/lib/python3.{0}/site-packages/tensorflow/lite/python/lite.py", line 1{0}4, in wrapper
    return self._convert_and_export_metrics(convert_func, *args, **kwargs)
  File "/home/me/.venv/lib/python3.{0}/site-packages/tensorflow/lite/python/convert_phase.py", line 2{0}5, in wrapper
    raise converter_error from None  # Re-throws the exception.
"""
UNKNOWN = """
hello world
LSTM
tflite
why is the sky blue
how do I train a GRU on text
failed to prepare
Killed
Segmentation fault (core dumped)
CUDA out of memory. Tried to allocate 2.00 GiB
ModuleNotFoundError: No module named 'tensorflow'
TypeError: 'NoneType' object is not subscriptable
Node number 3 (CONV_2D) failed to prepare.
Node number 12 (WHILE) failed to invoke.
error: failed to legalize operation 'tf.Conv2D' that was explicitly marked illegal
RuntimeError: Encountered unresolved custom op: Dilation2D. Node number 2 (Dilation2D) failed to prepare
ValueError: Input 0 of layer "lstm" is incompatible with the layer: expected ndim=3, found ndim=2
ValueError: Unrecognized keyword arguments passed to Dense: {'weights': [0, 1]}
OSError: [Errno 28] No space left on device: '/tmp/model.tflite'
""".strip().splitlines()
QUESTIONS = {
    "my lstm model gives different outputs the second time": "second-call",
    "keras 3 lstm tflite while loop instead of fused op": "while-instead-of-lstm",
    "bidirectional int8 bad accuracy": "int8-both-ways",
    "mask_zero ignored": "masks",
    "arena size for LSTM": "micro-arena",
    "unrolled LSTM litert-torch": "unrolled",
    "segfault when quantizing LSTM with representative dataset": "calibrator-crash",
}


def codes(text):
    return [each.code for each in search.explain(text)]


def varied(message, number):
    """A message as a run of other sizes prints it, wrapped and coloured, in the log of a program."""
    draw = random.Random(number)
    text = re.sub(r"\.\.\.", lambda _: f"{draw.randrange(1, 99)} (lstm_{draw.randrange(9)}, [3, {number}])", message)
    text = re.sub(r"(\w+)\.cc", rf"/build/{number}/\1.cc:{number}", text)
    words = " ".join(f"\x1b[31m{word}\x1b[0m" if draw.random() < 0.2 else word for word in text.split())
    wrapped = re.sub(r"(.{60,80}) ", r"\1\n", words)
    return f"{TRACEBACK.format(number)}RuntimeError: {wrapped}\n[1]    {number} exit 1     python convert.py\n" * 2


@pytest.mark.parametrize(("message", "code"), MESSAGES)
def test_a_message_is_found_with_other_names_paths_and_numbers(message, code):
    for number in (3, 12, 71):
        assert codes(varied(message, number))[:1] == [code]
    assert codes(message)[:1] == [code]


@pytest.mark.parametrize(("sign", "code"), [*SIGNS, *QUESTIONS.items()])
def test_a_few_words_are_enough(sign, code):
    assert codes(sign)[:1] == [code]
    assert codes(f"Why {sign.upper()}??")[:1] == [code]


def test_a_part_of_a_message_is_enough():
    assert codes("op requires element_shape to be static")[:1] == ["tensor-list-reserve"]
    assert codes("(FlexTensorListReserve) failed to prepare")[:1] == ["flex-ops"]
    assert codes("at least 1 reference to internal data in the interpreter")[:1] == ["internal-reference"]


@pytest.mark.parametrize("text", UNKNOWN)
def test_nothing_is_said_of_what_is_not_known(text):
    assert codes(text) == []
    assert codes(TRACEBACK.format(4) + text) == []


def test_programs_and_logs_tell_of_nothing():
    with open(search.__file__, encoding="utf-8") as file:
        assert codes(file.read()) == []
    words = " ".join(MESSAGES[number][0] for number in range(len(MESSAGES))).split()
    random.Random(1).shuffle(words)
    assert codes(" ".join(words)) == []


def test_the_end_of_a_log_counts_and_long_texts_take_no_time():
    message = MESSAGES[0][0]
    start = time.process_time()
    assert codes("x/" * 5_000_000 + f"\n{message}") == [MESSAGES[0][1]]
    assert codes(message + " y" * search.LIMIT) == []
    assert codes("to be " * search.LIMIT) == []
    assert codes(f"{message}\n" * 1000) == [MESSAGES[0][1]]
    assert time.process_time() - start < 3


def test_of_a_stream_the_end_is_kept():
    stream = io.BytesIO(b"a" * 3 * search.LIMIT + b"\xff the end")
    assert search.last_of(stream).endswith("a\N{REPLACEMENT CHARACTER} the end")
    stream.seek(0)
    assert len(search.last_of(stream)) == search.LIMIT


def test_several_are_given_where_they_are_as_likely_the_most_telling_first():
    found = codes("Failed to get registration from op code CUSTOM")
    assert found == ["micro-custom", "micro-op"]


def run(*args, text=""):
    command = [sys.executable, "-c", "from lstm_toolkit.cli import main; main()", "explain", *args]
    return subprocess.run(command, capture_output=True, text=True, input=text, timeout=60, env=os.environ)


def test_the_command_explains():
    done = run("ERROR:", "Node", "number", "7", "(FlexTensorListReserve)", "failed", "to", "prepare.")
    assert (done.returncode, done.stderr) == (0, "")
    (symptom,) = (each for each in SYMPTOMS if each.code == "flex-ops")
    assert done.stdout == f"{symptom}\n"
    for part in (symptom.see, symptom.mend, *symptom.addresses):
        assert part in done.stdout


def test_the_command_reads_standard_input_and_writes_json():
    done = run("-", "--json", text=varied(MESSAGES[0][0], 5))
    (found,) = json.loads(done.stdout)["symptoms"]
    assert (found["code"], found["threads"][0][:19]) == (MESSAGES[0][1], "https://github.com/")


@pytest.mark.parametrize("text", ["nothing of the kind", "--never-heard\x1b[2J of this\x07", ""])
def test_the_command_says_so_where_nothing_is_like_it(text):
    done = run(text)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "Nothing like it is known; run lstm-toolkit diagnose FILE on the file.\n"
    assert json.loads(run(text, "--json").stdout) == {"symptoms": []}


def test_nothing_heavy_is_imported():
    code = "from lstm_toolkit.cli import main; main(['explain', 'second call differs'], standalone_mode=False)"
    run_without({"tensorflow", "keras", "numpy", "ai_edge_litert"}, code)
