"""Every variant of the fused LSTM, written by hand in TensorFlow, through `composite` to one op.

Two oracles: `reference.lstm` in float64, and the function itself. They share no code with each other or the file.
"""

import inspect
import itertools

import numpy as np
import pytest
import tensorflow as tf

import lstm_toolkit
from lstm_toolkit import GateWeights
from lstm_toolkit.weights import reference
from tests.helpers import pairwise
from tests.helpers.calls import run_in_a_row
from tests.helpers.weights import INPUTS, OUTPUTS, UNITS, VARIANTS, random_operands

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"
TIME = 9
TOLERANCE = {"atol": 1e-5, "rtol": 0}
ORDER = ("output", "cell", "forget", "input")
"""Of the gates in packed weights: nobody's own order."""

CELL = {
    "tanh": tf.tanh,
    "relu": lambda x: tf.maximum(x, 0.0),
    "relu6": lambda x: tf.minimum(tf.maximum(x, 0.0), 6.0),
    "hard_tanh": lambda x: tf.minimum(tf.maximum(x, -1.0), 1.0),
}


PACKED = {
    "kernel": "input_to_{}_weights",
    "recurrent_kernel": "recurrent_to_{}_weights",
    "peephole": "cell_to_{}_weights",
    "bias": "{}_gate_bias",
    "layer_norm": "{}_layer_norm_coefficients",
}


def pack(operands):
    """Packs by gate in `ORDER`, gates in the last axis; the recurrent weights of an IndyLSTM as one vector."""
    packed = {}
    for kind, pattern in PACKED.items():
        blocks = [operands[pattern.format(gate)].T for gate in ORDER if pattern.format(gate) in operands]
        if blocks:
            name = "recurrent_diagonal" if kind == "recurrent_kernel" and blocks[0].ndim == 1 else kind
            packed[name] = np.concatenate(blocks, axis=-1)
    if "projection_weights" in operands:
        packed["projection"] = operands["projection_weights"].T
    if "projection_bias" in operands:
        packed["projection_bias"] = operands["projection_bias"]
    return packed


def unpack(packed, gates):
    """The inverse, in TensorFlow."""
    operands = {}
    for kind, pattern in (PACKED | {"recurrent_diagonal": PACKED["recurrent_kernel"]}).items():
        if kind in packed:
            order = [gate for gate in gates if kind != "peephole" or gate != "cell"]
            for gate, block in zip(order, tf.split(packed[kind], len(order), axis=-1), strict=True):
                operands[pattern.format(gate)] = tf.transpose(block)
    if "projection" in packed:
        operands["projection_weights"] = tf.transpose(packed["projection"])
    if "projection_bias" in packed:
        operands["projection_bias"] = packed["projection_bias"]
    return operands


def by_mean_of_squares(z):
    centered = z - tf.reduce_mean(z, axis=1, keepdims=True)
    return centered * tf.math.rsqrt(tf.reduce_mean(centered * centered, axis=1, keepdims=True) + 1e-8)


def by_moments(z):
    mean, variance = tf.nn.moments(z, axes=[1], keepdims=True)
    return (z - mean) / tf.sqrt(variance + 1e-8)


