"""Projects to flash: what they hold, and that they compile and judge a board right.

Oracle: the interpreter of TensorFlow Lite Micro, called here without the package, whose answers a stub of the library
gives to the compiled project; differences by NumPy. The library itself is in no package, so that no test compiles it.
"""

import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from click.testing import CliRunner

import lstm_toolkit
from lstm_toolkit import cli
from lstm_toolkit.errors import InvalidModelError, LstmToolkitError
from lstm_toolkit.micro import method_name, save_project
from lstm_toolkit.passes import fused_int16
from lstm_toolkit.projects import recording
from lstm_toolkit.projects.texts import KINDS, NOT_IN_ARDUINO, plain
from lstm_toolkit.runtime import trial
from lstm_toolkit.runtime.targets import MICRO_OPS
from lstm_toolkit.tflite import files as flatbuffer_model
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.recurrent import recurrent_ops
from tests.helpers.files import op_counts
from tests.helpers.micro_runs import on_micro
from tests.helpers.models import randomized
from tests.helpers.sum_file import sum_file

pytestmark = pytest.mark.skipif(not trial.is_installed("micro"), reason="tflite-micro has no wheel for this platform")
needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") and shutil.which("make")), reason="there is no g++ or no make to compile a project with"
)

TIME, INPUTS, UNITS = 9, 5, 7
SAMPLES = np.random.default_rng(3).normal(size=(34, TIME, INPUTS)).astype(np.float32)
HELD_BACK = SAMPLES[::5][:5]
STUB = Path(__file__).parent / "helpers" / "tflm_stub.h"
HEADERS = (
    "Chirale_TensorFlowLite.h",
    "tensorflow/lite/c/common.h",
    "tensorflow/lite/micro/micro_interpreter.h",
    "tensorflow/lite/micro/micro_mutable_op_resolver.h",
    "tensorflow/lite/micro/system_setup.h",
    "tensorflow/lite/schema/schema_generated.h",
)
FLAGS = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-trigraphs"]
DRIVERS = {
    "esp-idf": 'extern "C" void app_main(void);\nint main() { app_main(); }\n',
    # The Arduino IDE too puts its header and prototypes before a sketch.
    "arduino": '#define ARDUINO_STUB\n#include "tflm_stub.h"\nvoid setup();\nvoid loop();\n'
    '#include "gesture.ino"\nint main() {\n  setup();\n  loop();\n}\n',
}
CODES = {
    "float32": "kTfLiteFloat32",
    "int8": "kTfLiteInt8",
    "uint8": "kTfLiteUInt8",
    "int16": "kTfLiteInt16",
    "int32": "kTfLiteInt32",
    "int64": "kTfLiteInt64",
    "bool": "kTfLiteBool",
}
NASTY = ('a"b', "x\n#error", "*/ int main(", "%n%s%d", "back\\", "what??/", "${name}`|<b>@{name}" + 90 * "名")


