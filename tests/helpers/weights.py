"""Random weights by the names of the fused op's operands: in all shapes that it takes."""

import itertools

import numpy as np

INPUTS, UNITS, OUTPUTS = 5, 7, 4
VARIANTS = [
    dict(zip(("cifg", "peephole", "projection", "layer_norm"), values, strict=True))
    for values in itertools.product([False, True], repeat=4)
]


def random_operands(random, *, cifg, peephole, projection, layer_norm, diagonal=False, projection_bias=False):
    """Random weights by operand name, in the op's shapes."""
    gates = ("forget", "cell", "output") if cifg else ("input", "forget", "cell", "output")
    outputs = OUTPUTS if projection else UNITS
    shapes = {f"input_to_{gate}_weights": (UNITS, INPUTS) for gate in gates}
    shapes |= {f"recurrent_to_{gate}_weights": (UNITS,) if diagonal else (UNITS, outputs) for gate in gates}
    shapes |= {f"cell_to_{gate}_weights": (UNITS,) for gate in gates if peephole and gate != "cell"}
    shapes |= {f"{gate}_gate_bias": (UNITS,) for gate in gates}
    shapes |= {"projection_weights": (OUTPUTS, UNITS)} if projection else {}
    shapes |= {"projection_bias": (OUTPUTS,)} if projection_bias else {}
    shapes |= {f"{gate}_layer_norm_coefficients": (UNITS,) for gate in gates if layer_norm}
    return {name: random.normal(0.0, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}
