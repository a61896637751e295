"""What is drawn for a model: within its bounds, and padded in every way."""

import numpy as np
import pytest

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.random_inputs import DOMAINS, EXTREMES, MASKS, Draw, RandomInputs

SHAPE, IDS = (2, 6, 3), (2, 6)


def drawn(inputs, shapes, dtypes, **wanted):
    return inputs.draw(np.random.default_rng(0), shapes, dtypes, Draw(**wanted))


def only(inputs, shape, dtype, **wanted):
    ((array,), _) = drawn(inputs, [shape], [dtype], **wanted)
    assert array.shape == shape
    assert array.dtype == dtype
    return array


def test_floats_of_each_kind():
    by_kind = {kind: only(RandomInputs(), SHAPE, np.float32, kind=kind) for kind in ("random", *EXTREMES)}
    assert 0.5 < by_kind["random"].std() < 2
    assert not by_kind["zeros"].any()
    assert len(np.unique(by_kind["constant"])) == 1
    assert 0 < np.abs(by_kind["tiny"]).max() < 1e-5
    assert 500 < np.abs(by_kind["large"]).max() < 5000


@pytest.mark.parametrize("domain", [each for each in DOMAINS if DOMAINS[each]])
def test_floats_of_each_domain(domain):
    array, (low, high) = only(RandomInputs(), SHAPE, np.float32, domain=domain), DOMAINS[domain]
    assert low <= array.min() < array.max() <= high


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("kind", ["random", *EXTREMES])
def test_integers_stay_below_their_bound(kind, dtype):
    array = only(RandomInputs(integer_bound=5, tokens=(True,)), IDS, dtype, kind=kind)
    assert set(np.unique(array)) <= {0, 1, 2, 3, 4}
    assert {"zeros": {0}, "tiny": {0}, "large": {4}}.get(kind, set(np.unique(array))) == set(np.unique(array))


@pytest.mark.parametrize("kind", ["random", *EXTREMES])
def test_limits_hold(kind):
    array = only(RandomInputs(limits=((-0.5, 0.25),)), SHAPE, np.float32, kind=kind)
    assert -0.5 <= array.min() <= array.max() <= 0.25


def test_random_inputs_are_spread_within_limits_far_from_zero():
    array = only(RandomInputs(limits=((101.0, 150.0),)), SHAPE, np.float32)
    assert 101 <= array.min() < 110 < 140 < array.max() <= 150
    assert np.unique(only(RandomInputs(limits=((101.0, 150.0),)), SHAPE, np.float32, kind="zeros")) == 101


def valid_steps(inputs, shape, dtype, is_valid):
    found = {}
    for turn in range(len(MASKS)):
        (array,), ways = drawn(inputs, [(1, *shape[1:])], [dtype], turn=turn)
        (way,) = ways
        found[way] = is_valid(array)[0]
    assert set(found) == set(MASKS)
    return found


KINDS_OF_MASK = {
    "value": (
        RandomInputs(padded=True, mask_value=-1.0, time_axes=(1,)),
        SHAPE,
        np.float32,
        lambda x: (x != -1).any(2),
    ),
    "computed": (RandomInputs(padded=True, time_axes=(1,)), SHAPE, np.float32, lambda x: (x != 0).any(2)),
    "ids": (
        RandomInputs(padded=True, integer_bound=9, tokens=(True,), time_axes=(1,)),
        IDS,
        np.int32,
        lambda x: x != 0,
    ),
    "booleans": (RandomInputs(padded=True, time_axes=(1,)), IDS, np.bool_, lambda x: x),
}


@pytest.mark.parametrize("kind", KINDS_OF_MASK)
def test_rows_are_padded_in_every_way(kind):
    steps = valid_steps(*KINDS_OF_MASK[kind])
    assert steps["all valid"].all()
    assert not steps["none valid"].any()
    changes = {way: np.diff(valid.astype(int)) for way, valid in steps.items()}
    assert sorted(set(changes["right"])) == [-1, 0]
    assert sorted(set(changes["left"])) == [0, 1]
    assert {-1, 1} <= set(changes["holes"])


def test_other_inputs_keep_their_numbers_where_one_is_a_mask():
    inputs = RandomInputs(padded=True, time_axes=(1, 1))
    (steps, valid), ways = drawn(inputs, [SHAPE, IDS], [np.float32, np.bool_], turn=1)
    assert (steps != 0).all()
    assert not valid.all()
    assert len(ways) == 2


@pytest.mark.parametrize("time_axis", [0, 1])
def test_marks_of_padding(time_axis):
    inputs, seen = RandomInputs(paddings=(False, True), time_axis=time_axis), set()
    shape = IDS if time_axis else IDS[::-1]
    for turn in range(len(MASKS)):
        (_, padding), ways = drawn(inputs, [SHAPE, shape], [np.float32, np.float32], turn=turn)
        rows = padding if time_axis else padding.T
        assert set(np.unique(rows)) <= {0, 1}
        seen |= ways
    assert seen == set(MASKS)


def test_what_is_no_number_is_refused():
    with pytest.raises(
        ConversionError, match="no input can be object; let the model begin behind the layer that reads it"
    ):
        drawn(RandomInputs(), [IDS], [np.object_])
