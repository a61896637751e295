"""Files from strangers: thousands of damaged ones, read in a process that may die of them.

`LSTM_TOOLKIT_MUTANTS` says how many; by default 400 where `CI` is set, else 20,000.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

import lstm_toolkit
from lstm_toolkit import models
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.passes import bidirectional, small_weights
from lstm_toolkit.stock.converter import run_converter
from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.files import read_model, write_model
from tests.helpers import fault_corpus, fuzz_worker

WORKER = Path(fuzz_worker.__file__)
MUTANTS = int(os.environ.get("LSTM_TOOLKIT_MUTANTS", 250))
BATCH = 2000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Whole files: fused, bidirectional as one op and as two, with explicit state, and the stock `WHILE` form."""
    folder = tmp_path_factory.mktemp("files")
    sizes = {"time_steps": 7, "input_size": 5}
    stacked = models.stacked(**sizes, units=[6, 4])
    both = models.bidirectional(**sizes, units=4)
    x = keras.Input((7, 5), batch_size=1)
    hidden = keras.layers.GRU(3)(keras.layers.LSTM(4, return_sequences=True)(x))
    stock = tf.lite.TFLiteConverter.from_keras_model(keras.Model(x, keras.layers.Dense(2)(hidden)))
    contents = {
        "explicit": lstm_toolkit.convert(stacked, state="explicit", verify=False).tflite,
        "merged": lstm_toolkit.convert(both, batch_size=3, verify=False).tflite,
        "split": lstm_toolkit.convert(both, bidirectional="split", verify=False).tflite,
        "stacked": lstm_toolkit.convert(stacked, batch_size=2, verify=False).tflite,
        "stock": run_converter(stock),
    }
    contents["int8"] = fault_corpus.quantized(contents["split"], (1, 7, 5))
    halved = read_model(contents["stacked"])
    small_weights.to_float16(halved)
    contents["float16"] = write_model(halved)
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content)
    return folder


@pytest.fixture
def fused(files):
    return (files / "stacked.tflite").read_bytes()


def deaths(folder, first, last):
    """Runs the mutants and returns a description of each that ended the process, with its number."""
    found, environment = [], os.environ | {"PYTHONPATH": str(WORKER.parents[2])}
    while first < last:
        command = [sys.executable, str(WORKER), str(folder), str(first), str(last)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment)
        numbers = [int(line) for line in done.stdout.split() if line.isdigit()]
        if done.returncode == 0:
            break
        assert numbers, f"the process died before its first mutant: {done.stderr[-2000:]}"
        number, first = numbers[-1], numbers[-1] + 1
        why = signal.Signals(-done.returncode).name if done.returncode < 0 else done.stderr[-1500:]
        found.append(f"mutant {number}: {'over two seconds' if why == 'SIGPROF' else why}")
    return found


def test_damaged_files_are_read_or_refused(files, capsys):
    found = []
    for first in range(0, MUTANTS, BATCH):
        found += deaths(files, first, min(first + BATCH, MUTANTS))
    with capsys.disabled():
        print(f" [{MUTANTS:,} damaged files]", end="")
    assert not found, "\n\n".join(found[:10])


