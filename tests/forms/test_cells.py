"""Cells that a model calls itself, on one frame; stacked cells of every kind; one initial state for a whole batch.

Oracle: the model itself, in Keras 3 or tf_keras.
"""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers

import lstm_toolkit
from lstm_toolkit.weights.operands import LSTM_COMPOSITE
from tests.helpers.calls import Arrays, assert_agrees, by_output
from tests.helpers.files import op_counts
from tests.helpers.forms import UNI, UNI_RNN, assert_ops
from tests.helpers.models import randomized

BATCH, TIME, INPUTS = 3, 7, 5
LIBRARIES: dict[str, Any] = {"Keras 3": keras, "Keras 2": tf_keras}
PLAIN = {"WHILE", "CUSTOM", UNI, UNI_RNN}


def drawn(model: Any, *, batch: int = BATCH, count: int = 3) -> list[Arrays]:
    random = np.random.default_rng(1)
    shapes = {tensor.name: (batch, *tensor.shape[1:]) for tensor in model.inputs}
    return [
        {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(count)
    ]


def assert_right(model: Any, tflite: bytes, *, structure: Any = None) -> None:
    calls = drawn(model)
    tensors = [[tf.convert_to_tensor(array) for array in arrays.values()] for arrays in calls]
    given = [keras.tree.pack_sequence_as(structure, each) if structure else each for each in tensors]
    expected = [by_output(model(each[0] if len(each) == 1 else each)) for each in given]
    assert_agrees(tflite, calls, expected)


def frame_model(library: Any, units: tuple[int, int, int] = (6, 4, 2)) -> Any:
    """Three cells on one frame, each on what the one before gives; every state comes in and goes out."""
    frame = library.Input((INPUTS,), name="frame")
    inputs, outputs, x = [frame], [], frame
    kinds = (library.layers.LSTMCell, library.layers.GRUCell, library.layers.SimpleRNNCell)
    cells = [kind(size) for kind, size in zip(kinds, units, strict=True)]
    for cell, names in zip(cells, (("h", "c"), ("gru",), ("simple",)), strict=True):
        states = [library.Input((cell.units,), name=name) for name in names]
        x, new = cell(x, states)
        inputs, outputs = [*inputs, *states], [*outputs, *new]
    return randomized(library.Model(inputs, [x, *outputs]))


@pytest.mark.parametrize("library", LIBRARIES)
def test_cells_on_one_frame_are_fused_where_an_op_is_there(library):
    model = frame_model(LIBRARIES[library])
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, verify=False)
    assert_ops(conversion.tflite, {UNI: 1, UNI_RNN: 1})
    lstm, gru, simple = conversion.report.layers
    assert (lstm.layer_class, lstm.op, simple.op) == ("LSTMCell", UNI, UNI_RNN)
    assert gru.op == "plain ops"
    assert "no fused op for a GRUCell" in gru.reason
    assert_right(model, conversion.tflite)


@pytest.mark.parametrize(("library", "lowering"), [("Keras 3", "loop"), ("Keras 2", "unrolled")])
def test_cells_on_one_frame_as_plain_ops(library, lowering):
    model = frame_model(LIBRARIES[library])
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, lowering=lowering, verify=False)
    assert not PLAIN & set(op_counts(conversion.tflite))
    assert [each.op for each in conversion.report.layers] == [lowering] * 3
    assert_right(model, conversion.tflite)


@pytest.mark.parametrize("target", ["compiled", "micro"])
def test_cells_on_one_frame_on_a_target(target):
    conversion = lstm_toolkit.convert(frame_model(keras), target=target)
    assert conversion.report.max_abs_error < 1e-5


@pytest.mark.parametrize("kind", ["int8", "int16x8"])
def test_cells_in_integers_whose_inputs_the_converter_moves(kind):
    """All inputs have one shape, and ranges that are far apart: those of another one would cut or coarsen it."""
    widths = {"frame": 1.0, "h": 0.3, "c": 2.0, "gru": 0.05, "simple": 0.6}
    model, random = frame_model(keras, units=(INPUTS,) * 3), np.random.default_rng(4)
    assert [tensor.name for tensor in model.inputs] == list(widths)

    def samples(count):
        shapes = dict.fromkeys(widths, (count, 1, INPUTS))
        drawn = {name: widths[name] * random.uniform(-1, 1, shapes[name]).astype(np.float32) for name in widths}
        return [{name: array[number] for name, array in drawn.items()} for number in range(count)]

    plain = lstm_toolkit.convert(model, batch_size=1, lowering="unrolled", verify=False)
    assert list(plain.runner().input_shapes) != list(widths)
    conversion = lstm_toolkit.convert(model, quantization=kind, representative_dataset=samples(100))
    assert [each.op for each in conversion.report.layers] == ["unrolled"] * 3
    runner, fresh = conversion.runner(), samples(20)
    wanted = [by_output(model([tf.convert_to_tensor(each) for each in sample.values()])) for sample in fresh]
    given = [runner.outputs(**sample) for sample in fresh]
    for name in wanted[0]:
        expected, actual = (np.stack([each[name] for each in found]) for found in (wanted, given))
        assert np.abs(actual - expected).max() < 0.01 * np.abs(expected).max(), name


