"""Inputs and outputs of 8 and 16 bits, of int8 files and of float ones: the same numbers as behind float edges.

Oracle: the file with float inputs and outputs, called here, and NumPy for what is between its numbers and integers.
"""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import lstm_toolkit as lt
from lstm_toolkit.quantization import quantize
from lstm_toolkit.quantization_view import quantization_view
from lstm_toolkit.runtime import trial
from lstm_toolkit.tflite import edit, files
from tests.helpers.files import op_counts
from tests.helpers.models import randomized
from tests.helpers.schema_models import empty_model

TIME, INPUTS, UNITS, BATCH = 7, 4, 5, 2
RESOLVERS = OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
micro_only = pytest.mark.skipif(not trial.is_installed("micro"), reason="tflite-micro has no wheel for this platform")


@pytest.fixture(scope="module")
def float_file():
    """One file with a token input, a float input that is an output too, and a state that lives on and is given back."""
    x, tokens = keras.Input((TIME, INPUTS), batch_size=BATCH, name="x"), keras.Input((TIME,), BATCH, "int32", name="t")
    both = keras.layers.Concatenate()([x, keras.layers.Embedding(300, 3)(tokens)])
    sequence = keras.layers.LSTM(UNITS, return_sequences=True, stateful=True)(both)
    outputs = {"sequence": sequence, "score": keras.layers.Dense(3)(sequence[:, -1]), "same": x}
    model = randomized(keras.Model([x, tokens], outputs))
    return lt.convert(model, bidirectional="split", verify=False).tflite


@pytest.fixture(scope="module")
def samples():
    random = np.random.default_rng(7)
    draw = (random.normal(size=(60, BATCH, TIME, INPUTS)), random.integers(0, 300, (60, BATCH, TIME)))
    return [{"x": x.astype(np.float32), "t": t.astype(np.int32)} for x, t in zip(*draw, strict=True)]


def made(float_file, samples, kind, *io_dtypes):
    return quantize.quantize(float_file, kind, samples, calibrate=True, io_dtypes=io_dtypes)


def results(tflite, calls, resolver=OpResolverType.AUTO):
    """Raw outputs by name for calls in a row, and scale and zero point of each input and output."""
    interpreter = Interpreter(model_content=tflite, experimental_op_resolver_type=resolver)
    runner = interpreter.get_signature_runner()
    details = {**runner.get_input_details(), **runner.get_output_details()}
    return [runner(**call) for call in calls], {name: each["quantization"] for name, each in details.items()}


def integers(value, dtype, scale, zero_point):
    limits = np.iinfo(dtype)
    return np.clip(np.rint(value / np.float64(scale)) + zero_point, limits.min, limits.max).astype(dtype)


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("kind", ["int8", None])
def test_uint8_has_the_numbers_of_int8_and_128(float_file, samples, kind, resolver):
    narrow, wide = (made(float_file, samples, kind, each, each)[0] for each in ("int8", "uint8"))
    _, scales = results(narrow, [])
    calls = [{"x": integers(each["x"], np.int8, *scales["x"]), "t": each["t"]} for each in samples[:3]]
    shifted = [{"x": (call["x"].astype(int) + 128).astype(np.uint8), "t": call["t"]} for call in calls]
    (one, _), (other, shifted_scales) = results(narrow, calls, resolver), results(wide, shifted, resolver)
    assert shifted_scales["x"] == (scales["x"][0], scales["x"][1] + 128)
    for wanted, given in zip(one, other, strict=True):
        for name, array in wanted.items():
            assert (array.dtype, given[name].dtype) == (np.int8, np.uint8)
            np.testing.assert_array_equal(array.astype(int) + 128, given[name])
    assert len(np.unique(one[-1]["sequence"])) > 30


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_a_float_file_takes_what_the_integers_stand_for(float_file, samples, dtype):
    """Bit for bit; and the outputs are the nearest integers, a half up or down."""
    tflite, report = made(float_file, samples, None, dtype, dtype)
    _, scales = results(tflite, [])
    stored = [{"x": integers(each["x"], dtype, *scales["x"]), "t": each["t"]} for each in samples[:3]]
    scale, zero_point = scales["x"]
    real = [{"x": (np.float32(scale) * (c["x"].astype(np.float32) - zero_point)), "t": c["t"]} for c in stored]
    (given, _), (wanted, _) = results(tflite, stored, RESOLVERS[1]), results(float_file, real, RESOLVERS[1])
    for call, one, other in zip(stored, given, wanted, strict=True):
        for name in ("sequence", "score"):
            exact = other[name] / np.float64(scales[name][0]) + scales[name][1]
            limits = np.iinfo(dtype)
            assert np.abs(one[name] - np.clip(exact, limits.min, limits.max)).max() <= 0.5001
        np.testing.assert_array_equal(one["same"], call["x"])
    assert report.kind == f"{dtype} inputs and {dtype} outputs"
    assert report.relative_error < {"int16": 2e-4}.get(dtype, 0.03)
    assert report.held_out
    assert report.samples == 12


