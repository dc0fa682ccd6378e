"""The shipped network can be made again: the whole recipe comes within half a point of it."""

from pathlib import Path

import pytest

from models.workloads import find
from spikeloom import catalogue

POINT = 0.01
SHIPPED = find("digits").accuracy_golden or 0.0


def as_good(report: dict[str, float]) -> bool:
    """Return whether a training run comes within half a point of what is shipped, at least 90 % pruned."""
    return report["accuracy_golden"] >= SHIPPED - POINT / 2 and report["weight_sparsity"] >= 0.9


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return what ``spikeloom train digits`` reports."""
    path: Path = tmp_path_factory.mktemp("train") / "digits.safetensors"
    found: dict[str, float] = catalogue.train("digits", path, 0, lambda done, of: None)
    return found


def test_digits_trains_to_what_is_shipped(report: dict[str, float]) -> None:
    """Integers within half a point on the test split, and at least as sparse as promised."""
    assert as_good(report), report


def test_a_worse_network_is_seen(report: dict[str, float]) -> None:
    """Two images less of the 360, or one weight too many, and it would not do."""
    assert not as_good({**report, "accuracy_golden": SHIPPED - 2 / 360})
    assert not as_good({**report, "weight_sparsity": 0.8999})
