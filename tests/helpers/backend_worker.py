"""Converts Keras models in a process whose backend is not TensorFlow, and compares the files with Keras there.

`KERAS_BACKEND=jax python -m tests.helpers.backend_worker`. With an argument it says of TensorFlow that it is another
backend, by that name, so that all but the backend itself is tested where there is no other one.
"""

import functools
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import layers

import lstm_toolkit
from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.runtime.worker import serve
from tests.helpers.backend_layers import Doubled, OnOneBackend, OwnModel, squashed
from tests.helpers.lingvo_cells import random_cell

BATCH, TIME, WIDTH = 2, 7, 5
RANDOM = np.random.default_rng(31)
FOLDER = Path(tempfile.mkdtemp())


def steps(batch=BATCH, time=TIME):
    return keras.Input((time, WIDTH), batch_size=batch, name="steps")


def functional(*stack, inputs=None, **options):
    x = inputs = steps() if inputs is None else inputs
    for layer in stack:
        x = layer(x)
    return randomized(keras.Model(inputs, x, **options))


def randomized(model):
    model.set_weights([RANDOM.normal(0, 0.5, each.shape) for each in model.get_weights()])
    return model


def drawn(*shape):
    return RANDOM.normal(size=shape or (BATCH, TIME, WIDTH)).astype(np.float32)


def of(value):
    return keras.ops.convert_to_numpy(value)


def difference(one, other):
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


def result(conversion, error):
    checked = conversion.report.checked
    return {
        "error": error,
        "reported": conversion.report.max_abs_error,
        "backend": checked.backend,
        "title": checked.tables()[0].title,
        "inputs": checked.inputs,
        "ops": dict(conversion.report.ops),
        "layers": {each.name: each.op for each in conversion.report.layers},
    }


def exact(model, *, called=None, shape=(), draw=drawn, turned=False, **options):
    """Converts it, and compares file and model three calls in a row."""
    conversion = lstm_toolkit.convert(model, **options)
    runner, model = conversion.runner(), called or model
    errors = []
    for _ in range(3):
        x = draw(*shape)
        (y,) = runner.outputs(x.swapaxes(0, 1) if turned else x).values()
        errors.append(difference(y.swapaxes(0, 1) if turned else y, of(model(x))))
    return result(conversion, max(errors))


def in_chunks(model, *, state, **options):
    """Converts it with its state from call to call, and compares two calls in a row with one over both."""
    conversion = lstm_toolkit.convert(model, state=state, **options)
    x = drawn(BATCH, 2 * TIME, WIDTH)
    runner = conversion.runner()
    names = [name for name in runner.input_shapes if name != "steps"]
    carried = {name: np.zeros(runner.input_shapes[name], np.float32) for name in names}
    parts = []
    for chunk in (x[:, :TIME], x[:, TIME:]):
        outputs = runner.outputs(steps=chunk, **carried)
        carried = {name: outputs[name] for name in names}
        parts.append(outputs["output_0"])
    whole = keras.Model.from_config(model.get_config() | {"layers": _open(model.get_config()["layers"])})
    whole.set_weights(model.get_weights())
    return result(conversion, difference(np.concatenate(parts, axis=1), of(whole(x)))) | {"names": sorted(names)}


def _open(configs):
    first, *rest = configs
    return [first | {"config": first["config"] | {"batch_shape": (BATCH, None, WIDTH)}}, *rest]


def two_layers():
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")
    return exact(functional(layers.LSTM(4, return_sequences=True), both, layers.Dense(6)))


def masked():
    words = keras.Input((TIME,), batch_size=BATCH, dtype="int32", name="words")
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
    model = functional(layers.Embedding(11, 5, mask_zero=True), both, layers.LSTM(4), inputs=words)
    return exact(model, shape=(BATCH, TIME), draw=lambda *shape: RANDOM.integers(0, 11, shape).astype(np.int32))


