"""The cap that curvature sets, for each optimizer, and that it stays a remark."""

import math
from dataclasses import replace

import numpy as np
import pytest
from measures_by_hand import noise_scale, sharpness
from report_samples import exploding_stack, resnet

from auditor.graph.compile_settings import OptimizerSettings
from auditor.reports.curvature_view import curvature_view
from auditor.reports.stability_cap import stability_cap


def optimizer(name, rate=0.001, **config):
    return OptimizerSettings(name=name, learning_rate=rate, config=config)


def growth(rate, curvature, *, momentum=0.0, nesterov=False, averaging=False):
    """Spectral radius of an optimizer's step on ½ λ x², as Keras takes it."""
    if averaging:  # m ← βm + (1 − β)λx, x ← x − ηm
        step = np.array(
            [
                [momentum, (1 - momentum) * curvature],
                [-rate * momentum, 1 - rate * (1 - momentum) * curvature],
            ]
        )
    else:  # v ← βv − ηλx, x ← x + v, or x ← x + βv − ηλx
        v = np.array([momentum, -rate * curvature])
        x = np.array([0.0, 1.0]) + (
            momentum * v + np.array([0.0, -rate * curvature]) if nesterov else v
        )
        step = np.array([v, x])
    return max(abs(np.linalg.eigvals(step)))


@pytest.mark.parametrize(
    ("declared", "law"),
    [
        (optimizer("sgd"), {}),
        (optimizer("sgd", momentum=0.9), {"momentum": 0.9}),
        (optimizer("sgd", momentum=0.9, nesterov=True), {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_the_cap_is_where_steps_on_a_quadratic_turn_unstable(declared, law):
    cap = stability_cap(sharpness(40.0, None), declared)
    assert growth(0.999 * cap.value, 40.0, **law) < 1 < growth(1.001 * cap.value, 40.0, **law)


@pytest.mark.parametrize(("beta", "factor"), [(None, 38.0), (0.5, 6.0)])
def test_averaged_gradients_are_stable_for_longer(beta, factor):
    declared = optimizer("adam") if beta is None else optimizer("adam", beta_1=beta)
    cap = stability_cap(sharpness(1.0, 310.0), declared)
    assert cap.preconditioned
    assert cap.value == pytest.approx(factor / 310.0)
    law = {"momentum": 0.9 if beta is None else beta, "averaging": True}
    assert growth(0.999 * cap.value, 310.0, **law) < 1 < growth(1.001 * cap.value, 310.0, **law)


@pytest.mark.parametrize("eigenvalue", [0.0, -3.0, math.nan, math.inf])
def test_no_cap_without_a_positive_curvature(eigenvalue):
    assert stability_cap(sharpness(eigenvalue, None), optimizer("sgd")) is None


@pytest.mark.parametrize("name", ["lion", "adam"])
def test_no_cap_from_a_curvature_that_the_optimizer_does_not_see(name):
    assert stability_cap(sharpness(40.0, None), optimizer(name)) is None
    result = resnet()
    probe = replace(result.probe, sharpness=sharpness(40.0, None))
    assert "Adam does not step along the gradient itself" in said(replace(result, probe=probe))


def said(result):
    view = curvature_view(result)
    return " ".join(span.text for remark in view.remarks for span in remark)


def test_the_cap_is_a_remark():
    result = resnet()
    assert "no recommendation" in said(result)
    assert "Adam's declared rate, 0.001, is 123 times below it" in said(result)


def test_a_rate_above_the_cap_is_told():
    result = resnet()
    probe = replace(result.probe, sharpness=sharpness(1.0, 380_000.0))
    assert "10 times above it" in said(replace(result, probe=probe))


def test_negative_curvature_sets_no_cap():
    result = resnet()
    probe = replace(result.probe, sharpness=sharpness(-2.0, -1.0))
    view = curvature_view(replace(result, probe=probe))
    assert "sets no cap" in said(replace(result, probe=probe))
    assert not any("Cap" in figure.label for figure in view.figures)


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(31.0, math.inf, True), (0.0, 400.0, True), (31.0, 400.0, False), (math.nan, 1.0, True)],
)
def test_an_open_interval_of_the_noise_scale_is_told(low, high, told):
    result = resnet()
    probe = replace(result.probe, noise_scale=noise_scale(120.0, low, high))
    assert ("more batches" in said(replace(result, probe=probe))) == told


def test_nothing_measured_is_no_section():
    assert curvature_view(exploding_stack()) is None
