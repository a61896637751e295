"""What is refused of models while they are loaded and traced."""

import concurrent.futures
import functools
import logging
import multiprocessing
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import lstm_toolkit
from lstm_toolkit import GateWeights, lingvo
from lstm_toolkit.sources.composite import composite
from tests.helpers import fork_worker
from tests.helpers.forms import OneInput, functional
from tests.helpers.lingvo_cells import random_cell
from tests.helpers.models import randomized
from tests.helpers.refusals import LEAVE_OUT, Refusal, exact, refused

RANDOM = np.random.default_rng(22)
FOLDER = Path(tempfile.mkdtemp())
ZEROS = np.zeros((2, 7, 5), np.float32)
OPEN = tf.TensorSpec([None, None, 5], name="x")
FIXED = tf.TensorSpec([2, 7, 5], name="x")


@functools.cache
def lstm(batch: int | None = None, time: int | None = 7) -> Any:
    return functional(layers.LSTM(6, name="one"), batch=batch, time=time)


@functools.cache
def gru() -> Any:
    return functional(layers.GRU(6, name="gated"))


def converted(*args: Any, **options: Any) -> Any:
    return lambda: exact(*args, **options)


def called_once(model: Any, given: Any) -> Any:
    model(given)
    return randomized(model)


def written(name: str, content: bytes) -> Path:
    (FOLDER / name).write_bytes(content)
    return FOLDER / name


@functools.cache
def exported(model: Any, name: str, *, marked: bool) -> Path:
    path = FOLDER / name
    if marked:
        with lstm_toolkit.fusable_lstms():
            model.export(path, verbose=False)
    else:
        model.export(path, verbose=False)
    return path


def without_signature(**options: Any) -> Path:
    module = tf.Module()
    module.model = lstm()
    module.run = tf.function(lambda x: lstm()(x), input_signature=[OPEN])
    with lstm_toolkit.fusable_lstms():
        signatures = module.run.get_concrete_function() if options else {}
        tf.saved_model.save(module, str(FOLDER / f"signed{len(options)}"), signatures=signatures)
    return FOLDER / f"signed{len(options)}"


def damaged() -> Path:
    (FOLDER / "damaged").mkdir(exist_ok=True)
    written("damaged/saved_model.pb", b"hello")
    return FOLDER / "damaged"


def named_alike(*names: str) -> dict[str, tf.TensorSpec]:
    return {key: tf.TensorSpec([2, 7, 5], name=name) for key, name in zip("ab", names, strict=True)}


