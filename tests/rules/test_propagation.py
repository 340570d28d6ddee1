"""GEB501 to 503 on measurements: what fires, what stays silent, what is skipped."""

import math
from dataclasses import replace

import pytest

from auditor.finding import Finding, Severity, Skipped
from auditor.graph import LayerGraph
from auditor.judgement import Selection, judge
from auditor.measurement import CallMeasurement, ProbeResult
from auditor.registry import rule_by_code
from auditor.rule import Facts

GRAPH = LayerGraph(
    name="net", format="keras", writer="", calls=(), edges=(), inputs=(), outputs=(("head", 0),)
)
HEALTHY = ProbeResult(
    backend="tensorflow",
    device="CPU",
    dtype="float32",
    seed=0,
    batch_size=8,
    batches=3,
    data="synthetic",
    targets="drawn",
    loss="categorical_crossentropy",
    seconds=1.0,
    loss_at_start=2.3,
    depth=30,
    growth_rate=1.02,
    growth_interval=(0.99, 1.05),
    growth_points=30,
    gradient_ratio=1.8,
    gsc=1.2,
    calls={
        f"dense_{i}": CallMeasurement(gradient_norm=2.0 ** (30 - i), weight_norm=1.0)
        for i in range(30)
    },
)
EXPLODING = replace(
    HEALTHY, growth_rate=2.26, growth_interval=(2.2, 2.3), gradient_ratio=1e9, gsc=1.1
)
VANISHING = replace(
    HEALTHY, growth_rate=0.25, growth_interval=(0.2, 0.3), gradient_ratio=1e-12, gsc=1e-12
)


def said(code: str, probe: ProbeResult | None) -> tuple[tuple[Finding, ...], tuple[Skipped, ...]]:
    facts = Facts(graph=GRAPH, probe=probe, probe_skipped="probe skipped: no backend")
    return judge((rule_by_code(code),), facts, Selection())


def test_exploding_fires_and_names_the_largest_gradients() -> None:
    ((finding,), _) = said("GEB501", EXPLODING)
    assert finding.severity is Severity.ERROR
    assert finding.layers[0] == "dense_0"
    assert {"growth rate", "gradient ratio"} <= {item.name for item in finding.evidence}


@pytest.mark.parametrize(
    "probe",
    [
        HEALTHY,
        VANISHING,
        # Two decades of ratio are healthy: ResNet50 has 95 at random initialization.
        replace(HEALTHY, growth_rate=1.1, growth_interval=(1.05, 1.15), gradient_ratio=95.0),
        # One of the two measures alone is a change of resolution or one odd layer.
        replace(EXPLODING, growth_rate=1.0, growth_interval=(0.9, 1.1)),
        replace(EXPLODING, gradient_ratio=2.0),
        replace(EXPLODING, growth_interval=(0.5, 8.0)),
    ],
)
def test_exploding_stays_silent(probe: ProbeResult) -> None:
    assert said("GEB501", probe) == ((), ())


def test_vanishing_fires_by_degree() -> None:
    ((severe,), _) = said("GEB502", VANISHING)
    mild = replace(HEALTHY, growth_rate=0.78, growth_interval=(0.7, 0.85), gradient_ratio=6e-4)
    ((mild_finding,), _) = said("GEB502", mild)
    assert severe.severity is Severity.ERROR
    assert mild_finding.severity is Severity.WARNING


@pytest.mark.parametrize(
    "probe",
    [
        HEALTHY,
        EXPLODING,
        replace(VANISHING, gradient_ratio=8e-3),  # VGG16 at random initialization
        replace(VANISHING, growth_rate=1.0, growth_interval=(0.9, 1.1)),
        replace(VANISHING, growth_interval=(0.05, 1.2)),
    ],
)
def test_vanishing_stays_silent(probe: ProbeResult) -> None:
    assert said("GEB502", probe) == ((), ())


@pytest.mark.parametrize("code", ["GEB501", "GEB502"])
def test_too_few_layers_are_skipped_with_the_reason(code: str) -> None:
    shallow = replace(HEALTHY, growth_rate=None, growth_interval=None, growth_points=2)
    ((), (skipped,)) = said(code, shallow)
    assert "only 2 kernel-bearing layer(s)" in skipped.reason


@pytest.mark.parametrize("code", ["GEB501", "GEB502", "GEB503"])
def test_without_a_probe_the_reason_is_handed_on(code: str) -> None:
    assert said(code, None) == ((), (Skipped(code=code, reason="probe skipped: no backend"),))


def test_non_finite_names_the_first_call() -> None:
    ((forward,), _) = said("GEB503", replace(HEALTHY, first_nonfinite_forward="log"))
    ((backward,), _) = said("GEB503", replace(HEALTHY, first_nonfinite_backward="sqrt"))
    ((loss,), _) = said("GEB503", replace(HEALTHY, loss_at_start=math.nan))
    assert forward.layers == ("log",)
    assert backward.layers == ("sqrt",)
    assert loss.layers == ("head",)
    assert said("GEB503", HEALTHY) == ((), ())
