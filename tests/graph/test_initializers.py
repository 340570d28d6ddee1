"""Laws of initializers, and whether values can still be their draws."""

import math

import numpy as np
import pytest
from builders import GraphBuilder, Stored, constant, normal

from auditor.graph import Initializer, Weight
from auditor.graph.initializers import TRUNCATED_VARIANCE, keras_fans, weight_law
from auditor.graph.statistics import weight_statistics


def variance(name: str, shape: tuple[int, ...], **config: object) -> float:
    law = weight_law(Initializer(name=name, config=config), shape)
    assert law is not None
    return law.variance


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("glorot_uniform", (100, 300), 2 / 400),
        ("glorot_normal", (3, 3, 16, 32), 2 / (9 * 48)),
        ("he_normal", (100, 300), 2 / 100),
        ("he_uniform", (3, 3, 16, 32), 2 / (9 * 16)),
        ("lecun_normal", (100, 300), 1 / 100),
        ("random_normal", (5, 5), 0.05**2),
        ("random_uniform", (5, 5), 0.1**2 / 12),
        ("truncated_normal", (5, 5), 0.05**2 * TRUNCATED_VARIANCE),
        ("orthogonal", (64, 16), 1 / 64),
        ("zeros", (5, 5), 0.0),
    ],
)
def test_variance(name: str, shape: tuple[int, ...], expected: float) -> None:
    assert variance(name, shape) == pytest.approx(expected)


def test_truncation_at_two_sigma() -> None:
    draws = np.random.default_rng(0).normal(size=2_000_000)
    assert draws[np.abs(draws) < 2].var() == pytest.approx(TRUNCATED_VARIANCE, rel=3e-3)


def test_variance_scaling_by_configuration() -> None:
    config = {"scale": 3.0, "mode": "fan_out", "distribution": "uniform"}
    assert variance("variance_scaling", (100, 300), **config) == pytest.approx(3 / 300)
    assert weight_law(Initializer(name="variance_scaling", config={"mode": "?"}), (2, 2)) is None


def test_fans_are_those_of_keras() -> None:
    # A depthwise kernel has 9 connections a unit, yet Keras draws it with fan-in 9 · 16.
    assert keras_fans((3, 3, 16, 1)) == (144, 9)
    assert keras_fans((7,)) == (7, 7)
    assert keras_fans(()) == (1, 1)


def test_unknown_or_hostile_initializers_have_no_law() -> None:
    assert weight_law(Initializer(name="MyInitializer"), (3, 3)) is None
    odd = weight_law(Initializer(name="random_normal", config={"stddev": "1e9"}), (3, 3))
    assert odd is not None
    assert odd.variance == pytest.approx(0.05**2)


LAWS = [
    Initializer(name="glorot_uniform"),
    Initializer(name="he_normal"),
    normal(0.2),
    constant(0.3),
]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("initializer", LAWS, ids=lambda initializer: initializer.name)
def test_fresh_draws_are_explained(initializer: Initializer, seed: int) -> None:
    build = GraphBuilder(seed)
    for shape in ((8, 8), (200, 50)):
        weight = build.weight("kernel", shape, initializer, (1,))
        law, seen = weight_law(initializer, shape), weight_statistics(weight)
        assert law is not None
        assert seen is not None
        assert law.explains(seen)


@pytest.mark.parametrize("change", ["scaled", "shifted", "trained", "nan"])
def test_changed_weights_are_not(change: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.2, (200, 50))
    values = {
        "scaled": values * 1.2,
        "shifted": values + 0.02,
        "trained": values + rng.normal(0, 0.1, values.shape),
        "nan": np.where(values > 0.6, np.nan, values),
    }[change]
    weight = Weight(name="k", role="kernel", shape=(200, 50), dtype="float32", read=Stored(values))
    law, seen = weight_law(normal(0.2), (200, 50)), weight_statistics(weight)
    assert law is not None
    assert seen is not None
    assert not law.explains(seen)


def test_statistics_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(3, 2, (50, 41))
    values[0, :3] = np.nan, np.inf, -np.inf
    weight = Weight(name="k", role="kernel", shape=(50, 41), dtype="float64", read=Stored(values))
    monkeypatch.setattr("auditor.graph.statistics.CHUNK", 97)
    seen = weight_statistics(weight)
    finite = values[np.isfinite(values)]
    assert seen is not None
    assert (seen.count, seen.nonfinite) == (2050, 3)
    assert seen.mean == pytest.approx(finite.mean(), rel=1e-12)
    assert seen.variance == pytest.approx(finite.var(), rel=1e-12)
    assert (seen.low, seen.high) == (finite.min(), finite.max())


@pytest.mark.parametrize("axes", [(1,), (0,), (0, 2)])
def test_symmetries_follow_the_unit_axes(axes: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=(4, 5, 6))
    for axis in axes:
        values[:] = values.take([0], axis)
    weight = Weight(
        name="k", role="kernel", shape=values.shape, dtype="float64", unit_axes=axes,
        read=Stored(values),
    )  # fmt: skip
    seen = weight_statistics(weight)
    assert seen is not None
    assert seen.identical_units
    assert not seen.constant_units
    assert math.isfinite(seen.variance)
