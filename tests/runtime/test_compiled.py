"""`Runner(runtime="compiled")`: the same call, names, checks and results as on the interpreter.

Oracles: Keras's own layers; for what is refused, the text of the message.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

import lstm_toolkit
from lstm_toolkit import Runner
from lstm_toolkit.errors import InvalidModelError
from tests.helpers.models import randomized

TOLERANCE = {"atol": 1e-5, "rtol": 0}
BATCH, TIME, INPUTS, UNITS = 3, 9, 5, 7
L = keras.layers


def lstm(*, time=TIME, seed=1, **options):
    layers = [L.LSTM(UNITS, return_sequences=True), L.LSTM(4)]
    model = randomized(keras.Sequential([keras.Input((time, INPUTS), name="x"), *layers]), seed=seed)
    return model, lstm_toolkit.convert(model, batch_size=BATCH, verify=False, **options)


@pytest.fixture(scope="module")
def unrolled():
    return lstm(lowering="unrolled")


def draw(random, time=TIME):
    return random.normal(size=(BATCH, time, INPUTS)).astype(np.float32)


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_outputs_are_those_of_keras(random, unrolled, num_threads, xnnpack):
    model, conversion = unrolled
    runner = Runner(conversion.tflite, runtime="compiled", num_threads=num_threads, xnnpack=xnnpack)
    for _ in range(3):
        x = draw(random)
        np.testing.assert_allclose(runner(x), model(x), **TOLERANCE)


def test_names_shapes_and_options_are_those_of_the_interpreter(unrolled):
    _, conversion = unrolled
    runner, other = Runner(conversion.tflite, runtime="compiled"), Runner(conversion.tflite)
    assert runner.input_shapes == other.input_shapes == {"x": (BATCH, TIME, INPUTS)}
    assert runner.input_dtypes == other.input_dtypes
    assert runner.output_names == other.output_names
    assert runner.tflite == conversion.tflite
    assert runner.options["runtime"] == "compiled"
    assert other.options["runtime"] == "interpreter"


def test_several_inputs_and_outputs_by_name(random):
    """Names whose order is neither that of the alphabet nor that of the file's outputs."""
    z, a, state = keras.Input((TIME, INPUTS), name="z"), keras.Input((2,), name="a"), keras.Input((UNITS,), name="m")
    y, h, c = L.LSTM(UNITS, return_sequences=True, return_state=True)(z, initial_state=[state, state])
    model = randomized(keras.Model([z, a, state], {"late": c, "early": y, "middle": L.Dense(3)(a), "h": h}))
    conversion = lstm_toolkit.convert(model, lowering="unrolled", batch_size=BATCH)
    arrays = {"z": draw(random), "a": random.normal(size=(BATCH, 2)), "m": random.normal(size=(BATCH, UNITS))}
    given = Runner(conversion.tflite, runtime="compiled")(**arrays)
    wanted = model({name: value.astype(np.float32) for name, value in arrays.items()})
    assert set(given) == set(Runner(conversion.tflite).output_names)
    for name, value in wanted.items():
        np.testing.assert_allclose(given[name], value, **TOLERANCE, err_msg=name)


def test_an_output_is_a_copy(random, unrolled):
    _, conversion = unrolled
    runner = Runner(conversion.tflite, runtime="compiled")
    first = runner(draw(random))
    kept = first.copy()
    assert np.abs(runner(draw(random)) - kept).max() > 1e-3
    np.testing.assert_array_equal(first, kept)


def test_open_time_at_any_length(random):
    model, conversion = lstm(time=None, lowering="loop")
    runner = Runner(conversion.tflite, runtime="compiled")
    assert runner.input_shapes == {"x": (BATCH, -1, INPUTS)}
    for time in (TIME, 1, 31, 12, 12):
        x = draw(random, time)
        np.testing.assert_allclose(runner(x), model(x), **TOLERANCE, err_msg=str(time))


