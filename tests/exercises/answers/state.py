"""Wrong and right answers to the exercises in codelab 04."""

import numpy as np


def serve(step, units, requests):
    zeros, states, answers = np.zeros((1, units)), {}, []
    for user, x in requests:
        outputs, *states[user] = step(x, *states.get(user, (zeros, zeros)))
        answers.append(outputs)
    return answers


def serving(start=None, keep=lambda states, user, h, c: states.update({user: (h, c)}), states=None):
    """A `serve` that gets the state of a user from `start`, and keeps it with `keep`."""

    def function(step, units, requests):
        zeros, answers = np.zeros((1, units)), []
        known = {} if states is None else states
        for user, x in requests:
            h, c = (start or dict.get)(known, user) or (zeros, zeros)
            outputs, h, c = step(x, h, c)
            keep(known, user, h, c)
            answers.append(outputs)
        return answers

    return function


def at_once(step, units, requests):
    """Answers each user as a whole: not what is meant, but right."""
    answers = [None] * len(requests)
    for user in {user for user, _ in requests}:
        numbers = [number for number, (name, _) in enumerate(requests) if name == user]
        xs = [requests[number][1] for number in numbers]
        outputs, _, _ = step(np.hstack(xs), np.zeros((1, units)), np.zeros((1, units)))
        parts = np.split(outputs, np.cumsum([x.shape[1] for x in xs])[:-1], axis=1)
        for number, part in zip(numbers, parts, strict=True):
            answers[number] = part
    return answers


def stale(step, units, requests):
    states, answers = {}, []
    for user, x in requests:
        before = states.get(user, (np.zeros((1, units)), np.zeros((1, units))))
        outputs, h, c = step(x, *before)
        states[user] = (h, c) if user not in states else before
        answers.append(outputs)
    return answers


SERVES = [
    (lambda step, units, requests: None, "returns nothing"),
    (lambda step, units, requests: 3, "returns a single int"),
    (lambda step, units, requests: serve(step, units, requests)[:4], "9 requests have 9 answers, not 4"),
    (lambda step, units, requests: [None] * 9, "one of the answers is None"),
    (lambda step, units, requests: ["a"] * 9, "one array of numbers, not str"),
    (lambda step, units, requests: [each[0] for each in serve(step, units, requests)], r"is \[4, 5\], and not \[1, 4"),
    (lambda step, units, requests: [step(requests[0][1], None, None)], "with h = None"),
    (lambda step, units, requests: step(requests[0][1], np.zeros(units), np.zeros(units)), r"h is \[1, 5\], .*\[5\]"),
    (lambda step, units, requests: step(requests[0][1][0], *np.zeros((2, 1, units))), r"x is .*, and not \[4, 3\]"),
    (
        lambda step, units, requests: [0 * each for each in serve(step, units, requests)],
        "0, by ann: .*returned",
    ),
    (
        lambda step, units, requests: [np.zeros((1, x.shape[1], units)) for _, x in requests],
        "step was not called with this x",
    ),
    (serving(keep=lambda *given: None), "request 1, by ann: h and c were zeros again"),
    (serving(keep=lambda states, user, h, c: states.update({user: (c, h)})), "request 1, by ann: h and c were swapped"),
    (serving(keep=lambda states, user, h, c: states.update({user: (h, 0 * c)})), "1, by ann: c was zeros again"),
    (serving(keep=lambda states, user, h, c: states.update({user: (h, h)})), "1, by ann: .* not what step returned"),
    (
        serving(
            start=lambda states, user: states.get("last"), keep=lambda states, user, h, c: states.update(last=(h, c))
        ),
        "request 2, by bob: this user is new",
    ),
    (
        serving(
            start=lambda states, user: states.get("last") if user in states else None,
            keep=lambda states, user, h, c: states.update({user: 1, "last": (h, c)}),
        ),
        "request 3, by ann: h and c were those of another request",
    ),
    (stale, "request 3, by ann: h and c were those of another request.* keep those of the last one"),
    (serving(states={}), "in a second list of requests, .* request 0, by ann: this user is new"),
]


X = np.random.default_rng(0).normal(size=(1, 20, 3))


def which_state(call):
    return "reset" if np.allclose(call(X), call(X), rtol=0, atol=1e-6) else "carry"


def by_the_last_step(call):
    return "reset" if np.allclose(call(X)[:, -1], call(X)[:, -1], rtol=0, atol=1e-6) else "carry"


def on(first, second):
    return lambda call: "reset" if np.allclose(call(first), call(second), rtol=0, atol=1e-6) else "carry"


def with_memory():
    """Takes its first answer for one from a zero state."""
    fresh = {}

    def remembers(call):
        answer = call(X)
        mode = "reset" if np.allclose(answer, call(X), rtol=0, atol=1e-6) else "carry"
        first = fresh.setdefault(mode, answer)
        return mode if np.allclose(first, answer) else "reset"

    return remembers


def tiring():
    """Calls once only, when it is asked for the third time."""
    tried = iter(range(8))
    return lambda call: which_state(call) if next(tried) < 2 else "carry" if call(X).any() else None


STATES = [
    (lambda call: None, "returns nothing"),
    (lambda call: "explicit", "not 'explicit'"),
    (lambda call: np.array(["reset"]), 'return "reset" or "carry"'),
    (lambda call: "reset", r"starts a call where the last one ended, .*it made 0 call\(s\)"),
    (lambda call: "carry" if call(X).any() else "reset", r"starts every call from zero, .*it made 1 call\(s\)"),
    (lambda call: call(X[0]), r"x is \[1, time, 3\], and not \[20, 3\]"),
    (on(X, -X), "starts every call from zero, .* two different ones the answers differ anyway"),
    (on(0 * X, 0 * X), "starts a call where .* zeros alone"),
    (by_the_last_step, "starts a call .* differ by 1e-02 at the first step, by 0e.00 at the last"),
    (lambda call: "carry" if which_state(call) == "reset" else "reset", "from zero.* the answers were the same"),
    (with_memory(), "a file has been called before, and starts a call where the last"),
    (tiring(), r"called before, and starts every call .* it made 1 call\(s\)"),
]


def last_call(activations):
    """The forget gates of the last call, [time, units]."""
    return activations.f[0, activations.starts[-1] :]


LASTING = [
    (lambda activations: None, "returns nothing"),
    (lambda activations: last_call(activations)[0], "return a number, not ndarray"),
    (lambda activations: 7, "the number of a unit, 0 to 4, not 7"),
    (lambda activations: 0.5, "the number of a unit, 0 to 4, not 0.5"),
    (lambda activations: activations.f[0].prod(axis=0).argmax(), "the last call alone"),
    (lambda activations: last_call(activations).mean(axis=0).argmax(), "a mean hides"),
    (lambda activations: last_call(activations)[-1].argmax(), "f of one step"),
    (lambda activations: last_call(activations).prod(axis=0).argmin(), "keeps least"),
    (lambda activations: 3, "multiply f over the steps|last call|a mean|one step|least"),
]

WRONG = {
    "check_lasts_longest": LASTING,
    "check_serve": SERVES,
    "check_which_state": STATES,
}
RIGHT = {
    "check_lasts_longest": [
        lambda activations: int(last_call(activations).prod(axis=0).argmax()),
        lambda activations: np.log(last_call(activations)).sum(axis=0).argmax(),
    ],
    "check_serve": [serve, at_once],
    "check_which_state": [which_state],
}
