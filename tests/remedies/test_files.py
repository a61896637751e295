"""What is refused of files: by runtimes, by passes over them, and by what reads them."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import lstm_toolkit
from lstm_toolkit import GateWeights, Limits, Runner, diagnose, repair
from lstm_toolkit.benchmarking.benchmark import benchmark
from lstm_toolkit.gate_pictures.layout import gate_layout
from lstm_toolkit.micro import c_array, method_name, micro_report
from lstm_toolkit.passes import coupled_gate
from lstm_toolkit.passes.plain.lower import lower
from lstm_toolkit.quantization import quantize
from lstm_toolkit.runtime.isolated import IsolatedInterpreter
from lstm_toolkit.sweeping.sweep import sweep
from lstm_toolkit.sweeping.values import SweepConfig
from lstm_toolkit.sweeping.worker import measure
from lstm_toolkit.tflite import edit, files
from lstm_toolkit.tflite.recurrent import recurrent_ops
from lstm_toolkit.weights.operands import BIDIRECTIONAL_OPERANDS, OPERANDS
from tests.helpers import hostile_files
from tests.helpers.fault_corpus import edited
from tests.helpers.forms import bidirectional, functional
from tests.helpers.refusals import Refusal, exact
from tests.helpers.sum_file import sum_file
from tests.helpers.weights import random_operands

RANDOM = np.random.default_rng(23)
FOLDER = Path(tempfile.mkdtemp())
SUM = sum_file()
VARIANT = dict.fromkeys(("cifg", "peephole", "projection", "layer_norm"), False)


@functools.cache
def weights(**variant: bool) -> GateWeights:
    return GateWeights.from_operands(random_operands(np.random.default_rng(4), **VARIANT | variant))


@functools.cache
def file(state: str = "reset", quantization: str | None = None, time: int | None = 7, **variant: bool) -> bytes:
    options = {"state": state, "quantization": quantization, "time_steps": time}
    return lstm_toolkit.convert(weights(**variant), verify=False, **options).tflite


@functools.cache
def both_ways(form: str = "fused") -> bytes:
    return lstm_toolkit.convert(both_ways_model(), bidirectional=form, verify=False).tflite


@functools.cache
def both_ways_model() -> Any:
    return functional(bidirectional(4, name="both"))


def changed(tflite: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """The file with a change of its first recurrent op, which gets the op and the `ModelT`."""
    model = files.read_model(tflite)
    change(next(recurrent_ops(model)), model)
    return files.write_model(model)


def without_activation(op: Any, _: Any) -> None:
    op.options.fusedActivationFunction = schema.ActivationFunctionType.NONE


def with_a_start_of_rank_3(op: Any, _: Any) -> None:
    for index in op.subgraph.inputs[1:]:
        op.subgraph.tensors[index].shape = [1, 1, 6]
        op.subgraph.tensors[index].shapeSignature = None


def with_auxiliary_input(op: Any, _: Any) -> None:
    op.operator.inputs[BIDIRECTIONAL_OPERANDS.index("auxiliary_input")] = op.operands["input"]


def with_computed_weights(op: Any, model: Any) -> None:
    place = OPERANDS.index("input_to_output_weights")
    stored = op.operator.inputs[place]
    op.operator.inputs[place] = edit.like(op.subgraph, stored, "computed")
    op.subgraph.operators.insert(0, edit.new_operator(model, "ABS", [stored], [op.operator.inputs[place]]))


def with_short_weights(op: Any, model: Any) -> None:
    tensor = op.tensor("input_to_output_weights")
    tensor.shape = [5, 5]
    model.buffers[tensor.buffer].data = model.buffers[tensor.buffer].data[:100]


def with_state_as_output(op: Any, _: Any) -> None:
    op.subgraph.outputs = [*op.subgraph.outputs, op.states[0]]


def carried(runner: Runner, **state: Any) -> None:
    runner.state = state


def of_two_inputs() -> Runner:
    return Runner(file("explicit"))


X = np.zeros((1, 7, 5), np.float32)
H, C = np.zeros((1, 7), np.float32), np.zeros((1, 7), np.float32)


def int64_output() -> bytes:
    def widen(model: Any) -> None:
        model.subgraphs[0].tensors[2].type = schema.TensorType.INT64

    return edited(SUM, widen)


def closed() -> Runner:
    with Runner(SUM, isolated=True) as runner:
        return runner


RUNNING = [
    Refusal(
        "this Runner is closed; make a new one",
        lambda: closed()(np.zeros((2, 3))),
        lambda: Runner(SUM, isolated=True)(np.zeros((2, 3))),
    ),
    Refusal(
        (" the file takes longer than {} seconds; allow more, with isolated=Limits(seconds=...)", "running", "0.2"),
        lambda: Runner(hostile_files.endless(), isolated=Limits(seconds=0.2))(np.zeros((2, 3))),
        lambda: Runner(SUM, isolated=Limits(seconds=30.0))(np.zeros((2, 3))),
    ),
    Refusal(
        ("the file seems to need more than {} bytes; allow more, with isolated=Limits(memory=...)", "268435456"),
        lambda: Runner(hostile_files.large(1 << 12, 1 << 12, 2, 3), isolated=Limits(memory=1 << 28)),
        lambda: Runner(hostile_files.large(1 << 12, 1 << 12, 2, 3), isolated=Limits(memory=1 << 30)),
    ),
    Refusal(
        (" the file ended its process: {}; never run it without isolated", "allow more memory, with isolated=Limits"),
        lambda: IsolatedInterpreter(hostile_files.crashing(), Limits()),
        lambda: Runner(SUM, isolated=Limits(memory=1 << 32))(np.zeros((2, 3))),
    ),
    Refusal(
        ("pass the inputs by name: ", "['inputs', 'lstm_l0_h', 'lstm_l0_c']"),
        lambda: of_two_inputs()(X),
        lambda: of_two_inputs()(inputs=X, lstm_l0_h=H, lstm_l0_c=C),
    ),
    Refusal(
        ("the model carries the states ", "['lstm_l0_h', 'lstm_l0_c']", "['h']"),
        lambda: carried(Runner(file("carry")), h=H),
        lambda: carried(Runner(file("carry")), lstm_l0_h=H),
    ),
    Refusal(
        (" has shape ", "state 'lstm_l0_h' has shape [1, 7], got [7]"),
        lambda: carried(Runner(file("carry")), lstm_l0_h=H[0]),
        lambda: carried(Runner(file("carry")), lstm_l0_h=H),
        at="runtime/runner.py:state",
    ),
    Refusal(
        (
            "the state of {} is in variable tensors, which CompiledModel does not take",
            'convert the model with lowering="unrolled" or "loop", or pass the file to lstm_toolkit.lower',
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
        ),
        lambda: Runner(file(), runtime="compiled"),
        lambda: Runner(lower(file()), runtime="compiled")(X),
        lambda: Runner(lower(file(), form="loop"), runtime="compiled")(X),
        lambda: Runner(file(), runtime="interpreter")(X),
    ),
    Refusal(
        ("has an open size, for which CompiledModel has no buffer", "output 'output_0'"),
        lambda: Runner(lower(file(time=None), form="loop"), runtime="compiled"),
        lambda: Runner(lower(file(time=7), form="loop"), runtime="compiled")(X),
        lambda: Runner(lower(file(time=None), form="loop"), runtime="interpreter")(X),
    ),
    Refusal(
        (", and CompiledModel takes and gives ", "is int64", 'pass runtime="interpreter"'),
        lambda: Runner(int64_output(), runtime="compiled"),
        lambda: Runner(int64_output(), runtime="interpreter"),
    ),
    Refusal(
        ("it has the inputs ", "['inputs', 'lstm_l0_h', 'lstm_l0_c']; pass a mapping from name to array"),
        lambda: benchmark(file("explicit"), inputs=X, runs=1, warmup=0),
        lambda: benchmark(file("explicit"), inputs={"inputs": X, "lstm_l0_h": H, "lstm_l0_c": C}, runs=1, warmup=0),
        at="benchmarking/subjects.py:_by_name",
    ),
    Refusal(
        ("it does not know its inputs; pass inputs", "model 'dense'"),
        lambda: benchmark(layers.Dense(2, name="dense"), runs=1, warmup=0),
        lambda: benchmark(layers.Dense(2, name="dense"), inputs=X, runs=1, warmup=0),
    ),
    Refusal(
        ("it has the inputs ", "model 'both'", "['steps'], got ['other']"),
        lambda: benchmark({"both": both_ways_model()}, inputs={"other": X}, runs=1, warmup=0),
        lambda: benchmark({"both": both_ways_model()}, inputs={"steps": X}, runs=1, warmup=0),
        at="benchmarking/subjects.py:_keras_model",
    ),
    Refusal(
        (" has open sizes, ", "input 'inputs'", "give input_shapes={'inputs': [...]}"),
        lambda: measured(),
        lambda: measured(input_shapes={"inputs": (1, 6, 5)}),
        at="sweeping/worker.py",
    ),
    Refusal(
        (" is not the results file of a sweep; line ", "other.jsonl", "line 1", "another file, or none"),
        lambda: swept("other.jsonl", b"hello\n"),
        lambda: swept("new.jsonl", b""),
        lambda: sweep([]),
    ),
]


def measured(**options: Any) -> None:
    path = FOLDER / "open.tflite"
    path.write_bytes(file(time=None))
    row = measure(SweepConfig(str(path), runs=1, warmup=0, **options))
    if row.error:
        raise ValueError(row.error)


def swept(name: str, content: bytes) -> Any:
    (FOLDER / name).write_bytes(content)
    return sweep([], results=FOLDER / name)


def quantized(**variant: Any) -> bytes:
    return file(quantization="dynamic", **variant)


LOWERING = [
    Refusal(
        (": its op has auxiliary inputs", "layer '", "convert the source model with lstm_toolkit.convert"),
        lambda: lower(changed(both_ways(), with_auxiliary_input)),
        lambda: exact(both_ways_model(), lowering="unrolled"),
        lambda: lower(both_ways()),
    ),
    Refusal(
        (": its weights do not fit its op: ", "layer 'lstm_l0'", "input_to_output_weights", "convert the source model"),
        lambda: lower(changed(file(), with_short_weights)),
        lambda: lower(file()),
    ),
    Refusal(
        (" of the schema, for which the fused op has no defined result", "layer 'lstm_l0'", '"unrolled" or "loop"'),
        lambda: lower(changed(file(), without_activation)),
        lambda: exact(functional(layers.LSTM(6, activation="linear")), lowering="unrolled"),
        lambda: exact(functional(layers.LSTM(6, activation="linear")), lowering="loop"),
    ),
    Refusal(
        (", and only float32 constants can be lowered", "layer 'lstm_l0'", "is int8", "lower the float file"),
        lambda: lower(quantized()),
        lambda: exact(weights(), lowering="unrolled", time_steps=7, quantization="dynamic"),
        lambda: lower(file()),
    ),
    Refusal(
        (": it carries its state from call to call in a variable tensor", "layer 'lstm_l0'", 'state="explicit"'),
        lambda: lower(file("carry")),
        lambda: lower(file("explicit")),
    ),
    Refusal(
        (" is set or read in a way that plain ops cannot follow", "layer 'lstm_l0'", "convert the model again"),
        lambda: lower(changed(file(), with_state_as_output)),
        lambda: lower(file()),
    ),
    Refusal(
        (" is set or read in a way that plain ops cannot follow", "layer 'lstm_l0'", "convert the model again"),
        lambda: lower(changed(file("explicit"), with_a_start_of_rank_3)),
        lambda: lower(file("explicit")),
    ),
    Refusal(
        (
            ": the number of time steps is open, and unrolling needs a fixed one",
            "layer 'lstm_l0'",
            "time_steps",
            "loop",
        ),
        lambda: lower(file(time=None)),
        lambda: lower(file()),
        lambda: lower(file(time=None), form="loop"),
    ),
    Refusal(
        (" is not a constant; ", "layer 'lstm_l0': its input_to_forget_weights", "convert the source model again"),
        lambda: uncoupled(changed(file(cifg=True), without_forget_weights)),
        lambda: uncoupled(file(cifg=True)),
        at="passes/coupled_gate.py",
    ),
]


def without_forget_weights(op: Any, _: Any) -> None:
    op.tensor("input_to_forget_weights").buffer = 0


def uncoupled(tflite: bytes) -> None:
    model = files.read_model(tflite)
    coupled_gate.uncouple(next(recurrent_ops(model)))


READING = [
    Refusal(
        (
            "layer {}: its {} is not a constant; ",
            "'lstm_l0'",
            "input_to_output_weights",
            "convert the source model again",
        ),
        lambda: to_int8(changed(file(), with_computed_weights)),
        lambda: to_int8(file()),
        at="quantization/int8.py",
    ),
    Refusal(
        ("the .tflite file has no fused LSTM op",),
        lambda: gate_layout(SUM),
        lambda: gate_layout(file()),
    ),
    Refusal(
        ("node must be 0 to ", "0, got 1; the fused LSTM ops are 0: 'lstm_l0'"),
        lambda: gate_layout(file(), node=1),
        lambda: gate_layout(file(), node=0),
    ),
    Refusal(
        ("target must be one of ", "litert, compiled, micro or None, got 'phone'"),
        lambda: diagnose(SUM, target="phone"),
        *(functools.partial(diagnose, SUM, target=each) for each in ("litert", "compiled", "micro", None)),
        at="doctor/diagnose.py",
    ),
    Refusal(
        ("run needs a target and a .tflite file",),
        lambda: diagnose(SUM, run=True),
        lambda: diagnose(SUM, run=True, target="litert"),
    ),
    Refusal(
        (" can be mended, got ", "state-leak", "rust"),
        lambda: repair(SUM, codes=["rust"]),
        lambda: repair(SUM, codes=["state-leak"]),
    ),
    Refusal(
        ("keep takes codes of faults and places of ops in the file, got ", "op 7 ADD"),
        lambda: repair(SUM, keep="op 7 ADD"),
        lambda: repair(SUM, keep="op 0 ADD"),
        lambda: repair(SUM, keep="state-leak"),
    ),
    Refusal(
        ("name must be an identifier that C and C++ leave to programs, got ", "'int'"),
        lambda: c_array(SUM, "int"),
        lambda: c_array(SUM, "net"),
    ),
    Refusal(("TensorFlow Lite Micro has no op ", "TILE"), lambda: method_name("TILE"), lambda: method_name("ADD")),
    Refusal(
        ("TensorFlow Lite Micro is not installed", "pip install tflite-micro"),
        lambda: without("tflite_micro", lambda: micro_report(SUM)),
        lambda: without("tflite_micro", lambda: micro_report(SUM, run=False)),
        lambda: micro_report(SUM),
    ),
    Refusal(
        ("TensorFlow Lite Micro cannot run this model: {}: {}; {}", "BIDIRECTIONAL_SEQUENCE_LSTM", 'target="micro"'),
        lambda: micro_report(both_ways()),
        lambda: micro_report(lstm_toolkit.convert(both_ways_model(), target="micro").tflite),
    ),
    Refusal(
        ("cannot read ", "absent.tflite"),
        lambda: lstm_toolkit.inspect(FOLDER / "absent.tflite"),
        lambda: lstm_toolkit.inspect(SUM),
    ),
    Refusal(
        ("expected the bytes or the path of a .tflite file, got ", "int"),
        lambda: lstm_toolkit.inspect(3),
        lambda: lstm_toolkit.inspect(SUM),
    ),
    Refusal(
        (" is not a .tflite file: its bytes 4 to 8 are not ", "TFL3"),
        lambda: lstm_toolkit.inspect(b"hello, you"),
        lambda: lstm_toolkit.inspect(SUM),
    ),
]


def to_int8(tflite: bytes) -> Any:
    samples = [{"inputs": x[np.newaxis]} for x in RANDOM.normal(size=(12, 7, 5)).astype("f")]
    return quantize.quantize(tflite, "int8", samples, calibrate=True)


def without(module: str, run: Callable[[], Any]) -> Any:
    with mock.patch("importlib.util.find_spec", return_value=None):
        return run()


REFUSALS = [*RUNNING, *LOWERING, *READING]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_what_the_message_advises_helps(refusal):
    refusal.follow()
