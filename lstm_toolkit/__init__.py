"""LSTMs from Keras to TensorFlow Lite's fused ops, exactly.

The public names are loaded when they are first used; importing the package loads neither TensorFlow nor LiteRT.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors as errors
    from . import lingvo as lingvo
    from . import widgets as widgets
    from .benchmark_result import BenchmarkResult as BenchmarkResult
    from .benchmarking import benchmark as benchmark
    from .composites import composite as composite
    from .conversion import convert as convert
    from .diagnosis import Finding as Finding
    from .diagnosis import diagnose as diagnose
    from .function_source import fusable_lstms as fusable_lstms
    from .gate_plot import plot_gates as plot_gates
    from .gates import GateWeights as GateWeights
    from .inspection import LstmNode as LstmNode
    from .inspection import ModelSummary as ModelSummary
    from .inspection import inspect as inspect
    from .lowering import lower as lower
    from .mending import Repair as Repair
    from .mending import repair as repair
    from .report import Conversion as Conversion
    from .report import ConversionReport as ConversionReport
    from .runner import Runner as Runner
    from .sweeping import SweepConfig as SweepConfig
    from .sweeping import SweepResult as SweepResult
    from .sweeping import grid as grid
    from .sweeping import sweep as sweep

__version__ = "1.0.0"

_MODULES = {
    "BenchmarkResult": "benchmark_result",
    "Conversion": "report",
    "ConversionReport": "report",
    "Finding": "diagnosis",
    "GateWeights": "gates",
    "LstmNode": "inspection",
    "ModelSummary": "inspection",
    "Repair": "mending",
    "Runner": "runner",
    "SweepConfig": "sweeping",
    "SweepResult": "sweeping",
    "benchmark": "benchmarking",
    "composite": "composites",
    "convert": "conversion",
    "diagnose": "diagnosis",
    "fusable_lstms": "function_source",
    "grid": "sweeping",
    "inspect": "inspection",
    "lower": "lowering",
    "plot_gates": "gate_plot",
    "repair": "mending",
    "sweep": "sweeping",
}

_SUBMODULES = ("errors", "lingvo", "widgets")

__all__ = [*_MODULES, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
