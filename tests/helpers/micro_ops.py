"""Prints, as JSON, the builtin ops that TensorFlow Lite Micro's interpreter has, by asking it for each.

Every probe is a file with one op, whose kernel may fail or crash on it; only "no registration" says that it is missing.
"""

import json
import os

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from tflite_micro import runtime


def probe(builtin: int) -> bytes:
    code, op, graph, model = schema.OperatorCodeT(), schema.OperatorT(), schema.SubGraphT(), schema.ModelT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
    op.opcodeIndex, op.inputs, op.outputs = 0, [0], [1]
    graph.tensors = []
    for name in (b"a", b"b"):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer, tensor.name = [1], schema.TensorType.FLOAT32, 0, name
        graph.tensors.append(tensor)
    graph.operators, graph.inputs, graph.outputs = [op], [0], [1]
    model.version, model.operatorCodes, model.buffers, model.subgraphs = 3, [code], [schema.BufferT()], [graph]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def is_known(builtin: int) -> bool:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        try:
            runtime.Interpreter.from_bytes(probe(builtin))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as output:
        said = output.read()
    os.waitpid(child, 0)
    return b"Failed to get registration" not in said


if __name__ == "__main__":
    builtins = {name: code for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    print(json.dumps([name for name, code in builtins.items() if is_known(code)]))
