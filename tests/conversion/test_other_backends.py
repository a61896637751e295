"""Keras models on JAX and PyTorch: their files against Keras itself, in its own backend."""

import importlib.util
import json
import os
import subprocess
import sys
from unittest import mock

import keras
import pytest
from keras import layers

import lstm_toolkit
from lstm_toolkit.runtime.worker import WorkerProcess
from tests.helpers.models import randomized

TOLERANCE = 1e-5

PRETENDED = "another"
"""TensorFlow under another name, which is in every environment."""

SHORT = ["two_layers", "masked", "stateful", "explicit", "carried", "bare_layer", "own_layers"]
LONG = [
    *("stateful_reset", "kept_beside_explicit", "open_time", "time_major", "fastest", "int8", "mixed_precision"),
    *("own_model", "several_inputs_and_outputs", "time_distributed", "path", "other_sources"),
]

REFUSED = {
    "lambda": ("'plus'", "holds a lambda", "safe mode", "define it, with a name, in a module", "register_keras_seri"),
    "unregistered": ("'own'", "'InMain'", "is not registered with Keras", "register_keras_serializable"),
    "in main": ("'own'", "'main>Registered'", "is defined in __main__", "define it, with a name, in a module"),
    "cannot be saved": ("'own' (WithoutConfig)", "cannot be saved", "give its class a get_config"),
    "code of one backend": ("cannot be loaded on the TensorFlow backend", "this is code of", "with keras.ops"),
    "never called": ("LSTM 'alone' was never called", "pass a keras.Input as input_signature"),
    "other inputs": ("LSTM 'alone' cannot be called on symbolic inputs", "expected ndim=3", "another input_signature"),
    "explicit states in steps": ("'apart' (TimeDistributed)", "once a step", "with KERAS_BACKEND=tensorflow"),
    "gru": ("'gated' (GRU)", "use an LSTM layer"),
    "gate_activations": ("Keras runs on", "convert alone takes its models", "KERAS_BACKEND=tensorflow before Keras"),
    "a function": ("Keras runs on", "convert alone takes its models", "KERAS_BACKEND=tensorflow before Keras"),
    "other weights": ("output 'output_0' differs from the source by",),
    "ends": ("the process that converts model 'functional", "ended: exit code 3", "with KERAS_BACKEND=tensorflow"),
}
FOLLOWED = {
    **dict.fromkeys(("lambda", "unregistered", "in main", "cannot be saved", "code of one backend"), "own_layers"),
    **dict.fromkeys(("never called", "other inputs"), "bare_layer"),
    "gru": "two_layers",
}
"""The case that does what a message advises."""


def on_each(pretended, others):
    """Cases on TensorFlow under another name, and on JAX and PyTorch where these are."""
    yield from (pytest.param(PRETENDED, name, id=f"{PRETENDED}-{name}") for name in pretended)
    for backend in ("jax", "torch"):
        marks = [pytest.mark.backends, pytest.mark.xdist_group(backend)]
        yield from (pytest.param(backend, name, id=f"{backend}-{name}", marks=marks) for name in others)


def _skip_without(backend):
    if backend != PRETENDED and importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed here; `make backends` runs this test where it is")


@pytest.fixture(scope="module")
def ask():
    """Asks a process with another backend for a case; where the backend is not installed, the test is skipped."""
    processes = {}

    def ask(backend, name):
        _skip_without(backend)
        if backend not in processes:
            command = [sys.executable, "-m", "tests.helpers.backend_worker"]
            pretends = backend == PRETENDED
            with mock.patch.dict(os.environ, KERAS_BACKEND="tensorflow" if pretends else backend):
                processes[backend] = WorkerProcess([*command, *([backend] if pretends else [])])
        return processes[backend].ask(name, time_limit=300)

    yield ask
    for process in processes.values():
        process.kill()


@pytest.mark.parametrize(("backend", "case"), on_each(SHORT, [*SHORT, *LONG]))
def test_a_file_is_exact(ask, backend, case):
    found = ask(backend, case)
    if case == "int8":
        assert found["error"] < 0.1
    else:
        assert found["error"] < TOLERANCE
    if case == "other_sources":
        assert found["backends"] == [None] * 3
        return
    assert found["reported"] < TOLERANCE
    assert (found["backend"], found["title"]) == (backend, f"Compared with the source on Keras's backend {backend}")
    assert found["inputs"] == ("normal", "zeros", "constant", "tiny", "large")
    assert found.get("untouched", True)
    if case == "explicit":
        assert found["names"] == ["both_cell0_c", "both_cell0_h", "both_cell1_c", "both_cell1_h"]


@pytest.mark.parametrize(("backend", "case"), on_each(REFUSED, ["code of one backend", "a function", "other weights"]))
def test_what_is_refused_says_why_and_what_to_do(ask, backend, case):
    found = ask(backend, case)
    assert found["type"] == ("ParityError" if case == "other weights" else "ConversionError")
    assert all(words in found["message"] for words in REFUSED[case]), found["message"]
    assert len(found["message"]) < 500
    if case in FOLLOWED:
        assert ask(backend, FOLLOWED[case])["error"] < TOLERANCE


def test_on_tensorflow_explicit_states_in_steps_convert():
    inputs = keras.Input((3, 7, 5), batch_size=2)
    model = randomized(keras.Model(inputs, layers.TimeDistributed(layers.LSTM(4))(inputs)))
    assert lstm_toolkit.convert(model, state="explicit").report.max_abs_error < TOLERANCE


@pytest.mark.parametrize(("backend", "case"), on_each([], ["path"]))
def test_the_command_line_compares_on_the_backend_of_the_environment(tmp_path, backend, case):
    _skip_without(backend)
    randomized(keras.Sequential([keras.Input((7, 5)), layers.LSTM(6)])).save(tmp_path / "model.keras")
    command = [sys.executable, "-m", "lstm_toolkit", "convert", tmp_path / "model.keras", "-o", tmp_path / "m.tflite"]
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    checked = json.loads(done.stdout)["checked"]
    assert (checked["backend"], checked["calls"]) == (backend, 7)
    assert checked["max_abs_error"] < TOLERANCE
