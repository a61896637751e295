"""Wrong and right answers to the exercises in codelab 03."""

import numpy as np

MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], axis=2),
    "sum": np.add,
    "mul": np.multiply,
    "ave": lambda a, b: (a + b) / 2,
}


def both_ways(forward, backward, x, merge_mode):
    return MERGES[merge_mode](forward(x), backward(x[:, ::-1])[:, ::-1])


def with_half(half, mode=None):
    """The right answer with another backward half, in one merge mode or in all."""

    def function(forward, backward, x, merge_mode):
        if mode not in (None, merge_mode):
            return both_ways(forward, backward, x, merge_mode)
        return MERGES[merge_mode](forward(x), half(forward, backward, x))

    return function


def with_merge(**merges):
    """The right halves, joined in another way in some merge modes."""
    return lambda forward, backward, x, mode: (MERGES | merges)[mode](forward(x), backward(x[:, ::-1])[:, ::-1])


BOTH_WAYS = [
    (lambda *given: None, "returns nothing"),
    (lambda *given: "both", "one array of numbers, not str"),
    (lambda *given: [[1.0], [1.0, 2.0]], "one array of numbers, not list"),
    (lambda forward, backward, x, mode: (forward(x), backward(x)), r"comes \[3, 7, 8\], not \[2, 3, 7, 4\]"),
    (lambda forward, backward, x, mode: forward(x[0]), r"forward takes \[batch, time, 5\], and was given \[7, 5\]"),
    (lambda forward, backward, x, mode: backward(x.swapaxes(1, 2)), r"backward takes .* was given \[3, 5, 7\]"),
    (with_merge(concat=lambda a, b: np.concatenate([a, b], axis=1)), r"side by side.* not \[3, 14, 4\]"),
    (with_merge(concat=lambda a, b: MERGES["concat"](b, a)), '"concat": the forward half comes first'),
    (with_merge(ave=np.add), '"ave": that is "sum"'),
    (with_merge(mul=np.maximum), '"mul": number 0 of step 0 of row 0 is'),
    (with_merge(concat=lambda a, b: MERGES["concat"](a, -b)), "number 4 of step 0 of row 0, in the backward half, is"),
    (with_half(lambda forward, backward, x: backward(x)), "read x from the start; time is axis 1"),
    (with_half(lambda forward, backward, x: backward(x[::-1])[::-1]), r"x\[::-1\] turns the batch"),
    (with_half(lambda forward, backward, x: backward(x)[:, ::-1]), "only its outputs were turned round"),
    (with_half(lambda forward, backward, x: forward(x[:, ::-1])[:, ::-1]), "on the weights of the first"),
    (with_half(lambda forward, backward, x: backward(x[..., ::-1])[..., ::-1]), "along axis 2"),
    *(
        (with_half(lambda forward, backward, x: backward(x[:, ::-1]), mode), f'"{mode}": the outputs of the .* still')
        for mode in MERGES
    ),
]


def last_of_both(outputs, lengths):
    units = outputs.shape[2] // 2
    return np.hstack([outputs[np.arange(len(outputs)), lengths - 1, :units], outputs[:, 0, units:]])


def at(forward_step, backward_step):
    """Takes each half at a step that depends on the number of real steps."""

    def function(outputs, lengths):
        return [
            np.append(row[forward_step(length), :4], row[backward_step(length), 4:])
            for row, length in zip(outputs, lengths, strict=True)
        ]

    return function


LASTS = [
    (lambda outputs, lengths: None, "returns nothing"),
    (lambda outputs, lengths: outputs, r"comes \[6, 8\], a row of each, not \[6, 7, 8\]"),
    (lambda outputs, lengths: outputs[:, lengths - 1, :4], r"not \[6, 6, 4\]"),
    (lambda outputs, lengths: outputs[:, -1], "row 0 has 7 real steps, and its backward half was taken from step 6"),
    (at(lambda n: -1, lambda n: 0), "row 1 has 3 real steps, and its forward half was taken from step 6.*padding"),
    (at(lambda n: min(n, 6), lambda n: 0), "row 1 has 3 real steps, and its forward half was taken from step 3"),
    (at(lambda n: n - 1, lambda n: n - 1), "row 0 .* backward half was taken from step 6.*where has it read the whole"),
    (
        lambda outputs, lengths: last_of_both(outputs, lengths)[:, [4, 5, 6, 7, 0, 1, 2, 3]],
        "row 0 .* forward half was taken from step 0 of the other half",
    ),
    (lambda outputs, lengths: 2 * last_of_both(outputs, lengths), "its forward half is not among its outputs"),
]

WRONG = {
    "check_both_ways": BOTH_WAYS,
    "check_last": LASTS,
}
RIGHT = {
    "check_both_ways": [both_ways],
    "check_last": [last_of_both],
}
