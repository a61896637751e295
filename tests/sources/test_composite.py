"""`composite`: functions of the user's own become fused ops, and what is declared wrongly is caught."""

import functools
import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffers import flexbuffers

import lstm_toolkit
from lstm_toolkit import composite, convert
from lstm_toolkit.errors import ConversionError, ParityError
from tests.helpers.calls import run_in_a_row
from tests.helpers.pairwise import ALL

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"
BATCH, TIME, INPUTS, UNITS = 2, 7, 5, 6
TOLERANCE = {"atol": 1e-5, "rtol": 0}
SPEC = tf.TensorSpec([BATCH, TIME, INPUTS], name="steps")
ORDERS = ["".join(letters) for letters in itertools.permutations("ifco")]
SOME_ORDERS = ORDERS if ALL else ORDERS[::5]
USUAL = {"x": "input", "w": "kernel", "u": "recurrent_kernel", "b": "bias"}


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def numpy_lstm(x, w, u, b, order="ifco", *, time_major=False):
    """The oracle: outputs, h and c of packed weights [.., 4 * units] in an order of gates, in float64."""
    x, w, u, b = (np.asarray(array, np.float64) for array in (x, w, u, b))
    steps = x if time_major else x.swapaxes(0, 1)
    h, c = np.zeros((2, steps.shape[1], u.shape[0]))
    outputs = []
    for step in steps:
        z = dict(zip(order, np.split(step @ w + h @ u + b, 4, axis=1), strict=True))
        c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["c"])
        h = sigmoid(z["o"]) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=0 if time_major else 1), h, c


def packed_lstm(order):
    """A hand-written LSTM whose packed gates stand in this order."""

    def mine(x, w, u, b):
        def step(state, x_t):
            h, c = state
            z = dict(zip(order, tf.split(tf.matmul(x_t, w) + tf.matmul(h, u) + b, 4, axis=1), strict=True))
            c = tf.sigmoid(z["f"]) * c + tf.sigmoid(z["i"]) * tf.tanh(z["c"])
            return tf.sigmoid(z["o"]) * tf.tanh(c), c

        zeros = tf.zeros([tf.shape(x)[0], u.shape[0]])
        hs, _ = tf.scan(step, tf.transpose(x, [1, 0, 2]), initializer=(zeros, zeros))
        return tf.transpose(hs, [1, 0, 2])

    return mine


def random_weights(random, *, inputs=INPUTS, units=UNITS):
    shapes = ((inputs, 4 * units), (units, 4 * units), (4 * units,))
    return [tf.Variable(random.normal(0.0, 0.6, shape).astype(np.float32)) for shape in shapes]


def check(conversion, expected, *, random, shape=(BATCH, TIME, INPUTS), name="steps", tolerance=TOLERANCE):
    """One op and nothing of the function's body; three calls in a row against the oracle."""
    assert conversion.report.ops[FUSED] == 1
    assert not {"WHILE", "CUSTOM", "lstm_toolkit.LSTM"} & set(conversion.report.ops)
    calls = [random.normal(size=shape).astype(np.float32) for _ in range(3)]
    for x, result in zip(calls * 2, run_in_a_row(conversion.tflite, [{name: x} for x in calls]), strict=True):
        np.testing.assert_allclose(result["output_0"], expected(x), **tolerance)


# The order of the gates


@functools.cache
def weights_of_all_orders():
    return random_weights(np.random.default_rng(3))


def declared(order, gates):
    function = composite(operands=USUAL, gates=gates)(packed_lstm(order))
    return lambda x: function(x, *weights_of_all_orders())


def test_there_are_24_orders():
    assert len(set(ORDERS)) == 24


@pytest.mark.parametrize("order", SOME_ORDERS)
def test_the_declared_order_converts_exactly(random, order):
    conversion = convert(declared(order, order), input_signature=[SPEC])
    assert conversion.report.max_abs_error < 1e-5
    check(conversion, lambda x: numpy_lstm(x, *weights_of_all_orders(), order)[0], random=random)


def test_each_other_order_is_caught():
    """By `convert` from end to end, for Lingvo's order."""
    order = "cifo"
    for gates in SOME_ORDERS:
        if gates != order:
            with pytest.raises(ParityError, match="'output_0' differs from the source by") as raised:
                convert(declared(order, gates), input_signature=[SPEC])
            assert raised.value.max_abs_error > 1e-3


