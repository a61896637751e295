"""Calls that are timed in turn, on a made-up clock."""

import time

import pytest

from lstm_toolkit.runtime.stopwatch import calls_between, cold_stopwatch, interleaved_medians, stopwatch, timed_calls


@pytest.fixture
def machine(monkeypatch):
    """A clock that moves by what calls cost, and a log of them."""

    class Machine:
        now, log = 0.0, ""

        def call(self, name, *microseconds):
            costs = iter(microseconds)

            def call():
                self.log += name
                self.now += next(costs, microseconds[-1]) / 1e6

            return call

    machine = Machine()
    monkeypatch.setattr(time, "perf_counter", lambda: machine.now)
    return machine


def test_every_call_is_timed(machine):
    call = machine.call("a", 1.0, 5.0, 2.0)
    assert timed_calls(call, 3) == pytest.approx([1, 5, 2])
    assert len(timed_calls(call, 0)) == 0


def test_rounds_are_in_turn_and_warm_up_is_not_timed(machine):
    calls = {"a": machine.call("a", 1e3, 1e3, 4.0, 4.0, 90.0), "b": machine.call("b", 1e3, 1e3, 7.0)}
    assert interleaved_medians(calls, rounds=2, warmup=2) == pytest.approx({"a": 4.0, "b": 7.0})
    assert machine.log == "ab" * 4


def test_the_stopwatch_takes_three_rounds_or_its_seconds(machine):
    calls = {"a": machine.call("a", 99.0, 98.0, 97.0, 3.0, 3.0, 3.0), "b": machine.call("b", 5.0)}
    assert stopwatch(calls, 0.0) == pytest.approx({"a": 3.0, "b": 5.0})
    assert machine.log == "aaaaaabbbbbb" * 3
    stopwatch({"c": machine.call("c", 1000.0)}, 0.02)
    # Each round takes 6 ms; the fourth ends after the 20 ms.
    assert machine.log.count("c") == 24


def test_what_is_done_between_calls_is_not_timed(machine):
    other_work, call = machine.call("w", 7000.0), machine.call("a", 4.0, 6.0)
    assert calls_between(call, other_work, 3) == pytest.approx([4, 6, 6])
    assert machine.log == "wa" * 3


def test_the_cold_stopwatch_is_in_turn_with_other_work_in_front_of_each_call(machine):
    calls = {"a": machine.call("a", 99.0, 3.0, 3.0), "b": machine.call("b", 5.0)}
    assert cold_stopwatch(calls, machine.call("w", 1000.0), 0.0) == pytest.approx({"a": 3.0, "b": 5.0})
    assert machine.log == "wawb" * 3
    cold_stopwatch({"c": machine.call("c", 500.0)}, machine.call("w", 1500.0), 0.009)
    # Each round takes 2 ms; the fifth ends after the 9 ms.
    assert machine.log.count("c") == 5
