"""Each op in int16, alone in a file with random shapes and scales: what LiteRT gives is what NumPy says.

The oracle takes what the op takes, weights and inputs as they are stored, and computes in float64. Both runtimes have
to give the same bits. `LSTM_TOOLKIT_EXAMPLES` sets how many files of each op are tried.
"""

import os

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from lstm_toolkit.passes.int16.rewrite import to_int16
from lstm_toolkit.passes.int16.rules import RULES
from lstm_toolkit.runtime import trial
from lstm_toolkit.tflite import edit, files, graph
from tests.helpers.properties import of_models
from tests.helpers.schema_models import empty_model

EXAMPLES = int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", "10"))
RESCALED, MOVED = 1.0, 1e-3
"""Steps of the output that a result may be off: rounded once, and not at all but for float32 at the edges."""
BY_15_BITS = 1.5
"""The same where a kernel has 15 bits of a multiplier that has more: half a step of the largest number."""
BY_TABLE, OF_TABLES = 4.0, 16.0
"""The same for LOGISTIC and TANH, which take their steps of 2^-15 out of a table, and for SOFTMAX, which takes them out
of two; up to 2.1 and 9 were seen."""


def _normal(random, *shape):
    return random.normal(size=shape).astype(np.float32)


def _shape(random, rank=None):
    return tuple(map(int, random.integers(1, 6, rank or random.integers(2, 5))))


def _pair(function):
    def make(random):
        shape = _shape(random)
        return [_normal(random, *shape), _normal(random, *shape)], {}, function

    return make


def _one(function, **options):
    return lambda random: ([_normal(random, *_shape(random))], options, function)


def _moved(function, *others, rank=3, **options):
    """An op that takes constants beside its data."""
    return lambda random: ([_normal(random, *_shape(random, rank)), *map(np.int32, others)], options, function)


def _fully_connected(random):
    rows, columns, inputs = _shape(random, 3)
    arrays = [_normal(random, rows, inputs), _normal(random, columns, inputs), _normal(random, columns)]
    return arrays, {}, lambda x, kernel, bias: x @ kernel.T + bias


def _batch_matmul(random):
    batch, rows, inner, columns = _shape(random, 4)
    return [_normal(random, batch, rows, inner), _normal(random, batch, inner, columns)], {}, np.matmul


def _windows(x, sizes):
    return sliding_window_view(x, sizes, axis=(1, 2))