def stateful():
    layer = layers.LSTM(4, stateful=True, name="one")
    model = functional(layer)
    model(drawn())
    before = [of(each) for each in layer.states]
    conversion = lstm_toolkit.convert(model)
    after = [of(each) for each in layer.states]
    layer.reset_states()
    runner, inputs = conversion.runner(), [drawn() for _ in range(3)]
    error = max(difference(runner(x), of(model(x))) for x in inputs)
    untouched = all(map(np.array_equal, before, after)) and before[0].any()
    return result(conversion, error) | {"untouched": bool(untouched)}


def stateful_reset():
    layer = layers.LSTM(4, stateful=True, name="one")
    model = functional(layer)
    alone = functional(layers.LSTM(4))
    alone.set_weights(model.get_weights())
    return exact(model, called=alone, state="reset")


def explicit():
    cells = [layers.LSTMCell(4), layers.LSTMCell(6)]
    return in_chunks(functional(layers.RNN(cells, return_sequences=True, name="both")), state="explicit")


def carried():
    return in_chunks(functional(layers.LSTM(4, return_sequences=True)), state="carry")


def kept_beside_explicit():
    kept = layers.GRU(4, return_sequences=True, name="kept")
    model = functional(kept, layers.LSTM(3, name="one"))
    conversion = lstm_toolkit.convert(model, state="explicit", on_unsupported="keep")
    x = drawn()
    zeros = {name: np.zeros((BATCH, 3), np.float32) for name in ("one_h", "one_c")}
    return result(conversion, difference(conversion.runner().outputs(steps=x, **zeros)["output_0"], of(model(x))))


def open_time():
    model = functional(layers.GRU(4, return_sequences=True), layers.LSTM(6), inputs=steps(time=None))
    return exact(model, lowering="loop")


def time_major():
    return exact(functional(layers.LSTM(4, return_sequences=True)), turned=True, time_major=True, lowering="unrolled")


def fastest():
    return exact(functional(layers.LSTM(4)), lowering="auto", time_budget=2.0)


def int8():
    model = functional(layers.LSTM(4))
    conversion = lstm_toolkit.convert(model, quantization="int8", representative_dataset=drawn(40, BATCH, TIME, WIDTH))
    return result(conversion, conversion.report.quantization.relative_error)


def mixed_precision():
    """It computes in float32, as its weights are."""
    model = functional(layers.LSTM(4, dtype="mixed_bfloat16"))
    float32 = functional(layers.LSTM(4))
    float32.set_weights(model.get_weights())
    return exact(model, called=float32)


def bare_layer():
    return exact(layers.LSTM(4, name="alone"), input_signature=steps())


def own_model():
    model = OwnModel()
    model(drawn())
    return exact(model, input_signature=steps())


def own_layers():
    model = functional(layers.LSTM(4), Doubled(3.0), layers.Dense(6, activation=squashed))
    return exact(model)


def several_inputs_and_outputs():
    one, other = steps(), keras.Input((4,), batch_size=BATCH, name="start")
    y, h, _ = layers.LSTM(4, return_state=True)(one, initial_state=[other, other])
    model = randomized(keras.Model({"a": one, "b": other}, {"y": y, "h": layers.Dense(3)(h)}))
    conversion = lstm_toolkit.convert(model)
    x, start = drawn(), drawn(BATCH, 4)
    expected = model({"a": x, "b": start})
    given = conversion.runner().outputs(steps=x, start=start)
    return result(conversion, max(difference(given[name], of(expected[name])) for name in ("y", "h")))


def time_distributed():
    inputs = keras.Input((3, TIME, WIDTH), batch_size=BATCH, name="steps")
    return exact(functional(layers.TimeDistributed(layers.LSTM(4)), inputs=inputs), shape=(BATCH, 3, TIME, WIDTH))