def copies():
    """A file that copies an input of each type, under a name that means something in C, to an output of the same."""
    kinds = {
        "FLOAT32": None,
        "INT8": (0.5, -3),
        "UINT8": (0.25, 128),
        "INT16": (1e-3, 0),
        "INT32": None,
        "INT64": None,
        "BOOL": None,
    }
    tensors, operators = [], []
    for name, (kind, scale) in zip(NASTY, kinds.items(), strict=True):
        place = len(tensors)
        for end in ("", "'s copy"):
            tensor = schema.TensorT(shape=[2, 3], type=getattr(schema.TensorType, kind), buffer=0, name=name + end)
            if scale:
                tensor.quantization = schema.QuantizationParametersT(scale=[scale[0]], zeroPoint=[scale[1]])
            tensors.append(tensor)
        options = schema.ReshapeOptionsT(newShape=[2, 3])
        kind = schema.BuiltinOptions.ReshapeOptions
        operators.append(
            schema.OperatorT(
                inputs=[place], outputs=[place + 1], builtinOptions=options, builtinOptionsType=kind, opcodeIndex=0
            )
        )
    inputs = list(range(0, len(tensors), 2))
    graph = schema.SubGraphT(
        tensors=tensors, operators=operators, inputs=inputs, outputs=[index + 1 for index in inputs]
    )
    code = schema.OperatorCodeT(
        builtinCode=schema.BuiltinOperator.RESHAPE, deprecatedBuiltinCode=schema.BuiltinOperator.RESHAPE, version=1
    )
    model = schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph], buffers=[schema.BufferT()])
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.fixture(scope="module")
def files():
    model = randomized(
        keras.Sequential(
            [
                keras.Input((TIME, INPUTS), name="gesture"),
                keras.layers.LSTM(UNITS, return_sequences=True),
                keras.layers.LSTM(4),
                keras.layers.Dense(3, activation="softmax"),
            ]
        )
    )
    options = {"target": "micro", "verify": False}
    int8 = {"quantization": "int8", "representative_dataset": SAMPLES, "io_dtype": "int8"}
    streamed = randomized(
        keras.Sequential(
            [keras.Input((TIME, INPUTS), batch_size=1), keras.layers.LSTM(UNITS, stateful=True, name="streamed")]
        )
    )
    return {
        "float": lstm_toolkit.convert(model, **options).tflite,
        "int8": lstm_toolkit.convert(model, **options, **int8).tflite,
        "stateful": lstm_toolkit.convert(streamed, **options).tflite,
        "types": copies(),
    }


def calls_of(name, tflite):
    """The calls that a project has to make, in the order of the file: those held back, and the first once more."""
    if name == "types":
        random = np.random.default_rng(7)
        calls = []
        for _ in range(5):
            details = Interpreter(model_content=tflite).get_input_details()
            calls.append([random.integers(0, 2, each["shape"]).astype(each["dtype"]) for each in details])
        return calls
    held = SAMPLES[-6:][:5] if name == "stateful" else HELD_BACK
    calls = [[sample[np.newaxis]] for sample in held]
    (details,) = Interpreter(model_content=tflite).get_input_details()
    scale, zero_point = details["quantization"]
    if scale:
        integers = [np.clip(np.rint(x / np.float32(scale)) + zero_point, -128, 127) for (x,) in calls]
        calls = [[x.astype(np.int8)] for x in integers]
    return calls


class Project:
    """A project in a folder, with what TensorFlow Lite Micro gives here for the same calls."""

    def __init__(self, folder, kind, tflite, calls):
        self.folder, self.kind, self.tflite, self.calls = folder, kind, tflite, [*calls, calls[0]]
        self.outputs = on_micro(folder.parent, {"it": (tflite, self.calls)})["it"]
        self.sources = folder / {"esp-idf": "main", "arduino": "gesture", "generic": "."}[kind]
        self.stub = folder.parent / "stub"

    def build(self, arena):
        for name in HEADERS:
            (self.stub / name).parent.mkdir(parents=True, exist_ok=True)
            (self.stub / name).write_text('#include "tflm_stub.h"\n')
        shutil.copy(STUB, self.stub / "tflm_stub.h")
        (self.stub / "answers.h").write_text(self.known(arena))
        self.compile()
        return self

    def compile(self):
        driver = self.stub / "driver.cpp"
        command = [
            "g++",
            *FLAGS,
            "-I",
            self.stub,
            "-I",
            self.sources,
            "-o",
            "program",
            *sorted(self.sources.glob("*.cpp")),
        ]
        if self.kind == "generic":
            command = ["make", f"TFLM={self.stub}", "LIBRARY=", f"CXXFLAGS={' '.join(FLAGS[1:])}", "gesture_tflite"]
        else:
            driver.write_text(DRIVERS[self.kind])
            command.append(driver)
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def known(self, arena):
        """What the stub knows of the file, by the runtime's own words and not by the package's."""
        interpreter = Interpreter(model_content=self.tflite)
        ends = {"kInputs": interpreter.get_input_details(), "kOutputs": interpreter.get_output_details()}
        parts = [array_of("kModel", self.tflite), f"static const size_t kArena = {arena};"]
        ops = ", ".join(f'"{op.replace("_", "").lower()}"' for op in op_counts(self.tflite))
        parts.append(f"static const char* const kOps[] = {{{ops}}};")
        for name, details in ends.items():
            rows = []
            for each in details:
                dtype, (scale, zero_point) = np.dtype(each["dtype"]), each["quantization"]
                size = int(np.prod(each["shape"])) * dtype.itemsize
                rows.append(f"{{{CODES[dtype.name]}, {size}, {float(scale)!r}f, {zero_point}}}")
            parts.append(f"static const Tensor {name}[] = {{{', '.join(rows)}}};")
        parts.append(array_of("kInputValues", b"".join(array.tobytes() for call in self.calls for array in call)))
        return "\n".join(parts) + "\n"

    def run(self, outputs):
        """Exit code and lines where the library answers with these outputs."""
        answers = self.folder.parent / "answers.bin"
        answers.write_bytes(b"".join(array.tobytes() for call in outputs for array in call))
        program = self.folder / ("gesture_tflite" if self.kind == "generic" else "program")
        done = subprocess.run(
            [program], capture_output=True, text=True, timeout=60, env=os.environ | {"ANSWERS": str(answers)}
        )
        return done.returncode, done.stdout.splitlines()


