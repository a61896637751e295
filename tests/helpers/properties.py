"""How property tests run in which every example converts a model: the same examples every time, and no time limit."""

from typing import Any

from hypothesis import HealthCheck, settings


def of_models(max_examples: int, *more: HealthCheck, **options: Any) -> settings:
    """The settings of such a test.

    Args:
        max_examples: how many examples are tried.
        *more: health checks that are left out beside those of slow and large examples.
        **options: further ones of `hypothesis.settings`.
    """
    left_out = [HealthCheck.too_slow, HealthCheck.data_too_large, *more]
    fixed: dict[str, Any] = {"deadline": None, "derandomize": True, "database": None}
    return settings(max_examples=max_examples, suppress_health_check=left_out, **fixed, **options)
