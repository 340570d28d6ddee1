"""The gradient noise scale, where tr Σ and G are known exactly."""

import math

import numpy as np
import pytest

from auditor.probe.noise_scale import SKETCH, GradientMoments, noise_scale
from auditor.probe.trial import Gradients

BATCH = 8


def _regression(seed, batches):
    """Gradients of batches for linear regression at w = 0, y = xᵀa + ε: G = −a (halved loss).

    Of one sample it is −x(xᵀa + ε), so tr Σ = E[|x|²((xᵀa)² + ε²)] − |a|² = (n+1)|a|² + n σ².
    """
    rng = np.random.default_rng(seed)
    a = np.linspace(0.2, 1.0, 10)
    x = rng.normal(size=(batches, BATCH, a.size))
    y = x @ a + 0.5 * rng.normal(size=(batches, BATCH))
    gradients = -np.einsum("kbn,kb->kn", x, y) / BATCH
    squared = float(a @ a)
    return gradients, (a.size + 1) + a.size * 0.25 / squared


def _estimate(gradients, scale=1.0):
    moments = GradientMoments(seed=0)
    for g in gradients:
        parts = [scale * g[:4].reshape(2, 2), None, scale * g[4:]]
        moments.add(Gradients(loss=0.0, gradients=parts, scale=scale))
    return moments.estimate(BATCH)


def test_linear_regression_has_its_noise_scale():
    """With 40 batches the ratio's bias is small: the mean of 100 is within 5 % (s.e. about 2 %)."""
    found = [noise_scale(g @ g.T, BATCH) for g in (_regression(s, 40)[0] for s in range(100))]
    exact = _regression(0, 2)[1]
    assert np.mean([estimate.value for estimate in found]) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("batches", [3, 6])
def test_the_interval_holds_the_truth(batches):
    """400 trials of a 95 % interval: by chance alone fewer than 91 % has odds below 1 in 1,000."""
    held = []
    for seed in range(400):
        gradients, exact = _regression(seed, batches)
        estimate = noise_scale(gradients @ gradients.T, BATCH)
        if estimate is not None:
            assert estimate.low <= estimate.value <= estimate.high
            held.append(estimate.low <= exact <= estimate.high)
    assert len(held) > 350
    assert np.mean(held) >= 0.91


def test_gradients_in_parts_and_scaled_are_the_same():
    gradients, _ = _regression(1, 6)
    plain = noise_scale(gradients @ gradients.T, BATCH)
    assert _estimate(gradients).value == pytest.approx(plain.value)
    assert _estimate(gradients, scale=2.0**15).value == pytest.approx(plain.value)


def test_large_gradients_are_sketched():
    """The sketch has the products of what it stands for, to 1/√SKETCH of the norms or so."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=3 * SKETCH + 5)
    gradients = [mean + 2 * rng.normal(size=mean.size) for _ in range(4)]
    moments = GradientMoments(seed=0)
    for g in gradients:
        parts = [g[:7], g[7 : SKETCH + 9], g[SKETCH + 9 :]]
        moments.add(Gradients(loss=0.0, gradients=parts, scale=1.0))
    stacked = np.array(gradients)
    exact = noise_scale(stacked @ stacked.T, BATCH)
    assert moments.estimate(BATCH).value == pytest.approx(exact.value, rel=0.02)


def test_what_cannot_be_told_is_not():
    gradients, _ = _regression(0, 3)
    assert _estimate(gradients[:1]) is None
    assert _estimate([*gradients, gradients[0] * np.nan]) is None
    assert noise_scale(np.zeros((3, 3)), BATCH) is None
    opposite = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert noise_scale(opposite, BATCH) is None
    two = _estimate(gradients[:2])
    assert (two.low, two.high, two.error) == (0.0, math.inf, math.inf)
    same = _estimate([gradients[0]] * 3)
    assert same.value == pytest.approx(0.0, abs=1e-9)
