"""The command line: results, progress, exit codes, and what it refuses."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit.cli import main
from lstm_toolkit.usage import EXAMPLES, in_options, in_words_of_the_command
from tests.helpers import fault_corpus
from tests.helpers.models import randomized
from tests.helpers.refusals import messages


def run(*args, **environment):
    command = [sys.executable, "-c", "from lstm_toolkit.cli import main; main()", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


@pytest.fixture
def call(capfd):
    """`run` in this process, where TensorFlow is loaded already."""

    def call(*args):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, args)])
        return subprocess.CompletedProcess(args, ended.value.code, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    randomized(keras.Sequential([keras.Input((7, 5), name="x"), keras.layers.LSTM(6)])).save(folder / "good.keras")
    gru = [keras.layers.GRU(6, name="g", return_sequences=True), keras.layers.LSTM(3, name="l")]
    keras.Sequential([keras.Input((7, 5)), *gru]).save(folder / "gru.keras")
    (folder / "text.keras").write_text("hello")
    return folder


def stages_of(folder):
    return ["loading TensorFlow", f"loading {folder / 'good.keras'}", "tracing", "converting", "verifying"]


def test_convert_writes_the_file_and_shows_its_progress(folder):
    done = run("convert", folder / "good.keras", "-o", folder / "good.tflite", "--batch-size", 2, "--progress")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"{stage} ..." for stage in stages_of(folder)]
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in done.stdout
    model = keras.saving.load_model(folder / "good.keras")
    x = np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32)
    np.testing.assert_allclose(lstm_toolkit.Runner(folder / "good.tflite")(x), model(x), atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_terminal_shows_each_stage_with_its_time_and_keeps_its_cursor(folder):
    ours, its = os.openpty()
    command = [sys.executable, "-m", "lstm_toolkit", "convert", folder / "good.keras", "-o", folder / "shown.tflite"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=its, env=os.environ | {"TERM": "xterm"}) as process:
        os.close(its)
        shown = b""
        with contextlib.suppress(OSError):  # which Linux raises at the end
            while data := os.read(ours, 4096):
                shown += data
    os.close(ours)
    assert process.returncode == 0
    assert "?25l" not in (text := shown.decode())
    assert re.search(r"^  verifying +\d:\d\d:\d\d\s*\Z", re.sub(r"\x1b\[[\d;]*[mKA]", "", text), re.MULTILINE), text
    for stage in stages_of(folder):
        name = re.escape(stage.rpartition(os.sep)[2])  # a long line is broken
        assert re.search(rf"{name}.*?\d:\d\d:\d\d", re.sub(r"\x1b\[[\d;]*m", "", text), re.DOTALL), (stage, text)


def test_elsewhere_than_on_a_terminal_nothing_is_shown(folder, call):
    for options in ([], ["--no-progress"]):
        done = call("convert", folder / "good.keras", "-o", folder / "quiet.tflite", *options)
        assert (done.returncode, done.stderr) == (0, "")


SAMPLES = np.random.default_rng(4).normal(size=(30, 7, 5)).astype(np.float32)


def saved(folder, **arrays):
    np.savez(folder / "samples.npz", **arrays)
    return folder / "samples.npz"


def test_every_example_runs(folder, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "good.keras", "model.keras")
    saved(tmp_path, x=SAMPLES)
    os.mkdir("src")
    assert set(EXAMPLES) == {*main.commands, "lstm-toolkit"}
    for name, examples in EXAMPLES.items():
        for example in examples:
            done = call(*shlex.split(example))
            # `environment` has the exit code 3 where versions are others than those that were tested.
            assert done.returncode == 0 or (name, done.returncode) == ("environment", 3), (example, done.stderr)
            assert done.stdout
            helped = call(*([] if name == "lstm-toolkit" else [name, "--help"]))
            assert f"  lstm-toolkit {example}\n" in helped.stdout + helped.stderr
    assert {"int8.tflite", "plain.tflite", "mended.tflite", "gates.svg", "times.csv"} <= set(os.listdir())


def test_the_lines_of_the_readme_are_options_that_there_are():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    lines = [shlex.split(line, comments=True) for line in re.findall(r"^lstm-toolkit (\w.*)$", readme, re.MULTILINE)]
    assert len(lines) >= 8
    for name, *arguments in lines:
        main.commands[name].make_context(name, arguments)


def test_int8_is_calibrated_on_samples_out_of_a_file(folder, call, tmp_path):
    model = keras.saving.load_model(folder / "good.keras")
    options = ["--quantization", "int8", "--representative-dataset", saved(tmp_path, x=SAMPLES), "--io-dtype", "int8"]
    done = call("convert", folder / "good.keras", "-o", tmp_path / "int8.tflite", *options, "--json")
    assert json.loads(done.stdout)["quantization"]["samples"] == 6  # every fifth
    run = lstm_toolkit.Runner(tmp_path / "int8.tflite")
    assert set(map(np.dtype, run.input_dtypes.values())) == {np.dtype(np.int8)}
    options = {"quantization": "int8", "representative_dataset": SAMPLES, "io_dtype": "int8"}
    assert (tmp_path / "int8.tflite").read_bytes() == lstm_toolkit.convert(model, **options).tflite


@pytest.mark.parametrize(("words", "dtypes"), [("uint8", ("uint8",) * 2), ("int8,float32", ("int8", "float32"))])
def test_inputs_and_outputs_of_a_float_file(folder, call, tmp_path, words, dtypes):
    options = ["--representative-dataset", saved(tmp_path, x=SAMPLES), "--io-dtype", words]
    call("convert", folder / "good.keras", "-o", tmp_path / "edges.tflite", *options, "--no-verify")
    model = lstm_toolkit.Runner(tmp_path / "edges.tflite")
    outputs = model.outputs(**model.quantized({"x": SAMPLES[:1]}))
    assert {*map(str, model.input_dtypes.values())} == {dtypes[0]}
    assert {str(each.dtype) for each in outputs.values()} == {dtypes[1]}


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"y": SAMPLES}, "--representative-dataset has the inputs ['y'], and the model ['x']"),
        ({"x": SAMPLES, "y": SAMPLES}, "--representative-dataset has the inputs ['x', 'y'], and the model ['x']"),
        ({"x": SAMPLES[:, :3]}, "--representative-dataset has shape [3, 5], expected [1, 7, 5]"),
        ({"x": np.where(SAMPLES > 2, np.nan, SAMPLES)}, "--representative-dataset holds NaN or infinity"),
        ({"x": SAMPLES[:0]}, "--representative-dataset is empty; give it some hundred typical inputs"),
        ({"x": np.array([None, 1])}, "holds Python objects, which could run code and are not loaded; make arrays of"),
        ({"x": np.array(["a"])}, "--representative-dataset holds <U1, expected numbers"),
    ],
)
def test_samples_that_do_not_fit_are_wrong_usage(folder, call, tmp_path, arrays, reason):
    options = ["--quantization", "int8", "--representative-dataset", saved(tmp_path, **arrays)]
    done = call("convert", folder / "good.keras", "-o", tmp_path / "never.tflite", *options)
    assert done.returncode == 2
    assert reason in done.stderr
    assert os.listdir(tmp_path) == ["samples.npz"]


def test_lower(folder, call, leaking, tmp_path):
    fused, plain = tmp_path / "fused.tflite", tmp_path / "plain.tflite"
    lstm_toolkit.convert(folder / "good.keras", batch_size=2).save(fused)
    done = call("lower", fused, "-o", plain, "--form", "loop", "--steps-per-turn", 2, "--json")
    value = json.loads(done.stdout)
    assert value["changed"] is True
    assert "WHILE" in value["ops"]
    assert (tmp_path / "plain.tflite").stat().st_size == value["size"]
    x = np.random.default_rng(5).normal(size=(2, 7, 5)).astype(np.float32)
    runners = [lstm_toolkit.Runner(file) for file in (fused, tmp_path / "plain.tflite")]
    for scale in (1, 3, 0):
        np.testing.assert_allclose(runners[1](scale * x), runners[0](scale * x), rtol=0, atol=1e-6)
    done = call("lower", tmp_path / "plain.tflite", "-o", tmp_path / "again.tflite")
    assert "no fused recurrent op was there" in done.stdout
    assert (tmp_path / "again.tflite").read_bytes() == (tmp_path / "plain.tflite").read_bytes()
    done = call("lower", leaking, "-o", tmp_path / "never.tflite")
    assert (done.returncode, done.stdout) == (1, "")
    assert not (tmp_path / "never.tflite").exists()


@pytest.mark.parametrize(
    ("words", "wanted"), [("", {"convert", "lower"}), ("convert --quantization ", {"dynamic", "float16", "int8"})]
)
def test_a_shell_completes_names(words, wanted):
    words = f"lstm-toolkit {words}"
    asks = {"_LSTM_TOOLKIT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    program = "import sys; sys.argv[0] = 'lstm-toolkit'; from lstm_toolkit.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | asks, capture_output=True, text=True)
    assert wanted <= {line.partition(",")[2] for line in done.stdout.splitlines()}


def test_options_that_do_not_fit_are_a_usage_error(folder):
    done = run("convert", folder / "good.keras", "-o", folder / "not.tflite", "--max-error", 0.1)
    assert done.returncode == 2
    assert "--max-error is for --lowering auto" in done.stderr
    assert not (folder / "not.tflite").exists()


def test_json_is_for_programs(folder, call):
    done = call("convert", folder / "gru.keras", "-o", folder / "gru.tflite", "--on-unsupported", "keep", "--json")
    report = json.loads(done.stdout)
    assert [layer["op"] for layer in report["layers"]] == ["stock lowering", "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    assert report["size"] == (folder / "gru.tflite").stat().st_size
    assert report["max_abs_error"] < 1e-5
    summary = json.loads(call("inspect", folder / "gru.tflite", "--json").stdout)
    assert summary["ops"] == report["ops"]
    assert summary["lstm_nodes"][0]["weights"]["input_to_cell_weights"] == [3, 6]
    assert "LSTM ops" in run("inspect", folder / "gru.tflite").stdout


def test_options_of_convert_reach_it(folder, call):
    options = ["--state", "explicit", "--time-major", "--bidirectional", "split", "--no-verify", "--time-steps", 7]
    done = call("convert", folder / "good.keras", "-o", folder / "options.tflite", *options)
    assert done.returncode == 0
    summary = json.loads(call("inspect", folder / "options.tflite", "--json").stdout)
    assert [tensor["shape"] for tensor in summary["inputs"]] == [[7, 1, 5], [1, 6], [1, 6]]
    assert "verifying" not in done.stderr


@pytest.mark.parametrize(
    ("alone", "model", "reason"),
    [
        (False, "absent.keras", "there is no file"),
        (False, "text.keras", "is not a Keras model"),
        (True, "gru.keras", "layer 'g' (GRU): it is not an LSTM"),
        (False, "gru.keras", "--lowering unrolled or loop"),
        (False, "gru.keras", "--on-unsupported keep"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_no_file(folder, call, alone, model, reason):
    done = (run if alone else call)("convert", folder / model, "-o", folder / "never.tflite")
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert error.startswith("Error: ")
    assert reason in error
    assert done.stdout == ""
    assert not [path for path in folder.iterdir() if "never" in path.name or path.name.startswith(".")]


def test_an_output_that_cannot_be_written_is_said_before_any_slow_step(folder):
    done = run("convert", folder / "good.keras", "-o", folder / "nowhere" / "good.tflite")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot write")


@pytest.mark.parametrize("args", [["inspect", "absent.tflite"], ["inspect", "text.keras"]])
def test_inspect_refuses_what_is_no_tflite_file(folder, args):
    done = run(args[0], folder / args[1])
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('pass time_steps, or lowering="loop"', "pass --time-steps, or --lowering loop"),
        ("batch_size=3 is not it", "--batch-size 3 is not it"),
        ("state must be one of auto, reset", "--state must be one of auto, reset"),
        ("leave out verify=True", "leave out --verify"),
        ("layer 'time_steps' has a state", "layer 'time_steps' has a state"),
        ('pass quantization="int4" or None', 'pass quantization="int4" or None'),
        ("give representative_dataset samples", "give --representative-dataset samples"),
    ],
)
def test_arguments_are_named_as_options(text, wanted):
    assert in_options(text, main.commands["convert"]) == wanted


def test_every_message_names_options_as_the_command_line_has_them():
    convert = main.commands["convert"]
    names = "|".join(option.name for option in convert.params if option.name not in ("model", "output"))
    said = [in_options(message.text, convert) for message in messages()]
    left = {found for text in said for found in re.findall(rf'\b(?:{names})="\w+"|\b(?:time_steps|batch_size)\b', text)}
    assert left == set()


def test_what_only_python_takes_is_said():
    with main.commands["convert"].make_context("convert", ["a.keras", "-o", "a.tflite"]):
        text = in_words_of_the_command(ValueError("pass time_steps, or input_signature"))
    said = "(input_signature: only in Python, as an argument of lstm_toolkit.convert)"
    assert text == f"pass --time-steps, or input_signature {said}"


def test_the_backend_of_keras_is_of_no_matter(folder, tmp_path):
    """Its file is the same for all, and the process is the command's own."""
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    environment = {"KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path)}
    done = run("convert", folder / "good.keras", "-o", folder / "any.tflite", "--no-verify", **environment)
    assert (done.returncode, "UNIDIRECTIONAL_SEQUENCE_LSTM" in done.stdout) == (0, True)


def test_a_missing_package_is_one_line(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "lstm_toolkit.inspection.read", None)
    done = call("inspect", "any.tflite")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: this command needs a package that cannot be imported (")
    assert len(done.stderr.splitlines()) == 1


def test_wrong_usage_is_exit_code_2(folder):
    assert run("convert", folder / "good.keras").returncode == 2
    assert run("convert", folder / "good.keras", "-o", "x", "--batch-size", "0").returncode == 2
    assert run("frobnicate").returncode == 2


@pytest.fixture(scope="module")
def leaking(folder):
    """A file whose state leaks: carried, and no longer known to have been asked for."""
    model = keras.saving.load_model(folder / "good.keras")
    carried = lstm_toolkit.convert(model, state="carry").tflite
    (folder / "leaking.tflite").write_bytes(fault_corpus.edited(carried, lambda _: None))
    return folder / "leaking.tflite"


def test_diagnose(folder, leaking, call):
    done = run("diagnose", leaking, "--json")
    assert done.returncode == 3
    assert [finding["code"] for finding in json.loads(done.stdout)["findings"]] == ["state-leak"]
    assert "state-leak" in run("diagnose", leaking).stdout
    done = call("diagnose", folder / "good.keras")
    assert done.returncode == 0
    assert "open-batch" in done.stdout
    done = call("diagnose", folder / "text.keras")
    assert done.returncode == 1
    assert "is not a Keras model" in done.stderr


def test_repair(folder, leaking):
    done = run("repair", leaking, "-o", folder / "mended.tflite", "--json")
    assert done.returncode == 0
    assert [change["code"] for change in json.loads(done.stdout)["changes"]] == ["state-leak"]
    assert lstm_toolkit.diagnose(folder / "mended.tflite") == ()
    done = run("repair", leaking, "-o", folder / "not.tflite", "--code", "rust")
    assert done.returncode == 2
    assert "can be mended, got rust" in done.stderr.replace("\n", " ").replace("│", "")
    assert not (folder / "not.tflite").exists()
    done = run("repair", leaking, "-o", folder / "kept.tflite", "--keep", "state-leak")
    assert done.returncode == 0
    assert "pass --keep state-leak if the file is to continue a sequence" in done.stdout
    assert (folder / "kept.tflite").read_bytes() == leaking.read_bytes()
    assert run("repair", leaking, "-o", folder / "not.tflite", "--keep", "op 99 LSTM").returncode == 2


def test_plot(folder, leaking):
    done = run("plot", leaking)
    assert "input_to_forget_weights" in done.stdout
    done = run("plot", leaking, "-o", folder / "gates.svg", "--gate", "forget")
    assert done.returncode == 0
    assert (folder / "gates.svg").read_text().lstrip().startswith("<?xml")
    assert run("plot", leaking, "-o", folder / "gates.txt").returncode == 2
    done = run("plot", leaking, "--node", 4)
    assert done.returncode == 2
    assert "node must be 0 to 0, got 4" in done.stderr.replace("\n", " ")


def test_bench(folder, leaking):
    options = ["--runs", 6, "--warmup", 1, "--threads", 2]
    done = run("bench", leaking, leaking, *options, "--csv", folder / "times.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "leaking (2)" in done.stdout
    assert "no difference" in done.stdout or "slower" in done.stdout or "faster" in done.stdout
    header, *rows = (folder / "times.csv").read_text().splitlines()
    assert header.startswith("name,kind,size,num_threads")
    assert [row.split(",")[0] for row in rows] == ["leaking", "leaking (2)"]
    values = json.loads(run("bench", leaking, *options, "--json").stdout)
    assert (values["runs"], values["models"][0]["num_threads"]) == (6, 2)
    assert values["models"][0]["invoke"]["median"] > 0


def test_bench_refuses(folder, leaking):
    done = run("bench", folder / "text.keras")
    assert (done.returncode, done.stdout) == (1, "")
    assert "model 'text'" in done.stderr
    assert "is not a .tflite file" in done.stderr
    done = run("bench", leaking, "--csv", folder / "nowhere" / "times.csv")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot write")
    assert run("bench").returncode == 2
