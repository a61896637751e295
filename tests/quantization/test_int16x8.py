"""Files with int16 activations: the same numbers on LiteRT and Micro, in both forms, three calls in a row.

The oracle of the numbers is the float file; the limits of the errors are those of int8 weights.
"""

import functools

import keras
import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.runtime import trial
from lstm_toolkit.tflite import files, graph
from tests.helpers.models import randomized
from tests.helpers.weights import random_operands

layers = keras.layers
LIMIT = 2e-2
"""Of the largest error on new samples, relative to the largest output; seen are 0.1 to 0.8 percent."""

STACKS = {
    "gru": lambda: [layers.GRU(6), layers.Dense(3)],
    "gru, reset before, both ways": lambda: [
        layers.Bidirectional(layers.GRU(5, reset_after=False, use_bias=False, return_sequences=True))
    ],
    "relu lstm on a simple rnn": lambda: [
        layers.SimpleRNN(4, return_sequences=True),
        layers.LSTM(6, activation="relu", return_sequences=True),
        layers.LSTM(5),
    ],
    "hard gates": lambda: [layers.GRU(4, recurrent_activation="hard_sigmoid", activation="relu6")],
}


@functools.cache
def model(name):
    return randomized(keras.Sequential([keras.Input((7, 5), batch_size=1, name="x"), *STACKS[name]()]), scale=0.4)


def samples(count=40, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 1, 7, 5)).astype(np.float32)


@functools.cache
def converted(name, **options):
    return lt.convert(model(name), quantization="int16x8", representative_dataset=samples(), **options)


def outputs_of(runtime, conversion):
    (tried,) = trial.run_on(runtime, [(conversion.tflite, [{"x": each} for each in samples(3, seed=1)])])
    assert tried.refused is None
    return [next(iter(each.values())) for each in tried.outputs]


def last_scale(conversion):
    """The scale of the outputs before they become float."""
    *_, last = (op for op in inspect(conversion.tflite).subgraphs[0].ops if op.name == "DEQUANTIZE")
    return last.inputs[0].quantization.scale[0]


@pytest.mark.skipif(not trial.is_installed("micro"), reason="TensorFlow Lite Micro is not installed")
@pytest.mark.parametrize("name", STACKS)
def test_runtimes_and_forms_give_the_same_numbers(name):
    """In every bit on LiteRT. Micro rounds a rare product near the middle of two results the other way.

    A step of a gate is up to two of the output, since candidates reach 6.
    """
    unrolled, loop = converted(name), converted(name, target="micro")
    assert inspect(unrolled.tflite).ops["WHILE"] == 0
    assert inspect(loop.tflite).ops["WHILE"] > 0
    expected = outputs_of("litert", unrolled)
    assert np.ptp(expected) > 0
    others = (("litert without XNNPACK", unrolled), ("micro", unrolled), ("litert", loop), ("micro", loop))
    step = last_scale(unrolled)
    for runtime, conversion in others:
        given = outputs_of(runtime, conversion)
        if runtime == "micro":
            np.testing.assert_allclose(given, expected, rtol=0, atol=2.001 * step)
            assert np.mean(np.not_equal(given, expected)) < 0.1
        else:
            np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("name", STACKS)
def test_the_error_is_that_of_int8_weights(name):
    report = converted(name).report.quantization
    assert report.held_out
    assert not report.kept_float
    assert report.relative_error < LIMIT


def test_nothing_between_the_edges_is_float():
    model = files.read_model(converted("gru").tflite)
    (subgraph,) = model.subgraphs
    assert {graph.type_name(each) for each in subgraph.tensors} == {"float32", "int8", "int16", "int32", "int64"}
    floats = [each for each in subgraph.tensors if graph.type_name(each) == "float32"]
    assert len(floats) == len(subgraph.inputs) + len(subgraph.outputs)
    assert lt.diagnose(converted("gru").tflite, target="litert") == ()


@pytest.mark.parametrize("options", [{"io_dtype": "int16"}, {"io_dtype": ("int8", "float32")}, {"target": "compiled"}])
def test_edges_and_targets(options):
    assert converted("gru", **options).report.quantization.relative_error < LIMIT + ("int8" in str(options)) * 4e-2


def test_what_has_no_int16_kernel_stays_float_and_is_told():
    normalized = randomized(
        keras.Sequential([keras.Input((7, 5), batch_size=1, name="x"), layers.GRU(6), layers.LayerNormalization()])
    )
    report = lt.convert(normalized, quantization="int16x8", representative_dataset=samples()).report.quantization
    assert report.kept_float
    assert all("there is no int16 kernel of " in reason for _, reason in report.kept_float)


@pytest.mark.skipif(not trial.is_installed("micro"), reason="TensorFlow Lite Micro is not installed")
def test_int8_keeps_the_states_of_plain_layers_in_int16():
    x = samples()
    source = keras.Sequential(
        [
            keras.Input((7, 5), batch_size=1, name="x"),
            layers.Conv1D(4, 3),
            layers.GRU(6, return_sequences=True),
            layers.LSTM(5, activation="relu"),
            layers.Dense(3),
        ]
    )
    randomized(source, scale=0.4)
    both = [
        lt.convert(source, quantization="int8", representative_dataset=x, lowering=lowering)
        for lowering in ("unrolled", "loop")
    ]
    assert both[0].report.quantization.relative_error < 5e-2
    assert {"QUANTIZE", "CONV_2D", "LOGISTIC"} <= inspect(both[0].tflite).ops.keys()
    expected = outputs_of("litert", both[0])
    # A step of 8 bits is a 255th of the range of the output.
    for runtime, conversion in (("litert", both[1]), ("micro", both[0])):
        np.testing.assert_allclose(outputs_of(runtime, conversion), expected, atol=1e-2 * np.ptp(expected))


