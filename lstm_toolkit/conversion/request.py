"""`Request`: what a caller of `convert` asks for, with every check that needs no model."""

import dataclasses
import math
from typing import Any

from lstm_toolkit.conversion.choices import CHOICES
from lstm_toolkit.quantization.samples import check_early


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The options of `convert`, under its names and with its defaults.

    Raises:
        ValueError: for a value that an option cannot have, and for options that do not go together.
    """

    input_signature: Any = None
    batch_size: int | None = None
    time_steps: int | None = None
    lowering: str = "fused"
    state: str = "auto"
    bidirectional: str = "fused"
    quantization: str | None = None
    representative_dataset: Any = None
    io_dtype: str | tuple[str, str] = "float32"
    time_major: bool = False
    on_unsupported: str = "raise"
    max_error: float | None = None
    time_budget: float = 30.0
    caches: str = "cold"
    target: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "time_steps"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} must be a positive integer or None, got {value!r}")
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if any(each not in choices for each in (self.io_dtypes if name == "io_dtype" else (value,))):
                names = ", ".join(choice for choice in choices if choice is not None)
                raise ValueError(f"{name} must be one of {names}{' or None' * (None in choices)}, got {value!r}")
        self._check_quantization()
        self._check_auto()

    def _check_quantization(self) -> None:
        if len(self.io_dtypes) != 2:
            raise ValueError(f"io_dtype must be a type, or a pair: for inputs and for outputs, got {self.io_dtype!r}")
        if self.quantization in ("int8", "int16x8"):
            if self.lowering == "auto":
                raise ValueError(
                    f'quantization="{self.quantization}" needs a lowering other than "auto", which times float '
                    'files; pass lowering="unrolled" or "loop", or leave it out'
                )
            check_early(self.representative_dataset, f'quantization="{self.quantization}"')
        elif self.calibrates:
            check_early(self.representative_dataset, 'io_dtype other than "float32"')
            if self.state == "explicit":
                raise ValueError(
                    'state="explicit" makes states inputs and outputs, and rounded to integers they would be further '
                    'off from call to call; pass io_dtype="float32", or state="carry", and set Runner.state'
                )
            if self.is_timed:
                raise ValueError(
                    'lowering="auto" times files with float32 inputs and outputs; pass io_dtype="float32", or '
                    'lowering="fused", "unrolled" or "loop"'
                )
        if self.representative_dataset is not None and not self.calibrates and not self.verify:
            raise ValueError(
                'representative_dataset is for quantization="int8" or "int16x8", and for verify=True; pass one of '
                "these, or leave it out"
            )

    def _check_auto(self) -> None:
        if self.max_error is not None:
            if self.lowering != "auto" or self.quantization is not None:
                raise ValueError(
                    'max_error is for lowering="auto" without quantization, where it lets int8 weights in; pass these, '
                    "or leave max_error out"
                )
            if not 0 < self.max_error < math.inf:
                raise ValueError(f"max_error must be a number above 0, such as 0.01, got {self.max_error!r}")
        if self.caches != "cold" and self.lowering != "auto":
            raise ValueError('caches is for lowering="auto", which chooses by it; pass that, or leave caches out')
        if not 0 < self.time_budget < math.inf:
            raise ValueError(f"time_budget must be a number of seconds above 0, got {self.time_budget!r}")
        if self.max_error is not None and not self.is_timed:
            raise ValueError(
                f'target="{self.target}" leaves lowering="auto" one way, so max_error lets nothing in; leave max_error '
                "out"
            )

    @property
    def io_dtypes(self) -> tuple[str, str]:
        """The types of the inputs, and of the outputs."""
        return self.io_dtype if isinstance(self.io_dtype, tuple) else (self.io_dtype, self.io_dtype)

    @property
    def calibrates(self) -> bool:
        """Whether ranges are taken on the representative dataset."""
        return self.quantization in ("int8", "int16x8") or {*self.io_dtypes} != {"float32"}

    @property
    def is_timed(self) -> bool:
        """Whether files are timed to choose one; a target other than LiteRT leaves nothing to choose."""
        return self.lowering == "auto" and self.target in (None, "litert")

    @property
    def merges(self) -> bool:
        """Whether both directions of a layer become one op, which has no int8 form."""
        return self.bidirectional == "fused" and self.quantization != "int8"
