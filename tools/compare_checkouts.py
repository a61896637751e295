"""Shows whether two checkouts of the project convert the same models to the same bytes.

    python tools/compare_checkouts.py OTHER_CHECKOUT [--case NAME ...] [--keep FOLDER]

One process for each checkout (the one that this file lies in, and the other one) builds all cases with the package of
that checkout. A case gives a `.tflite` file, a refusal, or facts alone. Files are compared byte by byte; where the two
versions of the package differ, its name and version in the description are left out. What the reports say of layers,
ops and quantization is compared too, and so are the type and message of each refusal. The exit code is 1 if any case
differs, or fails in both checkouts. With this checkout itself as OTHER_CHECKOUT, the program shows that the cases are
repeatable.

Cases use public names only, so that modules may move. Left out, since they differ between two runs of the same code:

- the file that lowering="auto" chooses, by time; its case compares which candidates were tried, and the layers;
- `max_abs_error`, whose last digits depend on how TensorFlow shares a product between threads; its case says only that
  the file was verified.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Case = Callable[[], Any]
"""Builds what one case compares: a `Conversion`, a `Repair`, the bytes of a file, or `Facts`."""

BATCH, TIME, INPUTS, UNITS = 3, 7, 5, 6
"""All different, so that axes which change places change the file."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a case compares beside a file, or instead of one.

    Attributes:
        values: that JSON can hold.
        tflite: the file, or None.
    """

    values: Any
    tflite: bytes | None = None


# Models


def randomized(model: Any, seed: int = 0) -> Any:
    """Gives every weight of a Keras model random values, in the order of its weights."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if "seed" not in getattr(variable, "path", variable.name):
            variable.assign(random.normal(0.0, 0.6, variable.shape).astype(np.float32))
    return model


def functional(*parts: Any, time: int | None = TIME, batch: int | None = BATCH) -> Any:
    """A Keras 3 model with one input of steps and a stack of layers."""
    import keras

    inputs = x = keras.Input((time, INPUTS), batch_size=batch, name="steps")
    for part in parts:
        x = part(x)
    return randomized(keras.Model(inputs, x, name="model"))


def masked(layer: Any, source: str = "embedding") -> Any:
    """A Keras 3 model with a layer over padded steps."""
    import keras

    if source == "embedding":
        inputs = keras.Input((TIME,), batch_size=BATCH, dtype="int32", name="tokens")
        return randomized(keras.Model(inputs, layer(keras.layers.Embedding(11, INPUTS, mask_zero=True)(inputs))))
    steps = keras.Input((TIME, INPUTS), batch_size=BATCH, name="steps")
    if source == "masking":
        return randomized(keras.Model(steps, layer(keras.layers.Masking()(steps))))
    if source == "argument":
        valid = keras.Input((TIME,), batch_size=BATCH, dtype="bool", name="valid")
        return randomized(keras.Model([steps, valid], layer(steps, mask=valid)))
    numbers = np.arange(TIME)[np.newaxis]
    right, left = numbers < np.array([[4], [7], [0]]), numbers >= np.array([[2], [0], [6]])
    return randomized(keras.Model(steps, layer(steps, mask={"right": right, "left": left}[source])))


def legacy(*parts: Any, seed: int = 0) -> Any:
    """A tf_keras model, whose layers get names that do not count on from earlier models."""
    import tf_keras

    model = tf_keras.Sequential([tf_keras.Input((TIME, INPUTS), batch_size=BATCH, name="steps"), *parts], name="model")
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(0.0, 0.5, weight.shape) for weight in model.get_weights()])
    return model


def lingvo_cell(*, normalized: bool = False, projected: bool = False, coupled: bool = False, **options: Any) -> Any:
    """A cell of Lingvo with random weights; 5 in, 4 out, 6 cells where it projects."""
    from lstm_toolkit import lingvo

    kind = lingvo.LayerNormalizedLSTMCellSimple if normalized else lingvo.LSTMCellSimple
    options |= {"num_hidden_nodes": UNITS} if projected else {}
    options |= {"couple_input_forget_gates": coupled, "forget_gate_bias": 0.5, "cell_value_cap": 0.9}
    cell = kind(num_input_nodes=INPUTS, num_output_nodes=4, **options)
    random = np.random.default_rng(3)
    cell.load_theta({name: random.normal(0.0, 0.6, np.shape(value)) for name, value in cell.theta.items()})
    return cell


def lingvo_rnn(**options: Any) -> Any:
    """The same cell over a sequence."""
    from lstm_toolkit import lingvo

    return lingvo.RNN(lingvo_cell(**options))


def gate_weights(
    inputs: int = INPUTS,
    units: int = UNITS,
    *,
    coupled: bool = False,
    peephole: bool = False,
    outputs: int | None = None,
    normalized: bool = False,
    diagonal: bool = False,
    seed: int = 0,
) -> Any:
    """Weights by gate, random."""
    from lstm_toolkit import GateWeights

    gates = ("input", "forget", "cell", "output")[coupled:]
    shapes: dict[str, tuple[int, ...]] = {f"input_to_{gate}_weights": (units, inputs) for gate in gates}
    recurrent = (units,) if diagonal else (units, outputs or units)
    shapes |= {f"recurrent_to_{gate}_weights": recurrent for gate in gates}
    shapes |= {f"cell_to_{gate}_weights": (units,) for gate in gates if peephole and gate != "cell"}
    shapes |= {f"{gate}_gate_bias": (units,) for gate in gates}
    shapes |= {f"{gate}_layer_norm_coefficients": (units,) for gate in gates if normalized}
    shapes |= {"projection_weights": (outputs, units), "projection_bias": (outputs,)} if outputs else {}
    random = np.random.default_rng(seed)
    return GateWeights.from_operands({name: random.normal(0.0, 0.5, shape) for name, shape in shapes.items()})


def torch_weights(inputs: int, units: int, seed: int) -> Any:
    """Weights by gate out of a state dict as PyTorch packs it, with a projection to 3 numbers."""
    from lstm_toolkit import GateWeights

    random = np.random.default_rng(seed)
    shapes = {"weight_ih_l0": (4 * units, inputs), "weight_hh_l0": (4 * units, 3), "weight_hr_l0": (3, units)}
    shapes |= {"bias_ih_l0": (4 * units,), "bias_hh_l0": (4 * units,)}  # type: ignore[dict-item]
    return GateWeights.from_torch({name: random.normal(0.0, 0.4, shape) for name, shape in shapes.items()})


