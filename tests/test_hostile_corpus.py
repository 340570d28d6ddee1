"""Files that fuzzing (bench/fuzz.py) found something with: read or told, and nothing else."""

from pathlib import Path

import pytest

from auditor import GebAuditError
from auditor.formats import Limits
from auditor.pipeline import AuditOptions, audit_file

CORPUS = sorted((Path(__file__).parent / "data" / "hostile").iterdir())


def test_there_are_some() -> None:
    assert len(CORPUS) >= 2


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_a_file_that_once_did_harm(path: Path) -> None:
    try:
        result = audit_file(path, AuditOptions(probe=False, limits=Limits(seconds=1.0)))
    except GebAuditError as error:
        assert str(error).startswith(f"{path}: ")
        assert str(error).isprintable()
    else:
        assert result.graph.calls
