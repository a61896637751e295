"""Pass: an LSTM whose input gate is coupled to its forget gate (CIFG) gets an equal input gate of its own.

    before  [LSTM: input, -1, W_f, W_c, W_o, ...]       input gate = 1 - sigmoid(z_f)
    after   [LSTM: input, W_i, W_f, W_c, W_o, ...]      input gate = sigmoid(z_i), z_i = -z_f

sigmoid(-z) = 1 - sigmoid(z). Without layer normalization z is a sum of products with weights, so all of these change
their sign. With it, z is the normalized sum times coefficients plus bias, so only coefficients and bias do.
"""

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import RecurrentOp
from lstm_toolkit.weights.operands import OPERANDS

_WEIGHTS = ("input_to_forget_weights", "recurrent_to_forget_weights", "cell_to_forget_weights")


def uncouple(op: RecurrentOp) -> None:
    """Gives an LSTM op with a coupled input gate one of its own, in place.

    Raises:
        ConversionError: if its weights are not constants.
    """
    signs = dict.fromkeys(_WEIGHTS, 1 if op.is_normalized else -1)
    signs |= {"forget_gate_bias": -1, "forget_layer_norm_coefficients": -1}
    for forget in [name for name in signs if op.has(name)]:
        tensor = op.tensor(forget)
        values = graph.constant(op.model, tensor)
        if values is None:
            raise ConversionError(
                f"layer {op.layer!r}: its {forget} is not a constant; convert the source model again, whose weights are"
            )
        # "input_to_forget_weights" -> "input_to_input_weights", and so on: the gate is the last "forget" in it.
        operand = "input".join(forget.rsplit("forget", 1))
        name = "input".join(graph.text(tensor.name).rsplit("forget", 1))
        own = edit.add_constant(op.model, op.subgraph, name, signs[forget] * values)
        op.operator.inputs[OPERANDS.index(operand)] = own
