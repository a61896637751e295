"""Sweeps: order, errors as rows, processes that end, taking up again, and executors of every kind.

Most tests put a function in the place of `measure` that answers, hangs or ends its process as it is told.
"""

import ast
import csv
import inspect
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from lstm_toolkit import models
from lstm_toolkit.sweeping import values, worker
from lstm_toolkit.sweeping.sweep import SweepConfig, SweepResult, SweepRow, grid, sweep
from tests.helpers.imports import run_without
from tests.helpers.obedient import obey
from tests.helpers.sum_file import write_sum

ROOT = Path(__file__).parents[2]


class Fake:
    """Configurations for `obey`, and what it was given."""

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
    monkeypatch.setattr(worker, "measure", obey)
    return Fake(tmp_path)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


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
    assert kind == "threads" or not any(is_alive(pid) for _, pid in fake.lines)


def test_a_crash_is_the_row_of_its_configuration_alone(fake, tmp_path):
    """And it is measured again, since another time or machine may bear it."""
    configs, results = fake.configs("answer", "end", "answer", "fail", "answer"), tmp_path / "rows.jsonl"
    rows = sweep(configs, results=results).rows
    assert [row.size for row in rows] == [0, None, 2, 3, 4]
    assert [row.error is None for row in rows] == [True, False, True, False, True]
    assert rows[1].error == "WorkerEndedError: SIGKILL"
    assert rows[3].error == "ValueError: told so"
    assert len({pid for _, pid in fake.lines}) == 2
    assert len(results.read_text().splitlines()) == 4
    again = sweep(configs, results=results).rows
    assert again[::2] == rows[::2]
    assert fake.numbers == [0, 1, 1, 2, 3, 4]


class ThirdFails(Executor):
    """Every third call fails, in the way that it is told."""

    def __init__(self, fails):
        self.threads, self.submits, self.fails = ThreadPoolExecutor(2), 0, fails

    def submit(self, function, /, *args, **kwargs):
        self.submits += 1
        if self.submits % 3:
            return self.threads.submit(function, *args, **kwargs)
        future = Future()
        self.fails(future)
        return future


def refuses(future):
    future.set_exception(RuntimeError("no room"))


def cancels(future):
    future.cancel()
    future.set_running_or_notify_cancel()


@pytest.mark.parametrize(("fails", "message"), [(refuses, "RuntimeError: no room"), (cancels, "CancelledError: ")])
def test_what_an_executor_fails_at_is_a_row_with_its_error(fake, fails, message, tmp_path):
    configs, results = fake.configs(*["answer"] * 7), tmp_path / "rows.jsonl"
    rows = sweep(configs, ThirdFails(fails), results=results).rows
    assert [row.size for row in rows] == [0, 1, None, 3, 4, None, 6]
    assert [row.error for row in rows] == [None, None, message, None, None, message, None]
    assert {row.executor for row in rows} == {"ThirdFails"}
    # Only these are measured the next time.
    assert [row.error for row in sweep(configs, ThirdFails(fails), results=results).rows] == [None] * 7
    assert fake.numbers == list(range(7))


def test_what_a_pool_that_breaks_loses_is_measured_the_next_time(tmp_path):
    configs = [SweepConfig(write_sum(tmp_path / "sum.tflite"), runs=n) for n in range(1, 9)]
    results = tmp_path / "rows.jsonl"
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pid = pool.submit(os.getpid).result()

        def kill(row, done, total):
            if done == 2:
                os.kill(pid, signal.SIGKILL)

        rows = sweep([*configs, SweepConfig(configs[0].model, runs=10**7)], pool, results=results, progress=kill).rows
    assert [row.config for row in rows[:-1]] == configs
    assert {row.executor for row in rows} == {"ProcessPoolExecutor"}
    lost = [row for row in rows if row.error]
    assert 1 <= len(lost) <= 7
    assert all(row.error.startswith("BrokenProcessPool: ") for row in lost)
    assert len(results.read_text().splitlines()) == 9 - len(lost)
    rows = sweep(configs, results=results).rows
    assert [row.error for row in rows] == [None] * 8
    assert {row.executor for row in rows} <= {"ProcessPoolExecutor", "1 process of sweep"}


