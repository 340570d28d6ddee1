"""Judging graphs that were built by hand."""

from collections.abc import Callable

import pytest

from auditor.finding import Finding, Severity, Skipped
from auditor.graph import LayerGraph
from auditor.graph.forecast import forecast
from auditor.judgement import Selection, judge
from auditor.measurement import DataFacts, ProbeResult
from auditor.registry import rules
from auditor.rule import Facts

Judge = Callable[..., tuple[Finding, ...]]


def said(
    graph: LayerGraph,
    probe: ProbeResult | None = None,
    data: DataFacts | None = None,
    **options: dict[str, float],
) -> tuple[tuple[Finding, ...], tuple[Skipped, ...]]:
    facts = Facts(
        graph=graph, forecast=forecast(graph), probe=probe, probe_skipped="no probe", data=data
    )
    return judge(rules(), facts, Selection(options=options))


@pytest.fixture(scope="session")
def findings() -> Judge:
    """Findings of the rule with this code, by all installed rules' own machinery."""

    def of(
        code: str,
        graph: LayerGraph,
        probe: ProbeResult | None = None,
        data: DataFacts | None = None,
        **options: float,
    ) -> tuple[Finding, ...]:
        found, _ = said(graph, probe, data, **({code: options} if options else {}))
        return tuple(finding for finding in found if finding.code == code)

    return of


@pytest.fixture(scope="session")
def complaints() -> Callable[[LayerGraph], list[str]]:
    """What is said at warning or above, readable in a failing test."""

    def of(graph: LayerGraph, probe: ProbeResult | None = None) -> list[str]:
        found, _ = said(graph, probe)
        return [f"{f.code} {f.message}" for f in found if f.severity is not Severity.INFO]

    return of


@pytest.fixture(scope="session")
def skipped() -> Callable[[LayerGraph], dict[str, str]]:
    """Reasons of the rules that could not be judged."""

    def of(graph: LayerGraph) -> dict[str, str]:
        return {skip.code: skip.reason for skip in said(graph)[1]}

    return of
