"""GEB901 to 910: hazards the reader saw become findings, each under its own code."""

import pytest

from auditor.finding import Confidence, Severity
from auditor.graph import LayerGraph
from auditor.hazard import Hazard
from auditor.judgement import Selection, judge
from auditor.registry import rules
from auditor.rule import Facts

GRAPH = LayerGraph(name="net", format="keras", writer="", calls=(), edges=(), inputs=(), outputs=())


@pytest.mark.parametrize("code", [f"GEB9{number:02}" for number in range(1, 11)])
def test_hazard_becomes_one_finding_of_its_code(code: str) -> None:
    hazard = Hazard(
        code=code, place="config.json: layers[3]", what="something", identifier="CVE-2025-1550"
    )
    facts = Facts(graph=GRAPH, hazards=(hazard,))
    safety = tuple(rule for rule in rules() if rule.code.startswith("GEB9"))
    ((finding,), _) = judge(safety, facts, Selection())
    assert finding.code == code
    assert finding.severity is Severity.ERROR
    assert "config.json: layers[3]" in finding.message
    assert "CVE-2025-1550" in finding.message
    assert [(item.name, item.value) for item in finding.evidence] == [
        ("place", "config.json: layers[3]"),
        ("advisory", "CVE-2025-1550"),
    ]
    assert finding.remedy
    assert finding.references


def test_a_hazard_keeps_its_own_severity() -> None:
    hazard = Hazard(code="GEB902", place="x", what="y", severity=Severity.WARNING)
    rule = next(rule for rule in rules() if rule.code == "GEB902")
    ((finding,), _) = judge((rule,), Facts(graph=GRAPH, hazards=(hazard,)), Selection())
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.MEDIUM)


def test_custom_code_is_information_and_sure() -> None:
    hazard = Hazard(code="GEB910", place="x", what="y", severity=Severity.INFO)
    rule = next(rule for rule in rules() if rule.code == "GEB910")
    ((finding,), _) = judge((rule,), Facts(graph=GRAPH, hazards=(hazard,)), Selection())
    assert (finding.severity, finding.confidence) == (Severity.INFO, Confidence.HIGH)


def test_no_hazard_no_finding() -> None:
    safety = tuple(rule for rule in rules() if rule.code.startswith("GEB9"))
    assert judge(safety, Facts(graph=GRAPH), Selection()) == ((), ())