def samples(*shape: int, count: int = 20) -> Any:
    """Samples for the ranges of int8."""
    return np.random.default_rng(5).normal(size=(count, *shape)).clip(-2, 2).astype(np.float32)


# What is done with them


def case(make: Callable[[], Any], **options: Any) -> Case:
    """Converts a model, which is made only then; `verify` is off for speed unless it is asked for."""

    def convert() -> Any:
        import lstm_toolkit

        return lstm_toolkit.convert(make(), **({"verify": False} | options))

    return convert


def lowered(make: Callable[[], Any], **options: Any) -> Case:
    """Lowers the fused ops of a converted model."""

    def lower() -> bytes:
        import lstm_toolkit

        return lstm_toolkit.lower(lstm_toolkit.convert(make(), verify=False).tflite, **options)

    return lower


def saved(make: Callable[[], Any], suffix: str, *, fusable: bool = True, **options: Any) -> Case:
    """Saves a Keras model (without a suffix: exports it) and converts what was written."""

    def convert() -> Any:
        import lstm_toolkit

        model = make()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{suffix}"
            if suffix:
                model.save(path)
            elif fusable:
                with lstm_toolkit.fusable_lstms():
                    model.export(path, verbose=False)
            else:
                model.export(path, verbose=False)
            return lstm_toolkit.convert(path, **({"verify": False} | options))

    return convert


