"""Recurrent layers as plain ops, unrolled and as loops: on both interpreters and on `CompiledModel`, without state.

Oracles: Keras's own layers, and `reference.lstm` in float64.
"""

import copy
import functools
import os

import ai_edge_litert.compiled_model
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment, EnvironmentOptions
from ai_edge_litert.options import CpuOptions, Options
from ai_edge_litert.tools import flatbuffer_utils

import lstm_toolkit
from lstm_toolkit import GateWeights, lingvo
from lstm_toolkit.passes.plain import loop
from lstm_toolkit.passes.plain.lower import lower
from lstm_toolkit.weights import reference
from tests.helpers import weights as random_weights
from tests.helpers.calls import by_output, run_in_a_row
from tests.helpers.models import randomized
from tests.helpers.pairwise import ALL

FORMS = ("unrolled", "loop")
TOLERANCE = {"atol": 1e-5, "rtol": 0}
BATCH, TIME, INPUTS, UNITS = 3, 23, 5, 7
L = keras.layers


def sequences(*layers, time=TIME, batch=None):
    return keras.Sequential([keras.Input((time, INPUTS), batch_size=batch), *layers])


def tokens(*layers):
    return keras.Sequential([keras.Input((TIME,)), L.Embedding(11, INPUTS, mask_zero=True), *layers])


def with_initial_state():
    x, h, c = keras.Input((TIME, INPUTS)), keras.Input((UNITS,)), keras.Input((UNITS,))
    return keras.Model([x, h, c], L.LSTM(UNITS, return_sequences=True, return_state=True)(x, initial_state=[h, c]))


def with_steps_picked():
    """The last step of one layer, which is all of it; the third and the last of another."""
    x = keras.Input((TIME, INPUTS))
    y, z = (L.LSTM(units, return_sequences=True)(x) for units in (UNITS, 4))
    return keras.Model(x, [y[:, -1], z[:, 2], z[:, -1]])


def both(layer):
    return L.Bidirectional(layer, merge_mode="sum")


MODELS = {
    "sequence": (lambda: sequences(L.LSTM(UNITS, return_sequences=True)), {}),
    "last step, no bias, one row": (lambda: sequences(L.LSTM(UNITS, use_bias=False)), {"batch_size": 1}),
    "stacked": (lambda: sequences(L.LSTM(UNITS, return_sequences=True), L.LSTM(4, activation="relu6")), {}),
    "bidirectional": (lambda: sequences(L.Bidirectional(L.LSTM(UNITS, return_sequences=True)), L.LSTM(4)), {}),
    "given state": (with_initial_state, {}),
    "steps picked": (with_steps_picked, {}),
    "time-major": (lambda: sequences(L.LSTM(UNITS, return_sequences=True), L.GRU(4)), {"time_major": True}),
    "simple": (lambda: sequences(L.SimpleRNN(UNITS, return_sequences=True), L.SimpleRNN(4, activation="softsign")), {}),
    "gru": (lambda: sequences(L.GRU(UNITS, return_sequences=True), L.GRU(4, reset_after=False)), {}),
    "gru, one row": (
        lambda: sequences(both(L.GRU(UNITS, activation="softsign", use_bias=False))),
        {"batch_size": 1},
    ),
    "hard gates": (
        lambda: sequences(
            L.LSTM(UNITS, recurrent_activation="hard_sigmoid", activation="softsign", return_sequences=True),
            L.GRU(4, recurrent_activation="hard_sigmoid", activation="sigmoid"),
        ),
        {},
    ),
    "masked": (lambda: tokens(L.Bidirectional(L.LSTM(UNITS, return_sequences=True)), L.LSTM(4)), {}),
    "masked, hard gates": (
        lambda: tokens(both(L.LSTM(UNITS, recurrent_activation="hard_sigmoid", activation="softsign"))),
        {},
    ),
    "masked gru": (lambda: tokens(L.Bidirectional(L.GRU(UNITS, return_sequences=True)), L.GRU(4)), {}),
    "one step": (lambda: sequences(L.LSTM(UNITS), time=1), {}),
}


