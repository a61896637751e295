"""Wrong and right answers to the exercises in codelab 07."""

import numpy as np


def scale_and_zero_point(low, high):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    return scale, round(-128 - low / scale)


def in_small_types(low, high):
    scale, zero_point = scale_and_zero_point(low, high)
    return np.float32(scale), np.int8(zero_point)


def to_int8(x, scale, zero_point):
    return np.clip(np.round(x / scale) + zero_point, -128, 127).astype(np.int8)


def share_cut(x, scale, zero_point):
    q = np.round(x / scale) + zero_point
    return np.mean((q < -128) | (q > 127))


SCALES = [
    (lambda low, high: None, "returns nothing"),
    (lambda low, high: 0.5, "returns a single float"),
    (lambda low, high: (1.0, 0, 0), "a scale and a zero point, not 3 things"),
    (lambda low, high: (float, ...), "two numbers, not <class 'float'> and Ellipsis"),
    (lambda low, high: (1.0, float("nan")), "two numbers, not 1.0 and nan"),
    (lambda low, high: (1.0, 0), "more than they need"),
    (lambda low, high: (max(abs(low), abs(high)) / 256, 0), "leaves a part"),
    (lambda low, high: ((high - low) / 255, -128 - low / (high - low) * 255), "must be an integer"),
    (lambda low, high: ((high - low) / 255, round(-128 - low / (high - low) * 255)), "0 must be in the range"),
]

INTEGERS = [
    (lambda x, scale, zero_point: None, "returns nothing"),
    (lambda x, scale, zero_point: KeyError, "is object, and the file takes int8"),
    (lambda x, scale, zero_point: np.clip(np.round(x / scale) + zero_point, -128, 127), "is float32, and the file"),
    (lambda x, scale, zero_point: to_int8(x, scale, zero_point).ravel(), r"array \[4, 5, 3\] comes one of \[60\]"),
    (lambda x, scale, zero_point: to_int8(x, scale, 0), "a zero point of 17.*The zero point is added"),
    (lambda x, scale, zero_point: to_int8(x, scale, -zero_point), "a zero point of 17.*The zero point is added"),
    (
        lambda x, scale, zero_point: np.clip(x / scale + zero_point, -128, 127).astype(np.int8),
        "Round to the nearest",
    ),
    (lambda x, scale, zero_point: to_int8(np.floor(x / scale) * scale, scale, zero_point), "Round to the nearest"),
    (lambda x, scale, zero_point: to_int8(x * scale, 1, zero_point), "Solve scale"),
    (
        lambda x, scale, zero_point: (np.round(x / scale) + zero_point).astype(np.int64).astype(np.int8),
        "clip before the type changes",
    ),
    (
        lambda x, scale, zero_point: (
            np.maximum(np.round(x / scale) + zero_point, -128).astype(np.int64).astype(np.int8)
        ),
        "83.5 became -89, .* clip before the type changes",
    ),
]

SHARES = [
    (lambda x, scale, zero_point: None, "returns nothing"),
    (lambda x, scale, zero_point: ..., "return a number, not ellipsis"),
    (lambda x, scale, zero_point: x > 3, "return a number, not ndarray"),
    (lambda x, scale, zero_point: 60 * share_cut(x, scale, zero_point), "that is how many values"),
    (lambda x, scale, zero_point: 100 * share_cut(x, scale, zero_point), "that is in percent"),
    (lambda x, scale, zero_point: 1 - share_cut(x, scale, zero_point), "of those that are kept"),
    (lambda x, scale, zero_point: np.mean(np.round(x / scale) + zero_point > 127), "7 lie below and 0 above.*not 0$"),
    (lambda x, scale, zero_point: np.mean(np.round(x / scale) + zero_point < -128), "0 lie below and 8 above.*not 0$"),
    (
        lambda x, scale, zero_point: np.mean((x < scale * (-128 - zero_point)) | (x > scale * (127 - zero_point))),
        "less than half a step beyond an end",
    ),
    (
        lambda x, scale, zero_point: np.mean((x < scale * (-129 - zero_point)) | (x > scale * (128 - zero_point))),
        "0 lie below and 8 above",
    ),
    (lambda x, scale, zero_point: share_cut(x, scale, 0), "a zero point of -128, -128 and 127 stand for 0 and 1"),
]

WRONG = {
    "check_scale": SCALES,
    "check_to_int8": INTEGERS,
    "check_share_cut": SHARES,
}
RIGHT = {
    "check_scale": [scale_and_zero_point, in_small_types],
    "check_to_int8": [to_int8, lambda x, s, z: np.floor(np.clip(x / s + z, -128, 127) + 0.5).astype("int8")],
    "check_share_cut": [share_cut, lambda x, s, z: float(np.mean(abs(x / s + z + 0.5) > 128))],
}
