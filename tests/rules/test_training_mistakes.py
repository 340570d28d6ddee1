"""Mistakes in training: nearly all are found under the intended code, and no mended twin is."""

import pytest
from mistakes import Mistake, accused, missed
from mistakes.training_mistakes import MISTAKES

#: Share of the mistakes that have to be found.
LEAST = 0.95
GROUPS = {
    "static": tuple(mistake for mistake in MISTAKES if not mistake.probed),
    "probed": tuple(mistake for mistake in MISTAKES if mistake.probed),
}
BOTH = pytest.mark.parametrize("mistakes", GROUPS.values(), ids=GROUPS)


def test_there_are_enough_of_them() -> None:
    assert len(MISTAKES) >= 70
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)


@pytest.mark.slow
@BOTH
def test_mistakes_are_found(mistakes: tuple[Mistake, ...]) -> None:
    wrong = missed(mistakes)
    assert len(wrong) <= (1 - LEAST) * len(mistakes), wrong


@pytest.mark.slow
@BOTH
def test_mended_twins_are_left_alone(mistakes: tuple[Mistake, ...]) -> None:
    assert accused(mistakes) == {}
