"""A reader's own model or file in the panels."""

import dataclasses
import re

import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import widgets
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.panels import layouts, lowerings, measured, subjects
from lstm_toolkit.panels.measured import Candidate
from lstm_toolkit.panels.sizes import Sizes

keras = pytest.importorskip("keras")
PRESET = Sizes(batch_size=3, time_steps=5, input_size=2, units=4)
NAMES = ("batch_size", "time_steps", "input_size", "units")


def own_model(time_steps=None, batch_size=None, name="mine"):
    keras.utils.set_random_seed(8)
    layers = [
        keras.Input((time_steps, 6), batch_size=batch_size),
        keras.layers.LSTM(5, return_sequences=True, bias_initializer="normal"),
        keras.layers.Bidirectional(keras.layers.LSTM(7, bias_initializer="normal")),
        keras.layers.Dense(2, activation="softmax"),
    ]
    return keras.Sequential(layers, name=name)


@pytest.mark.parametrize(
    ("model", "settled", "sizes"),
    [
        (lambda: own_model(), NAMES[2:], (3, 5, 6, 5)),
        (lambda: own_model(time_steps=9), NAMES[1:], (3, 9, 6, 5)),
        (lambda: own_model(time_steps=9, batch_size=2), NAMES, (2, 9, 6, 5)),
    ],
)
def test_what_a_model_settles_stands_still(model, settled, sizes):
    subject = subjects.subject(model(), PRESET)
    assert (subject.settled, dataclasses.astuple(subject.sizes)) == (frozenset(settled), sizes)
    assert subject.at(subject.sizes).input_shape == sizes[:3]
    panel = widgets.compare_layouts(model())
    assert [getattr(panel, name).field.disabled for name in NAMES] == [name in settled for name in NAMES]
    assert all("mine" in getattr(panel, name).message.value for name in settled)
    assert f"model &#x27;mine&#x27;, {Sizes(*sizes)}" in panel.status.value


def test_own_models_are_compared_as_they_are_now():
    """Files have the weights that the model has when it is compared, and its outputs, at sizes that were chosen."""
    model, files = own_model(), []
    ways = [
        dataclasses.replace(way, convert=lambda source, way=way: files.append(way.convert(source)) or files[-1])
        for way in (lowerings.LOWERINGS.ways[1], *layouts.LAYOUTS.ways[1:5:3], layouts.LAYOUTS.ways[3])
    ]
    subject = subjects.subject(model, PRESET)
    before = None
    for sizes, number in ((Sizes(3, 2, 6, 5), len(ways)), (Sizes(2, 4, 6, 5), 1)):
        candidates = dataclasses.replace(layouts.LAYOUTS, ways=tuple(ways[-number:]))
        model.set_weights([weights + 0.1 for weights in model.get_weights()])
        x = np.random.default_rng(5).normal(size=(sizes.batch_size, sizes.time_steps, 6)).astype(np.float32)
        wanted = model.predict(x, verbose=0)
        files.clear()
        compared = measured.compare(candidates, sizes, subject=subject, rounds=1)
        assert compared.tables()[0].title == f"Files for model 'mine', {sizes}"
        for way, file, row in zip(candidates.ways, files, compared.files, strict=True):
            given = x.swapaxes(0, 1) if way.time_major_file else x
            np.testing.assert_allclose(lstm_toolkit.Runner(file)(given), wanted, atol=1e-6)
            assert row.max_abs_error < 1e-6
        assert files != before
        before = list(files)


def test_wrong_files_of_own_models_show():
    other = own_model()
    other.set_weights([weights + 0.2 for weights in other.get_weights()])
    ways = (Candidate("other", lambda source: lstm_toolkit.convert(other, batch_size=3, time_steps=5).tflite),)
    subject = subjects.subject(own_model(), PRESET)
    (row,) = measured.compare(
        dataclasses.replace(layouts.LAYOUTS, ways=ways), subject.sizes, subject=subject, rounds=1
    ).files
    assert row.max_abs_error > 1e-2


def test_a_file(tmp_path):
    inputs = keras.Input((9, 6), batch_size=2)
    model = keras.Model(inputs, keras.layers.LSTM(5, return_sequences=True)(inputs))
    conversion = lstm_toolkit.convert(model)
    conversion.save(tmp_path / "<b>.tflite")
    for source in (conversion, conversion.tflite, tmp_path / "<b>.tflite"):
        subject = subjects.subject(source, PRESET)
        assert (subject.is_file, dataclasses.astuple(subject.sizes), len(subject.settled)) == (True, (2, 9, 6, 5), 4)
    panel = widgets.compare_lowerings(tmp_path / "<b>.tflite")
    assert "as it is: LSTM op" in panel.sketch.value
    panel.run.click()
    as_it_is, unrolled, loop = panel.comparison.files
    assert as_it_is.ops == conversion.report.ops
    assert unrolled.ops["TANH"] == loop.ops["TANH"] == 2 * 9
    assert as_it_is.max_abs_error == 0
    assert all(0 < each.max_abs_error < 1e-6 for each in (unrolled, loop))
    assert "&lt;b&gt;.tflite" in panel.results.value
    assert "<b>" not in panel.results.value.replace("<br>", "")


