"""No error on a healthy model: the worst bug this project can have.

Static and probed, over textbook models and keras.applications with random weights.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from models import HEALTHY

from auditor import AuditResult, audit

#: Probing these takes the longest; one probe each, statically they are audited like all others.
LARGE = {"ResNet50", "EfficientNetB0", "DenseNet121", "VGG16", "MobileNetV3Small"}


def complaints(result: AuditResult, severity: str) -> list[str]:
    return [f"{f.code} {f.layers}: {f.message}" for f in result.at_least(severity)]


@pytest.mark.parametrize("name", HEALTHY)
def test_static(name: str, saved: Callable[..., Path]) -> None:
    result = audit(saved(name), probe=False)
    assert complaints(result, "warning") == []
    assert result.verdict == "unknown"


@pytest.mark.parametrize("name", HEALTHY)
def test_probed(name: str, saved: Callable[..., Path]) -> None:
    size = {"batch_size": 4, "batches": 2} if name in LARGE else {}
    result = audit(saved(name), probe=True, **size)
    assert complaints(result, "error") == []
    assert result.verdict == "stable"
    assert result.probe is not None
    assert result.probe.calls
