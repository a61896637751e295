"""`inspect`: on our files, on the stock converter's, and on damaged ones."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import lstm_toolkit
from lstm_toolkit import GateWeights, models
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.inspection.arithmetic import operators_executed
from lstm_toolkit.stock.converter import run_converter
from lstm_toolkit.tflite import edit, files, graph
from tests.helpers.models import randomized


@pytest.fixture(scope="module")
def model():
    lstms = [keras.layers.LSTM(6, return_sequences=True, name="first"), keras.layers.LSTM(4, name="second")]
    return randomized(keras.Sequential([keras.Input((7, 5), name="x"), *lstms]))


@pytest.fixture(scope="module")
def tflite(model):
    return lstm_toolkit.convert(model, batch_size=2).tflite


def test_nodes_have_their_weights_by_gate(model, tflite):
    summary = lstm_toolkit.inspect(tflite)
    assert summary.size == len(tflite)
    assert [node.name for node in summary.lstm_nodes] == ["first", "second"]
    for node, layer in zip(summary.lstm_nodes, model.layers, strict=True):
        for name, array in GateWeights.from_keras(layer).operands():
            np.testing.assert_array_equal(getattr(node.weights, name), array)


def test_bytes_paths_and_conversions_give_the_same(tflite, tmp_path):
    (tmp_path / "m.tflite").write_bytes(tflite)
    assert lstm_toolkit.inspect(tmp_path / "m.tflite").to_dict() == lstm_toolkit.inspect(tflite).to_dict()


def test_forms(tflite):
    summary = lstm_toolkit.inspect(tflite)
    text = str(summary)
    for part in ("UNIDIRECTIONAL_SEQUENCE_LSTM", "batch_major", "first", "[2, 7, 5]", "reset"):
        assert part in text
    assert json.loads(json.dumps(summary.to_dict()))["lstm_nodes"][1]["units"] == 4
    assert "<table>" in summary._repr_html_()


def test_a_state_that_is_not_reset_is_said_to_carry(tflite):
    model = files.read_model(tflite)
    subgraph = model.subgraphs[0]
    subgraph.operators = [op for op in subgraph.operators if graph.operator_name(model, op) != "ZEROS_LIKE"]
    assert [node.state for node in lstm_toolkit.inspect(files.write_model(model)).lstm_nodes] == ["carry", "carry"]


@pytest.mark.parametrize("half", [False, True])
def test_stored_dtypes_are_dequantized(model, tflite, half):
    """Weights as int8 with one scale a row, or as float16 behind a DEQUANTIZE, come back as float32."""
    from ai_edge_litert import schema_py_generated as schema

    parsed = files.read_model(tflite)
    subgraph = parsed.subgraphs[0]
    op = next(op for op in subgraph.operators if graph.operator_name(parsed, op) == "UNIDIRECTIONAL_SEQUENCE_LSTM")
    values = graph.constant(parsed, subgraph.tensors[op.inputs[2]])
    if half:
        stored = edit.add_constant(parsed, subgraph, "half", values.astype(np.float16))
        dequantize = schema.OperatorT()
        dequantize.opcodeIndex = edit.operator_code(parsed, schema.BuiltinOperator.DEQUANTIZE)
        dequantize.inputs = [stored]
        dequantize.outputs = [edit.add_tensor(subgraph, "float", values.shape)]
        subgraph.operators.insert(0, dequantize)
        op.inputs[2] = dequantize.outputs[0]
    else:
        scale = np.abs(values).max(axis=1) / 127
        stored = edit.add_constant(parsed, subgraph, "int8", np.round(values / scale[:, None]).astype(np.int8))
        subgraph.tensors[stored].quantization = schema.QuantizationParametersT()
        subgraph.tensors[stored].quantization.scale = scale.tolist()
        subgraph.tensors[stored].quantization.zeroPoint = [0] * len(scale)
        op.inputs[2] = stored
    node = lstm_toolkit.inspect(files.write_model(parsed)).lstm_nodes[0]
    tolerance = 2e-3 if half else np.abs(values).max() / 127
    np.testing.assert_allclose(node.weights.input_to_forget_weights, values, atol=tolerance)
    assert (node.weights.input_to_forget_weights != values).any()


def test_a_stock_file_has_no_lstm_node(model):
    fixed = keras.Sequential([keras.Input((7, 5), batch_size=1), *model.layers])
    summary = lstm_toolkit.inspect(run_converter(tf.lite.TFLiteConverter.from_keras_model(fixed)))
    assert summary.lstm_nodes == ()
    assert summary.ops["WHILE"] == 2
    assert "LSTM ops" not in str(summary)


def test_damaged_files_are_refused(tflite, tmp_path):
    with pytest.raises(InvalidModelError, match=r"is not a \.tflite file"):
        lstm_toolkit.inspect(b"")
    with pytest.raises(InvalidModelError, match="cannot read"):
        lstm_toolkit.inspect(tmp_path / "absent.tflite")
    for length in (8, 40, len(tflite) // 3):
        with pytest.raises(InvalidModelError, match="damaged"):
            lstm_toolkit.inspect(tflite[:length])


@pytest.mark.parametrize("where", ["tensor", "buffer", "opcode", "signature"])
def test_an_index_that_points_nowhere_is_refused(tflite, where):
    from ai_edge_litert.tools import flatbuffer_utils

    model = files.read_model(tflite)
    subgraph = model.subgraphs[0]
    if where == "tensor":
        subgraph.operators[0].inputs = [999]
    elif where == "buffer":
        subgraph.tensors[0].buffer = 999
    elif where == "opcode":
        subgraph.operators[0].opcodeIndex = 999
    else:
        model.signatureDefs[0].inputs[0].tensorIndex = 999
    with pytest.raises(InvalidModelError, match=r"damaged"):
        lstm_toolkit.inspect(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))


@pytest.fixture(scope="module")
def stock():
    """By the stock converter: loops of an LSTM of 5 to 4 and a GRU of 4 to 3 over 7 steps, and a dense layer to 2."""
    x = keras.Input((7, 5), batch_size=1)
    hidden = keras.layers.GRU(3)(keras.layers.LSTM(4, return_sequences=True)(x))
    return run_converter(tf.lite.TFLiteConverter.from_keras_model(keras.Model(x, keras.layers.Dense(2)(hidden))))


@pytest.fixture(scope="module")
def images():
    """Convolutions and dense layers."""
    x = keras.Input((12, 10, 3), batch_size=2)
    y = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(keras.layers.Conv2D(8, (5, 3))(x))
    y = keras.layers.Dense(6)(keras.layers.Flatten()(y))
    return run_converter(tf.lite.TFLiteConverter.from_keras_model(keras.Model(x, y)))


def test_the_whole_file_is_json(tflite, stock, images):
    for each in (tflite, stock, images):
        summary = lstm_toolkit.inspect(each)
        read = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
        assert sum(len(subgraph["ops"]) for subgraph in read["subgraphs"]) == summary.ops.total()
        assert read["memory"]["weights"] == summary.memory.weights
        for subgraph in read["subgraphs"]:
            for op in subgraph["ops"]:
                assert {index for index in op["inputs"] + op["outputs"] if index is not None} <= set(
                    range(len(subgraph["tensors"]))
                )


def test_subgraphs_signatures_and_operators(stock):
    summary = lstm_toolkit.inspect(stock)
    assert [each.key for each in summary.signatures] == ["serving_default"]
    assert summary.signatures[0].subgraph == 0
    assert summary.signatures[0].inputs == summary.inputs
    loops = [op for op in summary.subgraphs[0].ops if op.name == "WHILE"]
    assert [op.subgraphs for op in loops] == [(1, 2), (3, 4)]
    assert [op.index for op in summary.subgraphs[2].ops] == list(range(len(summary.subgraphs[2].ops)))
    dense = next(op for op in summary.subgraphs[0].ops if op.name == "FULLY_CONNECTED")
    assert [tensor and tensor.shape for tensor in dense.inputs[:2]] == [(1, 3), (2, 3)]
    assert [tensor and tensor.role for tensor in dense.inputs[:2]] == ["computed", "constant"]
    table = str(summary.op_table())
    assert "in 7 turns" in table
    assert table.count("FULLY_CONNECTED") == 5
    assert "<details>" in summary._repr_html_()
    assert "All 5" not in str(summary)


def test_multiply_adds_of_loops_and_dense_layers(stock):
    """An LSTM has 4 gates, a GRU 3, each with a product of the input and one of the state."""
    summary = lstm_toolkit.inspect(stock)
    lstm, gru = (op for op in summary.subgraphs[0].ops if op.name == "WHILE")
    assert (lstm.turns, lstm.multiply_adds_per_turn, lstm.multiply_adds) == (7, 4 * 4 * (5 + 4), 7 * 4 * 4 * (5 + 4))
    assert (gru.turns, gru.multiply_adds) == (7, 7 * 3 * 3 * (4 + 3))
    assert summary.multiply_adds == lstm.multiply_adds + gru.multiply_adds + 3 * 2


def test_multiply_adds_of_convolutions(images):
    """Valid padding: 12 x 10 pixels become 8 x 8 and then 6 x 6."""
    summary = lstm_toolkit.inspect(images)
    counts = {op.name: op.multiply_adds for op in summary.subgraphs[0].ops if op.multiply_adds}
    assert counts == {
        "CONV_2D": 2 * 8 * 8 * 8 * 5 * 3 * 3,
        "DEPTHWISE_CONV_2D": 2 * 6 * 6 * 16 * 3 * 3,
        "FULLY_CONNECTED": 2 * 6 * 6 * 16 * 6,
    }


def test_multiply_adds_of_fused_ops(tflite):
    first, second = (op for op in lstm_toolkit.inspect(tflite).subgraphs[0].ops if "LSTM" in op.name)
    assert first.multiply_adds == 2 * 7 * 4 * 6 * (5 + 6)
    assert second.multiply_adds == 2 * 7 * 4 * 4 * (6 + 4)


def test_what_a_dynamic_shape_leaves_open_is_unknown():
    x = keras.Input((None, 5))
    tflite = lstm_toolkit.convert(keras.Model(x, keras.layers.LSTM(4)(x)), verify=False).tflite
    summary = lstm_toolkit.inspect(tflite)
    assert summary.multiply_adds is None
    assert summary.memory.largest_live is None
    assert summary.lstm_nodes[0].time_steps is None
    assert "unknown" in str(summary.cost_table())


@pytest.mark.parametrize("change", ["limit", "start", "step"])
def test_a_loop_is_counted_by_its_start_limit_and_step(stock, change):
    """The counters of the first loop: both start at 0, are compared with 7, and go up by 1."""
    model = files.read_model(stock)
    main, condition, body = model.subgraphs[:3]
    loop = next(op for op in main.operators if graph.operator_name(model, op) == "WHILE")
    if change == "limit":
        less = [op for op in condition.operators if graph.operator_name(model, op) == "LESS"]
        less[0].inputs = [less[0].inputs[0], edit.add_constant(model, condition, "five", np.int32(5).reshape(()))]
    elif change == "start":
        loop.inputs = [edit.add_constant(model, main, "two", np.int32(2).reshape(())), *loop.inputs[1:]]
    else:
        add = next(op for op in body.operators if op.outputs[0] == body.outputs[0])
        add.inputs = [add.inputs[0], edit.add_constant(model, body, "three", np.int32(3).reshape(()))]
    op = next(op for op in lstm_toolkit.inspect(files.write_model(model)).subgraphs[0].ops if op.name == "WHILE")
    assert op.turns == {"limit": 5, "start": 5, "step": 3}[change]


def test_a_loop_without_constant_bounds_has_no_number_of_turns(stock):
    model = files.read_model(stock)
    condition = model.subgraphs[1]
    less = [op for op in condition.operators if graph.operator_name(model, op) == "LESS"]
    less[0].inputs = [condition.inputs[0], condition.inputs[1]]
    summary = lstm_toolkit.inspect(files.write_model(model))
    loop = next(op for op in summary.subgraphs[0].ops if op.name == "WHILE")
    assert (loop.turns, loop.multiply_adds, loop.multiply_adds_per_turn) == (None, None, 4 * 4 * (5 + 4))
    assert summary.multiply_adds is None
    assert "144 a turn" in str(summary.op_table())


def test_a_condition_without_operands_has_no_number_of_turns(stock):
    model = files.read_model(stock)
    both = [op for op in model.subgraphs[1].operators if graph.operator_name(model, op) == "LOGICAL_AND"]
    both[0].inputs = []
    summary = lstm_toolkit.inspect(files.write_model(model))
    assert [op.turns for op in summary.subgraphs[0].ops if op.name == "WHILE"] == [None, 7]


def stock_lstm(time_steps):
    """An LSTM over some steps, or over as many as a call has, as the stock converter writes it."""
    x = keras.Input((time_steps, 5), batch_size=1)
    model = keras.Model(x, keras.layers.LSTM(4, dropout=0.1)(x))
    return run_converter(tf.lite.TFLiteConverter.from_keras_model(model))


def parts(tflite):
    """Operators of the main graph but for the initializer's call, of the condition and of the body of its loop."""
    main, _, condition, body = lstm_toolkit.inspect(tflite).subgraph_ops
    assert (main["WHILE"], main["CALL_ONCE"]) == (1, 1)
    return main.total() - 1, condition.total(), body.total()