def stock(model: Any, **settings: Any) -> bytes:
    """The file that TensorFlow's own converter makes of a Keras model."""
    import tensorflow as tf

    spec = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype, name="steps")
    function = tf.function(lambda steps: model(steps, training=False)).get_concrete_function(spec)
    holder = tf.Module()
    holder.held = [each if isinstance(each, tf.Variable) else each.value for each in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    for name, value in settings.items():
        setattr(converter, name, value)
    return converter.convert()


def stock_int8(model: Any) -> bytes:
    """The same in int8."""
    import tensorflow as tf

    dataset = samples(BATCH, TIME, INPUTS)
    return stock(
        model,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([each] for each in dataset),
    )


def repaired(make: Callable[[], bytes], **options: Any) -> Case:
    """Repairs a file."""

    def repair() -> Any:
        import lstm_toolkit

        return lstm_toolkit.repair(make(), **options)

    return repair


# Cases that give a file


def layer_cases() -> dict[str, Case]:
    """One LSTM layer of Keras 3 with each option."""
    import keras

    lstm, sequences = keras.layers.LSTM, {"return_sequences": True}
    carried = {"state": "carry", "verify": True}
    return {
        "lstm": case(lambda: functional(lstm(UNITS)), verify=True),
        "lstm-sequences": case(lambda: functional(lstm(UNITS, **sequences))),
        "lstm-backwards": case(lambda: functional(lstm(UNITS, go_backwards=True, **sequences)), verify=True),
        "lstm-without-bias": case(lambda: functional(lstm(UNITS, use_bias=False))),
        "lstm-unroll": case(lambda: functional(lstm(UNITS, unroll=True))),
        "lstm-one-unit": case(lambda: functional(lstm(1, **sequences))),
        "lstm-relu": case(lambda: functional(lstm(UNITS, activation="relu"))),
        "lstm-hard_tanh": case(lambda: functional(lstm(UNITS, activation="hard_tanh", **sequences))),
        "lstm-dropout": case(lambda: functional(lstm(UNITS, dropout=0.2, recurrent_dropout=0.5, seed=1))),
        "lstm-mixed_float16": case(lambda: functional(lstm(UNITS, dtype="mixed_float16"))),
        "lstm-stateful": case(lambda: functional(lstm(UNITS, stateful=True)), verify=True),
        "lstm-stateful-reset": case(lambda: functional(lstm(UNITS, stateful=True)), state="reset"),
        "lstm-return_state": case(lambda: functional(lstm(UNITS, return_state=True))),
        "lstm-state-carry": case(lambda: functional(lstm(UNITS, **sequences), time=None), **carried),
        "lstm-state-explicit": case(lambda: functional(lstm(UNITS)), state="explicit", verify=True),
        "lstm-time-open": case(lambda: functional(lstm(UNITS, **sequences), time=None), verify=True),
        "lstm-batch-open": case(lambda: functional(lstm(UNITS), batch=None)),
        "lstm-batch_size": case(lambda: functional(lstm(UNITS), batch=None), batch_size=2),
        "lstm-time_steps": case(lambda: functional(lstm(UNITS, **sequences), time=None), time_steps=4),
        "lstm-time_major": case(lambda: functional(lstm(UNITS, **sequences), lstm(4)), time_major=True),
    }


def bidirectional_cases() -> dict[str, Case]:
    """Both directions, with each merge mode."""
    import keras

    def both(units: int, merge_mode: str | None = "concat", *, backward: int | None = None, **options: Any) -> Any:
        options = {"return_sequences": True} | options
        other = keras.layers.LSTM(backward, go_backwards=True, **options) if backward else None
        return keras.layers.Bidirectional(
            keras.layers.LSTM(units, **options), backward_layer=other, merge_mode=merge_mode
        )

    def merged(mode: str | None) -> Any:
        return functional(both(UNITS, mode))

    merges: tuple[str | None, ...] = ("concat", "sum", "mul", "ave", None)
    return {
        f"bidirectional-{str(mode).lower()}": case(functools.partial(merged, mode), verify=mode == "concat")
        for mode in merges
    } | {
        "bidirectional-last-step": case(lambda: functional(both(UNITS, return_sequences=False))),
        "bidirectional-unequal": case(lambda: functional(both(UNITS, backward=4)), verify=True),
        "bidirectional-unequal-none": case(lambda: functional(both(2, None, backward=8, return_sequences=False))),
        "bidirectional-split": case(lambda: functional(both(UNITS)), bidirectional="split"),
        "bidirectional-time_major": case(lambda: functional(both(UNITS), both(4)), time_major=True, verify=True),
        "bidirectional-one-row": case(lambda: functional(both(UNITS), time=None, batch=1)),
        "bidirectional-explicit": case(lambda: functional(both(UNITS)), state="explicit"),
        "bidirectional-carry": case(lambda: functional(both(UNITS)), state="carry"),
        "bidirectional-masked": case(lambda: masked(both(UNITS)), verify=True),
        "bidirectional-masked-unequal": case(lambda: masked(both(UNITS, backward=4), "masking")),
        "bidirectional-unrolled": case(lambda: functional(both(UNITS, "sum")), lowering="unrolled"),
        "bidirectional-loop": case(lambda: functional(both(UNITS), time=None), lowering="loop"),
    }


def structure_cases() -> dict[str, Case]:
    """Layers beside, in and after each other."""
    import keras
    import tensorflow as tf

    layers, cells = keras.layers, (lambda: [keras.layers.LSTMCell(UNITS), keras.layers.LSTMCell(4)])

    def nested() -> Any:
        inner = keras.Sequential([keras.Input((TIME, INPUTS)), layers.Dense(4), layers.LSTM(6, return_sequences=True)])
        outer = keras.Sequential([keras.Input((TIME, 6)), layers.Bidirectional(layers.LSTM(4, return_sequences=True))])
        return functional(inner, outer, layers.LSTM(2), batch=None)

    def shared() -> Any:
        layer, a, b = layers.LSTM(UNITS), keras.Input((TIME, INPUTS), name="a"), keras.Input((9, INPUTS), name="b")
        return randomized(keras.Model([a, b], layers.Concatenate()([layer(a), layer(b)])))

    def encoder_decoder() -> Any:
        source, target = keras.Input((TIME, INPUTS), name="source"), keras.Input((9, 2), name="target")
        _, *states = layers.LSTM(UNITS, return_state=True)(source)
        decoded = layers.LSTM(UNITS, return_sequences=True)(target, initial_state=states)
        return randomized(keras.Model([source, target], layers.Dense(4)(decoded)))

    def distributed() -> Any:
        clips = keras.Input((4, TIME, INPUTS), batch_size=BATCH, name="clips")
        return randomized(keras.Model(clips, layers.TimeDistributed(layers.LSTM(UNITS))(clips)))

    def bare() -> Any:
        layer = layers.LSTM(UNITS, return_sequences=True)
        layer.build((None, TIME, INPUTS))
        return randomized(layer)

    signature = tf.TensorSpec([BATCH, None, INPUTS], name="steps")
    return {
        "stacked": case(lambda: functional(layers.LSTM(6, return_sequences=True), layers.LSTM(4), layers.Dense(2))),
        "stacked-cells": case(lambda: functional(layers.RNN(cells(), return_sequences=True)), verify=True),
        "stacked-cells-explicit": case(lambda: functional(layers.RNN(cells())), state="explicit"),
        "one-cell": case(lambda: functional(layers.RNN(layers.LSTMCell(UNITS)))),
        "nested-models": case(nested, batch_size=BATCH),
        "shared-layer": case(shared, batch_size=BATCH, verify=True),
        "initial_state": case(encoder_decoder, batch_size=BATCH, verify=True),
        "initial_state-loop": case(encoder_decoder, batch_size=BATCH, lowering="loop"),
        "time-distributed": case(distributed),
        "bare-layer": case(bare, input_signature=signature),
    }


def mask_cases() -> dict[str, Case]:
    """Masks from every source, forward and backward."""
    import keras

    lstm, sequences = keras.layers.LSTM, {"return_sequences": True}
    return {
        "mask-embedding": case(lambda: masked(lstm(UNITS)), verify=True),
        "mask-masking": case(lambda: masked(lstm(UNITS, **sequences), "masking"), verify=True),
        "mask-backwards": case(lambda: masked(lstm(UNITS, go_backwards=True), "masking")),
        "mask-argument": case(lambda: masked(lstm(UNITS, return_state=True), "argument")),
        "mask-constant": case(lambda: masked(lstm(UNITS, **sequences), "right")),
        "mask-zeros": case(lambda: masked(lstm(UNITS, zero_output_for_mask=True, **sequences), "masking")),
        "mask-explicit": case(lambda: masked(lstm(UNITS), "masking"), state="explicit"),
        "mask-unrolled": case(lambda: masked(lstm(UNITS)), lowering="unrolled"),
    }


def other_layer_cases() -> dict[str, Case]:
    """Layers that are no LSTM, and LSTMs that only plain ops can compute."""
    import keras

    layers, sequences = keras.layers, {"return_sequences": True}
    odd = {"activation": "sigmoid", "recurrent_activation": "hard_sigmoid"}
    kept = {"on_unsupported": "keep"}
    cases = {
        "simple": case(lambda: functional(layers.SimpleRNN(UNITS, **sequences)), verify=True),
        "simple-bidirectional": case(lambda: functional(layers.Bidirectional(layers.SimpleRNN(UNITS)))),
        "gru-kept": case(lambda: functional(layers.GRU(UNITS, **sequences), layers.LSTM(4)), **kept),
        "odd-activations-kept": case(
            lambda: functional(layers.LSTM(UNITS, **odd, **sequences), layers.LSTM(4)), **kept
        ),
    }
    plain: dict[str, Callable[[], Any]] = {
        "lstm": lambda: functional(layers.LSTM(UNITS)),
        "lstm-sequences-backwards": lambda: functional(layers.LSTM(UNITS, go_backwards=True, **sequences)),
        "simple": lambda: functional(layers.Bidirectional(layers.SimpleRNN(UNITS, **sequences), merge_mode="mul")),
        "gru": lambda: functional(layers.GRU(UNITS, **sequences), layers.GRU(4)),
        "gru-reset-before": lambda: functional(layers.GRU(UNITS, reset_after=False)),
        "gru-bidirectional": lambda: functional(layers.Bidirectional(layers.GRU(UNITS))),
        "odd-activations": lambda: functional(layers.LSTM(UNITS, **odd)),
    }
    for (name, make), form in itertools.product(plain.items(), ("unrolled", "loop")):
        cases[f"{form}-{name}"] = case(make, lowering=form, verify=name == "gru")
    explicit = {"lowering": "loop", "state": "explicit"}
    return cases | {
        "loop-explicit": case(lambda: functional(layers.GRU(UNITS), time=None), **explicit),
        "loop-time-open": case(lambda: functional(layers.LSTM(UNITS, **sequences), time=None), lowering="loop"),
    }


def tf_keras_cases() -> dict[str, Case]:
    """Models of Keras 2."""
    import tf_keras

    layers = tf_keras.layers
    return {
        "tf_keras-lstm": case(lambda: legacy(layers.LSTM(UNITS, return_sequences=True), layers.LSTM(4)), verify=True),
        "tf_keras-bidirectional": case(
            lambda: legacy(layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), merge_mode="sum"))
        ),
        "tf_keras-stateful": case(lambda: legacy(layers.LSTM(UNITS, stateful=True))),
        "tf_keras-masking": case(lambda: legacy(layers.Masking(9.0), layers.LSTM(UNITS))),
        "tf_keras-time_major": case(lambda: legacy(layers.LSTM(UNITS, time_major=True, return_sequences=True))),
        "tf_keras-loop": case(lambda: legacy(layers.LSTM(UNITS)), lowering="loop"),
    }


