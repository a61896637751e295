"""Ops that TensorFlow Lite Micro lacks, each alone in a file, and what they become there; the oracle is NumPy."""

import itertools

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes.micro_ops import use_micro_ops, with_equals
from lstm_toolkit.runtime import trial
from lstm_toolkit.runtime.targets import MICRO_OPS
from lstm_toolkit.tflite import edit, files
from tests.helpers.files import op_counts
from tests.helpers.schema_models import empty_model

T = schema.TensorType
RANDOM = np.random.default_rng(31)
TYPES = {np.dtype(np.float32): T.FLOAT32, np.dtype(np.int32): T.INT32, np.dtype(np.int8): T.INT8}
TYPES |= {np.dtype(np.bool_): T.BOOL, np.dtype(np.int64): T.INT64, np.dtype(np.int16): T.INT16}
SCALE = 0.25


def one_op(op, arrays, output, *, constants=(), version=1, cast=None, **options):
    """The model of one op whose inputs are those of the file, but for constants; integers of 8 bits have a scale."""
    model = empty_model()
    (graph,) = model.subgraphs
    places = []
    for number, array in enumerate(arrays):
        if number in constants:
            places.append(edit.add_constant(model, graph, f"constant_{number}", array))
            continue
        places.append(edit.add_tensor(graph, f"in_{number}", array.shape, dtype=TYPES[array.dtype]))
        graph.inputs.append(places[-1])
    result = edit.add_tensor(graph, "out", output.shape, dtype=TYPES[output.dtype])
    for index in (*places, result):
        if graph.tensors[index].type in (T.INT8, T.INT16):
            scales = {"scale": np.float32([SCALE]), "zeroPoint": np.int64([0])}
            graph.tensors[index].quantization = schema.QuantizationParametersT(**scales)
    if cast is not None:
        wide = edit.add_tensor(graph, "wide", arrays[0].shape, dtype=cast)
        types = {"inDataType": TYPES[arrays[0].dtype], "outDataType": cast}
        graph.operators.append(edit.new_operator(model, "CAST", [places[0]], [wide], **types))
        places[0] = wide
    graph.operators.append(edit.new_operator(model, op, places, [result], version=version, **options))
    graph.outputs = [result]
    return model


def values(shape, dtype):
    if dtype == np.bool_:
        return RANDOM.random(shape) < 0.4
    if np.dtype(dtype).kind == "i":
        limits = np.iinfo(dtype)
        return RANDOM.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    return RANDOM.normal(size=shape).astype(dtype)


def select(old, dtype, shapes):
    arrays = [values(shapes[0], np.bool_), *(values(shape, dtype) for shape in shapes[1:])]
    condition = arrays[0]
    if old and condition.ndim == 1:
        condition = condition.reshape(-1, *[1] * (len(shapes[1]) - 1))
    wanted = np.where(condition, *arrays[1:])
    return one_op("SELECT" if old else "SELECT_V2", arrays, wanted), arrays, wanted


def tile(dtype, shape, times):
    arrays = [values(shape, dtype), np.int32(times)]
    wanted = np.tile(arrays[0], times)
    return one_op("TILE", arrays, wanted, constants=[1]), arrays[:1], wanted


def reduce_any(shape, axes, keep):
    arrays = [values(shape, np.bool_), np.int32(axes)]
    wanted = np.asarray(arrays[0].any(axis=tuple(axes), keepdims=keep))
    model = one_op("REDUCE_ANY", arrays, wanted, constants=[1])
    op = model.subgraphs[0].operators[0]
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.ReducerOptions, schema.ReducerOptionsT(keep)
    return model, arrays[:1], wanted


def one_hot(dtype, shape, depth, *, cast=None, on=1.0, off=0.0):
    """Of numbers up to two beyond those that there are, on both sides."""
    arrays = [RANDOM.integers(-2, depth + 2, shape).astype(dtype), *map(np.asarray, (np.int32(depth), on, off))]
    arrays[2:] = [array.astype(np.float32) for array in arrays[2:]]
    wanted = np.where(arrays[0][..., None] == np.arange(depth), *arrays[2:]).astype(np.float32)
    return one_op("ONE_HOT", arrays, wanted, constants=[1, 2, 3], cast=cast, axis=-1), arrays[:1], wanted


def gelu(shape):
    x = 3 * values(shape, np.float32)
    wide = x.astype(np.float64)
    wanted = 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    return one_op("GELU", [x], wanted.astype(np.float32), approximate=True), [x], wanted


