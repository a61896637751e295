"""Sweeps: order, errors as rows, workers that end, taking up again, and executors of every kind.

Most tests put a worker in the place of the real one that answers, hangs or ends as it is told.
"""

import ast
import csv
import inspect
import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from lstm_toolkit import models
from lstm_toolkit.sweeping import values, worker
from lstm_toolkit.sweeping.sweep import SweepConfig, SweepResult, SweepRow, grid, sweep

FAKE = """
import os, sys, time
from lstm_toolkit.sweeping import worker

def measure(config):
    options = config["options"]
    with open(options["log"], "a") as log:
        log.write(f"{options['number']} {os.getpid()}\\n")
    with open(options["log"]) as log:
        times = sum(line.split()[0] == str(options["number"]) for line in log)
    if options["does"] == "end" or (options["does"] == "end once" and times == 1):
        print("about to end", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 9)
    if options["does"] == "hang":
        time.sleep(600)
    print("noise on stdout")
    return {"size": options["number"], "error": "ValueError: told so" if options["does"] == "fail" else None}

worker.measure = measure
worker.serve()
"""


class Fake:
    """Configurations of the fake worker, and what it was given."""

    def __init__(self, folder):
        self.log = folder / "log"
        self.log.touch()

    def configs(self, *does):
        return [
            SweepConfig("unidirectional", options={"does": each, "number": number, "log": str(self.log)})
            for number, each in enumerate(does)
        ]

    @property
    def lines(self):
        return [tuple(map(int, line.split())) for line in self.log.read_text().splitlines()]

    @property
    def numbers(self):
        return sorted(number for number, _ in self.lines)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text(FAKE)
    monkeypatch.setattr(worker, "COMMAND", (sys.executable, str(script)))
    yield Fake(tmp_path)
    assert not worker._children


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def write_sum(path, *, addend=1.0, signature=(2, 3)):
    """A `.tflite` file with one ADD of a constant, [2, 3] to [2, 3]."""
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
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return str(path)


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_rows_have_the_order_of_the_configurations(fake, kind):
    configs = fake.configs(*["answer"] * 5)
    wanted = [configs[number] for number in (3, 0, 4, 1, 0, 2)]
    seen = []
    with ThreadPoolExecutor(3) as threads:
        executor = threads if kind == "threads" else None
        result = sweep(wanted, executor, workers=2, progress=lambda row, done, total: seen.append((done, total)))
    assert [row.config for row in result.rows] == wanted
    assert [row.size for row in result.rows] == [3, 0, 4, 1, 0, 2]
    assert {row.executor for row in result.rows} == {
        "ThreadPoolExecutor" if kind == "threads" else "2 processes of sweep"
    }
    assert fake.numbers == [0, 1, 2, 3, 4]
    assert seen == [(done, 5) for done in range(1, 6)]
    assert len({pid for _, pid in fake.lines}) <= 3
    assert not any(is_alive(pid) for _, pid in fake.lines)


def test_a_worker_that_always_ends_is_one_row_with_its_last_words(fake):
    rows = sweep(fake.configs("answer", "end", "answer", "end once", "answer"), workers=2).rows
    assert [row.size for row in rows] == [0, None, 2, 3, 4]
    assert [row.error is None for row in rows] == [True, False, True, True, True]
    assert rows[1].error == (
        "WorkerEndedError: the worker process ended: SIGKILL; its last line was 'about to end' (tried 3 times)"
    )
    assert [row.unanswered for row in rows] == [False, True, False, False, False]
    assert fake.numbers == [0, 1, 1, 1, 2, 3, 3, 4]


def test_a_worker_that_hangs_is_ended_when_its_time_is_over(fake):
    (row,) = sweep(fake.configs("hang"), timeout=1.5).rows
    assert row.error == "TimeoutError: no answer within 1.5 s"
    assert row.unanswered
    assert len(fake.lines) == 1
    assert not is_alive(fake.lines[0][1])


class ThirdFails(Executor):
    """Every third submit fails, in the way that it is told."""

    def __init__(self, fails, *, every=3):
        self.threads, self.submits, self.fails, self.every = ThreadPoolExecutor(2), 0, fails, every

    def submit(self, function, /, *args, **kwargs):
        self.submits += 1
        if self.submits % self.every:
            return self.threads.submit(function, *args, **kwargs)
        return self.fails()