def source_cases() -> dict[str, Case]:
    """Files, exports and functions of Keras models."""
    import keras
    import tensorflow as tf

    import lstm_toolkit

    layers = keras.layers

    def model() -> Any:
        both = layers.Bidirectional(layers.LSTM(4))
        return functional(layers.LSTM(UNITS, return_sequences=True, dropout=0.2), both, layers.Dense(2), batch=None)

    def function() -> Any:
        traced = model()
        with lstm_toolkit.fusable_lstms():
            spec = tf.TensorSpec([None, TIME, INPUTS], name="steps")
            return tf.function(lambda steps: traced(steps)).get_concrete_function(spec)

    def of_layers() -> Any:
        lstm = functional(layers.LSTM(UNITS, return_sequences=True), batch=None)
        return lambda steps: tf.tanh(lstm(steps)) * 2.0

    signature = [tf.TensorSpec([None, TIME, INPUTS], name="steps")]
    return {
        "keras-file": saved(model, ".keras", batch_size=BATCH),
        "h5-file": saved(model, ".h5", batch_size=BATCH),
        "saved-model": saved(model, "", batch_size=BATCH, verify=True),
        "concrete-function": case(function, batch_size=BATCH),
        "function-of-layers": case(of_layers, input_signature=signature, batch_size=2),
        "function-of-layers-loop": case(of_layers, input_signature=signature, lowering="loop"),
    }


def lingvo_cases() -> dict[str, Case]:
    """Both cells with each of their parts, and each way to run them."""
    import tensorflow as tf

    cases: dict[str, Case] = {}
    for normalized, projected, coupled in itertools.product((False, True), repeat=3):
        parts = {"normalized": normalized, "projected": projected, "coupled": coupled}
        name = "-".join(["lingvo", *(part for part, there in parts.items() if there)])
        cases[name] = case(functools.partial(lingvo_rnn, **parts), batch_size=BATCH, verify=normalized and coupled)
    padded = [tf.TensorSpec([None, TIME, INPUTS], name="x"), tf.TensorSpec([None, TIME], name="padding")]
    everything = {"normalized": True, "projected": True, "coupled": True}
    return cases | {
        "lingvo-padding": case(lambda: lingvo_rnn(projected=True), input_signature=padded, batch_size=BATCH),
        "lingvo-explicit": case(lambda: lingvo_rnn(projected=True), state="explicit", batch_size=BATCH),
        "lingvo-time_major": case(lambda: lingvo_rnn(coupled=True), time_major=True, batch_size=BATCH),
        "lingvo-cell": case(lambda: lingvo_cell(**everything), batch_size=BATCH),
        "lingvo-cell-explicit": case(lingvo_cell, batch_size=BATCH, state="explicit"),
        "lingvo-loop": case(lambda: lingvo_rnn(**everything), lowering="loop", batch_size=BATCH),
        "lingvo-unrolled": case(lambda: lingvo_rnn(**everything), lowering="unrolled", time_steps=TIME),
        "lingvo-without-bias": case(lambda: lingvo_rnn(enable_lstm_bias=False)),
    }


def packed_lstm(order: str) -> Callable[..., Any]:
    """A function that is an LSTM, and whose packed gates stand in an order of "ifco"."""
    import tensorflow as tf

    def mine(x: Any, w: Any, u: Any, b: Any) -> Any:
        def step(state: Any, x_t: Any) -> Any:
            h, c = state
            z = dict(zip(order, tf.split(tf.matmul(x_t, w) + tf.matmul(h, u) + b, 4, axis=1), strict=True))
            c = tf.sigmoid(z["f"]) * c + tf.sigmoid(z["i"]) * tf.tanh(z["c"])
            return tf.sigmoid(z["o"]) * tf.tanh(c), c

        zeros = tf.zeros([tf.shape(x)[0], u.shape[0]])
        hs, _ = tf.scan(step, tf.transpose(x, [1, 0, 2]), initializer=(zeros, zeros))
        return tf.transpose(hs, [1, 0, 2])

    return mine


