"""Mistakes in data: the broken side gets the intended code, the mended one does not."""

import pytest
from mistakes import accused, missed
from mistakes.data_mistakes import MISTAKES

from auditor import audit
from auditor.errors import ProbeFailed

#: Share of the mistakes that have to be found.
LEAST = 0.95


def test_there_are_enough_of_them() -> None:
    assert len(MISTAKES) >= 45
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)


@pytest.mark.slow
def test_mistakes_are_found() -> None:
    wrong = missed(MISTAKES)
    assert len(wrong) <= (1 - LEAST) * len(MISTAKES), wrong


@pytest.mark.slow
def test_mended_twins_are_left_alone() -> None:
    assert accused(MISTAKES) == {}


def test_targets_that_keras_refuses_are_a_finding_and_no_failed_probe() -> None:
    named = {mistake.name: mistake for mistake in MISTAKES}
    mistake = named["labels_start_at_one"]
    result = audit(mistake.broken(), data=mistake.data())
    assert result.probe is None
    assert (
        "the data do not fit the model: y holds class numbers from 1 to 5" in result.probe_skipped
    )
    assert [finding.code for finding in result.at_least("error")] == ["GEB703"]
    with pytest.raises(ProbeFailed, match="the data do not fit the model"):
        audit(mistake.broken(), data=mistake.data(), probe=True)
