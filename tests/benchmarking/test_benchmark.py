"""`benchmark`: statistics on made-up data, order and arithmetic on a made-up clock, what it takes and gives."""

import csv
import dataclasses
import gc
import io
import itertools
import json
import math
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, quantile_test

import lstm_toolkit
from lstm_toolkit.benchmarking.benchmark import COLD_CALLS, benchmark
from lstm_toolkit.benchmarking.result import BenchmarkResult
from lstm_toolkit.benchmarking.timings import ModelTiming, Overhead, Ratio, Timing, median_interval
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.runtime import other_work
from lstm_toolkit.runtime.other_work import last_level_cache
from tests.helpers.imports import run_without
from tests.helpers.models import randomized

BATCH, TIME, INPUT, UNITS = 2, 7, 5, 3
QUICK = {"runs": 7, "warmup": 2}


@pytest.fixture(scope="module")
def source():
    layers = [keras.Input((TIME, INPUT), name="x"), keras.layers.LSTM(UNITS)]
    return randomized(keras.Sequential(layers, name="source"))


@pytest.fixture(scope="module")
def conversion(source):
    return lstm_toolkit.convert(source, batch_size=BATCH, verify=False)


@pytest.fixture(scope="module")
def carrying(source):
    return lstm_toolkit.convert(source, batch_size=BATCH, state="carry", verify=False).tflite


class Machine:
    """A clock that moves by what calls cost, and keeps who was called. Times are in microseconds."""

    def __init__(self, *, clock_cost=0.0):
        self.now, self.speed, self.clock_cost, self.log = 0.0, 1.0, clock_cost, []

    def clock(self):
        self.now += self.clock_cost
        return self.now / 1e6

    def model(self, name, cost, every=lambda machine: None):
        def call():
            self.log.append(name)
            self.now += cost * self.speed
            every(self)

        return call


@pytest.fixture
def on(monkeypatch):
    def use(machine):
        monkeypatch.setattr(time, "perf_counter", machine.clock)
        return machine

    return use


def timing(*rounds):
    return Timing.of([np.array([float(value)] * 3) for value in rounds])


def result(**rounds):
    models = tuple(ModelTiming(name, "callable", timing(*values), 1.0) for name, values in rounds.items())
    return BenchmarkResult(models, models[0].name, 0.01, Overhead("a", 1.0, 1.02, 0.02), len(models[0].call.rounds), 0)


# The interval


@given(st.integers(6, 120), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_interval_is_that_of_the_sign_test(count, seed):
    values = np.random.default_rng(seed).normal(size=count)
    median, low, high = median_interval(values)
    assert median == np.median(values)
    rank = int(np.sum(values <= low))
    assert high == np.sort(values)[count - rank]
    # The chance to miss on one side, and that it is as narrow as the confidence allows.
    assert binom.cdf(rank - 1, count, 0.5) <= 0.025 < binom.cdf(rank, count, 0.5)
    scipys = quantile_test(values, p=0.5).confidence_interval(0.95)
    assert low >= scipys.low or math.isclose(low, scipys.low)
    assert high == scipys.high


@given(st.integers(6, 80), st.sampled_from(["normal", "standard_cauchy", "exponential"]), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_interval_covers_the_median(count, distribution, seed):
    samples = getattr(np.random.default_rng(seed), distribution)(size=(400, count))
    true = math.log(2) if distribution == "exponential" else 0.0
    intervals = [median_interval(sample)[1:] for sample in samples]
    covered = sum(low <= true <= high for low, high in intervals)
    # Of 400 intervals that hold the median with a chance of 0.95, fewer than 355 do so once in two million times.
    assert covered >= 355


def test_few_values_have_no_interval():
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, -math.inf, math.inf)
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 9.0]) == (3.5, 1.0, 9.0)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.9, 1.1, "no difference: the interval holds 1"),
        (1.0, 1.5, "no difference: the interval holds 1"),
        (1.001, 1.5, "no difference of 2% or more"),
        (0.5, 0.999, "no difference of 2% or more"),
        (1.021, 1.5, "slower"),
        (0.5, 0.979, "faster"),
        (0.0, math.inf, "no difference can be told in fewer than 6 runs"),
    ],
)
def test_verdicts(low, high, verdict):
    assert Ratio("b", "a", "call", 1.0, low, high, 0.02).verdict == verdict


