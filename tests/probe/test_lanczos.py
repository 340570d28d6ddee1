"""The largest eigenvalue by Lanczos, against numpy's."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.probe.estimators.lanczos import dot, largest_eigenvalue, norm


def _symmetric(seed, size):
    a = np.random.default_rng(seed).normal(size=(size, size))
    return (a + a.T) / 2


def _start(seed, size, dtype=np.float64):
    return np.random.default_rng([seed, 1]).normal(size=size).astype(dtype)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 12))
def test_a_ritz_value_is_a_lower_bound_with_an_eigenvalue_within_its_residual(seed, size, steps):
    a = _symmetric(seed, size)
    exact = np.linalg.eigvalsh(a)
    pair = largest_eigenvalue(lambda v: a @ v, _start(seed, size), steps=steps)
    slack = 1e-10 * np.abs(exact).max()
    assert pair.value <= exact[-1] + slack
    assert np.abs(exact - pair.value).min() <= pair.residual + slack
    assert norm(pair.vector) == pytest.approx(1.0)
    np.testing.assert_allclose(pair.image, a @ pair.vector, atol=1e-9)
    assert norm(pair.image - pair.value * pair.vector) == pytest.approx(pair.residual, abs=1e-9)
    assert pair.products <= steps


@pytest.mark.parametrize("seed", range(5))
def test_as_many_steps_as_dimensions_are_exact(seed):
    a = _symmetric(seed, 9)
    pair = largest_eigenvalue(lambda v: a @ v, _start(seed, 9), steps=9)
    assert pair.value == pytest.approx(np.linalg.eigvalsh(a)[-1], rel=2e-2)
    smallest = largest_eigenvalue(lambda v: -(a @ v), _start(seed, 9), steps=9)
    assert -smallest.value == pytest.approx(np.linalg.eigvalsh(a)[0], rel=2e-2)


def test_it_is_the_largest_and_not_the_largest_in_size():
    diagonal = np.array([-100.0, -3.0, 0.5, 2.0])
    pair = largest_eigenvalue(lambda v: diagonal * v, _start(0, 4), steps=4)
    assert pair.value == pytest.approx(2.0, rel=2e-2)
    negative = np.array([-100.0, -3.0, -0.5])
    pair = largest_eigenvalue(lambda v: negative * v, _start(0, 3), steps=3)
    assert pair.value == pytest.approx(-0.5, rel=2e-2)


def test_restarts_bound_the_memory_and_lose_nothing():
    diagonal = np.linspace(0.0, 1.0, 200) ** 4
    start = _start(0, 200)
    values = [
        largest_eigenvalue(lambda v: diagonal * v, start, steps=steps, basis_bytes=1).value
        for steps in range(1, 30)
    ]
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(values))
    assert values[-1] == pytest.approx(1.0, rel=1e-2)
    full = largest_eigenvalue(lambda v: diagonal * v, start, steps=8).value
    assert values[7] <= full + 1e-12


def test_an_eigenvector_and_zero_end_at_once():
    eigenvector = np.array([1.0, 0.0, 0.0])
    pair = largest_eigenvalue(lambda v: np.array([3.0, 5.0, 7.0]) * v, eigenvector, steps=5)
    assert (pair.value, pair.residual, pair.products, pair.converged) == (3.0, 0.0, 1, True)
    zero = largest_eigenvalue(lambda v: 0 * v, _start(0, 3), steps=5)
    assert (zero.value, zero.residual, zero.products, zero.converged) == (0.0, 0.0, 1, True)
    one = largest_eigenvalue(lambda v: -2 * v, np.array([4.0]), steps=5)
    assert (one.value, one.residual, one.products) == (-2.0, 0.0, 1)


def test_single_precision_and_the_same_twice():
    a = _symmetric(3, 50).astype(np.float32)
    pairs = [
        largest_eigenvalue(lambda v: a @ v, _start(3, 50, np.float32), steps=10) for _ in range(2)
    ]
    assert pairs[0].vector.dtype == np.float32
    assert pairs[0].value == pairs[1].value
    exact = np.linalg.eigvalsh(a.astype(float))
    assert np.abs(exact - pairs[0].value).min() <= pairs[0].residual + 1e-5


def test_what_is_not_finite_or_nothing_is_refused():
    with pytest.raises(FloatingPointError, match="product"):
        largest_eigenvalue(lambda v: v * np.nan, np.ones(3), steps=3)
    with pytest.raises(FloatingPointError, match="start"):
        largest_eigenvalue(lambda v: v, np.array([1.0, np.inf]), steps=3)
    with pytest.raises(ValueError, match="zero"):
        largest_eigenvalue(lambda v: v, np.zeros(3), steps=3)
    with pytest.raises(ValueError, match="steps"):
        largest_eigenvalue(lambda v: v, np.ones(3), steps=0)


def test_long_vectors_are_summed_in_double_precision():
    vector = np.full(3 * 2**20 + 1, 0.1, np.float32)
    assert dot(vector, vector) == pytest.approx(
        vector.size * float(np.float32(0.1)) ** 2, rel=1e-12
    )
