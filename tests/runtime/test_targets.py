"""What each runtime takes: what `diagnose` says of a file, against what the runtime itself does with it."""

import functools
import stat
import sys
from collections.abc import Sequence

import keras
import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils

import lstm_toolkit
from lstm_toolkit import GateWeights
from lstm_toolkit.doctor import diagnose
from lstm_toolkit.errors import ConversionError, LstmToolkitError
from lstm_toolkit.passes.plain.lower import lower
from lstm_toolkit.quantization import quantize
from lstm_toolkit.runtime import trial
from lstm_toolkit.runtime.targets import TARGETS
from tests.helpers.imports import run_without
from tests.helpers.models import randomized
from tests.helpers.weights import random_operands

micro_only = pytest.mark.skipif(not trial.is_installed("micro"), reason="tflite-micro has no wheel for this platform")

TIME, INPUTS, UNITS = 9, 5, 7
L = keras.layers


def sequences(*layers, time=TIME, **options):
    return randomized(keras.Sequential([keras.Input((time, INPUTS), **options), *layers]))


def lstm(units=UNITS, **options):
    return L.LSTM(units, return_sequences=True, **options)


def variant(**there):
    flags = dict.fromkeys(("cifg", "peephole", "projection", "layer_norm"), False) | there
    return GateWeights.from_operands(random_operands(np.random.default_rng(3), **flags))


def samples(count=20):
    return np.random.default_rng(0).normal(size=(count, TIME, INPUTS)).astype(np.float32)


