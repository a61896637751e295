"""What is refused on the way from a traced model to its file: by the converter, passes, quantization and targets."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import lstm_toolkit
from lstm_toolkit import GateWeights
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes import fused_int16
from lstm_toolkit.quantization import quantize
from lstm_toolkit.quantization_view import quantization_view
from lstm_toolkit.sources.composite import composite
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.recurrent import recurrent_ops
from tests.helpers import degenerate, fault_corpus, spoiled
from tests.helpers.forms import bidirectional, functional
from tests.helpers.models import randomized
from tests.helpers.refusals import LEAVE_OUT, Refusal, exact, refused
from tests.helpers.weights import random_operands

RANDOM = np.random.default_rng(24)
FOLDER = Path(tempfile.mkdtemp())
SAMPLES = RANDOM.normal(size=(20, 7, 5)).astype(np.float32)
INT8 = {"quantization": "int8", "representative_dataset": SAMPLES, "time_steps": 7}
VARIANT = dict.fromkeys(("cifg", "peephole", "projection", "layer_norm"), False)


def sequence(units: int = 6, **options: Any) -> Any:
    return layers.LSTM(units, return_sequences=True, **options)


@functools.cache
def lstm(time: int | None = 7, **options: Any) -> Any:
    return functional(layers.LSTM(6, name="one", **options), time=time)


@functools.cache
def gru(**options: Any) -> Any:
    return functional(layers.GRU(6, name="gated", **options), batch=2 if options else None)


@functools.cache
def weights(**variant: bool) -> GateWeights:
    return GateWeights.from_operands(random_operands(np.random.default_rng(4), **VARIANT | variant))


def approximate_gelu(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


def instead(make: Callable[..., Any], **options: Any) -> Callable[[], Any]:
    """What a remedy gives that says what to convert in place of the model, or all that is to be passed."""
    return lambda: exact(make(), **options)


def hop(make: Callable[..., Any], options: dict[str, Any], **then: Any) -> Callable[[], Any]:
    """What a remedy gives that leads to another refusal, with the options that this one advises."""

    def run() -> None:
        with pytest.raises(ConversionError) as met:
            lstm_toolkit.convert(make(), **options)
        assert all(f'{name}="{value}"' in str(met.value) for name, value in then.items())
        exact(make(), **then)

    return run


class Svd(layers.Layer):
    def call(self, x):
        return tf.linalg.svd(x, compute_uv=False)


def a_part_of_each(x: Any) -> Any:
    return tf.map_fn(lambda each: each[:, : 3 + tf.cast(tf.reduce_max(each), tf.int32)], x)


def fourier(x: Any) -> Any:
    return tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64)))


def behind(*others: Any, **options: Any) -> Any:
    """A model with an LSTM and other layers behind it."""
    return functional(sequence(name="one"), *others, **options)


def tokens(*first: Any, dtype: str = "int32") -> Any:
    x = ids = keras.Input((7,), dtype=dtype, name="ids")
    for layer in (*first, layers.Embedding(11, 5), layers.LSTM(6)):
        x = layer(x)
    return randomized(keras.Model(ids, x))


def without_lstm() -> Any:
    return functional(layers.Dense(3), layers.Dense(2))


class Dropping(layers.Layer):
    """Computes an LSTM, and gives its input back."""

    def __init__(self):
        super().__init__()
        self.inner = layers.LSTM(6, name="unread")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        self.inner(x)
        return 2.0 * x


def stock(model: Any) -> bytes:
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


@tf.function(input_signature=[tf.TensorSpec([2, 7, 5], name="x")])
def own_loop(x: Any) -> Any:
    def step(number: Any, h: Any) -> Any:
        return number + 1, tf.tanh(x[:, number] + h)

    return tf.while_loop(lambda number, _: number < 7, step, (0, tf.zeros([2, 5])))[1]


def exported(model: Any, name: str) -> Path:
    model.export(FOLDER / name, verbose=False)
    return FOLDER / name


def exported_as_fusable(model: Any, name: str) -> Path:
    with lstm_toolkit.fusable_lstms():
        return exported(model, name)


CONVERTER = [
    refused(
        ("{}, which {} needs; take that out of the model, and compute it", "TensorListReserve", "layer 'parts'"),
        lambda: behind(layers.Lambda(a_part_of_each, output_shape=(7, None), name="parts")),
        {},
        instead(behind),
        at="conversion/owners.py:named_refusal",
    ),
    refused(
        ("TensorFlow Lite has no op {}, which {} needs; take that out of the model", "Svd", "layer 'values'"),
        lambda: behind(Svd(name="values")),
        {},
        instead(behind),
    ),
    refused(
        ("TensorFlow Lite has no op {}, which {} needs; take that out of the model", "Lookup", "layer 'vocabulary'"),
        lambda: tokens(layers.IntegerLookup(vocabulary=[3, 5, 7], name="vocabulary"), dtype="int64"),
        {},
        instead(tokens),
    ),
    refused(
        ("TensorFlow Lite has no op {}, which {} needs; take that out of the model", "Lookup", "layer 'words'"),
        lambda: tokens(layers.StringLookup(vocabulary=["a", "b"], name="words"), dtype="string"),
        {},
        instead(tokens),
    ),
    refused(
        ("LiteRT cannot run {} as {} needs it ({}); take that out of the model", "layer 'waves'", "IsPowerOfTwo"),
        lambda: behind(layers.Lambda(fourier, name="waves")),
        {},
        instead(behind),
    ),
    Refusal(
        (
            "no output of model {} depends on its recurrent layers {}, so there is nothing to fuse; take them out",
            "'unread'",
        ),
        lambda: lstm_toolkit.convert(functional(Dropping())),
        lambda: lstm_toolkit.Runner(stock(functional(layers.Rescaling(2.0)))),
    ),
    Refusal(
        (" calls no LSTM, so there is nothing to fuse; convert it with tf.lite.TFLiteConverter", "model 'functional"),
        lambda: lstm_toolkit.convert(without_lstm()),
        lambda: lstm_toolkit.Runner(stock(without_lstm())),
    ),
    Refusal(
        ("was not exported as fusable, so that its recurrent layers are loops", "fusable_lstms", "Keras model itself"),
        lambda: lstm_toolkit.convert(exported(lstm(), "unmarked")),
        lambda: exact(exported_as_fusable(lstm(), "marked")),
        instead(lstm),
    ),
    Refusal(
        (" could not be marked when the function was traced", "layer 'gated' (GRU)", "convert the Keras model itself"),
        lambda: lstm_toolkit.convert(exported_as_fusable(gru(), "kept")),
        hop(gru, {}, on_unsupported="keep"),
    ),
    refused(
        ("the function holds its recurrent layers as loops, so that", "marked by lstm_toolkit.composite"),
        lambda: own_loop,
        {},
        instead(lambda: own(lambda _: 0.5)),
        at="conversion/owners.py",
    ),
]


def folded(layer: Any) -> Any:
    x = keras.Input((None, 7, 5), name="clips")
    return randomized(keras.Model(x, layers.TimeDistributed(layer)(x)))


def folded_by_hand(layer: Any) -> Any:
    x = keras.Input((None, 7, 5), name="clips")
    return randomized(keras.Model(x, layer(layers.Lambda(lambda each: tf.reshape(each, [-1, 7, 5]))(x))))


def own(scale: Any, gates: str = "ifco") -> Any:
    """A function with an LSTM whose kernel is scaled: by a constant, or by what the model is given."""
    kernel, recurrent, bias = (RANDOM.normal(0, 0.4, shape).astype("f") for shape in ((5, 24), (6, 24), (24,)))
    cell = layers.LSTMCell(6)
    cell.build((1, 5))
    cell.set_weights([kernel, recurrent, bias])

    @composite(operands={"x": "input", "w": "kernel", "r": "recurrent_kernel", "b": "bias"}, gates=gates)
    def run(x, w, r, b):
        h = c = tf.zeros([tf.shape(x)[0], 6])
        outputs = []
        for now in tf.unstack(x, axis=1):
            i, f, g, o = tf.split(now @ w + h @ r + b, 4, axis=1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
            outputs.append(h)
        return tf.stack(outputs, axis=1)

    signature = [tf.TensorSpec([1, 7, 5], name="x")]
    return tf.function(lambda x: run(x, kernel * scale(x), recurrent, bias), input_signature=signature)


def decoder() -> Any:
    x, h, c = keras.Input((7, 5), name="x"), keras.Input((6,), name="h"), keras.Input((6,), name="c")
    return randomized(keras.Model([x, h, c], sequence(name="decoder")(x, initial_state=[h, c])))


def logarithm() -> Any:
    return functional(layers.Lambda(lambda x: tf.math.log(x - 50.0)), layers.LSTM(6))


LARGE = (RANDOM.uniform(60.0, 90.0, (20, 7, 5))).astype("f")

PARITY = [
    refused(
        ("the file cannot be compared with its source on random inputs: ", "finite", "pass representative_dataset"),
        logarithm,
        {},
        lambda: lstm_toolkit.convert(logarithm(), representative_dataset=LARGE),
    ),
    refused(
        (
            "on random inputs and on representative_dataset, {}; give it samples on which the model gives stable",
            "finite",
        ),
        logarithm,
        {"representative_dataset": SAMPLES},
        lambda: lstm_toolkit.convert(logarithm(), representative_dataset=LARGE),
    ),
    refused(
        (": output {} differs from the source by {}, and {} is allowed", "check the operands, gates and options"),
        lambda: own(lambda _: 0.5, gates="icfo"),
        {},
        lambda: exact(own(lambda _: 0.5, gates="ifco")),
    ),
]

PASSES = [
    refused(
        ("layer {}: its {} is not a constant, so it cannot go into the file", "'run'", "kernel", "variables and"),
        lambda: own(tf.reduce_mean),
        {},
        instead(lambda: own(lambda _: 0.5)),
    ),
    refused(
        ("layer {}: the batch is open, since an open axis is folded into it", "'inner'"),
        lambda: folded_by_hand(layers.LSTM(6, name="inner")),
        {},
        {"time_steps": 3},
        at="passes/graft.py",
    ),
    refused(
        ("layer {}: the batch is open, since an open axis is folded into it", "'inner'"),
        lambda: folded_by_hand(layers.GRU(6, name="inner")),
        {"lowering": "unrolled"},
        {"time_steps": 3},
        at="passes/plain/match.py",
    ),
    refused(
        (": the number of time steps is open, and unrolling needs a fixed one", "layer 'one'"),
        lambda: lstm(time=None),
        {"lowering": "unrolled"},
        {"time_steps": 7},
        {"lowering": "loop"},
    ),
    refused(
        ("{} have open sizes, and {} needs fixed ones", "int8", "['steps']"),
        lambda: lstm(time=None),
        {"quantization": "int8", "representative_dataset": SAMPLES},
        {"time_steps": 7},
    ),
]


def quantized(tflite: bytes, kind: str = "int8", *, of_ids: bool = False) -> Any:
    shapes = lstm_toolkit.Runner(tflite).input_shapes
    draw = (lambda shape: RANDOM.integers(1, 11, shape).astype("i4")) if of_ids else RANDOM.standard_normal
    samples = [{name: draw(shape).astype("i4" if of_ids else "f") for name, shape in shapes.items()} for _ in range(12)]
    return quantize.quantize(tflite, kind, samples, calibrate=kind == "int8")


def fused_int8(model: Any, *, of_ids: bool = False, **options: Any) -> Any:
    """Quantizes fused ops to int8 where `convert` would go on to plain ones."""
    return quantized(lstm_toolkit.convert(model, verify=False, **{"time_steps": 7} | options).tflite, of_ids=of_ids)


@functools.cache
def both_ways(form: str) -> bytes:
    return lstm_toolkit.convert(functional(bidirectional(4)), bidirectional=form, verify=False).tflite


@functools.cache
def projected(clip: float) -> bytes:
    def clipped(model: Any) -> None:
        for op in fault_corpus.lstms(model):
            op.builtinOptions.projClip = clip

    options = {"time_steps": 7, "verify": False}
    return fault_corpus.edited(lstm_toolkit.convert(weights(projection=True), **options).tflite, clipped)


def growing(bias: float = 6.0) -> Any:
    gates = dict.fromkeys(("cell_gate_bias", "input_gate_bias", "forget_gate_bias"), np.full(7, bias))
    return dataclasses.replace(weights(), **gates)


def read_over_padding(*, masked: bool = True) -> Any:
    ids = keras.Input((7,), dtype="int32", name="ids")
    x = layers.Embedding(11, 5, mask_zero=masked)(ids)
    return randomized(keras.Model(ids, layers.LSTM(6, return_state=True, name="reader")(x)))


LONG = RANDOM.normal(size=(20, 100, 5)).astype("f")
IDS = RANDOM.integers(1, 11, (20, 7)).astype(np.int32)
OF_IDS = INT8 | {"representative_dataset": IDS}
STATES = RANDOM.normal(0, 0.3, (20, 6)).astype("f")
OF_STATES = {"steps": SAMPLES, "one_h": STATES, "one_c": STATES}


INT8_IN = {"io_dtype": ("int8", "float32"), "representative_dataset": SAMPLES}


def masked_by(value: float) -> Any:
    return functional(layers.Masking(mask_value=value), layers.LSTM(6))


def rooted() -> Any:
    """A model whose output is not a number where its input is below -9."""
    steps = keras.Input((7, 5), name="steps")
    return randomized(keras.Model(steps, keras.ops.sqrt(steps + 9.0) + layers.LSTM(5, return_sequences=True)(steps)))


def returning(count: int) -> Any:
    return functional(lambda x: layers.LSTM(6, return_state=True, name="one")(x)[:count])


@functools.cache
def int8_of(number: int) -> tuple[bytes, bytes]:
    units = functional(sequence(5 + number, name=f"layer{number}"))
    return tuple(
        lstm_toolkit.convert(units, bidirectional="split", verify=False, **options).tflite
        for options in ({"time_steps": 7}, INT8)
    )


def view(one: int, other: int) -> Any:
    samples = [{"steps": each[np.newaxis]} for each in SAMPLES[:2]]
    return quantization_view(int8_of(one)[1], int8_of(other)[0], samples)


@functools.cache
def report(kind: str) -> Any:
    options = INT8 if kind == "int8" else {"quantization": kind}
    return lstm_toolkit.convert(lstm(), verify=False, **options).report.quantization


QUANTIZATION = [
    refused(
        ("the model takes its numbers as whole ones", "input 'ids'", 'dtype="int32"'),
        lambda: tokens(dtype="float32"),
        INT8_IN | {"representative_dataset": IDS.astype("f")},
        {"io_dtype": "float32"},
        instead(tokens, **INT8_IN | {"representative_dataset": IDS}),
    ),
    refused(
        ("the model compares it with {}, as a mask does", "-1", "(mask_value=0.0)"),
        lambda: masked_by(-1.0),
        INT8_IN,
        {"io_dtype": "float32"},
        instead(lambda: masked_by(0.0), **INT8_IN),
    ),
    refused(
        ("holds NaN or infinity on representative_dataset; leave such", "output 'output_0'"),
        rooted,
        {"io_dtype": ("float32", "int8"), "representative_dataset": SAMPLES - 9},
        {"io_dtype": "float32"},
        instead(rooted, io_dtype=("float32", "int8"), representative_dataset=SAMPLES),
    ),
    Refusal(
        ("the samples of representative_dataset have different shapes of input {}", "'steps'", "give samples of one"),
        lambda: exact(lstm(time=None), **INT8_IN | {"representative_dataset": [SAMPLES[:1], SAMPLES[:1, :4]]}),
        lambda: exact(lstm(time=None), **INT8_IN),
    ),
    Refusal(
        (", which has no int8 kernel; convert with bidirectional=", "layer '", '"split"'),
        lambda: quantized(both_ways("fused")),
        lambda: quantized(both_ways("split")),
    ),
    Refusal(
        ("layer {} cannot be int8: its cell state reaches ", "'lstm_l0'", 'pass quantization="dynamic"'),
        lambda: fused_int8(growing(), time_steps=100),
        instead(growing, **INT8 | {"time_steps": 100, "representative_dataset": LONG}),
        instead(growing, quantization="dynamic", time_steps=100),
    ),
    refused(
        ("layer {} cannot be int8: its inputs reach ", "'one'", 'pass quantization="dynamic"', "normalize the inputs"),
        lstm,
        INT8 | {"representative_dataset": 1e6 * SAMPLES},
        instead(lstm, quantization="dynamic"),
        instead(lstm, **INT8),
    ),
    Refusal(
        ("LiteRT crashes or hangs in {}: ", "SQUARED_DIFFERENCE", 'convert without quantization="int8"', "another one"),
        lambda: spoiled.convert_fine_sums(verify=False),
        lambda: exact(degenerate.of_small_differences()[0]),
        lambda: exact(degenerate.of_small_differences()[0], quantization="dynamic"),
    ),
    Refusal(
        ("LiteRT crashes or hangs in {}: ", "ADD (spoiled)", "take that out of the model, and compute it outside"),
        spoiled.convert_spoiled,
        spoiled.convert,
    ),
    Refusal(
        (
            "it shuts its gates at padded steps by weights of 1e4",
            "layer 'reader'",
            'quantization="float16"',
            "mask",
        ),
        lambda: fused_int8(read_over_padding(), of_ids=True),
        instead(read_over_padding, quantization="float16"),
        instead(lambda: read_over_padding(masked=False), **OF_IDS),
    ),
    refused(
        ("{} cannot be computed in integers: it shuts the gates of its layer", "'reader/", 'quantization="float16"'),
        read_over_padding,
        OF_IDS | {"quantization": "int16x8"},
        instead(read_over_padding, quantization="float16"),
        instead(lambda: read_over_padding(masked=False), **OF_IDS | {"quantization": "int16x8"}),
    ),
    Refusal(
        ("its activation is not tanh, and the int8 kernel computes tanh", "layer 'one'", '"dynamic" or "float16"'),
        lambda: fused_int8(lstm(activation="relu")),
        *(instead(lambda: lstm(activation="relu"), **options) for options in (INT8, INT8 | {"lowering": "loop"})),
        instead(lambda: lstm(activation="relu"), quantization="dynamic"),
        instead(lambda: lstm(activation="relu"), quantization="float16"),
    ),
    Refusal(
        ("as if their zero point were 0; drop proj_clip", "layer 'lstm_l0'"),
        lambda: quantized(projected(0.5)),
        lambda: quantized(projected(0.0)),
    ),
    Refusal(
        ("the kernel reads as many peephole weights as there are outputs", "layer 'lstm_l0'", 'quantization="dynamic"'),
        lambda: fused_int8(weights(peephole=True, projection=True)),
        instead(lambda: weights(peephole=True, projection=True), **INT8),
        instead(lambda: weights(peephole=True, projection=True), quantization="dynamic", time_steps=7),
    ),
    Refusal(
        ("the kernel reads diagonal recurrent weights as float only", "layer 'lstm_l0'", 'quantization="dynamic"'),
        lambda: fused_int8(weights(diagonal=True)),
        instead(lambda: weights(diagonal=True), **INT8),
        instead(lambda: weights(diagonal=True), quantization="dynamic", time_steps=7),
    ),
    Refusal(
        ("its states are given from outside", "layer 'one'", 'quantization="dynamic"', 'state="carry"'),
        lambda: fused_int8(lstm(), state="explicit"),
        instead(lstm, **INT8 | {"state": "explicit", "representative_dataset": OF_STATES}),
        instead(lstm, quantization="dynamic", state="explicit"),
        instead(lstm, **INT8, state="carry"),
    ),
    Refusal(
        ("its states are given from outside", "layer 'decoder'", 'quantization="dynamic"'),
        lambda: fused_int8(decoder()),
        instead(decoder, **INT8 | {"representative_dataset": {"x": SAMPLES, "h": STATES, "c": STATES}}),
        instead(decoder, quantization="dynamic"),
    ),
    Refusal(
        ("its last cell state is given on (return_state)", "layer 'one'", 'quantization="dynamic"', "drop that state"),
        lambda: fused_int8(returning(3)),
        instead(lambda: returning(3), **INT8),
        instead(lambda: returning(3), quantization="dynamic"),
        instead(lambda: returning(2), **INT8),
    ),
    Refusal(
        (" file has a {} of {}, {}", "output 'output_0' of the int8 file", "above 1e-06", 'quantization="float16"'),
        lambda: report("int8").check(max_relative_error=1e-6),
        lambda: report("int8").check(max_relative_error=0.5),
        lambda: report("float16").check(max_relative_error=1e-2),
        at="quantization/report.py",
    ),
    Refusal(
        ("the file has the LSTMs {}, got {}", "['layer0']", "'nobody'"),
        lambda: view(0, 0).picture("nobody"),
        lambda: view(0, 0).picture("layer0"),
    ),
    Refusal(
        ("the quantized file has no LSTMs {}; it was made of another file", "['layer1']"),
        lambda: view(0, 1),
        lambda: view(1, 1),
    ),
]


def sixteen_bits(reached: float, *, constant: bool = True) -> Any:
    """The fused op in 16x8, whose inputs reach a value."""
    model = files.read_model(lstm_toolkit.convert(lstm(), target="micro", verify=False).tflite)
    (op,) = recurrent_ops(model)
    if not constant:
        op.operator.inputs[1] = op.operands["output_state"]
    touched = (op.operands["input"], int(op.operator.outputs[0]), op.operands["cell_state"])
    names = [graph.text(op.subgraph.tensors[index].name) for index in touched]
    return fused_int16.to_int16(model, dict(zip(names, (reached, 1.0, 2.0), strict=True)))


TARGETS = [
    Refusal(
        ("layer {} cannot be int16x8: its inputs reach ", "'one'", "normalize the inputs", "without quantization"),
        lambda: sixteen_bits(1e7),
        lambda: sixteen_bits(10.0),
        lambda: exact(lstm(), target="micro"),
    ),
    Refusal(
        ("layer {}: its {} is not a float32 constant; convert", "'one'", "input_to_input_weights"),
        lambda: sixteen_bits(10.0, constant=False),
        lambda: sixteen_bits(10.0),
    ),
    refused(
        ("{} cannot run the file: {}: {}; take {} out of the model", "TOPK_V2", "layer 'sparse'"),
        lambda: functional(layers.LSTM(4), layers.Dense(3, activation="sparsemax", name="sparse")),
        {"target": "micro"},
        instead(lambda: functional(layers.LSTM(4)), target="micro"),
    ),
    refused(
        ("{} cannot run the file: {}", "GELU", "give layer 'bent' its approximate form"),
        lambda: functional(layers.LSTM(4), layers.Dense(3, activation="gelu", name="bent"), layers.Dense(2)),
        {"target": "micro"},
        instead(lambda: functional(layers.LSTM(4), layers.Dense(3, activation=approximate_gelu)), target="micro"),
    ),
    refused(
        ("{} cannot run the file: {}", "an open size"),
        lambda: lstm(time=None),
        {"target": "micro"},
        {"time_steps": 7},
    ),
    refused(
        ("{} cannot run the file: {}", "'output_0' is int64"),
        lambda: behind(layers.Lambda(lambda x: tf.cast(x, tf.int64))),
        {"target": "compiled"},
        {"target": LEAVE_OUT},
    ),
]

REFUSALS = [*CONVERTER, *PARITY, *PASSES, *QUANTIZATION, *TARGETS]


@pytest.mark.filterwarnings("ignore::lstm_toolkit.quantization.quantize.QuantizationWarning")
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_what_the_message_advises_helps(refusal):
    refusal.follow()
