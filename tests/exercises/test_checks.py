"""The checks of the exercises: each has a hint for each mistake that is easily made, and passes what is right."""

import importlib
import warnings

import pytest

LABS = (
    *("quickstart", "gates", "keras_variants", "bidirectional", "state"),
    *("lingvo", "own_rnn", "quantization", "benchmarking", "doctor", "microcontroller", "pytorch"),
)
MAY_NOT_WARN = ("check_remembers",)


def answers(kind):
    """A case for each answer in the dictionaries WRONG or RIGHT of the modules in `answers`."""
    for lab in LABS:
        for check, each in getattr(importlib.import_module(f"tests.exercises.answers.{lab}"), kind).items():
            for number, answer in enumerate(each):
                yield pytest.param(lab, check, answer, id=f"{lab}-{check}-{number}")


def checks(lab):
    return importlib.import_module(f"lstm_toolkit.exercises.{lab}")


@pytest.mark.parametrize(("lab", "check", "wrong"), answers("WRONG"))
def test_a_wrong_answer_gets_its_hint(lab, check, wrong):
    answer, hint = wrong
    with warnings.catch_warnings():
        warnings.simplefilter("error" if check in MAY_NOT_WARN else "ignore")
        with pytest.raises(AssertionError, match=hint):
            getattr(checks(lab), check)(answer)


@pytest.mark.parametrize(("lab", "check", "answer"), answers("RIGHT"))
def test_a_right_answer_passes(lab, check, answer):
    getattr(checks(lab), check)(answer)


@pytest.mark.parametrize("lab", LABS)
def test_every_check_has_wrong_and_right_answers(lab):
    module = importlib.import_module(f"tests.exercises.answers.{lab}")
    assert {name for name in vars(checks(lab)) if name.startswith("check_")} == set(module.WRONG) == set(module.RIGHT)
