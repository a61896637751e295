"""Variables that a file reads and nothing sets: found in every order of calls, and the remedies work."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import lstm_toolkit as lt
from lstm_toolkit.doctor.variables import unset_variables
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite import edit
from tests.helpers import fault_corpus
from tests.helpers.schema_models import empty_model


def test_the_remedies_give_files_that_run():
    model = fault_corpus.unset_model()
    broken = fault_corpus.stock(model, holder=model)
    (finding,) = lt.diagnose(broken)
    assert (finding.code, finding.severity) == ("unset-variable", "error")
    assert "(and 4 more)" in finding.message
    x = np.random.default_rng(2).standard_normal((2, 5, 3)).astype(np.float32)
    with pytest.raises(InvalidModelError, match="READ_VARIABLE"):
        lt.Runner(broken)(x)
    for remedied in (lt.convert(model).tflite, fault_corpus.stock(model)):
        assert "unset-variable" not in {each.code for each in lt.diagnose(remedied)}
        np.testing.assert_allclose(lt.Runner(remedied)(x), model(x), rtol=0, atol=1e-5)


def program(*subgraphs):
    """A file whose subgraphs do what they are told: "read a", "set a", "once 1", "if 1 2", "while 1 2 a", "takes a"."""
    model = empty_model(subgraphs=len(subgraphs))
    for subgraph, steps in zip(model.subgraphs, subgraphs, strict=True):
        x, y, condition = (
            edit.add_tensor(
                subgraph, "tensor", [2] if dtype == "FLOAT32" else [], dtype=getattr(schema.TensorType, dtype)
            )
            for dtype in ("FLOAT32", "FLOAT32", "BOOL")
        )
        subgraph.inputs, subgraph.outputs, handles = [x], [y], {}
        for verb, *words in map(str.split, steps):
            name, numbers = words[-1], [int(word) for word in words if word.isdigit()]
            if verb in ("takes", "read", "set", "while") and name not in handles:
                handles[name] = edit.add_tensor(subgraph, name, [], dtype=schema.TensorType.RESOURCE)
                if verb == "takes":
                    subgraph.inputs.append(handles[name])
                    continue
                handle = edit.new_operator(model, "VAR_HANDLE", [], [handles[name]], sharedName=name.encode())
                subgraph.operators.append(handle)
            op, inputs, fields = {
                "read": ("READ_VARIABLE", [handles.get(name)], ()),
                "set": ("ASSIGN_VARIABLE", [handles.get(name), x], ()),
                "once": ("CALL_ONCE", [], ("initSubgraphIndex",)),
                "if": ("IF", [condition, x], ("thenSubgraphIndex", "elseSubgraphIndex")),
                "while": ("WHILE", [x, handles.get(name)], ("condSubgraphIndex", "bodySubgraphIndex")),
            }[verb]
            outputs = [edit.add_tensor(subgraph, "result", [2])]
            options = dict(zip(fields, numbers, strict=True))
            subgraph.operators.append(edit.new_operator(model, op, inputs, outputs, **options))
    return model


def with_signature(model, number):
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex, signature.inputs, signature.outputs = b"other", number, [], []
    model.signatureDefs = [signature]
    return model


@pytest.mark.parametrize(
    ("model", "unset"),
    [
        (program(["read a"]), "a"),
        (program(["set a", "read a"]), None),
        (program(["read a", "set a"]), "a"),
        (program(["once 1", "read a"], ["set a"]), None),
        (program(["once 1", "read b"], ["set a"]), "b"),
        (program(["read a", "once 1"], ["set a"]), "a"),
        (program(["read a"], ["set a"]), "a"),
        (with_signature(program(["read a"], ["set a"]), 1), None),
        (with_signature(program(["set b"], ["read a"]), 1), "a"),
        (program(["if 1 2"], ["set a"], ["read a"]), None),
        (program(["if 1 2"], ["read a"], ["read b"]), "a"),
        (program(["while 1 2 a"], ["takes v"], ["takes v", "read v"]), "a"),
        (program(["set a", "while 1 2 a"], ["takes v"], ["takes v", "read v"]), None),
        (program(["while 1 2 a", "read a"], ["takes v"], ["takes v", "set v"]), None),
    ],
)
def test_what_is_read_before_it_is_set(model, unset):
    found = list(unset_variables(model))
    assert len(found) == (unset is not None)
    if unset:
        assert f"it reads the variable {unset!r}" in found[0][1]


def test_a_table_that_nothing_fills():
    model = empty_model()
    subgraph = model.subgraphs[0]
    for shape, dtype in (([2], "INT64"), ([], "STRING"), ([1], "RESOURCE"), ([2], "STRING")):
        edit.add_tensor(subgraph, "x", shape, dtype=getattr(schema.TensorType, dtype))
    subgraph.inputs, subgraph.outputs = [0], [3]
    subgraph.operators = [
        edit.new_operator(model, "HASHTABLE", [], [2], tableId=5),
        edit.new_operator(model, "HASHTABLE_FIND", [2, 0, 1], [3]),
    ]
    ((place, message),) = unset_variables(model)
    assert place == "op 1 HASHTABLE_FIND"
    assert "it reads the table '5'" in message
    model.subgraphs[0].operators.insert(1, edit.new_operator(model, "HASHTABLE_IMPORT", [2, 0, 3], []))
    assert not list(unset_variables(model))


def test_a_damaged_file_does_not_take_for_ever():
    """Every subgraph calls the next one twice."""
    levels = 40
    twice = [[f"if {number + 1} {number + 1}"] * 2 for number in range(levels)]
    assert len(list(unset_variables(program(*twice, ["read a"])))) == 1