def hand_written(weights, *, packed, states=False, returns_c=False, normalized=by_mean_of_squares, **options):
    """A function of x, one argument for each of `weights`, and perhaps h and c; marked and as it stands."""
    cifg = weights["bias"].shape[0] == 3 * UNITS if packed else "input_gate_bias" not in weights
    gates = tuple(gate for gate in ORDER if not (cifg and gate == "input"))
    act = CELL[options.get("activation", "tanh")]
    time_major = options.get("time_major", False)
    cell_clip, proj_clip = options.get("cell_clip", 0.0), options.get("proj_clip", 0.0)

    def function(x, h=None, c=None, **given):
        w = unpack(given, gates) if packed else given

        def total(gate, x_t, h_t, peephole):
            recurrent = w[f"recurrent_to_{gate}_weights"]
            diagonal = recurrent.shape.rank == 1
            z = tf.matmul(x_t, w[f"input_to_{gate}_weights"], transpose_b=True)
            z += h_t * recurrent if diagonal else tf.matmul(h_t, recurrent, transpose_b=True)
            if peephole is not None and f"cell_to_{gate}_weights" in w:
                z += peephole * w[f"cell_to_{gate}_weights"]
            if f"{gate}_layer_norm_coefficients" in w:
                z = normalized(z) * w[f"{gate}_layer_norm_coefficients"]
            return z + w[f"{gate}_gate_bias"]

        def step(state, x_t):
            h_t, c_t = state
            forget = tf.sigmoid(total("forget", x_t, h_t, c_t))
            admit = 1.0 - forget if cifg else tf.sigmoid(total("input", x_t, h_t, c_t))
            c_t = forget * c_t + admit * act(total("cell", x_t, h_t, None))
            c_t = tf.clip_by_value(c_t, -cell_clip, cell_clip) if cell_clip else c_t
            h_t = tf.sigmoid(total("output", x_t, h_t, c_t)) * act(c_t)
            if "projection_weights" in w:
                h_t = tf.matmul(h_t, w["projection_weights"], transpose_b=True) + w.get("projection_bias", 0.0)
                h_t = tf.clip_by_value(h_t, -proj_clip, proj_clip) if proj_clip else h_t
            return h_t, c_t

        steps = x if time_major else tf.transpose(x, [1, 0, 2])
        batch, outputs = tf.shape(steps)[1], w["projection_weights"].shape[0] if "projection_weights" in w else UNITS
        first = (tf.zeros([batch, outputs]), tf.zeros([batch, UNITS])) if h is None else (h, c)
        hs, cs = tf.scan(step, steps, initializer=first)
        hs = hs if time_major else tf.transpose(hs, [1, 0, 2])
        return (hs, cs[-1]) if returns_c else hs

    declared = {"x": "input"} | {name: name for name in weights} | ({"h": "h", "c": "c"} if states else {})
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in declared])
    function.__name__ = "hand_written"
    marked = lstm_toolkit.composite(operands=declared, gates=gates, **options)(function)
    return marked, function


def check(random, operands, *, packed, batch, **options):
    """Converts, runs three calls in a row, and compares with both oracles. Returns the one LSTM node."""
    time_major = options.get("time_major", False)
    weights = {name: tf.Variable(array) for name, array in (pack(operands) if packed else operands).items()}
    marked, plain = hand_written(weights, packed=packed, **options)
    shape = (TIME, batch, INPUTS) if time_major else (batch, TIME, INPUTS)
    conversion = lstm_toolkit.convert(
        lambda x: marked(x, **weights), input_signature=[tf.TensorSpec(shape, name="steps")]
    )
    assert conversion.report.ops[FUSED] == 1
    assert set(conversion.report.ops) == {FUSED, "ZEROS_LIKE"}
    assert conversion.report.max_abs_error < 1e-5

    calls = [random.normal(size=shape).astype(np.float32) for _ in range(3)]
    options.pop("gates", None)
    results = run_in_a_row(conversion.tflite, [{"steps": x} for x in calls])
    expected = [reference.lstm(GateWeights.from_operands(operands), x, **options)[0] for x in calls]
    own = [np.asarray(plain(tf.constant(x), **weights)) for x in calls]
    for result, *oracles in zip(results, expected * 2, own * 2, strict=True):
        for oracle in oracles:
            np.testing.assert_allclose(result["output_0"], oracle, **TOLERANCE)
    (node,) = lstm_toolkit.inspect(conversion).lstm_nodes
    assert node.layout == ("time_major" if time_major else "batch_major")
    assert (node.state, node.units) == ("reset", UNITS)
    given = dict(node.weights.operands())
    assert set(given) == set(operands)
    for name, array in operands.items():
        np.testing.assert_array_equal(given[name], array)
    return node


PLAIN = VARIANTS[0]


