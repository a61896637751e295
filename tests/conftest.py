"""Shared helpers of the tests."""

import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pytest

# Where a shell starts the tests in the background they ignore this signal, and so would the processes that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = (
    "test_forms.py",
    "test_codelabs_in_browser.py",
    "test_quantize.py",
    "test_variants.py",
    "test_composite.py",
    "test_lower.py",
    "test_targets.py",
)
"""Files that take long, the longest first: what begins last should be short, or one of two processes waits for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long files in front."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20)
