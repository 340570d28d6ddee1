import importlib.util
import math
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import initializers, layers

from auditor.probe.growth import GrowthPoint, fit_growth, t_quantile
from auditor.probe.propagation import propagation

BENCH = Path(__file__).parents[2] / "bench"


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


def measured(run):
    return propagation(run.graph, run.tally)


def two_widths(sequential):
    stack = [layers.Dense(32, "tanh", name=f"wide_{index}") for index in range(6)]
    stack += [layers.Dense(16, "tanh", name=f"narrow_{index}") for index in range(6)]
    return sequential(keras.Input((32,)), *stack, layers.Dense(1, name="out"))


def test_each_stage_has_a_growth_of_its_own(passes, sequential):
    model = two_widths(sequential)
    for index in range(6):
        wide = model.get_layer(f"wide_{index}")
        wide.set_weights([0.1 * weight for weight in wide.get_weights()])
    found = measured(passes(model, batches=2))
    wide, narrow = found.stages
    assert wide.shape == (32,)
    assert narrow.calls == tuple(f"narrow_{index}" for index in range(6))
    assert not wide.residual
    assert wide.interval[1] < narrow.interval[0]
    assert wide.rate < found.growth.rate < narrow.rate


def test_two_points_are_no_stage(passes, sequential):
    model = sequential(
        keras.Input((8,)), layers.Dense(8), layers.Dense(8), *[layers.Dense(4) for _ in range(3)]
    )
    stages = measured(passes(model, batches=1)).stages
    assert [stage.shape for stage in stages] == [(4,)]


def test_layers_around_residual_blocks_have_a_stage_beside_theirs(passes):
    x = inputs = keras.Input((8,))
    for index in range(4):
        x = layers.Dense(8, name=f"plain_{index}")(x)
    for index in range(4):
        branch = layers.Dense(8)(layers.Dense(8, "relu")(x))
        x = layers.Add(name=f"sum_{index}")([x, branch])
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("sgd", "mse")
    plain, residual = measured(passes(model, batches=1)).stages
    assert plain.calls == ("plain_0", "plain_1", "plain_2", "plain_3")
    assert residual.calls == ("sum_0", "sum_1", "sum_2", "sum_3")


@pytest.fixture
def growth_coverage(monkeypatch):
    """The benchmark of random models with known answers, as a module."""
    spec = importlib.util.spec_from_file_location("growth_coverage", BENCH / "growth_coverage.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_random_models_with_a_known_rate_are_covered(growth_coverage):
    outcomes = list(growth_coverage.sample(24, seed=0))
    assert len({outcome.family for outcome in outcomes}) == 4
    assert sum(outcome.covered for outcome in outcomes) / len(outcomes) >= 0.9
