"""Makes the files of this folder: the weights of trained GRUs of `benchmarks/integer_grus.py`, by their seeds.

It runs in the project's environment: `python tests/data/grus/make_grus.py`. Training is not repeatable to the bit, so
that the weights are kept. Of the 30 models these are the two that lost most by weights of 8 bits at the finest scale,
and one of two layers.
"""

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
SEEDS = (7, 13, 23)


def main() -> None:
    """Trains the models and writes their weights, in Keras's order."""
    sys.path.insert(0, str(FOLDER.parents[2] / "benchmarks"))
    import integer_grus

    for seed in SEEDS:
        model, _ = integer_grus.trained(seed)
        np.savez(FOLDER / f"{seed}.npz", *model.get_weights())


if __name__ == "__main__":
    main()