def _convolution(random):
    outputs, inputs = _shape(random, 2)
    arrays = [_normal(random, 1, 4, 5, inputs), _normal(random, outputs, 2, 3, inputs), _normal(random, outputs)]
    options = {"strideH": 1, "strideW": 1, "padding": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    return arrays, options, lambda x, k, bias: np.einsum("bhwcij,oijc->bhwo", _windows(x, (2, 3)), k) + bias


def _depthwise(random):
    (channels,) = _shape(random, 1)
    arrays = [_normal(random, 1, 4, 5, channels), _normal(random, 1, 2, 3, channels), _normal(random, channels)]
    sizes = {"strideH": 1, "strideW": 1, "padding": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    options = sizes | {"depthMultiplier": 1}
    return arrays, options, lambda x, k, bias: np.einsum("bhwcij,ijc->bhwc", _windows(x, (2, 3)), k[0]) + bias


def _pool(function):
    options = {"strideH": 1, "strideW": 1, "padding": 1, "filterHeight": 2, "filterWidth": 3}
    return lambda random: (
        [_normal(random, 1, 4, 5, *_shape(random, 1))],
        options,
        lambda x: function(_windows(x, (2, 3)), axis=(-2, -1)),
    )


def _softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _select(random):
    shape = _shape(random)
    return [random.random(shape) < 0.5, _normal(random, *shape), _normal(random, *shape)], {}, np.where


def _joined(function, **options):
    def make(random):
        shape = _shape(random, 3)
        return [_normal(random, *shape) for _ in range(3)], options, lambda *arrays: function(arrays, axis=1)

    return make


OPS = {
    "ADD": (_pair(np.add), RESCALED),
    "SUB": (_pair(np.subtract), RESCALED),
    "MUL": (_pair(np.multiply), RESCALED),
    "FULLY_CONNECTED": (_fully_connected, RESCALED),
    "BATCH_MATMUL": (_batch_matmul, BY_15_BITS),
    "CONV_2D": (_convolution, RESCALED),
    "DEPTHWISE_CONV_2D": (_depthwise, RESCALED),
    "MEAN": (_moved(lambda x, axes: x.mean(tuple(axes)), [1]), RESCALED),
    "RELU": (_one(lambda x: np.maximum(x, 0)), RESCALED),
    "LEAKY_RELU": (_one(lambda x: np.maximum(x, 0.25 * x), alpha=0.25), RESCALED),
    "LOGISTIC": (_one(lambda x: 0.5 + 0.5 * np.tanh(0.5 * x)), BY_TABLE),
    "TANH": (_one(np.tanh), BY_TABLE),
    "SOFTMAX": (_one(_softmax, beta=1.0), OF_TABLES),
    "MINIMUM": (_pair(np.minimum), MOVED),
    "MAXIMUM": (_pair(np.maximum), MOVED),
    "RELU6": (_one(lambda x: x.clip(0, 6)), RESCALED),
    "RESHAPE": (_moved(lambda x, shape: x.reshape(shape), [-1]), MOVED),
    "TRANSPOSE": (_moved(np.transpose, [2, 0, 1]), MOVED),
    "REVERSE_V2": (_moved(lambda x, axes: np.flip(x, axes), [1]), MOVED),
    "SLICE": (_moved(lambda x, begin, size: x[:, :1], [0, 0, 0], [-1, 1, -1]), MOVED),
    "UNPACK": (lambda random: ([_normal(random, 1, 3, 4)], {"axis": 0, "num": 1}, lambda x: x[0]), MOVED),
    "SQUEEZE": (lambda random: ([_normal(random, 3, 1, 4)], {"squeezeDims": [1]}, lambda x: x[:, 0]), MOVED),
    "EXPAND_DIMS": (_moved(lambda x, axis: x[:, None], 1), MOVED),
    "PAD": (_moved(np.pad, [[1, 0], [0, 2], [0, 0]]), MOVED),
    "MAX_POOL_2D": (_pool(np.max), MOVED),
    "AVERAGE_POOL_2D": (_pool(np.mean), RESCALED),
    "SELECT_V2": (_select, MOVED),
    "PACK": (_joined(np.stack, axis=1, valuesCount=3), MOVED),
    "CONCATENATION": (_joined(np.concatenate, axis=1), RESCALED),
}
"""For each op what makes its inputs, its options and its oracle, and how many steps its result may be off."""

IN_LAYERS = {"GATHER", "SPLIT", "STRIDED_SLICE", "RESIZE_NEAREST_NEIGHBOR", "DYNAMIC_UPDATE_SLICE", "WHILE"}
"""Ops that whole layers and tables are tested with."""


def made(op, seed, powers=(0, 0, 0)):
    """The int16 file of one op, its inputs by name, the oracle's arguments and result, and its largest error."""
    make, steps = OPS[op]
    arrays, options, oracle = make(np.random.default_rng(seed))
    arrays = [a * np.float32(10.0**p) if a.dtype == np.float32 else a for a, p in zip(arrays, powers, strict=False)]
    model = empty_model()
    (subgraph,) = model.subgraphs
    constants = len(arrays) if RULES[op].channels is None else 1
    places, ranges, given_ = [], {}, {}
    for number, array in enumerate(arrays):
        if array.dtype == np.int32 or number >= constants:
            places.append(edit.add_constant(model, subgraph, f"constant_{number}", array))
            continue
        dtype = next(code for code, known in graph.DTYPES.items() if np.dtype(known) == array.dtype)
        places.append(edit.add_tensor(subgraph, f"in_{number}", array.shape, dtype=dtype))
        given_[f"in_{number}"] = array
        if array.dtype == np.float32:
            ranges[f"in_{number}"] = float(array.min()), float(array.max())
    result = np.asarray(oracle(*arrays))
    # Weights of 8 bits give other numbers.
    ranges["out"] = 1.1 * float(result.min()), 1.1 * float(result.max())
    output = edit.add_tensor(subgraph, "out", result.shape)
    operator = edit.new_operator(model, op, places, [output], **options)
    subgraph.operators.append(operator)
    subgraph.inputs, subgraph.outputs = [place for place in places if subgraph.tensors[place].buffer == 0], [output]
    assert to_int16(model, ranges) == []
    stored = [_stored(model, index, array) for index, array in zip(operator.inputs, arrays, strict=True)]
    # What is a number of a scale already is not rounded, in whatever way QUANTIZE does that.
    given_ |= {
        name: array.astype(given_[name].dtype)
        for place, array in zip(places, stored, strict=True)
        if (name := graph.text(subgraph.tensors[place].name)) in given_
    }
    step = max(graph.scale_of(subgraph.tensors[index])[0] for index in (operator.outputs[0], output))
    return files.write_model(model), given_, oracle(*stored), steps * step


def _stored(model, index, array):
    """What an op takes, as numbers: an input in steps of its scale, or a constant as it is in the file."""
    tensor = model.subgraphs[0].tensors[index]
    values, quantization = graph.constant(model, tensor), tensor.quantization
    if quantization is None or not len(quantization.scale):
        return array
    scale = np.float64(np.float32(quantization.scale))
    if len(scale) > 1:
        scale = scale.reshape([-1 if axis == quantization.quantizedDimension else 1 for axis in range(array.ndim)])
    return (np.rint(array / scale).clip(-32768, 32767) if values is None else values.astype(np.float64)) * scale


def run(tflite, given_):
    interpreter = Interpreter(model_content=tflite)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], given_[detail["name"]])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_every_rule_has_an_oracle():
    assert OPS.keys() | IN_LAYERS == RULES.keys()


@pytest.mark.parametrize("op", OPS)
@of_models(EXAMPLES)
@given(seed=st.integers(0, 10**6), powers=st.tuples(*[st.integers(-2, 2)] * 3))
def test_an_op_gives_what_numpy_says(op, seed, powers):
    tflite, given_, wanted, largest_error = made(op, seed, powers)
    np.testing.assert_allclose(run(tflite, given_), wanted, rtol=0, atol=largest_error)


@pytest.mark.skipif(not trial.is_installed("micro"), reason="tflite-micro has no wheel for this platform")
def test_micro_gives_the_same_bits():
    cases = {(op, seed): made(op, seed, (seed % 3 - 1, 1, 0)) for op in OPS for seed in range(3)}
    trials = trial.run_on("micro", [(tflite, [given_]) for tflite, given_, *_ in cases.values()])
    for (name, (tflite, given_, *_)), tried in zip(cases.items(), trials, strict=True):
        assert tried.refused is None, f"{name}: {tried.refused}"
        np.testing.assert_array_equal(next(iter(tried.outputs[0].values())), run(tflite, given_), err_msg=str(name))
