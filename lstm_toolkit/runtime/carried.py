"""The states that a `.tflite` file carries from call to call, by the names that `Runner.state` gives them."""

from typing import Any

import numpy as np

from lstm_toolkit.tflite import files, graph, recurrent
from lstm_toolkit.weights.operands import STATES

_KINDS = dict(zip(STATES, ("h", "c"), strict=True))


def carried_states(data: bytes) -> dict[str, dict[str, Any]]:
    """Index, dtype and quantization of each carried state of a file, by name. A state that an op sets is not carried.

    Names are `NAME_h` and `NAME_c` of each layer in files that lstm_toolkit wrote, and those of the tensors in others.
    """
    model = files.read_model(data)
    main = model.subgraphs[0]
    named = {}
    for index in recurrent.carried_states(model, main):
        layer, _, kind = graph.text(main.tensors[index].name).rpartition("/")
        name = f"{layer}_{_KINDS[kind]}" if kind in _KINDS else graph.text(main.tensors[index].name)
        dtype = graph.DTYPES.get(main.tensors[index].type, np.float32)
        named[name] = {"index": index, "dtype": dtype, "quantization": graph.scale_of(main.tensors[index])}
    return named
