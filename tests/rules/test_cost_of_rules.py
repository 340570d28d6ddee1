"""What all static rules cost on graphs of a thousand calls."""

import time

import pytest
from deep_graphs import CALLS, GRAPHS

from auditor.graph.forecast import forecast
from auditor.judgement import Selection, judge
from auditor.registry import rules
from auditor.rule import Facts

#: CPU seconds for what takes a third of one on an idle machine: room for a busy one.
MOST = 3.0


@pytest.mark.parametrize("values", [True, False], ids=["weights", "architecture"])
@pytest.mark.parametrize("name", GRAPHS)
def test_static_rules_on_a_thousand_calls(name: str, values: bool) -> None:
    graph = GRAPHS[name](values=values)
    assert len(graph.calls) >= CALLS
    installed = rules()
    begun = time.thread_time()
    predicted = forecast(graph)
    findings, _ = judge(installed, Facts(graph=graph, forecast=predicted), Selection())
    assert time.thread_time() - begun < MOST
    assert predicted is not None
    assert predicted.calls
    assert len({finding.code for finding in findings}) <= 12  # nothing is told a thousand times
