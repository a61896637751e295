"""Random Keras models of recurrent layers: the file agrees with the model, or the conversion says why there is none.

`LSTM_TOOLKIT_EXAMPLES` sets how many models are tried.
"""

import dataclasses
import os
from typing import Any

import keras
import numpy as np
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from keras import layers

import lstm_toolkit
from tests.helpers.calls import assert_agrees
from tests.helpers.forms import BI, BI_RNN, MERGES, UNI, UNI_RNN, assert_ops, call
from tests.helpers.masks import blanked, mask_of
from tests.helpers.models import randomized
from tests.helpers.properties import of_models

EXAMPLES = int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", "8"))
KINDS = ("LSTM", "Bidirectional", "RNN", "RNN of both", "SimpleRNN", "Bidirectional(SimpleRNN)")


@dataclasses.dataclass(frozen=True)
class Part:
    """One recurrent layer and what stands before it."""

    kind: str
    units: int
    other_units: int
    activation: str
    go_backwards: bool
    use_bias: bool
    zero_output_for_mask: bool
    unroll: bool
    merge_mode: str | None
    before: str | None


@dataclasses.dataclass(frozen=True)
class Form:
    """A model and how to convert it."""

    parts: tuple[Part, ...]
    return_sequences: bool
    masked: bool
    batch: int
    time: int | None
    size: int
    state: str
    bidirectional: str
    time_major: bool
    seed: int


@st.composite
def parts(draw: Any, *, masked: bool, last: bool) -> Part:
    kind = draw(st.sampled_from(KINDS))
    merge_mode = draw(st.sampled_from(MERGES if last else MERGES[:4]))
    units = draw(st.integers(1, 6))
    return Part(
        kind=kind,
        units=units,
        # Keras takes unequal directions to be of equal width when it builds the layer behind them.
        other_units=draw(st.integers(1, 6))
        if kind.startswith("RNN") or (last and merge_mode in ("concat", None))
        else units,
        activation=draw(st.sampled_from(["tanh", "tanh", "relu", "relu6", "hard_tanh"])),
        go_backwards=draw(st.booleans()),
        use_bias=draw(st.booleans()),
        zero_output_for_mask=masked and draw(st.booleans()),
        unroll=draw(st.booleans()),
        merge_mode=merge_mode,
        before=draw(st.sampled_from([None, None, "Dense", "Dropout", "LayerNormalization"])),
    )


@st.composite
def forms(draw: Any) -> Form:
    state = draw(st.sampled_from(["auto", "reset", "carry", "explicit"]))
    # A state that is carried past padding is refused.
    masked = state != "carry" and draw(st.booleans())
    number = draw(st.integers(1, 3))
    return Form(
        parts=tuple(draw(parts(masked=masked, last=n == number - 1)) for n in range(number)),
        return_sequences=draw(st.booleans()),
        masked=masked,
        batch=draw(st.integers(1, 3)),
        time=draw(st.none() | st.integers(1, 8)),
        size=draw(st.integers(1, 6)),
        state=state,
        bidirectional=draw(st.sampled_from(["fused", "split"])),
        time_major=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


def recurrent(part: Part, form: Form, *, return_sequences: bool) -> Any:
    shared = {
        "return_sequences": return_sequences,
        "zero_output_for_mask": part.zero_output_for_mask,
        "unroll": part.unroll and form.time is not None,
    }
    own = {"activation": part.activation, "use_bias": part.use_bias}
    if part.kind == "LSTM":
        return layers.LSTM(part.units, go_backwards=part.go_backwards, **own, **shared)
    if part.kind == "SimpleRNN":
        return layers.SimpleRNN(part.units, go_backwards=part.go_backwards, **own, **shared)
    if part.kind.startswith("RNN"):
        other = layers.LSTMCell if part.kind == "RNN" else layers.SimpleRNNCell
        cells = [layers.LSTMCell(part.units, **own), other(part.other_units, **own)]
        return layers.RNN(cells, go_backwards=part.go_backwards, **shared)
    one = layers.LSTM if part.kind == "Bidirectional" else layers.SimpleRNN
    backward = one(part.other_units, go_backwards=True, **own, **shared)
    return layers.Bidirectional(one(part.units, **own, **shared), backward_layer=backward, merge_mode=part.merge_mode)


def before(name: str) -> Any:
    return {"Dense": lambda: layers.Dense(3), "Dropout": lambda: layers.Dropout(0.5)}.get(
        name, layers.LayerNormalization
    )()


def build(form: Form) -> Any:
    inputs = x = keras.Input((form.time, form.size), name="steps")
    if form.masked:
        x = layers.Masking()(x)
    for number, part in enumerate(form.parts):
        if part.before:
            x = before(part.before)(x)
        x = recurrent(part, form, return_sequences=form.return_sequences or number < len(form.parts) - 1)(x)
    model = randomized(keras.Model(inputs, x), form.seed)
    # Unbounded activations would let the states of a random recurrent kernel grow with every step.
    for variable in model.trainable_variables:
        if variable.name == "recurrent_kernel":
            variable.assign(variable * (0.9 / max(1.0, float(np.linalg.norm(np.asarray(variable), 2)))))
    return model


def expected_ops(form: Form) -> dict[str, int]:
    counts = dict.fromkeys((UNI, BI, UNI_RNN, BI_RNN), 0)
    for part in form.parts:
        if part.kind.startswith("Bidirectional"):
            simple, fused = part.kind != "Bidirectional", form.bidirectional == "fused"
            # Unequal directions whose states the file reads and sets stay two ops.
            fused = fused and (part.units == part.other_units or form.state != "explicit")
            # Over padding an op for both directions reads, for one of them, the padding first; only c can wait there.
            fused = fused and not (form.masked and (simple or form.state == "explicit"))
            op = (BI_RNN if simple else BI) if fused else (UNI_RNN if simple else UNI)
            counts[op] += 1 if fused else 2
        else:
            counts[UNI] += {"SimpleRNN": 0, "RNN": 2}.get(part.kind, 1)
            counts[UNI_RNN] += part.kind in ("SimpleRNN", "RNN of both")
    return {op: count for op, count in counts.items() if count}


def swapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value.swapaxes(0, 1) if value.ndim > 2 else value for name, value in arrays.items()}


@of_models(EXAMPLES, HealthCheck.filter_too_much)
@given(forms())
def test_random_models_agree(form):
    keras.backend.clear_session()
    model = build(form)
    conversion = lstm_toolkit.convert(
        model,
        batch_size=form.batch,
        state=form.state,
        bidirectional=form.bidirectional,
        time_major=form.time_major,
        verify=True,
    )
    assert_ops(conversion.tflite, expected_ops(form))
    if form.state not in ("auto", "reset"):
        return
    random, calls = np.random.default_rng(form.seed), []
    for time in (form.time,) * 3 if form.time else (7, 2, 12):
        array = random.normal(size=(form.batch, time, form.size)).astype(np.float32)
        calls.append({"steps": blanked(array, mask_of(form.seed, form.batch, time)) if form.masked else array})
    expected = [call(model, arrays) for arrays in calls]
    if form.time_major:
        calls, expected = list(map(swapped, calls)), list(map(swapped, expected))
    assert_agrees(conversion.tflite, calls, expected, relative=True)
