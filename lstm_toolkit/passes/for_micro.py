"""Pass: fused LSTMs get the form that TensorFlow Lite Micro's kernel takes.

    before  [LSTM: input, -1, W_f, W_c, W_o, ...]       with an input gate that is coupled to the forget gate
    after   [LSTM: input, W_i, W_f, W_c, W_o, ...]      with one of its own

Where a recurrent op has no such form, the file is refused, and its layers have to be plain ops there.
"""

from collections.abc import Mapping

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.coupled_gate import uncouple
from lstm_toolkit.runtime import targets
from lstm_toolkit.tflite.recurrent import recurrent_ops
from lstm_toolkit.tflite.types import Model


class NeedsPlainOps(ConversionError):
    """Some layers cannot be fused ops on the target.

    Attributes:
        reasons: why, by layer.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"layer {layer!r}: {reason}" for layer, reason in reasons.items()))
        self.reasons = reasons


def suit_micro(model: Model, *, integers: bool = False) -> None:
    """Gives every coupled input gate weights of its own, in place.

    Args:
        model: the file.
        integers: whether the ops will compute in 16x8.

    Raises:
        NeedsPlainOps: if the kernel does not take an op.
    """
    reasons: dict[str, str] = {}
    for op in recurrent_ops(model):
        if op.name == targets.MICRO_LSTM and op.is_coupled:
            uncouple(op)
        reason = targets.why_not_lstm(op) if op.name == targets.MICRO_LSTM else f"there is no op {op.name}"
        if not reason and integers:
            reason = targets.why_not_int16_lstm(op)
        if reason:
            reasons[op.layer] = reason
    if reasons:
        raise NeedsPlainOps(reasons)