class Both(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.LSTM(6)

    def call(self, given):
        return self.inner(given["a"] + given["b"])


class Wrong(keras.Model):
    """Computes nothing that has the right shapes, but for inputs of 4 numbers a step."""

    def __init__(self):
        super().__init__(name="wrong")
        self.inner = layers.LSTM(6)

    def call(self, x):
        return self.inner(tf.reshape(x, [2, 7, 4]))


KERAS = [
    Refusal(
        ("there is no file ", "absent.keras"),
        lambda: lstm_toolkit.convert(FOLDER / "absent.keras"),
        lambda: exact(saved("present.keras")),
    ),
    Refusal(
        (" is not a Keras model: neither a .keras file", "text.keras", "load the model yourself and pass it"),
        lambda: lstm_toolkit.convert(written("text.keras", b"hello")),
        converted(lstm()),
    ),
    Refusal(
        ("expected a Keras model or layer, or the path of one, got ", "int"),
        lambda: lstm_toolkit.convert(3),
        converted(lstm()),
    ),
    refused(
        (" does not know its inputs; pass input_signature, one tf.TensorSpec an input", "model 'one_input"),
        OneInput,
        {},
        {"input_signature": FIXED},
        at="sources/keras_models.py",
    ),
    refused(
        (" share a name; give each tf.TensorSpec of input_signature its own", "['x', 'x']"),
        Both,
        {"input_signature": named_alike("x", "x")},
        {"input_signature": named_alike("x", "y")},
    ),
    refused(
        ("model {} cannot be built: ", "'wrong'", "Input to reshape", "input_signature"),
        Wrong,
        {"input_signature": tf.TensorSpec([2, 7, 5])},
        {"input_signature": tf.TensorSpec([2, 7, 4])},
    ),
    refused(
        (" cannot be traced: ", "model 'wrong'", "Cannot reshape", "input_signature"),
        lambda: called_once(Wrong(), ZEROS[:, :, :4]),
        {"input_signature": tf.TensorSpec([2, 7, 5])},
        {"input_signature": tf.TensorSpec([2, 7, 4])},
        at="sources/keras_models.py",
    ),
    Refusal(
        ("Keras runs on ", "'jax'", "set the environment variable KERAS_BACKEND=tensorflow before Keras is imported"),
        lambda: jax(lstm()),
        lambda: lstm_toolkit.gate_activations(lstm(), ZEROS),
    ),
    refused(
        (" has the fixed batch ", "input 'steps'", "3, and not batch_size=4", "leave batch_size out"),
        lambda: lstm(batch=3),
        {"batch_size": 4},
        {"batch_size": LEAVE_OUT},
    ),
    refused(
        (" time steps, and not time_steps=", "input 'steps' has 7", "leave time_steps out"),
        lstm,
        {"time_steps": 8},
        {"time_steps": LEAVE_OUT},
    ),
]


def saved(name: str) -> Path:
    lstm().save(FOLDER / name)
    return FOLDER / name


def jax(model: Any) -> Any:
    with mock.patch("keras.backend.backend", return_value="jax"):
        return lstm_toolkit.gate_activations(model, ZEROS)


def function(of: Any, *signature: Any) -> Any:
    return tf.function(lambda *tensors: of(*tensors), input_signature=signature or None)


FUNCTIONS = [
    Refusal(
        ("state must be one of auto, reset, carry", "'explicit'"),
        lambda: lstm_toolkit.fusable_lstms(state="explicit").__enter__(),
        lambda: exact(exported(lstm(), "marked", marked=True)),
    ),
    Refusal(
        (" is not the folder of a SavedModel: it has no saved_model.pb",),
        lambda: lstm_toolkit.convert(FOLDER),
        lambda: exact(exported(lstm(), "marked", marked=True)),
    ),
    Refusal(
        (" is not a SavedModel that TensorFlow can load: ", "damaged", "export it again"),
        lambda: lstm_toolkit.convert(damaged()),
        lambda: exact(exported(lstm(), "marked", marked=True)),
    ),
    Refusal(
        (" has no signature to convert; save it with signatures=",),
        lambda: lstm_toolkit.convert(without_signature()),
        lambda: exact(without_signature(signatures=True)),
    ),
    refused(
        ("the function does not know its inputs; pass input_signature",),
        lambda: tf.function(lambda x: lstm()(x)),
        {},
        {"input_signature": FIXED},
    ),
    refused(
        ("the function cannot be traced: ", "input_signature"),
        lambda: tf.function(lambda x: lstm()(tf.reshape(x, [2, 7, 5]))),
        {"input_signature": tf.TensorSpec([2, 7, 4])},
        {"input_signature": tf.TensorSpec([2, 7, 5])},
    ),
    Refusal(
        ("the function must take tensors, each with a batch, and nothing else",),
        lambda: lstm_toolkit.convert(tf.function(lambda: lstm()(tf.zeros([2, 7, 5]))).get_concrete_function()),
        lambda: exact(function(lstm(), FIXED)),
    ),
    Refusal(
        (" has no batch", "input 'x'", "give it one whose first axis is the batch"),
        lambda: lstm_toolkit.convert(function(lstm(), tf.TensorSpec([], name="x"))),
        lambda: exact(function(lstm(), FIXED)),
    ),
    Refusal(
        (" must be settled when a function is traced; ", "state", "convert the Keras model itself", "fusable_lstms"),
        lambda: lstm_toolkit.convert(function(lstm(), FIXED), state="explicit"),
        lambda: exact(lstm(), state="explicit"),
    ),
]


def weights(inputs: int, units: int) -> GateWeights:
    shapes = {"ih": (4 * units, inputs), "hh": (4 * units, units)}
    return GateWeights.from_torch({f"weight_{k}_l0": RANDOM.normal(0, 0.4, shape) for k, shape in shapes.items()})


WEIGHTS = [
    refused(
        ("the weights take one input [None, None, ", "5]", "[[None, None, 6]]"),
        lambda: weights(5, 6),
        {"input_signature": tf.TensorSpec([None, None, 6])},
        {"input_signature": tf.TensorSpec([None, None, 5])},
    ),
    Refusal(
        (" numbers a step, and the one below gives ", "layer 1 takes [7]", "gives 6"),
        lambda: lstm_toolkit.convert([weights(5, 6), weights(7, 4)]),
        lambda: exact([weights(5, 6), weights(6, 4)]),
    ),
]

PADDED = [tf.TensorSpec([None, None, 5]), tf.TensorSpec([None, None])]


def rnn(**options: Any) -> Any:
    return lingvo.RNN(random_cell(np.random.default_rng(3), name="cell", **options))


class Scaled(lingvo.LSTMCellSimple):
    """A cell with arithmetic of its own."""

    def step_with(self, *given):
        return tuple(2.0 * each for each in super().step_with(*given))


def scaled(cell: Any) -> Any:
    return lingvo.RNN(cell(num_input_nodes=5, num_output_nodes=4, seed=3, name="cell"))


LINGVO = [
    refused(
        ("cell {} overrides the computation of Lingvo's cell ({}); use ", "'cell'", "Scaled", "LSTMCellSimple"),
        lambda: scaled(Scaled),
        {},
        lambda: exact(scaled(lingvo.LSTMCellSimple)),
    ),
    refused(
        (
            " has output_nonlinearity=False, and the fused op always",
            "cell 'cell'",
            "train it with output_nonlinearity=",
        ),
        lambda: rnn(output_nonlinearity=False),
        {},
        lambda: exact(rnn(output_nonlinearity=True)),
    ),
    refused(
        (" would carry its state past the padding", "cell 'cell'"),
        rnn,
        {"state": "carry", "input_signature": PADDED},
        {"state": "reset"},
        {"state": "explicit"},
    ),
    refused(
        (" normalizes what would hold its state over the padding", "cell 'cell'", "or drop the padding"),
        lambda: rnn(normalized=True),
        {"state": "explicit", "input_signature": PADDED},
        {"state": "reset"},
        lambda: exact(rnn(normalized=True), state="explicit"),
    ),
    refused(
        (
            ", got input_signature with the shapes ",
            "cell 'cell' takes inputs [None, None, 5]",
            "[[None, None, 6]]",
        ),
        rnn,
        {"input_signature": [tf.TensorSpec([None, None, 6])]},
        {"input_signature": PADDED},
        {"input_signature": PADDED[:1]},
        at="sources/lingvo_models.py",
    ),
    Refusal(
        (" must be at least ", "num_hidden_nodes", "0, got -1"),
        lambda: rnn(num_hidden_nodes=-1),
        lambda: rnn(num_hidden_nodes=0),
        at="sources/lingvo_modules.py",
    ),
    Refusal(
        ("cell_value_cap must be positive, or None or 0 for no cap", "-1"),
        lambda: rnn(cell_value_cap=-1),
        lambda: rnn(cell_value_cap=1),
        lambda: rnn(cell_value_cap=None),
        lambda: rnn(cell_value_cap=0),
    ),
    Refusal(
        ("theta of this ", "['wm', 'b']", "unknown: ['kernel']", "missing: ['b']"),
        lambda: rnn().cell.load_theta({"wm": rnn().cell.wm, "kernel": 0}),
        lambda: rnn().cell.load_theta(rnn().cell.theta),
    ),
    Refusal(
        (" must have shape ", "b must have shape [16], got [3]"),
        lambda: rnn().cell.load_theta({"wm": rnn().cell.wm, "b": np.zeros(3)}),
        lambda: rnn().cell.load_theta({"wm": rnn().cell.wm, "b": np.zeros(16)}),
        at="sources/lingvo_modules.py:load_theta",
    ),
    Refusal(
        (" must have shape ", "padding must have shape [2, 7], got [2, 6]"),
        lambda: rnn()(np.zeros((2, 7, 5)), padding=np.zeros((2, 6))),
        lambda: rnn()(np.zeros((2, 7, 5)), padding=np.zeros((2, 7))),
        at="sources/lingvo_modules.py:_check",
    ),
]


def own(x: Any, w: Any, r: Any) -> Any:
    """What an LSTM gives, as far as its shape goes."""
    return tf.reduce_sum(x, 2, keepdims=True) + tf.reduce_sum(w) + tf.reduce_sum(r) + tf.zeros([6])


def own_states(x: Any, w: Any, r: Any, h: Any, c: Any) -> Any:
    return own(x, w, r) + tf.reduce_sum(h) + tf.reduce_sum(c)


def own_keras(x: Any, h: Any, c: Any, w: Any, r: Any, b: Any) -> Any:
    y = own(x, w, r) + tf.reduce_sum(h) + tf.reduce_sum(c) + tf.reduce_sum(b)
    return y[:, -1], y, h, c


OPERANDS = {"x": "input", "w": "kernel", "r": "recurrent_kernel"}
ARRAYS = {"x": np.zeros((2, 7, 5), "f"), "w": np.zeros((5, 24), "f"), "r": np.zeros((6, 24), "f")}
STATES = {"h": np.zeros((2, 6), "f"), "c": np.zeros((2, 6), "f")}


def called(function: Any = own, kinds: dict[str, str] = OPERANDS, **arrays: Any) -> Any:
    return composite(operands=kinds)(function)(**ARRAYS | arrays)


def with_states(**arrays: Any) -> Any:
    return called(own_states, OPERANDS | {"h": "h", "c": "c"}, **STATES | arrays)


def with_keras(function: Any = own_keras, count: int = 6) -> Any:
    arrays = (ARRAYS["x"], STATES["h"], STATES["c"], ARRAYS["w"], ARRAYS["r"], np.zeros(24, "f"))
    return composite(interface="keras")(function)(*arrays[:count])


def of_unknown_rank(shape: Any) -> Any:
    def run(x: Any) -> Any:
        return called(x=tf.ensure_shape(x, shape))

    return tf.function(run).get_concrete_function(tf.TensorSpec(None))


COMPOSITES = [
    Refusal(
        (" carries its state, so it cannot also start from h and c",),
        lambda: composite(operands=OPERANDS | {"h": "h", "c": "c"}, carry=True)(own_states),
        lambda: composite(operands=OPERANDS, carry=True)(own),
        lambda: composite(operands=OPERANDS | {"h": "h", "c": "c"})(own_states),
    ),
    Refusal(
        (" has no known rank, and the op needs one; set its shape", "own: argument x"),
        lambda: of_unknown_rank(None),
        lambda: of_unknown_rank([2, 7, 5]),
    ),
    Refusal(
        (" must have shape ", "own: argument x must have shape [None, None, 5], got [2, 7, 4]"),
        lambda: called(x=np.zeros((2, 7, 4), "f")),
        called,
        at="sources/composite.py:sizes",
    ),
    Refusal(
        (" must have shape ", "own_states: argument h must have shape [None, 6], got [2, 5]"),
        lambda: with_states(h=np.zeros((2, 5), "f")),
        with_states,
        at="sources/composite.py:sizes",
    ),
    Refusal(
        (" must return outputs of shape ", "[2, 7, 6], got [2, 7, 7]"),
        lambda: called(lambda x, w, r: tf.pad(own(x, w, r), [[0, 0], [0, 0], [0, 1]])),
        called,
    ),
    Refusal(
        ("; with the Keras interface it takes ", "own takes ['x', 'w', 'r']", "'recurrent_kernel', 'bias'"),
        lambda: with_keras(own),
        with_keras,
    ),
    Refusal(
        (" must return (last output, outputs, h, c), got ", "2 results"),
        lambda: with_keras(lambda x, h, c, w, r, b: own_keras(x, h, c, w, r, b)[:2]),
        with_keras,
    ),
    Refusal(
        (" arguments", "own_keras takes ['input', 'h', 'c'", "got 5 arguments"),
        lambda: with_keras(count=5),
        with_keras,
        at="sources/composite.py:call",
    ),
]


def trained_meanwhile(model: Any) -> None:
    """Converts a model whose weights another thread changes between the file and the comparison."""
    logger = logging.getLogger("lstm_toolkit")

    class Training(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "verifying":
                train = threading.Thread(target=lambda: model.weights[0].assign_add(np.ones_like(model.weights[0])))
                train.start()
                train.join()

    handler = Training()
    logger.addHandler(handler)
    try:
        with mock.patch.object(logger, "level", logging.INFO), mock.patch.dict(logger._cache, clear=True):
            lstm_toolkit.convert(model)
    finally:
        logger.removeHandler(handler)


def copied(model: Any) -> Any:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return exact(copy)


def spawned() -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(fork_worker.converted).result(fork_worker.SECONDS)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1


THREADS_AND_PROCESSES = [
    Refusal(
        (" changed while it was converted, perhaps by training in another thread; ", "convert a copy"),
        lambda: trained_meanwhile(randomized(functional(layers.LSTM(6), time=7))),
        lambda: copied(lstm()),
        converted(lstm()),
    ),
    Refusal(
        ("TensorFlow was in use when this process was forked; ", 'mp_context=multiprocessing.get_context("spawn")'),
        lambda: fork_worker.forked(fork_worker.converted),
        spawned,
    ),
]

REFUSALS = [*KERAS, *FUNCTIONS, *WEIGHTS, *LINGVO, *COMPOSITES, *THREADS_AND_PROCESSES]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_what_the_message_advises_helps(refusal):
    refusal.follow()
