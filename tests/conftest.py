"""Shared helpers of the tests."""

import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pytest

from lstm_toolkit.runtime import other_work

# Where a shell starts the tests in the background they ignore this signal, and so would the processes that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(scope="session", autouse=True)
def small_other_work():
    """No test is about times, and twice a cache of hundreds of MB would take most of the time of those that measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(other_work, "last_level_cache", lambda: 1 << 20)
        yield
