"""GEB503: where numbers stop being finite, and what says so when no single call does."""

import math

import pytest
from builders import GraphBuilder
from measured import norms, probe

from auditor.measurement import CallMeasurement


def graph(*, trainable: bool = True):
    build = GraphBuilder()
    call = build.dense(build.input((8,)), 8, "relu", kernel="he_normal", trainable=trainable)
    return build.graph(
        build.dense(call, 3, "softmax", trainable=trainable),
        loss="sparse_categorical_crossentropy",
    )


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ({"gradient_norm": norms(math.nan)}, "all taken together"),
        ({"gradient_norm": norms(math.inf)}, "all taken together"),
        ({"calls": {"dense": CallMeasurement(weight_gradient_norm=math.nan)}}, "`dense`"),
        ({"calls": {"dense": CallMeasurement(update_ratio=math.nan)}}, "first step of adam"),
        ({"loss_at_start": math.inf, "first_nonfinite_backward": "dense"}, "The loss"),
    ],
)
def test_what_no_single_call_shows(findings, measured, said) -> None:
    (finding,) = findings("GEB503", graph(), probe(**measured))
    assert said in finding.message
    assert findings("GEB503", graph(), probe()) == ()


def test_a_step_too_long_is_the_rates_doing(findings) -> None:
    endless = probe(calls={"dense": CallMeasurement(update_ratio=math.inf)})
    assert findings("GEB503", graph(), endless) == ()


def test_squares_that_overflow_are_told(findings) -> None:
    calls = {"dense_1": CallMeasurement(max_abs=7e22)}
    (finding,) = findings("GEB503", graph(), probe(loss_at_start=math.inf, calls=calls))
    assert "7.0e+22" in finding.remedy


def test_gradient_that_nothing_needs_is_no_matter(findings) -> None:
    lost = {"loss_at_start": math.nan, "first_nonfinite_backward": "dense"}
    assert findings("GEB503", graph(trainable=False), probe(**lost)) == ()
    (finding,) = findings(
        "GEB503", graph(trainable=False), probe(**lost, first_nonfinite_forward="dense")
    )
    assert finding.layers == ("dense",)


@pytest.mark.parametrize(
    "measured",
    [
        {"gradient_norm": norms(math.nan)},
        {"calls": {"dense": CallMeasurement(update_ratio=math.nan)}},
    ],
)
def test_rate_is_not_blamed_for_it(findings, measured) -> None:
    losses = (2.3, math.nan)
    assert findings("GEB601", graph(), probe(trial_losses=losses, **measured)) == ()
    assert findings("GEB601", graph(), probe(trial_losses=losses)) != ()
