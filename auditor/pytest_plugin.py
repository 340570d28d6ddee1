"""The pytest fixture `geb_audit`: `geb_audit(model).raise_for("warning")`.

pytest loads this at every start wherever geb-audit is installed, so it imports nothing yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from auditor.result import AuditResult


@pytest.fixture
def geb_audit() -> Callable[..., AuditResult]:
    """`auditor.audit`: audits a path, a `keras.Model` or an `onnx.ModelProto`."""
    from auditor.pipeline import audit

    return audit
