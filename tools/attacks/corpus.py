"""The whole files that mutants are made of, and the Keras files that are converted; made once, with TensorFlow."""

from pathlib import Path
from typing import Any

from attacks.children import Attack, Outcome, Tell


def begin(folder: Path) -> Attack:
    """Makes all files in `folder`, but for those that stand there."""

    def attack(_: int, tell: Tell) -> Outcome:
        if not (folder / "whole").is_dir():
            tell("making the corpus")
            make(folder)
        return Outcome("right")

    return attack


def make(folder: Path) -> None:
    """Fused, bidirectional as one op and as two, explicit and carried state, plain, quantized and stock files."""
    import keras
    import numpy as np

    import lstm_toolkit
    from lstm_toolkit import models
    from lstm_toolkit.codelab import stock_conversion

    keras.utils.set_random_seed(0)
    sizes: dict[str, Any] = {"time_steps": 7, "input_size": 5}
    stacked, both = models.stacked(**sizes, units=[6, 4]), models.bidirectional(**sizes, units=4)
    layers = [keras.layers.LSTM(4, return_sequences=True), keras.layers.GRU(3), keras.layers.Dense(2)]
    mixed = keras.Sequential([keras.Input((7, 5)), *layers])
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    masked = keras.Model(tokens, keras.layers.LSTM(4)(keras.layers.Embedding(9, 3, mask_zero=True)(tokens)))
    samples = np.random.default_rng(0).normal(size=(40, 7, 5)).astype(np.float32)
    files: dict[str, tuple[Any, dict[str, Any]]] = {
        "carried": (stacked, {"state": "carry"}),
        "dynamic": (both, {"quantization": "dynamic", "bidirectional": "split"}),
        "explicit": (stacked, {"state": "explicit"}),
        "float16": (stacked, {"quantization": "float16"}),
        "int8": (both, {"quantization": "int8", "representative_dataset": samples}),
        "loop": (mixed, {"lowering": "loop"}),
        "masked": (masked, {}),
        "merged": (both, {"batch_size": 3}),
        "simple": (keras.Sequential([keras.Input((7, 5)), keras.layers.SimpleRNN(4)]), {}),
        "stacked": (stacked, {"batch_size": 2}),
        "unrolled": (mixed, {"lowering": "unrolled"}),
    }
    unfinished = folder / "unfinished"
    unfinished.mkdir(exist_ok=True)
    for name, (model, options) in files.items():
        file = lstm_toolkit.convert(model, **options, verify=False).tflite
        (unfinished / f"{name}.tflite").write_bytes(file)
    (unfinished / "stock.tflite").write_bytes(stock_conversion(mixed, batch_size=1))
    stacked.save(unfinished / "stacked.keras")
    both.save(unfinished / "both.h5")
    unfinished.rename(folder / "whole")
