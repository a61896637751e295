"""The fused op's arithmetic in NumPy and float64: the oracle that every other code path is held against.

It is written from the op's contract (`tflite/kernels/internal/reference` and `lstm_eval.cc` of LiteRT) and shares no
code with what traces, converts or runs models.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from lstm_toolkit.weights.gate_weights import GateWeights

Float64 = npt.NDArray[np.float64]

LAYER_NORM_EPSILON = 1e-8
"""Added to the variance inside the root, as the kernel and Lingvo do."""

ACTIVATIONS: dict[str, Callable[[Float64], Float64]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "hard_tanh": lambda x: np.clip(x, -1.0, 1.0),
}
"""The cell activations that the op has.

The schema's `NONE` is not among them: for it the kernel leaves the buffer unwritten that the activation should fill
(`ApplyActivationToVector` in `tflite/kernels/internal/tensor_utils.h`).
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """What an LSTM holds at every step, float64, time first.

    Attributes:
        i, f, g, o: the input, forget, cell and output gate, [time, batch, units]. Without an input gate, i is 1 - f.
        c: the cell state after each step, [time, batch, units].
        h: the output, [time, batch, output_size].
    """

    i: Float64
    f: Float64
    g: Float64
    o: Float64
    c: Float64
    h: Float64


def lstm(  # noqa: PLR0913 (public)
    weights: GateWeights,
    x: npt.ArrayLike,
    *,
    h: npt.ArrayLike | None = None,
    c: npt.ArrayLike | None = None,
    activation: str = "tanh",
    cell_clip: float = 0.0,
    proj_clip: float = 0.0,
    time_major: bool = False,
) -> tuple[Float64, Float64, Float64]:
    """Runs one LSTM over a batch of sequences.

    Args:
        weights: the weights by gate.
        x: [batch, time, input_size], or [time, batch, input_size] with `time_major`.
        h: output state to start from, [batch, output_size]; zeros where None.
        c: cell state to start from, [batch, units]; zeros where None.
        activation: of the cell, a key of `ACTIVATIONS`; the gates are always sigmoid.
        cell_clip: bound of the cell state's absolute value; 0 for none.
        proj_clip: the same of the projected output; 0 for none.
        time_major: layout of `x` and of the outputs.

    Returns:
        Outputs [batch, time, output_size] (or time first), the last h and the last c, all float64.
    """
    sequence = np.asarray(x, np.float64)
    sequence = sequence if time_major else sequence.swapaxes(0, 1)
    batch = sequence.shape[1]
    h = np.zeros((batch, weights.output_size)) if h is None else np.asarray(h, np.float64)
    c = np.zeros((batch, weights.units)) if c is None else np.asarray(c, np.float64)
    each = steps(weights, sequence, h, c, activation=activation, clips=(cell_clip, proj_clip))
    h, c = (each.h[-1], each.c[-1]) if len(sequence) else (h, c)
    return (each.h if time_major else each.h.swapaxes(0, 1)), h, c


def steps(
    weights: GateWeights,
    x: Float64,
    h: Float64,
    c: Float64,
    *,
    activation: str = "tanh",
    clips: tuple[float, float] = (0.0, 0.0),
) -> Steps:
    """Runs one LSTM over a batch of sequences and keeps every gate of every step.

    Args:
        weights: the weights by gate.
        x: [time, batch, input_size].
        h: output state to start from, [batch, output_size].
        c: cell state to start from, [batch, units].
        activation: as for `lstm`.
        clips: `cell_clip` and `proj_clip` of `lstm`.
    """
    parts = {name: array.astype(np.float64) for name, array in weights.operands()}
    act, (cell_clip, proj_clip) = ACTIVATIONS[activation], clips
    size = (*x.shape[:2], weights.units)
    i, f, g, o, cells = np.empty((5, *size))
    kept = Steps(i, f, g, o, cells, np.empty((*x.shape[:2], weights.output_size)))
    for t, step in enumerate(x):
        kept.f[t] = _sigmoid(_gate_sum(parts, "forget", step, h, c))
        kept.i[t] = _sigmoid(_gate_sum(parts, "input", step, h, c)) if weights.has_input_gate else 1.0 - kept.f[t]
        kept.g[t] = act(_gate_sum(parts, "cell", step, h, None))
        c = kept.f[t] * c + kept.i[t] * kept.g[t]
        if cell_clip > 0:
            c = np.clip(c, -cell_clip, cell_clip)
        kept.o[t] = _sigmoid(_gate_sum(parts, "output", step, h, c))
        h = kept.o[t] * act(c)
        if "projection_weights" in parts:
            h = h @ parts["projection_weights"].T + parts.get("projection_bias", 0.0)
            if proj_clip > 0:
                h = np.clip(h, -proj_clip, proj_clip)
        kept.c[t], kept.h[t] = c, h
    return kept


def _gate_sum(
    parts: Mapping[str, Float64], name: str, step: Float64, h: Float64, peephole_cell: Float64 | None
) -> Float64:
    """What a gate's activation is applied to."""
    recurrent = parts[f"recurrent_to_{name}_weights"]
    z = step @ parts[f"input_to_{name}_weights"].T
    z = z + (h * recurrent if recurrent.ndim == 1 else h @ recurrent.T)
    if peephole_cell is not None and f"cell_to_{name}_weights" in parts:
        z = z + peephole_cell * parts[f"cell_to_{name}_weights"]
    if f"{name}_layer_norm_coefficients" in parts:
        centered = z - z.mean(axis=-1, keepdims=True)
        variance = (centered**2).mean(axis=-1, keepdims=True)
        z = centered / np.sqrt(variance + LAYER_NORM_EPSILON) * parts[f"{name}_layer_norm_coefficients"]
    return z + parts.get(f"{name}_gate_bias", 0.0)


def _sigmoid(z: Float64) -> Float64:
    return 0.5 * (1.0 + np.tanh(0.5 * z))
