"""`lowering="auto"`: what is chosen and why not the others, with times that the tests set; the rest on real models.

No time is asserted: the tests set the stopwatch, and the clock where it matters.
"""

import dataclasses
import itertools
import json
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit.conversion import choice
from lstm_toolkit.conversion.choice import Candidate, Limits, candidates, choose
from lstm_toolkit.errors import ConversionError, InvalidModelError, ParityError
from lstm_toolkit.runtime import stopwatch
from tests.helpers.models import randomized

L = keras.layers
BATCH, TIME, INPUTS, UNITS = 2, 9, 5, 7
WAYS = candidates(quantizations=(None, "dynamic"))
SAMPLES = [{"x": np.array([1.0, 2.0])}, {"x": np.array([3.0, -4.0])}]


class Doubler:
    """A model that doubles its input, and is off by some amount."""

    def __init__(self, error=0.0):
        self.error = error

    def outputs(self, x):
        return {"y": 2 * x + self.error}

    def bound(self, x):
        return lambda: None, lambda: self.outputs(x)


@pytest.fixture
def chosen(monkeypatch):
    def chosen(
        times, *, errors=None, refusals=None, second=None, cold=None, speed=(), confirm=lambda _: None, **limits
    ):
        """The choice with set times; a second measurement, of the finalists together, may give others.

        Cold times are twice the hot ones where they are not set. The reference takes 10, or `speed` times as long
        beside some way. What is returned beside the choice are the measurements in a row: the ways of each, and its
        seconds.
        """
        errors, refusals, speed, measured = errors or {}, refusals or {}, dict(speed), []

        def runner_of(way):
            if way in refusals:
                raise refusals[way]
            return Doubler(errors.get(way, 0.0))

        def own(calls):
            """The times of one measurement: the first ones are beside the reference."""
            return times | {None: 10.0 * speed.get(next(iter(calls)), 1.0)} if None in calls else second or times

        def timed(calls, seconds):
            measured.append(({way for way in calls if way is not None}, seconds))
            return {way: own(calls)[way] for way in calls}

        def timed_cold(calls, other_work, seconds):
            return {way: (cold or {}).get(way, 2 * own(calls)[way]) for way in calls}

        monkeypatch.setattr(stopwatch, "stopwatch", timed)
        monkeypatch.setattr(stopwatch, "cold_stopwatch", timed_cold)
        ways = tuple(way for way in times if way.num_threads == 1)
        made = choose(ways, runner_of, Doubler(), SAMPLES, limits=Limits(**limits), confirm=confirm)
        return made, measured

    return chosen


FUSED, UNROLLED, LOOP = (
    Candidate("fused", "interpreter"),
    Candidate("unrolled", "compiled"),
    Candidate("loop", "interpreter"),
)
SMALL = Candidate("unrolled", "compiled", None, "dynamic")


# What there is to choose from


def test_all_ways():
    assert len(set(WAYS)) == len(WAYS)
    assert {(way.lowering, way.runtime) for way in WAYS} == {
        ("fused", "interpreter"),
        *itertools.product(("unrolled", "loop"), ("interpreter", "compiled")),
    }
    assert {way.quantization for way in WAYS} == {None, "dynamic"}
    assert {way.steps_per_turn for way in WAYS if way.lowering == "loop"} == {None, 4, 20}
    assert all(way.steps_per_turn is None for way in WAYS if way.lowering != "loop")


def test_ways_without_a_fused_op():
    assert {way.lowering for way in candidates(fused=False)} == {"unrolled", "loop"}


def test_what_takes_long_to_make_is_tried_last():
    """A file of 24,000 ops, two directions of 1,000 steps, takes most of the time that there is for all."""
    assert list(dict.fromkeys(way.lowering for way in WAYS)) == ["fused", "loop", "unrolled"]
    assert list(dict.fromkeys(way.lowering for way in candidates(fused=False))) == ["loop", "unrolled"]


# The choice


@pytest.mark.parametrize("fastest", [FUSED, UNROLLED, LOOP])
def test_the_fastest_is_chosen(chosen, fastest):
    times = dict.fromkeys((FUSED, UNROLLED, LOOP), 30.0) | {fastest: 10.0}
    made, _ = chosen(times)
    assert made.chosen == fastest
    assert made.trials[0].candidate == fastest
    assert [made.ratio(trial) for trial in made.trials] == [1.0, 3.0, 3.0]
    assert {trial.reason for trial in made.trials} == {""}


