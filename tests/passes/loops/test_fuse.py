"""Stock `.tflite` files whose LSTMs are WHILE loops, and what the pass makes of them.

The oracles are the stock file itself on LiteRT's interpreter, and Keras.
"""

import functools
import pickle
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import lstm_toolkit
from lstm_toolkit.passes import bidirectional
from lstm_toolkit.passes.loops import fuse
from lstm_toolkit.passes.unrolled.glance import UNNAMED, layer_name
from lstm_toolkit.stock.converter import run_converter
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.edit import add_constant, like, new_operator, operator_code
from tests.helpers.calls import RESOLVERS, assert_agrees, by_input, by_output, run_in_a_row
from tests.helpers.models import inputs_for, randomized

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"


def sequential(*stack):
    def build(x):
        for layer in stack:
            x = layer(x)
        return x

    return build


def encoder_decoder(x):
    sequence, h, c = layers.LSTM(4, return_sequences=True, return_state=True)(x)
    return layers.LSTM(4)(sequence, initial_state=[h, c])


def constant_start(x):
    return layers.LSTM(4)(x, initial_state=[keras.ops.full((2, 4), 0.3), keras.ops.full((2, 4), -0.4)])


def shared_layer(x):
    layer = layers.LSTM(4, return_sequences=True)
    return layer(x), layer(x * 2.0)


def residual(x):
    y = layers.LSTM(3, return_sequences=True)(x)
    return layers.LayerNormalization()(x + layers.LSTM(3, return_sequences=True)(y))


def in_time_order(x):
    """Time-major in and out."""
    y = layers.LSTM(4, return_sequences=True)(keras.ops.transpose(x, (1, 0, 2)))
    return keras.ops.transpose(y, (1, 0, 2))


def lstm(units=4, **options):
    return layers.LSTM(units, **options)


CASES = {
    # name: batch, time, input size, how many LSTMs, the model
    "last": (2, 5, 3, 1, lambda: sequential(lstm())),
    "last, one row": (1, 5, 3, 1, lambda: sequential(lstm())),
    "sequences": (2, 5, 3, 1, lambda: sequential(lstm(return_sequences=True))),
    "sequences, one row": (1, 7, 2, 1, lambda: sequential(lstm(return_sequences=True))),
    "state": (3, 6, 2, 1, lambda: sequential(lstm(return_state=True))),
    "sequences and state": (3, 6, 2, 1, lambda: sequential(lstm(return_sequences=True, return_state=True))),
    "sequences and state, one row": (1, 6, 2, 1, lambda: sequential(lstm(return_sequences=True, return_state=True))),
    "backwards": (2, 5, 3, 1, lambda: sequential(lstm(go_backwards=True))),
    "backwards sequences, one row": (1, 5, 3, 1, lambda: sequential(lstm(go_backwards=True, return_sequences=True))),
    "no bias": (2, 5, 3, 1, lambda: sequential(lstm(use_bias=False))),
    "no bias, one row": (1, 5, 3, 1, lambda: sequential(lstm(use_bias=False, return_sequences=True))),
    "relu": (2, 5, 3, 1, lambda: sequential(lstm(activation="relu"))),
    "relu6 sequences": (2, 5, 3, 1, lambda: sequential(lstm(activation="relu6", return_sequences=True))),
    "dropout": (2, 5, 3, 1, lambda: sequential(lstm(dropout=0.3))),
    "both dropouts": (2, 5, 3, 1, lambda: sequential(lstm(dropout=0.3, recurrent_dropout=0.2, return_sequences=True))),
    "one step": (2, 1, 3, 1, lambda: sequential(lstm())),
    "one step, one row": (1, 1, 3, 1, lambda: sequential(lstm(return_sequences=True))),
    "one unit": (2, 5, 3, 1, lambda: sequential(lstm(1, return_sequences=True))),
    "one of all": (1, 1, 1, 1, lambda: sequential(lstm(1, return_sequences=True))),
    "one unit, one row": (1, 4, 3, 1, lambda: sequential(lstm(1))),
    "larger": (5, 17, 11, 1, lambda: sequential(lstm(23, return_sequences=True))),
    "two stacked": (2, 5, 3, 2, lambda: sequential(lstm(6, return_sequences=True), lstm())),
    "three stacked, one row": (
        1,
        9,
        3,
        3,
        lambda: sequential(lstm(6, return_sequences=True), lstm(5, return_sequences=True), lstm(4)),
    ),
    "bidirectional": (2, 5, 3, 2, lambda: sequential(layers.Bidirectional(lstm(return_sequences=True)))),
    "bidirectional last, one row": (1, 5, 3, 2, lambda: sequential(layers.Bidirectional(lstm()))),
    "bidirectional sum": (3, 5, 2, 2, lambda: sequential(layers.Bidirectional(lstm(), merge_mode="sum"))),
    "encoder and decoder": (2, 5, 3, 2, lambda: encoder_decoder),
    "constant start": (2, 5, 3, 1, lambda: constant_start),
    "shared layer": (2, 5, 3, 2, lambda: shared_layer),
    "residual": (2, 5, 3, 2, lambda: residual),
    "time-major": (5, 2, 3, 1, lambda: in_time_order),
    "head and tail": (
        2,
        9,
        3,
        1,
        lambda: sequential(layers.Conv1D(6, 2), lstm(5, return_sequences=True), layers.Dense(4), layers.Softmax()),
    ),
    "open time": (2, None, 3, 1, lambda: sequential(lstm())),
    "open time, sequences": (2, None, 3, 1, lambda: sequential(lstm(return_sequences=True))),
    "open time, one row": (1, None, 3, 1, lambda: sequential(lstm(return_sequences=True))),
    "open time, backwards": (2, None, 3, 1, lambda: sequential(lstm(go_backwards=True, return_sequences=True))),
    "open time, two stacked": (2, None, 3, 2, lambda: sequential(lstm(5, return_sequences=True), lstm())),
    "open time, bidirectional": (2, None, 3, 2, lambda: sequential(layers.Bidirectional(lstm(return_sequences=True)))),
}