@functools.cache
def keras_model(name):
    """A model, three calls by input, and what Keras computes of them, as one graph: both forms are held against it."""
    build, options = MODELS[name]
    keras.utils.set_random_seed(7)
    model, random = randomized(build(), seed=3), np.random.default_rng(20)
    function = tf.function(lambda arrays: model(arrays if len(arrays) > 1 else arrays[0]), autograph=False)
    calls = [draw(random, model.inputs, options.get("batch_size", BATCH)) for _ in range(3)]
    expected = [by_output(function([*map(tf.convert_to_tensor, arrays)])) for arrays in calls]
    return model, calls, expected


@functools.cache
def converted(name, form):
    model, options = keras_model(name)[0], {"batch_size": BATCH} | MODELS[name][1]
    return lstm_toolkit.convert(model, lowering=form, verify=False, **options)


def draw(random, tensors, batch):
    """An array an input: padded tokens, or normal numbers."""
    arrays = []
    for tensor in tensors:
        shape = (batch, *tensor.shape[1:])
        if len(shape) == 2 and shape[1] == TIME:
            array = random.integers(1, 11, shape).astype(np.float32)
            for row, length in zip(array, random.permutation([0, 9, TIME])[:batch], strict=True):
                row[length:] = 0
            arrays.append(array)
        else:
            arrays.append(random.normal(size=shape).astype(np.float32))
    return arrays