def test_ratios_are_by_round():
    drift = np.array([1, 2, 4, 8, 16, 32, 64.0])
    compared = result(a=drift, b=2 * drift, c=drift / 4)
    assert [(each.name, each.verdict) for each in compared.ratios] == [("b", "slower"), ("c", "faster")]
    assert compared.ratio("b", "c").ratio == pytest.approx(8)
    assert (compared.ratio("b").low, compared.ratio("b").high) == pytest.approx((2, 2))
    with pytest.raises(KeyError, match=r"the models are \['a', 'b', 'c'\], got 'd'"):
        compared.ratio("d")
    with pytest.raises(ValueError, match="only files have the column 'invoke'"):
        compared.ratio("b", column="invoke")
    with pytest.raises(ValueError, match="not all were timed cold; compare by 'call'"):
        compared.ratio("b", column="cold")
    with pytest.raises(ValueError, match="column must be one of invoke, call, cold, got 'copy'"):
        compared.ratio("b", column="copy")


def test_timings():
    found = Timing.of([np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 96.0])])
    assert (found.median, found.calls, found.rounds) == (3.5, 6, (2.0, 5.0))
    assert found.percentile_90 == pytest.approx(np.percentile([1, 2, 3, 4, 5, 96], 90))
    assert found.throughput == pytest.approx(1e6 / np.median([2, 35]))


# Order and arithmetic