def test_stacked_cells_on_one_frame():
    frame, states = keras.Input((INPUTS,)), [[keras.Input((6,)), keras.Input((6,))], [keras.Input((4,))]]
    inputs = [frame, states]
    model = randomized(keras.Model(inputs, layers.StackedRNNCells([layers.LSTMCell(6), layers.GRUCell(4)])(*inputs)))
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, lowering="unrolled", verify=False)
    assert [each.op for each in conversion.report.layers] == ["unrolled"] * 2
    assert_right(model, conversion.tflite, structure=inputs)


def test_a_cell_called_step_by_step_in_python():
    """The first state has one row, whatever the batch is."""
    x, cell = keras.Input((4, INPUTS)), layers.LSTMCell(6, name="own")
    states, outputs = [keras.ops.zeros((1, 6))] * 2, []
    for step in range(4):
        output, states = cell(x[:, step], states)
        outputs.append(output)
    model = randomized(keras.Model(x, keras.ops.stack(outputs, axis=1)))
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, verify=False)
    assert [each.name for each in conversion.report.layers] == ["own", "own_call1", "own_call2", "own_call3"]
    assert_ops(conversion.tflite, {UNI: 4})
    assert_right(model, conversion.tflite)


class Decoder(keras.Model):
    """Calls a cell on what a layer gives, from zeros."""

    def __init__(self, cell):
        super().__init__()
        self.encoder, self.cell = layers.LSTM(4), cell

    def call(self, x):
        return self.cell(self.encoder(x), self.cell.get_initial_state(batch_size=x.shape[0]))[0]


class Doubled(layers.LSTMCell):
    """Its own arithmetic stands below `call`."""

    def _compute_carry_and_output_fused(self, z, c_tm1):
        c, o = super()._compute_carry_and_output_fused(z, c_tm1)
        return 2 * c, o


@pytest.mark.parametrize(("cls", "ops"), [(layers.LSTMCell, {UNI: 2}), (Doubled, {UNI: 1})])
def test_a_cell_in_a_subclassed_model(random, cls, ops):
    model = Decoder(cls(6))
    model(np.ones((BATCH, TIME, INPUTS), np.float32))
    randomized(model)
    signature = tf.TensorSpec([BATCH, TIME, INPUTS], name="steps")
    conversion = lstm_toolkit.convert(model, input_signature=signature, verify=False)
    assert_ops(conversion.tflite, ops)
    assert [each.op for each in conversion.report.layers] == [
        UNI,
        UNI if len(ops) == 2 or ops[UNI] == 2 else "plain ops",
    ]
    xs = [random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32) for _ in range(3)]
    assert_agrees(conversion.tflite, [{"steps": x} for x in xs], [by_output(model(x)) for x in xs])


class Scanned(layers.Layer):
    """Calls a cell in a loop of TensorFlow."""

    def __init__(self):
        super().__init__()
        self.cell = layers.LSTMCell(6)

    def build(self, shape):
        self.cell.build((shape[0], shape[-1]))

    def call(self, x):
        zeros = tf.zeros([x.shape[0], 6])
        steps = tf.transpose(x, [1, 0, 2])
        return tf.scan(lambda states, now: tuple(self.cell(now, list(states))[1]), steps, (zeros, zeros))[0][-1]


def test_a_cell_in_a_loop_stays_what_it_is():
    model = randomized(keras.Sequential([keras.Input((TIME, INPUTS), batch_size=BATCH), Scanned()]))
    conversion = lstm_toolkit.convert(model, verify=False)
    assert op_counts(conversion.tflite)["WHILE"] == 1
    assert [(each.op, "called in a loop" in each.reason) for each in conversion.report.layers] == [("plain ops", True)]
    assert_right(model, conversion.tflite)


def test_a_cell_of_a_layer_that_is_kept_is_no_call_of_the_models_own():
    model = keras.Sequential([keras.Input((TIME, INPUTS)), layers.RNN(layers.GRUCell(4), name="kept")])
    conversion = lstm_toolkit.convert(model, on_unsupported="keep", verify=False)
    assert [(each.name, each.op) for each in conversion.report.layers] == [("kept", "stock lowering")]


def test_a_cell_of_a_function_is_marked_for_fusing(random):
    cell = layers.LSTMCell(6)
    cell.build((None, INPUTS))
    randomized(cell)

    def function(frame, h, c):
        return tf.concat(cell(frame, [h, c])[1], axis=1)

    with lstm_toolkit.fusable_lstms():
        traced = tf.function(function).get_concrete_function(*(tf.TensorSpec([BATCH, size]) for size in (INPUTS, 6, 6)))
    assert LSTM_COMPOSITE in str(traced.graph.as_graph_def())
    arrays = [random.normal(size=(BATCH, size)).astype(np.float32) for size in (INPUTS, 6, 6)]
    np.testing.assert_allclose(traced(*map(tf.constant, arrays)), function(*arrays), atol=1e-5)


# Stacked cells of every kind