# A short sequence of few units: in a row the unrolled form wins, and between other work the fused op.
HOT, COLD = {FUSED: 21.0, UNROLLED: 19.0, LOOP: 26.0}, {FUSED: 44.0, UNROLLED: 108.0, LOOP: 84.0}


@pytest.mark.parametrize(("caches", "wanted", "ratio"), [("cold", FUSED, 108 / 44), ("hot", UNROLLED, 1.0)])
def test_it_is_chosen_by_the_caches_that_the_caller_says(chosen, caches, wanted, ratio):
    made, _ = chosen(HOT, cold=COLD, caches=caches)
    assert (made.chosen, made.caches) == (wanted, caches)
    assert {trial.candidate: (trial.median, trial.cold) for trial in made.trials} == {
        way: (HOT[way], COLD[way]) for way in HOT
    }
    assert made.trials[0].candidate == wanted
    (unrolled,) = (trial for trial in made.trials if trial.candidate == UNROLLED)
    assert made.ratio(unrolled) == pytest.approx(ratio)
    assert f"Chosen with {caches} caches: {wanted}" in repr(made)
    assert made.to_dict()["caches"] == caches


def test_finalists_are_timed_with_more_threads_too(chosen):
    """With four threads the fused op is slower, and no finalist, the unrolled form faster; the loop is none on one."""
    times = {FUSED: 10.0, UNROLLED: 12.0, LOOP: 20.0}
    on_four = {dataclasses.replace(way, num_threads=4): time for way, time in ((FUSED, 19.0), (UNROLLED, 8.0))}
    made, measured = chosen(times | on_four, threads=(4,))
    assert made.chosen == dataclasses.replace(UNROLLED, num_threads=4)
    assert str(made.chosen) == "unrolled, float32, compiled, 4 threads"
    assert [calls for calls, _ in measured][-2:] == [{FUSED, UNROLLED, made.chosen}, {FUSED, made.chosen}]
    assert {trial.candidate for trial in made.trials} == {*times, *on_four}


@pytest.mark.parametrize(("on_two", "threads"), [(9.2, 1), (9.0, 2)])
def test_more_threads_have_to_pay(chosen, on_two, threads):
    made, _ = chosen({FUSED: 10.0, dataclasses.replace(FUSED, num_threads=2): on_two}, threads=(2,))
    assert made.chosen.num_threads == threads


def test_the_runner_takes_the_threads_of_the_choice(fake_times, monkeypatch):
    fake_times("loop", "compiled", "2 threads")
    monkeypatch.setattr("lstm_toolkit.conversion.fastest._more_threads", lambda: (2,))
    conversion = lstm_toolkit.convert(lstm(), lowering="auto")
    assert (conversion.report.automatic.chosen.num_threads, conversion.num_threads) == (2, 2)
    assert conversion.runner().options.items() >= {"num_threads": 2, "runtime": "compiled"}.items()
    assert conversion.report.max_abs_error < 1e-5


def test_what_is_close_is_measured_again_together(chosen):
    first = {FUSED: 14.0, UNROLLED: 10.0, LOOP: 21.1}
    made, measured = chosen(first, second={FUSED: 11.0, UNROLLED: 12.0})
    assert [calls for calls, _ in measured] == [{FUSED}, {UNROLLED}, {LOOP}, *[{FUSED, UNROLLED}] * 3]
    assert made.chosen == FUSED
    assert [trial.median for trial in made.trials] == [11.0, 12.0, 21.1]


@pytest.mark.parametrize(("speed", "wanted"), [({}, UNROLLED), ({LOOP: 2.0}, LOOP)])
def test_a_way_that_met_a_slow_machine_is_still_a_finalist(chosen, speed, wanted):
    """The machine was half as fast when the loop was timed for the first time, as the reference beside it shows."""
    times = {UNROLLED: 10.0, FUSED: 10.5}
    made, _ = chosen(times | {LOOP: 18.0}, second=times | {LOOP: 9.0}, speed=speed)
    assert made.chosen == wanted


def test_one_that_looks_fast_at_first_leaves_others_to_compare_with(chosen):
    made, _ = chosen({UNROLLED: 4.0, LOOP: 9.0, FUSED: 10.0}, second={UNROLLED: 12.0, LOOP: 9.0, FUSED: 10.0})
    assert made.chosen == LOOP