def assert_plain(tflite):
    """No recurrent op, and neither custom ops nor variable tensors."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    codes = {flatbuffer_utils.get_builtin_code_from_operator_code(code) for code in model.operatorCodes}
    names = {name for name, code in vars(schema.BuiltinOperator).items() if code in codes}
    assert not {name for name in names if "LSTM" in name or "RNN" in name or name in ("CUSTOM", "ZEROS_LIKE", "ADD_N")}
    assert not any(tensor.isVariable for graph in model.subgraphs for tensor in graph.tensors)
    return names


@functools.cache
def environment():
    """One for all models: each new one searches for accelerators."""
    folder = os.path.dirname(ai_edge_litert.compiled_model.__file__)
    return Environment.create(options=EnvironmentOptions(runtime_path=folder))


def compiled(tflite, calls, *, cache=""):
    """The outputs by name of each call, on one `CompiledModel`."""
    options = Options(cpu_options=CpuOptions(num_threads=1, xnnpack_weight_cache_path=cache))
    model = CompiledModel.from_buffer(tflite, environment=environment(), options=options)
    key = next(iter(model.get_signature_list()))
    results = []
    for arrays in calls:
        for name, array in arrays.items():
            if tuple(model.get_input_tensor_details(key)[name]["shape"]) != array.shape:
                model.resize_input_tensor_by_name(key, name, array.shape)
        shapes = {name: details["shape"] for name, details in model.get_output_tensor_details(key).items()}
        inputs = {name: model.create_input_buffer_by_name(key, name) for name in arrays}
        outputs = {name: model.create_output_buffer_by_name(key, name) for name in shapes}
        for name, array in arrays.items():
            inputs[name].write(np.ascontiguousarray(array, np.float32))
        model.run_by_name(key, inputs, outputs)
        results.append(
            {n: outputs[n].read(int(np.prod(shape)), np.float32).reshape(shape) for n, shape in shapes.items()}
        )
    return results


def everywhere(tflite, calls):
    """The outputs of the calls in a row with XNNPACK, without, and on `CompiledModel`."""
    with_and_without = run_in_a_row(tflite, calls)
    count = len(calls)
    return {
        "with XNNPACK": with_and_without[:count],
        "without": with_and_without[count:],
        "CompiledModel": compiled(tflite, calls),
    }


def assert_equal_everywhere(tflite, calls, expected):
    for runtime, results in everywhere(tflite, calls).items():
        for number, (actual, wanted) in enumerate(zip(results, expected, strict=True)):
            assert set(actual) == set(wanted)
            for name, value in wanted.items():
                np.testing.assert_allclose(actual[name], value, **TOLERANCE, err_msg=f"{runtime}, {number}, {name}")


# Keras layers


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_a_keras_model_as_plain_ops(name, form):
    (model, drawn, expected), conversion = keras_model(name), converted(name, form)
    ops = assert_plain(conversion.tflite)
    assert ("WHILE" in ops) == (form == "loop" and name != "one step")
    assert {layer.op for layer in conversion.report.layers} == {form}
    assert all(max(np.abs(each).max() for each in outputs.values()) > 0.1 for outputs in expected)
    turn, names = bool(MODELS[name][1].get("time_major")), [tensor.name for tensor in model.inputs]
    given = [[each.swapaxes(0, 1) if turn else each for each in arrays] for arrays in drawn]
    calls = [dict(zip(names, arrays, strict=True)) for arrays in given]
    assert_equal_everywhere(conversion.tflite, calls, expected)


@pytest.mark.parametrize("activation", ["linear", "sigmoid", "relu", "elu", "silu", "hard_sigmoid"])
def test_an_activation_that_the_fused_op_lacks(activation):
    layers = [L.LSTM(4, activation=activation, return_sequences=True), L.SimpleRNN(3, activation=activation)]
    model = sequences(*layers, time=4)
    conversion = lstm_toolkit.convert(model, lowering="unrolled")
    assert_plain(conversion.tflite)
    assert conversion.report.max_abs_error < 1e-5


def test_explicit_states_chunk_by_chunk_equal_the_whole(random):
    layers = [L.LSTM(UNITS, return_sequences=True, name="l"), L.GRU(4, return_sequences=True, name="g")]
    model = randomized(sequences(*layers, time=None))
    conversion = lstm_toolkit.convert(model, lowering="loop", state="explicit", batch_size=BATCH)
    assert_plain(conversion.tflite)
    x = random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
    runner = conversion.runner()
    states = {"l_h": np.zeros((BATCH, UNITS)), "l_c": np.zeros((BATCH, UNITS)), "g_h": np.zeros((BATCH, 4))}
    chunks = []
    for chunk in np.split(x, [1, 4, 15], axis=1):
        outputs = runner(**{model.inputs[0].name: chunk}, **states)
        chunks.append(outputs.pop("output_0"))
        states = outputs
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), model(x), **TOLERANCE)


def test_open_time_runs_at_any_length(random):
    model = randomized(sequences(L.Bidirectional(L.LSTM(UNITS, return_sequences=True)), L.LSTM(4), time=None))
    conversion = lstm_toolkit.convert(model, lowering="loop", batch_size=BATCH)
    xs = [random.normal(size=(BATCH, time, INPUTS)).astype(np.float32) for time in (23, 1, 9, 10, 40)]
    name = model.inputs[0].name
    expected = [{"output_0": np.asarray(model(x))} for x in xs]
    assert_equal_everywhere(conversion.tflite, [{name: x} for x in xs], expected)


# Every variant of the fused op

PLAIN = random_weights.VARIANTS[0]
VARIANTS = [
    *random_weights.VARIANTS,
    PLAIN | {"diagonal": True},
    PLAIN | {"projection": True, "projection_bias": True},
]


def name_of(variant):
    return ", ".join(name for name, there in variant.items() if there) or "plain"


@functools.cache
def fused(number):
    """Weights of a variant, and the fused file with explicit states; every other one is time-major."""
    operands = random_weights.random_operands(np.random.default_rng(number), **VARIANTS[number])
    weights = GateWeights.from_operands(operands)
    options = {"state": "explicit", "batch_size": BATCH, "time_steps": TIME, "time_major": bool(number % 2)}
    return weights, lstm_toolkit.convert(weights, verify=False, **options).tflite


def with_options(tflite, **options):
    """The file with other options in its LSTM op."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    for op in model.subgraphs[0].operators:
        if hasattr(op.builtinOptions, "cellClip"):
            for name, value in options.items():
                setattr(op.builtinOptions, name, value)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


# One form of each variant, such that any two switches meet.
FORMS_OF_VARIANTS = [
    pytest.param(number, form, id=f"{name_of(variant)}, {form}")
    for number, variant in enumerate(VARIANTS)
    for form in (FORMS if ALL else [FORMS[sum(variant.values()) % 2]])
]


