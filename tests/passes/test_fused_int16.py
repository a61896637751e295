"""The 16x8 form of fused LSTMs, which TensorFlow Lite Micro alone runs.

Oracles: the kernel in NumPy integers, equal in every bit; and the float file, within what 8 bits of weights cost.
"""

import keras
import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes import fused_int16
from lstm_toolkit.quantization.report import compare_files, runs_on_micro_alone
from lstm_toolkit.runtime import trial
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.recurrent import recurrent_ops
from tests.helpers import micro_lstm
from tests.helpers.models import randomized

micro_only = pytest.mark.skipif(not trial.is_installed("micro"), reason="tflite-micro has no wheel for this platform")

TIME, INPUTS, UNITS, BATCH = 9, 4, 6, 2
LARGEST = {"input": 4.0, "output": 0.95, "cell": 3.0}
layers = keras.layers


def file_of(*stack, **options):
    model = randomized(keras.Sequential([keras.Input((TIME, INPUTS), batch_size=BATCH, name="x"), *stack]))
    return lt.convert(model, target="micro", verify=False, **options).tflite


@pytest.fixture(scope="module")
def float_files():
    one, other = (layers.LSTM(UNITS, return_sequences=True, name=name) for name in ("first", "second"))
    carried = layers.LSTM(UNITS, return_sequences=True, stateful=True)
    return {
        "one": file_of(one),
        "carried": file_of(carried),
        "time major": file_of(one, time_major=True),
        "stack": file_of(one, other, layers.Dense(3)),
    }


def quantized(tflite, **other):
    model = files.read_model(tflite)
    largest = {}
    for op in recurrent_ops(model):
        places = {"input": op.operands["input"], "output": op.operator.outputs[0], "cell": op.operands["cell_state"]}
        reached = LARGEST | other
        largest |= {graph.text(op.subgraph.tensors[index].name): reached[name] for name, index in places.items()}
    count = fused_int16.to_int16(model, largest)
    return files.write_model(model), count


def calls(count=3, size=1.0):
    x = np.random.default_rng(3).normal(0, size, (count, BATCH, TIME, INPUTS)).astype(np.float32)
    return [{"x": each} for each in x]


def stored_in(tflite):
    """What is stored of the one LSTM of a file, and its scales, by operand."""
    model = files.read_model(tflite)
    (op,) = recurrent_ops(model)
    tensors = {name: op.tensor(name) for name in op.operands}
    arrays = {name: graph.constant(model, each) for name, each in tensors.items()}
    stored = {name: each for name, each in arrays.items() if each is not None}
    return stored, {name: graph.scale_of(each)[0] for name, each in tensors.items()}


@micro_only
@pytest.mark.parametrize("cell", [0.7, 3.0, 60.0, 900.0])
@pytest.mark.parametrize("name", ["one", "carried", "time major"])
def test_micro_gives_what_integers_give(float_files, name, cell):
    """In every bit, several calls in a row; ranges are too small for some inputs, which are cut."""
    tflite, _ = quantized(float_files[name], cell=cell)
    stored, scales = stored_in(tflite)
    assert {str(stored[each].dtype) for each in stored} == {"int8", "int64"}
    assert np.log2(scales["cell_state"]) == np.clip(np.ceil(np.log2(cell / 32767)), -15, -9)
    turn = (lambda x: x.swapaxes(0, 1)) if name == "time major" else (lambda x: x)
    given = trial.outputs_on_micro(tflite, [{"x": turn(each["x"])} for each in calls(size=2.0)])
    h = c = np.zeros((BATCH, UNITS), np.int64)
    for call, outputs in zip(calls(size=2.0), given, strict=True):
        x = np.clip(np.rint(call["x"] / np.float32(scales["input"])), -32768, 32767).astype(np.int16)
        wanted, h, c = micro_lstm.lstm(stored, scales, x, h, c)
        (output,) = outputs.values()
        np.testing.assert_array_equal(np.rint(turn(output) / scales["output_state"]), wanted)
        if name != "carried":
            h = c = 0 * h


@micro_only
@pytest.mark.parametrize("name", ["one", "carried", "time major", "stack"])
def test_it_is_near_the_float_file(float_files, name):
    """int8 weights with one scale a matrix cost most of it; int8 throughout is at 3 to 4 percent."""
    tflite, count = quantized(float_files[name])
    assert count == (2 if name == "stack" else 1)
    samples = [{"x": each["x"].swapaxes(0, 1)} for each in calls(6)] if name == "time major" else calls(6)
    (output,) = compare_files(float_files[name], tflite, samples)
    assert output.relative_error < 0.02


def test_litert_refuses_it_by_name_and_micro_does_not(float_files):
    tflite, _ = quantized(float_files["one"])
    assert runs_on_micro_alone(tflite)
    assert not runs_on_micro_alone(float_files["one"])
    (found,) = lt.diagnose(tflite, target="litert")
    assert found.code == "int16-lstm"
    assert "LiteRT has no kernel" in found.message
    assert lt.diagnose(tflite, target="micro") == ()
    with pytest.raises(lt.errors.InvalidModelError, match="UNIDIRECTIONAL_SEQUENCE_LSTM"):
        lt.Runner(tflite)


def test_what_is_in_the_file(float_files):
    tflite, _ = quantized(float_files["one"])
    summary, before = lt.inspect(tflite), lt.inspect(float_files["one"])
    (node,), (old,) = summary.lstm_nodes, before.lstm_nodes
    assert (node.state, node.units) == ("reset", UNITS)
    for name, values in old.weights.operands():
        stored = dict(node.weights.operands())[name]
        assert np.abs(stored - values).max() <= 0.51 * np.abs(values).max() / 127


@micro_only
def test_micro_is_tried_and_measured(float_files):
    from lstm_toolkit.micro import micro_report

    tflite, _ = quantized(float_files["one"])
    assert lt.diagnose(tflite, target="micro", run=True) == ()
    assert 0 < micro_report(tflite).arena_size < 20_000


def test_biases_beside_weights_of_zero(float_files):
    model = files.read_model(float_files["one"])
    (op,) = recurrent_ops(model)
    for name in ("input_to_cell_weights", "recurrent_to_cell_weights"):
        model.buffers[op.tensor(name).buffer].data = np.zeros(4 * np.prod(op.tensor(name).shape), np.uint8)
    before = files.write_model(model)
    tflite, _ = quantized(before)
    stored, _ = stored_in(tflite)
    assert not stored["input_to_cell_weights"].any()
    assert 0 < np.abs(stored["cell_gate_bias"]).max() < 2**41
    if trial.is_installed("micro"):
        assert compare_files(before, tflite, calls())[0].relative_error < 0.02


def test_sums_that_overflow_are_refused(float_files):
    with pytest.raises(ConversionError, match=r"layer 'first' cannot be int16x8: its inputs reach 1\.05e\+06"):
        quantized(float_files["one"], input=1e6)
    quantized(float_files["one"], input=1e3)
