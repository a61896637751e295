"""The fused op's arithmetic in NumPy and float64: the oracle that every other code path is held against.

It is written from the op's contract (`tflite/kernels/internal/reference` and `lstm_eval.cc` of LiteRT) and shares no
code with what traces, converts or runs models.
"""

from collections.abc import Callable

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
    parts = {name: array.astype(np.float64) for name, array in weights.operands()}
    steps = np.asarray(x, np.float64)
    steps = steps if time_major else steps.swapaxes(0, 1)
    batch = steps.shape[1]
    h_now = np.zeros((batch, weights.output_size)) if h is None else np.asarray(h, np.float64)
    c_now = np.zeros((batch, weights.units)) if c is None else np.asarray(c, np.float64)
    act = ACTIVATIONS[activation]

    def gate(name: str, step: Float64, peephole_cell: Float64 | None) -> Float64:
        recurrent = parts[f"recurrent_to_{name}_weights"]
        z = step @ parts[f"input_to_{name}_weights"].T
        z = z + (h_now * recurrent if recurrent.ndim == 1 else h_now @ recurrent.T)
        if peephole_cell is not None and f"cell_to_{name}_weights" in parts:
            z = z + peephole_cell * parts[f"cell_to_{name}_weights"]
        if f"{name}_layer_norm_coefficients" in parts:
            centered = z - z.mean(axis=-1, keepdims=True)
            variance = (centered**2).mean(axis=-1, keepdims=True)
            z = centered / np.sqrt(variance + LAYER_NORM_EPSILON) * parts[f"{name}_layer_norm_coefficients"]
        return z + parts.get(f"{name}_gate_bias", 0.0)

    outputs = np.empty((len(steps), batch, weights.output_size))
    for t, step in enumerate(steps):
        forget = _sigmoid(gate("forget", step, c_now))
        admit = _sigmoid(gate("input", step, c_now)) if weights.has_input_gate else 1.0 - forget
        c_now = forget * c_now + admit * act(gate("cell", step, None))
        if cell_clip > 0:
            c_now = np.clip(c_now, -cell_clip, cell_clip)
        h_now = _sigmoid(gate("output", step, c_now)) * act(c_now)
        if "projection_weights" in parts:
            h_now = h_now @ parts["projection_weights"].T + parts.get("projection_bias", 0.0)
            if proj_clip > 0:
                h_now = np.clip(h_now, -proj_clip, proj_clip)
        outputs[t] = h_now
    return (outputs if time_major else outputs.swapaxes(0, 1)), h_now, c_now


def _sigmoid(z: Float64) -> Float64:
    return 0.5 * (1.0 + np.tanh(0.5 * z))
