import math

import numpy as np
import pytest
from keras import initializers

from auditor.probe.growth import GrowthPoint, fit_growth, t_quantile


def points(logs, stages=None, batches=2):
    return [
        GrowthPoint(
            depth=depth, stage=stages[depth] if stages else 0, log_norms=np.full(batches, value)
        )
        for depth, value in enumerate(logs)
    ]


def test_an_exact_line_gives_its_slope_and_no_width():
    growth = fit_growth(points([-0.3 * depth for depth in range(10)]))
    assert growth.rate == pytest.approx(math.exp(0.3))
    assert growth.interval == pytest.approx((growth.rate, growth.rate))


def test_jumps_between_stages_do_not_enter():
    stages = [depth // 5 for depth in range(20)]
    growth = fit_growth(points([-0.1 * d + 7.0 * stages[d] ** 2 for d in range(20)], stages))
    assert growth.rate == pytest.approx(math.exp(0.1))


def test_too_few_points_give_no_interval_and_one_depth_a_stage_no_rate():
    assert fit_growth(points([0.0, 0.5])).interval is None
    assert fit_growth(points([0.0, 0.5], stages=["a", "b"])) is None
    assert fit_growth([]) is None


@pytest.mark.parametrize(("walk", "noise"), [(0.1, 0.0), (0.0, 0.1), (0.1, 0.1)])
@pytest.mark.parametrize("depth", [8, 30])
def test_the_interval_covers_the_true_rate(walk, noise, depth):
    # 95 % is nominal; 400 draws have a standard error of 1.1 %, so 91 % is below by 3.6 of them.
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        logs = -0.2 * np.arange(depth) + np.cumsum(rng.normal(0, walk, depth))
        low, high = fit_growth(points(logs + rng.normal(0, noise, depth))).interval
        hits += low <= math.exp(0.2) <= high
    assert hits / 400 >= 0.91


def test_student_quantiles_agree_with_the_table():
    table = {1: 12.706, 5: 2.571, 10: 2.228, 11: 2.201, 15: 2.131, 30: 2.042, 120: 1.980}
    assert {n: round(t_quantile(n), 3) for n in table} == table


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "own layers"])
def test_an_exploding_stack_grows_as_mean_field_says(probe, plain_stack, fused):
    model = plain_stack(30, "relu", lambda: initializers.RandomNormal(stddev=0.2), fused=fused)
    result = probe(model)
    expected = math.sqrt(0.2**2 * 256 / 2)
    assert result.growth_rate == pytest.approx(expected, rel=0.1)
    low, high = result.growth_interval
    assert low < expected < high
    assert result.growth_points == 30
    assert result.depth == 31
    # First and last eighth (4 of 30 layers) lie 26 layers apart.
    assert result.gradient_ratio == pytest.approx(expected**26, rel=0.9)
    assert result.forward_ratio > 1e6
    assert result.loss_at_start > 1e6


def test_fused_and_separate_activations_are_measured_at_the_same_place(probe, plain_stack):
    rates = {
        probe(plain_stack(8, "relu", initializers.HeNormal, width=64, fused=fused)).growth_rate
        for fused in (True, False)
    }
    assert len(rates) == 1


def test_a_critical_stack_stays_level(probe, plain_stack):
    result = probe(plain_stack(30, "relu", initializers.HeNormal))
    assert result.growth_rate == pytest.approx(1.0, abs=0.05)
    assert 0.1 < result.gradient_ratio < 10


def test_a_sigmoid_stack_vanishes(probe, plain_stack):
    result = probe(plain_stack(20, "sigmoid", initializers.GlorotUniform))
    # At zero mean and small variance σ′ is 1/4, and glorot's gain is 1.
    assert result.growth_rate == pytest.approx(0.25, rel=0.1)
    assert result.growth_interval[1] < 0.5
    assert result.gradient_ratio < 1e-9
