"""What is refused for a value alone, before any model is traced: the message names the argument and what it may be."""

import functools
import itertools
from typing import Any

import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import GateWeights, Runner, benchmark, codelab, models, quantization
from lstm_toolkit.benchmarking.result import BenchmarkResult
from lstm_toolkit.benchmarking.timings import ModelTiming, Overhead, Timing
from lstm_toolkit.conversion.plans import plans_for
from lstm_toolkit.conversion.request import Request
from lstm_toolkit.gate_pictures.layout import gate_layout
from lstm_toolkit.gate_pictures.steps import STEPS, tiles
from lstm_toolkit.panels import lowerings
from lstm_toolkit.panels.measured import Comparison, MeasuredFile, Sizes
from lstm_toolkit.passes.plain.lower import lower
from lstm_toolkit.quantization.samples import read_samples
from lstm_toolkit.sources.composite import composite
from lstm_toolkit.sweeping.sweep import sweep
from lstm_toolkit.sweeping.values import SweepConfig
from lstm_toolkit.weights.packing import Packing
from tests.helpers.packed_weights import Cell, Layer, everything, keras_arrays, torch_state
from tests.helpers.refusals import LEAVE_OUT, Refusal
from tests.helpers.sum_file import sum_file
from tests.helpers.weights import random_operands

RANDOM = np.random.default_rng(21)
SAMPLES = RANDOM.normal(size=(12, 7, 5)).astype(np.float32)
SUM = sum_file()
THETA = Cell(RANDOM).theta
KERAS = keras_arrays(RANDOM)
TORCH = torch_state(RANDOM)
EVERYTHING = dict(everything(RANDOM).operands())


def request(**options: Any) -> Any:
    return plans_for(Request(**options))


def refused_request(words: str | tuple[str, ...], options: dict[str, Any], *remedies: dict[str, Any]) -> Refusal:
    """A request that is refused, and what to change of it; `LEAVE_OUT` takes an option out."""
    changed = [{name: value for name, value in (options | each).items() if value is not LEAVE_OUT} for each in remedies]
    return Refusal(words, lambda: request(**options), *(functools.partial(request, **each) for each in changed))


INT8 = {"quantization": "int8", "representative_dataset": SAMPLES}

