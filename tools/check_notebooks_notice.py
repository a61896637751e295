"""Shows that the codelabs notice what makes them untrue: `python tools/check_notebooks_notice.py [CODELAB ...]`.

Each falsehood changes one line of a copy of the package, so that a number comes out wrong and a sentence that speaks of
it is untrue. Then the codelab runs against the copy, and what it prints is taken as it is, as by a maintainer who runs
`make notebooks` and commits: the stored outputs notice nothing. One of the codelab's own assertions has to fail.

It takes a minute for each codelab, so it is no part of the tests; these only check that every falsehood finds its line.
"""

import dataclasses
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import nbclient
import nbformat

ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Falsehood:
    """One line of the package, what it becomes, and the codelab that has to notice."""

    what: str
    module: str
    before: str
    after: str
    codelab: str


FALSEHOODS = (
    Falsehood(
        "the body of a loop counts once",
        "inspection/arithmetic.py",
        "return 1 + (turns + 1) * condition + turns * body",
        "return 1 + (turns + 1) * condition + body",
        "00_quickstart",
    ),
    Falsehood(
        "rows and columns of a number's slot change places",
        "gate_pictures/layout.py",
        "slot_position=inside,",
        "slot_position=inside[::-1],",
        "01_gates",
    ),
    Falsehood(
        "every op is said to be batch-major",
        "inspection/read.py",
        '"time_major" if op.is_time_major else "batch_major"',
        '"batch_major"',
        "02_keras_variants",
    ),
    Falsehood(
        "an op has one multiply-add too many",
        "inspection/arithmetic.py",
        "return math.prod(shape[:-1]) * weights",
        "return math.prod(shape[:-1]) * weights + 1",
        "03_bidirectional",
    ),
    Falsehood(
        "a carried state is said to be reset",
        "inspection/read.py",
        'ways = {settled.get(index, "carry") for index in op.states}',
        'ways = {settled.get(index, "reset") for index in op.states}',
        "04_state_and_streaming",
    ),
    Falsehood(
        "a clip is said to be a whole number",
        "inspection/read.py",
        "cell_clip=float(options.cellClip)",
        "cell_clip=float(round(options.cellClip))",
        "05_lingvo",
    ),
    Falsehood(
        "an error of 1e-4 is taken for rounding",
        "runtime/compare.py",
        "TOLERANCE = 1e-5",
        "TOLERANCE = 1e-3",
        "06_bring_your_own_rnn",
    ),
    Falsehood(
        "every tenth sample is held out, not every fifth",
        "quantization/samples.py",
        "return [s for n, s in enumerate(samples) if n % 5], [s for n, s in enumerate(samples) if n % 5 == 0]",
        "return [s for n, s in enumerate(samples) if n % 10], [s for n, s in enumerate(samples) if n % 10 == 0]",
        "07_quantization",
    ),
    Falsehood(
        "a loop has the multiply-adds of one turn",
        "inspection/arithmetic.py",
        "Work(turns * per_turn + condition, turns, per_turn)",
        "Work(per_turn + condition, turns, per_turn)",
        "08_benchmarking",
    ),
    Falsehood(
        "a clip is a note, not a warning",
        "doctor/faults.py",
        '"cell-clip",\n        "warning",',
        '"cell-clip",\n        "note",',
        "09_the_doctor",
    ),
    Falsehood(
        "a matrix product has one multiply-add too many",
        "inspection/arithmetic.py",
        "or -1 in sizes else outputs * math.prod(sizes)",
        "or -1 in sizes else outputs * math.prod(sizes) + 1",
        "10_on_a_microcontroller",
    ),
)


def first_error(notebook: Any, package: Path) -> tuple[str, str] | None:
    """Runs a notebook against a copy of the package, and writes nothing.

    Args:
        notebook: of `nbformat`; its outputs become those of this run.
        package: the folder that the copy lies in.

    Returns:
        Name of the first error and the source of the cell that raised it; None if there was none.
    """
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(package), "TF_CPP_MIN_LOG_LEVEL": "3"}):
        try:
            nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(package)}}).execute()
        except nbclient.exceptions.CellExecutionError as error:
            failed = next(
                cell for cell in notebook.cells if any(o.output_type == "error" for o in cell.get("outputs", []))
            )
            return error.ename, failed.source
    return None


def notices(falsehood: Falsehood) -> bool:
    """Whether one of the codelab's assertions fails with the changed package; prints what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        module = shutil.copytree(ROOT / "lstm_toolkit", Path(folder, "lstm_toolkit")) / falsehood.module
        module.write_text(module.read_text().replace(falsehood.before, falsehood.after))
        notebook = nbformat.read(ROOT / "notebooks" / f"{falsehood.codelab}.ipynb", as_version=4)
        name, source = first_error(notebook, Path(folder)) or ("no error", "")
    noticed = name == "AssertionError" and "assert " in source
    print(f"{falsehood.codelab:22} {falsehood.what:50} {'noticed' if noticed else f'NOT noticed: {name}'}", flush=True)
    return noticed


if __name__ == "__main__":
    chosen = [each for each in FALSEHOODS if each.codelab in (sys.argv[1:] or [each.codelab])]
    results = [notices(falsehood) for falsehood in chosen]
    sys.exit(0 if results and all(results) else "not every falsehood was noticed")
