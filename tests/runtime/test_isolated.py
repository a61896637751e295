"""`Runner(isolated=True)`: a file that crashes, hangs or is too large does not take the caller along.

Oracle of the results: the same file in this process.
"""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import Limits, Runner
from lstm_toolkit.benchmarking.benchmark import benchmark
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.quantization_view import quantization_view
from lstm_toolkit.runtime import isolated
from lstm_toolkit.runtime.isolated import IsolatedInterpreter
from lstm_toolkit.tflite import files
from tests.helpers import hostile_files
from tests.helpers.models import randomized
from tests.helpers.sum_file import sum_file

BATCH, INPUTS, UNITS = 2, 5, 6
X = np.arange(6.0).reshape(2, 3)
L = keras.layers


def assert_runs(runner):
    np.testing.assert_array_equal(runner(X), X + 1)


def process_of(runner):
    return runner._interpreter._process


@pytest.fixture(scope="module")
def stateful():
    layers = [L.LSTM(UNITS, return_sequences=True, stateful=True), L.LSTM(4, stateful=True)]
    model = randomized(keras.Sequential([keras.Input((None, INPUTS), batch_size=BATCH, name="x"), *layers]))
    return lstm_toolkit.convert(model).tflite


@pytest.fixture(scope="module")
def integer():
    model = randomized(keras.Sequential([keras.Input((7, INPUTS), name="x"), L.LSTM(UNITS, return_sequences=True)]))
    samples = np.random.default_rng(3).normal(size=(20, BATCH, 7, INPUTS)).astype(np.float32)
    options = {"io_dtype": "int8", "state": "carry", "batch_size": BATCH}
    return lstm_toolkit.convert(model, quantization="int8", representative_dataset=samples, **options).tflite


@pytest.mark.parametrize("xnnpack", [True, False])
def test_a_carried_state_over_open_time(stateful, random, xnnpack):
    here = Runner(stateful, xnnpack=xnnpack)
    with Runner(stateful, xnnpack=xnnpack, isolated=True) as there:
        assert there.input_shapes == here.input_shapes == {"x": (BATCH, -1, INPUTS)}
        assert there.input_dtypes == here.input_dtypes
        assert there.output_names == here.output_names
        for steps in (4, 9, 9, 3):
            x = random.normal(size=(BATCH, steps, INPUTS))
            np.testing.assert_array_equal(there(x), here(x))
        for name, value in here.state.items():
            np.testing.assert_array_equal(there.state[name], value)
            assert np.abs(value).max() > 0.01
        state = {name: random.uniform(-1, 1, value.shape) for name, value in here.state.items()}
        here.state = there.state = state
        for value in state.values():
            value[:] = 0  # what is set is a copy
        np.testing.assert_array_equal(there(x), here(x))
        here.reset()
        there.reset()
        np.testing.assert_array_equal(there(x=x), here(x=x))
        with pytest.raises(ValueError, match=r"input 'x' has shape .* got \[3, 3, 5\]"):
            there(np.zeros((3, 3, 5)))


def test_integers_and_what_is_bound(integer, random):
    here = Runner(integer)
    with Runner(integer, isolated=True) as there:
        given = there.quantized({"x": random.normal(size=(BATCH, 7, INPUTS))})
        for _ in range(3):
            wanted, outputs = here.outputs(**given), there.outputs(**given)
            for name, value in here.dequantized(wanted).items():
                np.testing.assert_array_equal(there.dequantized(outputs)[name], value)
        assert np.abs(value).max() > 0.01
        here.reset()
        there.reset()
        (invoke, call), (invoke_there, call_there) = here.bound(**given), there.bound(**given)
        for _ in range(2):
            invoke()
            invoke_there()
            np.testing.assert_array_equal(call_there(), call())


def test_the_compiled_runtime(random):
    model = randomized(keras.Sequential([keras.Input((7, INPUTS), name="x"), L.LSTM(UNITS)]))
    tflite = lstm_toolkit.convert(model, lowering="unrolled", verify=False).tflite
    here = Runner(tflite, runtime="compiled")
    with Runner(tflite, runtime="compiled", isolated=True) as there:
        for _ in range(2):
            x = random.normal(size=(1, 7, INPUTS))
            np.testing.assert_array_equal(there(x), here(x))


def test_what_this_process_refuses_is_refused_with_the_same_words(stateful):
    for options in ({"isolated": True}, {}):
        with pytest.raises(InvalidModelError, match="in variable tensors, which CompiledModel does not take"):
            Runner(stateful, runtime="compiled", **options)