REQUESTS = [
    refused_request(
        (" must be a positive integer or None, got ", "time_steps", "0"), {"time_steps": 0}, {"time_steps": 7}
    ),
    refused_request(
        ("{} must be one of {} or None{}, got {}", "target must be one of litert, compiled, micro", "'phone'"),
        {"target": "phone"},
        *({"target": each} for each in ("litert", "compiled", "micro", None)),
    ),
    refused_request(
        ("{} needs representative_dataset: ", 'io_dtype other than "float32"', "some hundred"),
        {"io_dtype": "int8"},
        {"representative_dataset": SAMPLES},
    ),
    refused_request(
        ("io_dtype must be a type, or a pair", "('int8', 'int8', 'int8')"),
        {"io_dtype": ("int8",) * 3, "representative_dataset": SAMPLES},
        {"io_dtype": "int8"},
        {"io_dtype": ("int8", "float32")},
    ),
    refused_request(
        ('state="explicit" makes states inputs and outputs', 'pass io_dtype="float32", or state="carry"'),
        {"io_dtype": "int8", "state": "explicit", "representative_dataset": SAMPLES},
        {"io_dtype": "float32"},
        {"state": "carry"},
    ),
    refused_request(
        ('lowering="auto" times files with float32', 'pass io_dtype="float32", or lowering='),
        {"io_dtype": "int8", "lowering": "auto", "representative_dataset": SAMPLES},
        {"io_dtype": "float32"},
        *({"lowering": each} for each in ("fused", "unrolled", "loop")),
    ),
    refused_request(
        ('quantization="{}" needs a lowering other than "auto"', "int16x8", 'pass lowering="unrolled" or "loop"'),
        {"quantization": "int16x8", "representative_dataset": SAMPLES, "lowering": "auto"},
        {"lowering": "unrolled"},
        {"lowering": "loop"},
        {"lowering": LEAVE_OUT},
    ),
    refused_request(
        ("CompiledModel takes and gives no int16", 'pass io_dtype="float32" or "int8"'),
        {"quantization": "int16x8", "representative_dataset": SAMPLES, "io_dtype": "int16", "target": "compiled"},
        {"io_dtype": "float32"},
        {"io_dtype": "int8"},
    ),
    refused_request(
        ('representative_dataset is for quantization="int8"', "leave it out"),
        {"representative_dataset": SAMPLES, "verify": False},
        {"quantization": "int8"},
        {"verify": True},
        {"representative_dataset": LEAVE_OUT},
    ),
    refused_request(
        ('max_error is for lowering="auto" without quantization', "pass these, or leave max_error out"),
        {"max_error": 0.1},
        {"lowering": "auto"},
        {"max_error": LEAVE_OUT},
    ),
    refused_request(
        ("max_error must be a number above 0", "0.01", "-1"),
        {"max_error": -1, "lowering": "auto"},
        {"max_error": 0.01},
    ),
    refused_request(
        ('caches is for lowering="auto"', "pass that, or leave caches out"),
        {"caches": "hot"},
        {"lowering": "auto"},
        {"caches": LEAVE_OUT},
    ),
    refused_request(("time_budget must be a number of seconds above 0", "0"), {"time_budget": 0}, {"time_budget": 2.0}),
    refused_request(
        ('leaves lowering="auto" one way', 'target="micro"', "leave max_error out"),
        {"target": "micro", "lowering": "auto", "max_error": 0.1},
        {"max_error": LEAVE_OUT},
    ),
    refused_request(
        ("TensorFlow Lite Micro has no kernels for quantization=", "dynamic", 'quantization="int8" or None'),
        {"target": "micro", "quantization": "dynamic"},
        INT8,
        {"quantization": None},
    ),
    refused_request(
        ("{} needs representative_dataset: ", 'quantization="int8"', "some hundred"), {"quantization": "int8"}, INT8
    ),
    refused_request(
        ("representative_dataset is empty", "give it some hundred typical inputs"),
        {"quantization": "int8", "representative_dataset": SAMPLES[:0]},
        INT8,
    ),
    refused_request(
        ("representative_dataset holds ", "<U3", "expected numbers"),
        {"quantization": "int8", "representative_dataset": np.array(["one"])},
        INT8,
    ),
    refused_request(
        (" holds NaN or infinity", "representative_dataset", "leave such samples out"),
        {"quantization": "int8", "representative_dataset": SAMPLES * np.nan},
        INT8,
    ),
]


def samples(dataset: Any, *names: str) -> Any:
    return read_samples(dataset, names or ("x",), [(1, 7, 5)] * (len(names) or 1), [np.float32] * (len(names) or 1))


TWO = {"a": SAMPLES, "b": SAMPLES}
REPRESENTATIVE = [
    Refusal(
        ("representative_dataset does not end after ", "let it end"),
        lambda: samples(itertools.repeat(SAMPLES[0])),
        lambda: samples(SAMPLES),
    ),
    Refusal(
        ("representative_dataset is one array, but the model has the inputs ", "['a', 'b']"),
        lambda: samples(SAMPLES, "a", "b"),
        lambda: samples(TWO, "a", "b"),
    ),
    Refusal(
        ("representative_dataset has different numbers of samples: ", "{'a': 12, 'b': 3}"),
        lambda: samples(TWO | {"b": SAMPLES[:3]}, "a", "b"),
        lambda: samples(TWO, "a", "b"),
    ),
    Refusal(
        ("representative_dataset must be an array, a mapping of arrays by input name, or an iterable", "got int"),
        lambda: samples(3),
        lambda: samples(SAMPLES),
        lambda: samples({"x": SAMPLES}),
        lambda: samples(iter(SAMPLES)),
    ),
    Refusal(
        ("{} has the inputs {}, and the model {}", "representative_dataset has the inputs ['b']", "['x']"),
        lambda: samples({"b": SAMPLES}),
        lambda: samples({"x": SAMPLES}),
        at="quantization/samples.py",
    ),
    Refusal(
        (" inputs, and the model ", "sample 0 of representative_dataset has 1 inputs", "2: ['a', 'b']"),
        lambda: samples([SAMPLES[0]], "a", "b"),
        lambda: samples([[SAMPLES[0], SAMPLES[1]]], "a", "b"),
    ),
    Refusal(
        (" of representative_dataset has shape ", "sample 0, input 'x'", "[6, 5], expected [1, 7, 5]"),
        lambda: samples(SAMPLES[:, 1:]),
        lambda: samples(SAMPLES),
    ),
    Refusal(
        (" of representative_dataset is ", "sample 0, input 'x'", "complex128, expected float32"),
        lambda: samples(SAMPLES.astype(complex)),
        lambda: samples(SAMPLES),
    ),
    Refusal(
        "representative_dataset is empty", lambda: samples([]), lambda: samples(SAMPLES), at="quantization/samples.py:r"
    ),
]