def test_an_open_output_is_refused_and_auto_runs_it_on_the_interpreter(random):
    """CompiledModel writes beyond the buffer of such an output, which ends the process or gives one step of many."""
    model = randomized(keras.Sequential([keras.Input((None, INPUTS), name="x"), L.LSTM(UNITS, return_sequences=True)]))
    file = lstm_toolkit.convert(model, batch_size=BATCH, lowering="loop", verify=False).tflite
    with pytest.raises(InvalidModelError, match=r"output 'output_0' has an open size.*time_steps"):
        Runner(file, runtime="compiled")
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, lowering="auto")
    automatic = conversion.report.automatic
    assert automatic.chosen.runtime == "interpreter"
    compiled = [trial.reason for trial in automatic.trials if trial.candidate.runtime == "compiled"]
    assert any("has an open size" in reason for reason in compiled), compiled
    for time in (TIME, 1, 31):
        x = draw(random, time)
        np.testing.assert_allclose(conversion.runner()(x), model(x), **TOLERANCE, err_msg=str(time))


def test_tokens_are_integers(random):
    layers = [L.Embedding(11, INPUTS), L.LSTM(UNITS)]
    model = randomized(keras.Sequential([keras.Input((TIME,), dtype="int32"), *layers]))
    conversion = lstm_toolkit.convert(model, lowering="unrolled", batch_size=BATCH)
    tokens = random.integers(0, 11, (BATCH, TIME)).astype(np.int32)
    np.testing.assert_allclose(Runner(conversion.tflite, runtime="compiled")(tokens), model(tokens), **TOLERANCE)


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_int8_weights_have_a_scale_a_row(random, runtime, xnnpack):
    """One row has weights a thousand times larger: with one scale for all, the others would be nearly 0."""
    model = randomized(keras.Sequential([keras.Input((TIME, INPUTS)), L.LSTM(40), L.Dense(40)]))
    kernel, bias = model.layers[-1].get_weights()
    kernel[:, 17] *= 1000
    model.layers[-1].set_weights([kernel, bias])
    tflite = lstm_toolkit.convert(model, lowering="unrolled", quantization="dynamic", verify=False).tflite
    x = random.normal(size=(1, TIME, INPUTS)).astype(np.float32)
    wanted, given = np.asarray(model(x))[0], Runner(tflite, runtime=runtime, xnnpack=xnnpack)(x)[0]
    others = np.arange(40) != 17
    assert np.abs(wanted[others]).max() > 0.3
    assert np.abs(given - wanted)[others].max() < 0.03 * np.abs(wanted[others]).max()


def test_many_models_of_one_process_keep_their_weights(random):
    """A weight cache that two files share gives the results of the wrong one."""
    x, made = draw(random), [lstm(lowering="unrolled", seed=seed) for seed in (1, 2)]
    runners = [Runner(conversion.tflite, runtime="compiled") for _, conversion in made]
    for _ in range(2):
        for runner, (model, _) in zip(runners, made, strict=True):
            np.testing.assert_allclose(runner(x), model(x), **TOLERANCE)
    assert np.abs(runners[0](x) - runners[1](x)).max() > 1e-2


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_any_layout_in_memory(random, unrolled, runtime):
    model, conversion = unrolled
    x, runner = draw(random), Runner(conversion.tflite, runtime=runtime)
    backwards = np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    for each in (np.asfortranarray(x), backwards, x.astype(np.float64), x.tolist(), x.astype(">f4")):
        np.testing.assert_allclose(runner(each), model(x), **TOLERANCE)


def test_bound_calls_are_those_of_the_runner(random, unrolled):
    model, conversion = unrolled
    x = draw(random)
    given = x.copy()
    invoke, call = Runner(conversion.tflite, runtime="compiled").bound(x=given)
    given[:] = 0
    invoke()
    np.testing.assert_allclose(call()[0], model(x), **TOLERANCE)


