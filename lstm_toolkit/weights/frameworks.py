"""The packed weights of Keras, Lingvo and PyTorch: how each packs them, and how they are read from what holds them.

No framework is imported: an object is asked only for its arrays.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.weights.operands import GATES
from lstm_toolkit.weights.packing import Array, Packing, shapes_of

KERAS = Packing(
    gates=GATES,
    arrays={"kernel": "kernel", "recurrent_kernel": "recurrent_kernel", "bias": "bias"},
    holder="a Keras LSTM",
    couples=False,
)
"""Source: points 3 and 4 of the guide's contract, "kernel and recurrent_kernel are transposed", "split along dimension
0 into input gate, forget gate, cell and output gate"."""

LINGVO = Packing(
    gates=("cell", "input", "forget", "output"),
    arrays={"wm": "joint_kernel", "b": "bias", "w_proj": "projection", "ln_scale": "layer_norm"},
    holder="a Lingvo LSTMCellSimple",
)
"""All arrays that a theta may have; only `wm` is always there. Source: `lingvo/core/rnn_cell.py`: `wm` multiplies
[inputs, m], in that order."""

TORCH = Packing(
    gates=GATES,
    gate_axis=0,
    arrays={
        "weight_ih": "kernel",
        "weight_hh": "recurrent_kernel",
        "bias_ih": "bias",
        "bias_hh": "bias",
        "weight_hr": "projection",
    },
    holder="a PyTorch LSTM",
    couples=False,
)
"""Names without layer and direction. PyTorch writes the gates i, f, g, o: its g is the cell gate. Source: the section
"Variables" of `torch.nn.LSTM`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """Arrays by name, as a framework stores them, and their packing."""

    packing: Packing
    arrays: Mapping[str, npt.NDArray[Any]]

    def split(self) -> dict[str, Array]:
        """The operands of the fused op by name. Errors as for `Packing.split`."""
        return self.packing.split(self.arrays)


def read_keras(layer: Any) -> Packed:
    """The packed weights of a Keras LSTM. Argument, shapes, errors and source: `GateWeights.from_keras`."""
    arrays = layer.get_weights() if hasattr(layer, "get_weights") else list(layer)
    if len(arrays) not in (2, 3):
        raise ValueError(
            "expected kernel, recurrent_kernel and perhaps bias of one built Keras LSTM, "
            f"got {len(arrays)} array(s); a layer that was never called has no weights yet"
        )
    return Packed(KERAS, dict(zip(KERAS.arrays, map(np.asarray, arrays), strict=False)))


def read_lingvo(
    cell_or_theta: Any,
    *,
    num_input_nodes: int | None = None,
    forget_gate_bias: float | None = None,
    couple_input_forget_gates: bool | None = None,
) -> Packed:
    """The packed weights of a Lingvo cell. Arguments, shapes, errors and source: `GateWeights.from_lingvo`."""
    if hasattr(cell_or_theta, "theta"):
        given = (num_input_nodes, forget_gate_bias, couple_input_forget_gates)
        if any(option is not None for option in given):
            raise ValueError(
                "num_input_nodes, forget_gate_bias and couple_input_forget_gates are the cell's own: "
                "give them only beside a mapping"
            )
        num_input_nodes = cell_or_theta.num_input_nodes
        forget_gate_bias = cell_or_theta.forget_gate_bias
        couple_input_forget_gates = cell_or_theta.couple_input_forget_gates
        cell_or_theta = cell_or_theta.theta
    unknown = sorted(set(cell_or_theta) - set(LINGVO.arrays))
    if unknown or "wm" not in cell_or_theta:
        missing = [] if "wm" in cell_or_theta else ["wm"]
        raise ValueError(f"theta has arrays named {list(LINGVO.arrays)}; unknown: {unknown}; missing: {missing}")
    theta = {name: np.asarray(array, np.float32) for name, array in cell_or_theta.items()}
    packing = _lingvo_packing(theta, num_input_nodes, coupled=couple_input_forget_gates)
    return Packed(dataclasses.replace(packing, forget_gate_bias=forget_gate_bias or 0.0), theta)


def _lingvo_packing(theta: Mapping[str, Array], inputs: int | None, *, coupled: bool | None) -> Packing:
    """Finds out whether the input gate is coupled, and checks every shape."""
    _check_matrices(theta, ("wm", "w_proj"))
    rows, columns = theta["wm"].shape
    if "w_proj" in theta:
        hidden, outputs = theta["w_proj"].shape
    elif inputs is not None:
        hidden = outputs = rows - inputs
    elif coupled is not None:
        hidden = outputs = columns // (3 if coupled else 4)
    else:
        # [10, 24] is as well 8 cells of 3 gates as 6 cells of 4: nothing in the arrays tells them apart.
        raise ValueError("without w_proj, wm alone does not tell: give num_input_nodes or couple_input_forget_gates")
    packing = LINGVO.coupled() if (columns == 3 * hidden if coupled is None else coupled) else LINGVO
    inputs = rows - outputs if inputs is None else inputs
    if inputs < 1 or hidden < 1:
        raise ValueError(
            f"wm [num_input_nodes + num_output_nodes, {len(packing.gates)} * hidden] of shape {[rows, columns]} "
            f"leaves num_input_nodes = {inputs} and hidden = {hidden}"
        )
    packing.check(shapes_of(theta), {"units": hidden, "outputs": outputs, "inputs": inputs})
    return packing


def read_torch(module_or_state_dict: Any, *, layer: int = 0, reverse: bool = False) -> Packed:
    """The packed weights of a PyTorch LSTM's layer. Arguments, shapes, errors, source: `GateWeights.from_torch`."""
    state = module_or_state_dict
    state = state.state_dict() if hasattr(state, "state_dict") else state
    packing = torch_packing(layer=layer, reverse=reverse)
    arrays = {name: _array(state[name]) for name in packing.arrays if name in state}
    i_h, h_h, b_i, b_h, h_r = packing.arrays
    missing = [name for name in (i_h, h_h) if name not in arrays]
    missing += [name for name in (b_i, b_h) if name not in arrays and {b_i, b_h} & set(arrays)]
    if missing:
        raise ValueError(f"missing: {missing}; there are {sorted(state)}")
    _check_matrices(arrays, (i_h, h_h, h_r))
    inputs, outputs = arrays[i_h].shape[1], arrays[h_h].shape[1]
    units = arrays[h_r].shape[1] if h_r in arrays else outputs
    packing.check(shapes_of(arrays), {"units": units, "outputs": outputs, "inputs": inputs})
    return Packed(packing, arrays)


def torch_packing(*, layer: int, reverse: bool) -> Packing:
    """The packing of one layer and direction of a PyTorch LSTM, with the names that its `state_dict` has."""
    return TORCH.renamed(f"{{}}_l{layer}{'_reverse' if reverse else ''}")


def _array(value: Any) -> Array:
    # A tensor that needs a gradient, sits on another device or is bfloat16 has no direct way to NumPy.
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    return np.asarray(value, np.float32)


def _check_matrices(arrays: Mapping[str, npt.NDArray[Any]], names: Sequence[str]) -> None:
    for name in names:
        if name in arrays and arrays[name].ndim != 2:
            raise ValueError(f"{name} must have 2 dimensions, got shape {list(arrays[name].shape)}")