def array_of(name, data):
    return f"static const unsigned char {name}[] = {{{', '.join(map(str, data))}}};"


def figures(lines):
    """The largest difference, its call and what is allowed, for each output."""
    return [
        tuple(map(float, re.search(r": largest difference (\S+) in call (\S+), allowed (\S+)$", line).groups()))
        for line in lines[1:-1]
    ]


def differences(outputs, others, tflite):
    """The same two for each output, by NumPy."""
    found = []
    for place, details in enumerate(Interpreter(model_content=tflite).get_output_details()):
        scale = details["quantization"][0] or 1.0
        apart = [
            np.abs(one[place].astype(np.float64) - other[place].astype(np.float64)).max() * scale
            for one, other in zip(outputs, others, strict=True)
        ]
        found.append((max(apart), int(np.argmax(apart)) + 1))
    return found


def in_units(call, tflite):
    """The inputs of a call as the numbers that their integers stand for."""
    details = Interpreter(model_content=tflite).get_input_details()
    scales = [each["quantization"] for each in details]
    return [
        (x.astype(np.float64) - zero) * scale if scale else x for x, (scale, zero) in zip(call, scales, strict=True)
    ]


@pytest.fixture(scope="module")
def projects(tmp_path_factory, files):
    """Compiled projects by file and kind, each once."""
    made = {}

    def project(name, kind):
        if (name, kind) not in made:
            folder, tflite = tmp_path_factory.mktemp("project") / "out", files[name]
            calls, samples = calls_of(name, tflite), SAMPLES
            if name == "types":
                # All of fewer than ten samples are taken; in the units of the model, whose integers these are.
                samples = [in_units(call, tflite) for call in calls]
            report = save_project(tflite, folder, project=kind, representative_dataset=samples, name="gesture")
            made[name, kind] = Project(folder, kind, tflite, calls).build(report.arena_size)
        return made[name, kind]

    return project


CASES = [("float", "generic"), ("int8", "generic"), ("types", "generic"), ("stateful", "esp-idf"), ("int8", "arduino")]


@needs_compiler
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_board_that_computes_the_same_passes(projects, name, kind):
    project = projects(name, kind)
    code, lines = project.run(project.outputs)
    assert (code, lines[-1]) == (0, "PASS")
    assert re.fullmatch(r"bytes of the arena in use: \d+", lines[0])
    assert [figure[0] for figure in figures(lines)] == [0.0] * len(project.outputs[0])
    assert all(np.isfinite(array).all() for call in project.outputs for array in call)


