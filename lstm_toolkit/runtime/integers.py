"""Between floats and the integers of a tensor, by the details that LiteRT gives of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def quantized(value: npt.NDArray[Any], details: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The integers that a tensor has for floats, the nearest in its range; other values, and without a scale, as is."""
    scale, zero_point = details["quantization"]
    if not scale or value.dtype.kind != "f" or np.dtype(details["dtype"]).kind not in "iu":
        return value
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(value / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])


def dequantized(value: npt.NDArray[Any], details: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The float32 numbers that integers of a tensor stand for; other values, and without a scale, as they are."""
    scale, zero_point = details["quantization"]
    if not scale or value.dtype.kind not in "iu":
        return value
    return ((value.astype(np.float64) - zero_point) * scale).astype(np.float32)