def named(variant):
    return "-".join(name for name, there in variant.items() if there) or "plain"


def test_there_are_16_variants():
    assert len({named(variant) for variant in VARIANTS}) == 16


def chosen(variant, batch, time_major, packed):
    """Of the eight cases of each variant one, such that any three switches meet in all combinations."""
    cifg, peephole, projection, layer_norm = variant.values()
    odd = ((cifg, peephole, projection), (peephole, projection, layer_norm), (cifg, projection, layer_norm))
    return [batch == 3, time_major, packed] == [sum(each) % 2 == 1 for each in odd]


EVERY_VARIANT = [
    case for case in itertools.product(VARIANTS, (1, 3), (False, True), (False, True)) if pairwise.ALL or chosen(*case)
]


def test_any_three_switches_meet_in_all_combinations():
    rows = [(*variant.values(), *switches) for variant, *switches in EVERY_VARIANT]
    assert len({row[:4] for row in rows}) == 16
    for places in itertools.combinations(range(7), 3):
        assert len({tuple(row[place] for place in places) for row in rows}) == 8


@pytest.mark.parametrize(("variant", "batch", "time_major", "packed"), EVERY_VARIANT)
def test_every_variant_is_one_exact_op(random, variant, batch, time_major, packed):
    operands = random_operands(random, **variant)
    node = check(random, operands, packed=packed, batch=batch, time_major=time_major)
    assert node.weights.has_input_gate is not variant["cifg"]
    assert (node.cell_clip, node.proj_clip, node.activation) == (0.0, 0.0, "tanh")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cifg", [False, True])
def test_cell_clip_and_proj_clip(random, cifg, packed):
    operands = random_operands(random, **PLAIN | {"cifg": cifg, "projection": True})
    node = check(random, operands, packed=packed, batch=3, cell_clip=0.4, proj_clip=0.15)
    assert (node.cell_clip, node.proj_clip) == pytest.approx((0.4, 0.15))
    x = random.normal(size=(3, TIME, INPUTS))
    weights = GateWeights.from_operands(operands)
    both, _, _ = reference.lstm(weights, x, cell_clip=0.4, proj_clip=0.15)
    assert np.abs(reference.lstm(weights, x, cell_clip=0.4)[0] - both).max() > 1e-2
    assert np.abs(reference.lstm(weights, x, proj_clip=0.15)[0] - both).max() > 1e-3


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v["projection"]], ids=named)
def test_projection_bias(random, variant):
    operands = random_operands(random, **variant, projection_bias=True)
    check(random, operands, packed=variant["cifg"] != variant["peephole"], batch=3)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cifg", [False, True])
@pytest.mark.parametrize("peephole", [False, True])
def test_indylstm(random, cifg, peephole, packed):
    variant = PLAIN | {"cifg": cifg, "peephole": peephole}
    operands = random_operands(random, **variant, diagonal=True)
    node = check(random, operands, packed=packed, batch=3)
    assert node.weights.has_diagonal_recurrence


@pytest.mark.parametrize("activation", CELL)
@pytest.mark.parametrize("variant", [PLAIN, dict.fromkeys(PLAIN, True)], ids=named)
def test_activations_of_the_cell(random, variant, activation):
    operands = {name: array / 2 for name, array in random_operands(random, **variant).items()}
    assert check(random, operands, packed=True, batch=3, activation=activation).activation == activation