@pytest.fixture(scope="module")
def open_lstm():
    return stock_lstm(None)


@pytest.mark.parametrize("time_steps", [3, 11])
def test_operators_executed_by_files_of_different_lengths(time_steps):
    """The condition is asked once more than the body runs; the initializer does not count."""
    tflite = stock_lstm(time_steps)
    main, condition, body = parts(tflite)
    assert operators_executed(tflite) == main + (time_steps + 1) * condition + time_steps * body
    assert operators_executed(tflite, time_steps) == operators_executed(tflite)


def test_operators_executed_where_a_call_tells_the_time_steps(open_lstm):
    main, condition, body = parts(open_lstm)
    for time_steps in (7, 19):
        expected = main + (time_steps + 1) * condition + time_steps * body
        assert operators_executed(open_lstm, time_steps) == expected


def test_operators_executed_are_unknown_where_nothing_tells_the_turns(open_lstm):
    """A loop of ours with open time has several steps a turn, then one a turn for the rest."""
    assert operators_executed(open_lstm) is None
    ours = lstm_toolkit.convert(models.unidirectional(time_steps=None, input_size=5, units=4), lowering="loop")
    assert operators_executed(ours.tflite, 7) is None


def test_nodes_say_what_they_are(tflite):
    first, second = lstm_toolkit.inspect(tflite).lstm_nodes
    assert (first.batch, first.time_steps, first.input_size, first.output_size) == (2, 7, 5, 6)
    assert (second.subgraph, second.index) == (0, 5)
    assert first.variants == ()
    assert first.weight_bytes == 4 * (4 * 6 * (5 + 6) + 4 * 6)
    operands = dict(first.operands)
    assert operands["output_state"].role == "variable"
    assert operands["input_to_cell_weights"].shape == (6, 5)
    assert "projection_weights" not in operands
    both = models.bidirectional(time_steps=7, input_size=5, units=4)
    node = lstm_toolkit.inspect(lstm_toolkit.convert(both, verify=False).tflite).lstm_nodes[0]
    assert node.variants == ("bidirectional",)


