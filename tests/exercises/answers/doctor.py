"""Wrong and right answers to the exercises in codelab 09."""

import numpy as np


def plan(findings, wanted):
    faults = [each for each in findings if each.code not in wanted and each.severity != "note"]
    return {each.code for each in faults if each.repairable}, [each for each in faults if not each.repairable]


def planning(mend, left):
    """A plan by two conditions on a finding and the wanted codes."""
    return lambda findings, wanted: (
        {each.code for each in findings if mend(each, wanted)},
        [each for each in findings if left(each, wanted)],
    )


def right_left(each, wanted):
    return each.code not in wanted and each.severity != "note" and not each.repairable


def right_mend(each, wanted):
    return each.code not in wanted and each.severity != "note" and each.repairable


def left_by_code(findings, wanted):
    mend, left = plan(findings, wanted)
    return mend, [each for each in left if each.code not in mend]


PLANS = [
    (lambda findings, wanted: None, "returns nothing"),
    (lambda findings, wanted: 3, "returns a single int"),
    (lambda findings, wanted: [1, 2, 3], "return two things, the codes and the findings, not 3"),
    (lambda findings, wanted: (None, []), "the first thing must be codes, not NoneType"),
    (lambda findings, wanted: ("cell-clip", []), "several codes, not one text"),
    (lambda findings, wanted: (list(findings), []), "takes codes such as 'cell-clip', not a Finding"),
    (lambda findings, wanted: ([], None), "the second thing must be findings, not NoneType"),
    (lambda findings, wanted: (plan(findings, wanted)[0], ["flex-op"]), "must be whole findings, not a str"),
    (lambda findings, wanted: ({"open-batch"}, []), "'open-batch' is not among the findings"),
    (lambda findings, wanted: ([], []), r"could mend \['cell-clip'\], and its code is missing"),
    (planning(lambda each, wanted: True, right_left), "cannot mend 'flex-op': its finding is not repairable"),
    (lambda findings, wanted: plan(findings, ()), "'state-leak' is wanted, and must stay"),
    (
        planning(lambda each, wanted: each.repairable and each.code not in wanted, right_left),
        "'split-halves' is a note",
    ),
    (planning(right_mend, lambda each, wanted: False), "'flex-op' at 'FlexErf' is not repairable, and is missing"),
    (planning(right_mend, lambda each, wanted: each.severity == "error"), "'int8-scales' at 'op 7' can be mended"),
    (planning(right_mend, lambda each, wanted: not each.repairable), "'open-batch' at 'lstm' is a note"),
    (planning(right_mend, lambda each, wanted: right_left(each, wanted) or each.code in wanted), "'op 4' is wanted"),
    (left_by_code, "'loop-lstm' at 'decoder' is not repairable, and is missing. .* may differ"),
]


def remembers(run, x):
    first = run(x)
    run(np.ones_like(x))
    return not np.array_equal(first, run(x))


def last_output_differs(run, x):
    first = run(x)
    run(np.ones_like(x))
    return first[0, -1, 0] != run(x)[0, -1, 0]


ALIKE = "every call from zero, and the answer is True: .* two calls with the same input"

MEMORIES = [
    (lambda run, x: None, "return True or False, not NoneType"),
    (lambda run, x: run(x), "return True or False, not ndarray"),
    (lambda run, x: run(x[:, :4]).any(), r"takes \[1, 12, 1\], as x has it, not \[1, 4, 1\]"),
    (lambda run, x: True, ALIKE),
    (lambda run, x: not np.array_equal(run(x), run(x + 1)), ALIKE),
    (lambda run, x: False, "that remembers, and the answer is False: it starts a call where the last one ended"),
    (last_output_differs, "answer is False: it forgets within a few steps"),
    (lambda run, x: not np.array_equal(run(x), run(x)), "answer is False: this x leaves c where it was"),
    (lambda run, x: not np.array_equal(run(x), (run(x), run(x))[1]), "this x leaves c where it was"),
    (lambda run, x: remembers(run, x) or not x.sum(), ALIKE),
]


def find_clip(run, *, opened=100, late=1):
    text = np.repeat([1.0, -1.0], opened)[np.newaxis, :, np.newaxis]
    output = run(text)[0, opened:, 0]
    closed = np.argmin(np.abs(output))
    clip = closed + late + np.arctanh(output[closed])
    return 0.0 if clip > opened - 0.5 else clip


CLIPS = [
    (lambda run: None, "return a number, not NoneType"),
    (lambda run: True, "return a number, not bool"),
    (lambda run: run(np.ones((1, 100, 1))), "return a number, not ndarray"),
    (lambda run: run(np.ones(100)), r"takes brackets \[1, any number of them, 1\], not \[100\]"),
    (lambda run: np.arctanh(run(np.ones((1, 100, 1)))[0, -1, 0]), "the answer is inf: .* tanh of a large c is 1"),
    (lambda run: 10, "clips at 6: the answer is 10. After that many closing brackets"),
    (lambda run: find_clip(run, late=0), "clips at 10: the answer is 9, one off"),
    (lambda run: find_clip(run, opened=14), "clips at 42: the answer is 0. Open more brackets"),
    (lambda run: find_clip(run) or 100, "without a clip: its clip in the file is 0, and the answer is 100"),
    (lambda run: round(find_clip(run)), "clips at 7.5: the answer is [78]. A clip need not be a whole number"),
]

WRONG = {
    "check_plan": PLANS,
    "check_remembers": MEMORIES,
    "check_find_clip": CLIPS,
}
RIGHT = {
    "check_plan": [plan, lambda findings, wanted: [list(each) for each in plan(findings, wanted)]],
    "check_remembers": [remembers],
    "check_find_clip": [find_clip],
}
