"""The passes over files: what they change, what they leave alone, and that the file computes the same."""

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import models
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.passes import bidirectional, transposes
from lstm_toolkit.tflite import files, graph
from tests.helpers.files import op_counts
from tests.helpers.models import randomized
from tests.helpers.pairwise import pairwise


def outputs(tflite, *, time_major=False, seed=0):
    runner = lstm_toolkit.Runner(tflite)
    (shape,) = runner.input_shapes.values()
    random = np.random.default_rng(seed)
    result = [runner(random.normal(size=[9 if size < 0 else size for size in shape])) for _ in range(3)]
    return [each if isinstance(each, np.ndarray) else next(iter(each.values())) for each in result]


@pytest.mark.parametrize(
    ("merge_mode", "return_sequences", "batch"), pairwise(["concat", "sum", "mul", "ave"], [True, False], [1, 3])
)
def test_a_two_op_file_becomes_a_one_op_file(merge_mode, return_sequences, batch):
    model = models.bidirectional(
        time_steps=7, input_size=5, units=4, merge_mode=merge_mode, return_sequences=return_sequences
    )
    split = lstm_toolkit.convert(model, bidirectional="split", batch_size=batch).tflite
    merged = bidirectional.merge(split)
    assert op_counts(split)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    ops = op_counts(merged)
    assert ops["BIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert not {"UNIDIRECTIONAL_SEQUENCE_LSTM", "REVERSE_V2"} & set(ops)
    for one, other in zip(outputs(split), outputs(merged), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    node = lstm_toolkit.inspect(merged).lstm_nodes[0]
    for weights, layer in ((node.weights, "forward_layer"), (node.backward_weights, "backward_layer")):
        kernel = getattr(model.layers[1], layer).get_weights()[0]
        np.testing.assert_array_equal(weights.to_keras()[0], kernel)
    assert bidirectional.merge(merged) is merged


def test_a_file_without_halves_comes_back_unchanged():
    tflite = lstm_toolkit.convert(models.stacked(time_steps=7, input_size=5, units=[6, 4])).tflite
    assert bidirectional.merge(tflite) is tflite
    with pytest.raises(InvalidModelError, match=r"not a \.tflite file"):
        bidirectional.merge(b"hello")


def test_outputs_in_both_orders_leave_no_reversal():
    model = models.bidirectional(time_steps=7, input_size=5, units=4, merge_mode=None)
    ops = lstm_toolkit.convert(model).report.ops
    assert dict(ops) == {"BIDIRECTIONAL_SEQUENCE_LSTM": 1, "ZEROS_LIKE": 4}


def test_unequal_halves_of_a_file_are_merged_too():
    layer = keras.layers.Bidirectional(
        keras.layers.LSTM(4, return_sequences=True),
        backward_layer=keras.layers.LSTM(6, return_sequences=True, go_backwards=True),
    )
    model = randomized(keras.Sequential([keras.Input((7, 5)), layer]))
    split = lstm_toolkit.convert(model, bidirectional="split").tflite
    merged = bidirectional.merge(split)
    assert op_counts(merged)["BIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert lstm_toolkit.inspect(merged).lstm_nodes[0].state == "reset"
    for one, other in zip(outputs(split), outputs(merged), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_halves_over_different_inputs_are_left_alone():
    import keras

    a, b = keras.Input((7, 5), name="a"), keras.Input((7, 5), name="b")
    halves = [keras.layers.LSTM(4)(a), keras.layers.LSTM(4, go_backwards=True)(b)]
    conversion = lstm_toolkit.convert(keras.Model([a, b], keras.layers.Concatenate()(halves)))
    assert conversion.report.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2


def test_halves_with_different_activations_are_left_alone():
    import keras

    layer = keras.layers.Bidirectional(
        keras.layers.LSTM(4), backward_layer=keras.layers.LSTM(4, activation="relu", go_backwards=True)
    )
    conversion = lstm_toolkit.convert(keras.Sequential([keras.Input((7, 5)), layer]))
    assert conversion.report.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    assert [each.op for each in conversion.report.layers] == ["UNIDIRECTIONAL_SEQUENCE_LSTM"] * 2


def joined_by_the_kernel(batch, time_major):
    """A bidirectional op that joins its outputs itself, whatever the layout and the batch."""
    model = models.bidirectional(time_steps=7, input_size=5, units=4, batch_size=batch)
    parsed = files.read_model(lstm_toolkit.convert(model, time_major=time_major).tflite)
    subgraph = parsed.subgraphs[0]
    joint = [op for op in subgraph.operators if graph.operator_name(parsed, op) == "CONCATENATION"]
    for op in subgraph.operators:
        if graph.operator_name(parsed, op) == "BIDIRECTIONAL_SEQUENCE_LSTM" and joint:
            op.builtinOptions.mergeOutputs, op.outputs = True, list(joint[0].outputs)
    subgraph.operators = [op for op in subgraph.operators if op not in joint]
    x = np.random.default_rng(0).normal(size=(batch, 7, 5)).astype(np.float32)
    result = lstm_toolkit.Runner(files.write_model(parsed))(x.swapaxes(0, 1) if time_major else x)
    return np.abs((result.swapaxes(0, 1) if time_major else result) - np.asarray(model(x))).max()


def test_the_kernel_may_join_the_outputs_time_major_or_for_one_row():
    assert joined_by_the_kernel(1, time_major=False) < 1e-5
    assert joined_by_the_kernel(3, time_major=True) < 1e-5


def test_no_transpose_is_left_between_time_major_input_and_output():
    model = models.time_major(time_steps=7, batch_size=3, input_size=5, units=[6, 4])
    conversion = lstm_toolkit.convert(model)
    assert set(conversion.report.ops) == {"UNIDIRECTIONAL_SEQUENCE_LSTM", "ZEROS_LIKE"}
    assert {node.layout for node in lstm_toolkit.inspect(conversion).lstm_nodes} == {"time_major"}
    x = np.random.default_rng(0).normal(size=(7, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(conversion.runner()(x), model(x), atol=1e-5)


def test_transposes_that_would_not_cancel_stay():
    """One transpose before a batch-major LSTM could only be moved behind it, which wins nothing."""
    import keras

    x = keras.Input((5, 7))
    model = keras.Model(x, keras.layers.LSTM(4, return_sequences=True)(keras.layers.Permute((2, 1))(x)))
    parsed = files.read_model(lstm_toolkit.convert(model).tflite)
    before = graph.count_operators(parsed)
    assert transposes.sink_transposes(parsed) == 0
    assert graph.count_operators(parsed) == before
    assert before["TRANSPOSE"] == 1


def test_the_smaller_half_keeps_its_own_units_over_an_open_time():
    x = keras.Input((None, 5), batch_size=2)
    forward, backward = (keras.layers.LSTM(n, return_sequences=True, go_backwards=n > 4) for n in (4, 6))
    layer = keras.layers.Bidirectional(forward, backward_layer=backward, merge_mode=None)
    conversion = lstm_toolkit.convert(randomized(keras.Model(x, layer(x))))
    assert conversion.report.ops["BIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert [each.shape for each in lstm_toolkit.inspect(conversion.tflite).outputs] == [(2, -1, 4), (2, -1, 6)]
