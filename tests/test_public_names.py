"""`import auditor` costs nothing and gives every public name; errors travel between processes."""

import pickle
import subprocess
import sys

import pytest

import auditor
from auditor.errors import GebAuditError, ProbeFailed, UnreadableModel, UnsafeModel, UsageError
from auditor.finding import Confidence, Finding, Severity
from auditor.hazard import Hazard
from auditor.result import AuditFailed


def test_importing_reads_no_module_of_ours() -> None:
    program = "import sys, auditor; print([n for n in sys.modules if n.startswith('auditor.')])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert set(auditor.__all__) == set(auditor._HOMES)
    assert set(auditor.__all__) <= set(dir(auditor))
    for name, home in auditor._HOMES.items():
        assert getattr(auditor, name) is getattr(sys.modules[home], name)
        assert getattr(auditor, name).__module__ == home


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'audits'"):
        auditor.audits  # noqa: B018


FINDING = Finding(
    code="GEB101",
    name="missing-output-layer",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    message="no output",
)
HAZARD = Hazard(code="GEB906", severity=Severity.ERROR, place="the file", what="two kinds")


@pytest.mark.parametrize(
    "error",
    [
        GebAuditError("line", detail="more"),
        UsageError("line", detail="more"),
        UnreadableModel("line", detail="more"),
        ProbeFailed("line", detail="more"),
        UnsafeModel("line", hazards=(HAZARD,), detail="more"),
        AuditFailed("line", findings=(FINDING,)),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_are_pickled_whole(error: GebAuditError, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
