"""Damaged `.tflite` files through `Runner(isolated=True)`: nothing of a file may reach this process."""

from pathlib import Path

from attacks.children import Attack, Outcome, Tell
from attacks.damage import damaged, whole_files
from attacks.runs import use
from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.runtime.limits import Limits

SECONDS, MEMORY = 2.0, 2**30


def begin(folder: Path) -> Attack:
    """Reads the whole files of `folder`."""
    files = whole_files(folder)
    limits = Limits(seconds=SECONDS, memory=MEMORY)
    for data in files:
        use(data, lambda _: None, isolated=limits)

    def attack(seed: int, tell: Tell) -> Outcome:
        try:
            use(damaged(files, seed), tell, xnnpack=seed % 3 != 0, isolated=limits)
        except LstmToolkitError as error:
            return Outcome("refused", str(error))
        return Outcome("right")

    return attack