@pytest.mark.parametrize(("number", "form"), FORMS_OF_VARIANTS)
def test_a_variant_of_the_fused_op(random, number, form):
    weights, tflite = fused(number)
    relu = number % 3 == 1
    activations = schema.ActivationFunctionType
    activation = activations.RELU6 if relu else activations.TANH
    tflite = with_options(tflite, cellClip=0.9, projClip=0.4, fusedActivationFunction=activation)
    plain = lower(tflite, form=form)
    assert_plain(plain)
    time_major = bool(number % 2)
    options = {"activation": "relu6" if relu else "tanh", "cell_clip": 0.9, "proj_clip": 0.4, "time_major": time_major}
    calls, expected = [], []
    for _ in range(2):
        x = random.normal(size=(TIME, BATCH, INPUTS) if time_major else (BATCH, TIME, INPUTS)).astype(np.float32)
        h, c = random.normal(size=(BATCH, weights.output_size)) * 0.3, random.normal(size=(BATCH, UNITS)) * 0.3
        x, h, c = x.astype(np.float32), h.astype(np.float32), c.astype(np.float32)
        names = ("output_0", *[each for each in state_names(tflite) if each.endswith(("_h", "_c"))])
        calls.append({"inputs": x} | dict(zip(names[1:], (h, c), strict=True)))
        expected.append(dict(zip(names, reference.lstm(weights, x, h=h, c=c, **options), strict=True)))
    assert_equal_everywhere(plain, calls, expected)


def state_names(tflite):
    return [name for name in lstm_toolkit.Runner(tflite).input_shapes if name != "inputs"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("merge_mode", "batch", "cls"), [("concat", 1, L.LSTM), ("mul", 3, L.LSTM), ("sum", 3, L.SimpleRNN)]
)
def test_a_bidirectional_op_is_lowered(random, merge_mode, batch, cls, form):
    layer = cls(UNITS, return_sequences=True)
    model = randomized(sequences(L.Bidirectional(layer, merge_mode=merge_mode)))
    tflite = lstm_toolkit.convert(model, batch_size=batch, verify=False).tflite
    assert any(op.startswith("BIDIRECTIONAL_SEQUENCE") for op in lstm_toolkit.inspect(tflite).ops)
    plain = lower(tflite, form=form)
    assert_plain(plain)
    x = random.normal(size=(batch, TIME, INPUTS)).astype(np.float32)
    assert_equal_everywhere(plain, [{model.inputs[0].name: x}], [{"output_0": np.asarray(model(x))}])


def test_a_last_step_that_is_taken_twice(random):
    model = randomized(sequences(L.LSTM(UNITS)))
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(lstm_toolkit.convert(model, verify=False).tflite))
    main, outputs = file.subgraphs[0], file.signatureDefs[0].outputs
    (take,) = (op for op in main.operators if isinstance(op.builtinOptions, schema.StridedSliceOptionsT))
    main.operators.append(copy.deepcopy(take))
    main.tensors.append(copy.deepcopy(main.tensors[take.outputs[0]]))
    outputs.append(copy.deepcopy(outputs[0]))
    main.tensors[-1].name, outputs[-1].name = b"again", b"again"
    main.operators[-1].outputs = [len(main.tensors) - 1]
    outputs[-1].tensorIndex = len(main.tensors) - 1
    main.outputs = [*main.outputs, len(main.tensors) - 1]
    plain = lower(bytes(flatbuffer_utils.convert_object_to_bytearray(file)))
    x = random.normal(size=(1, TIME, INPUTS)).astype(np.float32)
    last = np.asarray(model(x))
    assert_equal_everywhere(plain, [{model.inputs[0].name: x}], [{"output_0": last, "again": last}])


@pytest.mark.parametrize("steps", [1, 4, TIME, TIME + 5])
def test_any_number_of_steps_a_turn(random, steps):
    weights, tflite = fused(0)
    plain = lower(tflite, form="loop", steps_per_turn=steps)
    assert_plain(plain)
    x = random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
    zeros = np.zeros((BATCH, UNITS), np.float32)
    h, c = state_names(tflite)
    names = ("output_0", h, c)
    expected = dict(zip(names, reference.lstm(weights, x), strict=True))
    assert_equal_everywhere(plain, [{"inputs": x, h: zeros, c: zeros}], [expected])


@pytest.mark.parametrize(("units", "copies"), [(64, 10), (128, 5), (192, 2), (256, 1), (512, 1)])
def test_the_weights_of_a_turn_fit_into_a_cache(units, copies):
    """The interpreter packs a copy for each FULLY_CONNECTED; more than fit into 1.25 MiB tripled the time on a Xeon."""
    model = sequences(L.LSTM(units, return_sequences=True), time=30, batch=1)
    plain = lower(lstm_toolkit.convert(model, verify=False).tflite, form="loop")
    _, _, body = flatbuffer_utils.read_model_from_bytearray(bytearray(plain)).subgraphs
    products = [op for op in body.operators if isinstance(op.builtinOptions, schema.FullyConnectedOptionsT)]
    assert len(products) == copies
    assert copies == 1 or copies * 4 * units * units * 4 <= 1.25 * 2**20


