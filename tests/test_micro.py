"""TensorFlow Lite Micro: converted files on its interpreter, the ops to register, the arena, and the C array.

Oracle: the LiteRT interpreter without XNNPACK, called here; for float also Keras, or `reference.lstm` in float64.
"""

import json
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils
from click.testing import CliRunner

import lstm_toolkit
from lstm_toolkit import GateWeights, cli, lingvo
from lstm_toolkit.errors import InvalidModelError, LstmToolkitError
from lstm_toolkit.micro import c_array, method_name, micro_report, save_c_array
from lstm_toolkit.quantization import quantize
from lstm_toolkit.runtime import trial
from lstm_toolkit.runtime.targets import MICRO_OPS
from lstm_toolkit.weights import reference
from tests.helpers.micro_runs import on_micro
from tests.helpers.models import randomized
from tests.helpers.weights import random_operands

micro_only = pytest.mark.skipif(not trial.is_installed("micro"), reason="tflite-micro has no wheel for this platform")

TIME, INPUTS, UNITS = 9, 5, 7
L = keras.layers


def sequences(*layers, **options):
    return randomized(keras.Sequential([keras.Input((TIME, INPUTS), **options), *layers]))


def with_initial_state():
    x, h, c = keras.Input((TIME, INPUTS)), keras.Input((UNITS,)), keras.Input((UNITS,))
    outputs = L.LSTM(UNITS, return_sequences=True, return_state=True)(x, initial_state=[h, c])
    return randomized(keras.Model([x, h, c], outputs))


def two_branches():
    x = keras.Input((TIME, INPUTS))
    branches = [L.LSTM(UNITS)(x), L.LSTM(4, go_backwards=True)(x)]
    return randomized(keras.Model(x, L.Dense(3, activation="softmax")(L.Concatenate()(branches))))


def variant(**there):
    flags = dict.fromkeys(("cifg", "peephole", "projection", "layer_norm"), False) | there
    return GateWeights.from_operands(random_operands(np.random.default_rng(3), **flags))


def coupled_cell():
    cell = lingvo.LSTMCellSimple(
        num_input_nodes=INPUTS, num_output_nodes=UNITS, couple_input_forget_gates=True, cell_value_cap=0.8
    )
    return lingvo.RNN(cell)


LOOPS = {
    "gru": lambda: sequences(L.GRU(UNITS, return_sequences=True), L.GRU(4, reset_after=False)),
    "gru, both ways": lambda: sequences(L.Bidirectional(L.GRU(UNITS))),
    "simple": lambda: sequences(L.SimpleRNN(UNITS, return_sequences=True)),
    "relu": lambda: sequences(L.LSTM(UNITS, activation="relu", return_sequences=True)),
    "hard gates": lambda: sequences(L.LSTM(UNITS, recurrent_activation="hard_sigmoid")),
    "peephole": lambda: variant(peephole=True),
    "projection": lambda: variant(projection=True),
    "layer normalization": lambda: variant(layer_norm=True),
    "everything": lambda: variant(cifg=True, peephole=True, projection=True, layer_norm=True),
    "diagonal": lambda: variant(diagonal=True),
}
"""Models with a layer that the kernel of Micro does not take."""

FUSED = {
    "sequence": lambda: sequences(L.LSTM(UNITS, return_sequences=True)),
    "last step, no bias": lambda: sequences(L.LSTM(UNITS, use_bias=False)),
    "dense": lambda: sequences(L.LSTM(UNITS), L.Dense(3, activation="softmax")),
    "stacked": lambda: sequences(L.LSTM(UNITS, return_sequences=True), L.LSTM(4), L.Dense(3)),
    "backwards": lambda: sequences(L.LSTM(UNITS, return_sequences=True, go_backwards=True)),
    "both ways": lambda: sequences(L.Bidirectional(L.LSTM(UNITS, return_sequences=True))),
    "both ways, summed": lambda: sequences(L.Bidirectional(L.LSTM(UNITS), merge_mode="sum")),
    "both ways, stacked": lambda: sequences(L.Bidirectional(L.LSTM(UNITS, return_sequences=True)), L.LSTM(4)),
    "two branches": two_branches,
    "dense before": lambda: sequences(L.Dense(6, activation="relu"), L.LSTM(UNITS, return_sequences=True)),
    "convolution": lambda: sequences(L.Conv1D(6, 3, padding="same"), L.LSTM(UNITS, return_sequences=True)),
    "distributed": lambda: sequences(L.LSTM(UNITS, return_sequences=True), L.TimeDistributed(L.Dense(3))),
    "stateful": lambda: sequences(L.LSTM(UNITS, return_sequences=True, stateful=True), batch_size=2),
    "plain weights": variant,
    "coupled": lambda: variant(cifg=True),
    "coupled, clipped": coupled_cell,
}
"""Models that become fused ops that the kernel takes, in float and in int8."""

