"""Attacks the package for a while, and counts what comes of it.

    python tools/campaign.py --minutes 60 --seed 1
    python tools/campaign.py --only models --seed 17 --models 1

- models: random models, with every option of `convert`: the file agrees with its model, or the package refuses it;
- mutants: damaged `.tflite` files through everything that reads one;
- runs: damaged `.tflite` files through `Runner` and `benchmark`;
- isolated: the same through `Runner(isolated=True)`;
- kills: commands and programs that write files are ended at random moments;
- strange: bombs, devices, links, folders and other formats, given as files;
- threads: eight threads on everything at once.

Each case has a seed, the given one and those that follow, and runs in a child process with a limit for the time of each
call. Findings are errors that are not the package's own (foreign), ends of the process (crash), calls that take too
long (hang) and results that are not as promised (wrong). Each is printed with the command that repeats it, and the exit
code is 1 if there is one.
"""

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from attacks.children import FINDINGS, SOUND, Child, Outcome

START_LIMIT = 120.0
"""Seconds in which a child process must be ready: TensorFlow is loaded then."""
MOST_ALIKE = 3
"""Findings of one kind with the same text that are printed; all are counted, and in the log."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of attack.

    Attributes:
        cases: how many an hour has, by default.
        share: of the minutes, relative to the other kinds.
        limit: seconds that a call may take.
        renewed: after how many cases a new process takes over.
    """

    cases: int
    share: float
    limit: float
    renewed: int = 500


KINDS = {
    "models": Kind(cases=1000, share=50, limit=60, renewed=60),
    "mutants": Kind(cases=10_000, share=35, limit=5),
    "runs": Kind(cases=10_000, share=5, limit=5),
    "isolated": Kind(cases=1000, share=3, limit=5),
    "kills": Kind(cases=100, share=10, limit=120),
    "strange": Kind(cases=90, share=8, limit=120),
    "threads": Kind(cases=8, share=5, limit=240),
}


class Tally:
    """What came of the cases of one kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest = Outcome("right")
        self.slowest_seed = 0
        self._alike: Counter[tuple[str, str]] = Counter()

    def add(self, seed: int, outcome: Outcome) -> None:
        """Counts a case."""
        self.counts[outcome.verdict] += 1
        if outcome.seconds > self.slowest.seconds:
            self.slowest, self.slowest_seed = outcome, seed

    def is_new(self, outcome: Outcome) -> bool:
        """Whether a finding like this was not seen three times yet."""
        self._alike[outcome.verdict, outcome.what[:60]] += 1
        return self._alike[outcome.verdict, outcome.what[:60]] <= MOST_ALIKE


class Campaign:
    """Runs kinds, one after the other, each in several processes.

    Args:
        folder: for files.
        first: a Python file that each process runs first, or None.
        log: takes a line of JSON a case, or None.
    """

    def __init__(self, folder: Path, first: Path | None, log: IO[str] | None = None) -> None:
        self._folder, self._first, self._log, self._lock = folder, first, log, threading.Lock()

    def prepare(self) -> None:
        """Makes the files that the kinds share.

        Raises:
            SystemExit: if that fails.
        """
        child = Child("corpus", self._folder, None)
        made = child.ready(START_LIMIT), child.do(0, START_LIMIT)
        child.end()
        for each in made:
            if each.verdict not in SOUND:
                raise SystemExit(f"the files of the campaign could not be made: {each.what}")

    def run(self, kind: str, seeds: Iterator[int], end: float, processes: int) -> Tally:
        """Does cases of a kind until the seeds or the time are used up."""
        tally = Tally()
        threads = [
            threading.Thread(target=self._work, args=(kind, seeds, end, tally), daemon=True) for _ in range(processes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return tally

    def _work(self, kind: str, seeds: Iterator[int], end: float, tally: Tally) -> None:
        child: Child | None = None
        while time.monotonic() < end:
            with self._lock:
                seed = next(seeds, None)
            if seed is None:
                break
            if child is None or not child.is_alive or child.cases >= KINDS[kind].renewed:
                if child is not None:
                    child.end()
                child = Child(kind, self._folder, self._first)
                started = child.ready(START_LIMIT)
                if started.verdict not in SOUND:
                    self._count(kind, seed, started, tally)
                    break
            self._count(kind, seed, child.do(seed, KINDS[kind].limit), tally)
        if child is not None:
            child.end()

    def _count(self, kind: str, seed: int, outcome: Outcome, tally: Tally) -> None:
        with self._lock:
            tally.add(seed, outcome)
            if self._log is not None:
                print(json.dumps({"kind": kind, "seed": seed} | outcome._asdict()), file=self._log, flush=True)
            if outcome.verdict in FINDINGS and tally.is_new(outcome):
                print(finding(kind, seed, outcome), flush=True)


def finding(kind: str, seed: int, outcome: Outcome) -> str:
    """What was found, and the command that repeats it."""
    again = f"python tools/campaign.py --only {kind} --seed {seed} --{kind} 1"
    return f"{kind}, {outcome.verdict} in {outcome.where}: {outcome.what}\n    {again}"


def table(tallies: dict[str, Tally]) -> str:
    """The figures, a row a kind."""
    rows: list[tuple[str, ...]] = [("kind", "cases", *SOUND, *FINDINGS, "slowest")]
    for kind, tally in tallies.items():
        counts = [str(tally.counts[verdict]) for verdict in (*SOUND, *FINDINGS)]
        slowest = f"{tally.slowest.seconds:.1f} s (seed {tally.slowest_seed}, {tally.slowest.where[:60]})"
        rows.append((kind, str(tally.counts.total()), *counts, slowest))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="for all kinds together (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the first case of each kind (default: 0)")
    parser.add_argument("--only", choices=KINDS, action="append", help="a kind; may be given more than once")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at once (default: one a core)")
    parser.add_argument("--first", type=Path, help="a Python file that each process runs before anything else")
    parser.add_argument("--folder", type=Path, help="for files, which are kept (default: a temporary one)")
    parser.add_argument("--log", type=argparse.FileType("a"), help="a file that takes a line of JSON a case")
    for name, kind in KINDS.items():
        parser.add_argument(f"--{name}", type=int, default=kind.cases, help=f"cases (default: {kind.cases})")
    return parser.parse_args()


def main() -> int:
    """Runs the campaign; returns the exit code."""
    given = arguments()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="campaign-"))
    folder.mkdir(parents=True, exist_ok=True)
    start, tallies = time.monotonic(), {}
    chosen = [name for name in KINDS if given.only is None or name in given.only]
    try:
        campaign = Campaign(folder, given.first, given.log)
        campaign.prepare()
        for number, name in enumerate(chosen):
            left = start + 60 * given.minutes - time.monotonic()
            share = KINDS[name].share / sum(KINDS[each].share for each in chosen[number:])
            seeds = iter(range(given.seed, given.seed + getattr(given, name)))
            tallies[name] = campaign.run(name, seeds, time.monotonic() + left * share, given.processes)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{table(tallies)}\n{time.monotonic() - start:.0f} seconds, seeds from {given.seed}")
    return 1 if any(tally.counts[verdict] for tally in tallies.values() for verdict in FINDINGS) else 0


if __name__ == "__main__":
    sys.exit(main())