@pytest.mark.parametrize(
    ("steps", "turn", "most", "loops", "bodies"),
    [
        (30, 1, 1 << 14, 1, 1),  # all outputs in one loop
        (30, 1, 10 * BATCH * UNITS, 3, 1),  # three equal ones
        (28, 2, 8 * BATCH * UNITS, 2, 1),  # as few as leave five turns for each: 7 turns each
        (33, 3, 16 * BATCH * UNITS, 2, 1),  # 11 turns: the last loop is shorter
        (34, 3, 16 * BATCH * UNITS, 3, 2),  # and a step is left, which fills no turn
    ],
)
def test_outputs_are_gathered_by_equal_loops_with_one_body(random, monkeypatch, steps, turn, most, loops, bodies):
    monkeypatch.setattr(loop, "OUTPUTS_A_LOOP", most)
    model = randomized(sequences(L.LSTM(UNITS, return_sequences=True), time=steps))
    plain = lower(lstm_toolkit.convert(model, batch_size=BATCH, verify=False).tflite, form="loop", steps_per_turn=turn)
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(plain))
    found = [
        op.builtinOptions.bodySubgraphIndex
        for op in file.subgraphs[0].operators
        if isinstance(op.builtinOptions, schema.WhileOptionsT)
    ]
    assert (len(found), len(set(found))) == (loops, bodies)
    x = random.normal(size=(BATCH, steps, INPUTS)).astype(np.float32)
    assert_equal_everywhere(plain, [{model.inputs[0].name: x}], [{"output_0": np.asarray(model(x))}])


def test_the_weight_cache_of_compiled_model_changes_nothing(random, tmp_path):
    model, conversion = keras_model("sequence")[0], converted("sequence", "unrolled")
    x = random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
    calls = [{model.inputs[0].name: x}]
    for _ in range(2):  # the first writes the cache, the second reads it
        (outputs,) = compiled(conversion.tflite, calls, cache=str(tmp_path / "weights"))
        np.testing.assert_allclose(outputs["output_0"], model(x), **TOLERANCE)


def test_a_weight_cache_is_good_for_one_file_only(random, tmp_path):
    """A fact to build on: the cache does not notice other weights, so its path has to name the file's contents."""
    x = random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
    errors = {}
    for seed, path in ((1, "shared"), (2, "shared"), (2, "own")):
        model = randomized(sequences(L.LSTM(UNITS)), seed=seed)
        tflite = lstm_toolkit.convert(model, lowering="unrolled", batch_size=BATCH, verify=False).tflite
        (outputs,) = compiled(tflite, [{model.inputs[0].name: x}], cache=str(tmp_path / path))
        errors[seed, path] = np.abs(outputs["output_0"] - np.asarray(model(x))).max()
    assert errors[1, "shared"] < 1e-5
    assert errors[2, "own"] < 1e-5
    assert errors[2, "shared"] > 1e-2


def test_a_file_without_recurrent_ops_stays_as_it_is():
    conversion = converted("one step", "unrolled")
    assert lower(conversion.tflite, form="loop") == conversion.tflite


# Lingvo


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_lingvo_rnn(random, layer_norm, form):
    options = {"num_hidden_nodes": 6, "couple_input_forget_gates": True, "cell_value_cap": 0.8, "forget_gate_bias": 0.5}
    cls = lingvo.LayerNormalizedLSTMCellSimple if layer_norm else lingvo.LSTMCellSimple
    cell = cls(num_input_nodes=INPUTS, num_output_nodes=4, **options)
    conversion = lstm_toolkit.convert(lingvo.RNN(cell), lowering=form, batch_size=BATCH, time_steps=TIME)
    assert_plain(conversion.tflite)
    assert conversion.report.max_abs_error < 1e-5


def test_a_lingvo_cell_is_one_step():
    cell = lingvo.LSTMCellSimple(num_input_nodes=INPUTS, num_output_nodes=4, num_hidden_nodes=6)
    conversion = lstm_toolkit.convert(cell, lowering="unrolled", batch_size=BATCH, state="explicit")
    assert_plain(conversion.tflite)
    assert conversion.report.max_abs_error < 1e-5