def test_the_closer_the_more_often_it_is_measured(chosen):
    """Of four within half of the fastest, three are within a fifth, and two within a tenth."""
    times = {UNROLLED: 10.0, LOOP: 10.5, SMALL: 11.5, FUSED: 14.0}
    made, measured = chosen(times)
    assert [len(calls) for calls, _ in measured] == [1, 1, 1, 1, 4, 3, 2]
    assert measured[-1][0] == {UNROLLED, LOOP}
    assert made.chosen == UNROLLED


def test_no_more_is_measured_when_the_budget_is_spent(chosen):
    made, measured = chosen({UNROLLED: 10.0, LOOP: 10.5}, time_budget=0.0)
    assert [len(calls) for calls, _ in measured] == [1]
    assert made.chosen == UNROLLED


@pytest.mark.parametrize(("caches", "share"), [("hot", 2 / 3), ("cold", 1 / 3)])
def test_most_of_the_time_goes_to_what_counts(chosen, caches, share):
    _, measured = chosen({FUSED: 10.0, UNROLLED: 12.5}, caches=caches)
    assert [seconds for _, seconds in measured] == pytest.approx([share * 0.05, share * 0.05, share * 2.0], rel=0.01)


def test_a_slow_way_is_not_chosen_when_the_finalists_slow_down(chosen):
    """The machine became slower between the two measurements: the loser of the first one has not become faster."""
    first = {FUSED: 14.0, UNROLLED: 10.0, LOOP: 21.1}
    made, _ = chosen(first, second={FUSED: 28.0, UNROLLED: 24.0})
    assert made.chosen == UNROLLED


def test_a_wrong_float_file_is_not_chosen_and_not_timed(chosen):
    made, measured = chosen({FUSED: 30.0, UNROLLED: 10.0}, errors={UNROLLED: 1e-3})
    assert made.chosen == FUSED
    assert [calls for calls, _ in measured] == [{FUSED}]
    (trial,) = (trial for trial in made.trials if trial.candidate == UNROLLED)
    assert "call 1: output 'y' differs from the source by 0.001" in trial.reason
    assert trial.median is None
    assert trial.error == pytest.approx(1e-3 / 8)


@pytest.mark.parametrize(("max_error", "wanted"), [(0.009, FUSED), (0.011, SMALL)])
def test_int8_weights_as_far_as_max_error_allows(chosen, max_error, wanted):
    """The largest output is 8, so an error of 0.08 is 1 percent."""
    made, _ = chosen({FUSED: 30.0, SMALL: 10.0}, errors={SMALL: 0.08}, max_error=max_error)
    assert made.chosen == wanted
    (trial,) = (trial for trial in made.trials if trial.candidate == SMALL)
    assert trial.error == pytest.approx(0.01)
    assert trial.reason == ("" if wanted == SMALL else "its error of 0.01 is above the max_error of 0.009")


def test_not_a_number_is_refused_whatever_the_limit(chosen):
    made, _ = chosen({FUSED: 30.0, SMALL: 10.0, UNROLLED: 5.0}, errors={SMALL: np.nan, UNROLLED: np.nan}, max_error=9)
    assert made.chosen == FUSED


def test_reasons_of_refused_ways_are_kept(chosen):
    refusals = {UNROLLED: ConversionError("time is open"), LOOP: InvalidModelError("an op is unknown")}
    made, _ = chosen({UNROLLED: 1.0, LOOP: 1.0, FUSED: 3.0}, refusals=refusals)
    assert made.chosen == FUSED
    assert {trial.candidate: trial.reason for trial in made.trials} == {
        FUSED: "",
        UNROLLED: "time is open",
        LOOP: "an op is unknown",
    }


def test_no_way_left(chosen):
    refusals = {UNROLLED: ConversionError("time is open"), FUSED: ConversionError("it is a GRU")}
    with pytest.raises(ConversionError, match=r"no lowering is left.*time is open; fused.*it is a GRU"):
        chosen({UNROLLED: 1.0, FUSED: 1.0}, refusals=refusals)


def test_the_next_one_takes_the_place_of_one_that_fails_parity(chosen):
    def confirm(way):
        if way == UNROLLED:
            raise ParityError("call 2 differs", max_abs_error=1.0, tolerance=1e-5)

    made, _ = chosen({FUSED: 30.0, UNROLLED: 10.0, LOOP: 20.0}, confirm=confirm)
    assert made.chosen == LOOP
    assert next(trial for trial in made.trials if trial.candidate == UNROLLED).reason == "call 2 differs"


