"""Files made by hand, as objects of the schema."""

from ai_edge_litert import schema_py_generated as schema


def empty_model(*, subgraphs=1):
    """A `ModelT` without operators; buffer 0 is empty, as it has to be."""
    model = schema.ModelT()
    model.version, model.description = 3, b"by hand"
    model.buffers, model.operatorCodes, model.subgraphs = [schema.BufferT()], [], []
    for _ in range(subgraphs):
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = [], [], [], []
        model.subgraphs.append(subgraph)
    return model