def keras_like(*, time_major: bool, go_backwards: bool) -> Callable[..., Any]:
    """A function with Keras's interface, marked by option 1 of TensorFlow's guide."""
    import tensorflow as tf

    import lstm_toolkit

    @lstm_toolkit.composite(interface="keras", time_major=time_major, go_backwards=go_backwards)
    def recurrent(inputs: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
        def step(state: Any, x_t: Any) -> Any:
            i, f, g, o = tf.split(tf.matmul(x_t, kernel) + tf.matmul(state[0], recurrent_kernel) + bias, 4, axis=1)
            c = tf.sigmoid(f) * state[1] + tf.sigmoid(i) * tf.tanh(g)
            return tf.sigmoid(o) * tf.tanh(c), c

        steps = inputs if time_major else tf.transpose(inputs, [1, 0, 2])
        hs, cs = tf.scan(step, steps[::-1] if go_backwards else steps, initializer=(h, c))
        return hs[-1], hs if time_major else tf.transpose(hs, [1, 0, 2]), hs[-1], cs[-1]

    return recurrent


def packed_weights() -> list[Any]:
    """Kernel, recurrent kernel and bias, random."""
    import tensorflow as tf

    random = np.random.default_rng(2)
    shapes = ((INPUTS, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,))
    return [tf.Variable(random.normal(0.0, 0.6, shape).astype(np.float32)) for shape in shapes]


def composite_cases() -> dict[str, Case]:
    """Functions marked by both options of TensorFlow's guide."""
    import tensorflow as tf

    import lstm_toolkit

    usual = {"x": "input", "w": "kernel", "u": "recurrent_kernel", "b": "bias"}

    def option_1(result: int, **options: bool) -> Any:
        function, weights, zeros = keras_like(**options), packed_weights(), tf.zeros([BATCH, UNITS])
        return lambda x: function(x, zeros, zeros, *weights)[result]

    def option_2(order: str, **options: Any) -> Any:
        marked = lstm_toolkit.composite(operands=usual, gates=order, **options)(packed_lstm(order))
        weights = packed_weights()
        return lambda x: marked(x, *weights)

    def transposed() -> Any:
        plain, (w, u, b) = packed_lstm("ifco"), packed_weights()
        w, u = tf.Variable(tf.transpose(w)), tf.Variable(tf.transpose(u))

        @lstm_toolkit.composite(operands=usual, gates="ifgo", gate_axis=0)
        def torch_like(x: Any, w: Any, u: Any, b: Any) -> Any:
            return plain(x, tf.transpose(w), tf.transpose(u), b)

        return lambda x: torch_like(x, w, u, b)

    batch_major = [tf.TensorSpec([BATCH, TIME, INPUTS], name="steps")]
    time_major = [tf.TensorSpec([TIME, BATCH, INPUTS], name="steps")]
    open_time = [tf.TensorSpec([None, None, INPUTS], name="steps")]
    plain, other = {"time_major": False, "go_backwards": False}, {"time_major": True, "go_backwards": True}
    return {
        "composite-1": case(lambda: option_1(1, **plain), input_signature=batch_major, verify=True),
        "composite-1-last-step": case(lambda: option_1(0, **other), input_signature=time_major),
        "composite-2": case(lambda: option_2("cifo"), input_signature=batch_major, verify=True),
        "composite-2-open": case(lambda: option_2("ofci"), input_signature=open_time, batch_size=BATCH),
        "composite-2-carry": case(lambda: option_2("fico", carry=True), input_signature=batch_major),
        "composite-2-gate_axis": case(transposed, input_signature=batch_major),
        "composite-2-unrolled": case(lambda: option_2("cifo"), input_signature=batch_major, lowering="unrolled"),
    }


def gate_weights_cases() -> dict[str, Case]:
    """Bare weights."""
    fixed = {"batch_size": BATCH, "time_steps": TIME}
    everything: dict[str, Any] = {"coupled": True, "peephole": True, "outputs": 4, "normalized": True}

    def pairs() -> Any:
        below = gate_weights(seed=1), gate_weights(seed=2)
        return [below, (gate_weights(2 * UNITS, 4, seed=3), gate_weights(2 * UNITS, 4, seed=4))]

    def stack() -> Any:
        return [gate_weights(), gate_weights(UNITS, 4, seed=1)]

    return {
        "weights": case(gate_weights, verify=True),
        "weights-list": case(stack, **fixed),
        "weights-list-carry": case(stack, state="carry"),
        "weights-list-explicit": case(stack, state="explicit", **fixed),
        "weights-pairs": case(pairs, time_major=True, verify=True, **fixed),
        "weights-everything": case(lambda: gate_weights(**everything), verify=True, **fixed),
        "weights-everything-unrolled": case(lambda: gate_weights(**everything), lowering="unrolled", **fixed),
        "weights-peephole": case(lambda: gate_weights(peephole=True), **fixed),
        "weights-diagonal": case(lambda: gate_weights(diagonal=True), **fixed),
        "weights-torch": case(lambda: [torch_weights(INPUTS, UNITS, 1), torch_weights(3, 4, 2)], **fixed),
    }


def quantization_cases() -> dict[str, Case]:
    """Fewer bits."""
    import keras

    layers = keras.layers

    def head() -> Any:
        return functional(layers.LSTM(UNITS), layers.Dense(2))

    def both() -> Any:
        return functional(layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)), layers.Dense(2))

    def stacked() -> Any:
        return functional(layers.LSTM(UNITS, return_sequences=True), layers.LSTM(4, stateful=True))

    def int8(make: Callable[[], Any], **options: Any) -> Case:
        options = {"representative_dataset": samples(BATCH, TIME, INPUTS)} | options
        return case(make, quantization="int8", **options)

    one = {"representative_dataset": samples(1, TIME, INPUTS), "time_steps": TIME}
    return {
        "dynamic": case(head, quantization="dynamic"),
        "dynamic-bidirectional": case(both, quantization="dynamic"),
        "dynamic-loop": case(head, quantization="dynamic", lowering="loop"),
        "float16": case(head, quantization="float16", verify=True),
        "float16-bidirectional": case(both, quantization="float16"),
        "float16-unrolled": case(head, quantization="float16", lowering="unrolled"),
        "int8": int8(head, verify=True),
        "int8-io": int8(stacked, io_dtype="int8"),
        "int8-bidirectional": int8(both),
        "int8-coupled-normalized": int8(lambda: lingvo_rnn(coupled=True, normalized=True), **one),
        "int8-peephole": int8(lambda: gate_weights(peephole=True), **one),
        "int8-simple": int8(lambda: functional(layers.SimpleRNN(UNITS, return_sequences=True), layers.LSTM(4))),
    }


