"""Small Keras models that the codelabs and widgets use; each is one way of writing an LSTM.

All take `seed`, so that two calls give the same weights, which are random and unlike in every gate. Inputs and outputs
are float32; `time_steps` and `batch_size` of None leave these sizes open.
"""

from collections.abc import Sequence
from typing import Any

import keras


def unidirectional(
    *,
    time_steps: int | None,
    input_size: int,
    units: int,
    return_sequences: bool = True,
    batch_size: int | None = None,
    seed: int = 0,
) -> Any:
    """One LSTM: [batch, time_steps, input_size] to [batch, time_steps, units], or [batch, units]."""
    inputs = keras.Input((time_steps, input_size), batch_size=batch_size, name="sequence")
    return _model(inputs, _lstm(units, seed, return_sequences=return_sequences)(inputs), "unidirectional")


def stacked(
    *,
    time_steps: int | None,
    input_size: int,
    units: Sequence[int],
    return_sequences: bool = True,
    batch_size: int | None = None,
    seed: int = 0,
) -> Any:
    """LSTMs one on the other, one an entry of `units`: to [batch, time_steps, units[-1]] or [batch, units[-1]]."""
    inputs = x = keras.Input((time_steps, input_size), batch_size=batch_size, name="sequence")
    for number, size in enumerate(units):
        is_last = number == len(units) - 1
        x = _lstm(size, seed + number, return_sequences=return_sequences or not is_last)(x)
    return _model(inputs, x, "stacked")


def bidirectional(  # noqa: PLR0913 (public)
    *,
    time_steps: int | None,
    input_size: int,
    units: int,
    merge_mode: str | None = "concat",
    return_sequences: bool = True,
    batch_size: int | None = None,
    seed: int = 0,
) -> Any:
    """A bidirectional LSTM: to [batch, time_steps, 2 * units] with merge mode "concat", else [..., units]."""
    inputs = keras.Input((time_steps, input_size), batch_size=batch_size, name="sequence")
    layer = keras.layers.Bidirectional(
        _lstm(units, seed, return_sequences=return_sequences),
        backward_layer=_lstm(units, seed + 1, return_sequences=return_sequences, go_backwards=True),
        merge_mode=merge_mode,
    )
    return _model(inputs, layer(inputs), "bidirectional")


def time_major(*, time_steps: int, batch_size: int, input_size: int, units: Sequence[int], seed: int = 0) -> Any:
    """LSTMs one on the other between [time_steps, batch_size, input_size] and [time_steps, batch_size, units[-1]].

    Keras 3 has only batch-major LSTMs, so the model transposes; `convert` leaves no transpose in the file.
    """
    inputs = keras.Input(batch_shape=(time_steps, batch_size, input_size), name="sequence")
    x = keras.ops.transpose(inputs, (1, 0, 2))
    for number, size in enumerate(units):
        x = _lstm(size, seed + number, return_sequences=True)(x)
    return _model(inputs, keras.ops.transpose(x, (1, 0, 2)), "time_major")


def stateful(
    *,
    time_steps: int | None,
    input_size: int,
    units: int,
    batch_size: int,
    return_sequences: bool = True,
    seed: int = 0,
) -> Any:
    """One LSTM with stateful=True, whose state lives on from one call to the next: shapes as of `unidirectional`."""
    inputs = keras.Input((time_steps, input_size), batch_size=batch_size, name="sequence")
    layer = _lstm(units, seed, return_sequences=return_sequences, stateful=True)
    return _model(inputs, layer(inputs), "stateful")


def _lstm(units: int, seed: int, **options: Any) -> Any:
    random = [keras.initializers.RandomNormal(stddev=0.5, seed=4 * seed + number) for number in range(3)]
    return keras.layers.LSTM(
        units,
        kernel_initializer=random[0],
        recurrent_initializer=random[1],
        bias_initializer=random[2],
        unit_forget_bias=False,
        **options,
    )


def _model(inputs: Any, outputs: Any, name: str) -> Any:
    return keras.Model(inputs, outputs, name=name)