def test_the_budget(chosen, monkeypatch):
    """Each look at the clock takes a second: at the third way two seconds are over."""
    ticks = itertools.count()
    monkeypatch.setattr(choice, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    made, measured = chosen({FUSED: 30.0, LOOP: 20.0, UNROLLED: 1.0}, time_budget=2.0)
    assert made.chosen in (FUSED, LOOP)
    (trial,) = (trial for trial in made.trials if trial.candidate == UNROLLED)
    assert trial.reason == "not tried: the time budget of 2 s was spent"
    assert trial.median is None
    assert all(seconds <= 2.0 for _, seconds in measured)


def test_a_spent_budget_still_leaves_one_way(chosen):
    made, _ = chosen({FUSED: 30.0, LOOP: 20.0}, time_budget=1e-9)
    assert made.chosen == FUSED


def test_the_table_shows_every_way_and_escapes(chosen):
    refusals = {UNROLLED: ConversionError("layer '<b>' has no fixed time")}
    made, _ = chosen({FUSED: 30.0, UNROLLED: 1.0, LOOP: 60.0}, refusals=refusals)
    text, html = repr(made), made._repr_html_()
    assert "Chosen with cold caches: fused, float32, interpreter" in text
    assert re.search("60.0 +120.0 +2.00", text)
    assert "layer '<b>' has no fixed time" in text
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    assert json.loads(json.dumps(made.to_dict()))["chosen"]["lowering"] == "fused"


def test_the_stopwatch_times_in_turn():
    order = []
    medians = stopwatch.stopwatch({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.0)
    assert order == (["a"] * 6 + ["b"] * 6) * 3
    assert set(medians) == {"a", "b"}
    assert all(median > 0 for median in medians.values())


def test_a_file_that_fails_as_it_runs_is_not_chosen(monkeypatch):
    def fail(self, x):
        raise RuntimeError("the kernel gave up")

    class Failing(Doubler):
        outputs = fail

    def runner_of(way):
        return Failing() if way == UNROLLED else Doubler()

    for name in ("stopwatch", "cold_stopwatch"):
        monkeypatch.setattr(stopwatch, name, lambda calls, *_: dict.fromkeys(calls, 1.0))
    made = choose((UNROLLED, FUSED), runner_of, Doubler(), SAMPLES, limits=Limits())
    assert made.chosen == FUSED
    assert made.trials[1].reason == "the kernel gave up"


# On real models, with times that are set


@pytest.fixture
def fake_times(monkeypatch):
    """Lets one way be the fastest."""

    def prefer(*words):
        def timed(calls, *_):
            return {way: 1.0 if all(word in str(way) for word in words) else 1.3 for way in calls}

        monkeypatch.setattr(stopwatch, "stopwatch", timed)
        monkeypatch.setattr(stopwatch, "cold_stopwatch", timed)

    return prefer


def lstm(*, layer=L.LSTM, time=TIME, units=UNITS, **options):
    layers = [layer(units, return_sequences=True, **options), L.Dense(3)]
    return randomized(keras.Sequential([keras.Input((time, INPUTS), batch_size=BATCH, name="x"), *layers]))


@pytest.mark.parametrize(
    ("words", "op", "runtime"),
    [
        (("fused",), "UNIDIRECTIONAL_SEQUENCE_LSTM", "interpreter"),
        (("unrolled", "compiled"), "unrolled", "compiled"),
        (("loop, 4", "interpreter"), "loop", "interpreter"),
    ],
)
def test_the_file_of_the_chosen_way_runs_where_it_was_fastest(random, fake_times, words, op, runtime):
    fake_times(*words)
    model = lstm()
    conversion = lstm_toolkit.convert(model, lowering="auto")
    assert [layer.op for layer in conversion.report.layers] == [op]
    assert conversion.runtime == conversion.runner().options["runtime"] == runtime
    assert ("WHILE" in conversion.report.ops) == (op == "loop")
    assert conversion.report.max_abs_error < 1e-5
    assert conversion.report.quantization is None
    assert all(word in str(conversion.report.automatic.chosen) for word in words)
    x = random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
    np.testing.assert_allclose(conversion.runner()(x), model(x), atol=1e-5, rtol=0)
    assert conversion.runner(runtime="interpreter").options["runtime"] == "interpreter"
    assert "Chosen with cold caches: " in str(conversion)


def test_int8_weights_state_their_error(random, fake_times):
    fake_times("unrolled", "dynamic", "compiled")
    model = lstm(units=20)
    conversion = lstm_toolkit.convert(model, lowering="auto", max_error=0.2)
    assert conversion.runtime == "compiled"
    assert conversion.report.quantization.kind == "dynamic"
    assert 0 < conversion.report.quantization.relative_error < 0.2
    assert conversion.report.max_abs_error < 1e-5
    x = random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
    wanted = np.asarray(model(x))
    assert 1e-6 < np.abs(conversion.runner()(x) - wanted).max() < 0.2 * np.abs(wanted).max()


def test_a_strict_max_error_keeps_float32(fake_times):
    fake_times("dynamic")
    conversion = lstm_toolkit.convert(lstm(units=20), lowering="auto", max_error=1e-6)
    assert conversion.report.quantization is None
    assert conversion.report.automatic.chosen.quantization is None
    assert "above the max_error of 1e-06" in repr(conversion.report.automatic)


def test_quantization_that_was_asked_for(fake_times):
    fake_times("loop, 20", "dynamic")
    conversion = lstm_toolkit.convert(lstm(units=20), lowering="auto", quantization="dynamic")
    assert {trial.candidate.quantization for trial in conversion.report.automatic.trials} == {"dynamic"}
    assert conversion.report.quantization.kind == "dynamic"


def test_a_layer_without_a_fused_op(fake_times):
    fake_times("loop", "compiled")
    conversion = lstm_toolkit.convert(lstm(layer=L.GRU), lowering="auto")
    assert [(layer.layer_class, layer.op) for layer in conversion.report.layers] == [("GRU", "loop")]
    assert conversion.runtime == "compiled"
    assert "fused" not in {trial.candidate.lowering for trial in conversion.report.automatic.trials}


def test_a_carried_state_leaves_the_fused_op(random):
    model = lstm(stateful=True)
    conversion = lstm_toolkit.convert(model, lowering="auto")
    assert str(conversion.report.automatic.chosen) == "fused, float32, interpreter"
    others = [trial for trial in conversion.report.automatic.trials if trial.candidate.lowering != "fused"]
    assert len(others) == 8
    assert all("carries its state" in trial.reason for trial in others)
    runner = conversion.runner()
    model.reset_states() if hasattr(model, "reset_states") else model.layers[0].reset_states()
    for _ in range(2):
        x = random.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
        np.testing.assert_allclose(runner(x), model(x), atol=1e-5, rtol=0)


def test_long_sequences_are_not_unrolled():
    conversion = lstm_toolkit.convert(lstm(time=2001, units=2), lowering="auto", verify=False)
    reasons = {trial.candidate.lowering: trial.reason for trial in conversion.report.automatic.trials}
    assert "unrolled over 2,001 steps, more than 2,000" in reasons["unrolled"]
    assert conversion.report.max_abs_error is None


def test_what_nothing_can_convert_is_refused_as_without_auto():
    with pytest.raises(ConversionError, match="sparsemax"):
        lstm_toolkit.convert(lstm(activation="sparsemax"), lowering="auto")
    with pytest.raises(ConversionError, match="calls no LSTM"):
        lstm_toolkit.convert(keras.Sequential([keras.Input((3,)), L.Dense(2)]), lowering="auto")


def test_options_that_do_not_fit_are_refused():
    model = lstm()
    with pytest.raises(ValueError, match='max_error is for lowering="auto" without quantization'):
        lstm_toolkit.convert(model, max_error=0.1)
    with pytest.raises(ValueError, match='max_error is for lowering="auto" without quantization'):
        lstm_toolkit.convert(model, lowering="auto", quantization="float16", max_error=0.1)
    with pytest.raises(ValueError, match=r"max_error must be a number above 0, such as 0\.01, got -1"):
        lstm_toolkit.convert(model, lowering="auto", max_error=-1)
    with pytest.raises(ValueError, match="time_budget must be a number of seconds above 0, got 0"):
        lstm_toolkit.convert(model, lowering="auto", time_budget=0)
    with pytest.raises(ValueError, match='caches is for lowering="auto", which chooses by it'):
        lstm_toolkit.convert(model, caches="hot")
    with pytest.raises(ValueError, match="caches must be one of cold, hot, got 'warm'"):
        lstm_toolkit.convert(model, lowering="auto", caches="warm")
    with pytest.raises(ValueError, match='quantization="int8" needs a lowering other than "auto"'):
        lstm_toolkit.convert(model, lowering="auto", quantization="int8", representative_dataset=[])
