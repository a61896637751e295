"""`quantization="int16x8"` with `target="micro"`: LSTMs stay fused ops, which run there alone."""

import keras
import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.conversion import plans
from lstm_toolkit.runtime import trial
from tests.helpers.models import randomized

pytestmark = pytest.mark.skipif(not trial.is_installed("micro"), reason="tflite-micro has no wheel for this platform")

TIME, INPUTS, UNITS = 9, 4, 6
FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"
layers = keras.layers


def model_of(*stack):
    return randomized(keras.Sequential([keras.Input((TIME, INPUTS), name="x"), *stack]))


def lstm(**options):
    return layers.LSTM(UNITS, return_sequences=True, **options)


DATA = np.random.default_rng(5).normal(size=(40, TIME, INPUTS)).astype(np.float32)
INT16 = {"quantization": "int16x8", "representative_dataset": DATA, "verify": False}

MODELS = {
    "sequence": lambda: model_of(lstm()),
    "classifier": lambda: model_of(lstm(), layers.LSTM(5), layers.Dense(3, activation="softmax")),
    "both ways": lambda: model_of(layers.Bidirectional(lstm()), layers.Dense(3)),
    "behind others": lambda: model_of(layers.Dense(7, activation="relu"), lstm(), layers.Dense(2)),
}


@pytest.fixture(scope="module")
def conversions():
    made = {name: build() for name, build in MODELS.items()}
    return {name: (model, lt.convert(model, target="micro", **INT16)) for name, model in made.items()}


@pytest.mark.parametrize("name", MODELS)
def test_lstms_stay_fused_and_the_rest_is_int16(conversions, name):
    """New samples, three calls in a row; int8 throughout is at 2 to 4 percent."""
    model, conversion = conversions[name]
    report = conversion.report
    assert {layer.op for layer in report.layers} == {FUSED}
    assert not {"WHILE", "TANH", "LOGISTIC"} & set(report.ops)
    assert report.quantization.runtime == "micro"
    assert "run by TensorFlow Lite Micro" in str(report)
    assert report.quantization.relative_error < 0.02
    new = np.random.default_rng(6).normal(size=(6, 1, TIME, INPUTS)).astype(np.float32)
    given = trial.outputs_on_micro(conversion.tflite, [{"x": each} for each in new])
    wanted = np.stack([np.asarray(model(x)) for x in new])
    error = np.abs(np.stack([outputs["output_0"] for outputs in given]) - wanted)
    assert error.max() < 0.025 * np.abs(wanted).max()
    assert error.mean() < 0.005 * np.abs(wanted).max()


@pytest.mark.parametrize("name", MODELS)
def test_no_op_is_in_vain(conversions, name):
    """No QUANTIZE between equal scales, and nothing that no op takes."""
    ops = lt.inspect(conversions[name][1].tflite).subgraphs[0].ops
    taken = {tensor.index for op in ops for tensor in op.inputs if tensor is not None}
    last = {tensor.index for op in ops[-1:] for tensor in op.outputs}
    for op in ops:
        if op.name == "QUANTIZE":
            (source,), (target,) = op.inputs, op.outputs
            assert (source.dtype, source.quantization) != (target.dtype, target.quantization)
        assert {tensor.index for tensor in op.outputs} <= taken | last


@pytest.mark.parametrize("io_dtype", ["int8", "uint8", "int16"])
def test_integers_at_the_edges(conversions, io_dtype):
    model, with_float = conversions["classifier"]
    conversion = lt.convert(model, target="micro", **INT16 | {"io_dtype": io_dtype})
    assert "DEQUANTIZE" not in conversion.report.ops
    assert conversion.report.quantization.relative_error < with_float.report.quantization.relative_error + 0.03


def test_without_the_target_layers_are_plain_ops():
    conversion = lt.convert(MODELS["sequence"](), **INT16)
    assert FUSED not in conversion.report.ops
    assert conversion.report.quantization.runtime == "litert"


def test_beside_a_layer_that_micro_has_not_all_are_plain_ops():
    model = model_of(lstm(name="one"), layers.GRU(5, name="gated"))
    conversion = lt.convert(model, target="micro", **INT16)
    assert FUSED not in conversion.report.ops
    assert all(layer.reason for layer in conversion.report.layers)


def test_where_micro_is_not_installed_nothing_is_left_unchecked(monkeypatch):
    monkeypatch.setattr(plans, "is_installed", lambda _: False)
    conversion = lt.convert(MODELS["sequence"](), target="micro", **INT16)
    assert FUSED not in conversion.report.ops
    assert "tflite-micro is not installed" in conversion.report.layers[0].reason


def with_states():
    x = keras.Input((TIME, INPUTS), name="x")
    _, h, c = layers.LSTM(UNITS, return_state=True)(x)
    return randomized(keras.Model(x, layers.LSTM(UNITS)(x, initial_state=[h, c])))


def test_states_that_leave_an_lstm_make_it_plain_ops():
    """The kernel keeps h and c in int16, and no op of TensorFlow Lite Micro copies these from or to another tensor."""
    model = with_states()
    conversion = lt.convert(model, target="micro", **INT16)
    assert {layer.op for layer in conversion.report.layers} == {"loop"}
    reasons = {layer.reason for layer in conversion.report.layers}
    assert any("its last state is given on" in reason for reason in reasons)
    assert any("its state is given from outside" in reason for reason in reasons)
    new = np.random.default_rng(7).normal(size=(3, 1, TIME, INPUTS)).astype(np.float32)
    given = trial.outputs_on_micro(conversion.tflite, [{"x": each} for each in new])
    wanted = np.stack([np.asarray(model(x)) for x in new])
    error = np.abs(np.stack([outputs["output_0"] for outputs in given]) - wanted)
    assert error.max() < 0.02 * np.abs(wanted).max()
