"""Files with int16 activations: the same bits on LiteRT and TensorFlow Lite Micro, in both forms, three calls in a row.

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


@pytest.mark.skipif(not trial.is_installed("micro"), reason="TensorFlow Lite Micro is not installed")
@pytest.mark.parametrize("name", STACKS)
def test_runtimes_and_forms_give_the_same_bits(name):
    unrolled, loop = converted(name), converted(name, target="micro")
    assert inspect(unrolled.tflite).ops["WHILE"] == 0
    assert inspect(loop.tflite).ops["WHILE"] > 0
    expected = outputs_of("litert", unrolled)
    assert np.ptp(expected) > 0
    others = (("litert without XNNPACK", unrolled), ("micro", unrolled), ("litert", loop), ("micro", loop))
    for runtime, conversion in others:
        np.testing.assert_array_equal(outputs_of(runtime, conversion), expected)


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


def test_explicit_states_keep_16_bits_in_int8():
    """What a call gives another one takes; int8 in between would cost a 255th of a state at each."""
    source = randomized(keras.Sequential([keras.Input((7, 5), batch_size=1, name="x"), layers.LSTM(6, name="one")]))
    random = np.random.default_rng(2)
    states = {name: random.uniform(-1, 1, (40, 6)).astype(np.float32) for name in ("one_h", "one_c")}
    of_all = {"x": samples(), **states}
    files_ = [
        lt.convert(source, state="explicit", **options)
        for options in ({}, {"quantization": "int8", "representative_dataset": of_all})
    ]
    kept = [{name: np.zeros((1, 6), np.float32) for name in states} for _ in files_]
    for x in samples(8, seed=3):
        results = [file.runner()(x=x, **state) for file, state in zip(files_, kept, strict=True)]
        kept = [{name: each[name] for name in states} for each in results]
        for name in states:
            assert np.abs(kept[0][name] - kept[1][name]).max() < 0.02 * np.abs(kept[0][name]).max()
    assert np.ptp(kept[0]["one_c"]) > 0.1


def test_open_time_is_refused():
    open_model = keras.Sequential([keras.Input((None, 5), name="x"), layers.GRU(4)])
    with pytest.raises(ConversionError, match="have open sizes, and int16x8 needs fixed ones; pass time_steps"):
        lt.convert(open_model, quantization="int16x8", representative_dataset=samples())