def test_there_is_no_state(unrolled):
    runner = Runner(unrolled[1].tflite, runtime="compiled")
    runner.reset()
    assert runner.state == {}
    with pytest.raises(ValueError, match=r"carries the states \[\], got \['h'\]"):
        runner.state = {"h": np.zeros(3)}


def test_nothing_is_printed_in_the_middle_of_a_program(unrolled, tmp_path):
    path = tmp_path / "model.tflite"
    unrolled[1].save(path)
    code = (
        "import sys, numpy as np\nfrom lstm_toolkit import Runner\n"
        f"runner = Runner({str(path)!r}, runtime='compiled')\n"
        f"runner(np.zeros(({BATCH}, {TIME}, {INPUTS})))\nsys.stderr.write('the end\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == ""
    assert done.stderr.startswith("the end\n")
    # LiteRT has no switch for the lines that it prints as the process ends.
    assert all("DestroyAccelerator" in line for line in done.stderr.splitlines()[1:])


# What is refused


def test_variable_tensors_are_refused_with_the_remedy():
    _, conversion = lstm()
    reason = r"state of UNIDIRECTIONAL_SEQUENCE_LSTM is in variable tensors.*lowering=\"unrolled\" or \"loop\".*lower"
    with pytest.raises(InvalidModelError, match=reason):
        Runner(conversion.tflite, runtime="compiled")


def test_a_dtype_that_no_buffer_holds_is_refused(unrolled):
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(unrolled[1].tflite))
    graph = model.subgraphs[0]
    graph.tensors.append(schema.TensorT())
    graph.tensors[-1].name, graph.tensors[-1].shape = b"count", [1]
    graph.tensors[-1].type, graph.tensors[-1].buffer = schema.TensorType.INT64, 0
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = b"count", len(graph.tensors) - 1
    model.signatureDefs[0].inputs = [*model.signatureDefs[0].inputs, entry]
    graph.inputs = [*graph.inputs, entry.tensorIndex]
    tflite = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    assert Runner(tflite).input_dtypes["count"] == np.int64
    with pytest.raises(InvalidModelError, match=r"'count' is int64, and CompiledModel takes.*runtime=\"interpreter\""):
        Runner(tflite, runtime="compiled")


def test_a_custom_op_is_refused_with_its_name(unrolled):
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(unrolled[1].tflite))
    tanh = next(code for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.TANH)
    tanh.builtinCode = tanh.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    tanh.customCode = b"NoSuchOp"
    with pytest.raises(InvalidModelError, match=r"cannot run this model: .*"):
        Runner(bytes(flatbuffer_utils.convert_object_to_bytearray(model)), runtime="compiled")


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_inputs_that_do_not_fit_are_refused(unrolled, runtime):
    runner = Runner(unrolled[1].tflite, runtime=runtime)
    with pytest.raises(ValueError, match=r"input 'x' has shape \[3, 9, 5\] \(-1 is any\), got \[3, 8, 5\]"):
        runner(np.zeros((BATCH, TIME - 1, INPUTS)))
    with pytest.raises(ValueError, match="input 'x' is float32, got complex128"):
        runner(np.zeros((BATCH, TIME, INPUTS), complex))
    with pytest.raises(ValueError, match=r"has the inputs \['x'\], got \['y'\]"):
        runner(y=np.zeros((BATCH, TIME, INPUTS)))


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_damaged_bytes_are_refused(unrolled, runtime):
    with pytest.raises(InvalidModelError):
        Runner(b"\0\0\0\0TFL3" + bytes(range(200)), runtime=runtime)
    with pytest.raises(InvalidModelError):
        Runner(unrolled[1].tflite[:3000], runtime=runtime)


def test_an_unknown_runtime_is_refused(unrolled):
    with pytest.raises(ValueError, match="runtime must be one of interpreter, compiled, got 'gpu'"):
        Runner(unrolled[1].tflite, runtime="gpu")
