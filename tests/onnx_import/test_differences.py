"""The judge of gradients: what it takes for smooth, and what for a kink, a jump or an edge."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"


@cache
def differences() -> ModuleType:
    """The module beside the benchmark."""
    sys.path.insert(0, str(BENCH))
    try:
        return importlib.import_module("differences")
    finally:
        sys.path.remove(str(BENCH))


def of(function: Callable[[np.ndarray], np.ndarray], *point: float):  # type: ignore[no-untyped-def]
    """The sum of a function's values, around a point."""
    return differences().Differences(
        function=lambda x: float(function(x).sum()), point=np.array(point), size=10.0
    )


PLACES = {
    "smooth": (np.sin, 0.3),
    "smooth and steeply curved": (lambda x: np.tanh(3000 * x), 1e-4),
    "kink": (np.abs, 0.0),
    "jump": (np.floor, 2.0),
    "steep": (np.cbrt, 0.0),
    "edge": (np.arccosh, 1.0),
    # A kink beside the point is none at it.
    "smooth beside a kink": (np.abs, 3e-6),
}


@pytest.mark.parametrize("name", PLACES)
@np.errstate(invalid="ignore")
def test_kind_of_a_place(name: str) -> None:
    function, point = PLACES[name]
    assert of(function, point).sides(np.ones(1)).kind == name.split()[0]


def test_the_right_gradient_agrees_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    judge = of(lambda x: np.sin(x) * np.arange(1, 5), 0.3, 0.7, -1.0, 2.0)
    right = np.cos(judge.point) * np.arange(1, 5)
    held = judge.hold(right, rng, 2)
    assert held.moved
    assert not held.wrong
    assert not held.places
    for place in range(4):
        wrong = right.copy()
        wrong[place] *= 1.01
        assert f"({place})" in judge.hold(wrong, rng, 2).wrong


def test_a_kink_does_not_hide_what_is_wrong_beside_it() -> None:
    rng = np.random.default_rng(0)
    judge = of(np.abs, 0.0, 0.5, -0.5)
    held = judge.hold(np.array([1.0, 1.0, -1.0]), rng, 2)
    assert not held.wrong
    assert held.places == {"kink": 1}
    assert "(2)" in judge.hold(np.array([1.0, 1.0, 1.0]), rng, 2).wrong


def test_a_gradient_of_nan_is_wrong_where_the_function_is_smooth() -> None:
    held = of(np.sin, 0.3, 0.4).hold(np.array([np.nan, np.cos(0.4)]), np.random.default_rng(0), 2)
    assert "not finite" in held.wrong
