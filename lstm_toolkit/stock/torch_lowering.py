"""How litert-torch lowers `lstm_toolkit.direction`: as a CUSTOM op with the same operands. It runs in the worker."""

from typing import Any

import torch
from litert_converter.mlir import ir
from litert_converter.mlir.dialects import stablehlo
from litert_torch.backend import lowerings

from lstm_toolkit.stock.torch_ops import LIBRARY
from lstm_toolkit.weights.operands import TORCH_COMPOSITE

assert LIBRARY is not None


@lowerings.lower(torch.ops.lstm_toolkit.direction)
def _lower(context: Any, x: Any, weights: Any, start: Any, *own: Any) -> list[Any]:
    _, kind, options = own
    # A call of this kind carries an op of TensorFlow Lite through StableHLO.
    found = stablehlo.custom_call(
        result=[_type(each) for each in context.node.meta["val"]],
        inputs=[x, *weights, *start],
        call_target_name=ir.StringAttr.get("tfl.custom"),
        has_side_effect=ir.BoolAttr.get(False),
        backend_config=ir.StringAttr.get(
            f'{{custom_code = "{TORCH_COMPOSITE}", custom_option = #tfl<const_bytes : "0x{options.upper()}">}}'
        ),
    )
    return list(found) if kind == "LSTM" else [found]


def _type(value: Any) -> Any:
    element = lowerings.utils.torch_dtype_to_ir_element_type(value.dtype)
    return ir.RankedTensorType.get(list(value.shape), element)
