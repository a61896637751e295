"""Both directions of a Keras layer: one op or two, merged in every way, of unequal size, and stacked."""

import pytest
from keras import layers

from tests.helpers.forms import (
    MERGES,
    SEQUENCES,
    UNI_RNN,
    bidirectional,
    bidirectional_ops,
    check,
    functional,
)
from tests.helpers.pairwise import pairwise

PLAIN = pairwise(MERGES, SEQUENCES, ("fused", "split"), (1, 3), (7, None))
UNEQUAL = pairwise(("concat", None), SEQUENCES, ("fused", "split"), (1, 3))
STACKED = pairwise(("concat", "sum"), SEQUENCES, ("fused", "split"), (1, 3), (7, None))


@pytest.mark.parametrize(("merge_mode", "return_sequences", "option", "batch", "time"), PLAIN)
def test_bidirectional(merge_mode, return_sequences, option, batch, time):
    model = functional(bidirectional(6, merge_mode=merge_mode, return_sequences=return_sequences), time=time)
    times = (7, 7, 7) if time else (7, 2, 12)
    check(model, bidirectional_ops(option), batch=batch, times=times, bidirectional=option)


@pytest.mark.parametrize(("merge_mode", "return_sequences", "option", "batch"), UNEQUAL)
def test_bidirectional_with_unequal_units(merge_mode, return_sequences, option, batch):
    sizes = (6, 4) if return_sequences else (2, 8)
    layer = bidirectional(sizes[0], backward_units=sizes[1], merge_mode=merge_mode, return_sequences=return_sequences)
    check(functional(layer), bidirectional_ops(option), batch=batch, bidirectional=option)


@pytest.mark.parametrize(("merge_mode", "return_sequences", "option", "batch", "time"), STACKED)
def test_bidirectional_stacked(merge_mode, return_sequences, option, batch, time):
    model = functional(
        bidirectional(6, merge_mode=merge_mode, return_sequences=True),
        layers.Dropout(0.3),
        bidirectional(4, merge_mode=merge_mode, return_sequences=return_sequences),
        time=time,
    )
    times = (7, 7, 7) if time else (7, 12, 2)
    check(model, bidirectional_ops(option, 2), batch=batch, times=times, bidirectional=option)


def test_simple_rnns_in_both_directions_are_split_on_request():
    model = functional(layers.Bidirectional(layers.SimpleRNN(6, return_sequences=True)))
    check(model, {UNI_RNN: 2}, bidirectional="split")
