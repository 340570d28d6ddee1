"""Moments of activations under Gaussian input, against closed forms and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.graph.activations import (
    CURVES,
    ActivationMoments,
    activation_moments,
    curve,
    largest_moments,
)
from auditor.graph.operators import ACTIVATIONS

SCALES = st.floats(1e-3, 1e3)


def moments(name: str, mean: float, between: float, within: float) -> ActivationMoments:
    phi = curve(name, {})
    assert phi is not None
    return activation_moments(phi, mean, between, within)


@given(q=SCALES)
def test_relu_keeps_half(q: float) -> None:
    # He et al. 2015: E φ² = q/2, E φ′² = 1/2; E φ = √(q/2π). Kinks are panel ends: exact.
    found = moments("relu", 0.0, 0.0, q)
    assert found.second == pytest.approx(q / 2, rel=1e-9)
    assert found.slope_second == pytest.approx(0.5, rel=1e-9)
    assert found.mean == pytest.approx(math.sqrt(q / (2 * math.pi)), rel=1e-9)


@given(q=SCALES)
def test_erf_like_integral_of_the_sigmoid_is_a_half(q: float) -> None:
    # σ(x) − 1/2 is odd.
    assert moments("sigmoid", 0.0, 0.0, q).mean == pytest.approx(0.5, rel=1e-9)


@given(mean=st.floats(-2, 2), q=st.floats(1e-3, 4))
def test_exponential_is_log_normal(mean: float, q: float) -> None:
    found = moments("exponential", mean, 0.0, q)
    assert found.mean == pytest.approx(math.exp(mean + q / 2), rel=1e-6)
    assert found.second == pytest.approx(math.exp(2 * mean + 2 * q), rel=1e-6)


def test_gelu_closed_forms() -> None:
    # E xΦ(x) = 1/√(4π) for x ~ N(0, 1), by Stein's lemma: E φ′ of Φ.
    found = moments("gelu", 0.0, 0.0, 1.0)
    assert found.mean == pytest.approx(1 / math.sqrt(4 * math.pi), rel=1e-9)
    assert found.slope == pytest.approx(0.5, rel=1e-9)


def test_tanh_slope_at_the_edge() -> None:
    # φ′ = 1 − φ²: E φ′ = 1 − E φ², and for small q E φ′² → 1 − 2q.
    found = moments("tanh", 0.0, 0.0, 0.37)
    assert found.slope == pytest.approx(1 - found.second, rel=1e-12)
    small = moments("tanh", 0.0, 0.0, 1e-4)
    assert small.slope_second == pytest.approx(1 - 2e-4, abs=1e-6)


def test_relu_correlation_is_the_arc_cosine_kernel() -> None:
    # Cho & Saul 2009, degree 1: E φ(a)φ(b) = q (sin θ + (π − θ) cos θ) / 2π, cos θ = between/q.
    for share in (0.0, 0.3, 0.9, 1.0):
        found = moments("relu", 0.0, 2 * share, 2 * (1 - share))
        angle = math.acos(share)
        kernel = 2 * (math.sin(angle) + (math.pi - angle) * share) / (2 * math.pi)
        assert found.common == pytest.approx(kernel, rel=2e-3)


@pytest.mark.parametrize(
    "name", sorted(ACTIVATIONS - {"softmax", "log_softmax", "sparsemax", "glu"})
)
@pytest.mark.parametrize(("mean", "q"), [(0.0, 1.0), (0.7, 0.3), (-1.0, 9.0)])
def test_every_pointwise_activation_against_simulation(name: str, mean: float, q: float) -> None:
    phi = curve(name, {})
    assert phi is not None
    if name == "exponential" and q > 1:
        pytest.skip("a log-normal's moments are not seen in any sample; its closed form is tested")
    x = mean + math.sqrt(q) * np.random.default_rng(0).normal(size=400_000)
    value, slope = phi(x)
    found = activation_moments(phi, mean, 0.0, q)
    # Five standard errors of the simulated means.
    for seen, expected in (
        (value, found.mean),
        (value**2, found.second),
        (slope, found.slope),
        (slope**2, found.slope_second),
    ):
        assert abs(seen.mean() - expected) <= 5 * seen.std() / math.sqrt(x.size) + 1e-9


@pytest.mark.parametrize("name", sorted(set(CURVES) - {"hard_shrink", "threshold"}))
def test_slopes_are_derivatives(name: str) -> None:
    phi = curve(name, {})
    assert phi is not None
    # Away from the kinks, which lie at multiples of 1/2.
    x = np.linspace(-4.1, 4.1, 83) + 0.013
    step = 1e-6
    above, below = phi(x + step)[0], phi(x - step)[0]
    assert phi(x)[1] == pytest.approx((above - below) / (2 * step), abs=1e-6)


def test_parameters_come_from_the_configuration() -> None:
    leaky = curve("leaky_relu", {"negative_slope": 0.3})
    assert leaky is not None
    assert leaky(np.array([-2.0]))[0] == pytest.approx([-0.6])
    clipped = curve("relu", {"max_value": 1.5, "threshold": 0.0, "negative_slope": None})
    assert clipped is not None
    assert clipped(np.array([-1.0, 3.0]))[0] == pytest.approx([0.0, 1.5])
    assert curve("softmax", {}) is None


@pytest.mark.parametrize("count", [2, 4, 9])
def test_largest_of_several(count: int) -> None:
    phi = curve("relu", {})
    assert phi is not None
    rng = np.random.default_rng(1)
    units = 0.2 + math.sqrt(0.5) * rng.normal(size=(200_000, 1))
    value = phi(units + math.sqrt(1.5) * rng.normal(size=(200_000, count)))[0].max(axis=1)
    found = largest_moments(phi, 0.2, 0.5, 1.5, count)
    assert found.mean == pytest.approx(value.mean(), rel=0.01)
    assert found.second == pytest.approx((value**2).mean(), rel=0.02)
    assert found.slope_second == pytest.approx((value > 0).mean(), rel=0.01)