def shifted(outputs, share, tolerances, tflite):
    """The outputs, each off by a share of what is allowed, more so from call to call."""
    scales = [each["quantization"][0] or 1.0 for each in Interpreter(model_content=tflite).get_output_details()]
    changed = []
    for number, call in enumerate(outputs, start=1):
        arrays = []
        for array, scale, tolerance in zip(call, scales, tolerances, strict=True):
            step = share * tolerance * number / len(outputs) / scale
            if array.dtype.kind != "f":
                step = np.trunc(step)
                down = array > np.iinfo(array.dtype).max - step if array.dtype.kind in "iu" else False
                step = np.where(down, -step, step)
            arrays.append((array + step).astype(array.dtype))
        changed.append(arrays)
    return changed


@needs_compiler
@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize(("share", "passes"), [(0.9, True), (3.0, False)])
def test_the_largest_difference_is_printed_and_judged(projects, name, kind, share, passes):
    project = projects(name, kind)
    allowed = [figure[2] for figure in figures(project.run(project.outputs)[1])]
    answers = shifted(project.outputs, share, allowed, project.tflite)
    wanted = differences(project.outputs, answers, project.tflite)
    code, lines = project.run(answers)
    for (largest, call, _), (difference, turn) in zip(figures(lines), wanted, strict=True):
        # An Arduino prints nine decimals.
        assert abs(largest - difference) <= 1e-6 * difference + 1e-9
        assert call == turn or difference == 0
    assert max(largest for largest, _, _ in figures(lines)) > 0
    assert lines[-1] == ("PASS" if passes else "FAIL")
    assert code == (0 if passes or kind != "generic" else 1)


@needs_compiler
def test_what_is_not_a_number_fails(projects):
    project = projects("float", "generic")
    answers = [[array.copy() for array in call] for call in project.outputs]
    answers[3][0][0, 1] = np.nan
    code, lines = project.run(answers)
    assert (code, lines[-1], figures(lines)[0][:2]) == (1, "FAIL", (np.inf, 4))


@needs_compiler
def test_state_that_leaks_fails_in_the_last_call(projects):
    """A board that does not start from zero: its last call continues, where the first one did not."""
    project = projects("float", "generic")
    leaking = [*project.outputs[:-1], project.outputs[2]]
    code, lines = project.run(leaking)
    assert (code, lines[-1], figures(lines)[0][1]) == (1, "FAIL", 6)


def test_a_state_that_is_carried_is_expected(projects, files):
    project = projects("stateful", "esp-idf")
    assert np.abs(project.outputs[0][0] - project.outputs[-1][0]).max() > 0.01
    assert "carries its state" in (project.folder / "README.md").read_text()


@needs_compiler
@pytest.mark.parametrize(
    ("place", "before", "after", "said"),
    [
        ("check.cpp", "resolver.AddSoftmax();", "", "other ops are registered"),
        ("check.cpp", "kArenaSize = ", "kArenaSize = 16;  // ", "the arena is too small"),
        ("gesture_tflite.cpp", "0x54, 0x46, 0x4c, 0x33,", "0x54, 0x46, 0x4c, 0x34,", "the model has other bytes"),
    ],
)
def test_the_stub_finds_a_project_that_is_wrong(projects, tmp_path, place, before, after, said):
    project = projects("float", "generic")
    wrong = copy.copy(project)
    wrong.folder = shutil.copytree(project.folder, tmp_path / "out")
    text = (wrong.folder / place).read_text()
    assert before in text
    (wrong.folder / place).write_text(text.replace(before, after))
    wrong.compile()
    assert wrong.run(project.outputs) == (99, [f"STUB: {said}"])


def test_the_library_has_each_method():
    """The stub's methods are those of `micro_mutable_op_resolver.h`, in August 2026."""
    methods = set(re.findall(r"\bM\((\w+)\)", STUB.read_text()))
    assert {method_name(op).removeprefix("Add") for op in MICRO_OPS} <= methods
    assert NOT_IN_ARDUINO < MICRO_OPS


# What a project says


@pytest.fixture(scope="module")
def float_projects(tmp_path_factory, files):
    """The folder that has a project of each kind, with random inputs, and what `save_project` returned for each."""
    folder = tmp_path_factory.mktemp("projects")
    return folder, [save_project(files["float"], folder / kind, project=kind, name="gesture") for kind in KINDS]