def target_cases() -> dict[str, Case]:
    """Forms for each runtime."""
    import keras

    layers = keras.layers
    fixed = {"batch_size": BATCH, "time_steps": TIME}

    def lstm() -> Any:
        return functional(layers.LSTM(UNITS), layers.Dense(2))

    def both() -> Any:
        return functional(layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)))

    def gru() -> Any:
        return functional(layers.GRU(UNITS, return_sequences=True), layers.LSTM(4))

    quantized = {"quantization": "int8", "representative_dataset": samples(BATCH, TIME, INPUTS), "io_dtype": "int8"}
    return {
        "litert": case(both, target="litert"),
        "compiled": case(lstm, target="compiled", verify=True),
        "compiled-long": case(lambda: functional(layers.LSTM(UNITS), time=130), target="compiled"),
        "compiled-dynamic": case(both, target="compiled", quantization="dynamic"),
        "micro": case(lstm, target="micro", verify=True),
        "micro-bidirectional": case(both, target="micro"),
        "micro-gru": case(gru, target="micro"),
        "micro-coupled": case(lambda: gate_weights(coupled=True), target="micro", **fixed),
        "micro-normalized": case(lambda: lingvo_rnn(normalized=True), target="micro", **fixed),
        "micro-int8": case(lstm, target="micro", **quantized),
    }


def file_cases() -> dict[str, Case]:
    """Passes over files that are there already."""
    import keras
    import tf_keras

    new, old, sequences = keras.layers, tf_keras.layers, {"return_sequences": True}

    def two_layers() -> Any:
        return functional(new.LSTM(UNITS, **sequences), new.Bidirectional(new.LSTM(4)))

    def stock_lstm() -> bytes:
        return stock(legacy(old.LSTM(UNITS, **sequences), old.LSTM(4)))

    def stock_both() -> Any:
        return legacy(old.Bidirectional(old.LSTM(UNITS, **sequences)))

    def lowered_stock() -> bytes:
        import lstm_toolkit

        return lstm_toolkit.lower(lstm_toolkit.repair(stock_lstm()).tflite, form="loop")

    loops = {"two": lambda: stock(functional(new.LSTM(UNITS, **sequences), new.LSTM(4)))}
    loops["both"] = lambda: stock(functional(new.Bidirectional(new.LSTM(UNITS)), new.Dense(2)))
    loops["open"] = lambda: stock(functional(new.LSTM(UNITS, **sequences), time=None))
    loops["gru"] = lambda: stock(functional(new.GRU(UNITS)))
    return {f"repair-loop-{name}": repaired(make) for name, make in loops.items()} | {
        "lower-unrolled": lowered(two_layers),
        "lower-loop": lowered(two_layers, form="loop"),
        "lower-loop-of-three": lowered(two_layers, form="loop", steps_per_turn=3),
        "lower-stock": lowered_stock,
        "repair-leak-and-clip": repaired(stock_lstm),
        "repair-clip-alone": repaired(stock_lstm, codes=["cell-clip"]),
        "repair-halves": repaired(lambda: stock(stock_both())),
        "repair-int8": repaired(lambda: stock_int8(stock_both())),
    }


def automatic() -> Facts:
    """Which candidates lowering="auto" tries, all of them within the budget, and which layers it reports."""
    import keras

    import lstm_toolkit

    model = functional(keras.layers.LSTM(UNITS, name="recurrent"), batch=1)
    report = lstm_toolkit.convert(model, lowering="auto", time_budget=300.0, verify=False).report
    assert report.automatic is not None
    ways = [each.candidate for each in report.automatic.trials]
    # Without threads: which ways are close enough to be timed with more of them depends on the machine.
    tried = sorted({str((way.lowering, way.runtime, way.steps_per_turn, way.quantization)) for way in ways})
    return Facts({"candidates": tried, "layers": [(each.name, each.layer_class) for each in report.layers]})


def micro_report() -> Facts:
    """The ops that a file registers with TensorFlow Lite Micro."""
    import keras

    import lstm_toolkit
    from lstm_toolkit.micro import micro_report

    tflite = lstm_toolkit.convert(functional(keras.layers.LSTM(UNITS)), target="micro", verify=False).tflite
    report = micro_report(tflite, run=False)
    return Facts({"resolver": report.resolver, "constants": report.constant_size}, tflite)


def file_giving_cases() -> dict[str, Case]:
    """All cases that must not be refused, by name."""
    groups = (
        *(layer_cases, bidirectional_cases, structure_cases, mask_cases, other_layer_cases, tf_keras_cases),
        *(source_cases, lingvo_cases, composite_cases, gate_weights_cases, quantization_cases, target_cases),
        file_cases,
    )
    cases: dict[str, Case] = {"automatic": automatic, "micro-report": micro_report}
    for group in groups:
        found = group()
        assert not set(found) & set(cases), set(found) & set(cases)
        cases |= found
    return cases


# Cases that are refused


def refused_option_cases() -> dict[str, Case]:
    """Options with bad values, or that do not go together."""
    import keras

    def lstm() -> Any:
        return functional(keras.layers.LSTM(UNITS, name="recurrent"))

    int8 = {"quantization": "int8", "representative_dataset": samples(BATCH, TIME, INPUTS)}
    options: dict[str, dict[str, Any]] = {
        "lowering": {"lowering": "rolled"},
        "state": {"state": "kept"},
        "bidirectional": {"bidirectional": "both"},
        "on_unsupported": {"on_unsupported": "drop"},
        "quantization": {"quantization": "int4"},
        "target": {"target": "phone"},
        "io_dtype": {"io_dtype": "int8"},
        "batch_size": {"batch_size": 0},
        "batch_size-of-another": {"batch_size": 2},
        "time_steps-of-another": {"time_steps": 5},
        "max_error": {"max_error": 0.1},
        "dataset-alone": {"representative_dataset": samples(BATCH, TIME, INPUTS)},
        "int8-without-dataset": {"quantization": "int8"},
        "int8-dataset-shape": int8 | {"representative_dataset": samples(BATCH, TIME, 4)},
        "int8-loop": int8 | {"lowering": "loop"},
        "int8-compiled": int8 | {"target": "compiled"},
        "dynamic-micro": {"quantization": "dynamic", "target": "micro"},
        "carry-loop": {"state": "carry", "lowering": "loop"},
    }
    return {f"refused-{name}": case(lstm, **each) for name, each in options.items()}


