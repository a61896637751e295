"""Shapes that a file leaves to the runtime: LiteRT's own test files do so, and LiteRT runs them."""

import keras
import numpy as np
import pytest
import tf_keras

import lstm_toolkit as lt
from lstm_toolkit.errors import ConversionError, InvalidModelError
from tests.helpers import fault_corpus
from tests.helpers.calls import by_input, run_in_a_row
from tests.helpers.models import randomized

X = np.random.default_rng(4).standard_normal((2, 5, 3)).astype(np.float32)


def keras_3(*layers):
    return randomized(keras.Sequential([keras.Input((5, 3), batch_size=2), *layers]), 5, 0.5)


def without_shapes(tflite, *, everywhere=False):
    """The file without the shapes of what its recurrent ops, or all ops, compute; states and constants keep theirs."""

    def edit(model):
        graph = model.subgraphs[0]
        states = {
            index for op in graph.operators for index in op.inputs if index >= 0 and graph.tensors[index].isVariable
        }
        for op in graph.operators:
            for index in op.outputs if everywhere or len(op.inputs) >= 5 else ():
                if index not in states:
                    graph.tensors[index].shape = graph.tensors[index].shapeSignature = None
                    graph.tensors[index].hasRank = False

    return fault_corpus.edited(tflite, edit)


@pytest.fixture(scope="module")
def stored():
    """Files by name: both layers in one op and one behind it, simple ones, with a projection, and two of tf_keras."""
    layers = keras.layers
    both = keras_3(layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.LSTM(6))
    simple = keras_3(layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True)), layers.SimpleRNN(6))
    cell = lt.lingvo.LSTMCellSimple(num_input_nodes=3, num_output_nodes=4, num_hidden_nodes=7, seed=3)
    stack = [tf_keras.layers.LSTM(4, return_sequences=True), tf_keras.layers.LSTM(6)]
    old = randomized(tf_keras.Sequential([tf_keras.Input((5, 3), batch_size=2), *stack]), 6, 0.5)
    contents = {
        "one op": lt.convert(both, state="carry", verify=False).tflite,
        "simple": lt.convert(simple, state="carry", verify=False).tflite,
        "projection": lt.convert(lt.lingvo.RNN(cell), batch_size=2, time_steps=5, verify=False).tflite,
        "stock float16": fault_corpus.stock_float16(old),
        "stock int8": fault_corpus.stock_int8(old),
    }
    return {name: fault_corpus.edited(content, lambda _: None) for name, content in contents.items()}


FORMS = ("one op", "simple", "projection", "stock float16", "stock int8")


def calls(tflite):
    details = lt.inspect(tflite).inputs
    random = np.random.default_rng(7)
    return [by_input(tflite, [random.standard_normal(each.shape).astype(np.float32) for each in details])] * 3


def assert_same_results(one, other, given):
    for left, right in zip(run_in_a_row(one, given), run_in_a_row(other, given), strict=True):
        for name, value in left.items():
            np.testing.assert_allclose(value, right[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_without_shapes_is_read_as_the_file_with_them(stored, form, everywhere):
    whole, given = stored[form], calls(stored[form])
    bare = without_shapes(whole, everywhere=everywhere)
    assert_same_results(bare, whole, given)
    nodes = [(each.batch, each.time_steps, each.units, each.state) for each in lt.inspect(bare).lstm_nodes]
    assert nodes == [(each.batch, each.time_steps, each.units, each.state) for each in lt.inspect(whole).lstm_nodes]
    assert [each.code for each in lt.diagnose(bare)] == [each.code for each in lt.diagnose(whole)]
    assert_same_results(lt.repair(bare).tflite, lt.repair(whole).tflite, given)
    if not everywhere:
        assert lt.inspect(bare).subgraphs == lt.inspect(whole).subgraphs


@pytest.mark.parametrize(("form", "lowering"), [("one op", "unrolled"), ("projection", "loop")])
def test_it_is_lowered(stored, form, lowering):
    whole = lt.repair(stored[form]).tflite
    assert_same_results(lt.lower(without_shapes(whole), form=lowering), lt.lower(whole, form=lowering), calls(whole))


def test_an_input_whose_shape_nothing_tells():
    """Behind an op that no rule follows, batch and units are known from the states, the steps are not."""
    layers = keras.layers
    model = keras_3(layers.LSTM(4, return_sequences=True), layers.Dense(7, activation="tanh"), layers.LSTM(6))
    bare = without_shapes(fault_corpus.edited(lt.convert(model, state="carry").tflite, lambda _: None), everywhere=True)
    first, second = lt.inspect(bare).lstm_nodes
    assert (first.batch, first.time_steps, first.units) == (2, 5, 4)
    assert (second.batch, second.time_steps, second.units) == (2, None, 6)
    assert [each.code for each in lt.diagnose(bare)] == ["state-leak"] * 2
    repaired = lt.repair(bare).tflite
    for _ in range(3):
        np.testing.assert_allclose(lt.Runner(repaired)(X), model(X), rtol=0, atol=1e-5)
    with pytest.raises(ConversionError, match=r"does not store the shape of its input, .* lstm_toolkit\.convert"):
        lt.lower(repaired)
    lowered = lt.convert(model, lowering="unrolled").tflite
    np.testing.assert_allclose(lt.Runner(lowered)(X), model(X), rtol=0, atol=1e-5)


def test_an_open_size_stays_open():
    model = randomized(keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, return_sequences=True)]), 8, 0.5)
    bare = without_shapes(lt.convert(model).tflite)
    assert lt.inspect(bare).outputs[0].shape == (1, -1, 4)


def test_a_shape_that_no_op_gives_is_still_refused(stored):
    def flatten(model):
        (op, *_) = fault_corpus.lstms(model)
        model.subgraphs[0].tensors[op.outputs[0]].shape = [40]

    with pytest.raises(InvalidModelError, match=r"has an input and an output of \[3, 1\] axes, not of 2 or 3"):
        lt.inspect(fault_corpus.edited(stored["stock float16"], flatten))


def test_a_custom_op_with_the_name_of_a_builtin_is_none(stored):
    custom = fault_corpus.edited(stored["stock float16"], fault_corpus.as_custom_op)
    summary = lt.inspect(custom)
    assert summary.ops["CUSTOM UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    assert summary.lstm_nodes == ()
    assert lt.repair(custom).tflite is custom
    assert lt.lower(custom) is custom
