"""Which runtimes are installed; it loads none of them."""

import importlib.util


def is_installed(runtime: str) -> bool:
    """Whether a runtime of `trial.RUNTIMES` is installed; those of LiteRT always are."""
    return runtime != "micro" or importlib.util.find_spec("tflite_micro") is not None
