"""The smallest file that runs."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils


def sum_file(*, addend=1.0, signature=(2, 3)):
    """The bytes of a `.tflite` file with one ADD of a constant, [2, 3] to [2, 3]."""
    tensors = [schema.TensorT(shape=[2, 3], buffer=n, name=name) for n, name in enumerate(("x", "addend", "y"))]
    tensors[0].shapeSignature = list(signature)
    graph = schema.SubGraphT(
        tensors=tensors,
        inputs=[0],
        outputs=[2],
        operators=[
            schema.OperatorT(
                inputs=[0, 1],
                outputs=[2],
                builtinOptionsType=schema.BuiltinOptions.AddOptions,
                builtinOptions=schema.AddOptionsT(),
            )
        ],
    )
    constant = schema.BufferT(data=np.frombuffer(np.full((2, 3), addend, np.float32).tobytes(), np.uint8))
    model = schema.ModelT(
        version=3, operatorCodes=[schema.OperatorCodeT()], subgraphs=[graph], buffers=[schema.BufferT(), constant]
    )
    tensors[2].buffer = 0
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def write_sum(path, **options):
    """`sum_file` at a path, which comes back as a string."""
    path.write_bytes(sum_file(**options))
    return str(path)