def gates(order: str = "ifco", **others: Any) -> Any:
    """A function that is an LSTM by its arguments."""
    operands = {"x": "input", "w": "kernel", "r": "recurrent_kernel"}

    def own(x: Any, w: Any, r: Any) -> Any:
        raise NotImplementedError

    return composite(operands=operands, gates=order, **others)(own)


def of_keras(**options: Any) -> Any:
    def own(input: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
        raise NotImplementedError

    return composite(**{"interface": "keras"} | options)(own)


def declared(**operands: str) -> Any:
    def own(x: Any, w: Any, m: Any) -> Any:
        raise NotImplementedError

    return composite(operands=operands, carry=operands.get("m") == "h")(own)


COMPOSITES = [
    Refusal(
        ("give either operands (the function declares its own arguments) or interface='keras'",),
        composite,
        of_keras,
        gates,
    ),
    Refusal(('interface must be "keras"', "'tf'"), lambda: of_keras(interface="tf"), of_keras),
    Refusal(
        ("activation must be one of ", "tanh, relu, relu6, hard_tanh", "'gelu'"),
        lambda: gates(activation="gelu"),
        *(functools.partial(gates, activation=each) for each in ("tanh", "relu", "relu6", "hard_tanh")),
    ),
    Refusal(
        ("gate_axis must be 0 or -1, and go_backwards goes with interface='keras' only",),
        lambda: gates(gate_axis=1),
        lambda: gates(gate_axis=0),
        lambda: of_keras(go_backwards=True),
    ),
    Refusal(
        ("gates must hold each of ", "input, forget, cell, output", "input may be left out"),
        lambda: gates("iffo"),
        lambda: gates("ifgo"),
        lambda: gates("fgo"),
    ),
    Refusal(
        (", and operands declares ", "own takes ['x', 'w', 'm']", "['x', 'w']"),
        lambda: declared(x="input", w="kernel"),
        lambda: declared(x="input", w="kernel", m="recurrent_kernel"),
    ),
    Refusal(
        ("operands of ", " must be different ones of ", "unknown: ['kernels']", "kernel, ", "recurrent_kernel, "),
        lambda: declared(x="input", w="kernels", m="recurrent_kernel"),
        lambda: declared(x="input", w="kernel", m="recurrent_kernel"),
    ),
    Refusal(
        (" needs an argument that is the input, and both or none of h and c",),
        lambda: declared(x="h", w="kernel", m="recurrent_kernel"),
        lambda: declared(x="input", w="kernel", m="recurrent_kernel"),
    ),
]


def operands(**changes: Any) -> GateWeights:
    return GateWeights.from_operands({k: v for k, v in (EVERYTHING | changes).items() if v is not None})


WEIGHTS = [
    Refusal(
        ("input_to_forget_weights must be [units, input_size]", "[3]"),
        lambda: operands(input_to_forget_weights=np.zeros(3)),
        operands,
    ),
    Refusal(
        (" must have shape ", "recurrent_to_cell_weights", "[5, 4], got [5, 3]"),
        lambda: operands(recurrent_to_cell_weights=np.zeros((5, 3))),
        operands,
        at="weights/gate_weights.py",
    ),
    Refusal(
        (" operands must be all there or all absent: got ", "bias", "expected ['input_gate_bias'"),
        lambda: operands(input_gate_bias=None),
        operands,
    ),
    Refusal(
        ("input_to_input_weights and recurrent_to_input_weights go together",),
        lambda: operands(recurrent_to_input_weights=None),
        operands,
    ),
    Refusal(
        ("projection_bias needs projection_weights",),
        lambda: GateWeights.from_operands(
            random_operands(RANDOM, cifg=False, peephole=False, projection=False, layer_norm=False)
            | {"projection_bias": np.zeros(7)}
        ),
        operands,
    ),
    Refusal(
        ("operands unknown to the fused LSTM op: ", "['wm']", "missing: ['input_to_cell_weights']"),
        lambda: GateWeights.from_operands(
            {k: v for k, v in EVERYTHING.items() if k != "input_to_cell_weights"} | {"wm": np.zeros(3)}
        ),
        operands,
    ),
    Refusal(
        (
            "expected kernel, recurrent_kernel and perhaps bias of one built Keras LSTM",
            "got 1 array(s)",
            "never called",
        ),
        lambda: GateWeights.from_keras(KERAS[:1]),
        lambda: GateWeights.from_keras(KERAS),
    ),
    Refusal(
        ("num_input_nodes, forget_gate_bias and couple_input_forget_gates are the cell's own", "beside a mapping"),
        lambda: GateWeights.from_lingvo(Cell(RANDOM), num_input_nodes=3),
        lambda: GateWeights.from_lingvo(THETA, num_input_nodes=3),
        lambda: GateWeights.from_lingvo(Cell(RANDOM)),
    ),
    Refusal(
        ("theta has arrays named ", "['wm', 'b', 'w_proj', 'ln_scale']", "unknown: ['kernel']", "missing: ['wm']"),
        lambda: GateWeights.from_lingvo({"kernel": THETA["wm"]}),
        lambda: GateWeights.from_lingvo({"wm": THETA["wm"]}, num_input_nodes=3),
    ),
    Refusal(
        ("without w_proj, wm alone does not tell: give num_input_nodes or couple_input_forget_gates",),
        lambda: GateWeights.from_lingvo(THETA),
        lambda: GateWeights.from_lingvo(THETA, num_input_nodes=3),
        lambda: GateWeights.from_lingvo(THETA, couple_input_forget_gates=False),
    ),
    Refusal(
        ("wm [num_input_nodes + num_output_nodes, ", "of shape [8, 20]", "hidden = -1"),
        lambda: GateWeights.from_lingvo(THETA, num_input_nodes=9),
        lambda: GateWeights.from_lingvo(THETA, num_input_nodes=3),
    ),
    Refusal(
        ("missing: ", "['weight_hh_l0']", "there are ["),
        lambda: GateWeights.from_torch({k: v for k, v in TORCH.items() if k != "weight_hh_l0"}),
        lambda: GateWeights.from_torch(TORCH),
        at="weights/frameworks.py:read_torch",
    ),
    Refusal(
        (" must have 2 dimensions, got shape ", "weight_ih_l0", "[60]"),
        lambda: GateWeights.from_torch(TORCH | {"weight_ih_l0": TORCH["weight_ih_l0"].ravel()}),
        lambda: GateWeights.from_torch(TORCH),
    ),
    Refusal(
        (" cannot be split into ", "b of shape [19]", "4 gates"),
        lambda: Packing(gates=("input", "forget", "cell", "output"), arrays={"b": "bias"}).blocks("b", (19,), 3),
        lambda: Packing(gates=("input", "forget", "cell", "output"), arrays={"b": "bias"}).blocks("b", (20,), 3),
    ),
    Refusal(
        (" must be ", "bias must be ['gates * units']", "got shape [4, 5]"),
        lambda: GateWeights.from_keras([*KERAS[:2], KERAS[2].reshape(4, 5)]),
        lambda: GateWeights.from_keras(KERAS),
        at="weights/packing.py:sizes",
    ),
    Refusal(
        (" must have shape ", "recurrent_kernel", "[5, 20], got [5, 15]"),
        lambda: GateWeights.from_keras([KERAS[0], KERAS[1][:, :15], KERAS[2]]),
        lambda: GateWeights.from_keras(KERAS),
        at="weights/packing.py:check",
    ),
    Refusal(
        (" cannot hold these weights: ", "a Keras LSTM", "projection_weights"),
        lambda: operands().to_keras(),
        lambda: GateWeights.from_keras(KERAS).to_keras(),
    ),
]


def timed(*names: str, files: bool = False) -> BenchmarkResult:
    timing = Timing.of([np.full(3, 1.5 + number) for number in range(7)])
    own = {"invoke": timing, "size": 9} if files else {}
    models = tuple(ModelTiming(name, "file" if files else "callable", timing, 1.0, **own) for name in names)
    return BenchmarkResult(models, names[0], 0.01, Overhead(names[0], 1.0, 1.02, 0.02), 7, 0)


def fails(x: Any) -> Any:
    raise RuntimeError(f"no {x.shape[-1]} numbers a step")


def timing_of(models: Any, **options: Any) -> Any:
    return benchmark(models, **{"runs": 1, "warmup": 0} | options)


BENCHMARKS = [
    Refusal(
        ("count, got {}", "warmup must be a count, got -1"),
        lambda: timing_of(list, warmup=-1),
        lambda: timing_of(list, warmup=0),
        at="benchmarking/benchmark.py",
    ),
    Refusal(
        ("smallest_effect must be a number from 0 on", "0.01", "-1"),
        lambda: timing_of(list, smallest_effect=-1),
        lambda: timing_of(list, smallest_effect=0.01),
    ),
    Refusal(
        ("baseline must be one of ", "['list']", "'max'"),
        lambda: timing_of(list, baseline="max"),
        lambda: timing_of(list, baseline="list"),
    ),
    Refusal(("there is no model to time",), lambda: timing_of([]), lambda: timing_of([list])),
    Refusal(
        (
            ": expected a .tflite file (bytes, a path, a Conversion, a Runner), a Keras model or a callable",
            "'a'",
            "int",
        ),
        lambda: timing_of({"a": 3}),
        lambda: timing_of({"a": list}),
    ),
    Refusal(
        (
            " fails on inputs of the shapes ",
            "model 'fails'",
            "{'input': [2, 5]}",
            "RuntimeError: no 5 numbers",
            "inputs",
        ),
        lambda: timing_of(fails, inputs=SAMPLES[:2, 0]),
        lambda: timing_of(len, inputs=SAMPLES[:2, 0]),
    ),
    Refusal(("the models are ", "['a']", "'b'"), lambda: timed("a")["b"], lambda: timed("a")["a"]),
    Refusal(
        ("column must be one of ", "invoke, call, cold", "'copy'"),
        lambda: timed("a", "b").ratio("b", column="copy"),
        lambda: timed("a", "b").ratio("b", column="call"),
        lambda: timed("a", "b", files=True).ratio("b", column="invoke"),
    ),
    Refusal(
        ("only files have the column 'invoke'; compare by 'call'",),
        lambda: timed("a", "b").ratio("b", column="invoke"),
        lambda: timed("a", "b").ratio("b", column="call"),
    ),
    Refusal(
        ("not all were timed cold; compare by 'call'",),
        lambda: timed("a", "b").ratio("b", column="cold"),
        lambda: timed("a", "b").ratio("b", column="call"),
    ),
    Refusal(
        ("errors are by name of a model, one of ", "['a']", "['b']"),
        lambda: timed("a").pareto({"b": 1.0}),
        lambda: timed("a").pareto({"a": 1.0}),
    ),
    Refusal(
        ("there is nothing to draw: no model has ", "a size, which files alone have; pass errors"),
        lambda: timed("a").pareto(),
        lambda: timed("a", files=True).pareto(),
        lambda: timed("a").pareto({"a": 0.1}),
    ),
]


def layout(**options: Any) -> Any:
    return gate_layout(Cell(RANDOM), **options)


DIRECTIONS = GateWeights.from_keras(KERAS), GateWeights.from_keras(keras_arrays(RANDOM, units=4))


def both_normalized(number: int | None = None) -> Any:
    pair = operands(), operands()
    return gate_layout(pair if number is None else pair[number])


PICTURES = [
    Refusal(
        ("order must be one order or two, got ", "['keras', 'lingvo', 'pytorch']"),
        lambda: lstm_toolkit.plot_gates(Cell(RANDOM), order=("keras", "lingvo", "pytorch")),
        lambda: lstm_toolkit.plot_gates(Cell(RANDOM), order=("keras", "lingvo")),
    ),
    Refusal(
        (" or its letter, got ", "['cell', 'input', 'forget', 'output']", "'x'"),
        lambda: lstm_toolkit.plot_gates(Cell(RANDOM), gate="x"),
        lambda: lstm_toolkit.plot_gates(Cell(RANDOM), gate="forget"),
        lambda: lstm_toolkit.plot_gates(Cell(RANDOM), gate="f"),
    ),
    Refusal(
        ("array must be one of ", "['wm', 'b']", "'kernel'"),
        lambda: layout().array("kernel"),
        lambda: layout().array("wm"),
    ),
    Refusal(
        ("operand must be one of ", "'input_to_input_weights'", "got 'projection_weights'"),
        lambda: layout().slot("projection_weights"),
        lambda: layout().slot("input_to_input_weights"),
    ),
    Refusal(
        (" has shape ", "wm has shape [8, 20], there is no [8, 0]"),
        lambda: layout().destination("wm", 8, 0),
        lambda: layout().destination("wm", 7, 0),
        at="gate_pictures/layout.py",
    ),
    Refusal(
        (" has no backward direction", "Cell 'cell'", "pass reverse=False or None"),
        lambda: layout(reverse=True),
        lambda: layout(reverse=False),
        layout,
    ),
    Refusal(
        ("order must be one of ", "['keras', 'lingvo', 'pytorch']", "'jax'"),
        lambda: layout(order="jax"),
        *(functools.partial(layout, order=each) for each in ("keras", "lingvo", "pytorch")),
    ),
    Refusal(
        ("expected a Keras LSTM layer, a Lingvo cell, a torch.nn.LSTM or its state_dict, a .tflite file", "got int"),
        lambda: gate_layout(3),
        lambda: gate_layout(Cell(RANDOM)),
        lambda: gate_layout(TORCH),
    ),
    Refusal(
        (" is a model of several layers; give one LSTM layer of it: ", "Layer 'layer'"),
        lambda: gate_layout(Layer([], layers=[Layer(KERAS)])),
        lambda: gate_layout(Layer(KERAS)),
    ),
    Refusal(
        (" is no LSTM: recurrent_kernel must be [units, 4 * units], got [", "Layer 'layer'", "[5, 15]"),
        lambda: gate_layout(Layer([KERAS[0], KERAS[1][:, :15]])),
        lambda: gate_layout(Layer(KERAS)),
    ),
    Refusal(
        ("a theta alone does not tell its options: give the cell, or GateWeights.from_lingvo(theta, ...) with",),
        lambda: gate_layout(THETA),
        layout,
        lambda: gate_layout(GateWeights.from_lingvo(THETA, num_input_nodes=3), order="lingvo"),
    ),
    Refusal(
        ("the fused op takes as many units in both directions", "5 forward and 4 backward: give each half by itself"),
        lambda: gate_layout(DIRECTIONS),
        *(functools.partial(gate_layout, each) for each in DIRECTIONS),
    ),
    Refusal(
        ("BIDIRECTIONAL_SEQUENCE_LSTM has no layer normalization: give each half by itself",),
        both_normalized,
        lambda: both_normalized(0),
        lambda: both_normalized(1),
    ),
    Refusal(
        ("step must be one of ", "1 packed", "'5'"),
        lambda: tiles(layout(), "wm", "5", (0, 0)),
        *(functools.partial(tiles, layout(), "wm", each, (0, 0)) for each in STEPS),
    ),
]


def sizes(**changed: int) -> Sizes:
    return Sizes(**{"batch_size": 2, "time_steps": 5, "input_size": 3, "units": 4} | changed)


NO_FILE = Comparison((), sizes(), (MeasuredFile("fused", reason="refused"),))


def lstm_file(time_steps: int) -> bytes:
    model = models.unidirectional(time_steps=time_steps, input_size=3, units=4)
    return lstm_toolkit.convert(model, verify=False).tflite


def config(model: str = "unidirectional", **options: Any) -> SweepConfig:
    return SweepConfig(model, **options)


OTHERS = [
    Refusal(
        ('source must be "digits" or "mnist"', "'letters'"),
        lambda: codelab.load_images("letters"),
        codelab.load_images,
    ),
    Refusal(
        ("time_steps is {}, but the file takes {}", "time_steps is 28", "(1, 7, 3)", "leave time_steps out"),
        lambda: codelab.operators_executed(lstm_file(time_steps=7), 28),
        lambda: codelab.operators_executed(lstm_file(time_steps=7)),
        lambda: codelab.operators_executed(lstm_file(time_steps=28), 28),
    ),
    Refusal(
        ("quantity must be one of ", "time of a call", "'beauty'"),
        lambda: lowerings.picture(NO_FILE, "beauty"),
        *(functools.partial(lowerings.picture, NO_FILE, each) for each in lowerings.QUANTITIES),
    ),
    Refusal(
        (" must be an integer from 1 to ", "units", "1024", "0"),
        lambda: sizes(units=0),
        lambda: sizes(units=1024),
    ),
    Refusal(
        (" multiplications a call, more than ", "make one of the sizes smaller"),
        lambda: sizes(time_steps=100, units=512),
        lambda: sizes(time_steps=100, units=64),
    ),
    Refusal(
        ("configs must hold SweepConfig, got ", "str"),
        lambda: sweep(["unidirectional"]),
        lambda: sweep([]),
    ),
    Refusal(
        ("workers must be an integer from 1", "0"),
        lambda: sweep([], workers=0),
        lambda: sweep([], workers=1),
    ),
    Refusal(
        ("model must be one of ", "unidirectional", ".keras, .h5, .tflite", "'other'"),
        lambda: config("other"),
        config,
        lambda: config("own.keras"),
    ),
    Refusal(
        ("sizes are for models of lstm_toolkit.models and options for what is converted",),
        lambda: config("own.keras", sizes={"units": 4}),
        lambda: config(sizes={"units": 4}),
        lambda: config("own.keras", options={"lowering": "loop"}),
    ),
    Refusal(
        ("{} must be an integer from {}, got {}", "runs", "1", "0"),
        lambda: config(runs=0),
        lambda: config(runs=1),
        at="sweeping",
    ),
    Refusal(
        (" cannot be written as JSON (", "options['representative_dataset']", "paths of files"),
        lambda: config(options={"representative_dataset": SAMPLES}),
        lambda: config(options={"representative_dataset": "samples.npy"}),
    ),
    Refusal(
        ("form must be one of ", "unrolled, loop", "'fused'"), lambda: lower(SUM, form="fused"), lambda: lower(SUM)
    ),
    Refusal(
        ("steps_per_turn must be at least 1", "0"),
        lambda: lower(SUM, form="loop", steps_per_turn=0),
        lambda: lower(SUM, form="loop", steps_per_turn=1),
    ),
    Refusal(
        ("runtime must be one of ", "interpreter, compiled", "'gpu'"),
        lambda: Runner(SUM, runtime="gpu"),
        lambda: Runner(SUM, runtime="interpreter"),
        lambda: Runner(SUM, runtime="compiled"),
    ),
    Refusal(
        ("num_threads must be a whole number above 0, got ", "0"),
        lambda: Runner(SUM, num_threads=0),
        lambda: Runner(SUM, num_threads=2),
    ),
    Refusal(
        ("the model has the inputs {}, got {}", "['x']", "['y']"),
        lambda: Runner(SUM)(y=np.zeros((2, 3))),
        lambda: Runner(SUM)(x=np.zeros((2, 3))),
    ),
    Refusal(
        (" (-1 is any), got ", "input 'x' has shape [2, 3]", "[3, 2]"),
        lambda: Runner(SUM)(np.zeros((3, 2))),
        lambda: Runner(SUM)(np.zeros((2, 3))),
    ),
    Refusal(
        ("input {} is {}, got {}", "'x' is float32, got complex128"),
        lambda: Runner(SUM)(np.zeros((2, 3), complex)),
        lambda: Runner(SUM)(np.zeros((2, 3))),
        at="runtime/runner.py:_converted",
    ),
]

REFUSALS = [*REQUESTS, *REPRESENTATIVE, *COMPOSITES, *WEIGHTS, *BENCHMARKS, *PICTURES, *OTHERS]


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(quantization.samples, "MOST_SAMPLES", 20)


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_what_the_message_advises_helps(refusal):
    refusal.follow()
