"""Eight threads on everything at once: each result is that of one thread, and nothing of the process changes."""

import io
import logging
import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import matplotlib.pyplot
import numpy as np

import lstm_toolkit
from attacks.children import Attack, Outcome, Tell
from attacks.comparing import File
from lstm_toolkit import models
from lstm_toolkit.gate_pictures.layout import gate_layout

THREADS, JOBS = 8, 6
"""How many threads there are, and how many jobs each does."""


def begin(folder: Path) -> Attack:
    """Makes the models and files."""
    return attacking(jobs_of(folder / "whole"))


def attacking(jobs: dict[str, Callable[[], Any]]) -> Attack:
    """Lets threads do jobs whose results in one thread are known."""
    expected = {name: job() for name, job in jobs.items()}

    def attack(seed: int, tell: Tell) -> Outcome:
        before = state_of_process()
        problems: list[str] = []
        start = threading.Barrier(THREADS)

        def work(number: int) -> None:
            mine = random.Random(f"{seed} {number}").sample(list(jobs), min(JOBS, len(jobs)))
            start.wait()
            for name in mine:
                try:
                    if not same(jobs[name](), expected[name]):
                        problems.append(f"{name} gives another result than in one thread")
                except BaseException as error:  # whatever comes out is a finding
                    problems.append(f"{name}: {type(error).__name__}: {error}")

        tell(f"{THREADS} threads")
        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if (after := state_of_process()) != before:
            changed = [name for name, value in after.items() if value != before[name]]
            problems.append(f"the process is left with another {', '.join(changed)}")
        return Outcome("wrong", "; ".join(problems)[:600]) if problems else Outcome("right")

    return attack


def state_of_process() -> dict[str, Any]:
    """What a library must not leave changed."""
    logger = logging.getLogger("lstm_toolkit")
    return {
        "stdout": id(sys.stdout),
        "stderr": id(sys.stderr),
        "level": logger.level,
        "handlers": len(logger.handlers),
        "environment": dict(os.environ),
        "LSTM.inner_loop": id(keras.layers.LSTM.inner_loop),
        "LSTM.__call__": id(keras.layers.LSTM.__call__),
        "Layer.__call__": id(keras.layers.Layer.__call__),
    }


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal."""
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and bool(np.abs(one - other).max(initial=0.0) < 1e-5)
    return bool(one == other)


def jobs_of(whole: Path) -> dict[str, Callable[[], Any]]:
    """What the threads do, on shared models, files and runners."""
    sizes: dict[str, Any] = {"time_steps": 7, "input_size": 5}
    stacked, both = models.stacked(**sizes, units=[6, 4], batch_size=1), models.bidirectional(**sizes, units=4)
    x = np.random.default_rng(0).normal(size=(1, 7, 5)).astype(np.float32)
    files = {path.stem: path.read_bytes() for path in sorted(whole.glob("*.tflite"))}
    runner = lstm_toolkit.Runner(files["merged"])
    carried = np.concatenate([x] * 3)

    def converted(model: Any, **options: Any) -> Any:
        file = File(lstm_toolkit.convert(model, **options).tflite)
        (name,) = file.inputs
        return next(iter(file({name: x}).values()))

    def drawn() -> Any:
        figure = lstm_toolkit.plot_gates(files["merged"])
        figure.savefig(io.BytesIO(), format="svg")
        matplotlib.pyplot.close(figure)
        return figure.alt

    return {
        "convert": lambda: converted(stacked),
        "convert, loop": lambda: converted(both, lowering="loop"),
        "convert a file": lambda: converted(str(whole / "stacked.keras"), verify=False),
        "the model that is converted": lambda: np.asarray(stacked(x)),
        "the model that is converted, again": lambda: np.asarray(both(x)),
        "a shared runner": lambda: runner(carried),
        "a shared runner, again": lambda: runner(-carried),
        "inspect": lambda: str(lstm_toolkit.inspect(files["int8"])),
        "diagnose": lambda: str(lstm_toolkit.diagnose(files["stock"])),
        "diagnose a model": lambda: str(lstm_toolkit.diagnose(both)),
        "repair": lambda: lstm_toolkit.repair(files["stock"]).tflite,
        "gate_layout": lambda: str(gate_layout(files["merged"])),
        "plot_gates": drawn,
        "lower": lambda: lstm_toolkit.lower(files["stacked"], form="loop"),
    }