FLOAT = FUSED | LOOPS | {"initial state": with_initial_state}
OPTIONS = {
    "sequence": {"batch_size": 2, "time_major": True},
    "stacked": {"batch_size": 2},
    "both ways": {"batch_size": 2},
    "gru": {"batch_size": 2},
    "everything": {"batch_size": 2, "time_major": True},
    "coupled": {"batch_size": 2, "state": "carry"},
    "gru, both ways": {"state": "explicit"},
}
IO_DTYPES = dict.fromkeys(("dense", "two branches", "both ways, stacked"), "int8")


def built(name):
    model = FLOAT[name]()
    options = {"time_steps": TIME} if isinstance(model, (GateWeights, lingvo.RNN)) else {}
    if isinstance(model, lingvo.RNN):
        random = np.random.default_rng(4)
        cell = model.cell
        cell.load_theta({key: random.normal(0, 0.6, np.shape(value)) for key, value in cell.theta.items()})
    return model, options | OPTIONS.get(name, {})


def calls_for(tflite, seed=5):
    """Random inputs of three calls, in the order of the file's inputs."""
    interpreter, random = Interpreter(model_content=tflite), np.random.default_rng(seed)
    calls = []
    for _ in range(3):
        arrays = []
        for details in interpreter.get_input_details():
            values = random.normal(size=details["shape"])
            scale, zero_point = details["quantization"]
            if scale:
                values = np.clip(np.rint(values / scale) + zero_point, -128, 127)
            arrays.append(values.astype(details["dtype"]))
        calls.append(arrays)
    return calls


