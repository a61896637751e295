"""Ranges of int8 files: what they hold of samples that were not seen, and what the report says of such samples."""

import keras
import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.quantization import quantize, ranges
from lstm_toolkit.quantization.report import OutputError, QuantizationReport
from lstm_toolkit.tflite import files
from tests.helpers.models import randomized

layers = keras.layers


def sequential(shape, *stack, batch=1):
    return keras.Sequential([keras.Input(shape, batch_size=batch, name="x"), *stack])


def normal(seed, count, *shape):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def as_samples(arrays):
    return [{"x": array} for array in arrays]


def errors(float_, quantized, arrays):
    """The largest error of each sample, and the largest value."""
    runners = lt.Runner(float_), lt.Runner(quantized)
    wanted, given = (np.stack([runner(x) for x in arrays]) for runner in runners)
    return np.abs(wanted - given).reshape(len(arrays), -1).max(axis=1), np.abs(wanted).max()


# How far a range reaches


@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "uniform"])
def test_a_range_leaves_out_about_one_new_sample_in_a_thousand(draw):
    random = np.random.default_rng(1)
    largest_of = lambda count: getattr(random, draw)(size=(count, 30)).max(axis=1)  # noqa: E731
    new = largest_of(20_000)
    shares, lengths = [], []
    for _ in range(200):
        end = ranges._reached(largest_of(60))
        shares.append((new > end).mean())
        lengths.append(end / np.quantile(new, 1 - ranges.RARE))
    assert np.mean(shares) < 4 * ranges.RARE
    assert 0.95 < np.median(lengths) < 1.25


def test_a_range_of_one_sample_is_its_own():
    assert ranges.for_new(np.array([[-1.0, 2.0]])) == (-1.0, 2.0)


def test_a_range_grows_by_its_half_at_most():
    seen = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 40.0]])
    assert ranges.for_new(seen) == (0.0, 60.0)


def test_bounds_of_inputs_are_kept():
    tflite = lt.convert(randomized(sequential((6, 4), layers.LSTM(5))), verify=False).tflite
    pixels = np.random.default_rng(1).integers(0, 9, (40, 1, 6, 4)).astype(np.float32) / 8
    for arrays, is_bound in ((pixels, True), (normal(1, 40, 1, 6, 4), False)):
        quantized, _ = quantize.quantize(tflite, "int8", as_samples(arrays), calibrate=True)
        stored = dict(lt.inspect(quantized).lstm_nodes[0].operands)["input"].quantization
        seen = [x for number, x in enumerate(arrays) if number % 5]
        assert (255 * stored.scale[0] == pytest.approx(np.ptp(seen))) == is_bound
        assert 255 * stored.scale[0] >= np.ptp(seen) * 0.999


# Cell states


def cell_states(layer, x, start=None):
    """The cell state after each step, from Keras, which runs once for each number of steps: [time, batch, units]."""
    reader = keras.layers.LSTM(layer.units, return_state=True)
    reader.build(x.shape)
    reader.set_weights(layer.get_weights())
    return np.stack([np.asarray(reader(x[:, :steps], initial_state=start)[2]) for steps in range(1, x.shape[1] + 1)])


@pytest.mark.parametrize("form", ["two rows", "time major", "carried"])
def test_cell_states_of_all_steps_are_seen(form, monkeypatch):
    monkeypatch.setattr(ranges, "CHUNK", 2)
    layer = layers.LSTM(5, stateful=form == "carried")
    model = randomized(sequential((7, 3), layer, batch=2), 3)
    tflite = lt.convert(model, time_major=form == "time major", verify=False).tflite
    x = 2 * normal(2, 5, 2, 7, 3)
    x[:, :, 4:] = 0
    taken = x.swapaxes(1, 2) if form == "time major" else x
    file = files.read_model(tflite)
    seen = ranges.extremes(file, as_samples(taken))
    node = lt.inspect(tflite).lstm_nodes[0]
    given = seen[dict(node.operands)["cell_state"].index][:, 1]
    if form == "carried":
        whole = cell_states(layer, np.concatenate(x, axis=1))
        wanted = np.abs(whole).reshape(5, 7, -1).max(axis=(1, 2))
    else:
        wanted = [np.abs(cell_states(layer, each)).max() for each in x]
    np.testing.assert_allclose(given, wanted, rtol=1e-5)


def test_a_cell_state_that_is_small_again_at_the_end_is_not_cut():
    """Its range after the last step alone is off by 11 to 27 percent here."""
    for seed in (0, 3):
        model = sequential((20, 3), layers.LSTM(8, return_sequences=True), layers.Dense(3))
        randomized(model, seed)
        kernel, recurrent, bias = model.layers[0].get_weights()
        bias[8:16] -= 1.0
        model.layers[0].set_weights([kernel, recurrent, bias])
        tflite = lt.convert(model, verify=False).tflite
        x = np.random.default_rng(seed).uniform(-2, 2, (300, 1, 20, 3)).astype(np.float32)
        x[:, :, 10:] = 0
        quantized, _ = quantize.quantize(tflite, "int8", as_samples(x[:100]), calibrate=True)
        error, largest = errors(tflite, quantized, x[100:])
        assert error.max() < 0.03 * largest


