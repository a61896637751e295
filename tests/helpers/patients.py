"""The example of the doctor's desk with other names, and what is asked of the desk in a process of its own."""

import sys
from collections.abc import Callable
from typing import Any

from ai_edge_litert.tools import flatbuffer_utils

from lstm_toolkit.panels import desk

HOSTILE = "\"><script>alert(1)</script>&\u202egnp.</h4>'"
"""A name that carries markup and turns text round."""


def edited(edit: Callable[[Any], Any]) -> bytes:
    """The example after an edit of its `ModelT`."""
    model = flatbuffer_utils.read_model_from_bytearray(desk.PATIENT.read_bytes())
    edit(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def renamed() -> bytes:
    """The example, in which every name is a hostile one."""

    def edit(model: Any) -> None:
        model.description = HOSTILE.encode()
        for number, tensor in enumerate(model.subgraphs[0].tensors):
            tensor.name = f"{HOSTILE}{number}".encode()
        for signature in model.signatureDefs:
            signature.signatureKey = HOSTILE.encode()
            for number, entry in enumerate([*signature.inputs, *signature.outputs]):
                entry.name = f"{HOSTILE}{number}".encode()

    return edited(edit)


def is_tensorflow_there(data: bytes) -> bool:
    """Whether TensorFlow is loaded after a file was examined and mended in this process."""
    examination = desk._of_tflite(data, "patient", None)
    desk._treated(examination, set())
    return "tensorflow" in sys.modules
