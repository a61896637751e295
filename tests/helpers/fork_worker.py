"""Forks as servers and pools do, and prints what it gives: `python -m tests.helpers.fork_worker WAY`."""

import concurrent.futures
import multiprocessing
import os
import sys
import threading
from typing import Any

SIZES = {"time_steps": 5, "input_size": 3, "units": 4}
SECONDS = 40


def converted() -> dict[str, int]:
    from lstm_toolkit import convert, models

    return dict(convert(models.unidirectional(**SIZES)).report.ops)


def benchmarked() -> Any:
    from lstm_toolkit import benchmark, models

    return benchmark([models.unidirectional(**SIZES)], runs=2)


def without_tensorflow(tflite: bytes) -> tuple[Any, ...]:
    import numpy as np

    import lstm_toolkit

    lstm_toolkit.Runner(tflite, runtime="compiled")
    file = lstm_toolkit.Runner(tflite)
    return dict(lstm_toolkit.inspect(tflite).ops), file(np.ones((1, 5, 3), np.float32)).tolist()


def refusal(function: Any = converted) -> str:
    try:
        return str(function())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def forked(function: Any, *arguments: Any) -> Any:
    """What a function gives in a process of a pool that is forked now."""
    pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    future = pool.submit(function, *arguments)
    try:
        return future.result(SECONDS)
    except TimeoutError:
        return "it hangs"
    finally:
        for process in list((pool._processes or {}).values()):
            process.kill()


def before_the_package_is_imported() -> None:
    import keras

    model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)])
    model(keras.ops.ones((2, 5, 3)))
    print("after use:", forked(refusal))


def first_uses() -> int:
    """How many of some threads get what they want that all begin with TensorFlow at once, before it is imported."""
    import lstm_toolkit

    def with_models() -> Any:
        from lstm_toolkit import models

        return models

    def opened() -> bool:
        with lstm_toolkit.fusable_lstms():
            return True

    def refused(function: Any) -> bool:
        try:
            return bool(function("absent.keras"))
        except lstm_toolkit.errors.InvalidModelError:
            return True

    tasks = [
        lambda: lstm_toolkit.composite(interface="keras"),
        lambda: lstm_toolkit.lingvo.RNN,
        with_models,
        lambda: refused(lstm_toolkit.convert),
        lambda: refused(lstm_toolkit.diagnose),
        opened,
    ]
    together = threading.Barrier(len(tasks))
    with concurrent.futures.ThreadPoolExecutor(len(tasks)) as pool:
        return sum(map(bool, pool.map(lambda task: together.wait() >= 0 and task(), tasks)))


def after_the_package_is_imported() -> None:
    print("first uses:", first_uses())
    import lstm_toolkit
    from lstm_toolkit import models, process_state

    print("after import:", forked(refusal))
    ops = converted()
    print("here:", ops)
    tflite = lstm_toolkit.convert(models.unidirectional(**SIZES), lowering="unrolled").tflite
    print("without TensorFlow:", forked(without_tensorflow, tflite) == without_tensorflow(tflite))
    before, held, end = os.fstat(2)[:2], threading.Event(), threading.Event()

    def hold() -> None:
        with process_state.alone(), process_state.captured_stderr():
            held.set()
            end.wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    print("standard error, locked:", os.fstat(2)[:2] != before == forked(os.fstat, 2)[:2])
    print(
        "without TensorFlow, locked:", forked(without_tensorflow, tflite)[0] == dict(lstm_toolkit.inspect(tflite).ops)
    )
    print("after use:", forked(refusal))
    print("benchmark:", forked(refusal, benchmarked))
    end.set()
    print("here again:", converted() == ops)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    {"before": before_the_package_is_imported, "after": after_the_package_is_imported}[sys.argv[1]]()
