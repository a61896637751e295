"""The contract of TensorFlow Lite's fused LSTM op: which operand stands at which index.

Source: `tflite/kernels/lstm_shared.h` of LiteRT. Sizes there: `n_input` is the size of one input step,
`n_cell` the number of units, `n_output` the size of one output step (`n_cell` without a projection).
"""

GATES = ("input", "forget", "cell", "output")
"""The gates in the order in which the op takes them, which is also Keras's order (i, f, c, o)."""

INPUT_WEIGHTS = tuple(f"input_to_{gate}_weights" for gate in GATES)
"""Names of the input weights, each [n_cell, n_input]."""

RECURRENT_WEIGHTS = tuple(f"recurrent_to_{gate}_weights" for gate in GATES)
"""Names of the recurrent weights, each [n_cell, n_output]."""

PEEPHOLE_WEIGHTS = tuple(f"cell_to_{gate}_weights" for gate in GATES if gate != "cell")
"""Names of the peephole weights, each [n_cell]: the diagonal of a matrix. The cell gate has none."""

BIASES = tuple(f"{gate}_gate_bias" for gate in GATES)
"""Names of the biases, each [n_cell]."""

LAYER_NORM_COEFFICIENTS = tuple(f"{gate}_layer_norm_coefficients" for gate in GATES)
"""Names of the layer normalization coefficients, each [n_cell]."""

STATES = ("output_state", "cell_state")
"""Names of the variable tensors: h as [batch, n_output] and c as [batch, n_cell]."""

OPERANDS = (
    "input",
    *INPUT_WEIGHTS,
    *RECURRENT_WEIGHTS,
    *PEEPHOLE_WEIGHTS,
    *BIASES,
    "projection_weights",
    "projection_bias",
    *STATES,
    *LAYER_NORM_COEFFICIENTS,
)
"""Operand names of `UNIDIRECTIONAL_SEQUENCE_LSTM` by index, 0 to 23. An absent operand is -1 in the file."""

WEIGHT_OPERANDS = tuple(name for name in OPERANDS if name not in ("input", *STATES))
"""The operands that hold weights, in the order of the op."""

ABSENT = -1
"""The tensor index that stands for an operand that is not there."""

BIDIRECTIONAL_OPERANDS = (
    "input",
    *(f"{direction}_{name}" for direction in ("forward", "backward") for name in OPERANDS[1:18]),
    *(f"{direction}_{name}" for direction in ("forward", "backward") for name in STATES),
    "auxiliary_input",
    *(f"{direction}_auxiliary_{name}" for direction in ("forward", "backward") for name in INPUT_WEIGHTS),
)
"""Operand names of `BIDIRECTIONAL_SEQUENCE_LSTM` by index, 0 to 47 (`bidirectional_sequence_lstm.cc`)."""

RNN_OPERANDS = ("input", "weights", "recurrent_weights", "bias", "output_state")
"""Operand names of `UNIDIRECTIONAL_SEQUENCE_RNN`: weights [units, n_input], recurrent_weights [units, units], bias
[units], state [batch, units] (`unidirectional_sequence_rnn.cc`)."""

BIDIRECTIONAL_RNN_OPERANDS = (
    "input",
    *(f"{direction}_{name}" for direction in ("forward", "backward") for name in RNN_OPERANDS[1:]),
    "auxiliary_input",
    "forward_auxiliary_weights",
    "backward_auxiliary_weights",
)
"""Operand names of `BIDIRECTIONAL_SEQUENCE_RNN` by index, 0 to 11 (`bidirectional_sequence_rnn.cc`)."""

OPERANDS_OF = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": OPERANDS,
    "LSTM": OPERANDS,
    "BIDIRECTIONAL_SEQUENCE_LSTM": BIDIRECTIONAL_OPERANDS,
    "UNIDIRECTIONAL_SEQUENCE_RNN": RNN_OPERANDS,
    "BIDIRECTIONAL_SEQUENCE_RNN": BIDIRECTIONAL_RNN_OPERANDS,
}
"""Operand names of each fused op."""

LSTM_COMPOSITE = "lstm_toolkit.LSTM"
"""Name of the CUSTOM op that stands for an LSTM between tracing and grafting."""

SIMPLE_RNN_COMPOSITE = "lstm_toolkit.SimpleRNN"
"""The same of a simple recurrent layer."""

SHUT_GATE = 1e4
"""Added to a gate's sum it opens the gate exactly, subtracted it shuts it: the sigmoid is 1 or 0 in float32."""


CELL_COMPOSITE = "lstm_toolkit.Cell"
"""Name of the CUSTOM op that stands for a recurrent layer which no fused op can hold, until it is lowered."""

TORCH_COMPOSITE = "lstm_toolkit.Torch"
"""Name of the CUSTOM op that stands for a layer of a PyTorch module until its weights are read."""