@pytest.mark.parametrize("order", ORDERS)
def test_each_other_order_is_caught_whatever_the_function(monkeypatch, order):
    """The same for all 24 functions: the converter runs once for each function, and the declaration is changed in its
    result, before the passes and `verify` see it."""
    from lstm_toolkit.conversion import parity, pipeline
    from lstm_toolkit.conversion.plans import Plan
    from lstm_toolkit.sources import functions
    from lstm_toolkit.sources.traced import TraceOptions

    options = TraceOptions(input_signature=[SPEC])
    traced = functions.trace(declared(order, order), options)
    stock = pipeline.stock_file(traced)
    for gates in ORDERS:
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "stock_file", lambda _, gates=gates: redeclared(stock, gates))
            file = pipeline.lowered(traced, Plan(lowering="fused", merge=True))
        assert file.report.ops[FUSED] == 1
        if gates == order:
            assert parity.verify(file.tflite, traced).max_abs_error < 1e-5
            continue
        with pytest.raises(ParityError) as raised:
            parity.verify(file.tflite, traced)
        assert raised.value.max_abs_error > 1e-3


def redeclared(stock, letters):
    """The converter's result with another order of gates among the attributes of its one composite op."""
    names = {"i": "input", "f": "forget", "c": "cell", "o": "output"}
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(stock))
    (op,) = [op for op in model.subgraphs[0].operators if op.customOptions is not None and len(op.customOptions)]
    attributes = flexbuffers.Loads(bytes(op.customOptions))
    assert set(attributes["gates"].split(",")) == set(names.values())
    changed = attributes | {"gates": ",".join(names[letter] for letter in letters)}
    op.customOptions = np.frombuffer(bytes(flexbuffers.Dumps(changed)), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.mark.parametrize("gates", ["ofgi", "ofci", ("output", "forget", "cell", "input")])
def test_gates_by_letters_and_by_names(random, gates):
    """g is PyTorch's letter for the cell gate."""
    weights = random_weights(random)
    function = composite(operands=USUAL, gates=gates)(packed_lstm("ofci"))
    conversion = convert(lambda x: function(x, *weights), input_signature=[SPEC])
    check(conversion, lambda x: numpy_lstm(x, *weights, "ofci")[0], random=random)


# Layouts of the weights


def test_gate_axis_0_is_for_transposed_matrices(random):
    """As in PyTorch: weight_ih [4 * units, inputs], weight_hh [4 * units, units]."""
    w, u, b = random_weights(random)
    transposed = [tf.Variable(tf.transpose(w)), tf.Variable(tf.transpose(u)), b]
    plain = packed_lstm("ifco")

    @composite(operands=USUAL, gates="ifgo", gate_axis=0)
    def torch_like(x, w, u, b):
        return plain(x, tf.transpose(w), tf.transpose(u), b)

    conversion = convert(lambda x: torch_like(x, *transposed), input_signature=[SPEC])
    check(conversion, lambda x: numpy_lstm(x, w, u, b)[0], random=random)


@pytest.mark.parametrize("gate_axis", [-1, 0])
def test_joint_kernel(random, gate_axis):
    w, u, b = random_weights(random)
    both = tf.concat([w, u], axis=0)
    joint = tf.Variable(tf.transpose(both) if gate_axis == 0 else both)
    plain = packed_lstm("fico")

    @composite(operands={"x": "input", "wu": "joint_kernel", "b": "bias"}, gates="fico", gate_axis=gate_axis)
    def joined(x, wu, b):
        wu = tf.transpose(wu) if gate_axis == 0 else wu
        return plain(x, wu[:INPUTS], wu[INPUTS:], b)

    conversion = convert(lambda x: joined(x, joint, b), input_signature=[SPEC])
    check(conversion, lambda x: numpy_lstm(x, w, u, b, "fico")[0], random=random)


def test_without_bias_and_with_a_forget_gate_bias_of_the_function(random):
    w, u, _ = random_weights(random)
    bias = np.repeat(np.float32([0, 0.75, 0, 0]), UNITS)
    plain = packed_lstm("ifco")

    @composite(operands={"x": "input", "w": "kernel", "u": "recurrent_kernel"}, forget_gate_bias=0.75)
    def unbiased(x, w, u):
        return plain(x, w, u, tf.constant(bias))

    conversion = convert(lambda x: unbiased(x, w, u), input_signature=[SPEC])
    check(conversion, lambda x: numpy_lstm(x, w, u, bias)[0], random=random)


def test_arguments_in_any_order_by_name_and_with_defaults(random):
    w, u, b = random_weights(random)
    plain = packed_lstm("ifco")

    @composite(operands=USUAL)
    def turned(b, x, u, w=w):
        return plain(x, w, u, b)

    conversion = convert(lambda x: turned(b, u=u, x=x), input_signature=[SPEC])
    check(conversion, lambda x: numpy_lstm(x, w, u, b)[0], random=random)


def test_a_single_step_is_an_lstm_op(random):
    weights = random_weights(random)
    states = {"h": "h", "c": "c"}

    @composite(operands=USUAL | states)
    def one_step(x, w, u, b, h, c):
        i, f, g, o = tf.split(tf.matmul(x, w) + tf.matmul(h, u) + b, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    sizes = {"x": INPUTS, "h": UNITS, "c": UNITS}
    conversion = convert(
        lambda x, h, c: one_step(x, *weights, h, c),
        input_signature=[tf.TensorSpec([BATCH, size], name=name) for name, size in sizes.items()],
    )
    assert conversion.report.ops["LSTM"] == 1
    assert not {"WHILE", "CUSTOM", FUSED} & set(conversion.report.ops)
    runner, x = conversion.runner(), random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
    h, c = np.zeros((2, BATCH, UNITS))
    outputs = []
    for step in range(TIME):
        results = runner(x=x[:, step], h=h, c=c)
        h, c = results["output_0"], results["output_1"]
        outputs.append(h)
    expected, _, last_c = numpy_lstm(x, *weights)
    np.testing.assert_allclose(np.stack(outputs, axis=1), expected, **TOLERANCE)
    np.testing.assert_allclose(c, last_c, **TOLERANCE)


# Errors at decoration and at a call


def four(x, w, u, b):
    return x


def six(x, w, u, b, h, c):
    return x


STATES = {"h": "h", "c": "c"}
AT_DECORATION = {
    "undeclared argument": (four, {"x": "input", "w": "kernel"}, {}, "four takes ['x', 'w', 'u', 'b'], and operands"),
    "unknown argument": (four, USUAL | {"v": "peephole"}, {}, "and operands declares ['x', 'w', 'u', 'b', 'v']"),
    "unknown operand": (four, USUAL | {"b": "biases"}, {}, "unknown: ['biases']"),
    "the same operand twice": (four, USUAL | {"u": "kernel"}, {}, "operands of four must be different ones of input,"),
    "no input": (four, USUAL | {"x": "peephole"}, {}, "four needs an argument that is the input"),
    "h without c": (six, USUAL | STATES | {"c": "peephole"}, {}, "both or none of h and c"),
    "carry with states": (
        six,
        USUAL | STATES,
        {"carry": True},
        "six carries its state, so it cannot also start from h",
    ),
    "gates twice": (four, USUAL, {"gates": "iico"}, "gates must hold each of input, forget, cell, output once"),
    "unknown letter": (four, USUAL, {"gates": "ifcx"}, "got ['input', 'forget', 'cell', 'x']"),
    "too few gates": (four, USUAL, {"gates": ("forget", "cell")}, "got ['forget', 'cell']"),
    "no forget gate": (four, USUAL, {"gates": "ico"}, "got ['input', 'cell', 'output']"),
    "activation": (four, USUAL, {"activation": "gelu"}, "activation must be one of tanh, relu, relu6, hard_tanh, got"),
    "no activation": (four, USUAL, {"activation": "linear"}, "got 'linear'"),
    "gate axis": (four, USUAL, {"gate_axis": 1}, "gate_axis must be 0 or -1"),
    "go_backwards": (four, USUAL, {"go_backwards": True}, "go_backwards goes with interface='keras' only"),
    "both": (four, USUAL, {"interface": "keras"}, "give either operands"),
    "neither": (four, None, {}, "give either operands"),
    "another interface": (six, None, {"interface": "torch"}, "interface must be \"keras\", got 'torch'"),
    "arguments of the interface": (
        four,
        None,
        {"interface": "keras"},
        "four takes ['x', 'w', 'u', 'b']; with the Keras",
    ),
}


@pytest.mark.parametrize("case", AT_DECORATION)
def test_errors_at_decoration(case):
    function, operands, options, message = AT_DECORATION[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        composite(operands=operands, **options)(function)


ALL = USUAL | {"p": "peephole", "n": "layer_norm", "r": "projection", "s": "projection_bias", "h": "h", "c": "c"}
SHAPES = {
    "x": (2, 7, 5), "w": (5, 24), "u": (4, 24), "b": (24,), "p": (18,), "n": (24,), "r": (6, 4), "s": (4,),
    "h": (2, 4), "c": (2, 6),
}  # fmt: skip
WRONG_SHAPES = [
    ("x", (2, 7, 6), "argument x must have shape [None, None, 5], got [2, 7, 6]"),
    ("x", (2, 7, 5, 1), "argument x must have shape [None, None, 5], got [2, 7, 5, 1]"),
    ("w", (5, 23), "argument w (kernel, 4 gates) must have shape [5, 24], got [5, 23]"),
    ("w", (5, 18), "argument w (kernel, 4 gates) must have shape [5, 24], got [5, 18]"),
    ("w", (24,), "argument w must be ['inputs', 'gates * units'], got shape [24]"),
    ("u", (6, 24), "argument u (recurrent_kernel, 4 gates) must have shape [4, 24], got [6, 24]"),
    ("u", (24, 4), "argument u (recurrent_kernel, 4 gates) must have shape [4, 24], got [24, 4]"),
    ("b", (20,), "argument b (bias, 4 gates) must have shape [24], got [20]"),
    ("b", (4, 6), "argument b must be ['gates * units'], got shape [4, 6]"),
    ("p", (24,), "argument p (peephole, 4 gates) must have shape [18], got [24]"),
    ("n", (6,), "argument n (layer_norm, 4 gates) must have shape [24], got [6]"),
    ("s", (6,), "argument s (projection_bias, 4 gates) must have shape [4], got [6]"),
    ("h", (2, 6), "argument h must have shape [None, 4], got [2, 6]"),
    ("c", (2, 4), "argument c must have shape [None, 6], got [2, 4]"),
    ("c", (6,), "argument c must have shape [None, 6], got [6]"),
]


def everything(x, w, u, b, p, n, r, s, h, c):
    return tf.zeros([2, 7, 4])


@pytest.mark.parametrize(("name", "shape", "message"), WRONG_SHAPES)
def test_a_shape_that_does_not_fit_names_argument_expected_and_actual(name, shape, message):
    marked = composite(operands=ALL)(everything)
    with pytest.raises(ValueError, match=re.escape(f"everything: {message}")):
        marked(**{each: tf.zeros(shape if each == name else size) for each, size in SHAPES.items()})


def test_a_wrong_projection_is_caught():
    """Everything else is held against it, so another argument may be the one that is named."""
    marked = composite(operands=ALL)(everything)
    with pytest.raises(ValueError, match=r"everything: argument . \(.*\) must have shape \[.*\], got \[.*\]"):
        marked(**{name: tf.zeros((5, 4) if name == "r" else size) for name, size in SHAPES.items()})


def test_gate_count_of_a_coupled_input_gate(random):
    marked = composite(operands=USUAL, gates="fco")(four)
    message = "four: argument w (kernel, 3 gates) must have shape [5, 18], got [5, 24]"
    with pytest.raises(ValueError, match=re.escape(message)):
        marked(tf.zeros([2, 7, 5]), *random_weights(random))


def test_shapes_of_transposed_and_joint_weights():
    marked = composite(operands=USUAL, gate_axis=0)(four)
    message = r"four: argument w \(kernel, 4 gates\) must have shape \[24, \d+\], got \[5, 24\]"
    with pytest.raises(ValueError, match=message):
        marked(tf.zeros([2, 7, 5]), tf.zeros([5, 24]), tf.zeros([24, 6]), tf.zeros([24]))

    marked = composite(operands={"x": "input", "w": "joint_kernel", "b": "bias"})(lambda x, w, b: x)
    with pytest.raises(ValueError, match=re.escape("argument x must have shape [None, None, 5], got [2, 7, 4]")):
        marked(tf.zeros([2, 7, 4]), tf.zeros([11, 24]), tf.zeros([24]))


@pytest.mark.parametrize("name", ["x", "w"])
def test_an_unknown_rank_is_refused_while_tracing(random, name):
    marked = composite(operands=USUAL)(packed_lstm("ifco"))
    shapes = {"x": [BATCH, TIME, INPUTS], "w": [INPUTS, 24], "u": [UNITS, 24], "b": [24]} | {name: None}
    specs = [tf.TensorSpec(shape) for shape in shapes.values()]
    with pytest.raises(ValueError, match=f"mine: argument {name} has no known rank, and the op needs one; set its"):
        tf.function(marked).get_concrete_function(*specs)


def test_another_shape_of_the_outputs_is_refused(random):
    marked = composite(operands=USUAL)(lambda x, w, u, b: tf.zeros([BATCH, UNITS]))
    message = f"must return outputs of shape [{BATCH}, {TIME}, {UNITS}], got [{BATCH}, {UNITS}]"
    with pytest.raises(ValueError, match=re.escape(message)):
        marked(tf.zeros([BATCH, TIME, INPUTS]), *random_weights(random))


def test_too_few_and_unknown_arguments_are_errors_of_the_function(random):
    marked = composite(operands=USUAL)(packed_lstm("ifco"))
    w, u, b = random_weights(random)
    with pytest.raises(TypeError, match="missing a required argument: 'b'"):
        marked(tf.zeros([BATCH, TIME, INPUTS]), w, u)
    with pytest.raises(TypeError, match="unexpected keyword argument 'v'"):
        marked(tf.zeros([BATCH, TIME, INPUTS]), w, u, b, v=b)


def test_weights_by_gate_of_another_shape_do_not_reach_a_file(random):
    """By operand name nothing is packed, so the shapes are held against each other when the op is made."""
    names = [f"{kind}_to_{gate}_weights" for kind in ("input", "recurrent") for gate in ("forget", "cell", "output")]
    arrays = {name: tf.Variable(random.normal(size=(6, 5 if "input" in name else 6)).astype("f")) for name in names}
    arrays["recurrent_to_cell_weights"] = tf.Variable(tf.zeros([6, 4]))

    @composite(operands={"x": "input"} | dict(zip("abcdef", names, strict=True)))
    def by_gate(x, a, b, c, d, e, f):
        total = tf.add_n([tf.reduce_sum(each) for each in (a, b, c, d, e, f)])
        return tf.zeros([BATCH, TIME, 6]) + total + tf.reduce_sum(x)

    with pytest.raises((ConversionError, ValueError), match=r"recurrent_to_cell_weights must have shape \[6, 6\], got"):
        convert(lambda x: by_gate(x, *arrays.values()), input_signature=[SPEC])


# Option 1: the Keras interface


def keras_like(*, time_major=False, go_backwards=False, count=4):
    @composite(interface="keras", time_major=time_major, go_backwards=go_backwards)
    def recurrent(inputs, h, c, kernel, recurrent_kernel, bias):
        def step(state, x_t):
            i, f, g, o = tf.split(tf.matmul(x_t, kernel) + tf.matmul(state[0], recurrent_kernel) + bias, 4, axis=1)
            c = tf.sigmoid(f) * state[1] + tf.sigmoid(i) * tf.tanh(g)
            return tf.sigmoid(o) * tf.tanh(c), c

        steps = inputs if time_major else tf.transpose(inputs, [1, 0, 2])
        hs, cs = tf.scan(step, steps[::-1] if go_backwards else steps, initializer=(h, c))
        outputs = hs if time_major else tf.transpose(hs, [1, 0, 2])
        return (hs[-1], outputs, hs[-1], cs[-1], cs)[:count]

    return recurrent


def with_zeros(function, weights, *, result, batch=BATCH):
    zeros = tf.zeros([batch, UNITS])
    return lambda x: function(x, zeros, zeros, *weights)[result]


@pytest.mark.parametrize("result", [0, 1], ids=["last", "sequence"])
def test_option_1_fuses_without_clip_and_without_leaking_state(random, result):
    weights = random_weights(random)
    conversion = convert(with_zeros(keras_like(), weights, result=result), input_signature=[SPEC])
    (node,) = lstm_toolkit.inspect(conversion).lstm_nodes
    assert (node.cell_clip, node.state, node.layout) == (0.0, "reset", "batch_major")
    check(conversion, lambda x: numpy_lstm(x, *weights)[1 - result], random=random)


def test_option_1_does_not_clip_what_runs_over_10(random):
    """Open gates drive the cell to 20; the converter itself writes a clip at 10."""
    kernel, bias = np.float32([[0, 0, 3, 0]]), np.float32([6, 6, 0, 6])
    weights = [tf.Variable(array) for array in (kernel, np.zeros((1, 4), np.float32), bias)]
    zeros, function = tf.zeros([1, 1]), keras_like()
    spec = tf.TensorSpec([1, 40, 1], name="steps")
    conversion = convert(lambda x: function(x, zeros, zeros, *weights)[1], input_signature=[spec])
    x = np.repeat(np.float32([1, -1]), 20).reshape(1, 40, 1)
    assert numpy_lstm(x[:, :20], *weights)[2].max() > 15
    for result in run_in_a_row(conversion.tflite, [{"steps": x}] * 3):
        np.testing.assert_allclose(result["output_0"], numpy_lstm(x, *weights)[0], **TOLERANCE)


def test_option_1_time_major(random):
    weights = random_weights(random)
    spec = tf.TensorSpec([TIME, BATCH, INPUTS], name="steps")
    function = with_zeros(keras_like(time_major=True), weights, result=1)
    conversion = convert(function, input_signature=[spec])
    assert lstm_toolkit.inspect(conversion).lstm_nodes[0].layout == "time_major"
    check(
        conversion,
        lambda x: numpy_lstm(x, *weights, time_major=True)[0],
        random=random,
        shape=(TIME, BATCH, INPUTS),
    )


@pytest.mark.parametrize("result", [0, 1], ids=["last", "sequence"])
def test_option_1_go_backwards(random, result):
    weights = random_weights(random)
    function = with_zeros(keras_like(go_backwards=True), weights, result=result)
    conversion = convert(function, input_signature=[SPEC])
    check(conversion, lambda x: numpy_lstm(x[:, ::-1], *weights)[1 - result], random=random)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_option_1_needs_four_results(random, count):
    with pytest.raises(ValueError, match=rf"recurrent must return \(last output, outputs, h, c\), got {count} results"):
        with_zeros(keras_like(count=count), random_weights(random), result=0)(tf.zeros([BATCH, TIME, INPUTS]))


def test_option_1_checks_arguments_and_shapes(random):
    w, u, b = random_weights(random)
    x, zeros, function = tf.zeros([BATCH, TIME, INPUTS]), tf.zeros([BATCH, UNITS]), keras_like()
    with pytest.raises(ValueError, match=r"recurrent takes \['input', 'h', 'c', .*\], got 5 arguments"):
        function(x, zeros, zeros, w, u)
    for arguments, message in (
        ((x, zeros, zeros, w, u, b[:20]), "argument bias (bias, 4 gates) must have shape [24], got [20]"),
        ((x[:, :, :3], zeros, zeros, w, u, b), "argument inputs must have shape [None, None, 5], got [2, 7, 3]"),
        ((x, zeros[:, :3], zeros, w, u, b), "argument h must have shape [None, 6], got [2, 3]"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"recurrent: {message}")):
            function(*arguments)


def test_option_1_in_a_wrong_order_is_caught(random):
    weights = random_weights(random)
    plain = packed_lstm("fico")

    @composite(interface="keras")
    def other(x, h, c, w, u, b):
        outputs = plain(x, w, u, b) + 0.0 * (tf.reduce_sum(h) + tf.reduce_sum(c))
        return outputs[:, -1], outputs, outputs[:, -1], c

    with pytest.raises(ParityError, match="differs from the source"):
        convert(with_zeros(other, weights, result=1), input_signature=[SPEC])


# What is no LSTM


def gru_like(x, w, u, b):
    def step(h, x_t):
        z_x, z_h = tf.split(tf.matmul(x_t, w) + b, 4, axis=1), tf.split(tf.matmul(h, u), 4, axis=1)
        update, reset = tf.sigmoid(z_x[0] + z_h[0]), tf.sigmoid(z_x[1] + z_h[1])
        return update * h + (1.0 - update) * tf.tanh(z_x[2] + reset * z_h[2] + 0.1 * z_x[3])

    hs = tf.scan(step, tf.transpose(x, [1, 0, 2]), initializer=tf.zeros([tf.shape(x)[0], u.shape[0]]))
    return tf.transpose(hs, [1, 0, 2])


def forgetful(x, w, u, b):
    return 0.99 * packed_lstm("ifco")(x, w, u, b)


@pytest.mark.parametrize("function", [gru_like, forgetful])
def test_a_function_that_is_no_lstm_is_caught(random, function):
    weights = random_weights(random)
    marked = composite(operands=USUAL)(function)
    with pytest.raises(ParityError, match="'output_0' differs from the source"):
        convert(lambda x: marked(x, *weights), input_signature=[SPEC])


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "relu"},
        {"activation": "hard_tanh"},
        {"cell_clip": 0.2},
        {"forget_gate_bias": 1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_that_the_function_does_not_have_are_caught(random, options):
    weights = random_weights(random)
    marked = composite(operands=USUAL, **options)(packed_lstm("ifco"))
    with pytest.raises(ParityError, match="'output_0' differs from the source"):
        convert(lambda x: marked(x, *weights), input_signature=[SPEC])


# Where marked functions stand


class Encoder(tf.Module):
    """A user's module: two layers, marked, with weights of their own."""

    def __init__(self, random):
        super().__init__(name="encoder")
        self.first = random_weights(random)
        self.second = random_weights(random, inputs=UNITS, units=3)
        self.scale = tf.Variable(1.5)
        self.layer = composite(operands=USUAL, gates="fico")(packed_lstm("fico"))

    @tf.function(input_signature=[SPEC])
    def __call__(self, steps):
        return {"output_0": self.scale * self.layer(self.layer(steps, *self.first), *self.second)}

    def expected(self, x):
        inner = numpy_lstm(x, *self.first, "fico")[0]
        return 1.5 * numpy_lstm(inner, *self.second, "fico")[0]


@pytest.mark.parametrize("saved", [False, True], ids=["module", "saved model"])
def test_in_a_module_and_in_a_saved_model(random, tmp_path, saved):
    """Called twice, the function gives two ops, and the second has a number in its name."""
    encoder = Encoder(random)
    source = encoder
    if saved:
        source = tmp_path / "saved"
        tf.saved_model.save(encoder, str(source), signatures=encoder.__call__.get_concrete_function())
    conversion = convert(source) if saved else convert(encoder, input_signature=[SPEC])
    assert conversion.report.ops[FUSED] == 2
    assert not {"WHILE", "CUSTOM", "VAR_HANDLE"} & set(conversion.report.ops)
    assert sorted(layer.name for layer in conversion.report.layers) == ["mine", "mine_call1"]
    nodes = {node.name: node.units for node in lstm_toolkit.inspect(conversion).lstm_nodes}
    assert sorted(nodes.values()) == [3, UNITS]
    calls = [random.normal(size=SPEC.shape).astype(np.float32) for _ in range(3)]
    for x, result in zip(calls * 2, run_in_a_row(conversion.tflite, [{"steps": x} for x in calls]), strict=True):
        np.testing.assert_allclose(result["output_0"], encoder.expected(x), **TOLERANCE)


def test_a_concrete_function_converts(random):
    encoder = Encoder(random)
    conversion = convert(encoder.__call__.get_concrete_function())
    x = random.normal(size=SPEC.shape).astype(np.float32)
    for result in run_in_a_row(conversion.tflite, [{"steps": x}] * 3):
        np.testing.assert_allclose(result["output_0"], encoder.expected(x), **TOLERANCE)


def test_next_to_keras_layers(random):
    weights = random_weights(random, inputs=4)
    marked = composite(operands=USUAL)(packed_lstm("ifco"))
    dense, lstm = keras.layers.Dense(4, activation="relu"), keras.layers.LSTM(3, return_sequences=True, name="theirs")
    dense.build((None, None, INPUTS))
    lstm.build((None, None, UNITS))
    for variable in (*dense.weights, *lstm.trainable_weights):
        variable.assign(random.normal(0.0, 0.6, variable.shape))
    conversion = convert(lambda x: lstm(marked(dense(x), *weights)), input_signature=[SPEC])
    assert conversion.report.ops[FUSED] == 2
    assert {layer.name for layer in conversion.report.layers} == {"mine", "theirs"}
    assert not {"WHILE", "CUSTOM"} & set(conversion.report.ops)
    kernel, bias = (value.astype(np.float64) for value in dense.get_weights())
    calls = [random.normal(size=SPEC.shape).astype(np.float32) for _ in range(3)]
    for x, result in zip(calls * 2, run_in_a_row(conversion.tflite, [{"steps": x} for x in calls]), strict=True):
        inner, _, _ = numpy_lstm(np.maximum(x @ kernel + bias, 0.0), *weights)
        np.testing.assert_allclose(result["output_0"], numpy_lstm(inner, *lstm.get_weights())[0], **TOLERANCE)


def test_in_both_options_at_once(random):
    one, two = random_weights(random), random_weights(random, inputs=UNITS)
    first, second = composite(operands=USUAL)(packed_lstm("ifco")), keras_like()
    model = with_zeros(second, two, result=1)
    conversion = convert(lambda x: model(first(x, *one)), input_signature=[SPEC])
    assert conversion.report.ops[FUSED] == 2
    x = random.normal(size=SPEC.shape).astype(np.float32)
    expected, _, _ = numpy_lstm(numpy_lstm(x, *one)[0], *two)
    for result in run_in_a_row(conversion.tflite, [{"steps": x}] * 3):
        np.testing.assert_allclose(result["output_0"], expected, **TOLERANCE)


def test_dynamic_time_and_a_batch_that_convert_sets(random):
    weights = random_weights(random)
    marked = composite(operands=USUAL)(packed_lstm("ifco"))
    spec = tf.TensorSpec([None, None, INPUTS], name="steps")
    conversion = convert(lambda x: marked(x, *weights), input_signature=[spec], batch_size=3)
    assert lstm_toolkit.inspect(conversion).inputs[0].shape == (3, -1, INPUTS)
    calls = [random.normal(size=(3, time, INPUTS)).astype(np.float32) for time in (7, 1, 30)]
    for x, result in zip(calls * 2, run_in_a_row(conversion.tflite, [{"steps": x} for x in calls]), strict=True):
        np.testing.assert_allclose(result["output_0"], numpy_lstm(x, *weights)[0], **TOLERANCE)


# In TensorFlow nothing changes


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("option", [1, 2])
def test_gradients_are_those_of_the_function_itself(random, option, in_graph):
    weights = random_weights(random)
    x = tf.Variable(random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32))
    target = random.normal(size=(BATCH, TIME, UNITS)).astype(np.float32)
    plain = packed_lstm("ifco")
    if option == 1:
        function, zeros = keras_like(), tf.zeros([BATCH, UNITS])
        marked = lambda x, *weights: function(x, zeros, zeros, *weights)[1]  # noqa: E731
    else:
        marked = composite(operands=USUAL)(plain)

    def gradients(function):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((function(x, *weights) - target) ** 2)
        return tape.gradient(loss, [x, *weights])

    run = tf.function(gradients) if in_graph else gradients
    for one, other in zip(run(marked), run(plain), strict=True):
        assert np.abs(other).max() > 0.1
        np.testing.assert_allclose(one, other, atol=1e-5 * float(np.abs(other).max()), rtol=0)


def test_calls_with_other_shapes_trace_again(random):
    marked = composite(operands=USUAL)(packed_lstm("ifco"))
    for batch, time, inputs, units in ((2, 7, 5, 6), (1, 3, 4, 2), (2, 7, 5, 6), (4, 1, 5, 6)):
        weights = random_weights(random, inputs=inputs, units=units)
        x = random.normal(size=(batch, time, inputs)).astype(np.float32)
        np.testing.assert_allclose(marked(x, *weights), numpy_lstm(x, *weights)[0], **TOLERANCE)
        traced = tf.function(lambda x, weights=weights: marked(x, *weights))
        np.testing.assert_allclose(traced(tf.constant(x)), numpy_lstm(x, *weights)[0], **TOLERANCE)


def test_the_function_keeps_its_name_documentation_and_shapes(random):
    @composite(operands=USUAL)
    def documented(x, w, u, b):
        """Mine."""
        return packed_lstm("ifco")(x, w, u, b)

    assert (documented.__name__, documented.__doc__) == ("documented", "Mine.")
    specs = [tf.TensorSpec([None, None, INPUTS]), *(tf.TensorSpec(w.shape) for w in random_weights(random))]
    concrete = tf.function(documented).get_concrete_function(*specs)
    assert concrete.outputs[0].shape.as_list() == [None, None, UNITS]
