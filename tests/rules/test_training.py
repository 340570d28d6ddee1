"""GEB601 and GEB607: the learning rate at work, and models saved uncompiled."""

import math
from dataclasses import replace

import pytest

from auditor.finding import Confidence, Finding, Severity, Skipped
from auditor.graph import CompileSettings, LayerGraph, OptimizerSettings
from auditor.judgement import Selection, judge
from auditor.measurement import ProbeResult
from auditor.registry import rule_by_code
from auditor.rule import Facts


def graph(rate: float | None, optimizer: str = "sgd", form: str = "keras") -> LayerGraph:
    settings = CompileSettings(optimizer=OptimizerSettings(name=optimizer, learning_rate=rate))
    return LayerGraph(
        name="net", format=form, writer="", calls=(), edges=(), inputs=(), outputs=(),
        compile=settings,
    )  # fmt: skip


def trial(*losses: float) -> ProbeResult:
    return ProbeResult(
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
        loss_expected=2.3,
        trial_losses=losses,
        step_slope=-1.0,
        step_curvature=4.0,
    )


def said(
    graph: LayerGraph, probe: ProbeResult | None = None, code: str = "GEB601"
) -> tuple[tuple[Finding, ...], tuple[Skipped, ...]]:
    return judge((rule_by_code(code),), Facts(graph=graph, probe=probe), Selection())


@pytest.mark.parametrize(
    ("losses", "severity"),
    [
        ((2.3, 40.0, math.nan), Severity.ERROR),
        ((2.3, math.inf, math.inf), Severity.ERROR),
        ((2.3, 90.0, 5e5, 4e4), Severity.ERROR),
        ((2.3, 30.0, 60.0, 55.0), Severity.WARNING),
    ],
)
def test_a_loss_that_jumps_is_accused(losses: tuple[float, ...], severity: Severity) -> None:
    ((finding,), _) = said(graph(50.0), trial(*losses))
    assert finding.severity is severity
    rate = next(e for e in finding.evidence if e.name.startswith("largest rate"))
    assert rate.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    "losses",
    [
        (2.3, 2.2, 2.1, 2.0),
        (2.3, 2.9, 2.5, 2.2),
        # A rise that the next steps undo, as batch normalization and momentum have it.
        (2.3, 40.0, 12.0, 2.1),
        # A loss that starts at zero makes no rise infinite.
        (0.0, 0.2, 0.4, 0.3),
        # A similarity falls through zero: it is no multiple of where it began.
        (0.0185, -0.4, -0.7, -0.8),
    ],
)
def test_healthy_losses_are_not_accused(losses: tuple[float, ...]) -> None:
    assert said(graph(0.1), trial(*losses)) == ((), ())


def test_without_a_probe_only_rates_beyond_all_recipes_are_named() -> None:
    ((finding,), _) = said(graph(1.0, "adam"))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.LOW)
    assert said(graph(1e-3, "adam")) == ((), ())
    assert said(graph(1e6, "home-made")) == ((), ())


def test_unreadable_rate_and_non_finite_start_are_skipped() -> None:
    assert "no readable learning rate" in said(graph(None))[1][0].reason
    assert "not finite before any step" in said(graph(0.1), trial(math.nan, math.nan))[1][0].reason


def test_not_compiled() -> None:
    bare = LayerGraph(
        name="net", format="keras", writer="", calls=(), edges=(), inputs=(), outputs=()
    )
    ((finding,), _) = said(bare, code="GEB607")
    assert finding.severity is Severity.INFO
    assert said(graph(0.1), code="GEB607") == ((), ())


def test_schedule_is_named_in_place_of_its_first_rate() -> None:
    settings = OptimizerSettings(name="sgd", learning_rate=0.0, schedule="CosineDecay")
    scheduled = replace(graph(0.0), compile=CompileSettings(optimizer=settings))
    ((finding,), _) = said(scheduled, trial(2.3, 40.0, math.nan))
    assert "learning rate (its schedule, CosineDecay)" in finding.message
    assert "of 0" not in finding.message