def convert(model, **options):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in options.items():
        setattr(converter, name, value)
    return run_converter(converter)


@functools.cache
def stock(case):
    batch, time, size, _, build = CASES[case]
    x = keras.Input((time, size), batch_size=batch)
    model = randomized(keras.Model(x, build()(x)), seed=len(case))
    return model, convert(model)


def single(layer, *, batch=2, time=5, size=3, seed=3, **options):
    x = keras.Input((time, size), batch_size=batch)
    return convert(randomized(keras.Model(x, layer(x)), seed), **options)


def run(tflite, calls, resolver=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
    """Outputs of several calls on one interpreter, each as a list in the order of the names."""
    results = run_in_a_row(tflite, [by_input(tflite, arrays) for arrays in calls], [resolver])
    return [[result[name] for name in sorted(result)] for result in results]


def assert_same(tflite, other, calls, tolerance=1e-5):
    expected = run(other, calls)
    for resolver in RESOLVERS:
        for got, wanted in zip(run(tflite, calls, resolver), expected, strict=True):
            for one, two in zip(got, wanted, strict=True):
                assert one.shape == two.shape
                np.testing.assert_allclose(one, two, rtol=0, atol=tolerance)


def calls_for(model, batch, times, seed=1):
    return [inputs_for(model, batch=batch, time=time, seed=seed + number) for number, time in enumerate(times)]


@pytest.mark.parametrize("case", CASES)
def test_a_stock_loop_becomes_the_fused_op(case):
    batch, time, _, count, _ = CASES[case]
    model, tflite = stock(case)
    assert lstm_toolkit.inspect(tflite).ops["WHILE"] == count
    fused, outcomes = fuse.fuse(tflite)
    assert [(each.op, each.reason, each.is_lstm) for each in outcomes] == [(FUSED, None, True)] * count
    summary = lstm_toolkit.inspect(fused)
    assert summary.ops[FUSED] == count
    assert not {"WHILE", "TRANSPOSE", "FILL", "SHAPE", "FULLY_CONNECTED"} & set(summary.ops) - {
        each for each in ("TRANSPOSE", "FULLY_CONNECTED") if case == "head and tail"
    }
    assert {node.state for node in summary.lstm_nodes} <= {"reset", "explicit"}
    assert [node.name for node in summary.lstm_nodes] == [each.name for each in outcomes]
    calls = calls_for(model, batch, (7, 4, 9) if time is None else (time,) * 3)
    assert_same(fused, tflite, calls)
    expected = [by_output(model(arrays)) for arrays in calls]
    assert_agrees(fused, [by_input(fused, arrays) for arrays in calls], expected)
    assert fuse.fuse(fused) == (fused, ())


def test_reading_changes_nothing():
    _, tflite = stock("two stacked")
    model = files.read_model(tflite)
    outcomes = fuse.loop_outcomes(model)
    assert {each.op for each in outcomes} == {FUSED}
    assert files.write_model(model) == files.write_model(files.read_model(tflite))
    assert fuse.fuse_loops(model) == outcomes


def test_subgraphs_that_are_left_keep_what_calls_them():
    """The loop of the first layer goes, that of the second, a GRU, stays and gets other indices."""
    tflite = single(sequential(lstm(6, return_sequences=True), layers.GRU(4)))
    fused, outcomes = fuse.fuse(tflite)
    assert {each.is_lstm: each.op for each in outcomes} == {True: FUSED, False: None}
    assert len(files.read_model(tflite).subgraphs) == 5
    assert len(files.read_model(fused).subgraphs) == 3
    calls = [[np.random.default_rng(seed).normal(size=(2, 5, 3)).astype(np.float32)] for seed in range(3)]
    assert_same(fused, tflite, calls)


def test_halves_can_be_merged_afterwards():
    model, tflite = stock("bidirectional")
    merged = bidirectional.merge(fuse.fuse(tflite)[0])
    assert dict(lstm_toolkit.inspect(merged).ops) == {
        "BIDIRECTIONAL_SEQUENCE_LSTM": 1,
        "CONCATENATION": 1,
        "ZEROS_LIKE": 4,
    }
    assert_same(merged, tflite, calls_for(model, 2, (5, 5, 5)))


def test_given_states_are_taken():
    x, h, c = (keras.Input(shape, batch_size=2) for shape in ((5, 3), (4,), (4,)))
    tflite = convert(randomized(keras.Model([x, h, c], layers.LSTM(4, return_state=True)(x, initial_state=[h, c]))))
    fused, _ = fuse.fuse(tflite)
    assert [node.state for node in lstm_toolkit.inspect(fused).lstm_nodes] == ["explicit"]
    shapes = [details["shape"] for details in Interpreter(model_content=tflite).get_input_details()]
    random = np.random.default_rng(5)
    assert_same(fused, tflite, [[random.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(3)])


def test_a_stateful_layer_still_carries_its_state():
    tflite = single(lstm(stateful=True))
    fused, (outcome,) = fuse.fuse(tflite)
    assert outcome.op == FUSED
    random = np.random.default_rng(5)
    calls = [[random.normal(size=(2, 5, 3)).astype(np.float32)] for _ in range(3)]
    assert np.abs(run(tflite, [calls[0], calls[0]])[1][0] - run(tflite, [calls[0]])[0][0]).max() > 1e-2
    assert_same(fused, tflite, calls)


def test_float16_weights_are_taken_as_they_are():
    options = {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "target_spec": tf.lite.TargetSpec(supported_types=[tf.float16]),
    }
    tflite = single(lstm(40), size=30, **options)
    fused, (outcome,) = fuse.fuse(tflite)
    assert outcome.op == FUSED
    calls = [[np.random.default_rng(seed).normal(size=(2, 5, 30)).astype(np.float32)] for seed in range(3)]
    assert_same(fused, tflite, calls)


def test_a_list_that_is_updated_in_place_is_read_too():
    tflite = single(lstm(return_sequences=True), _experimental_enable_dynamic_update_slice=True)
    assert lstm_toolkit.inspect(tflite).ops["DYNAMIC_UPDATE_SLICE"] == 1
    fused, _ = fuse.fuse(tflite)
    assert dict(lstm_toolkit.inspect(fused).ops) == {FUSED: 1, "ZEROS_LIKE": 2}
    calls = [[np.random.default_rng(seed).normal(size=(2, 5, 3)).astype(np.float32)] for seed in range(3)]
    assert_same(fused, tflite, calls)


REFUSED = {
    "GRU": (lambda: layers.GRU(4), {}, False, "it runs no LSTM: its body has STRIDED_SLICE, SUB"),
    "SimpleRNN": (lambda: layers.SimpleRNN(4), {}, False, "it runs no LSTM: it carries 1 state"),
    "hard gates": (lambda: lstm(recurrent_activation="hard_sigmoid"), {}, True, "as in hard_sigmoid"),
    "tanh gates": (
        lambda: lstm(recurrent_activation="tanh"),
        {},
        True,
        "its input gate is tanh, and those of the fused op are sigmoid",
    ),
    "linear": (lambda: lstm(activation=None), {}, True, "cell activation is linear; the fused op has tanh"),
    "elu": (lambda: lstm(activation="elu"), {}, True, "cell activation is elu; the fused op has tanh"),
    "sigmoid": (lambda: lstm(activation="sigmoid"), {}, True, "cell activation is sigmoid; the fused op has tanh"),
    "mask": (lambda: sequential(layers.Masking(), lstm()), {}, True, "SELECT_V2, which a mask becomes"),
    "stacked cells": (
        lambda: layers.RNN([layers.LSTMCell(4), layers.LSTMCell(6)]),
        {},
        True,
        "it carries 4 states",
    ),
    "TensorFlow's lists": (
        lambda: lstm(return_sequences=True),
        {
            "target_spec": tf.lite.TargetSpec(
                supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
            ),
            "_experimental_lower_tensor_list_ops": False,
        },
        True,
        "FlexTensorListSetItem, which needs TensorFlow's Flex ops",
    ),
    "int8 weights": (
        lambda: lstm(40),
        {"size": 30, "optimizations": [tf.lite.Optimize.DEFAULT]},
        True,
        "FULLY_CONNECTED with int8 weights",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_fused_op_does_not_compute_stays_with_a_reason(case):
    layer, options, is_lstm, reason = REFUSED[case]
    tflite = single(layer(), **options)
    fused, (outcome,) = fuse.fuse(tflite)
    assert fused is tflite
    assert (outcome.op, outcome.is_lstm) == (None, is_lstm)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(outcome.reason)


def test_an_input_that_changes_from_step_to_step_is_refused():
    """The next step would read other values than the fused op, which has the whole sequence from the start."""
    model = files.read_model(stock("sequences")[1])
    (loop,) = (op for op in model.subgraphs[0].operators if graph.operator_name(model, op) == "WHILE")
    body = model.subgraphs[loop.builtinOptions.bodySubgraphIndex]
    (place,) = (n for n, index in enumerate(body.inputs) if graph.shape_of(body.tensors[index]) == (5, 2, 3))
    doubled = like(body, body.inputs[place], "/doubled")
    body.operators.insert(0, new_operator(model, "ADD", [body.inputs[place]] * 2, [doubled]))
    body.outputs[place] = doubled
    tflite = files.write_model(model)
    fused, (outcome,) = fuse.fuse(tflite)
    assert fused is tflite
    assert "it carries 3 states and 1 list of outputs from step to step" in outcome.reason


@settings(max_examples=300, deadline=None, derandomize=True)
@given(name=st.lists(st.sampled_from(["/", ";", "lstm", "while", "cell", ":0"])).map("".join))
def test_names_of_layers_are_those_that_a_pattern_finds(name):
    """A search for the pattern takes the square of a long name, of which a stranger's file may have many."""
    tensor, loop = schema.TensorT(name=name), schema.OperatorT(outputs=[0])
    found = re.search(r"([^/;]+)/while[^/]*$", name)
    assert fuse._layer_name(schema.SubGraphT(tensors=[tensor]), loop) == (found[1] if found else "loop")
    found = re.search(r"([^/;]+)/[^/;]*cell[^/;]*/", name)
    assert layer_name(name) == (found[1] if found else UNNAMED)


SWAPS = {
    "ADD": ("SUB", "MUL"),
    "MUL": ("ADD", "SUB"),
    "LOGISTIC": ("TANH", "RELU"),
    "TANH": ("LOGISTIC", "RELU"),
    "LESS": ("LESS_EQUAL", "GREATER"),
    "LOGICAL_AND": ("LOGICAL_OR",),
}


def exchanged(model, op, name):
    words = "".join(word.capitalize() for word in name.split("_"))
    op.opcodeIndex = operator_code(model, getattr(schema.BuiltinOperator, name))
    op.builtinOptionsType = getattr(schema.BuiltinOptions, f"{words}Options", 0)
    op.builtinOptions = getattr(schema, f"{words}OptionsT", lambda: None)()


def mutations(tflite):
    """Every change of one operator, wire, option, constant or result of the loop, as (what, edit)."""
    model = files.read_model(tflite)
    for number, subgraph in enumerate(model.subgraphs):
        kinds = [(tensor.type, graph.shape_of(tensor)) for tensor in subgraph.tensors]
        ready = set(subgraph.inputs) | {
            i for i, t in enumerate(subgraph.tensors) if model.buffers[t.buffer].data is not None
        }
        for place, op in enumerate(subgraph.operators if number else ()):
            what = f"subgraph {number}, {place} {graph.operator_name(model, op)}"
            for name in SWAPS.get(graph.operator_name(model, op), ()):
                yield f"{what} to {name}", lambda m, o, name=name: exchanged(m, o, name), (number, place)
            for at, index in enumerate(op.inputs):
                for other in sorted(each for each in ready if each != index and kinds[each] == kinds[index]):
                    yield (
                        f"{what} takes {other}",
                        lambda m, o, a=at, x=other: o.inputs.__setitem__(a, x),
                        (number, place),
                    )
            yield f"{what} reversed", lambda m, o: setattr(o, "inputs", list(o.inputs)[::-1]), (number, place)
            if len(op.outputs) > 1:
                yield (
                    f"{what} rotated",
                    lambda m, o: setattr(o, "outputs", list(np.roll(o.outputs, 1))),
                    (number, place),
                )
            for field, value in vars(op.builtinOptions).items() if op.builtinOptions else ():
                if isinstance(value, (int, np.integer)) and field in OPTIONS:
                    yield (
                        f"{what} {field}",
                        lambda m, o, f=field, v=int(value): setattr(o.builtinOptions, f, v + 1),
                        (number, place),
                    )
            ready |= set(op.outputs)
        for index in range(len(subgraph.tensors)):
            values = graph.constant(model, subgraph.tensors[index])
            for new in () if values is None else (values + 1, values - 1, values * 2, np.flip(values)):
                yield f"subgraph {number}, constant {index}", changed(number, index, new.astype(values.dtype)), None
        for at, index in enumerate(subgraph.outputs if number else ()):
            for other in sorted(each for each in ready if each != index and kinds[each] == kinds[index]):
                yield f"subgraph {number} returns {other}", returned(number, at, other), None


OPTIONS = ("fusedActivationFunction", "axis", "batchDims", "numSplits", "weightsFormat")


def changed(number, index, values):
    def edit(model, _):
        subgraph = model.subgraphs[number]
        subgraph.tensors[index].buffer = subgraph.tensors[add_constant(model, subgraph, "new", values)].buffer

    return edit


def returned(number, at, other):
    return lambda model, _: model.subgraphs[number].outputs.__setitem__(at, other)


@pytest.mark.parametrize("case", ["sequences", "last, one row", "open time, sequences"])
def test_whatever_is_changed_in_a_loop_is_refused_or_computed(case):
    """Changes every operator, wire and constant; what is still fused computes what the changed file computes."""
    batch, time, *_ = CASES[case]
    keras_model, tflite = stock(case)
    calls = calls_for(keras_model, batch, (time or 6,) * 2)
    refused = computed = 0
    packed = pickle.dumps(files.read_model(tflite))
    for what, edit, place in mutations(tflite):
        mutant, fused = (pickle.loads(packed) for _ in range(2))
        for model in (mutant, fused):
            edit(model, model.subgraphs[place[0]].operators[place[1]] if place else None)
        (outcome,) = fuse.fuse_loops(fused)
        if outcome.op is None:
            assert outcome.reason, what
            refused += 1
            continue
        computed += 1
        try:
            expected = run(files.write_model(mutant), calls)
        except RuntimeError:
            # What stands around the loop does not fit together any more, so that there is nothing to compare.
            assert what.startswith("subgraph 0"), what
            continue
        for one, two in zip(run(files.write_model(fused), calls), expected, strict=True):
            np.testing.assert_allclose(one[0], two[0], rtol=0, atol=1e-5, err_msg=what)
    assert refused > 200
    assert computed > 50


@pytest.mark.parametrize("case", ["sequences", "open time, sequences"])
def test_damaged_files_are_refused_and_do_no_harm(case):
    """Takes operands, options and results away, anywhere: there is an outcome, whatever it is."""
    packed = pickle.dumps(files.read_model(stock(case)[1]))
    model = pickle.loads(packed)
    places = [
        (number, place) for number, subgraph in enumerate(model.subgraphs) for place in range(len(subgraph.operators))
    ]
    damages = (
        lambda op: setattr(op, "builtinOptions", None),
        lambda op: setattr(op, "inputs", []),
        lambda op: setattr(op, "inputs", list(op.inputs)[:1]),
        lambda op: setattr(op, "inputs", [-1] * len(op.inputs)),
        lambda op: setattr(op, "inputs", [0] * len(op.inputs)),
        lambda op: setattr(op, "inputs", [*op.inputs, *op.inputs]),
        lambda op: setattr(op, "outputs", []),
        lambda op: setattr(op, "outputs", [*op.outputs, *op.outputs]),
    )
    for number, place in places:
        for damage in damages:
            model = pickle.loads(packed)
            damage(model.subgraphs[number].operators[place])
            (outcome,) = fuse.fuse_loops(model)
            assert (outcome.op is None) == (outcome.reason is not None)
    for field in ("condSubgraphIndex", "bodySubgraphIndex"):
        for index in (-1, 0, 7):
            model = pickle.loads(packed)
            (loop,) = (op for op in model.subgraphs[0].operators if hasattr(op.builtinOptions, field))
            setattr(loop.builtinOptions, field, index)
            (outcome,) = fuse.fuse_loops(model)
            assert outcome.op is None
            assert "not in the file" in outcome.reason or index == 0


def test_sums_that_double_at_every_operator_do_not_hang():
    model = files.read_model(stock("sequences")[1])
    for number, name in ((1, "LOGICAL_AND"), (2, "ADD")):
        subgraph = model.subgraphs[number]
        place, op = next(
            (place, op)
            for place, op in enumerate(subgraph.operators)
            if graph.operator_name(model, op) == name
            and len(graph.shape_of(subgraph.tensors[op.outputs[0]])) != 1
            and (name != "ADD" or op.inputs[1] != op.inputs[0])
        )
        doubled = pickle.loads(pickle.dumps(op))
        doubled.inputs = [op.outputs[0]] * 2
        subgraph.operators[place + 1 : place + 1] = [doubled] * 60
    (outcome,) = fuse.fuse_loops(model)
    assert outcome.op is None