@pytest.mark.parametrize(("packed", "time_major"), [(False, True), (True, False)])
@pytest.mark.parametrize("variant", [PLAIN, dict.fromkeys(PLAIN, True), PLAIN | {"projection": True}], ids=named)
def test_states_that_are_given_and_the_last_c(random, variant, packed, time_major):
    """h and c are inputs of the file; each call starts from its own, whatever the calls before it left."""
    batch, operands = 3, random_operands(random, **variant)
    weights = {name: tf.Variable(array) for name, array in (pack(operands) if packed else operands).items()}
    marked, plain = hand_written(weights, packed=packed, states=True, returns_c=True, time_major=time_major)
    shape = (TIME, batch, INPUTS) if time_major else (batch, TIME, INPUTS)
    sizes = {"x": shape, "h": (batch, OUTPUTS if variant["projection"] else UNITS), "c": (batch, UNITS)}
    conversion = lstm_toolkit.convert(
        lambda x, h, c: marked(x, h=h, c=c, **weights),
        input_signature=[tf.TensorSpec(size, name=name) for name, size in sizes.items()],
    )
    assert conversion.report.ops[FUSED] == 1
    assert not {"WHILE", "CUSTOM"} & set(conversion.report.ops)
    assert lstm_toolkit.inspect(conversion).lstm_nodes[0].state == "explicit"
    calls = [{name: random.normal(size=size).astype(np.float32) for name, size in sizes.items()} for _ in range(3)]
    expected = [reference.lstm(GateWeights.from_operands(operands), **each, time_major=time_major) for each in calls]
    own = [plain(**{name: tf.constant(array) for name, array in each.items()}, **weights) for each in calls]
    for result, (hs, _, last_c), (own_hs, own_c) in zip(
        run_in_a_row(conversion.tflite, calls), expected * 2, own * 2, strict=True
    ):
        for name, one, other in (("output_0", hs, own_hs), ("output_1", last_c, own_c)):
            np.testing.assert_allclose(result[name], one, **TOLERANCE)
            np.testing.assert_allclose(result[name], other, **TOLERANCE)


def test_layer_norm_by_moments_is_exact_in_the_file(random):
    """Of this spelling TensorFlow's own optimizer (oneDNN) makes another function, off by 1e-3: no oracle here."""
    operands = random_operands(random, **PLAIN | {"layer_norm": True})
    weights = {name: tf.Variable(array) for name, array in operands.items()}
    marked, _ = hand_written(weights, packed=False, normalized=by_moments)
    spec = tf.TensorSpec([3, TIME, INPUTS], name="steps")
    conversion = lstm_toolkit.convert(lambda x: marked(x, **weights), input_signature=[spec], verify=False)
    x = random.normal(size=(3, TIME, INPUTS)).astype(np.float32)
    expected, _, _ = reference.lstm(GateWeights.from_operands(operands), x)
    for result in run_in_a_row(conversion.tflite, [{"steps": x}] * 3):
        np.testing.assert_allclose(result["output_0"], expected, **TOLERANCE)


def carrying(random, variant, *, batch, **options):
    operands = random_operands(random, **variant)
    weights = {name: tf.Variable(array) for name, array in operands.items()}
    marked, _ = hand_written(weights, packed=False, carry=True)
    spec = tf.TensorSpec([batch, TIME, INPUTS], name="steps")
    return operands, lstm_toolkit.convert(lambda x: marked(x, **weights), input_signature=[spec], **options)


@pytest.mark.parametrize("variant", [PLAIN, dict.fromkeys(PLAIN, True)], ids=named)
def test_carried_state_runs_on_over_the_calls(random, variant):
    operands, conversion = carrying(random, variant, batch=3, verify=False)
    assert dict(conversion.report.ops) == {FUSED: 1}
    assert lstm_toolkit.inspect(conversion).lstm_nodes[0].state == "carry"
    calls = [random.normal(size=(3, TIME, INPUTS)).astype(np.float32) for _ in range(3)]
    whole, _, _ = reference.lstm(GateWeights.from_operands(operands), np.concatenate(calls, axis=1))
    results = run_in_a_row(conversion.tflite, [{"steps": x} for x in calls])
    for row in (results[:3], results[3:]):
        np.testing.assert_allclose(np.concatenate([each["output_0"] for each in row], axis=1), whole, **TOLERANCE)


def test_carried_state_verifies(random):
    """The function itself carries nothing, so `verify` compares call by call, with a reset between."""
    _, conversion = carrying(random, PLAIN, batch=3)
    assert conversion.report.max_abs_error < 1e-5