def test_a_death_is_seen(files, tmp_path):
    """The watch over the process sees a crash, a hang, an error of another kind and too much memory."""
    source = WORKER.read_text()
    for body, seen in (
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("while True: pass", "over two seconds"),
        ("[][0]", "IndexError"),
        ("bytearray(2**30)", "MemoryError"),
    ):
        worker = tmp_path / "fuzz_worker.py"
        broken = f"def broken(data):\n    {body}\n\n\nENTRY_POINTS:"
        changed = source.replace("bidirectional.merge)", "broken)").replace("ENTRY_POINTS:", broken, 1)
        worker.write_text(changed)
        command = [sys.executable, str(worker), str(files), "0", "1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        why = signal.Signals(-done.returncode).name if done.returncode < 0 else done.stderr
        assert seen.replace("over two seconds", "SIGPROF") in why


def test_truncated_at_every_length(fused):
    for length in range(len(fused)):
        try:
            lstm_toolkit.inspect(fused[:length])
        except InvalidModelError:
            continue
        # Only padding behind the last vector may go.
        assert len(fused) - length < 16


def test_empty_and_random_bytes_are_refused():
    random = np.random.default_rng(0)
    for size in (0, 1, 7, 8, 100, 100_000):
        noise = random.integers(256, size=size, dtype=np.uint8).tobytes()
        with pytest.raises(InvalidModelError, match=r"is not a \.tflite file"):
            lstm_toolkit.inspect(noise)
        with pytest.raises(InvalidModelError, match=r"damaged|not a \.tflite"):
            lstm_toolkit.inspect(b"\x10\x00\x00\x00TFL3" + noise)


def packed(model):
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def lstm_of(model):
    name = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    return next(op for op in model.subgraphs[0].operators if graph.operator_name(model, op) == name)


def finished(builder, table, count, add):
    """A file whose main subgraph has one table, of operators or tensors, many times."""
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(table)
    tables = builder.EndVector()
    schema.SubGraphStart(builder)
    add(builder, tables)
    subgraph = schema.SubGraphEnd(builder)
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, subgraphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_one_table_claimed_many_times_is_refused():
    builder = flatbuffers.Builder()
    schema.TensorStart(builder)
    data = finished(builder, schema.TensorEnd(builder), 400, schema.SubGraphAddTensors)
    with pytest.raises(InvalidModelError, match=r"damaged or too large: over .* tables in"):
        lstm_toolkit.inspect(data)


def test_one_long_vector_claimed_many_times_is_refused():
    """A hundred operators whose inputs are one and the same vector of 1,000 indices."""
    builder = flatbuffers.Builder()
    inputs = builder.CreateNumpyVector(np.zeros(1000, np.int32))
    schema.OperatorStart(builder)
    schema.OperatorAddInputs(builder, inputs)
    data = finished(builder, schema.OperatorEnd(builder), 100, schema.SubGraphAddOperators)
    with pytest.raises(InvalidModelError, match="its vectors claim over twice its"):
        lstm_toolkit.inspect(data)


def _no_inputs(model):
    lstm_of(model).inputs = lstm_of(model).inputs[:3]


def _other_options(model):
    lstm_of(model).builtinOptions = schema.AddOptionsT()
    lstm_of(model).builtinOptionsType = schema.BuiltinOptions.AddOptions


def _negative_shape(model):
    model.subgraphs[0].tensors[0].shape = [-5, 3]


def _absurd_shape(model):
    model.subgraphs[0].tensors[0].shape = [2**31 - 1] * 5
    model.subgraphs[0].tensors[0].shapeSignature = None


def _wrong_signature(model):
    model.subgraphs[0].tensors[0].shapeSignature = [1]


def _missing_buffers(model):
    model.buffers = None


def _taken_before_made(model):
    model.subgraphs[0].operators.reverse()


def _made_twice(model):
    model.subgraphs[0].operators[-1].outputs = list(lstm_of(model).outputs)


def _calls_itself(model):
    from ai_edge_litert.schema_py_generated import BuiltinOperator, BuiltinOptions, OperatorT, WhileOptionsT

    loop = OperatorT()
    loop.opcodeIndex = edit.operator_code(model, BuiltinOperator.WHILE)
    loop.builtinOptions, loop.builtinOptionsType = WhileOptionsT(), BuiltinOptions.WhileOptions
    loop.inputs, loop.outputs = [], []
    model.subgraphs[0].operators.append(loop)


def _odd_scales(model):
    tensor = model.subgraphs[0].tensors[lstm_of(model).inputs[2]]
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5] * 4, [0] * 4


def _short_weights(model):
    buffer = model.buffers[model.subgraphs[0].tensors[lstm_of(model).inputs[2]].buffer]
    buffer.data = buffer.data[:-4]


def _weights_that_are_computed(model):
    model.subgraphs[0].tensors[lstm_of(model).inputs[2]].buffer = 0


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_no_inputs, "UNIDIRECTIONAL_SEQUENCE_LSTM, lacks input 6"),
        (_other_options, "UNIDIRECTIONAL_SEQUENCE_LSTM, has the options of another op"),
        (_negative_shape, "has the impossible shape"),
        (_absurd_shape, "more than any memory holds"),
        (_wrong_signature, "but the signature"),
        (_missing_buffers, "damaged"),
        (_taken_before_made, "before it is made"),
        (_made_twice, "two operators of subgraph 0 make tensor"),
        (_calls_itself, "subgraph 0 calls itself"),
        (_odd_scales, "has 4 scales and 4 zero points for the shape"),
        (_short_weights, "bytes for the shape"),
        (_weights_that_are_computed, "is not a constant"),
    ],
)
def test_a_contradiction_is_refused_with_its_reason(fused, damage, reason):
    model = flatbuffer_utils.read_model_from_bytearray(fused)
    damage(model)
    with pytest.raises(InvalidModelError, match=re.escape(reason)):
        lstm_toolkit.inspect(packed(model))


def test_absent_options_are_the_defaults(fused):
    model = flatbuffer_utils.read_model_from_bytearray(fused)
    lstm_of(model).builtinOptions, lstm_of(model).builtinOptionsType = None, 0
    node = lstm_toolkit.inspect(packed(model)).lstm_nodes[0]
    assert (node.layout, node.cell_clip) == ("batch_major", 0.0)


def test_names_with_markup_are_escaped_and_bytes_that_are_no_text_are_shown(files):
    model = flatbuffer_utils.read_model_from_bytearray((files / "split.tflite").read_bytes())
    for tensor in model.subgraphs[0].tensors:
        tensor.name = fuzz_worker.HOSTILE
    model.signatureDefs[0].inputs[0].name = fuzz_worker.HOSTILE
    data = packed(model)
    fuzz_worker.show(data)
    summary = lstm_toolkit.inspect(data)
    for page in (summary._repr_html_(), summary.drawing().svg):
        assert "&lt;script&gt;" in page
        assert "\\xff" in page
    assert summary.inputs[0].name.startswith("\\xff\\xfe<script>")
    assert bidirectional.merge(data) != data
