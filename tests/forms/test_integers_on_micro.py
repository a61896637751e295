"""Ten kinds of model in integers: TensorFlow Lite Micro computes what LiteRT does, and what the float model does."""

import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit.runtime import trial
from tests.helpers import micro_zoo
from tests.helpers.calls import run_in_a_row

pytestmark = pytest.mark.filterwarnings("ignore::lstm_toolkit.quantization.quantize.QuantizationWarning")

KINDS = [(kind, "int8") for kind in micro_zoo.KINDS]
KINDS += [(kind, "int16x8") for kind in ("keyword tagger", "GRU classifier", "bidirectional")]
LARGEST_ERROR = {"int8": 0.05, "int16x8": 0.02}
"""Of the largest output; random weights, for which errors of 0.7 to 3.6 and of 0.1 to 0.5 percent were seen."""


@pytest.fixture(scope="module")
def zoo():
    return {kind: micro_zoo.build(kind) for kind in micro_zoo.KINDS}


@pytest.mark.parametrize(("kind", "quantization"), KINDS)
def test_micro_computes_what_litert_does(zoo, kind, quantization):
    """Three calls in a row, equal within one step of the output's scale; int16x8 in every bit."""
    if not trial.is_installed("micro"):
        pytest.skip("tflite-micro has no wheel for this platform")
    model = zoo[kind]
    ((name, _),) = ((each.name, each) for each in model.inputs)
    samples = np.concatenate([each[name] for each in micro_zoo.samples(model, count=40, seed=3)])
    conversion = lstm_toolkit.convert(
        model,
        target="micro",
        quantization=quantization,
        lowering="loop" if quantization == "int16x8" else "fused",
        representative_dataset=samples,
        verify=False,
    )
    calls = micro_zoo.samples(model, count=3, seed=4)
    given = trial.outputs_on_micro(conversion.tflite, calls)
    litert = run_in_a_row(conversion.tflite, calls)
    *_, last = (op for op in lstm_toolkit.inspect(conversion.tflite).subgraphs[0].ops if op.name == "DEQUANTIZE")
    step = last.inputs[0].quantization.scale[0] if quantization == "int8" else 0.0
    wanted = [np.asarray(model(*arrays.values(), training=False)) for arrays in calls]
    largest = max(np.abs(each).max() for each in wanted)
    for number, (on_micro, right) in enumerate(zip(given, wanted, strict=True)):
        for on_litert in (litert[number], litert[number + len(calls)]):
            assert np.abs(on_micro["output_0"] - on_litert["output_0"]).max() <= 1.001 * step
        assert np.abs(on_micro["output_0"] - right).max() < LARGEST_ERROR[quantization] * largest
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01
