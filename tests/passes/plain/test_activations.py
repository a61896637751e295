"""The activations of plain ops: by which name each library's functions and layers go, and the same numbers everywhere.

Oracle: the function or layer of the library itself.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lstm_toolkit
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.plain.activations import SATURATING, activated
from lstm_toolkit.runtime import trial
from lstm_toolkit.sources.activations import activation_name
from lstm_toolkit.tflite import files
from lstm_toolkit.tflite.builder import OpBuilder
from tests.helpers.calls import assert_agrees, by_output
from tests.helpers.models import randomized
from tests.helpers.schema_models import empty_model

A, L, L2 = keras.activations, keras.layers, tf_keras.layers
BATCH, TIME, INPUTS = 3, 4, 5

OF_KERAS_3 = {
    "celu(1.0)": A.celu,
    "celu(0.3)": functools.partial(A.celu, alpha=0.3),
    "elu(1.0)": A.elu,
    "elu(0.4)": L.ELU(0.4),
    "exponential": A.exponential,
    "gelu(0.0)": A.gelu,
    "gelu(1.0)": keras.ops.gelu,
    "hard_sigmoid": A.hard_sigmoid,
    "hard_silu": A.hard_silu,
    "hard_tanh": A.hard_tanh,
    "leaky_relu(0.2)": A.leaky_relu,
    "leaky_relu(0.3)": L.LeakyReLU(),
    "linear": tf.identity,
    "log_sigmoid": A.log_sigmoid,
    "log_softmax": A.log_softmax,
    "mish": A.mish,
    "relu": L.ReLU(),
    "relu6": L.ReLU(max_value=6),
    "relu(0.0, 1.0)": functools.partial(A.relu, max_value=1),
    "relu(0.3, 2.0)": L.ReLU(max_value=2, negative_slope=0.3),
    "selu": A.selu,
    "sigmoid": tf.nn.sigmoid,
    "silu": tf.nn.silu,
    "soft_shrink(0.5)": A.soft_shrink,
    "softmax": L.Softmax(),
    "softplus": A.softplus,
    "softsign": A.softsign,
    "sparse_plus": A.sparse_plus,
    "tanh": L.Activation("tanh"),
    "tanh_shrink": A.tanh_shrink,
}
if hasattr(A, "sparse_sigmoid"):  # Keras 3.8 has none
    OF_KERAS_3["sparse_sigmoid"] = A.sparse_sigmoid
OF_KERAS_2 = {
    "elu(0.5)": L2.ELU(0.5),
    "gelu(0.0)": tf_keras.activations.gelu,
    "gelu(1.0)": functools.partial(tf_keras.activations.gelu, approximate=True),
    "hard_sigmoid_of_keras_2": tf_keras.activations.hard_sigmoid,
    "leaky_relu(0.2)": tf_keras.activations.get("leaky_relu"),
    "leaky_relu(0.25)": L2.LeakyReLU(0.25),
    "mish": tf_keras.activations.mish,
    "relu(0.5, 2.0)": L2.ReLU(max_value=2, negative_slope=0.5),
    "selu": tf_keras.activations.selu,
    "softplus": tf_keras.activations.softplus,
}
NO_ACTIVATION = {
    "jumps": L.ReLU(threshold=1.0),
    "jumps, function": A.hard_shrink,
    "of another axis": L.Softmax(axis=0),
    "of another axis, function": functools.partial(A.softmax, axis=0),
    "of another slope": functools.partial(tf.nn.silu, beta=2.0),
    "with a weight": L.PReLU(),
    "of one's own": lambda x: x,
    "that sorts": A.sparsemax,
    "inexact for large numbers": A.squareplus,
    "a layer of one's own": type("Own", (L.ReLU,), {})(),
}


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["Keras 3", "Keras 2"])
def test_an_activation_goes_by_its_name_and_its_numbers(library):
    functions = OF_KERAS_3 if library is keras else OF_KERAS_2
    assert [activation_name(each, library) for each in functions.values()] == list(functions)


@pytest.mark.parametrize("kind", NO_ACTIVATION)
def test_what_is_no_activation_of_plain_ops_has_no_name(kind):
    assert activation_name(NO_ACTIVATION[kind], keras) is None


def file_of(names, shape):
    """A file that computes every activation of one input; the outputs have the names of the activations."""
    model = empty_model()
    builder = OpBuilder(model, model.subgraphs[0], "activations")
    given = builder.tensor("given", shape)
    results = [activated(builder, builder.binary("ADD", given, builder.constant(0.0)), name) for name in names]
    subgraph = model.subgraphs[0]
    subgraph.tensors[given].name = b"given"
    subgraph.inputs, subgraph.outputs, subgraph.operators = [given], results, builder.operators
    for name, index in zip(names, results, strict=True):
        subgraph.tensors[index].name = name.encode()
    return files.write_model(model)


def values():
    """Ordinary, tiny and large numbers, and zeros."""
    random = np.random.default_rng(0)
    drawn = [random.normal(size=96) * scale for scale in (3.0, 1e-4, 1e-20)]
    return (
        np.concatenate([*drawn, [0.0, -0.0, 20.0, -20.0, 1e3, -1e3, 60.0, -60.0] * 4]).reshape(8, -1).astype(np.float32)
    )


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["Keras 3", "Keras 2"])
@pytest.mark.parametrize("runtime", trial.RUNTIMES)
def test_numbers_are_the_librarys_own_on_every_runtime(library, runtime):
    if not trial.is_installed(runtime):
        pytest.skip("tflite-micro has no wheel for this platform")
    functions = OF_KERAS_3 if library is keras else OF_KERAS_2
    # The exponential of 1e3 is infinite, and TensorFlow Lite Micro has no op GELU.
    names = [each for each in functions if each != "exponential" and (each, runtime) != ("gelu(0.0)", "micro")]
    given = values()
    (ran,) = trial.run_on(runtime, [(file_of(names, given.shape), [{"given": given}] * 2)])
    assert ran.refused is None
    for outputs in ran.outputs:
        for name in names:
            expected = np.asarray(functions[name](tf.constant(given)))
            np.testing.assert_allclose(outputs[name], expected, atol=1e-5, rtol=1e-5, err_msg=name)


def test_gates_that_shut_are_0_far_below_and_1_far_above():
    functions = OF_KERAS_3 | OF_KERAS_2
    far = tf.constant([[-1e4, 1e4]])
    shut = {name for name, each in functions.items() if np.array_equal(each(far), [[0.0, 1.0]])}
    # A softmax is so for these two units, not for each unit alone.
    assert shut - {"softmax"} == SATURATING & functions.keys()


def branches(library, odd):
    """One layer an activation, and one of each kind with an odd one for its gates."""
    inputs = library.Input((TIME, INPUTS))
    layers = [library.layers.SimpleRNN(3, activation=each) for each in odd]
    for cls in (library.layers.LSTM, library.layers.GRU):
        layers.append(cls(2, activation=odd[0], recurrent_activation=odd[1], return_sequences=True))
    return randomized(library.Model(inputs, [layer(inputs) for layer in layers]), scale=0.3)


ODD = {
    "Keras 3": (keras, ["mish", "softmax", "hard_silu", keras.ops.gelu, L.LeakyReLU(0.1)]),
    "Keras 2": (tf_keras, ["selu", "softmax", "leaky_relu", "LeakyReLU", L2.ELU(0.3)]),
}


@pytest.mark.parametrize(("name", "lowering"), [("Keras 3", "unrolled"), ("Keras 2", "loop")])
def test_layers_with_odd_activations(random, name, lowering):
    model = branches(*ODD[name])
    tflite = lstm_toolkit.convert(model, lowering=lowering, batch_size=BATCH, verify=False).tflite
    (key,) = lstm_toolkit.Runner(tflite).input_shapes
    xs = [random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32) for _ in range(3)]
    assert_agrees(tflite, [{key: x} for x in xs], [by_output(model(x)) for x in xs])


def lstm(activation):
    return randomized(keras.Sequential([keras.Input((TIME, INPUTS)), L.LSTM(6, activation=activation, name="odd")]))


def test_a_layer_that_is_the_activation_of_the_fused_op_fuses():
    conversion = lstm_toolkit.convert(lstm(L.ReLU(max_value=6)))
    assert [each.op for each in conversion.report.layers] == ["UNIDIRECTIONAL_SEQUENCE_LSTM"]


def test_an_exact_gelu_is_refused_for_micro_and_an_approximate_one_is_not():
    with pytest.raises(ConversionError, match="TensorFlow Lite Micro has no op GELU"):
        lstm_toolkit.convert(lstm("gelu"), target="micro")
    approximate = functools.partial(A.gelu, approximate=True)
    assert lstm_toolkit.convert(lstm(approximate), target="micro").report.max_abs_error < 1e-5


def test_an_unknown_activation_is_refused_by_name():
    with pytest.raises(ConversionError, match=r"its activation is 'sparsemax', which is not among .*; use one of them"):
        lstm_toolkit.convert(lstm("sparsemax"), lowering="unrolled")
    with pytest.raises(
        ConversionError, match=r"its activation is 'PReLU', and the fused op has .*; use one of them; or"
    ):
        lstm_toolkit.convert(lstm(L.PReLU()))
