"""Shows that the codelabs notice when the package goes wrong: `python tools/check_notebooks_notice.py`.

Each mutation changes one line of a copy of the package; then nbval runs a codelab against it, which has to fail. It
takes some minutes, so it is no part of the tests; these only check that every mutation still finds its line.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One line of the package, what it becomes, and the codelab that has to notice."""

    what: str
    module: str
    before: str
    after: str
    notebook: str


MUTATIONS = (
    Mutation(
        "gate order of Keras",
        "weights/frameworks.py",
        "KERAS = Packing(\n    gates=GATES,",
        'KERAS = Packing(\n    gates=("forget", "input", "cell", "output"),',
        "01_gates",
    ),
    Mutation(
        "clip of a Lingvo cell",
        "sources/lingvo_modules.py",
        "cell_clip=cell.cell_value_cap or 0.0,",
        "cell_clip=0.0,",
        "05_lingvo",
    ),
    Mutation(
        "tolerance of the comparison",
        "runtime/compare.py",
        "TOLERANCE = 1e-5",
        "TOLERANCE = 1e-3",
        "06_bring_your_own_rnn",
    ),
    Mutation(
        "state mode of a layer",
        "sources/keras_layers.py",
        'return "carry" if layer.stateful else "reset"',
        'return "carry"',
        "04_state_and_streaming",
    ),
    Mutation(
        "axis of time in a bidirectional layer",
        "tflite/recurrent.py",
        "return 0 if self.is_time_major else 1",
        "return 1 if self.is_time_major else 0",
        "03_bidirectional",
    ),
    Mutation(
        "layout of a time-major file",
        "passes/transposes.py",
        "op.builtinOptions.timeMajor = not op.builtinOptions.timeMajor",
        "op.builtinOptions.timeMajor = bool(op.builtinOptions.timeMajor)",
        "02_keras_variants",
    ),
)


def notices(mutation: Mutation) -> bool:
    """Whether the codelab fails with the mutated package."""
    with tempfile.TemporaryDirectory() as folder:
        package = shutil.copytree(ROOT / "lstm_toolkit", Path(folder, "lstm_toolkit"))
        module = package / mutation.module
        module.write_text(module.read_text().replace(mutation.before, mutation.after))
        notebook = ROOT / "notebooks" / f"{mutation.notebook}.ipynb"
        command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-q"]
        environment = os.environ | {"PYTHONPATH": folder}
        done = subprocess.run([*command, str(notebook)], env=environment, capture_output=True, text=True, cwd=ROOT)
        print(f"{mutation.what} ({mutation.module}): {done.stdout.strip().splitlines()[-1]}", flush=True)
        return done.returncode == 1


if __name__ == "__main__":
    missed = [mutation.what for mutation in MUTATIONS if not notices(mutation)]
    sys.exit(f"not noticed: {', '.join(missed)}" if missed else 0)