def refuses():
    raise RuntimeError("no room")


def cancels():
    future = Future()
    future.cancel()
    future.set_running_or_notify_cancel()
    return future


@pytest.mark.parametrize("fails", [refuses, cancels])
def test_an_executor_that_fails_now_and_then_loses_no_row(fake, fails):
    rows = sweep(fake.configs(*["answer"] * 8), ThirdFails(fails)).rows
    assert [(row.size, row.error) for row in rows] == [(number, None) for number in range(8)]


@pytest.mark.parametrize(("fails", "message"), [(refuses, "RuntimeError: no room"), (cancels, "CancelledError")])
def test_an_executor_that_always_fails_gives_rows_with_its_error(fake, fails, message):
    rows = sweep(fake.configs("answer", "answer"), ThirdFails(fails, every=1)).rows
    assert len(rows) == 2
    assert all(row.error.startswith(message) and row.error.endswith("(tried 3 times)") for row in rows)
    assert all(row.unanswered for row in rows)
    assert fake.numbers == []


def test_every_call_that_an_executor_gets_is_unlike_the_others(fake):
    calls = []

    class Recording(ThirdFails):
        def submit(self, function, /, *args, **kwargs):
            calls.append(repr(args))
            return super().submit(function, *args, **kwargs)

    for _ in range(2):
        sweep(fake.configs("answer"), Recording(refuses, every=1))
    assert len(set(calls)) == len(calls) == 6


def test_a_process_pool_that_breaks_loses_no_row(tmp_path):
    configs = [SweepConfig(write_sum(tmp_path / "sum.tflite"), runs=n) for n in range(1, 9)]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pid = pool.submit(os.getpid).result()

        def kill(row, done, total):
            if done == 2:
                os.kill(pid, signal.SIGKILL)

        rows = sweep(configs, pool, progress=kill).rows
    assert [row.error for row in rows] == [None] * 8
    assert [row.config.runs for row in rows] == list(range(1, 9))
    assert {row.executor for row in rows} == {"ProcessPoolExecutor", "1 process of sweep"}
    assert not worker._children


def idle_children():
    return len(worker._idle)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_leaves_the_children_of_its_parent_alone(monkeypatch):
    monkeypatch.setattr(worker, "_idle", [None])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(idle_children).result() == 0
    assert idle_children() == 1


def interrupt_at(number):
    def progress(row, done, total):
        if done == number:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_sweep_is_taken_up_where_it_stopped(fake, tmp_path):
    configs, results = fake.configs("answer", "fail", "answer", "answer", "answer"), tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        sweep(configs, results=results, progress=interrupt_at(3))
    assert not worker._children
    whole = results.read_bytes()
    assert [json.loads(line)["size"] for line in whole.splitlines()] == [0, 1, 2]
    results.write_bytes(whole + whole.splitlines()[0][:-30])
    fake.log.write_text("")
    result = sweep(configs, results=results)
    assert [row.size for row in result.rows] == [0, 1, 2, 3, 4]
    assert [row.error for row in result.rows] == [None, "ValueError: told so", None, None, None]
    assert fake.numbers == [3, 4]
    fake.log.write_text("")
    assert sweep(configs[::-1], results=results).rows == result.rows[::-1]
    assert fake.numbers == []


def test_errors_are_measured_again_where_that_can_help(fake, tmp_path):
    configs, results = fake.configs("answer", "fail", "end"), tmp_path / "rows.jsonl"
    sweep(configs, results=results)
    for retry_errors, wanted in ((False, [2, 2, 2]), (True, [1, 2, 2, 2])):
        fake.log.write_text("")
        assert len(sweep(configs, results=results, retry_errors=retry_errors).rows) == 3
        assert fake.numbers == wanted