def stack(library: Any, kinds: str, *, masked: bool = False, units: tuple[int, ...] = (6, 4, 2), **options: Any) -> Any:
    """Stacked cells, of which `kinds` has the first letters."""
    classes = {"L": library.layers.LSTMCell, "G": library.layers.GRUCell, "S": library.layers.SimpleRNNCell}
    cells = [classes[kind](size) for kind, size in zip(kinds, units, strict=False)]
    x = library.Input((TIME, INPUTS), name="steps")
    y = library.layers.Masking()(x) if masked else x
    outputs = library.layers.RNN(cells, name="stack", **options)(y)
    return randomized(library.Model(x, tf.nest.flatten(outputs)))


STACKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "GRU, GRU": ("GG", "unrolled", {}),
    "LSTM, GRU, simple, their states": ("LGS", "loop", {"return_state": True}),
    "simple, simple, backwards": ("SS", "fused", {"go_backwards": True, "return_sequences": True}),
    "simple, LSTM, their states": ("SL", "fused", {"return_state": True}),
    "GRU, LSTM, masked, their states": ("GL", "unrolled", {"masked": True, "return_state": True}),
    "LSTM, simple, masked, backwards, their states": (
        *("LS", "fused"),
        {"masked": True, "go_backwards": True, "return_state": True},
    ),
}


@pytest.mark.parametrize("name", STACKS)
def test_stacked_cells(name):
    kinds, lowering, options = STACKS[name]
    model = stack(keras, kinds, **options)
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, lowering=lowering, verify=False)
    if lowering == "fused":
        ops = {UNI: kinds.count("L"), UNI_RNN: kinds.count("S")}
        ops = {op: count for op, count in ops.items() if count}
        assert_ops(conversion.tflite, ops)
        assert set(conversion.report.layers[0].op.split(", ")) == set(ops)
    calls = drawn(model)
    for call, padded in zip(calls, ((0, 1), (4, 5, 6), ()), strict=True):
        call["steps"][:2, list(padded)] = 0
    assert_agrees(conversion.tflite, calls, [by_output(model(call["steps"])) for call in calls])


def test_explicit_states_of_stacked_cells():
    model = stack(keras, "LGS")
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, lowering="loop", state="explicit", verify=False)
    names = ["stack_cell0_h", "stack_cell0_c", "stack_cell1_h", "stack_cell2_h"]
    layer, twin = model.get_layer("stack"), layers.RNN(model.get_layer("stack").cell, return_state=True)
    calls, expected, random = drawn(model), [], np.random.default_rng(5)
    for call in calls:
        call |= {
            name: random.normal(size=(BATCH, size)).astype(np.float32)
            for name, size in zip(names, keras.tree.flatten(layer.cell.state_size), strict=True)
        }
        steps, h, c, gru, simple = call.values()
        results = keras.tree.flatten(twin(steps, initial_state=[[h, c], [gru], [simple]]))
        expected.append(dict(zip(["output_0", *names], map(np.asarray, results), strict=True)))
    assert_agrees(conversion.tflite, calls, expected)


class States(tf_keras.Model):
    """Takes the states of stacked cells apart as tf_keras gives them: lists, and a tensor for a single one."""

    def __init__(self):
        super().__init__()
        self.rnn = tf_keras.layers.RNN([tf_keras.layers.LSTMCell(6), tf_keras.layers.GRUCell(4)], return_state=True)

    def call(self, x):
        output, (h, c), gru = self.rnn(x)
        return tf.concat([output, h, c, gru], axis=1)


def test_states_of_stacked_cells_have_the_form_of_keras_2(random):
    model = States()
    model(np.ones((BATCH, TIME, INPUTS), np.float32))
    randomized(model)
    signature = tf.TensorSpec([BATCH, TIME, INPUTS], name="steps")
    conversion = lstm_toolkit.convert(model, input_signature=signature, lowering="unrolled", verify=False)
    xs = [random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32) for _ in range(3)]
    assert_agrees(conversion.tflite, [{"steps": x} for x in xs], [by_output(model(x)) for x in xs])


# One initial state for a whole batch


def test_one_initial_state_serves_a_whole_batch():
    x, random = keras.Input((TIME, INPUTS)), np.random.default_rng(3)
    outputs = []
    for layer in (
        layers.LSTM(6, return_sequences=True),
        layers.SimpleRNN(6),
        layers.GRU(6),
        layers.Bidirectional(layers.LSTM(6)),
    ):
        count = {"LSTM": 2, "Bidirectional": 4}.get(type(layer).__name__, 1)
        states = [keras.ops.convert_to_tensor(random.normal(size=(1, 6)), "float32") for _ in range(count)]
        outputs.append(layer(x, initial_state=states))
    row = keras.ops.mean(x[:, 0], axis=0, keepdims=True)
    outputs.append(layers.LSTM(INPUTS)(x, initial_state=[row, 2 * row]))
    model = randomized(keras.Model(x, outputs))
    # In the stock lowering of the GRU too.
    conversion = lstm_toolkit.convert(model, batch_size=BATCH, on_unsupported="keep", verify=False)
    assert_right(model, conversion.tflite)
