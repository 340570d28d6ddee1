"""The headline numbers: what each is, and none where nothing was told."""

import math
from dataclasses import replace

import pytest
from report_samples import exploding_stack

from auditor.graph import CompileSettings, OptimizerSettings
from auditor.measurement import RescaledTrial
from auditor.reports.verdict_view import verdict_view
from auditor.result import AuditResult, Verdict


def changed(**measured) -> AuditResult:
    result = exploding_stack()
    return replace(result, probe=replace(result.probe, **measured))


def headline(result: AuditResult, label: str):
    return next(item for item in verdict_view(result).headlines if item.label.startswith(label))


def test_growth_that_could_be_anything_is_not_shown() -> None:
    told = headline(changed(growth_rate=1.2, growth_interval=(0.6, 2.4)), "Gradient growth")
    assert told.value == "×1.2"
    wide = changed(growth_rate=5.6, growth_interval=(9.5e-10, 7.45e10), growth_points=3)
    assert headline(wide, "Gradient growth").value == "not determined"
    assert headline(wide, "Gradient growth").detail == "3 layers do not tell"
    quiet = replace(wide, findings=(), verdict=Verdict.STABLE)
    assert "a layer" not in "".join(span.text for span in verdict_view(quiet).sentence)


def test_ratio_says_what_it_divides() -> None:
    ratio = headline(
        changed(gradient_ratio=0.836, growth_points=5), "Gradient, first ÷ last eighth"
    )
    assert ratio.value == "×0.836"
    assert "5 layers" in ratio.detail


def scheduled(schedule: str | None) -> AuditResult:
    result = changed(trial_losses=(2.53, 2.41, 2.35, 2.31, 2.29))
    optimizer = OptimizerSettings(name="sgd", learning_rate=0.0, schedule=schedule)
    settings = CompileSettings(optimizer=optimizer)
    return replace(result, graph=replace(result.graph, compile=settings))


@pytest.mark.parametrize(
    ("schedule", "words"), [("CosineDecay", "of SGD on its schedule"), (None, "of SGD at 0")]
)
def test_steps_on_a_schedule_are_not_called_steps_at_its_first_rate(schedule, words) -> None:
    assert headline(scheduled(schedule), "Loss, first steps").detail.endswith(words)


def test_trial_that_was_lost_says_so() -> None:
    lost = headline(changed(trial_losses=(2.6, math.nan)), "Loss, first steps")
    assert lost.value == "2.6 → NaN"
    assert "not finite from there on" in lost.detail


def test_trial_that_went_on_and_its_twin_of_rescaled_kernels() -> None:
    result = changed(
        trial_losses=(2.31, 2.3),
        trial_further=(2.3, 2.3),
        trial_long=(2.3,) * 97,
        rescaled_trial=RescaledTrial(decades=3.0, kernels=9, losses=(2.4, 1.2, 1.9)),
    )
    long = headline(result, "Loss, long trial")
    assert (long.value, long.detail) == ("2.31 → 2.3", "least of 100 steps on one batch")
    again = headline(result, "The same, rescaled")
    assert again.value == "2.4 → 1.2"
    assert again.detail == "least of 2 steps, 9 kernels at unit variance (LSUV)"
    lost = changed(trial_losses=(2.6, 2.5), trial_long=(2.4, math.nan))
    assert headline(lost, "Loss, long trial").value == "2.6 → NaN"
    labels = {item.label for item in verdict_view(changed()).headlines}
    assert not labels & {"Loss, long trial", "The same, rescaled"}