def refused_model_cases() -> dict[str, Case]:
    """Models that cannot be converted exactly."""
    import keras
    import tensorflow as tf

    layers, spec = keras.layers, tf.TensorSpec([None, TIME, INPUTS], name="steps")
    odd = {"recurrent_activation": "hard_sigmoid", "name": "recurrent"}

    def open_batch() -> Any:
        clips = keras.Input((None, TIME, INPUTS), name="clips")
        return keras.Model(clips, layers.TimeDistributed(layers.LSTM(UNITS, name="recurrent"))(clips))

    padded = [tf.TensorSpec([None, TIME, INPUTS], name="x"), tf.TensorSpec([None, TIME], name="padding")]
    normalized = {"input_signature": padded, "state": "explicit"}
    return {
        "refused-gru": case(lambda: functional(layers.GRU(UNITS, name="recurrent"))),
        "refused-activation": case(lambda: functional(layers.Bidirectional(layers.LSTM(UNITS, **odd)))),
        "refused-left-padding": case(lambda: masked(layers.LSTM(UNITS, name="recurrent"), "left")),
        "refused-mask-carried": case(lambda: masked(layers.LSTM(UNITS, name="recurrent")), state="carry"),
        "refused-mask-simple": case(lambda: masked(layers.SimpleRNN(UNITS, go_backwards=True, name="simple"))),
        "refused-no-lstm": case(lambda: functional(layers.Dense(2))),
        "refused-no-signature": case(lambda: layers.LSTM(UNITS, name="recurrent")),
        "refused-open-batch": case(open_batch),
        "refused-function-state": case(lambda: layers.LSTM(UNITS).__call__, input_signature=[spec], state="carry"),
        "refused-open-time": case(lambda: functional(layers.LSTM(UNITS), time=None), lowering="unrolled"),
        "refused-lingvo-padding": case(lambda: lingvo_rnn(normalized=True), **normalized),
        "refused-weights": case(lambda: [gate_weights(), gate_weights(7, 4)]),
        "refused-no-model": case(lambda: 7),
    }


def refused_source_cases() -> dict[str, Case]:
    """Functions and files that cannot be converted, lowered or repaired, and models that cannot be int8."""
    import keras
    import tensorflow as tf

    import lstm_toolkit

    layers, spec = keras.layers, tf.TensorSpec([BATCH, TIME, INPUTS], name="steps")
    int8 = {"quantization": "int8", "representative_dataset": samples(BATCH, TIME, INPUTS), "time_steps": TIME}

    def lower_dynamic() -> bytes:
        model = functional(layers.LSTM(UNITS, name="recurrent"))
        return lstm_toolkit.lower(lstm_toolkit.convert(model, quantization="dynamic", verify=False).tflite)

    def wrong_order() -> Any:
        operands = {"x": "input", "w": "kernel", "u": "recurrent_kernel", "b": "bias"}
        marked, weights = lstm_toolkit.composite(operands=operands, gates="ifco")(packed_lstm("cifo")), packed_weights()
        return lambda x: marked(x, *weights)

    def loop() -> Any:
        model = functional(layers.LSTM(UNITS))
        return tf.function(lambda steps: model(steps)).get_concrete_function(spec)

    return {
        "refused-saved-loop": saved(lambda: functional(layers.LSTM(UNITS), batch=None), "", fusable=False),
        "refused-loop": case(loop),
        "refused-missing-file": case(lambda: "no_such_model.keras"),
        "refused-wrong-function": case(wrong_order, input_signature=[spec], verify=True),
        "refused-int8-cell-state": case(lambda: functional(layers.LSTM(UNITS, return_state=True)), **int8),
        "refused-int8-peephole": case(lambda: gate_weights(peephole=True, outputs=4), batch_size=BATCH, **int8),
        "refused-lower": lower_dynamic,
        "refused-lower-form": lowered(lambda: functional(layers.LSTM(UNITS)), form="rolled"),
        "refused-repair-code": repaired(lambda: b"", codes=["nothing"]),
        "refused-repair-file": repaired(lambda: b"no file"),
    }


def refused_cases() -> dict[str, Case]:
    """All cases that must be refused, by name."""
    return refused_option_cases() | refused_model_cases() | refused_source_cases()


# One checkout


def build(checkout: Path, folder: Path, names: Sequence[str]) -> None:
    """Builds cases with the package of a checkout, in this process, into a folder.

    Each case gives NAME.tflite and NAME.json, or NAME.txt if it is refused. `cases.json` lists the cases.

    Raises:
        SystemExit: if the package is not that of the checkout, or there is no case of a name.
    """
    import keras
    import tf_keras

    import lstm_toolkit

    if not Path(lstm_toolkit.__file__).resolve().is_relative_to(checkout.resolve()):
        raise SystemExit(f"the package is {lstm_toolkit.__file__}, which is not in {checkout}")
    with_file, refused = file_giving_cases(), refused_cases()
    cases = with_file | refused
    unknown = sorted(set(names) - set(cases))
    if unknown:
        raise SystemExit(f"there is no case {', '.join(unknown)}; there are {', '.join(cases)}")
    chosen = [name for name in cases if not names or name in names]
    listed = {"version": lstm_toolkit.__version__, "refused": {name: name in refused for name in chosen}}
    (folder / "cases.json").write_text(json.dumps(listed))
    # Keras collects garbage between the cases; what the libraries made when they were loaded need not be looked at.
    gc.freeze()
    for name in chosen:
        # Names that Keras gives, such as lstm_3, count on from case to case without this.
        keras.utils.clear_session()
        tf_keras.backend.clear_session()
        start = time.perf_counter()
        build_one(folder / name, cases[name], log=name in with_file)
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)


def build_one(path: Path, build_case: Case, *, log: bool) -> None:
    """Writes what a case gives; with `log`, a refusal leaves its traceback on standard error."""
    try:
        tflite, values = parts(build_case())
    except Exception as error:  # refusals are a part of what is compared, whatever their type
        if log:
            traceback.print_exc()
        message = re.sub(re.escape(tempfile.gettempdir()) + r"/[^\s'\"]*", "FOLDER", str(error))
        path.with_name(f"{path.name}.txt").write_text(f"{type(error).__name__}: {message}")
        return
    if tflite is not None:
        path.with_name(f"{path.name}.tflite").write_bytes(tflite)
    path.with_name(f"{path.name}.json").write_text(json.dumps(values, indent=1, sort_keys=True))


