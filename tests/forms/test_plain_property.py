"""Random Keras models as plain ops: cells of every kind with any activations agree with the model.

`LSTM_TOOLKIT_EXAMPLES` sets how many models are tried.
"""

import os
from typing import Any

import keras
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import lstm_toolkit
from tests.helpers.calls import assert_agrees
from tests.helpers.files import op_counts
from tests.helpers.forms import RECURRENT, call
from tests.helpers.masks import blanked, mask_of
from tests.helpers.models import randomized
from tests.helpers.properties import of_models

EXAMPLES = int(os.environ.get("LSTM_TOOLKIT_EXAMPLES", "15"))
INPUTS = 3
BENT = ("tanh", "softsign", "softmax", "sigmoid", "hard_sigmoid", "hard_tanh")
if hasattr(keras.activations, "sparse_sigmoid"):  # Keras 3.8 has none
    BENT += ("sparse_sigmoid",)
STRAIGHT = (
    *("gelu", "leaky_relu", "selu", "softplus", "mish", "celu", "hard_silu", "silu", "elu", "relu", "relu6", "linear"),
    *("soft_shrink", "sparse_plus", "tanh_shrink", "log_sigmoid"),
)
CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)


@st.composite
def cells(draw: Any) -> Any:
    cls = draw(st.sampled_from(CELLS))
    options = {"activation": draw(st.sampled_from(BENT + STRAIGHT)), "use_bias": draw(st.booleans())}
    if cls is not layers.SimpleRNNCell:
        options["recurrent_activation"] = draw(st.sampled_from(BENT))
    if cls is layers.GRUCell:
        options["reset_after"] = draw(st.booleans())
    return cls, options | {"units": draw(st.integers(1, 5))}


@of_models(max(3, EXAMPLES // 3))
@given(
    stack=st.lists(cells(), min_size=1, max_size=3),
    masked=st.booleans(),
    options=st.fixed_dictionaries({"go_backwards": st.booleans(), "return_sequences": st.booleans()}),
    lowering=st.sampled_from(["unrolled", "loop"]),
    batch=st.integers(1, 3),
    time=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_random_plain_models_agree(stack, masked, options, lowering, batch, time, seed):
    inputs = keras.Input((time, INPUTS), name="steps")
    x = layers.Masking()(inputs) if masked else inputs
    # Over a mask, Keras fails on a stack of one LSTM cell.
    own = [cls(**own_options) for cls, own_options in stack]
    layer = layers.RNN(own if len(own) > 1 else own[0], **options)
    # Small weights keep the states of unbounded activations from growing with every step.
    model = randomized(keras.Model(inputs, layer(x)), seed, scale=0.3)
    conversion = lstm_toolkit.convert(model, batch_size=batch, lowering=lowering, verify=False)
    assert not (RECURRENT | {"CUSTOM"}) & set(op_counts(conversion.tflite))
    random, calls = np.random.default_rng(seed), []
    for _ in range(3):
        array = random.normal(size=(batch, time, INPUTS)).astype(np.float32)
        calls.append({"steps": blanked(array, mask_of(seed, batch, time)) if masked else array})
    assert_agrees(conversion.tflite, calls, [call(model, arrays) for arrays in calls], relative=True)