def on_litert(tflite, calls, resolver=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
    """The outputs of the calls in a row on one interpreter, in the order of the file's outputs."""
    interpreter = Interpreter(model_content=tflite, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    results = []
    for arrays in calls:
        for details, array in zip(interpreter.get_input_details(), arrays, strict=True):
            interpreter.set_tensor(details["index"], array)
        interpreter.invoke()
        results.append([interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()])
    return results


@pytest.fixture(scope="module")
def float_files():
    models = {name: built(name) for name in FLOAT}
    return {
        name: (model, lstm_toolkit.convert(model, target="micro", verify=False, **options))
        for name, (model, options) in models.items()
    }


def int8_samples(tflite):
    """Twenty samples for a float file, by input name."""
    shapes, random = lstm_toolkit.Runner(tflite).input_shapes, np.random.default_rng(6)
    return [{name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(20)]


@pytest.fixture(scope="module")
def int8_files(float_files):
    """The float files for Micro, quantized as `convert` does it."""
    files = {}
    for name in FUSED:
        tflite = float_files[name][1].tflite
        kind, samples = IO_DTYPES.get(name, "float32"), int8_samples(tflite)
        files[name] = quantize.quantize(tflite, "int8", samples, calibrate=True, io_dtypes=(kind, kind))[0]
    return files


@pytest.fixture(scope="module")
def micro_outputs(tmp_path_factory, float_files, int8_files):
    if not trial.is_installed("micro"):
        pytest.skip("tflite-micro has no wheel for this platform")
    files = {f"float {name}": conversion.tflite for name, (_, conversion) in float_files.items()}
    files |= {f"int8 {name}": tflite for name, tflite in int8_files.items()}
    return on_micro(tmp_path_factory.mktemp("micro"), {name: (each, calls_for(each)) for name, each in files.items()})


def test_enough_models():
    assert len(FUSED) >= 15
    assert len(FLOAT) >= 25


@pytest.mark.parametrize("name", FLOAT)
def test_float_on_micro_equals_litert_call_by_call(float_files, micro_outputs, name):
    tflite = float_files[name][1].tflite
    for given, wanted in zip(micro_outputs[f"float {name}"], on_litert(tflite, calls_for(tflite)), strict=True):
        for one, other in zip(given, wanted, strict=True):
            assert np.abs(other).max() > 0.05
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def output_steps(tflite):
    """The step of each output in its own unit: 1 of an integer, the scale behind which a float one was rounded."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    graph, steps = model.subgraphs[0], []
    for index in graph.outputs:
        if graph.tensors[index].type == schema.TensorType.INT8:
            steps.append(1.0)
            continue
        (source,) = [op.inputs[0] for op in graph.operators if index in op.outputs]
        steps.append(float(graph.tensors[source].quantization.scale[0]))
    return steps


@pytest.mark.parametrize("name", FUSED)
def test_int8_on_micro_is_within_a_step_of_litert_call_by_call(int8_files, micro_outputs, name):
    tflite = int8_files[name]
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    assert any(tensor.type == schema.TensorType.INT16 for tensor in model.subgraphs[0].tensors)  # the cell state
    steps = output_steps(tflite)
    # LiteRT's optimized int8 convolution rounds otherwise than its reference: up to two steps behind an LSTM.
    kernels = {"resolver": OpResolverType.BUILTIN_REF} if name == "convolution" else {}
    wanted_outputs = on_litert(tflite, calls_for(tflite), **kernels)
    for given, wanted in zip(micro_outputs[f"int8 {name}"], wanted_outputs, strict=True):
        for one, other, step in zip(given, wanted, steps, strict=True):
            assert len(np.unique(other)) > 2
            assert np.abs(one.astype(np.float64) - other).max() <= 1.001 * step


@pytest.mark.parametrize("name", [name for name in FLOAT if OPTIONS.get(name, {}).get("state") is None])
def test_the_form_for_micro_computes_what_the_model_does(float_files, name):
    model, conversion = float_files[name]
    options = OPTIONS.get(name, {})
    calls = calls_for(conversion.tflite)[:1]
    turn = (lambda x: x.swapaxes(0, 1)) if options.get("time_major") else (lambda x: x)
    runner = conversion.runner()
    (arrays,) = calls
    if isinstance(model, keras.Model):
        given = dict(zip((tensor.name for tensor in model.inputs), arrays, strict=True))
        outputs = runner(**given)
        inputs = [turn(array) if array.ndim == 3 else array for array in arrays]
        wanted = keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0]))
        outputs = [outputs[f"output_{k}"] for k in range(len(wanted))] if isinstance(outputs, dict) else [outputs]
        for one, other in zip(outputs, wanted, strict=True):
            np.testing.assert_allclose(turn(one) if one.ndim == 3 else one, other, rtol=0, atol=1e-5)
    elif isinstance(model, lingvo.RNN):
        np.testing.assert_allclose(runner(arrays[0]), model(arrays[0]), rtol=0, atol=1e-5)
    else:
        wanted = reference.lstm(model, turn(arrays[0]).astype(np.float64))[0]
        np.testing.assert_allclose(turn(runner(arrays[0])), wanted, rtol=0, atol=1e-5)


def test_a_coupled_gate_gets_one_of_its_own_that_is_equal(float_files):
    """Carried from call to call, in pieces of a longer sequence."""
    weights, conversion = float_files["coupled"]
    assert conversion.report.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    (node,) = lstm_toolkit.inspect(conversion.tflite).lstm_nodes
    x = np.random.default_rng(8).normal(size=(2, 3 * TIME, INPUTS)).astype(np.float32)
    runner = conversion.runner()
    pieces = [runner(piece) for piece in np.split(x, 3, axis=1)]
    wanted = reference.lstm(weights, x.astype(np.float64))[0]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), wanted, rtol=0, atol=1e-5)
    assert node.units == UNITS


@pytest.mark.parametrize("name", ["coupled", "both ways, stacked"])
def test_convert_gives_these_int8_files(float_files, int8_files, name):
    model, options = built(name)
    samples = [list(sample.values()) for sample in int8_samples(float_files[name][1].tflite)]
    kind = IO_DTYPES.get(name, "float32")
    options |= {"quantization": "int8", "representative_dataset": samples, "io_dtype": kind}
    conversion = lstm_toolkit.convert(model, target="micro", verify=False, **options)
    calls = calls_for(conversion.tflite)
    for one, other in zip(on_litert(conversion.tflite, calls), on_litert(int8_files[name], calls), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["stateful", "coupled", "sequence"])
def test_state_lives_on_micro_where_it_is_to(tmp_path, float_files, name):
    """Two calls on equal inputs, the second from where the first one ended, or from zero again."""
    if not trial.is_installed("micro"):
        pytest.skip("tflite-micro has no wheel for this platform")
    tflite = float_files[name][1].tflite
    call = calls_for(tflite)[0]
    (first, second) = on_micro(tmp_path, {name: (tflite, [call, call])})[name]
    assert (np.abs(first[0] - second[0]).max() > 0.01) == (name != "sequence")


@pytest.mark.parametrize("name", FLOAT)
def test_which_form_was_chosen(float_files, name):
    report = float_files[name][1].report
    assert set(report.ops) <= MICRO_OPS
    loops = report.ops["WHILE"]
    assert bool(loops) == (name in LOOPS)
    assert bool(report.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"]) == (name not in LOOPS)
    for layer in report.layers:
        assert bool(layer.reason) == (name in LOOPS)
        assert layer.op == ("loop" if name in LOOPS else "UNIDIRECTIONAL_SEQUENCE_LSTM")


# The report


@micro_only
def test_report(float_files, tmp_path):
    tflite = float_files["dense"][1].tflite
    report = micro_report(tflite)
    assert report.file_size == len(tflite)
    # The kernels of four gates from 5 inputs and 7 units with biases, and of a dense layer.
    weights = 4 * (4 * (UNITS * INPUTS + UNITS * UNITS + UNITS) + 3 * UNITS + 3)
    assert weights <= report.constant_size < weights + 200  # the others say where slices start, and the like
    assert dict(report.ops) == {
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
        "STRIDED_SLICE": 1,
        "UNIDIRECTIONAL_SEQUENCE_LSTM": 1,
        "ZEROS_LIKE": 2,
    }
    assert report.resolver == (
        "tflite::MicroMutableOpResolver<5> resolver;\n"
        "resolver.AddFullyConnected();\n"
        "resolver.AddSoftmax();\n"
        "resolver.AddStridedSlice();\n"
        "resolver.AddUnidirectionalSequenceLSTM();\n"
        "resolver.AddZerosLike();\n"
    )
    assert json.loads(json.dumps(report.to_dict()))["arena_size"] == report.arena_size
    assert f"{report.arena_size:,}" in str(report)
    (tmp_path / "model.tflite").write_bytes(tflite)
    program = "import sys; from tflite_micro import runtime; from pathlib import Path; "
    program += "runtime.Interpreter.from_bytes(Path(sys.argv[1]).read_bytes(), arena_size=int(sys.argv[2])).invoke()"
    for size, is_enough in ((report.arena_size, True), (report.arena_size - 16, False)):
        command = [sys.executable, "-c", program, tmp_path / "model.tflite", str(size)]
        assert (subprocess.run(command, capture_output=True, timeout=60).returncode == 0) == is_enough


@micro_only
def test_a_loop_of_one_step_a_turn_takes_less_than_the_others(float_files):
    from lstm_toolkit.passes.plain.lower import lower

    fused = lstm_toolkit.convert(variant(projection=True), time_steps=TIME, verify=False).tflite
    files = [float_files["projection"][1].tflite, lower(fused), lower(fused, form="loop", steps_per_turn=3)]
    trials = trial.run_on("micro", [(each, trial.random_calls(each)) for each in files], arena=True)
    sizes = [each.arena_size for each in trials]
    assert sizes[0] == min(sizes)
    assert len(files[0]) == min(map(len, files))


def test_what_micro_cannot_run_has_no_report():
    tflite = lstm_toolkit.convert(sequences(L.Bidirectional(L.LSTM(4))), verify=False).tflite
    with pytest.raises(InvalidModelError, match=r"cannot run this model: BIDIRECTIONAL_SEQUENCE_LSTM: .* convert the"):
        micro_report(tflite, run=False)


def test_without_the_package(float_files, monkeypatch):
    tflite = float_files["dense"][1].tflite
    monkeypatch.setattr(trial, "is_installed", lambda runtime: runtime != "micro")
    with pytest.raises(LstmToolkitError, match=r"is not installed, .* pip install tflite-micro"):
        micro_report(tflite)
    report = micro_report(tflite, run=False)
    assert report.arena_size is None
    assert "not measured" in str(report)
    assert "AddSoftmax" in report.resolver
    assert c_array(tflite)[1].endswith(f"= {len(tflite)};\n")


def test_method_names():
    """Those of `micro_mutable_op_resolver.h` that do not follow from the name, and some that do."""
    known = {
        "ADD_N": "AddAddN",
        "BATCH_MATMUL": "AddBatchMatMul",
        "CUMSUM": "AddCumSum",
        "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
        "L2_POOL_2D": "AddL2Pool2D",
        "PADV2": "AddPadV2",
        "RELU6": "AddRelu6",
        "REVERSE_V2": "AddReverseV2",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
        "WHILE": "AddWhile",
    }
    assert {op: method_name(op) for op in known} == known
    names = [method_name(op) for op in MICRO_OPS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"Add[A-Z0-9][A-Za-z0-9]*", name) for name in names)
    with pytest.raises(ValueError, match="has no op TILE"):
        method_name("TILE")


# The C array

DUMP = """
#include <stdint.h>
#include <stdio.h>
#include "{name}.h"
int main(void) {{
  if ((uintptr_t){name} % 16 != 0) return 1;
  return fwrite({name}, 1, {name}_length, stdout) != {name}_length;
}}
"""


@pytest.mark.parametrize(("language", "standard"), [("c", "-std=c11"), ("c++", "-std=c++11")])
def test_c_array_compiles_to_the_bytes_of_the_file(float_files, tmp_path, language, standard):
    compiler = shutil.which("gcc" if language == "c" else "g++")
    if compiler is None:
        pytest.skip(f"there is no GNU compiler for {language}")
    tflite = float_files["dense"][1].tflite
    header, source = save_c_array(tflite, tmp_path, "gesture_2")
    assert (header.read_text(), source.read_text()) == c_array(tflite, "gesture_2")
    # The compiler may align a large array by itself, so that the check in the program alone proves nothing.
    assert "alignas(16) const unsigned char gesture_2[]" in source.read_text()
    (tmp_path / "main.c").write_text(DUMP.format(name="gesture_2"))
    command = [compiler, "-x", language, standard, "-Wall", "-Wextra", "-Werror", "-o", "dump", "main.c", source.name]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    assert subprocess.run([tmp_path / "dump"], capture_output=True, check=True, timeout=60).stdout == tflite


@pytest.mark.parametrize(
    "name", ["", "2d", "a-b", "a b", "modèle", "class", "and", "_Model", "my__model", "a\n", "../a"]
)
def test_c_array_refuses_what_is_no_name(float_files, name):
    with pytest.raises(ValueError, match="must be an identifier that C and C\\+\\+ leave to programs"):
        c_array(float_files["dense"][1].tflite, name)


def test_c_array_of_what_is_no_model():
    with pytest.raises(InvalidModelError, match=r"not a \.tflite file"):
        c_array(b"nothing")


# The command line


def test_export(float_files, tmp_path):
    path = tmp_path / "model.tflite"
    float_files["dense"][1].save(path)
    command = ["export", str(path), "-o", str(tmp_path), "--name", "net", "--no-run"]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 0, result.output
    assert "resolver.AddSoftmax();" in result.output
    assert (tmp_path / "net.h").exists()
    assert f"= {path.stat().st_size};" in (tmp_path / "net.cc").read_text()
    values = json.loads(CliRunner().invoke(cli.main, [*command, "--json"]).output)
    assert values["ops"]["SOFTMAX"] == 1
    assert values["output"] == [str(tmp_path / "net.h"), str(tmp_path / "net.cc")]
    refused = CliRunner().invoke(cli.main, ["export", str(path), "-o", str(tmp_path), "--name", "for", "--no-run"])
    assert refused.exit_code == 2
    assert "leave to programs" in refused.output


def test_convert_for_a_target(tmp_path):
    sequences(L.GRU(4)).save(tmp_path / "model.keras")
    command = ["convert", str(tmp_path / "model.keras"), "-o", str(tmp_path / "model.tflite"), "--no-verify", "--json"]
    result = CliRunner().invoke(cli.main, [*command, "--target", "micro"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["layers"][0]["op"] == "loop"
    refused = CliRunner().invoke(cli.main, [*command, "--target", "micro", "--quantization", "dynamic"])
    assert refused.exit_code == 1
    assert "TensorFlow Lite Micro has no kernels for --quantization dynamic" in refused.output
    result = CliRunner().invoke(cli.main, [*command, "--target", "compiled", "--quantization", "float16"])
    assert json.loads(result.stdout)["quantization"]["kind"] == "float16"


def test_diagnose_can_run_the_file(float_files, tmp_path):
    float_files["dense"][1].save(tmp_path / "model.tflite")
    command = ["diagnose", str(tmp_path / "model.tflite"), "--run"]
    assert CliRunner().invoke(cli.main, [*command, "--target", "litert"]).exit_code == 0
    wrong = CliRunner().invoke(cli.main, command)
    assert wrong.exit_code == 2
    assert "run needs a target" in wrong.output
