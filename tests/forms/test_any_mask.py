"""Any mask over any masked form and lowering: the file agrees with Keras, whatever stands at the padded steps.

`LSTM_TOOLKIT_EXAMPLES` sets how many models are tried.
"""

import dataclasses
import os
from typing import Any

import keras
import numpy as np
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from keras import layers

import lstm_toolkit
from tests.helpers.calls import Arrays, assert_agrees
from tests.helpers.forms import FORBIDDEN, MERGES, call
from tests.helpers.masks import KINDS, blanked
from tests.helpers.models import randomized
from tests.helpers.properties import of_models

EXAMPLES = int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", "8"))
BATCH, SIZE = 3, 5
CELLS = {"LSTM": layers.LSTMCell, "GRU": layers.GRUCell, "SimpleRNN": layers.SimpleRNNCell}


@dataclasses.dataclass(frozen=True)
class Form:
    """A masked model, how it is converted, and the masks of its calls."""

    kind: str
    second: str | None
    units: int
    activation: str
    go_backwards: bool
    bidirectional: bool
    merge_mode: str | None
    return_sequences: bool
    return_state: bool
    zero_output_for_mask: bool
    unroll: bool
    given_state: bool
    source: str
    behind: str
    time: int | None
    lowering: str
    option: str
    kinds: tuple[tuple[str, ...], ...]
    padding: float
    seed: int


@st.composite
def forms(draw: Any) -> Form:
    kind = draw(st.sampled_from(["LSTM", "LSTM", "SimpleRNN", "GRU"]))
    lowering = draw(st.sampled_from(["unrolled", "loop"] if kind == "GRU" else ["fused", "unrolled", "loop"]))
    second = draw(st.none() | st.sampled_from(["LSTM", "SimpleRNN", *(["GRU"] if lowering != "fused" else [])]))
    bidirectional = second is None and draw(st.booleans())
    source = draw(st.sampled_from(["embedding", "masking", "input"]))
    given_state = source == "input" and second is None and not bidirectional and draw(st.booleans())
    return_sequences, time = draw(st.booleans()), draw(st.none() | st.integers(1, 9))
    merge_mode = draw(st.sampled_from(MERGES))
    return_state = draw(st.booleans())
    if lowering == "unrolled" and time is None:
        lowering = "loop"
    behind = ["nothing", "layer", "tagger"] if return_sequences and not return_state else ["nothing"]
    rows = st.tuples(*[st.sampled_from(sorted(KINDS))] * BATCH)
    return Form(
        kind=kind,
        second=second,
        units=draw(st.integers(1, 6).filter(lambda units: units not in (BATCH, SIZE))),
        activation=draw(st.sampled_from(["tanh", "relu"] if lowering == "fused" else ["tanh", "relu", "sigmoid"])),
        go_backwards=not bidirectional and draw(st.booleans()),
        bidirectional=bidirectional,
        merge_mode=merge_mode,
        return_sequences=return_sequences,
        return_state=return_state,
        zero_output_for_mask=draw(st.booleans()),
        unroll=time is not None and draw(st.booleans()),
        given_state=given_state,
        source=source,
        behind=draw(st.sampled_from(behind)),
        time=time,
        lowering=lowering,
        option=draw(st.sampled_from(["fused", "split"])),
        kinds=tuple(draw(rows) for _ in range(3)),
        padding=draw(st.sampled_from([0.5, 1e4, 1e6])),
        seed=draw(st.integers(0, 1000)),
    )


def recurrent(form: Form) -> Any:
    options = {
        "return_sequences": form.return_sequences,
        "return_state": form.return_state,
        "zero_output_for_mask": form.zero_output_for_mask,
        "unroll": form.unroll,
        "go_backwards": form.go_backwards,
    }
    if form.second:
        kinds = ((form.kind, form.units), (form.second, 4))
        return layers.RNN([CELLS[kind](units, activation=form.activation) for kind, units in kinds], **options)
    layer = getattr(layers, form.kind)(form.units, activation=form.activation, **options)
    return layers.Bidirectional(layer, merge_mode=form.merge_mode) if form.bidirectional else layer


def build(form: Form) -> Any:
    if form.source == "embedding":
        inputs = [keras.Input((form.time,), dtype="int32", name="tokens")]
        x, options = layers.Embedding(11, SIZE, mask_zero=True)(inputs[0]), {}
    else:
        inputs = [keras.Input((form.time, SIZE), name="steps")]
        x, options = inputs[0], {}
        if form.source == "masking":
            x = layers.Masking(mask_value=form.padding)(x)
        else:
            inputs.append(keras.Input((form.time,), dtype="bool", name="valid"))
            options["mask"] = inputs[1]
    if form.given_state:
        start = [keras.Input((form.units,), name=f"state_{n}") for n in range(2 if form.kind == "LSTM" else 1)]
        inputs, options["initial_state"] = inputs + start, start
    outputs = recurrent(form)(x, **options)
    if form.behind != "nothing":
        behind = layers.LSTM(4) if form.behind == "layer" else layers.TimeDistributed(layers.Dense(4))
        behind = layers.GRU(4) if form.behind == "layer" and form.kind == "GRU" else behind
        outputs = [behind(each) for each in keras.tree.flatten(outputs)]
    return randomized(keras.Model(inputs, outputs), form.seed)


def calls_of(form: Form) -> list[Arrays]:
    """Three calls in a row, with masks of every kind, and padding that holds anything where the mask is an input."""
    random, calls = np.random.default_rng(form.seed), []
    for kinds, open_time in zip(form.kinds, (7, 2, 12), strict=True):
        time = form.time or open_time
        valid = np.stack([KINDS[kind](random, time) for kind in kinds])
        arrays: Arrays = {}
        if form.source == "embedding":
            arrays["tokens"] = blanked(random.integers(1, 11, (BATCH, time)).astype(np.int32), valid)
        else:
            steps = random.normal(size=(BATCH, time, SIZE)).astype(np.float32)
            arrays["steps"] = blanked(steps, valid, form.padding)
            arrays |= {"valid": valid} if form.source == "input" else {}
        if form.given_state:
            names = [f"state_{n}" for n in range(2 if form.kind == "LSTM" else 1)]
            arrays |= {name: random.normal(size=(BATCH, form.units)).astype(np.float32) for name in names}
        calls.append(arrays)
    return calls


# A smaller model takes as long to convert, so that shrinking would take minutes.
@of_models(EXAMPLES, HealthCheck.filter_too_much, phases=[Phase.generate])
@given(forms())
def test_any_mask_agrees(form):
    keras.backend.clear_session()
    model = build(form)
    conversion = lstm_toolkit.convert(
        model, batch_size=BATCH, lowering=form.lowering, bidirectional=form.option, verify=False
    )
    loops = {"WHILE"} if form.lowering == "loop" else set()
    assert not (FORBIDDEN - loops) & set(conversion.report.ops)
    calls = calls_of(form)
    # ReLU states are not bounded by 1, so the tolerance is relative to the largest output.
    assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls], relative=True)