def test_variants_are_named():
    """A Lingvo cell with a projection, a coupled input gate and layer normalization."""
    cell = lstm_toolkit.lingvo.LayerNormalizedLSTMCellSimple(
        num_input_nodes=5, num_output_nodes=3, num_hidden_nodes=4, couple_input_forget_gates=True
    )
    signature = [tf.TensorSpec([2, 7, 5], tf.float32)]
    rnn = lstm_toolkit.lingvo.RNN(cell)
    node = lstm_toolkit.inspect(lstm_toolkit.convert(rnn, input_signature=signature, verify=False)).lstm_nodes[0]
    assert node.variants == ("cifg", "projection", "layer_norm")
    assert (node.units, node.output_size) == (4, 3)


def test_quantization_is_told_by_tensor():
    random = np.random.default_rng(0)
    net = keras.Sequential([keras.Input((8, 8, 3), batch_size=1), keras.layers.Conv2D(4, 3)])
    converter = tf.lite.TFLiteConverter.from_keras_model(randomized(net))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([random.normal(size=(1, 8, 8, 3)).astype(np.float32)] for _ in range(5))
    summary = lstm_toolkit.inspect(run_converter(converter))
    (conv,) = (op for op in summary.subgraphs[0].ops if op.name == "CONV_2D")
    image, weights, bias = (tensor.quantization for tensor in conv.inputs)
    assert (image.axis, len(image.scale)) == (None, 1)
    assert (weights.axis, len(weights.scale), set(weights.zero_point)) == (0, 4, {0})
    np.testing.assert_allclose(bias.scale, np.array(weights.scale) * image.scale[0], rtol=1e-5)


