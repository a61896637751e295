"""What the tests of the doctor share."""

import pytest

from tests.helpers import fault_corpus


@pytest.fixture(scope="package")
def corpus() -> dict[str, fault_corpus.Case]:
    """All cases; TensorFlow makes the files, which takes a while."""
    return fault_corpus.corpus()