def test_files_of_each_kind(float_projects):
    folder, _ = float_projects
    shared = {"check.h", "check.cpp", "calls.h", "calls.cpp", "gesture_tflite.h", "gesture_tflite.cpp"}
    own = {
        "esp-idf": {
            "CMakeLists.txt",
            "sdkconfig.defaults",
            *(f"main/{each}" for each in ("CMakeLists.txt", "idf_component.yml", "main.cpp", *shared)),
        },
        "arduino": {f"gesture/{each}" for each in ("gesture.ino", *shared)},
        "generic": {"main.cpp", "Makefile", *shared},
    }
    for kind, names in own.items():
        paths = {path.relative_to(folder / kind).as_posix() for path in (folder / kind).rglob("*.*")}
        assert paths | {"Makefile"} == names | {"README.md", "Makefile"}
        for path in (folder / kind).rglob("*.*"):
            text = path.read_text()
            assert "@{" not in text
            assert text.endswith("\n")
    # The top folder too has a file called CMakeLists.txt.
    sources = set(re.search(r"SRCS (.*) INCLUDE", (folder / "esp-idf/main/CMakeLists.txt").read_text())[1].split())
    assert sources == {path.name for path in (folder / "esp-idf/main").glob("*.cpp")}
    needed = yaml.safe_load((folder / "esp-idf/main/idf_component.yml").read_text())["dependencies"]
    assert needed["espressif/esp-tflite-micro"] == "^1.4.0"
    assert "project(gesture)" in (folder / "esp-idf/CMakeLists.txt").read_text()
    assert not list(folder.glob(".*"))


def test_the_arena_is_what_was_measured_and_a_quarter(float_projects):
    folder, reports = float_projects
    (measured,) = {report.arena_size for report in reports}
    text = (folder / "generic" / "check.cpp").read_text()
    assert f"in {measured} bytes" in text
    (size,) = map(int, re.findall(r"kArenaSize = (\d+);", text))
    assert size % 16 == 0
    assert 1.25 * measured <= size < 1.25 * measured + 16
    assert f"in {measured} bytes" in (folder / "generic" / "README.md").read_text()


def test_random_inputs_are_the_same_each_time_and_said(float_projects):
    folder, _ = float_projects
    assert "random numbers" in (folder / "generic" / "README.md").read_text()
    assert len({path.read_bytes() for path in folder.rglob("calls.cpp")}) == 1
    assert len(list(folder.rglob("calls.cpp"))) == 3


@pytest.mark.parametrize("name", NASTY)
def test_names_become_plain(name):
    assert re.fullmatch(r"[A-Za-z0-9_.:/ -]{1,60}", plain(name))


def test_no_text_of_the_file_is_left_as_it_is(projects):
    project = projects("types", "generic")
    texts = "".join(path.read_text() for path in project.sources.glob("*.*") if "tflite" not in path.name)
    for name in NASTY:
        assert name not in texts
    assert "// a_b\n" in texts
    assert "| `x__error` | int8 | [2, 3] | 0.5 | -3 |" in texts


# What is refused


@pytest.mark.parametrize("there", ["file", "link", "full"])
def test_nothing_is_overwritten(files, tmp_path, there):
    folder = tmp_path / "out"
    if there == "file":
        folder.write_text("mine")
    elif there == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        (folder / "mine").write_text("mine")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FileExistsError, match="a project overwrites nothing; name a new folder"):
        save_project(files["float"], folder, project="generic")
    assert sorted(os.listdir(tmp_path)) == before
    if there == "full":
        save_project(files["float"], tmp_path / "new", project="generic")