def test_a_crash_is_an_error_and_the_caller_lives_on():
    with pytest.raises(InvalidModelError, match=r"loading the file ended its process: SIG(ABRT|SEGV)"):
        IsolatedInterpreter(hostile_files.crashing(), Limits())
    with Runner(sum_file(), isolated=True) as runner:
        assert_runs(runner)
        os.kill(process_of(runner).process_id, signal.SIGSEGV)
        for _ in range(2):
            with pytest.raises(InvalidModelError, match="running the file ended its process: SIGSEGV"):
                runner(X)
        assert_runs(Runner(sum_file(), isolated=True))


def test_a_file_that_hangs():
    isolated._idle.clear()
    runner = Runner(hostile_files.endless(), isolated=Limits(seconds=0.5))
    start = time.monotonic()
    for _ in range(2):
        with pytest.raises(InvalidModelError, match=r"running the file takes longer than 0\.5 seconds"):
            runner(X)
    assert time.monotonic() - start < 5
    assert not process_of(runner).is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a limit of memory")
def test_a_file_that_needs_too_much_memory():
    file = hostile_files.large(1 << 13, 1 << 13, 2, 3)
    with pytest.raises(InvalidModelError, match="the file seems to need more than 1073741824 bytes"):
        Runner(file, isolated=Limits(memory=1 << 30))
    with Runner(sum_file(), isolated=Limits(memory=1 << 30)) as runner:
        assert_runs(runner)


def test_an_interrupted_call_ends_the_process():
    runner = Runner(hostile_files.endless(), isolated=True)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        runner(X)
    with pytest.raises(InvalidModelError, match="interrupted"):
        runner(X)
    assert not process_of(runner).is_running()
    assert_runs(Runner(sum_file(), isolated=True))


def test_a_process_serves_one_file_after_the_other():
    first = Runner(sum_file(), isolated=True)
    second = Runner(sum_file(addend=2.0), isolated=True)
    assert_runs(first)
    np.testing.assert_array_equal(second(X), X + 2)
    processes = process_of(first), process_of(second)
    first.close()
    with pytest.raises(InvalidModelError, match="closed"):
        first(X)
    third = Runner(sum_file(addend=3.0), isolated=True)
    assert process_of(third) is processes[0]
    np.testing.assert_array_equal(third(X), X + 3)
    third.close()
    second.close()
    assert not processes[1].is_running()
    assert list(isolated._idle) == [processes[0]]


def test_what_is_collected_gives_its_process_back():
    isolated._idle.clear()
    runner = Runner(sum_file(), isolated=True)
    process = process_of(runner)
    del runner
    gc.collect()
    end = time.monotonic() + 20
    while not isolated._idle and time.monotonic() < end:
        time.sleep(0.01)
    assert list(isolated._idle) == [process]
    assert_runs(Runner(sum_file(), isolated=True))


def test_many_threads():
    failures = []

    def work(number):
        try:
            for turn in range(5):
                with contextlib.closing(Runner(sum_file(addend=number), isolated=True)) as runner:
                    np.testing.assert_array_equal(runner(X + turn), X + turn + number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(isolated._idle) <= 1


FORK = """
import os
import numpy as np
from lstm_toolkit import Limits, Runner
from lstm_toolkit.errors import InvalidModelError
from tests.helpers.sum_file import sum_file

runner, x = Runner(sum_file(), isolated=True), np.ones((2, 3))
Runner(sum_file(), isolated=True).close()
child = os.fork()
if child == 0:
    try:
        runner(x)
    except InvalidModelError as error:
        print(error, flush=True)
    del runner
    print(Runner(sum_file(), isolated=True)(x).sum(), flush=True)
    raise SystemExit(0)
assert os.waitpid(child, 0)[1] == 0
print(runner(x).sum(), Runner(sum_file(), isolated=True)(x).sum())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_leaves_the_processes_to_the_one_that_started_them():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "was forked from that; make a Runner here" in lines[0]
    assert lines[1:] == ["12.0", "12.0 12.0"]


@pytest.mark.parametrize("view", [benchmark, lambda file: quantization_view(file, file, [{"x": X}])])
def test_the_package_runs_files_of_strangers_elsewhere_first(view, monkeypatch):
    # For a crash that no check foresees; the file is not to be known afterwards as one that passed.
    monkeypatch.setattr(files, "check_runnable", lambda model: None)
    monkeypatch.setattr(files, "_runnable", set())
    with pytest.raises(InvalidModelError, match="ended its process: SIG"):
        view(hostile_files.crashing())