def test_models_are_timed_in_turn_and_in_random_order(on):
    machine = on(Machine())
    benchmark({name: machine.model(name, 600.0 + number) for number, name in enumerate("abc")}, runs=60, warmup=0)
    # A turn is an untimed call and two timed ones, two in a bare loop for the fastest, and the cold ones. The first 6
    # calls warm up.
    log, order = machine.log[6:], []
    while log:
        name, count = log[0], COLD_CALLS + (5 if log[0] == "a" else 3)
        assert log[:count] == [name] * count
        order.append(name)
        log = log[count:]
    rounds = ["".join(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert len(rounds) == 60
    assert set(rounds) == {"".join(names) for names in itertools.permutations("abc")}


def test_short_models_get_many_calls_a_round(on):
    machine = on(Machine())
    found = benchmark({"short": machine.model("s", 20.0), "long": machine.model("l", 1500.0)}, runs=6, warmup=3)
    assert (found["short"].call.calls, found["long"].call.calls) == (6 * 50, 6)
    assert (found["short"].call.median, found["long"].call.median) == pytest.approx((20, 1500))
    assert found["short"].first_call == pytest.approx(20)


def test_drift_and_spikes_do_not_move_a_ratio(on):
    machine, random = on(Machine()), np.random.default_rng(3)

    def noise(machine):
        machine.speed *= 1.0004
        machine.now += 5000.0 if random.random() < 0.01 else 0.0

    calls = {"one": machine.model("one", 100.0, noise), "two": machine.model("two", 200.0, noise)}
    found = benchmark(calls | {"same": calls["one"]}, runs=50)
    assert machine.speed > 3
    assert found.ratio("two").ratio == pytest.approx(2, rel=0.01)
    assert found.ratio("two").verdict == "slower"
    assert found.ratio("same").verdict.startswith("no difference")


def test_the_overhead_is_against_a_bare_loop(on):
    machine = on(Machine(clock_cost=0.5))
    found = benchmark({"slow": machine.model("slow", 40.0), "fast": machine.model("fast", 20.0)}, runs=8)
    calls = math.ceil(1000 / 20.5)
    assert found.overhead.name == "fast"
    assert found.overhead.timed == pytest.approx(20.5)
    assert found.overhead.bare == pytest.approx(20 + 0.5 / calls)
    assert found.overhead.share == pytest.approx(20.5 / (20 + 0.5 / calls) - 1)
    assert "The stopwatch adds 2.4% to a call of fast" in str(found)


def test_warm_up_calls_are_not_timed(on):
    machine = on(Machine())

    def cold(machine):
        machine.now += 1e6 if len(machine.log) <= 4 else 0.0

    found = benchmark(machine.model("a", 600.0, cold), runs=6, warmup=5)
    assert max(found.models[0].call.rounds) == pytest.approx(600)
    assert found.models[0].first_call == pytest.approx(1_000_600)


# Hot and cold


class Caches:
    """Other work on a machine whose calls cost more after it; it takes time itself."""

    def __init__(self, machine):
        self.machine, self.are_cold = machine, False

    def __call__(self):
        self.machine.log.append("other work")
        self.machine.now += 7000.0
        self.are_cold = True

    def __str__(self):
        return "7 ms of it"

    def model(self, name, hot, cold):
        def warm(machine):
            machine.now += (cold - hot) * self.are_cold
            self.are_cold = False

        return self.machine.model(name, hot, warm)


@pytest.fixture
def caches(on, monkeypatch):
    found = Caches(on(Machine()))
    monkeypatch.setattr("lstm_toolkit.benchmarking.benchmark.OtherWork", lambda: found)
    return found


def test_each_cold_call_comes_after_other_work_and_no_hot_one_does(caches):
    found = benchmark({"a": caches.model("a", 250.0, 400.0), "b": caches.model("b", 200.0, 900.0)}, runs=9)
    assert [each.call.median for each in found.models] == pytest.approx([250, 200])
    assert [each.cold.median for each in found.models] == pytest.approx([400, 900])
    for model in found.models:
        assert model.call.rounds == pytest.approx([model.call.median] * 9)
        assert model.cold.rounds == pytest.approx([model.cold.median] * 9)
    assert caches.machine.log.count("other work") == 9 * 2 * COLD_CALLS
    assert [each.cold.calls for each in found.models] == [9 * COLD_CALLS] * 2
    assert [(each.column, each.ratio, each.verdict) for each in found.ratios + found.cold_ratios] == [
        ("call", pytest.approx(0.8), "faster"),
        ("cold", pytest.approx(2.25), "slower"),
    ]
    (line,) = [line for line in csv.DictReader(io.StringIO(found.to_csv())) if line["name"] == "b"]
    assert (line["verdict"], line["cold_verdict"]) == ("faster", "slower")
    assert float(line["cold_median"]) == pytest.approx(900)
    assert "Other work: 7 ms of it." in str(found)
    assert "a, a call 250 µs; a, cold 400 µs; b, a call 200 µs; b, cold 900 µs" in found.plot().alt


def test_other_work_is_larger_than_the_caches(monkeypatch):
    monkeypatch.setattr(other_work, "last_level_cache", last_level_cache)
    work = other_work.OtherWork()
    assert work.size == 2 * (last_level_cache() or other_work.UNKNOWN)
    buffer = work._read.__self__
    # Pages that were never written to are one page, which stays in the cache.
    assert buffer.nbytes == work.size
    assert buffer.all()
    assert f"{work.size / 1e6:.0f} MB" in str(work)


@pytest.mark.parametrize(
    ("files", "named", "expected"),
    [
        ({"index0": "32K", "index3": "32768K"}, {}, 32 << 20),
        ({"index0": "48K", "index2": "2M"}, {}, 2 << 20),
        ({"index0": "strange", "index1": "", "index2": "12X"}, {}, None),
        ({}, {"SC_LEVEL3_CACHE_SIZE": 0}, None),
        ({}, {"SC_LEVEL2_CACHE_SIZE": 1 << 20, "SC_LEVEL3_CACHE_SIZE": 8 << 20}, 8 << 20),
    ],
)
def test_the_cache_is_the_largest_that_the_system_tells(files, named, expected, tmp_path, monkeypatch):
    for folder, size in files.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "size").write_text(f"{size}\n")
    monkeypatch.setattr(other_work, "_CACHES", tmp_path)
    monkeypatch.setattr(other_work.os, "sysconf_names", named)
    monkeypatch.setattr(other_work.os, "sysconf", named.get)
    monkeypatch.setattr(other_work, "last_level_cache", last_level_cache)
    assert last_level_cache() == expected
    if expected is None:
        assert "whose size the system does not tell" in str(other_work.OtherWork())


# What is timed


def test_files_have_both_columns_and_the_first_copies_nothing(conversion, monkeypatch):
    copies = []
    for name in ("set_tensor", "get_tensor", "invoke"):
        original = getattr(Interpreter, name)
        counted = lambda *args, _name=name, _original=original: copies.append(_name) or _original(*args)  # noqa: E731
        monkeypatch.setattr(Interpreter, name, counted)
    runner = lstm_toolkit.Runner(conversion.tflite)
    x = np.random.default_rng(1).normal(size=(BATCH, TIME, INPUT)).astype(np.float32)
    invoke, call = runner.bound(x=x)
    copies.clear()
    invoke()
    assert copies == ["invoke"]
    copies.clear()
    (given,) = call()
    assert copies == ["set_tensor", "invoke", "get_tensor"]
    np.testing.assert_array_equal(given, runner(x))
    assert (runner.input_dtypes, runner.tflite) == ({"x": np.float32}, conversion.tflite)
    assert conversion.runner(num_threads=2).options.items() >= {"num_threads": 2, "xnnpack": True}.items()

    found = benchmark(conversion, **QUICK)
    model = found.models[0]
    assert (model.kind, model.size, model.num_threads) == ("file", len(conversion.tflite), 1)
    assert model.invoke.calls == model.call.calls
    assert model.load > 0
    assert model.first_call > 0
    assert model.inputs == {"x": (BATCH, TIME, INPUT)}


def test_each_column_is_what_it_says(conversion, on, monkeypatch):
    machine = Machine()
    for name, cost in (("set_tensor", 20.0), ("invoke", 300.0), ("get_tensor", 5.0), ("allocate_tensors", 4000.0)):
        call = machine.model(name, cost)
        monkeypatch.setattr(Interpreter, name, lambda *args, _call=call, **kwargs: _call())
    on(machine)
    model = benchmark(conversion, runs=6).models[0]
    assert (model.invoke.median, model.call.median) == pytest.approx((300, 325))
    assert (model.load, model.first_call) == pytest.approx((4020, 325))


def test_no_interface_of_the_runtime_has_a_profiler():
    # Where one turns up, there can be times per op.
    from ai_edge_litert import _pywrap_litert_compiled_model_wrapper as compiled
    from ai_edge_litert import _pywrap_litert_interpreter_wrapper as wrapper
    from ai_edge_litert.compiled_model import CompiledModel

    for kind in (Interpreter, wrapper.InterpreterWrapper, CompiledModel, compiled.CompiledModelWrapper):
        assert not [name for name in dir(kind) if "profil" in name.lower()]


def test_a_mix_on_the_same_inputs(conversion, source, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(type(source), "__call__", lambda self, x: seen.append(x))
    conversion.save(tmp_path / "on_disk.tflite")
    models = {
        "callable": lambda x: seen.append(x),
        "no argument": lambda: None,
        "keras": source,
        "bytes": conversion.tflite,
        "path": tmp_path / "on_disk.tflite",
        "conversion": conversion,
        "runner": conversion.runner(num_threads=2, xnnpack=False),
    }
    found = benchmark(models, baseline="bytes", **QUICK)
    assert [model.name for model in found.models] == list(models)
    kinds = ["callable", "callable", "Keras model", "file", "file", "file", "file"]
    assert [model.kind for model in found.models] == kinds
    assert [model.num_threads for model in found.models] == [None, None, None, 1, 1, 1, 2]
    assert [model.invoke is None for model in found.models] == [True] * 3 + [False] * 4
    assert {found.ratio(name).column for name in ("callable", "keras")} == {"call"}
    assert found.ratio("runner").column == "invoke"
    arrays = {type(x).__module__.partition(".")[0]: np.asarray(x) for x in seen}
    assert set(arrays) == {"numpy", "tensorflow"}
    np.testing.assert_array_equal(arrays["numpy"], arrays["tensorflow"])
    # The Keras model leaves its batch open, and is called with the file's.
    assert arrays["tensorflow"].shape == (BATCH, TIME, INPUT)
    assert found["no argument"].inputs == {}
    assert str(found).count("–") > 10


def test_inputs_for_all_and_for_each(conversion):
    seen = {}

    def keep(name):
        return lambda x: seen.__setitem__(name, x)

    x = np.random.default_rng(4).normal(size=(BATCH, TIME, INPUT)).astype(np.float32)
    swapped = np.swapaxes(x, 0, 1)
    benchmark({"a": keep("a"), "file": conversion}, inputs=x, **QUICK)
    np.testing.assert_array_equal(seen["a"], x)
    benchmark({"a": keep("a"), "file": conversion}, inputs={"x": x}, **QUICK)
    np.testing.assert_array_equal(seen["a"], x)
    found = benchmark({"a": keep("a"), "b": keep("b")}, inputs={"a": x, "b": {"any": swapped}}, **QUICK)
    np.testing.assert_array_equal(seen["b"], swapped)
    assert found["b"].inputs == {"any": (TIME, BATCH, INPUT)}


def test_random_inputs_are_seeded():
    from lstm_toolkit.benchmarking.subjects import _RandomInputs

    shapes = {"a": (2, -1, 3), "tokens": (4,), "bytes": (50,), "flags": (9,)}
    dtypes = {"a": np.float32, "tokens": np.int64, "bytes": np.int8, "flags": np.bool_}
    first, second, other = (_RandomInputs(seed).draw(shapes, dtypes) for seed in (5, 5, 6))
    assert first["a"].shape == (2, 16, 3)
    assert {name: array.dtype for name, array in first.items()} == dtypes
    assert set(first["tokens"]) <= {0, 1}
    assert first["bytes"].min() < -50
    for name in shapes:
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first["a"], other["a"])


def test_open_sizes_are_said(source):
    model = keras.Sequential([keras.Input((None, INPUT), name="x"), keras.layers.LSTM(UNITS)])
    dynamic = lstm_toolkit.convert(model, verify=False)
    found = benchmark({"dynamic": dynamic}, **QUICK)
    assert found["dynamic"].inputs == {"x": (1, 16, INPUT)}
    assert "dynamic: input 'x' has shape [1, -1, 5] (-1 is any) and was timed with [1, 16, 5]" in str(found)
    found = benchmark({"dynamic": dynamic}, inputs=np.zeros((1, 9, INPUT)), **QUICK)
    assert found["dynamic"].inputs == {"x": (1, 9, INPUT)}
    assert "-1 is any" not in str(found)
    found = benchmark({"keras": model}, **QUICK)
    assert found["keras"].inputs == {"x": (1, 16, INPUT)}


def test_a_runner_keeps_its_state(carrying):
    runner = lstm_toolkit.Runner(carrying)
    x = np.random.default_rng(2).normal(size=(BATCH, TIME, INPUT)).astype(np.float32)
    runner(x)
    before = runner.state
    benchmark(runner, **QUICK)
    assert before
    assert all(np.abs(value).max() > 0.01 for value in before.values())
    for name, value in runner.state.items():
        np.testing.assert_array_equal(value, before[name])


def test_every_round_loads_files_anew(conversion, monkeypatch):
    loaded = []
    original = lstm_toolkit.Runner.__init__
    keep = lambda self, model, **kwargs: loaded.append(model) or original(self, model, **kwargs)  # noqa: E731
    monkeypatch.setattr(lstm_toolkit.Runner, "__init__", keep)
    benchmark(conversion, runs=7)
    assert len(loaded) == 1 + 1 + 7
    assert len({id(model) for model in loaded}) == len(loaded)


def test_names():
    from lstm_toolkit.benchmarking.subjects import named_models

    assert list(named_models(["a/b.tflite", "c/b.tflite", b"", sum])) == ["b", "b (2)", "model 3", "sum"]
    assert list(named_models("a/b.tflite")) == ["b"]
    assert list(named_models({3: b""})) == ["3"]


def _fails(x):
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("models", "options", "error", "reason"),
    [
        ({}, {}, ValueError, "there is no model to time"),
        ({"a": 3}, {}, TypeError, "model 'a': expected a .tflite file .*, got int"),
        ({"a": b"hello"}, {}, InvalidModelError, "model 'a': the model is not a .tflite file"),
        ({"a": "absent.tflite"}, {}, InvalidModelError, "model 'a': cannot read 'absent.tflite'"),
        ({"a": _fails}, {"inputs": np.zeros(3)}, ValueError, r"model 'a' fails on .* \[3\]}: RuntimeError: broken"),
        ({"a": sum}, {"runs": 0}, ValueError, "runs must be a positive count, got 0"),
        ({"a": sum}, {"num_threads": 1.5}, ValueError, "num_threads must be a positive count, got 1.5"),
        ({"a": sum}, {"warmup": -1}, ValueError, "warmup must be a count, got -1"),
        ({"a": sum}, {"baseline": "b"}, ValueError, r"baseline must be one of \['a'\], got 'b'"),
        ({"a": sum}, {"smallest_effect": math.nan}, ValueError, "smallest_effect must be a number from 0 on"),
    ],
)
def test_what_cannot_be_timed_is_named(models, options, error, reason):
    with pytest.raises(error, match=reason):
        benchmark(models, **options)
    assert gc.isenabled()


