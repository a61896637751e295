"""Random weights as the frameworks pack them, without the frameworks, and weights with everything that the op takes."""

import numpy as np

from lstm_toolkit import GateWeights

UNITS, INPUTS, OUTPUTS = 5, 3, 4


class Cell:
    """What a Lingvo cell shows of itself."""

    name = "cell"

    def __init__(self, random, *, coupled=False, projection=False, normalized=False, bias=True, forget_gate_bias=0.0):
        outputs, columns = OUTPUTS if projection else UNITS, (3 if coupled else 4) * UNITS
        shapes = {"wm": (INPUTS + outputs, columns)}
        shapes |= {"b": (columns,)} if bias else {}
        shapes |= {"w_proj": (UNITS, OUTPUTS)} if projection else {}
        shapes |= {"ln_scale": (columns,)} if normalized else {}
        self.theta = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        self.num_input_nodes, self.couple_input_forget_gates = INPUTS, coupled
        self.forget_gate_bias = forget_gate_bias


def keras_arrays(random, units=UNITS):
    shapes = [(INPUTS, 4 * units), (units, 4 * units), (4 * units,)]
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


def torch_state(random, *, suffixes=("",), projection=False):
    outputs = OUTPUTS if projection else UNITS
    shapes = {"weight_ih": (4 * UNITS, INPUTS), "weight_hh": (4 * UNITS, outputs)}
    shapes |= {"bias_ih": (4 * UNITS,), "bias_hh": (4 * UNITS,)}
    shapes |= {"weight_hr": (OUTPUTS, UNITS)} if projection else {}
    return {
        f"{name}_l0{suffix}": random.normal(size=shape).astype(np.float32)
        for suffix in suffixes
        for name, shape in shapes.items()
    }


def everything(random):
    """Weights with everything that the op takes."""
    operands = {}
    for gate in ("input", "forget", "cell", "output"):
        operands[f"input_to_{gate}_weights"] = random.normal(size=(UNITS, INPUTS))
        operands[f"recurrent_to_{gate}_weights"] = random.normal(size=(UNITS, OUTPUTS))
        operands[f"{gate}_gate_bias"] = random.normal(size=UNITS)
        operands[f"{gate}_layer_norm_coefficients"] = random.normal(size=UNITS)
        if gate != "cell":
            operands[f"cell_to_{gate}_weights"] = random.normal(size=UNITS)
    operands |= {"projection_weights": random.normal(size=(OUTPUTS, UNITS))}
    operands |= {"projection_bias": random.normal(size=OUTPUTS)}
    return GateWeights.from_operands(operands)


class Layer:
    """What a Keras layer shows of itself."""

    name = "layer"

    def __init__(self, arrays, **others):
        self.arrays = arrays
        for name, value in others.items():
            setattr(self, name, value)

    def get_weights(self):
        return self.arrays
