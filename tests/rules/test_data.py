"""GEB704, and what data of NaN make of the other rules."""

import math
from dataclasses import replace

import numpy as np
from builders import GraphBuilder
from measured import norms, probe
from surveyed import surveyed

from auditor.finding import Severity
from auditor.judgement import VOID, Selection, judge, verdict
from auditor.measurement import CallMeasurement
from auditor.registry import rules
from auditor.rule import Facts

LOST = probe(
    data="given",
    nonfinite_data=("x: 96 of 96 values",),
    gradient_norm=norms(math.nan),
    trial_losses=(2.3, math.nan),
    calls={"dense": CallMeasurement(dead_share=1.0, weight_gradient_norm=math.nan)},
)


def graph():
    build = GraphBuilder()
    call = build.dense(build.input((8,)), 8, "relu", kernel="he_normal")
    return build.graph(build.dense(call, 3, "softmax"), loss="sparse_categorical_crossentropy")


def test_data_are_accused_and_the_model_is_not() -> None:
    found, skipped = judge(rules(), Facts(graph=graph(), probe=LOST), Selection())
    (finding,) = (finding for finding in found if finding.severity is Severity.ERROR)
    assert finding.code == "GEB704"
    assert "x: 96 of 96 values" in finding.message
    reasons = {skip.code: skip.reason for skip in skipped}
    assert {reasons[code] for code in ("GEB205", "GEB501", "GEB503", "GEB507")} == {VOID}
    assert "GEB503" in reasons["GEB601"]
    assert verdict(found, probed=True) == "broken"


def test_a_few_values_that_no_batch_held_leave_the_rest_judged(findings) -> None:
    clean = probe(data="given", nonfinite_data=("x: 1 of 9,999 values",))
    assert len(findings("GEB704", graph(), clean)) == 1
    dead = replace(clean, calls=LOST.calls)
    assert findings("GEB205", graph(), dead) != ()


def test_finite_and_synthetic_data_are_not_accused(findings) -> None:
    assert findings("GEB704", graph(), probe(data="given")) == ()
    assert findings("GEB704", graph(), probe()) == ()
    assert findings("GEB704", graph()) == ()


def test_facts_say_it_without_a_probe(findings) -> None:
    x = np.zeros((4, 8, 8, 3))
    x[1, 2, 3, 0] = np.inf
    (finding,) = findings("GEB704", graph(), None, surveyed(graph(), x))
    assert "x: 1 of 768 values" in finding.message
    assert findings("GEB704", graph(), None, surveyed(graph(), np.zeros((4, 8, 8, 3)))) == ()