def test_inputs_alone(float_file, samples):
    tflite, report = made(float_file, samples, None, "int8", "float32")
    given, scales = results(tflite, [{"x": np.zeros((BATCH, TIME, INPUTS), np.int8), "t": samples[0]["t"]}])
    assert scales["score"] == (0.0, 0)
    assert given[0]["score"].dtype == np.float32
    assert op_counts(tflite) - op_counts(float_file) == {"DEQUANTIZE": 1}
    assert report.kind == "int8 inputs"
    assert "Quantization to int8 inputs, against float on 12 held-out samples" in str(report)


def test_the_file_keeps_names_and_its_inputs_of_integers(float_file, samples):
    tflite = made(float_file, samples, "dynamic", "uint8", "int16")[0]
    before, after = (files.read_model(each).subgraphs[0] for each in (float_file, tflite))
    for side in ("inputs", "outputs"):
        names = [{graph.tensors[index].name for index in getattr(graph, side)} for graph in (before, after)]
        # A tensor that was an input and an output is two.
        assert names[0] - {b"serving_default_x:0"} <= names[1]
    assert after.tensors[after.inputs[0]].name == b"serving_default_x:0"
    runner = lt.Runner(tflite)
    assert runner.input_dtypes == {"x": np.uint8, "t": np.int32}
    assert set(lt.Runner(float_file).state) == set(runner.state)
    calls = [runner.dequantized(runner.outputs(**runner.quantized(each))) for each in samples[:3]]
    wanted = [lt.Runner(float_file).outputs(**samples[0])]
    np.testing.assert_allclose(calls[0]["sequence"], wanted[0]["sequence"], atol=0.05)


def test_held_out_samples_beyond_the_ranges_are_told_of(float_file, samples):
    """In order, since the file carries its state: the last fifth is held out."""
    larger = [each | {"x": each["x"] * (1 if number < 48 else 3)} for number, each in enumerate(samples)]
    with pytest.warns(quantize.QuantizationWarning, match="held-out"):
        _, report = made(float_file, larger, None, "uint8", "float32")
    assert "12 of the 12 held-out samples go beyond the ranges" in " ".join(report.warnings)


def test_the_view_from_inside_has_the_edges(float_file, samples):
    tflite = made(float_file, samples, "int8", "uint8", "uint8")[0]
    view = quantization_view(tflite, float_file, samples[:4])
    shown = {each.name: each for each in view.computed}
    (edge,) = [each for name, each in shown.items() if name.endswith("_x:0")]
    assert edge.dtype == "uint8"
    assert 0.5 < edge.used <= 1


@micro_only
@pytest.mark.parametrize("kind", ["int8", None])
@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_micro_computes_the_same(kind, dtype):
    model = randomized(keras.Sequential([keras.Input((TIME, INPUTS)), keras.layers.LSTM(UNITS)]))
    data = np.random.default_rng(1).normal(size=(20, TIME, INPUTS)).astype(np.float32)
    options = {"quantization": kind, "representative_dataset": data, "verify": False}
    tflite = lt.convert(model, target="micro", io_dtype=dtype, **options).tflite
    runner = lt.Runner(tflite)
    (name,) = runner.input_shapes
    calls = [runner.quantized({name: each[np.newaxis]}) for each in data[:3]]
    (wanted,), (given,) = (trial.run_on(runtime, [(tflite, calls)]) for runtime in ("litert", "micro"))
    assert given.refused is None
    for one, other in zip(wanted.outputs, given.outputs, strict=True):
        difference = np.abs(one["output_0"].astype(int) - other["output_0"])
        # A step, or what a step of int8 is in int16.
        assert difference.max() <= (1 if dtype == "uint8" else 300)
        assert len(np.unique(one["output_0"])) > 2


@micro_only
def test_micro_takes_uint8_to_int8_and_back_alone():
    """A fact about its kernels, for which a uint8 input or output stands beyond one of int8."""
    types = {"f": schema.TensorType.FLOAT32, "i": schema.TensorType.INT8, "u": schema.TensorType.UINT8}
    types["h"] = schema.TensorType.INT16
    refused = {}
    for one, other in ("ui", "iu", "ih", "hi", "fi", "fh", "fu", "uh", "hu"):
        model = empty_model()
        main = model.subgraphs[0]
        main.inputs, main.outputs = [edit.add_tensor(main, one, [1, 4], dtype=types[one])], [1]
        edit.add_tensor(main, other, [1, 4], dtype=types[other])
        for tensor in main.tensors:
            tensor.quantization = schema.QuantizationParametersT(scale=[0.5], zeroPoint=[0])
        main.operators = [edit.new_operator(model, "QUANTIZE", main.inputs, main.outputs)]
        tflite = files.write_model(model)
        (done,) = trial.run_on("micro", [(tflite, trial.random_calls(tflite, count=1))])
        refused[one + other] = done.refused is not None
    assert {pair for pair, is_refused in refused.items() if is_refused} == {"fu", "uh", "hu"}
