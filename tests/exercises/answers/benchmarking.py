"""Wrong and right answers to the exercises in codelab 08."""

import numpy as np


def verdict(low, high):
    if low > 1.01:
        return "slower"
    return "faster" if high < 0.99 else "no difference"


def by_inverse(low, high):
    return "slower" if low > 1.01 else "faster" if high < 1 / 1.01 else "no difference"


def least_time(units, time_steps, weight_bytes, rate):
    return 4 * units**2 * weight_bytes * time_steps / rate / 1e3


def by_middle(low, high):
    return "slower" if low + high > 2.02 else "faster" if low + high < 1.98 else "no difference"


def by_one(low, high):
    return "slower" if low > 1 else "faster" if high < 1 else "no difference"


RATIOS = [
    (lambda first, second: ..., "return a number, not ellipsis"),
    (lambda first, second: None, "return a number, not NoneType"),
    (lambda first, second: second / first, "return a number, not ndarray"),
    (lambda first, second: np.nan, "that is finite, not nan"),
    (lambda first, second: np.median(first / second), "how many times as long the first takes"),
    (lambda first, second: np.median(second), "takes 0.6 times as long"),
    (lambda first, second: 0.6, "takes 1.25 times as long here, not 0.60"),
    (lambda first, second: max(np.median(second / first), np.median(first / second)), "long the first takes"),
    (lambda first, second: np.mean(second) / np.mean(first), "one spike must not count more"),
    (lambda first, second: np.median(second) / np.median(first), "slowed down in the middle, and 3.68 compares"),
    (lambda first, second: np.mean(second / first), "one spike must not count more"),
]

VERDICTS = [
    (lambda low, high: None, "returns nothing"),
    (lambda low, high: True, "return one of 'faster', 'slower', 'no difference', not True"),
    (lambda low, high: "fast", "not 'fast'"),
    (lambda low, high: "no difference", r"\[5.66, 5.7\] is not 'no difference': all of the interval"),
    (lambda low, high: verdict(1 / high, 1 / low), r"\[5.66, 5.7\] is not 'faster'.*less than 1"),
    (by_middle, r"\[0.7, 1.04\] is not 'faster': the interval holds 1"),
    (lambda low, high: verdict(low, low), r"\[0.7, 1.04\] is not 'faster': the interval holds 1"),
    (lambda low, high: verdict(high, high), r"\[0.7, 1.04\] is not 'slower': the interval holds 1"),
    (by_one, r"\[1.002, 1.006\] is not 'slower': one of its ends is within one percent"),
    (lambda low, high: verdict(low, high) if high < 1.01 else by_one(low, high), r"\[1.004, 1.3\] is not 'slower'"),
    (lambda low, high: verdict(low, high) if low > 0.99 else by_one(low, high), r"\[0.6, 0.995\] is not 'faster'"),
    (
        lambda low, high: "no difference" if high < 1.04 else verdict(low, high),
        r"\[0.531, 0.538\] is not 'no difference'",
    ),
    (
        lambda low, high: "no difference" if low > 0.9 and high < 1.1 else verdict(low, high),
        r"\[1.02, 1.03\] is not 'no difference'",
    ),
]

TIMES = [
    (lambda *sizes: None, "returns nothing"),
    (lambda *sizes: "now", "return a number, not str"),
    (lambda *sizes: least_time(*sizes) / 4, "has four gates"),
    (lambda units, *rest: least_time(units, *rest) / units, "from every unit to every unit"),
    (lambda units, time_steps, *rest: least_time(units, 1, *rest), "read in every step"),
    (lambda units, time_steps, weight_bytes, rate: least_time(units, time_steps, 1, rate), "bytes, not weights"),
    (lambda *sizes: 8 * least_time(*sizes), "bytes, not bits"),
    (lambda *sizes: 1e-6 * least_time(*sizes), "return microseconds"),
    (lambda *sizes: 1e3 * least_time(*sizes), "a gigabyte is 1e9 bytes"),
    (lambda *sizes: 1e-3 * least_time(*sizes), "a gigabyte is 1e9 bytes"),
    (lambda *sizes: least_time(*sizes) + 7, r"take at least 51.61 microseconds, not 58.61$"),
    (lambda units, time_steps, weight_bytes, rate: least_time(units, 7, 2, rate), "256 units, 50 steps, 4 bytes"),
]


def cold_times(call, other_work, clock, count):
    times = []
    for _ in range(count):
        other_work()
        start = clock()
        call()
        times.append(clock() - start)
    return times


def with_other_work(call, other_work, clock, count):
    def both():
        other_work()
        call()

    return cold_times(both, lambda: None, clock, count)


def once(call, other_work, clock, count):
    other_work()
    return cold_times(call, lambda: None, clock, count)


COLD = [
    (lambda *given: None, "returns nothing"),
    (lambda *given: 11.0, "a single float"),
    (lambda *given: cold_times(*given)[:4], "5 calls have 5 times, not 4"),
    (lambda *given: ["soon"] * 5, "number"),
    (lambda *given: [[11.0, 11.0]] * 5, "one number for each call"),
    (lambda *given: [11.0] * 5, "never called"),
    (with_other_work, "711 µs holds the other work"),
    (lambda call, *rest: [0.0 * bool(call) for _ in cold_times(call, *rest)], "0 µs holds no call"),
    (lambda call, other_work, *rest: cold_times(call, lambda: None, *rest), "3 µs is a call in a row"),
    (once, "call 2 takes 11 µs after other work, not 3"),
]

WRONG = {
    "check_ratio": RATIOS,
    "check_verdict": VERDICTS,
    "check_least_time": TIMES,
    "check_cold_times": COLD,
}
RIGHT = {
    "check_ratio": [
        lambda first, second: float(np.median(second / first)),
        lambda first, second: np.array(1 / np.median(first / second)),
    ],
    "check_verdict": [verdict, by_inverse],
    "check_least_time": [least_time],
    "check_cold_times": [cold_times, lambda *given: np.array(cold_times(*given))],
}