def test_threads_measure_one_after_the_other(monkeypatch):
    running, most = [], []

    def slow(config, figures):
        running.append(config)
        most.append(len(running))
        time.sleep(0.05)
        running.remove(config)
        raise ValueError("seen")

    monkeypatch.setattr(worker, "_converted", slow)
    with ThreadPoolExecutor(4) as threads:
        rows = sweep([SweepConfig("stacked", runs=n) for n in range(1, 9)], threads).rows
    assert [row.error for row in rows] == ["ValueError: seen"] * 8
    assert max(most) == 1


def interrupt_at(number):
    def progress(row, done, total):
        if done == number:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_sweep_is_taken_up_where_it_stopped(fake, tmp_path):
    configs, results = fake.configs("answer", "fail", *["answer"] * 30), tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        sweep(configs, results=results, progress=interrupt_at(3))
    assert [json.loads(line)["size"] for line in results.read_text().splitlines()] == [0, 1, 2]
    begun = fake.numbers
    assert len(begun) < 32, "what waited was not cancelled"
    assert not any(is_alive(pid) for _, pid in fake.lines)
    result = sweep(configs, results=results)
    assert [row.size for row in result.rows] == list(range(32))
    assert [row.error for row in result.rows] == [None, "ValueError: told so", *[None] * 30]
    assert fake.numbers == sorted([*begun, *range(3, 32)])
    assert sweep(configs[::-1], results=results).rows == result.rows[::-1]
    assert fake.numbers == sorted([*begun, *range(3, 32)])


def test_an_interrupted_sweep_does_not_wait_for_what_is_being_measured(fake):
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sweep(fake.configs("answer", "hang"), workers=2, progress=interrupt_at(1))
    assert time.monotonic() - start < 20
    assert not any(is_alive(pid) for _, pid in fake.lines)


@pytest.mark.parametrize("left", ['{"con', '{"config": {"model": "unidirectional"'])
def test_half_a_row_of_a_killed_sweep_is_measured_again(fake, tmp_path, left):
    configs, results = fake.configs("answer", "answer", "answer"), tmp_path / "rows.jsonl"
    sweep(configs[:2], results=results)
    whole = results.read_text()
    results.write_text(whole + left)
    assert [row.size for row in sweep(configs, results=results).rows] == [0, 1, 2]
    assert results.read_text().startswith(whole)
    assert [json.loads(line)["size"] for line in results.read_text().splitlines()] == [0, 1, 2]
    assert fake.numbers == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1,2\n", "line 1: Expecting value"),
        (b"a,b\n1,2", "line 1: Expecting value"),
        (b"\x1c\0\0\0TFL3\xff", "line 1: Expecting value"),
        (b'{"config": {"model": "stacked"}}\n{"config": 3}\n', "line 2: "),
        (b'{"config": {"model": "stacked"}, "unanswered": true}\n', "line 1: .* 'unanswered'"),
    ],
)
def test_another_file_is_refused_and_stays_as_it_is(fake, tmp_path, content, reason):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"is not the results file of a sweep; {reason}"):
        sweep(fake.configs("answer"), results=path)
    assert path.read_bytes() == content
    assert fake.numbers == []


def test_results_that_cannot_be_written_are_refused_before_anything_runs(fake, tmp_path):
    with pytest.raises(FileNotFoundError):
        sweep(fake.configs("answer"), results=tmp_path / "nowhere" / "rows.jsonl")
    assert fake.numbers == []


def script_of(fake, folder, does):
    """A script without a guard of its main module."""
    path = folder / "script.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from lstm_toolkit.sweeping import sweep, worker\n"
        "from tests.helpers.obedient import obey\n"
        "worker.measure = obey\n"
        f"options = {dict(fake.configs(does)[0].options)!r}\n"
        "configs = [sweep.SweepConfig('unidirectional', options=options | {'number': n}) for n in (1, 2)]\n"
        "print([row.size for row in sweep.sweep(configs, workers=2).rows])\n"
    )
    return [sys.executable, str(path)]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_the_sweep_is_ended(fake, tmp_path, number):
    with subprocess.Popen(script_of(fake, tmp_path, "hang"), stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(fake.lines) == 2)
        process.send_signal(number)
        assert process.wait(30) != 0
    wait_until(lambda: not any(is_alive(pid) for _, pid in fake.lines))


def test_a_script_needs_no_guard(fake, tmp_path):
    command = script_of(fake, tmp_path, "answer")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[1, 2]\n"
    assert fake.numbers == [1, 2]


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
    assert rows[3].error.startswith("InvalidModelError: cannot read ")
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
    run_without({"tensorflow", "keras", "dask"}, "import lstm_toolkit.sweeping.sweep")