def parts(result: Any) -> tuple[bytes | None, Any]:
    """The file of a result, and the facts beside it as values that JSON can hold."""
    if isinstance(result, Facts):
        return result.tflite, result.values
    if isinstance(result, bytes):
        return result, None
    if hasattr(result, "changes"):
        changes = [(change.code, change.what) for change in result.changes]
        return result.tflite, {"changes": changes, "left": [(each.code, each.message) for each in result.left]}
    report = result.report
    facts = {
        "layers": [(each.name, each.layer_class, each.op, each.reason) for each in report.layers],
        "ops": dict(report.ops),
        "verified": report.max_abs_error is not None,
        "quantization": report.quantization.to_dict() if report.quantization else None,
        "runtime": result.runtime,
    }
    return result.tflite, facts


# Both checkouts


def start(checkout: Path, folder: Path, names: Sequence[str]) -> float:
    """Builds cases in a process of its own; returns the seconds that it took.

    Raises:
        SystemExit: if the process fails, with the end of what it wrote.
    """
    folder.mkdir(parents=True)
    command = [sys.executable, str(Path(__file__).resolve()), str(checkout), "--build", str(folder.resolve())]
    command += [word for name in names for word in ("--case", name)]
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "PYTHONDONTWRITEBYTECODE": "1"}
    begin = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        environment = os.environ | settings | {"PYTHONPATH": str(checkout)}
        status = subprocess.run(command, cwd=checkout, env=environment, stdout=log, stderr=log).returncode
    if status:
        last = "\n".join((folder / "log.txt").read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(f"{last}\nthe process for {checkout} ended with {status}")
    return time.perf_counter() - begin


def compare(name: str, one: Path, other: Path, *, refused: bool, same_version: bool) -> tuple[str, str]:
    """What a case gives, and what differs about it; the latter is empty if nothing does."""
    paths = [(one / f"{name}{suffix}", other / f"{name}{suffix}") for suffix in (".tflite", ".json", ".txt")]
    files, facts, refusals = ([path.read_bytes() if path.exists() else None for path in pair] for pair in paths)
    texts = [each.decode() if each is not None else "not refused" for each in refusals]
    if refusals[0] != refusals[1]:
        return "refusal", f"{texts[0]!r:.200} here, {texts[1]!r:.200} there"
    if refusals[0] is not None:
        return "refusal", "" if refused else f"fails in both: {texts[0]!r}"
    if refused:
        return "no refusal", "is refused in neither"
    what = "facts" if files[0] is None else f"{len(files[0]):,} bytes"
    if files[0] is not None and files[1] is not None and files[0] != files[1]:
        found = file_difference(files[0], files[1], same_version=same_version)
        if found:
            return what, found
    if facts[0] != facts[1]:
        return what, f"facts: {first_difference(*(json.loads(each or b'null') for each in facts)) or 'one is missing'}"
    return what, "" if (files[0] is None) == (files[1] is None) else "one has no file"


def file_difference(one: bytes, other: bytes, *, same_version: bool) -> str:
    """Where two files differ, apart from their description if the versions differ; empty if nowhere."""
    from ai_edge_litert.tools import flatbuffer_utils

    models = [flatbuffer_utils.read_model_from_bytearray(bytearray(each)) for each in (one, other)]
    if not same_version:
        for model in models:
            if (model.description or b"").startswith(b"lstm_toolkit "):
                model.description = b"lstm_toolkit"
        if len({bytes(flatbuffer_utils.convert_object_to_bytearray(model)) for model in models}) == 1:
            return ""
    found = first_difference(*models)
    return f"file: {found or 'the same content in another order of bytes'}"


def first_difference(one: Any, other: Any, path: str = "") -> str:
    """Where two trees of values first differ, with both values; empty if nowhere."""
    if type(one) is not type(other):
        return f"{path}: {one!r:.80} here, {other!r:.80} there"
    if isinstance(one, np.ndarray):
        if one.shape != other.shape:
            return f"{path}: arrays of shape {one.shape} here, {other.shape} there"
        unlike = np.count_nonzero(one != other)
        return f"{path}: {unlike} of {one.size} values" if unlike else ""
    if isinstance(one, dict) or hasattr(one, "__dict__"):
        pairs = [each if isinstance(each, dict) else vars(each) for each in (one, other)]
        keys = sorted({*pairs[0], *pairs[1]})
        children = [(f".{key}", pairs[0].get(key), pairs[1].get(key)) for key in keys]
    elif isinstance(one, list):
        if len(one) != len(other):
            return f"{path}: {len(one)} here, {len(other)} there"
        children = [(f"[{number}]", *pair) for number, pair in enumerate(zip(one, other, strict=True))]
    else:
        return "" if one == other else f"{path}: {one!r:.80} here, {other!r:.80} there"
    return next((found for name, a, b in children if (found := first_difference(a, b, path + name))), "")


def run(other: Path, folder: Path, names: Sequence[str]) -> int:
    """Builds and compares the cases of both checkouts, and prints a row for each; returns the number that differ."""
    checkouts = {"here": Path(__file__).resolve().parent.parent, "there": other.resolve()}
    for place, checkout in checkouts.items():
        seconds = start(checkout, folder / place, names)
        print(f"{place}: {checkout}, {seconds:.0f} s", flush=True)
    one, two = (folder / place for place in checkouts)
    listed, also = (json.loads((path / "cases.json").read_text()) for path in (one, two))
    different = 0
    for name, refused in listed["refused"].items():
        same_version = listed["version"] == also["version"]
        what, difference = compare(name, one, two, refused=refused, same_version=same_version)
        different += bool(difference)
        print(f"{name:32} {what:>14}  {f'DIFFERENT: {difference}' if difference else 'equal'}")
    total = len(listed["refused"])
    print(f"{total} cases: {total - different} equal, {different} different")
    return different


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="the other checkout")
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="build this case alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what was built in this new folder")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (arguments.checkout / "lstm_toolkit" / "__init__.py").is_file():
        parser.error(f"there is no package lstm_toolkit in {arguments.checkout}")
    if arguments.keep is not None and arguments.keep.exists():
        parser.error(f"{arguments.keep} is there already")
    if arguments.build is not None:
        build(arguments.checkout, arguments.build, arguments.case)
        return
    with tempfile.TemporaryDirectory() as temporary:
        different = run(arguments.checkout, arguments.keep or Path(temporary) / "built", arguments.case)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