def test_a_file_that_changed_is_measured_again(tmp_path):
    path, results = tmp_path / "sum.tflite", tmp_path / "rows.jsonl"
    configs = [SweepConfig(write_sum(path), runs=3)]
    first = sweep(configs, results=results).rows
    assert sweep(configs, results=results).rows == first
    write_sum(path, addend=2.0)
    second = sweep(configs, results=results).rows
    assert second[0].digest != first[0].digest
    assert sweep(configs, results=results).rows == second
    assert len(results.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a,b\n1,2\n", "line 1 is not JSON"), (b"TFL3\0", "line 1 is not JSON"), (b'\n{"config": 3}\n', "line 2: ")],
)
def test_another_file_is_refused_and_stays_as_it_is(fake, tmp_path, content, reason):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        sweep(fake.configs("answer"), results=path)
    assert path.read_bytes() == content
    assert fake.numbers == []


def test_results_that_cannot_be_written_are_refused_before_anything_runs(fake, tmp_path):
    with pytest.raises(FileNotFoundError):
        sweep(fake.configs("answer"), results=tmp_path / "nowhere" / "rows.jsonl")
    assert fake.numbers == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_the_sweep_is_ended(fake, tmp_path, number):
    """Also of a script that does not guard its main module."""
    script = tmp_path / "script.py"
    script.write_text(
        "from lstm_toolkit.sweeping import sweep, worker\n"
        f"worker.COMMAND = {worker.COMMAND!r}\n"
        f"options = {dict(fake.configs('answer', 'hang')[1].options)!r}\n"
        "configs = [sweep.SweepConfig('unidirectional', options=options | {'number': n}) for n in (1, 2)]\n"
        "sweep.sweep(configs, workers=2)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(fake.lines) == 2)
        process.send_signal(number)
        assert process.wait(30) != 0
    wait_until(lambda: not any(is_alive(pid) for _, pid in fake.lines))


def wait_until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("not within 30 seconds")


def test_conversions_are_measured():
    """The real worker: converts twice and refuses once."""
    configs = grid(
        "bidirectional",
        sizes={"time_steps": [6], "input_size": [4], "units": [3]},
        options={"bidirectional": ["fused", "split", "both"]},
        runs=5,
    )
    rows = sweep(configs).rows
    assert dict(rows[0].ops)["BIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert dict(rows[1].ops)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    for row in rows[:2]:
        assert row.error is None
        assert row.size > 1000
        assert 0 < row.median <= row.percentile_90
        assert row.conversion_seconds > 0
        assert row.max_abs_error < 1e-5
    assert rows[2].error == "ValueError: bidirectional must be one of fused, split, got 'both'"
    assert rows[2].median is None
    assert not rows[2].unanswered


def test_files_are_timed_as_they_are(tmp_path):
    fixed = write_sum(tmp_path / "fixed.tflite")
    open_sizes = write_sum(tmp_path / "open.tflite", signature=(-1, 3))
    (tmp_path / "broken.tflite").write_bytes(b"no model")
    rows = sweep(
        [
            SweepConfig(fixed, runs=4, num_threads=2),
            SweepConfig(open_sizes),
            SweepConfig(open_sizes, input_shapes={"x": (1, 3)}),
            SweepConfig(str(tmp_path / "none.tflite")),
            SweepConfig(str(tmp_path / "broken.tflite")),
        ]
    ).rows
    assert dict(rows[0].ops) == {"ADD": 1}
    assert rows[0].size == os.path.getsize(fixed)
    assert 0 < rows[0].median <= rows[0].percentile_90
    assert rows[0].max_abs_error is rows[0].conversion_seconds is None
    assert "input 'x' has open sizes, [-1, 3]; give input_shapes" in rows[1].error
    assert rows[2].error is None
    assert rows[2].median > 0
    assert rows[3].error.startswith("FileNotFoundError: ")
    assert rows[4].error.startswith("InvalidModelError: ")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"model": "unidirektional"}, "model must be one of unidirectional, stacked"),
        ({"model": "a.onnx"}, "model must be one of"),
        ({"model": "a.keras", "sizes": {"units": 3}}, "sizes are for models of lstm_toolkit.models"),
        ({"model": "a.tflite", "options": {"state": "carry"}}, "options for what is converted"),
        ({"options": {"representative_dataset": list}}, r"options\['representative_dataset'\] cannot be written"),
        ({"sizes": {"units": np.int64(3)}}, r"sizes\['units'\] cannot be written as JSON"),
        ({"sizes": {"units": float("nan")}}, r"sizes\['units'\] cannot be written as JSON"),
        ({"runs": 0}, "runs must be an integer from 1, got 0"),
        ({"num_threads": 1.0}, "num_threads must be an integer from 1, got 1.0"),
        ({"warmup": -1}, "warmup must be an integer from 0, got -1"),
    ],
)
def test_configurations_are_checked_when_they_are_made(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        SweepConfig(**{"model": "unidirectional"} | arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"workers": 0}, "workers must be an integer from 1, got 0"),
        ({"timeout": 0}, "timeout must be above 0 seconds, got 0"),
        ({"configs": ["unidirectional"]}, "configs must hold SweepConfig, got str"),
    ],
)
def test_arguments_are_checked_before_anything_runs(fake, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        sweep(**{"configs": fake.configs("answer")} | arguments)
    assert fake.numbers == []


def test_configurations_are_values():
    config = SweepConfig("stacked", {"units": (3, 5)}, {"lowering": "loop"}, runs=7, input_shapes={"x": (1, 2)})
    same = SweepConfig("stacked", {"units": [3, 5]}, {"lowering": "loop"}, runs=7, input_shapes={"x": [1, 2]})
    assert config == same == pickle.loads(pickle.dumps(config)) == SweepConfig(**json.loads(json.dumps(same.to_dict())))
    assert len({config, same, SweepConfig("stacked", {"units": [3, 6]})}) == 2
    with pytest.raises(TypeError):
        config.sizes["units"] = 4


def test_a_grid_has_every_combination_the_last_changing_first():
    configs = grid(
        ["unidirectional", "stateful"],
        sizes={"units": [3, 5]},
        options={"lowering": ["fused", "loop"]},
        num_threads=[1, 2],
        runs=9,
    )
    assert len(set(configs)) == len(configs) == 16
    assert [config.num_threads for config in configs[:3]] == [1, 2, 1]
    assert [config.options["lowering"] for config in configs[:5]] == ["fused", "fused", "loop", "loop", "fused"]
    assert [config.sizes["units"] for config in configs[2:6]] == [3, 3, 5, 5]
    assert [config.model for config in configs[7:9]] == ["unidirectional", "stateful"]
    assert {config.runs for config in configs} == {9}


def test_the_builders_are_those_of_the_models_module():
    tree = ast.parse(inspect.getsource(models))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert tuple(name for name in functions if not name.startswith("_")) == values.BUILDERS


def test_a_result_shows_itself_and_is_csv_and_json(tmp_path):
    good = SweepRow(
        SweepConfig("unidirectional", {"units": 3}, {"lowering": "loop"}),
        size=1234,
        ops={"ADD": 2, "WHILE": 1},
        median=12.34,
        percentile_90=23.45,
        max_abs_error=1.2e-7,
        conversion_seconds=0.51,
        executor="ThreadPoolExecutor",
        machine="here",
    )
    bad = SweepRow(SweepConfig("<b>.tflite"), error='ValueError: <i>, "why"\nand more')
    result = SweepResult((good, bad))
    assert pickle.loads(pickle.dumps(result)) == result
    text = str(result)
    assert text.startswith("2 configurations, 1 of them with an error\n")
    assert "unidirectional units=3 lowering=loop num_threads=1" in text
    assert all(each in text for each in ("1,234", "12 ", "23 ", "1.2e-07", "0.5", "ValueError: <i>"))
    assert "and more" not in text
    assert "<i>" not in result._repr_html_()
    assert "&lt;b&gt;.tflite" in result._repr_html_()
    assert json.loads(json.dumps(result.to_dict()))["rows"][1]["error"] == bad.error
    result.save_csv(tmp_path / "rows.csv")
    first, second = csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text()))
    assert (first["sizes.units"], first["options.lowering"], first["ops"], first["size"]) == ("3", "loop", "3", "1234")
    assert (float(first["median"]), float(first["percentile_90"])) == (12.34, 23.45)
    assert (second["model"], second["sizes.units"], second["median"]) == ("<b>.tflite", "", "")
    assert second["error"] == bad.error


def test_sweeping_needs_no_tensorflow():
    code = "import sys, lstm_toolkit.sweeping.sweep; assert not {'tensorflow', 'keras', 'dask'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
