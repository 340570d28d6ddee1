"""GEB501 to 503 on measurements: what fires, what stays silent, what is skipped."""

import math
from dataclasses import replace
from typing import Any

import pytest
from builders import GraphBuilder
from measured import probe

from auditor.finding import Finding, Severity, Skipped
from auditor.graph import LayerGraph, Op
from auditor.graph.depth_kind import DepthKind, depth_kind
from auditor.judgement import Selection, judge
from auditor.measurement import CallMeasurement, ProbeResult, RescaledTrial
from auditor.registry import rule_by_code
from auditor.rule import Facts

GRAPH = LayerGraph(
    name="net", format="keras", writer="", calls=(), edges=(), inputs=(), outputs=(("head", 0),)
)
HEALTHY = probe(
    loss="categorical_crossentropy",
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


@pytest.mark.parametrize(("code", "probe"), [("GEB501", EXPLODING), ("GEB502", VANISHING)])
def test_statistics_of_few_values_do_not_tell_of_larger_batches(
    code: str, probe: ProbeResult
) -> None:
    ((), (skipped,)) = said(code, replace(probe, normalized_values=2, batch_size=2))
    assert "batches of 2 a batch normalization has 2 values" in skipped.reason
    assert "larger batch size" in skipped.reason
    assert said(code, replace(probe, normalized_values=8))[0]


@pytest.mark.parametrize(
    ("optimizer", "ratio", "severity"),
    [
        ("adam", 2e-6, Severity.WARNING),
        ("adam", 5e-7, Severity.ERROR),
        ("sgd", 5e-5, Severity.ERROR),
        ("sgd", 5e-4, Severity.WARNING),
        ("rmsprop", 5e-5, Severity.ERROR),
    ],
)
def test_adam_makes_up_for_small_gradients(
    optimizer: str, ratio: float, severity: Severity
) -> None:
    """Where no risk is told (here for a loss that it is not calibrated for)."""
    build = GraphBuilder()
    graph = build.graph(build.dense(build.input((4,)), 1), loss="huber", optimizer=optimizer)
    vanishing = replace(VANISHING, gradient_ratio=ratio, loss="huber")
    facts = Facts(graph=graph, probe=vanishing)
    ((finding,), _) = judge((rule_by_code("GEB502"),), facts, Selection())
    assert finding.severity is severity


def stuck(**measured: Any) -> ProbeResult:
    """A mild ratio, and a trial of 201 losses that learns nothing of its batch."""
    trial = {
        "gradient_ratio": 1.5e-2,
        "trial_losses": (2.31,) * 5,
        "trial_further": (2.31,) * 16,
        "trial_long": (2.3,) * 180,
        "trial_constant": 2.2,
        "calls": {"dense": CallMeasurement(update_ratio=1e-3, gradient_norm=1.0)},
    }
    return replace(VANISHING, **(trial | measured))


def moving(by: float) -> dict[str, CallMeasurement]:
    return {"dense": CallMeasurement(update_ratio=by, gradient_norm=1.0)}


#: What the same trial does once kernels are rescaled.
MENDED = RescaledTrial(decades=3.0, kernels=9, losses=(2.4, 2.0, 1.2))
UNMENDED = RescaledTrial(decades=3.0, kernels=9, losses=(2.4, 2.4, 2.4))


def on_stuck(probe: ProbeResult, optimizer: str = "sgd") -> tuple[Finding, ...]:
    build = GraphBuilder()
    graph = build.graph(
        build.dense(build.input((4,)), 1), loss="huber", optimizer=optimizer, learning_rate=1e-2
    )
    return judge((rule_by_code("GEB502"),), Facts(graph=graph, probe=probe), Selection())[0]


@pytest.mark.parametrize(
    ("probe", "optimizer"),
    [
        (stuck(), "sgd"),
        (stuck(), "rmsprop"),
        (stuck(gradient_ratio=5e-5), "adam"),
        # Tiny steps say nothing of it, unless other kernels learn with them.
        (stuck(calls=moving(1e-7), rescaled_trial=MENDED), "sgd"),
        (stuck(gradient_ratio=5e-5, calls=moving(1e-5), rescaled_trial=MENDED), "adam"),
    ],
)
def test_a_model_that_two_hundred_steps_leave_where_it_was(
    probe: ProbeResult, optimizer: str
) -> None:
    (finding,) = on_stuck(probe, optimizer)
    assert finding.severity is Severity.ERROR


@pytest.mark.parametrize(
    ("probe", "optimizer"),
    [
        # Learns late; was not tried for so long; ends where its loss is lost.
        (stuck(trial_long=(*(2.3,) * 90, *(1.9,) * 90)), "sgd"),
        (stuck(trial_long=()), "sgd"),
        (stuck(trial_long=(2.3, math.nan)), "sgd"),
        # Steps that are too small or too large to learn by.
        (stuck(calls=moving(1e-7)), "sgd"),
        (stuck(calls=moving(1e-7), rescaled_trial=UNMENDED), "sgd"),
        (stuck(calls=moving(0.2)), "sgd"),
        (stuck(gradient_ratio=5e-5, calls=moving(1e-5)), "adam"),
        # Ratios that are healthy, for Adam milder ones too.
        (stuck(gradient_ratio=5e-2), "sgd"),
        (stuck(), "adam"),
    ],
)
def test_what_else_keeps_a_trial_from_learning_is_no_error(
    probe: ProbeResult, optimizer: str
) -> None:
    assert all(finding.severity is Severity.WARNING for finding in on_stuck(probe, optimizer))


@pytest.mark.parametrize(
    ("rescaled", "told"), [(MENDED, "from 2.4 to 1.2 in 2 steps"), (UNMENDED, "do not mend it")]
)
def test_the_trial_of_rescaled_kernels_is_told(rescaled: RescaledTrial, told: str) -> None:
    (finding,) = on_stuck(stuck(rescaled_trial=rescaled))
    assert told in finding.remedy
    evidence = {item.name: item for item in finding.evidence}
    assert evidence["loss after the trial"].value == 2.3
    assert "200 steps" in evidence["loss after the trial"].method
    assert evidence["the same, kernels rescaled"].value == min(rescaled.losses)
    assert "9 kernels" in evidence["the same, kernels rescaled"].method


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


def stack(*, normalized: bool) -> LayerGraph:
    build = GraphBuilder()
    call = build.input((16,))
    for _ in range(50):
        call = build.dense(call, 16, None if normalized else "relu", kernel="he_normal")
        if normalized:
            call = build.activation(build.batch_norm(call), "relu")
    return build.graph(build.dense(call, 10, "softmax"), loss="categorical_crossentropy")


def sums(*, normalized: bool, last: str = "he_normal") -> LayerGraph:
    build = GraphBuilder()
    call = build.dense(build.input((16,)), 16)
    for _ in range(30):
        branch = build.batch_norm(call) if normalized else call
        branch = build.dense(branch, 16, "relu", kernel="he_normal")
        call = build.add(Op.ADD, call, build.dense(branch, 16, kernel=last))
    return build.graph(build.dense(call, 10, "softmax"), loss="categorical_crossentropy")


def judged(graph: LayerGraph, probe: ProbeResult) -> Finding:
    facts = Facts(graph=graph, probe=probe)
    ((finding,), _) = judge((rule_by_code("GEB501"),), facts, Selection())
    return finding


SLOW = replace(
    HEALTHY, growth_rate=1.18, growth_interval=(1.16, 1.2), gradient_ratio=1.7e3, depth=50
)


def test_normalized_stack_grows_by_its_depth_alone() -> None:
    mild = judged(stack(normalized=True), SLOW)
    assert mild.severity is Severity.WARNING
    assert "skip connection" in mild.remedy
    assert "normalized already" in mild.remedy
    severe = replace(SLOW, growth_rate=1.4, growth_interval=(1.3, 1.5), gradient_ratio=1e7)
    assert judged(stack(normalized=True), severe).severity is Severity.ERROR
    assert judged(stack(normalized=False), SLOW).severity is Severity.ERROR


def test_residual_sums_are_told_to_start_at_nothing() -> None:
    assert depth_kind(sums(normalized=False)) is DepthKind.RESIDUAL
    assert depth_kind(sums(normalized=True)) is DepthKind.PLAIN
    assert 'kernel_initializer="zeros"' in judged(sums(normalized=False), EXPLODING).remedy


def test_ratio_and_fit_are_told_apart() -> None:
    """They are different estimates, and neither is the power of the other."""
    ((finding,), _) = said("GEB502", replace(VANISHING, gradient_ratio=7.7e-9, growth_points=16))
    assert "1.3e+08-fold from the last eighth of the layers to the first" in finding.message
    assert "Fitted to all 16 layers it changes by a factor of 0.25 a layer" in finding.message