def edited(tflite, edit):
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    edit(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def without_layer_norm_operands(model):
    """The LSTM op as old converters wrote it, with 20 operands."""
    for op in model.subgraphs[0].operators:
        if len(op.inputs) == 24:
            op.inputs = op.inputs[:20]


INT8 = {"quantization": "int8", "representative_dataset": samples()}
STEPS = {"time_steps": TIME}
VARIANTS = ("cifg", "peephole", "projection", "layer_norm", "diagonal")

MODELS = {
    "plain": (lambda: sequences(lstm()), {}),
    "two rows, time-major": (lambda: sequences(lstm(), L.Dense(3)), {"batch_size": 2, "time_major": True}),
    "carried": (lambda: sequences(lstm(stateful=True), batch_size=1), {}),
    "explicit": (lambda: sequences(lstm()), {"state": "explicit"}),
    "both ways, fused": (lambda: sequences(L.Bidirectional(lstm())), {}),
    "both ways, split": (lambda: sequences(L.Bidirectional(lstm())), {"bidirectional": "split"}),
    "relu": (lambda: sequences(lstm(activation="relu")), {}),
    "simple": (lambda: sequences(L.SimpleRNN(UNITS)), {}),
    "open time": (lambda: sequences(lstm(), time=None), {}),
    "long": (lambda: sequences(lstm(), time=40), {}),
    "gru loop": (lambda: sequences(L.GRU(UNITS), time=40), {"lowering": "loop"}),
    "tiled": (lambda: sequences(L.LSTM(4), L.RepeatVector(3, name="again"), lstm()), {}),
    "dense": (lambda: sequences(L.Dense(210), lstm()), {}),
    "convolution": (lambda: sequences(L.Conv1D(80, 3), lstm()), {}),
    "wide": (lambda: sequences(lstm(20)), {"lowering": "loop"}),
} | {name: (functools.partial(variant, **{name: True}), STEPS) for name in VARIANTS}


def activation_of(number, model):
    for op in model.subgraphs[0].operators:
        if hasattr(op.builtinOptions, "fusedActivationFunction") and len(op.inputs) == 24:
            op.builtinOptions.fusedActivationFunction = number


def quantized(kind, tflite):
    calibration = [dict(call) for call in trial.random_calls(tflite, count=20)]
    return quantize.quantize(tflite, kind, calibration, calibrate=kind == "int8")[0]


DERIVED = {
    "old operands": ("plain", functools.partial(edited, edit=without_layer_norm_operands)),
    "relu6": ("plain", functools.partial(edited, edit=functools.partial(activation_of, 3))),
    "unrolled": ("plain", lower),
    "loop": ("long", functools.partial(lower, form="loop")),
    "dynamic, fused": ("plain", functools.partial(quantized, "dynamic")),
    "dynamic, dense": ("dense", functools.partial(quantized, "dynamic")),
    "dynamic, convolution": ("convolution", functools.partial(quantized, "dynamic")),
    "dynamic, loop": ("wide", functools.partial(quantized, "dynamic")),
    "float16": ("plain", functools.partial(quantized, "float16")),
    "float16, loop": ("wide", functools.partial(quantized, "float16")),
    "int8": ("two rows, time-major", functools.partial(quantized, "int8")),
    "int8, both ways": ("both ways, split", functools.partial(quantized, "int8")),
    "int8, simple": ("simple", functools.partial(quantized, "int8")),
    "int8, projection": ("projection", functools.partial(quantized, "int8")),
}
NAMES = (*MODELS, *DERIVED)


@pytest.fixture(scope="module")
def files():
    made = {
        name: lstm_toolkit.convert(build(), verify=False, **options).tflite for name, (build, options) in MODELS.items()
    }
    return made | {name: change(made[of]) for name, (of, change) in DERIVED.items()}


@pytest.fixture(scope="module")
def trials(files):
    """What each runtime did with each file, three calls in a row."""
    asked = [(tflite, trial.random_calls(tflite)) for tflite in files.values()]
    runtimes = [each for each in trial.RUNTIMES if trial.is_installed(each)]
    return {runtime: dict(zip(files, trial.run_on(runtime, asked), strict=True)) for runtime in runtimes}


def agrees(one: Sequence[dict[str, np.ndarray]], other: Sequence[dict[str, np.ndarray]], tolerance: float) -> bool:
    return all(
        np.allclose(a[name], b[name], rtol=0, atol=tolerance * max(1, np.abs(b[name]).max()), equal_nan=False)
        for a, b in zip(one, other, strict=True)
        for name in b
    )


HYBRID_TOLERANCE = 0.1
"""Kernels quantize the input of an op with int8 weights each in its own way, and a recurrence takes that back in."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NAMES)
def test_diagnosis_agrees_with_the_runtime(files, trials, name, target):
    """An error where the runtime refuses the file or gets other results than LiteRT, and none where it does not."""
    if target == "micro" and "micro" not in trials:
        pytest.skip("tflite-micro has no wheel for this platform")
    found = [f for f in lstm_toolkit.diagnose(files[name], target=target) if f.severity == "error"]
    wanted = trials["litert without XNNPACK"][name]
    assert wanted.refused is None
    runtimes = ("litert", "litert without XNNPACK") if target == "litert" else (target,)
    for given in (trials[runtime][name] for runtime in runtimes):
        tolerance = 0.02 if "int8" in name else HYBRID_TOLERANCE if "dynamic" in name else 2e-5
        is_right = given.refused is None and agrees(given.outputs, wanted.outputs, tolerance)
        if name == "open time" and target == "micro":
            # It runs, but only with the one step that stands in the file.
            assert is_right
            assert [f.code for f in found] == ["micro-open"]
            continue
        assert is_right == (not found), (given.refused, found)


def codes(tflite, target):
    return {f.code for f in lstm_toolkit.diagnose(tflite, target=target) if f.severity == "error"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", set()),
        ("both ways, fused", {"micro-op"}),
        ("relu", {"micro-lstm"}),
        ("cifg", {"micro-lstm"}),
        ("old operands", {"micro-lstm"}),
        ("dynamic, fused", {"micro-hybrid"}),
        ("dynamic, dense", {"micro-hybrid"}),
        ("dynamic, convolution", {"micro-hybrid"}),
        ("float16", {"micro-float16"}),
        ("int8, simple", {"micro-op"}),
    ],
)
def test_codes_for_micro(files, name, expected):
    assert codes(files[name], "micro") == expected


REASONS = {
    "cifg": "its input gate is coupled to the forget gate",
    "peephole": "it has peephole weights",
    "projection": "it has a projection",
    "layer_norm": "it has layer normalization",
    "diagonal": "its recurrent weights are diagonals",
    "relu": "its cell activation is not tanh",
    "old operands": "the op has 20 operands, and the kernel takes 24",
}


@pytest.mark.parametrize("name", REASONS)
def test_why_an_lstm_is_not_for_micro(files, name):
    (finding,) = [f for f in lstm_toolkit.diagnose(files[name], target="micro") if f.code == "micro-lstm"]
    assert REASONS[name] in finding.message
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in finding.location
    assert 'target="micro"' in finding.remedy


@micro_only
def test_silent_faults_of_micro(trials):
    """The reason why `micro-hybrid` and the activation are looked for: Micro runs these files, and wrongly."""
    for name in ("dynamic, fused", "relu", "relu6"):
        given, wanted = trials["micro"][name], trials["litert without XNNPACK"][name]
        assert given.refused is None
        assert not agrees(given.outputs, wanted.outputs, 0.05)


# Trials


@micro_only
def test_a_trial_finds_what_the_runtime_does(files):
    assert lstm_toolkit.diagnose(files["plain"], target="micro", run=True) == ()
    assert "is not finite" in trial.why_not_on("micro", files["dynamic, fused"])
    assert "differs from the LiteRT interpreter's by" in trial.why_not_on("micro", files["relu"])
    assert "Didn't find op for builtin opcode 'TILE'" in trial.why_not_on("micro", files["tiled"])
    assert trial.why_not_on("litert", files["plain"]) is None
    assert trial.why_not_on("compiled", files["loop"]) is None
    assert "variable tensors" in trial.why_not_on("compiled", files["plain"])


def test_a_trial_compares_where_there_are_numbers(monkeypatch):
    """With NaN on both sides, nothing would differ."""

    def converted(function):
        layers = [keras.Input((TIME, INPUTS)), L.Lambda(function), L.LSTM(UNITS)]
        return lstm_toolkit.convert(randomized(keras.Sequential(layers)), verify=False).tflite

    run_on = trial.run_on

    def off_without_xnnpack(runtime, asked, **options):
        (found,) = run_on("litert", asked, **options)
        shift = float(runtime != "litert")
        outputs = ({name: value + shift for name, value in each.items()} for each in found.outputs)
        return (trial.Trial(found.refused, tuple(outputs)),)

    monkeypatch.setattr(trial, "run_on", off_without_xnnpack)
    assert "differs from the LiteRT interpreter's by 1" in trial.why_not_on("litert", converted(keras.ops.sqrt))
    far = converted(lambda x: keras.ops.log(x - 100.0))
    assert "gives hardly a finite number for random inputs" in trial.why_not_on("litert", far)


def test_what_only_a_trial_finds(files, monkeypatch):
    """A fault that no rule knows of yet."""
    monkeypatch.setattr(diagnose, "FAULTS", ())
    assert lstm_toolkit.diagnose(files["plain"], target="compiled") == ()
    (finding,) = lstm_toolkit.diagnose(files["plain"], target="compiled", run=True)
    assert (finding.code, finding.severity, finding.location) == ("trial", "error", "compiled")
    assert "variable tensors" in finding.message


def test_run_needs_a_target_and_a_file(files):
    with pytest.raises(ValueError, match=r"run needs a target and a \.tflite file"):
        lstm_toolkit.diagnose(files["plain"], run=True)
    with pytest.raises(ValueError, match=r"run needs a target and a \.tflite file"):
        lstm_toolkit.diagnose(sequences(lstm()), target="micro", run=True)


def test_a_crash_is_an_answer_and_stops_no_other_file(files, monkeypatch, tmp_path):
    """The worker of the first file is one that kills itself."""
    program, mark = tmp_path / "python", tmp_path / "started"
    script = f'[ -e {mark} ] || {{ touch {mark}; kill -SEGV $$; }}\nexec "{sys.executable}" "$@"'
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(trial.sys, "executable", str(program))
    asked = [(files[name], trial.random_calls(files[name])) for name in ("plain", "relu")]
    crashed, ran = trial.run_on("litert", asked)
    assert crashed.refused == "it ended its process with SIGSEGV"
    assert ran.refused is None
    assert len(ran.outputs) == 3


def test_a_hang_is_an_answer(files, monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(trial.sys, "executable", str(program))
    (hung,) = trial.run_on("litert", [(files["plain"], trial.random_calls(files["plain"]))], time_limit=0.2)
    assert hung.refused == "it did not answer in 0.2 seconds"


def test_without_micro(files, monkeypatch):
    monkeypatch.setattr(trial, "is_installed", lambda runtime: runtime != "micro")
    with pytest.raises(LstmToolkitError, match="pip install tflite-micro"):
        lstm_toolkit.diagnose(files["plain"], target="micro", run=True)
    assert codes(files["relu"], "micro") == {"micro-lstm"}


# convert(..., target=...)


def op_of(conversion):
    (layer,) = conversion.report.layers
    return layer.op, layer.reason


def test_micro_is_run_when_it_is_verified(monkeypatch):
    seen = []
    monkeypatch.setattr(trial, "why_not_on", lambda target, tflite, **_: seen.append(target) or "it smells")
    model = sequences(lstm())
    lstm_toolkit.convert(model, target="micro", verify=False)
    assert seen == []
    for target in TARGETS:
        with pytest.raises(ConversionError, match=r"cannot run the file: .* it fails there: it smells"):
            lstm_toolkit.convert(model, target=target)
    assert seen == list(TARGETS)


def test_verified_conversions_run_on_their_targets():
    model = sequences(L.Bidirectional(lstm()), L.GRU(4))
    assert lstm_toolkit.convert(model, target="compiled").report.max_abs_error < 1e-5
    conversion = lstm_toolkit.convert(model, target="micro")
    assert conversion.report.max_abs_error < 1e-5
    assert {layer.op for layer in conversion.report.layers} == {"loop"}
    assert all("no fused op for a GRUCell" in layer.reason for layer in conversion.report.layers)


def test_each_layer_says_why_it_is_plain_ops():
    model = sequences(lstm(name="first"), L.LSTM(4, activation="relu", name="second"))
    first, second = lstm_toolkit.convert(model, target="micro", verify=False).report.layers
    assert first.reason == "another layer cannot be a fused op there"
    assert second.reason == "its cell activation is not tanh, which the kernel computes all the same"


def test_a_lowering_that_was_asked_for_stays():
    model = sequences(lstm())
    conversion = lstm_toolkit.convert(model, target="micro", lowering="unrolled", verify=False)
    assert op_of(conversion) == ("unrolled", None)
    assert op_of(lstm_toolkit.convert(model, target="compiled", lowering="loop", verify=False)) == ("loop", None)


@pytest.mark.parametrize(
    ("time", "form"), [(TIME, "unrolled"), (100, "unrolled"), (101, "loop"), (None, "loop")], ids=str
)
def test_the_form_for_compiled_goes_by_the_length(time, form):
    conversion = lstm_toolkit.convert(sequences(lstm(), time=time), target="compiled", verify=False)
    assert op_of(conversion) == (form, "CompiledModel takes no variable tensors")
    assert codes(conversion.tflite, "compiled") == set()


@pytest.mark.parametrize("kind", ["dynamic", "float16"])
def test_compiled_takes_small_weights(kind):
    tflite = lstm_toolkit.convert(sequences(lstm(20)), target="compiled", quantization=kind).tflite
    assert trial.why_not_on("compiled", tflite) is None


def test_litert_is_what_convert_makes_anyway():
    model = sequences(L.Bidirectional(lstm()))
    for_litert = lstm_toolkit.convert(model, target="litert", verify=False)
    assert for_litert.tflite == lstm_toolkit.convert(model, verify=False).tflite


REFUSED = {
    "dynamic": (
        lambda: sequences(lstm()),
        {"target": "micro", "quantization": "dynamic"},
        r'no kernels for quantization="dynamic" .*; pass quantization="int8" or None',
    ),
    "float16": (
        lambda: sequences(lstm()),
        {"target": "micro", "quantization": "float16"},
        r'no kernels for quantization="float16" .*; pass quantization="int8" or None',
    ),
    "open time": (
        lambda: sequences(lstm(), time=None),
        {"target": "micro"},
        r"TensorFlow Lite Micro cannot run the file: .* has an open size.*; pass time_steps",
    ),
    "op": (
        lambda: sequences(L.LSTM(4), L.Dense(3, activation="sparsemax", name="sparse")),
        {"target": "micro"},
        r"cannot run the file: TOPK_V2: .* has no op TOPK_V2 .*; take layer 'sparse' out of the model",
    ),
    "carried gru": (
        lambda: sequences(L.GRU(4, name="g", stateful=True), batch_size=2),
        {"target": "micro"},
        r"layer 'g' \(GRU\): it carries its state from call to call, .* pass state=\"explicit\"",
    ),
    "compiled carried": (
        lambda: sequences(lstm(name="l")),
        {"target": "compiled", "state": "carry"},
        r"layer 'l' \(LSTM\): it carries its state from call to call, .* pass state=\"explicit\"",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_target_refuses(name):
    build, options, message = REFUSED[name]
    with pytest.raises(ConversionError, match=message):
        lstm_toolkit.convert(build(), verify=False, **options)


def test_max_error_beside_a_target_that_leaves_one_way():
    with pytest.raises(ValueError, match=r"target=\"compiled\" leaves .* one way, so max_error lets nothing in"):
        lstm_toolkit.convert(sequences(lstm()), target="compiled", lowering="auto", max_error=0.01, verify=False)


def test_unknown_target():
    with pytest.raises(ValueError, match="target must be one of litert, compiled, micro or None, got 'phone'"):
        lstm_toolkit.convert(sequences(lstm()), target="phone")


def test_a_trial_does_not_load_tensorflow(files, tmp_path):
    (tmp_path / "model.tflite").write_bytes(files["plain"])
    code = (
        "import sys, lstm_toolkit as lt; from lstm_toolkit import micro; "
        "lt.diagnose(sys.argv[1], target='litert', run=True); micro.micro_report(sys.argv[1], run=False)"
    )
    run_without({"tensorflow", "keras"}, code, tmp_path / "model.tflite")
