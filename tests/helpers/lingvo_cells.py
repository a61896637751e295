"""Lingvo's cells: numbers that Lingvo itself computed, cells of random weights, and their arithmetic in NumPy."""

from pathlib import Path

import numpy as np

from lstm_toolkit import lingvo
from lstm_toolkit.weights.frameworks import LINGVO

GOLDEN = sorted((Path(__file__).parents[1] / "data" / "lingvo_golden").glob("*.npz"))
TOLERANCE = {"atol": 2e-5, "rtol": 0}
OPTIONS = (
    "num_input_nodes",
    "num_output_nodes",
    "num_hidden_nodes",
    "cell_value_cap",
    "forget_gate_bias",
    "couple_input_forget_gates",
    "enable_lstm_bias",
)
NORMALIZED = {False: lingvo.LSTMCellSimple, True: lingvo.LayerNormalizedLSTMCellSimple}


def golden(path):
    """A cell with the options and theta of a file, and the file's arrays."""
    arrays = dict(np.load(path))
    cell = getattr(lingvo, str(arrays["cell"]))(**{name: arrays[name].item() for name in OPTIONS})
    cell.load_theta({name: arrays[name] for name in LINGVO.arrays if name in arrays})
    return cell, arrays


def random_cell(random, *, normalized=False, **options):
    """A cell in which every parameter is random; 5 in, 4 out, 6 cells where it projects."""
    cell = NORMALIZED[normalized](num_input_nodes=5, num_output_nodes=4, **options)
    cell.load_theta({name: random.normal(0, 0.7, variable.shape) for name, variable in cell.theta.items()})
    return cell


def loop(cell, x, padding):
    """Lingvo's semantics written out in NumPy and float64: every step's m, and the last c."""
    theta = {name: variable.numpy().astype(np.float64) for name, variable in cell.theta.items()}
    hidden = cell.num_hidden_nodes or cell.num_output_nodes
    m, c = np.zeros((len(x), cell.num_output_nodes)), np.zeros((len(x), hidden))
    outputs = []
    for t in range(x.shape[1]):
        columns = np.concatenate([x[:, t], m], axis=1) @ theta["wm"]
        blocks = [columns[:, start : start + hidden] for start in range(0, columns.shape[1], hidden)]
        for number, block in enumerate(blocks):
            part = slice(number * hidden, (number + 1) * hidden)
            if "ln_scale" in theta:
                block = (block - block.mean(1, keepdims=True)) / np.sqrt(block.var(1, keepdims=True) + 1e-8)
                block = block * theta["ln_scale"][part]
            blocks[number] = block + (theta["b"][part] if "b" in theta else 0.0)
        f = 1 / (1 + np.exp(-(blocks[-2] + cell.forget_gate_bias)))
        i = 1 - f if len(blocks) == 3 else 1 / (1 + np.exp(-blocks[1]))
        new_c = f * c + i * np.tanh(blocks[0])
        if cell.cell_value_cap:
            new_c = np.clip(new_c, -cell.cell_value_cap, cell.cell_value_cap)
        new_m = (np.tanh(new_c) if cell.output_nonlinearity else new_c) / (1 + np.exp(-blocks[-1]))
        if "w_proj" in theta:
            new_m = new_m @ theta["w_proj"]
        for example in range(len(x)):
            if padding[example, t] == 0:
                m[example], c[example] = new_m[example], new_c[example]
        outputs.append(m.copy())
    return np.stack(outputs, axis=1), c
