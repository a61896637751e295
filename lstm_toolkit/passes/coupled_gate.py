"""Pass: an LSTM whose input gate is coupled to its forget gate (CIFG) gets an equal input gate of its own.

    before  [LSTM: input, -1, W_f, W_c, W_o, ...]       input gate = 1 - sigmoid(z_f)
    after   [LSTM: input, W_i, W_f, W_c, W_o, ...]      input gate = sigmoid(z_i), z_i = -z_f

sigmoid(-z) = 1 - sigmoid(z). Without layer normalization z is a sum of products with weights, so all of these change
their sign. With it, z is the normalized sum times coefficients plus bias, so only coefficients and bias do.
"""

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import _COEFFICIENTS, _has, is_normalized
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import OPERANDS

_WEIGHTS = ("input_to_forget_weights", "recurrent_to_forget_weights", "cell_to_forget_weights")


def uncouple(model: Model, subgraph: Subgraph, operator: Operator) -> None:
    """Gives an LSTM op with a coupled input gate one of its own, in place.

    Raises:
        ConversionError: if its weights are not constants.
    """
    weights_sign = 1 if is_normalized(operator) else -1
    signs = dict.fromkeys(_WEIGHTS, weights_sign) | {"forget_gate_bias": -1, _COEFFICIENTS: -1}
    for forget, sign in signs.items():
        if not _has(operator, forget):
            continue
        tensor = subgraph.tensors[operator.inputs[OPERANDS.index(forget)]]
        values = graph.constant(model, tensor)
        if values is None:
            raise ConversionError(f"the operand {forget} of an LSTM op is not a constant")
        # "input_to_forget_weights" -> "input_to_input_weights", and so on: the gate is the last "forget" in it.
        operand = "input".join(forget.rsplit("forget", 1))
        name = "input".join(graph.text(tensor.name).rsplit("forget", 1))
        operator.inputs[OPERANDS.index(operand)] = edit.add_constant(model, subgraph, name, sign * values)