def test_an_empty_folder_is_taken_and_a_failure_leaves_it(files, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            save_project(files["float"], folder, project="generic")
    assert (os.listdir(tmp_path), os.listdir(folder)) == (["out"], [])
    save_project(files["float"], folder, project="generic")
    assert (os.listdir(tmp_path), len(os.listdir(folder))) == (["out"], 9)


def test_a_folder_that_cannot_be_made(files, tmp_path):
    with pytest.raises(OSError, match="there is no writable folder"):
        save_project(files["float"], tmp_path / "nowhere" / "out", project="generic")


@pytest.mark.parametrize("name", ["", "2d", "a-b", "a b", "../a", 'a"', "a\n", "a_", "modèle"])
def test_a_name_that_is_no_identifier(files, tmp_path, name):
    with pytest.raises(ValueError, match="must be an identifier that C and C\\+\\+ leave to programs"):
        save_project(files["float"], tmp_path / "out", project="generic", name=name)
    assert os.listdir(tmp_path) == []


def test_without_the_interpreter_there_is_no_project(files, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "is_installed", lambda runtime: runtime != "micro")
    with pytest.raises(LstmToolkitError, match="pip install tflite-micro"):
        save_project(files["float"], tmp_path / "out", project="generic")


def test_a_micro_that_computes_something_else(files, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "why_apart", lambda *_: "output 'y' of call 1 in a row differs")
    with pytest.raises(InvalidModelError, match=r"not compute what LiteRT does: .*differs; convert the source with"):
        save_project(sum_file(), tmp_path / "out", project="generic")
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    save_project(files["float"], tmp_path / "out", project="generic")  # converted with target="micro"


def test_a_file_that_micro_alone_runs_is_compared_with_nothing(files, tmp_path):
    """An LSTM in 16x8, of which LiteRT has no kernel."""
    model = flatbuffer_model.read_model(files["stateful"])
    (op,) = recurrent_ops(model)
    places = {op.operands["input"]: 4.0, op.operator.outputs[0]: 0.95, op.operands["cell_state"]: 3.0}
    largest = {graph.text(op.subgraph.tensors[index].name): value for index, value in places.items()}
    assert fused_int16.to_int16(model, largest) == 1
    tflite = flatbuffer_model.write_model(model)
    recorded = recording.record(tflite, SAMPLES)
    assert recorded.carries_state
    calls = [[edge.values[number].reshape(edge.shape) for edge in recorded.inputs] for number in range(6)]
    for number, (output,) in enumerate(on_micro(tmp_path, {"it": (tflite, calls)})["it"]):
        np.testing.assert_array_equal(output.ravel(), recorded.outputs[0].values[number])
    assert len(np.unique(recorded.outputs[0].values)) > 20
    save_project(tflite, tmp_path / "out", project="esp-idf", representative_dataset=SAMPLES)


# The command line


def test_export_of_a_project(files, tmp_path):
    (tmp_path / "model.tflite").write_bytes(files["int8"])
    np.savez(tmp_path / "samples.npz", gesture=SAMPLES)
    command = ["export", str(tmp_path / "model.tflite"), "--project", "esp-idf", "--name", "gesture"]
    samples = ["--representative-dataset", str(tmp_path / "samples.npz")]
    done = CliRunner().invoke(cli.main, [*command, "-o", str(tmp_path / "out"), *samples, "--json"])
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["output"] == [str(tmp_path / "out")]
    assert value["arena_size"] > 0
    assert "samples that `convert` holds back" in (tmp_path / "out" / "README.md").read_text()
    again = CliRunner().invoke(cli.main, [*command, "-o", str(tmp_path / "out")])
    assert (again.exit_code, "a project overwrites nothing" in again.output) == (1, True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--project", "esp-idf", "--no-run"], "--project measures the arena, so leave --no-run out"),
        (["--representative-dataset", "samples.npz"], "--representative-dataset is for --project"),
    ],
)
def test_options_that_do_not_go_together(files, tmp_path, options, reason):
    (tmp_path / "model.tflite").write_bytes(files["float"])
    command = ["export", str(tmp_path / "model.tflite"), "-o", str(tmp_path / "out"), *options]
    done = CliRunner().invoke(cli.main, command)
    assert (done.exit_code, reason in done.output) == (2, True), done.output
    remedy = ["--project", "generic"] if "--project" in options else []
    done = CliRunner().invoke(cli.main, [*command[:2], "-o", str(tmp_path / "out" if remedy else tmp_path), *remedy])
    assert done.exit_code == 0, done.output
