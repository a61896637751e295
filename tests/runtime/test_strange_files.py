"""`Runner` on files that are wrong or odd, on inputs that the runtime refuses, and in several threads.

The files are edits of whole ones. Every error is the package's own, and what worked before an error works after it.
"""

import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import lstm_toolkit
from lstm_toolkit import Runner
from lstm_toolkit.errors import InvalidModelError
from tests.helpers.hostile_files import edited_sum
from tests.helpers.models import randomized
from tests.helpers.sum_file import sum_file

X = np.arange(6.0).reshape(2, 3)
L = keras.layers


def assert_runs(runner):
    np.testing.assert_array_equal(runner(X), X + 1)


def signature_def(inputs, outputs, *, key="serve", subgraph=0):
    """A signature with tensors by name."""
    entries = [
        [schema.TensorMapT(name=name, tensorIndex=index) for name, index in each.items()] for each in (inputs, outputs)
    ]
    return schema.SignatureDefT(signatureKey=key, subgraphIndex=subgraph, inputs=entries[0], outputs=entries[1])


def signed(*signatures):
    """`sum_file` with signatures, and a second subgraph like the first, but with the input's name first."""

    def edit(model):
        main = model.subgraphs[0]
        tensors = [schema.TensorT(shape=[2, 3], buffer=each.buffer, name=f"other {each.name}") for each in main.tensors]
        other = schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[2], operators=main.operators)
        model.subgraphs.append(other)
        model.signatureDefs = list(signatures)

    return edited_sum(edit)


def test_a_file_is_read_before_it_runs():
    def edit(model):
        model.subgraphs[0].operators[0].inputs = [0, 7]

    for options in ({}, {"xnnpack": False}, {"runtime": "compiled"}, {"isolated": True}):
        with pytest.raises(InvalidModelError, match="a tensor of operator 0 of subgraph 0 has index 7, not below 3"):
            Runner(edited_sum(edit), **options)


def test_names_that_are_not_utf_8():
    def tensor(model):
        model.subgraphs[0].tensors[0].name = b"\xff\xfe"

    def entry(model):
        model.signatureDefs = [signature_def({b"\xff\xfe": 0}, {"y": 2})]

    def key(model):
        model.signatureDefs = [signature_def({"x": 0}, {"y": 2}, key=b"\xff")]

    for edit in (tensor, entry, key):
        for options in ({}, {"isolated": True}, {"runtime": "compiled"}):
            with pytest.raises(InvalidModelError, match="utf-8"):
                Runner(edited_sum(edit), **options)


def test_two_inputs_of_one_name():
    def edit(model):
        main = model.subgraphs[0]
        main.tensors[1].buffer, main.tensors[1].name, main.inputs = 0, "x", [0, 1]

    with pytest.raises(InvalidModelError, match=r"two inputs have one name in \['x', 'x'\]; write the file with diff"):
        Runner(edited_sum(edit))

    def different(model):
        edit(model)
        model.subgraphs[0].tensors[1].name = "z"

    np.testing.assert_array_equal(Runner(edited_sum(different))(x=X, z=2 * X), 3 * X)


def test_the_signature_that_counts_is_that_of_the_main_subgraph():
    wrong = [
        signature_def({"in": 1}, {"out": 2}),  # no input
        signature_def({}, {"out": 2}),
        signature_def({"in": 0}, {"out": 0}),  # no output
        signature_def({"in": 0}, {"out": 2}, subgraph=1),
    ]
    for each in wrong:
        runner = Runner(signed(each))
        np.testing.assert_array_equal(runner(x=X), X + 1)
        assert runner.output_names == ("y",)
    runner = Runner(signed(wrong[3], signature_def({"in": 0}, {"out": 2}, key="main")))
    np.testing.assert_array_equal(runner.outputs(**{"in": X})["out"], X + 1)


def test_shapes_that_the_runtime_refuses():
    for options in ({}, {"xnnpack": False}, {"isolated": True}):
        runner = Runner(sum_file(signature=(-1, 3)), **options)
        assert_runs(runner)
        with pytest.raises(InvalidModelError, match=r"cannot run this model on inputs of the shapes \[\[5, 3\]\]"):
            runner(np.zeros((5, 3)))
        assert_runs(runner)
        with pytest.raises(InvalidModelError, match=r"\[\[5, 3\]\]"):
            runner.bound(x=np.zeros((5, 3)))
        assert_runs(runner)


def test_a_refused_shape_does_not_lose_what_is_carried(random):
    x, z = keras.Input((None, 3), batch_size=2, name="x"), keras.Input((None, 5), batch_size=2, name="z")
    recurrent = L.LSTM(4, return_sequences=True, stateful=True)
    model = randomized(keras.Model([x, z], L.concatenate([recurrent(x), z])))
    runner = lstm_toolkit.convert(model, verify=False).runner()
    recurrent.reset_states()

    def compare(steps):
        x, z = (random.normal(size=(2, steps, size)).astype(np.float32) for size in (3, 5))
        np.testing.assert_allclose(runner(x=x, z=z), model([x, z]), atol=1e-5)

    compare(4)
    with pytest.raises(InvalidModelError, match=r"on inputs of the shapes \[\[2, 3, 3\], \[2, 4, 5\]\]"):
        runner(x=np.ones((2, 3, 3)), z=np.ones((2, 4, 5)))
    compare(4)
    compare(6)


def test_values_that_the_runtime_refuses():
    def gather(model):
        main = model.subgraphs[0]
        main.tensors[0].type, main.tensors[2].shape = schema.TensorType.INT32, [2, 3, 3]
        code, op = model.operatorCodes[0], main.operators[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.GATHER
        op.inputs, op.builtinOptions = [1, 0], schema.GatherOptionsT()
        op.builtinOptionsType = schema.BuiltinOptions.GatherOptions

    for options in ({}, {"isolated": True}):
        runner = Runner(edited_sum(gather), **options)
        for bad in (2, -1):
            with pytest.raises(InvalidModelError, match=r"on these inputs: .*index out of bounds"):
                runner(np.full((2, 3), bad))
            np.testing.assert_array_equal(runner(np.ones((2, 3), int)), np.ones((2, 3, 3)))


@pytest.mark.parametrize("number", [0, -1, 1.5, "2"])
def test_a_number_of_threads(number):
    with pytest.raises(ValueError, match="num_threads must be a whole number above 0, got"):
        Runner(sum_file(), num_threads=number)


@pytest.mark.parametrize("options", [{}, {"isolated": True}])
def test_threads_share_a_runner(options, random):
    model = randomized(keras.Sequential([keras.Input((None, 5), name="x"), L.LSTM(6, return_sequences=True)]))
    tflite = lstm_toolkit.convert(model, verify=False).tflite
    calls = [random.normal(size=(1, steps, 5)).astype(np.float32) for steps in (9, 4, 4, 17)]
    wanted = [Runner(tflite)(x) for x in calls]
    shared, failures = Runner(tflite, **options), []

    def work(number):
        try:
            for _ in range(20 if options else 200):
                np.testing.assert_array_equal(shared(calls[number]), wanted[number])
                assert shared.state == {}
                shared.reset()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


FORK = """
import os, threading, time
import numpy as np
from lstm_toolkit import Runner
from tests.helpers.sum_file import sum_file

runner, x = Runner(sum_file()), np.ones((2, 3))
held = threading.Event()
def hold():
    with runner._lock:
        held.set()
        time.sleep(60)
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    print(runner(x).sum(), flush=True)
    os._exit(0)
os._exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_does_not_wait_for_a_thread_that_it_does_not_have():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30)
    assert done.stdout == "12.0\n", done.stderr
