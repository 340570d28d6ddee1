"""Mistakes in structure, heads and weights: nearly all are found, and no mended twin is named."""

import pytest
from mistakes import accused, head_mistakes, missed, structure_mistakes

MISTAKES = (*head_mistakes.MISTAKES, *structure_mistakes.MISTAKES)
#: Share of the mistakes that have to be found under the intended code.
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