def path():
    model = functional(layers.LSTM(4))
    model.save(FOLDER / "model.keras")
    conversion = lstm_toolkit.convert(FOLDER / "model.keras")
    x = drawn()
    return result(conversion, difference(conversion.runner()(x), of(model(x))))


def wrong_here():
    """The file has other weights than the model has here."""
    from lstm_toolkit.conversion import other_backends

    saved, ask = functional(layers.LSTM(4)), other_backends._asked
    other_backends._asked = lambda path, *rest: (saved.save(path), ask(path, *rest))[1]
    try:
        lstm_toolkit.convert(functional(layers.LSTM(4)))
    finally:
        other_backends._asked = ask


def other_sources():
    """What is not of Keras 3 converts as ever."""
    import tf_keras

    gates = lstm_toolkit.GateWeights.from_keras(functional(layers.LSTM(4)).get_weights())
    older = tf_keras.Sequential([tf_keras.layers.Input((TIME, WIDTH)), tf_keras.layers.LSTM(4)])
    rnn = lstm_toolkit.lingvo.RNN(random_cell(RANDOM))
    reports = [lstm_toolkit.convert(each).report for each in (gates, older, rnn)]
    return {
        "error": max(each.max_abs_error for each in reports),
        "backends": [each.checked.backend for each in reports],
    }


def in_a_function():
    import tensorflow as tf

    model = functional(layers.LSTM(4))
    lstm_toolkit.convert(lambda x: model(x), input_signature=[tf.TensorSpec([BATCH, TIME, WIDTH])])


class InMain(layers.Layer):
    def call(self, x):
        return x


class Registered(InMain):
    pass


class WithoutConfig(layers.Layer):
    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return x


keras.saving.register_keras_serializable("main")(Registered)


def refused(make, **options):
    return lambda: lstm_toolkit.convert(make(), **options)


def apart():
    inputs = keras.Input((3, TIME, WIDTH), batch_size=2)
    return functional(layers.TimeDistributed(layers.LSTM(4), name="apart"), inputs=inputs)


REFUSED = {
    "lambda": refused(lambda: functional(layers.LSTM(4), layers.Lambda(lambda x: x + 1, name="plus"))),
    "unregistered": refused(lambda: functional(layers.LSTM(4), InMain(name="own"))),
    "in main": refused(lambda: functional(layers.LSTM(4), Registered(name="own"))),
    "cannot be saved": refused(lambda: functional(layers.LSTM(4), WithoutConfig(object(), name="own"))),
    "code of one backend": refused(lambda: functional(layers.LSTM(4), OnOneBackend(name="own"))),
    "ends": refused(lambda: functional(layers.LSTM(4), OnOneBackend(ends=True))),
    "never called": refused(lambda: layers.LSTM(4, name="alone")),
    "other inputs": refused(lambda: layers.LSTM(4, name="alone"), input_signature=keras.Input((3,), batch_size=2)),
    "explicit states in steps": refused(apart, state="explicit"),
    "gru": refused(lambda: functional(layers.GRU(4, name="gated"))),
    "gate_activations": lambda: lstm_toolkit.gate_activations(functional(layers.LSTM(4)), drawn()),
    "a function": in_a_function,
    "other weights": wrong_here,
}

CASES = (
    *(two_layers, masked, stateful, stateful_reset, explicit, carried, kept_beside_explicit, open_time, time_major),
    *(fastest, int8, mixed_precision, bare_layer, own_model, own_layers, several_inputs_and_outputs),
    *(time_distributed, path, other_sources),
)


@functools.cache
def answer_of(name):
    found = {each.__name__: each for each in CASES}
    if name in found:
        return found[name]()
    try:
        REFUSED[name]()
    except (LstmToolkitError, ValueError) as error:
        return {"type": type(error).__name__, "message": str(error)}
    return {}


if __name__ == "__main__":
    if sys.argv[1:]:
        keras.backend.backend = functools.partial(str, sys.argv[1])
    serve(lambda name, _: answer_of(name))
