"""A request says what goes together, and which plans it leads to; neither needs TensorFlow or a model."""

import dataclasses
import inspect
import itertools

import pytest

from lstm_toolkit.conversion.choices import CHOICES
from lstm_toolkit.conversion.plans import Plan, plans_for
from lstm_toolkit.conversion.request import Request
from lstm_toolkit.errors import ConversionError
from tests.helpers.imports import run_without

SAMPLES = [[0.0]]


def plans(**options):
    return plans_for(Request(**options))


def test_a_request_has_the_options_and_defaults_of_convert():
    from lstm_toolkit.conversion.convert import convert

    parameters = list(inspect.signature(convert).parameters.values())[1:]
    fields = {field.name: field.default for field in dataclasses.fields(Request)}
    assert {each.name: each.default for each in parameters} == fields


def test_requests_and_plans_need_no_tensorflow():
    code = (
        "from lstm_toolkit.conversion.plans import plans_for\n"
        "from lstm_toolkit.conversion.request import Request\n"
        "plans_for(Request(target='micro'))"
    )
    run_without({"tensorflow", "keras", "ai_edge_litert"}, code)


@pytest.mark.parametrize("name", CHOICES)
def test_a_value_that_an_option_cannot_have_is_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} must be one of .*, got 'other'$"):
        Request(**{name: "other"})


@pytest.mark.parametrize("value", [0, -1, 2.0, "2", True])
@pytest.mark.parametrize("name", ["batch_size", "time_steps"])
def test_a_size_is_a_positive_integer(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer or None, got {value!r}"):
        Request(**{name: value})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"quantization": "int8", "lowering": "auto", "representative_dataset": SAMPLES}, 'other than "auto"'),
        ({"io_dtype": "int8"}, 'io_dtype other than "float32" needs representative_dataset'),
        ({"io_dtype": ("int8",)}, "io_dtype must be a type, or a pair: for inputs and for outputs"),
        ({"representative_dataset": SAMPLES, "verify": False}, 'is for quantization="int8"'),
        ({"max_error": 0.1}, 'max_error is for lowering="auto" without quantization'),
        ({"max_error": 0.1, "lowering": "auto", "quantization": "dynamic"}, 'max_error is for lowering="auto"'),
        ({"max_error": 0.0, "lowering": "auto"}, "max_error must be a number above 0"),
        ({"time_budget": 0}, "time_budget must be a number of seconds above 0"),
        ({"max_error": 0.1, "lowering": "auto", "target": "micro"}, 'leaves lowering="auto" one way'),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        Request(**options)


@pytest.mark.parametrize("target", [None, "litert"])
@pytest.mark.parametrize("lowering", ["fused", "unrolled", "loop"])
def test_without_a_target_the_plan_is_the_request(lowering, target):
    (plan,) = plans(lowering=lowering, target=target, on_unsupported="keep")
    assert plan == Plan(lowering=lowering, merge=True, on_unsupported="keep")
    assert plan.is_plain == (lowering != "fused")


def test_directions_stay_two_where_they_are_asked_for_or_int8_needs_it():
    assert [plans(bidirectional=kind)[0].merge for kind in ("fused", "split")] == [True, False]
    assert not plans(quantization="int8", representative_dataset=SAMPLES)[0].merge
    assert plans(quantization="dynamic")[0].merge


def test_what_is_timed_is_made_of_fused_ops_or_else_of_a_loop():
    assert [(plan.lowering, plan.on_unsupported) for plan in plans(lowering="auto")] == [
        ("fused", "raise"),
        ("loop", "raise"),
    ]
    assert [(plan.lowering, plan.on_unsupported) for plan in plans(lowering="auto", on_unsupported="keep")] == [
        ("fused", "raise"),
        ("loop", "keep"),
        ("fused", "keep"),
    ]


@pytest.mark.parametrize("lowering", ["fused", "auto"])
def test_compiled_model_takes_plain_ops_by_their_length(lowering):
    (plan,) = plans(target="compiled", lowering=lowering)
    assert plan.is_plain
    assert plan.by_length
    assert plan.reason == "CompiledModel takes no variable tensors"


@pytest.mark.parametrize(("target", "lowering"), itertools.product(["compiled", "micro"], ["unrolled", "loop"]))
def test_a_form_that_was_asked_for_stays(target, lowering):
    (plan,) = plans(target=target, lowering=lowering)
    assert (plan.lowering, plan.by_length, plan.reason) == (lowering, False, None)


def test_micro_takes_fused_ops_or_else_a_loop_of_single_steps():
    fused, loop = plans(target="micro", on_unsupported="keep")
    assert fused == Plan(lowering="fused", for_micro=True)
    assert loop == Plan(lowering="loop", steps_per_turn=1, for_micro=True, on_unsupported="keep")


@pytest.mark.parametrize("target", [None, "litert", "micro"])
def test_int8_takes_fused_ops_or_else_plain_ones_of_integers(target):
    fused, plain = plans(target=target, quantization="int8", representative_dataset=SAMPLES)
    is_micro = target == "micro"
    assert fused == Plan(lowering="fused", for_micro=is_micro)
    assert (plain.is_plain, plain.integers, plain.by_length, plain.for_micro) == (True, True, not is_micro, is_micro)


@pytest.mark.parametrize("quantization", ["int8", "int16x8"])
def test_compiled_model_takes_plain_integers_alone(quantization):
    (plan,) = plans(target="compiled", quantization=quantization, representative_dataset=SAMPLES)
    assert (plan.is_plain, plan.integers, plan.by_length) == (True, True, True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"target": "micro", "quantization": "dynamic"},
            'no kernels for quantization=.dynamic.*pass quantization="int8"',
        ),
        ({"target": "micro", "quantization": "float16"}, "no kernels for quantization=.float16"),
        (
            {"target": "compiled", "quantization": "int8", "representative_dataset": SAMPLES, "io_dtype": "int16"},
            "takes and gives no int16",
        ),
    ],
)
def test_what_a_target_cannot_run_is_refused_before_any_conversion(options, reason):
    with pytest.raises(ConversionError, match=reason):
        plans(**options)