def random_graph(seed):
    """Dense layers, sums, products, concatenations and softmaxes: ops whose kernels need no memory of their own."""
    random, layers = np.random.default_rng(seed), keras.layers
    tensors = [keras.Input((int(random.integers(3, 40)),), batch_size=3)]
    for way in random.integers(5, size=14):
        a, b = (tensors[random.integers(len(tensors))] for _ in range(2))
        if way == 0:
            made = layers.Dense(int(random.integers(3, 90)))(a)
        elif way == 1:
            made = layers.Multiply()([a, layers.Dense(a.shape[-1])(b)])
        elif way == 2:
            made = layers.Concatenate()([a, b])
        elif way == 3 and a.shape == b.shape:
            made = layers.Add()([a, b])
        else:
            made = layers.Softmax()(a)
        tensors.append(made)
    return keras.Model(tensors[0], [tensors[-1], tensors[-3]])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_arena_is_no_smaller_than_what_lives_at_once(seed):
    """The oracle: the addresses at which LiteRT, without XNNPACK, puts the tensors."""
    tflite = run_converter(tf.lite.TFLiteConverter.from_keras_model(random_graph(seed)))
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=tflite, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    summary = lstm_toolkit.inspect(tflite)
    subgraph = summary.subgraphs[0]
    made = {tensor.index for op in subgraph.ops for tensor in op.outputs} | {tensor.index for tensor in subgraph.inputs}
    views = [interpreter.tensor(index)() for index in made]
    places = [(view.__array_interface__["data"][0], view.nbytes) for view in views]
    arena = max(sum(each) for each in places) - min(place for place, _ in places)
    assert arena / 2 < summary.memory.largest_live <= arena