KINDS = {
    "gru beside lstm": (
        lambda: [layers.LSTM(4, return_sequences=True), layers.GRU(3)],
        "there is no fused op for a GRU",
    ),
    "relu": (lambda: [layers.LSTM(4, activation="relu")], "its activation is not tanh"),
}


@pytest.mark.parametrize("name", KINDS)
def test_int8_of_layers_that_no_fused_op_holds(name):
    """Samples out of a generator, which can be read only once, serve both plans."""
    build, reason = KINDS[name]
    source = randomized(keras.Sequential([keras.Input((7, 5), batch_size=1, name="x"), *build()]), scale=0.4)
    x = samples()
    conversion = lt.convert(source, quantization="int8", representative_dataset=(each for each in x), lowering="fused")
    assert {layer.op for layer in conversion.report.layers} == {"unrolled"}
    assert all(reason in layer.reason for layer in conversion.report.layers)
    assert conversion.report.quantization.relative_error < 3e-2
    assert conversion.report.quantization.held_out


def of_one(layer, time=7):
    return randomized(keras.Sequential([keras.Input((time, 5), batch_size=1, name="x"), layer]), scale=0.4)


VARIANT = dict.fromkeys(("cifg", "peephole", "projection", "layer_norm"), False)


def of_lingvo(**variant):
    return lt.GateWeights.from_operands(random_operands(np.random.default_rng(4), **VARIANT | variant))


LONG = 300
VARIANTS = {
    "peephole, projection": (lambda: of_lingvo(peephole=True, projection=True), "int8", 12),
    "coupled, layer norm": (lambda: of_lingvo(cifg=True, layer_norm=True), "int16x8", 12),
    "300 steps of a GRU": (lambda: of_one(layers.GRU(6), LONG), "int16x8", LONG),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_and_long_sequences_stay_right_from_call_to_call(name):
    """Fresh samples, several calls in a row, against the float file; 0.4 to 1.6 percent were seen."""
    build, kind, time = VARIANTS[name]
    source, random = build(), np.random.default_rng(6)
    x, fresh = (random.normal(size=(count, 1, time, 5)).astype(np.float32) for count in (30, 4))
    options = {"time_steps": time, "lowering": "loop", "verify": False}
    quantized = lt.convert(source, quantization=kind, representative_dataset=x, **options)
    runners = lt.convert(source, **options).runner(), quantized.runner()
    wanted, given = (np.stack([runner(each) for each in fresh]) for runner in runners)
    assert np.abs(given - wanted).max() < 3e-2 * np.abs(wanted).max()
    assert np.ptp(wanted) > 0.1
    # Layer normalization divides by a root, of which there is no int16 kernel.
    assert {reason for _, reason in quantized.report.quantization.kept_float} == (
        {"there is no int16 kernel of RSQRT"} if "norm" in name else set()
    )


@pytest.mark.parametrize(("kind", "states"), [("int8", ("one_h", "one_c")), ("int16x8", ("one_h",))])
def test_explicit_states_stay_right_from_call_to_call(kind, states):
    """What a call gives the next one takes: errors do not add up; 1.5 percent were seen."""
    source = of_one(layers.LSTM(6, name="one") if len(states) > 1 else layers.GRU(6, name="one"))
    random = np.random.default_rng(2)
    start = {name: random.uniform(-1, 1, (40, 6)).astype(np.float32) for name in states}
    conversions = [
        lt.convert(source, state="explicit", lowering="unrolled", **options)
        for options in ({}, {"quantization": kind, "representative_dataset": {"x": samples()} | start})
    ]
    kept = [{name: np.zeros((1, 6), np.float32) for name in states} for _ in conversions]
    for x in samples(8, seed=3):
        results = [each.runner()(x=x, **state) for each, state in zip(conversions, kept, strict=True)]
        kept = [{name: each[name] for name in states} for each in results]
        for name in states:
            assert np.abs(kept[0][name] - kept[1][name]).max() < 0.02 * np.abs(kept[0][name]).max()
    assert np.ptp(kept[0][states[-1]]) > 0.1


def test_a_carried_state_is_refused_where_plain_ops_would_have_to_keep_it():
    with pytest.raises(ConversionError, match=r"it carries its state from call to call, .* pass state=.explicit"):
        lt.convert(of_one(layers.LSTM(6)), state="carry", quantization="int16x8", representative_dataset=samples())


def test_open_time_is_refused():
    open_model = keras.Sequential([keras.Input((None, 5), name="x"), layers.GRU(4)])
    with pytest.raises(ConversionError, match="have open sizes, and int16x8 needs fixed ones; pass time_steps"):
        lt.convert(open_model, quantization="int16x8", representative_dataset=samples())