SAME = [(3, 5)] * 3
CASES = {
    f"SELECT of {np.dtype(dtype)} {shapes}": lambda dtype=dtype, shapes=shapes: select(True, dtype, shapes)
    for dtype in (np.float32, np.int32, np.int8, np.int16)
    for shapes in (SAME, [(3,), (3, 5), (3, 5)], [(2,), (2, 3, 5), (2, 3, 5)], [(), (3, 5), (3, 5)], [(4,)] * 3)
}
CASES |= {
    f"SELECT_V2 of int32 {shapes}": lambda shapes=shapes: select(False, np.int32, shapes)
    for shapes in (SAME, [(3, 1), (5,), ()], [(2, 3, 1), (1, 5), (2, 1, 1)], [(1,), (2, 1, 4, 1), (3, 1, 5)])
}
CASES |= {
    f"TILE of {np.dtype(dtype)} {shape} {times}": lambda dtype=dtype, shape=shape, times=times: tile(
        dtype, shape, times
    )
    for dtype, (shape, times) in itertools.product(
        (np.float32, np.int32, np.int8, np.bool_),
        [
            ((1, 1, 6), (1, 4, 1)),
            ((2, 3, 5), (1, 2, 1)),
            ((2, 3, 5), (3, 2, 4)),
            ((4,), (13,)),
            ((2, 3, 1, 2, 3), (2, 1, 3, 1, 2)),
            ((2, 3), (1, 1)),
        ],
    )
}
CASES |= {
    f"REDUCE_ANY {axes} {keep}": lambda axes=axes, keep=keep: reduce_any((2, 3, 4), axes, keep)
    for axes, keep in itertools.product([[2], [-1], [0, 2], [0, 1, 2]], [True, False])
}
CASES |= {
    "ONE_HOT": lambda: one_hot(np.int32, (2, 5), 7),
    "ONE_HOT of one number": lambda: one_hot(np.int32, (1,), 7),
    "ONE_HOT with other values": lambda: one_hot(np.int32, (2, 5), 7, on=-0.5, off=2.0),
    "ONE_HOT of widened numbers": lambda: one_hot(np.int32, (2, 5), 7, cast=T.INT64),
    "ONE_HOT of floats": lambda: one_hot(np.float32, (2, 5), 7, cast=T.INT64),
    "GELU": lambda: gelu((3, 5)),
}


@pytest.fixture(scope="module")
def made():
    return {name: make() for name, make in CASES.items()}


@pytest.fixture(scope="module")
def rewritten(made):
    result = {}
    for name, (model, arrays, _) in made.items():
        assert sum(use_micro_ops(model).values()) == 1
        data = files.write_model(model)
        names = trial.signature_names(files.read_model(data))["inputs"]
        result[name] = data, [dict(zip(names, arrays, strict=True))] * 2
    return result


@pytest.mark.parametrize("name", CASES)
def test_only_ops_of_micro_are_left(rewritten, name):
    assert set(op_counts(rewritten[name][0])) <= MICRO_OPS - {name.split()[0]} | {"SELECT_V2"}


@pytest.mark.parametrize("runtime", ["litert", "micro"])
def test_they_compute_the_same(made, rewritten, runtime):
    if not trial.is_installed(runtime):
        pytest.skip("tflite-micro has no wheel for this platform")
    trials = trial.run_on(runtime, list(rewritten.values()))
    for name, run in zip(rewritten, trials, strict=True):
        assert run.refused is None, f"{name}: {run.refused}"
        wanted = made[name][2]
        for outputs in run.outputs:
            (given,) = outputs.values()
            assert given.shape == wanted.shape, name
            # Only GELU rounds, in float32.
            np.testing.assert_allclose(given, wanted, rtol=0, atol=2e-6 if name == "GELU" else 0, err_msg=name)


def open_size(model):
    model.subgraphs[0].tensors[0].shapeSignature = [-1, *model.subgraphs[0].tensors[0].shape[1:]]


def computed_times(model):
    model.buffers[model.subgraphs[0].tensors[1].buffer].data = None


def lacking(model):
    model.subgraphs[0].operators[0].inputs.pop()


def absent(model):
    model.subgraphs[0].operators[0].inputs[0] = -1


def exact(model):
    model.subgraphs[0].operators[0].builtinOptions.approximate = False


def on_first_axis(model):
    model.subgraphs[0].operators[0].builtinOptions.axis = 0


def another_output(model):
    model.subgraphs[0].tensors[2].shape = [7, 7]


LEFT = {
    "open": (lambda: select(True, np.float32, SAME), open_size),
    "int64": (lambda: select(True, np.int64, SAME), None),
    "too many axes": (lambda: select(False, np.int32, [(1, 2, 1, 2, 3)] * 3), None),
    "there already": (lambda: select(False, np.float32, SAME), None),
    "computed times": (lambda: tile(np.float32, (2, 3), (1, 2)), computed_times),
    "times 0": (lambda: tile(np.float32, (2, 3), (1, 0)), None),
    "another output": (lambda: tile(np.float32, (2, 3), (1, 2)), another_output),
    "lacking": (lambda: tile(np.float32, (2, 3), (1, 2)), lacking),
    "absent": (lambda: reduce_any((2, 3), [1], False), absent),
    "exact": (lambda: gelu((3, 5)), exact),
    "another axis": (lambda: one_hot(np.int32, (2, 5), 7), on_first_axis),
    "wide numbers": (lambda: one_hot(np.int64, (2, 5), 7), None),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_alone(name):
    make, change = LEFT[name]
    model = make()[0]
    if change is not None:
        change(model)
    before = list(model.subgraphs[0].operators)
    assert list(with_equals(model)) == []
    assert not use_micro_ops(model)
    assert model.subgraphs[0].operators == before


def test_a_conversion_that_others_take_stays():
    model, arrays, wanted = one_hot(np.int32, (2, 5), 7, cast=T.INT64)
    (graph,) = model.subgraphs
    graph.outputs.append(graph.operators[0].outputs[0])
    use_micro_ops(model)
    data = files.write_model(model)
    assert op_counts(data)["CAST"] == 1
    names = trial.signature_names(files.read_model(data))["inputs"]
    (run,) = trial.run_on("litert", [(data, [dict(zip(names, arrays, strict=True))])])
    np.testing.assert_array_equal(run.outputs[0]["out"], wanted)


def test_scales_stay():
    model, _, _ = tile(np.int8, (2, 3, 5), (1, 2, 1))
    use_micro_ops(model)
    for operator in model.subgraphs[0].operators:
        for index in (operator.inputs[0], *operator.outputs):
            assert model.subgraphs[0].tensors[index].quantization.scale[0] == np.float32(SCALE)
