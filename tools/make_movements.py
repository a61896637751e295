"""Makes `lstm_toolkit/data/movements.npz` of the data set in seglearn 1.2.5: `python tools/make_movements.py WHEEL`.

`pip download --no-deps seglearn==1.2.5` brings the wheel; the text beside the result says what the data is.
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parent.parent / "lstm_toolkit" / "data" / "movements.npz"
MEMBER = "seglearn/data/watch_dataset.npy"
STEPS, SAMPLES_A_STEP = 16, 10
PER_UNIT = np.array([100, 100, 100, 50, 50, 50])
"""Integers for 1 g of the accelerometer, and for 1 rad/s of the gyroscope."""


def main(wheel: str) -> None:
    """Cuts the recordings into windows, averages over ten samples a step, and writes integers."""
    # It is a pickle, which is code that runs when it is loaded: a release that its author published.
    stored = np.load(io.BytesIO(zipfile.ZipFile(wheel).read(MEMBER)), allow_pickle=True).item()
    windows, labels, people = [], [], []
    for recording, label, person in zip(stored["X"], stored["y"], stored["subject"], strict=True):
        count = len(recording) // (STEPS * SAMPLES_A_STEP)
        samples = recording[: count * STEPS * SAMPLES_A_STEP].reshape(count, STEPS, SAMPLES_A_STEP, -1)
        windows.append(np.rint(samples.mean(axis=2) * PER_UNIT).astype(np.int16))
        labels += [label] * count
        people += [person] * count
    movement, person = (np.array(each, np.uint8) for each in (labels, people))
    np.savez_compressed(RESULT, windows=np.concatenate(windows), movement=movement, person=person)


if __name__ == "__main__":
    main(sys.argv[1])