def test_a_keras_file(monkeypatch):
    monkeypatch.setattr(subjects, "loaded", {"mine.keras": own_model()}.get)
    panel = widgets.compare_lowerings("mine.keras")
    assert (panel.units.value, panel.time_steps.value) == (5, 28)


def test_sizes_that_a_model_does_not_take(monkeypatch):
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, keras.layers.Reshape((5, 8))(keras.layers.LSTM(8, return_sequences=True)(inputs)))
    monkeypatch.setattr(
        "lstm_toolkit.panels.layouts.LAYOUTS", dataclasses.replace(layouts.LAYOUTS, ways=layouts.LAYOUTS.ways[2:3])
    )
    panel = widgets.compare_layouts(model)
    panel.time_steps.value = 6
    panel.run.click()
    assert re.search("Not possible: model .* does not take batch 3, time 6, .*; choose other", panel.status.value)
    assert not panel.results.value
    panel.time_steps.value = 5
    panel.run.click()
    assert "Measured for model" in panel.status.value


def test_many_steps_are_not_unrolled_by_the_stock_converter(monkeypatch):
    monkeypatch.setattr(lowerings, "MOST_UNROLLED", 3)
    convert = lowerings.LOWERINGS.ways[1].convert
    with pytest.raises(ConversionError, match="4 steps take the stock converter minutes; choose 3 or fewer"):
        convert(measured.lstm_model(Sizes(1, 4, 2, 3)))
    assert convert(measured.lstm_model(Sizes(1, 3, 2, 3)))


def test_a_layer_that_cannot_be_built_again():
    class Bare(keras.layers.Layer):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

        def call(self, x):
            return self.scale * x

    class Full(Bare):
        def get_config(self):
            return {"scale": self.scale}

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    convert = lowerings.LOWERINGS.ways[1].convert
    with pytest.raises(ConversionError, match=r"cannot be built with unroll=True: .*; give its layers a get_config"):
        convert(layer_model(keras.layers.LSTM(2), Bare(3.0), shape=(2, 3), batch_size=1))
    assert convert(layer_model(keras.layers.LSTM(2), Full(3.0), shape=(2, 3), batch_size=1))


def test_what_the_refusals_advise():
    unknown = keras.Sequential([keras.layers.LSTM(4)])
    inputs = keras.Input((9, 6))
    lstm = layer_model(keras.layers.LSTM(4))
    for fits in (keras.Model(inputs, unknown(inputs)), layer_model(keras.layers.LSTM(4, stateful=False)), lstm):
        assert widgets.compare_layouts(fits).units.value == widgets.compare_lowerings(fits).units.value == 4


def layer_model(*layers, shape=(9, 6), **options):
    return keras.Sequential([keras.Input(shape, **options), *layers], name="m")


def two_outputs():
    inputs = keras.Input((9, 6))
    lstm = keras.layers.LSTM(4)
    return keras.Model(inputs, [lstm(inputs), inputs], name="m")


@pytest.mark.parametrize(
    ("source", "error", "reason"),
    [
        (lambda: 3, TypeError, "expected a Keras 3 model, its path or a .tflite file, got int"),
        (lambda: keras.layers.LSTM(4), TypeError, "got LSTM"),
        (lambda: layer_model(keras.layers.Dense(5)), ValueError, "model 'm' has no layer LSTM, GRU or SimpleRNN"),
        (
            lambda: layer_model(keras.layers.Embedding(5, 4), keras.layers.LSTM(4), shape=(9,)),
            ValueError,
            "must have one input float32 [batch, time, input] and one output for the panel to compare it, got float32 "
            "[None, 9] and 1 outputs",
        ),
        (two_outputs, ValueError, "got float32 [None, 9, 6] and 2 outputs"),
        (
            lambda: layer_model(keras.layers.LSTM(4, stateful=True), batch_size=2),
            ValueError,
            "model 'm' is stateful, so that a call changes it; build it with stateful=False, and pass that",
        ),
        (
            lambda: keras.Sequential([keras.layers.LSTM(4)], name="m"),
            ValueError,
            "model 'm' does not know its inputs; pass keras.Model(inputs, model(inputs))",
        ),
        (
            lambda: layer_model(keras.layers.LSTM(1025)),
            ValueError,
            "units must be an integer from 1 to 1024, got 1025",
        ),
        (
            lambda: lstm_toolkit.convert(layer_model(keras.layers.LSTM(2)), lowering="loop", verify=False),
            ValueError,
            "the file has no fused LSTM op; pass the model that it was made from",
        ),
    ],
)
def test_what_cannot_be_compared(source, error, reason):
    with pytest.raises(error, match=re.escape(reason)):
        widgets.compare_lowerings(source())


def test_a_file_has_one_layout():
    file = lstm_toolkit.convert(layer_model(keras.layers.LSTM(4)), verify=False)
    with pytest.raises(ValueError, match=r"a \.tflite file has one layout; pass the model that it was made from"):
        widgets.compare_layouts(file)
