"""States that live on: set at each call, or left alone as streams and where that is asked for."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lstm_toolkit as lt
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.tflite import edit
from tests.helpers import fault_corpus
from tests.helpers.calls import by_input, run_in_a_row

FLOAT16 = 2e-3
"""How far weights of float16 let an output differ."""


def codes(found):
    return [finding.code for finding in found]


def draw(shape, calls=3):
    random = np.random.default_rng(1)
    return [random.standard_normal(shape).astype(np.float32) for _ in range(calls)]


def outputs(tflite, calls):
    """The one output of each call, with XNNPACK and then without."""
    results = run_in_a_row(tflite, [by_input(tflite, [x]) for x in calls])
    return [next(iter(each.values())) for each in results]


def assert_equal_calls(tflite, calls, expected, tolerance=1e-5):
    for got, want in zip(outputs(tflite, calls), [*expected] * 2, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


def set_by(op, values, *operands, **options):
    """An edit that sets each state of the only LSTM by an op of constants, before everything else."""

    def change(model):
        graph = model.subgraphs[0]
        for index, array in zip(fault_corpus.lstms(model)[0].inputs[18:20], values, strict=True):
            inputs = [edit.add_constant(model, graph, "constant", each) for each in (array, *operands)]
            graph.tensors[inputs[0]].quantization = graph.tensors[index].quantization
            graph.operators.insert(0, edit.new_operator(model, op, inputs, [index], **options))

    return change


@pytest.mark.parametrize("name", ["stacked", "both ways", "given states"])
def test_a_float16_file_of_tf_keras_starts_each_call_as_the_first(corpus, name):
    """The state is the DEQUANTIZE of a constant, zero or not, which runs at the first call alone."""
    case = corpus[f"float16, {name}"]
    calls = draw(case.shape)
    repeated = outputs(case.tflite, [calls[0]] * 2)
    assert np.abs(repeated[0] - repeated[1]).max() > 1e-2
    assert {node.state for node in lt.inspect(case.tflite).lstm_nodes} == {"carry"}
    repaired = lt.repair(case.tflite)
    assert repaired.left == ()
    assert_equal_calls(repaired.tflite, calls, [outputs(case.tflite, [x])[0] for x in calls], 1e-6)
    assert_equal_calls(repaired.tflite, calls, [case.source(x) for x in calls], FLOAT16)


@pytest.mark.parametrize("name", fault_corpus.SET_ONCE)
def test_a_constant_other_than_zero_is_set_at_each_call(corpus, name):
    model, shape = fault_corpus.keras_2_models(["sequence"])["sequence"]
    given = draw((2, 4), calls=2)
    tflite = fault_corpus.edited(corpus["keras 2, sequence, leaks"].tflite, fault_corpus.set_once_by(name, given))
    calls = draw(shape)
    expected = [model.layers[0](x, initial_state=[*map(tf.constant, given)]).numpy() for x in calls]
    assert np.abs(outputs(tflite, calls)[4] - expected[1]).max() > 1e-2
    repaired = lt.repair(tflite)
    assert codes(repaired.changes) == ["state-set-once"]
    assert repaired.left == ()
    assert_equal_calls(repaired.tflite, calls, expected)
    with pytest.raises(ConversionError, match=r"carries its state .* lstm_toolkit\.repair set the state at every call"):
        lt.lower(tflite)
    assert_equal_calls(lt.lower(repaired.tflite), calls, expected)


def test_an_integer_state_is_set_at_each_call(corpus):
    """Stored numbers that only move stand for something else than zero where they are not the zero point."""
    case = corpus["int8, one way"]
    bare = fault_corpus.edited(case.tflite, fault_corpus.without_clip)
    values = [np.full(6, 40, np.int8), np.full(6, 4000, np.int16)]
    tflite = fault_corpus.edited(bare, set_by("RESHAPE", values, np.array([1, 6], np.int32), newShape=[1, 6]))
    repaired = lt.repair(tflite)
    assert codes(repaired.changes) == ["state-set-once"]
    calls = draw(case.shape)
    fresh = [outputs(tflite, [x])[0] for x in calls]
    assert np.abs(np.subtract(fresh, [outputs(bare, [x])[0] for x in calls])).max() > 0.05
    assert_equal_calls(repaired.tflite, calls, fresh, 1e-6)


def test_a_state_that_is_computed_at_each_call_is_left_alone(corpus):
    case = corpus["keras 2, sequence, leaks"]
    change = set_by("TRANSPOSE", [np.zeros((4, 2), np.float32)] * 2, np.array([1, 0], np.int32))
    tflite = fault_corpus.edited(case.tflite, change)
    assert lt.diagnose(tflite) == ()
    calls = draw(case.shape)
    assert_equal_calls(tflite, calls, [case.source(x) for x in calls])


def test_one_step_a_call_is_a_stream_until_told_otherwise(corpus):
    model = fault_corpus.one_step_model()
    layers = [tf_keras.layers.LSTM(4, return_sequences=True), tf_keras.layers.LSTM(5, return_sequences=True)]
    over_time = tf_keras.Sequential([tf_keras.Input((5, 3), batch_size=2), *layers])
    over_time.set_weights(model.get_weights())
    calls = draw((2, 1, 3), calls=5)
    streamed = np.moveaxis(over_time(np.concatenate(calls, axis=1)).numpy(), 1, 0)
    for name, tolerance in (("one step", 1e-5), ("one step, float16", FLOAT16)):
        tflite = corpus[name].tflite
        assert [finding.severity for finding in lt.diagnose(tflite)] == ["note"] * 2
        assert lt.repair(tflite).tflite is tflite
        assert codes(lt.repair(tflite).left) == ["stream"] * 2
        assert_equal_calls(tflite, calls, streamed, tolerance)
        told = lt.repair(tflite, codes=["stream"])
        assert told.left == ()
        assert_equal_calls(told.tflite, calls, [model(x).numpy() for x in calls], tolerance)


def test_a_stream_from_given_states_is_left_alone_too(corpus):
    model, calls = fault_corpus.one_step_model(), draw((2, 1, 3))
    given = [*draw((2, 4), calls=2), *draw((2, 5), calls=2)]
    tflite = fault_corpus.edited(corpus["one step"].tflite, fault_corpus.set_once_by("GATHER", given))
    assert codes(lt.diagnose(tflite)) == ["stream"] * 2
    assert lt.repair(tflite).tflite is tflite
    told = lt.repair(tflite, codes=["stream"])
    expected = []
    for x in calls:
        for layer, states in zip(model.layers, (given[:2], given[2:]), strict=True):
            x = layer(x, initial_state=[*map(tf.constant, states)])
        expected.append(x.numpy())
    assert_equal_calls(told.tflite, calls, expected)


def test_an_op_is_kept_with_its_states_and_its_clip(corpus):
    case = corpus["keras 2, stacked, as it is"]
    model, shape = fault_corpus.keras_2_models(["stacked"])["stacked"]
    layers = [tf_keras.layers.LSTM(4, return_sequences=True), tf_keras.layers.LSTM(6, stateful=True)]
    stateful = tf_keras.Sequential([tf_keras.Input(shape[1:], batch_size=shape[0]), *layers])
    stateful.set_weights(model.get_weights())
    calls = draw(shape)
    expected = [stateful(x).numpy() for x in calls]
    *_, place = [finding.location for finding in lt.diagnose(case.tflite) if finding.code == "state-leak"]
    for kept in (place, place.partition(" (")[0]):
        repaired = lt.repair(case.tflite, keep=[kept])
        assert sorted(codes(repaired.changes)) == sorted(codes(repaired.left)) == ["cell-clip", "state-leak"]
        assert [node.cell_clip for node in lt.inspect(repaired.tflite).lstm_nodes] == [0, 10]
        assert_equal_calls(repaired.tflite, calls, expected)


def test_a_fault_is_kept_by_its_code(corpus):
    tflite = corpus["keras 2, stacked, as it is"].tflite
    repaired = lt.repair(tflite, keep=["state-leak"])
    assert codes(repaired.changes) == ["cell-clip"]
    assert codes(repaired.left) == ["state-leak"] * 2
    assert lt.repair(tflite, keep=["state-leak", "cell-clip"]).tflite is tflite
    assert lt.repair(tflite, keep=["flex-op"]).left == ()


def test_a_kept_op_has_the_state_that_it_had(corpus):
    """What shares the state with it, here the forward half, gets one of its own."""

    def share(model):
        one, other = fault_corpus.lstms(model)
        other.inputs[18] = one.inputs[18]

    case = corpus["keras 2, both ways, leaks"]
    tflite = fault_corpus.edited(case.tflite, share)
    place, _ = [each.location for each in lt.diagnose(tflite) if each.code == "shared-state"]
    repaired = lt.repair(tflite, keep=[place])
    assert {*codes(repaired.changes)} == {"shared-state", "state-leak"}
    assert [node.state for node in lt.inspect(repaired.tflite).lstm_nodes] == ["carry", "reset"]
    calls = draw(case.shape)
    reset = [case.source(x)[..., :3] for x in calls]
    assert_equal_calls(repaired.tflite, calls[:1], [case.source(calls[0])])
    for got, want in zip(outputs(repaired.tflite, calls), reset * 2, strict=True):
        np.testing.assert_allclose(got[..., :3], want, rtol=0, atol=1e-5)
    tflite = corpus["shared"].tflite
    (place,) = {finding.location for finding in lt.diagnose(tflite)}
    assert lt.repair(tflite, keep=[place]).tflite is tflite


@pytest.mark.parametrize("kept", ["rust", "op 7 UNIDIRECTIONAL_SEQUENCE_LSTM"])
def test_what_the_file_does_not_have_cannot_be_kept(corpus, kept):
    with pytest.raises(ValueError, match=f"codes of faults and places of ops in the file, got {kept}"):
        lt.repair(corpus["shared"].tflite, keep=[kept])