# New samples

MODELS = {
    "dense": lambda: sequential((22, 6), layers.LSTM(16), layers.Dense(3)),
    "convolution": lambda: sequential(
        (5, 2), layers.Conv1D(15, 3, activation="relu"), layers.LSTM(13), layers.Dense(1)
    ),
    "stacked": lambda: sequential((15, 4), layers.LSTM(8, return_sequences=True), layers.LSTM(10)),
    "both ways": lambda: sequential((17, 3), layers.Bidirectional(layers.LSTM(18, return_sequences=True))),
    "dense before": lambda: sequential((19, 4), layers.Dense(5, activation="relu"), layers.LSTM(13), layers.Dense(4)),
}


def test_the_report_holds_for_new_samples():
    """Without wider ranges, or with a fixed margin, the largest error is up to 40 times that of the held-out ones."""
    ratios, above, limits = [], [], []
    for seed, (name, build) in enumerate(MODELS.items()):
        model = randomized(build(), seed, scale=0.5)
        tflite = lt.convert(model, bidirectional="split", verify=False).tflite
        arrays = normal(seed, 350, 1, *model.input_shape[1:])
        quantized, report = quantize.quantize(tflite, "int8", as_samples(arrays[:50]), calibrate=True)
        (output,) = report.outputs
        error, _ = errors(tflite, quantized, arrays[50:])
        held_out, _ = errors(tflite, quantized, arrays[:50:5])
        assert output.max_abs_error == pytest.approx(held_out.max(), rel=1e-4), name
        assert output.median_abs_error == pytest.approx(np.median(held_out), rel=1e-4), name
        ratios.append(error.max() / output.max_abs_error)
        above.append((error > output.max_abs_error).mean())
        limits.append(report.most_above)
    assert max(ratios) < 4
    assert np.median(ratios) < 2.5
    assert np.mean(above) < 2 / 11
    assert sum(share > limit for share, limit in zip(above, limits, strict=True)) <= 1


def report(samples, *, kind="int8", held_out=True, carries=False):
    output = OutputError("y", 0.02, 0.001, 0.01, 1.0, 40.0, None)
    return QuantizationReport(kind, (output,), samples, held_out, carries=carries, calibrated=kind == "int8")


def test_what_a_number_of_samples_tells_of_new_ones():
    """Against draws: errors of any distribution are ranked alike, so that uniform ones serve."""
    drawn = np.random.default_rng(1).uniform(size=(20_000, 10))
    above = 1 - drawn.max(axis=1)
    told = report(10)
    assert told.share_above == pytest.approx(above.mean(), rel=0.03)
    assert told.most_above == pytest.approx(np.quantile(above, 0.95), rel=0.03)
    assert report(299).most_above < 0.01 < report(298).most_above
    assert (
        "About 1 in 11 new ones like these is further off than the largest error; at 95% confidence, at most 26% are."
        in str(told)
    )
    assert told.to_dict()["most_above"] == told.most_above
    assert told.outputs[0].median_relative_error == 0.01


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"held_out": False}, "Nothing of new ones, since the ranges were taken on them."),
        ({"carries": True}, "Nothing of new ones, since each goes on where the last one ended."),
    ],
)
def test_samples_that_tell_nothing_of_new_ones(options, text):
    told = report(10, **options)
    assert told.share_above is told.most_above is None
    assert text in str(told)


def test_random_samples_tell_of_inputs_drawn_alike():
    told = report(8, kind="dynamic", held_out=False)
    assert told.share_above == 1 / 9
    assert "against float on 8 random samples" in str(told)
    assert "About 1 in 9 new ones drawn as these were" in str(told)


def test_held_out_samples_that_leave_the_ranges_are_warned_of():
    """Samples of a file that carries its state stay in order; here the last fifth is larger."""
    model = randomized(sequential((6, 4), layers.LSTM(5, stateful=True)), 1)
    x = normal(1, 100, 1, 6, 4)
    x[80:] *= 4
    tflite = lt.convert(model, verify=False).tflite
    with pytest.warns(quantize.QuantizationWarning, match=r"of the 20 held-out samples go beyond the ranges"):
        _, told = quantize.quantize(tflite, "int8", as_samples(x), calibrate=True)
    assert told.carries
    assert told.most_above is None
    _, told = quantize.quantize(tflite, "int8", as_samples(np.random.default_rng(1).permutation(x)), calibrate=True)
    assert not any("go beyond the ranges" in each for each in told.warnings)