def test_inputs_that_do_not_fit_are_named(conversion, source):
    for models, inputs, reason in (
        ({"a": conversion}, np.zeros((1, TIME, INPUT)), r"model 'a': input 'x' has shape \[2, 7, 5\]"),
        ({"a": conversion}, {"y": np.zeros(3)}, r"model 'a': the model has the inputs \['x'\], got \['y'\]"),
        ({"a": source}, {"y": np.zeros(3)}, r"model 'a': it has the inputs \['x'\], got \['y'\]"),
        ({"a": keras.layers.Dense(2)}, None, "model 'a': it does not know its inputs; pass inputs"),
    ):
        with pytest.raises(ValueError, match=reason):
            benchmark(models, inputs=inputs, **QUICK)


def test_peak_memory_is_what_a_file_adds(tmp_path):
    big = randomized(keras.Sequential([keras.Input((TIME, 256), name="x"), keras.layers.LSTM(1024)]))
    file = lstm_toolkit.convert(big, verify=False).tflite
    ballast = np.ones(400_000_000 // 8)  # the parent's own memory must not count
    peak = benchmark({"big": file, "callable": lambda: None}, memory=True, runs=1, warmup=0)
    assert len(file) < peak["big"].peak_memory < 10 * len(file) < ballast.nbytes
    assert peak["callable"].peak_memory is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot forget its peak")
def test_what_was_taken_and_freed_before_does_not_hide_what_a_file_adds(tmp_path):
    big = randomized(keras.Sequential([keras.Input((TIME, 256), name="x"), keras.layers.LSTM(1024)]))
    file = lstm_toolkit.convert(big, verify=False).tflite
    (tmp_path / "model.tflite").write_bytes(file)
    np.savez(tmp_path / "inputs.npz", np.zeros((1, TIME, 256), np.float32))
    code = (
        "import sys, numpy as np; from lstm_toolkit.benchmarking.peak_memory import _answer\n"
        "np.ones(400_000_000 // 8)\n"
        "print(_answer({'folder': sys.argv[1], 'options': {}}, print)['bytes'])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert len(file) < int(done.stdout.split()[-1]) < 10 * len(file)


def test_timing_does_not_import_tensorflow(conversion, tmp_path):
    conversion.save(tmp_path / "model.tflite")
    code = (
        "import sys; from lstm_toolkit.benchmarking.benchmark import benchmark\n"
        "result = benchmark(sys.argv[1], runs=6, warmup=1, progress=True)\n"
        "str(result); result.plot(); result.pareto()"
    )
    done = run_without({"tensorflow", "keras"}, code, tmp_path / "model.tflite")
    assert "benchmark" in done.stderr  # the label of the bar
    assert done.stdout == ""


# What comes out


@pytest.fixture(scope="module")
def measured(conversion):
    models = {"file": conversion, "<b>twice</b>": conversion.tflite, "<i>$1$ $2$</i>": lambda: None}
    return benchmark(models, memory=False, **QUICK)


def test_json_round_trip(measured):
    assert BenchmarkResult.from_dict(json.loads(measured.to_json())) == measured
    values = measured.to_dict()
    assert values["unit"] == "microseconds"
    for kind in ("ratios", "cold_ratios"):
        assert [ratio["name"] for ratio in values[kind]] == ["<b>twice</b>", "<i>$1$ $2$</i>"]
    of_old = json.loads(measured.to_json())
    of_old["models"] = [{name: each[name] for name in each if name != "cold"} for each in of_old["models"]]
    assert [BenchmarkResult.from_dict(of_old)["file"].cold, BenchmarkResult.from_dict(of_old).cold_ratios] == [None, ()]
    few = result(a=[1, 2], b=[2, 4])
    assert "Infinity" not in few.to_json()
    assert BenchmarkResult.from_dict(json.loads(few.to_json())) == few


def test_csv_round_trip(measured, tmp_path):
    text = measured.to_csv(tmp_path / "times.csv")
    assert (tmp_path / "times.csv").read_text(encoding="utf-8") == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in rows] == [model.name for model in measured.models]
    for row, model in zip(rows, measured.models, strict=True):
        assert float(row["call_median"]) == model.call.median
        assert row["invoke_percentile_90"] == ("" if model.invoke is None else str(model.invoke.percentile_90))
        assert row["baseline"] == "file"
    assert [row["ratio"] for row in rows] == ["", *(str(ratio.ratio) for ratio in measured.ratios)]
    assert [row["cold_ratio"] for row in rows] == ["", *(str(ratio.ratio) for ratio in measured.cold_ratios)]


def test_text_and_html(measured):
    assert f"{measured['file'].invoke.median:,.2f}" in str(measured)
    assert str(measured.ratios[0]) in str(measured)
    assert "gives no access to its profiler" in str(measured)
    shown = measured._repr_html_()
    assert "&lt;b&gt;twice&lt;/b&gt;" in shown
    # The callable is the fastest, so that a note names it.
    assert "to a call of &lt;i&gt;" in shown
    assert "<b>" not in shown
    assert "<i>" not in shown


def test_results_are_frozen(measured):
    for value in (measured, measured.models[0], measured.models[0].call, measured.overhead, measured.ratios[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.name = "other"


def test_bars(measured):
    picture = measured.plot()
    for model in measured.models:
        assert model.name in picture.alt
    (axes,) = picture.figure.axes
    widths = [patch.get_width() for patch in axes.patches]
    timings = [timing for model in measured.models for timing in (model.invoke, model.call, model.cold) if timing]
    expected = [timing.median for timing in timings]
    assert widths == pytest.approx(expected)
    assert "<img alt=" in picture._repr_html_()
    assert "&lt;b&gt;" in picture._repr_html_()


def test_pareto_marks_what_no_other_beats():
    rounds = np.array([10.0, 11, 12, 13, 14, 15, 16])
    compared = result(base=rounds, same=rounds * 1.004, slow=2 * rounds, precise=3 * rounds, unknown=rounds)
    errors = {"base": 0.1, "same": 0.1, "slow": 0.1, "precise": 0.001, "unknown": None}
    alt = compared.pareto(errors).alt
    assert "No other beats base, same, precise in all." in alt
    assert "unknown" not in alt
    sized = dataclasses.replace(
        compared,
        models=tuple(
            dataclasses.replace(model, size=size)
            for model, size in zip(compared.models, (500, 900, 100, 600, None), strict=True)
        ),
    )
    assert "No other beats base, slow in all." in sized.pareto().alt
    assert "No other beats base, slow, precise in all." in sized.pareto(errors).alt
    assert "<img" in sized.pareto(errors | {"base": 0.0})._repr_html_()
    with pytest.raises(ValueError, match="there is nothing to draw: no model has a size"):
        compared.pareto()
    with pytest.raises(ValueError, match=r"errors are by name of a model, .* got \['other'\]"):
        compared.pareto({"other": 1.0})