def test_what_lives_at_the_worst_moment():
    """Input 4, sums of 8, 16 and 2 numbers: the worst is the second one, beside the input and what it takes."""
    x = keras.Input((4,), batch_size=1)
    y = keras.layers.Dense(8)(x)
    y = keras.layers.Dense(16)(y)
    y = keras.layers.Softmax()(y)
    y = keras.layers.Dense(2)(keras.layers.Reshape((16,))(y))
    summary = lstm_toolkit.inspect(run_converter(tf.lite.TFLiteConverter.from_keras_model(keras.Model(x, y))))
    assert summary.memory.largest_live == 4 * (4 + 8 + 16)
    assert "112" in str(summary.cost_table())


def test_weights_and_states_are_added_up(model, tflite):
    """A buffer that two tensors share counts once."""
    summary = lstm_toolkit.inspect(tflite)
    bounds_of_the_last_step = 3 * 3
    weights = sum(int(np.prod(weight.shape)) for weight in model.weights)
    assert summary.memory.weights == 4 * (weights + bounds_of_the_last_step)
    assert summary.memory.variables == 4 * 2 * 2 * (6 + 4)
    parsed = files.read_model(tflite)
    subgraph = parsed.subgraphs[0]
    lstms = [op for op in subgraph.operators if graph.operator_name(parsed, op) == "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    one, other = (subgraph.tensors[lstms[0].inputs[place]] for place in (1, 2))
    one.buffer = other.buffer
    again = lstm_toolkit.inspect(files.write_model(parsed))
    assert again.memory.weights == summary.memory.weights - 4 * 6 * 5
    assert again.lstm_nodes[0].weight_bytes == summary.lstm_nodes[0].weight_bytes - 4 * 6 * 5
