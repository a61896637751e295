"""What `gate_activations` and its pictures refuse."""

import functools

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import lstm_toolkit
from lstm_toolkit import GateWeights, gate_activations, models, widgets
from lstm_toolkit.tflite import files
from lstm_toolkit.tflite.recurrent import recurrent_ops
from tests.helpers.packed_weights import keras_arrays
from tests.helpers.refusals import Refusal

RANDOM = np.random.default_rng(22)
X = RANDOM.normal(size=(2, 7, 3)).astype(np.float32)
WEIGHTS = GateWeights.from_keras(keras_arrays(RANDOM))
Y = RANDOM.normal(size=(2, 7, WEIGHTS.input_size)).astype(np.float32)


@functools.cache
def model():
    return models.unidirectional(time_steps=7, batch_size=2, input_size=3, units=5)


@functools.cache
def tflite(**options):
    return lstm_toolkit.convert(model(), **options).tflite


def changed(change):
    """The file after a change of its objects."""
    loaded = files.read_model(tflite())
    change(loaded)
    return files.write_model(loaded)


def without_activation(loaded):
    (op,) = recurrent_ops(loaded)
    op.options.fusedActivationFunction = schema.ActivationFunctionType.NONE


def behind_another_subgraph(loaded):
    first = schema.SubGraphT()
    first.tensors, first.operators, first.inputs, first.outputs = [], [], [], []
    loaded.subgraphs.insert(0, first)
    loaded.signatureDefs = []


def sequential(*layers):
    return keras.Sequential([keras.Input((7, 3), batch_size=2, name="sequence"), *layers])


def lstm(**options):
    return keras.layers.LSTM(4, name="lstm", **options)


def picture(**options):
    return gate_activations(WEIGHTS, Y).picture(**options)


class Louder(keras.layers.LSTM):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        return 2 * super().call(sequences, initial_state=initial_state, mask=mask, training=training)


PADDED = np.where(np.arange(7)[:, np.newaxis] < 4, X, 0).astype(np.float32)
STATES = {f"lstm_{each}": np.zeros((2, 4), np.float32) for each in "hc"}

REFUSALS = [
    Refusal(
        ("x holds no call", "[batch, time, input]"),
        lambda: gate_activations(WEIGHTS, []),
        lambda: gate_activations(WEIGHTS, Y),
        lambda: gate_activations(WEIGHTS, [Y]),
    ),
    Refusal(
        ("expected a Keras model or LSTM layer, a .tflite file", "got int", "GateWeights.from_lingvo"),
        lambda: gate_activations(3, X),
        lambda: gate_activations(model(), X),
        lambda: gate_activations(tflite(), X),
        lambda: gate_activations(WEIGHTS, Y),
    ),
    Refusal(
        (
            "x must be an array [batch, time, {}] for these weights",
            f"[batch, time, {WEIGHTS.input_size}]",
            "got [7, 3]",
        ),
        lambda: gate_activations(WEIGHTS, X[0]),
        lambda: gate_activations(WEIGHTS, Y),
    ),
    Refusal(
        ("every call must have as many sequences", "[2, 1]"),
        lambda: gate_activations(WEIGHTS, [Y, Y[:1]]),
        lambda: gate_activations(WEIGHTS, [Y, Y]),
    ),
    Refusal(
        ("there is no LSTM {} in the {}; it has {}", "'other'", "0: 'lstm'"),
        lambda: gate_activations(sequential(lstm()), X, layer="other"),
        lambda: gate_activations(sequential(lstm()), X, layer="lstm"),
        lambda: gate_activations(sequential(lstm()), X, layer=0),
    ),
    Refusal(
        ("from what its weights say", "layer 'louder': its output differs by", "is allowed", "`diagnose`"),
        lambda: gate_activations(sequential(Louder(4, name="louder")), X),
        lambda: lstm_toolkit.diagnose(tflite()),
    ),
    Refusal(
        ("the .tflite file has no fused LSTM op: its gates", 'convert(model, lowering="fused")'),
        lambda: gate_activations(tflite(lowering="unrolled"), X),
        lambda: gate_activations(model(), X),
        lambda: gate_activations(tflite(lowering="fused"), X),
    ),
    Refusal(
        ("stands in subgraph {}, the body of a loop or a branch", "give the Keras model"),
        lambda: gate_activations(changed(behind_another_subgraph), X),
        lambda: gate_activations(model(), X),
        lambda: gate_activations(tflite(), X),
    ),
    Refusal(
        ("has the cell activation {}, for which the op's result is undefined", "'none'", "one of tanh, relu"),
        lambda: gate_activations(changed(without_activation), X),
        lambda: gate_activations(tflite(), X),
    ),
    Refusal(
        ("the file has the inputs {}; pass a dict of arrays by name", "lstm_h"),
        lambda: gate_activations(lstm_toolkit.convert(sequential(lstm()), state="explicit"), X),
        lambda: gate_activations(lstm_toolkit.convert(sequential(lstm()), state="explicit"), {"sequence": X} | STATES),
    ),
    Refusal(
        ("{} has no weights yet; call it once on such inputs", "'lstm'"),
        lambda: gate_activations(lstm(), X),
        lambda: gate_activations(called(lstm()), X),
    ),
    Refusal(
        ("and i, f, g, o and c are those of an LSTM", "'gru' has a GRUCell", "keras.layers.LSTM"),
        lambda: gate_activations(sequential(keras.layers.GRU(4, name="gru")), X),
        lambda: gate_activations(sequential(lstm()), X),
    ),
    Refusal(
        ("and the recurrent_activation {}; gates can be told of an LSTM", "'lstm'", "'hard_sigmoid'", "and sigmoid"),
        lambda: gate_activations(sequential(lstm(recurrent_activation="hard_sigmoid")), X),
        *(lambda a=a: gate_activations(sequential(lstm(activation=a)), X) for a in ("tanh", "relu", "relu6")),
    ),
    Refusal(
        ("gets a mask, and at the steps that it leaves out there are no gates", "layer 'lstm'", "without padding"),
        lambda: gate_activations(sequential(keras.layers.Masking(), lstm()), PADDED),
        lambda: gate_activations(sequential(keras.layers.Masking(), lstm()), X),
    ),
    Refusal(
        ("cannot be compared: c is {} and {}", "[2, 7, 4]", "the same LSTM and the same sequences"),
        lambda: gate_activations(sequential(lstm()), X).picture(against=gate_activations(model(), X)),
        lambda: gate_activations(model(), X).picture(against=gate_activations(tflite(), X)),
    ),
    Refusal(
        ("watch_memory needs what the LSTM reads: give x", "[batch, time, input]"),
        lambda: widgets.watch_memory(WEIGHTS),
        lambda: widgets.watch_memory(WEIGHTS, Y),
    ),
    Refusal(
        ("gate must be one of {}, or None for all, got {}", "i, f, g, o, c, h", "'forget'"),
        lambda: picture(gate="forget"),
        lambda: picture(gate="f"),
        lambda: picture(gate=None),
    ),
    Refusal(
        ("{} must be 0 to {}, got {}", "step must be 0 to 6, got 7"),
        lambda: picture(step=7),
        lambda: picture(step=6),
        at="activations/figure.py",
    ),
]


def called(layer):
    layer(X)
    return layer


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_what_the_message_advises_helps(refusal):
    refusal.follow()
