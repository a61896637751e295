"""LSTMs from Keras to TensorFlow Lite's fused ops, exactly.

The public names are loaded when they are first used; importing the package loads neither TensorFlow nor LiteRT. It
makes a TensorFlow that is imported after it log less, unless `TF_CPP_MIN_LOG_LEVEL` is set.
"""

from __future__ import annotations

import importlib
import os

from lstm_toolkit._version import __version__ as __version__

TYPE_CHECKING = False  # as type checkers know it; the module typing takes a while to import
if TYPE_CHECKING:
    from typing import Any

    from lstm_toolkit import errors as errors
    from lstm_toolkit import lingvo as lingvo
    from lstm_toolkit import widgets as widgets
    from lstm_toolkit.activations.gates import gate_activations as gate_activations
    from lstm_toolkit.activations.values import GateActivations as GateActivations
    from lstm_toolkit.benchmarking.benchmark import benchmark as benchmark
    from lstm_toolkit.benchmarking.result import BenchmarkResult as BenchmarkResult
    from lstm_toolkit.conversion.convert import convert as convert
    from lstm_toolkit.conversion.report import Conversion as Conversion
    from lstm_toolkit.conversion.report import ConversionReport as ConversionReport
    from lstm_toolkit.doctor.diagnose import Finding as Finding
    from lstm_toolkit.doctor.diagnose import diagnose as diagnose
    from lstm_toolkit.doctor.repair import Repair as Repair
    from lstm_toolkit.doctor.repair import repair as repair
    from lstm_toolkit.gate_pictures.figure import plot_gates as plot_gates
    from lstm_toolkit.inspection.read import inspect as inspect
    from lstm_toolkit.inspection.summary import ModelSummary as ModelSummary
    from lstm_toolkit.inspection.values import LstmNode as LstmNode
    from lstm_toolkit.passes.plain.lower import lower as lower
    from lstm_toolkit.runtime.limits import Limits as Limits
    from lstm_toolkit.runtime.runner import Runner as Runner
    from lstm_toolkit.sources.composite import composite as composite
    from lstm_toolkit.sources.functions import fusable_lstms as fusable_lstms
    from lstm_toolkit.sweeping.sweep import SweepConfig as SweepConfig
    from lstm_toolkit.sweeping.sweep import SweepResult as SweepResult
    from lstm_toolkit.sweeping.sweep import grid as grid
    from lstm_toolkit.sweeping.sweep import sweep as sweep
    from lstm_toolkit.weights.gate_weights import GateWeights as GateWeights

# TensorFlow reads it once, when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_MODULES = {
    "BenchmarkResult": "benchmarking.result",
    "Conversion": "conversion.report",
    "ConversionReport": "conversion.report",
    "Finding": "doctor.diagnose",
    "GateActivations": "activations.values",
    "GateWeights": "weights.gate_weights",
    "Limits": "runtime.limits",
    "LstmNode": "inspection.values",
    "ModelSummary": "inspection.summary",
    "Repair": "doctor.repair",
    "Runner": "runtime.runner",
    "SweepConfig": "sweeping.sweep",
    "SweepResult": "sweeping.sweep",
    "benchmark": "benchmarking.benchmark",
    "composite": "sources.composite",
    "convert": "conversion.convert",
    "diagnose": "doctor.diagnose",
    "fusable_lstms": "sources.functions",
    "gate_activations": "activations.gates",
    "grid": "sweeping.sweep",
    "inspect": "inspection.read",
    "lower": "passes.plain.lower",
    "plot_gates": "gate_pictures.figure",
    "repair": "doctor.repair",
    "sweep": "sweeping.sweep",
}

_SUBMODULES = ("errors", "lingvo", "widgets")

_WITH_TENSORFLOW = ("composite", "fusable_lstms", "lingvo", "models")

__all__ = [*_MODULES, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in __all__:
        importlib.import_module(".versions", __name__).warn_once()
    if name in _WITH_TENSORFLOW:
        importlib.import_module(".process_state", __name__).load_tensorflow()
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
