"""Selection of rules, unmet needs, severities, and the verdict drawn from findings."""

from collections.abc import Iterator

import pytest

from auditor.errors import UsageError
from auditor.finding import Confidence, Finding, Severity, Skipped
from auditor.graph import LayerGraph
from auditor.judgement import Selection, judge, verdict
from auditor.result import Verdict
from auditor.rule import Context, Facts, Needs, Option, Rule, rule

EMPTY = LayerGraph(
    name="empty", format="keras", writer="", calls=(), edges=(), inputs=(), outputs=()
)


def make_rule(code: str, needs: Needs = Needs.GRAPH) -> Rule:
    @rule(
        code,
        "sample",
        severity=Severity.WARNING,
        needs=needs,
        since="0.1",
        options=(Option(name="limit", default=2.0, meaning="a limit"),),
    )
    def sample(context: Context) -> Iterator[Finding | Skipped]:
        """A sample."""
        yield context.finding(f"limit {context.number('limit'):g}", severity=Severity.ERROR)

    return sample


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), {"GEB101", "GEB501", "GEB502"}),
        (Selection(select=("GEB5",)), {"GEB501", "GEB502"}),
        (Selection(ignore=("GEB5",)), {"GEB101"}),
        (Selection(ignore=("GEB5",), extend_select=("GEB502",)), {"GEB101", "GEB502"}),
        (Selection(select=("GEB501",), ignore=("GEB501",)), set()),
        (Selection(select=("geb1",)), {"GEB101"}),
    ],
)
def test_longest_prefix_decides(selection: Selection, taken: set[str]) -> None:
    assert {code for code in ("GEB101", "GEB501", "GEB502") if selection.takes(code)} == taken


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(select=("XYZ",)), "no rule's code starts with 'XYZ'"),
        (Selection(options={"GEB999": {"limit": 1}}), "a rule 'GEB999' that does not exist"),
        (Selection(options={"GEB101": {"limt": 1}}), "has no option 'limt'"),
    ],
)
def test_unknown_names_are_usage_errors(selection: Selection, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        selection.check((make_rule("GEB101"),))


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        (Needs.PROBE, "probe skipped: not asked for"),
        (Needs.COMPILED, "the model was saved uncompiled"),
        (Needs.WEIGHTS, "the model has no weights"),
    ],
)
def test_unmet_need_is_skipped_with_its_reason(needs: Needs, reason: str) -> None:
    facts = Facts(graph=EMPTY, probe_skipped="probe skipped: not asked for")
    findings, skipped = judge((make_rule("GEB101", needs),), facts, Selection())
    assert findings == ()
    assert skipped == (Skipped(code="GEB101", reason=reason),)


def test_configured_severity_and_option_win() -> None:
    configured = Selection(options={"GEB101": {"limit": 5}}, severities={"GEB101": Severity.INFO})
    ((plain,), _) = judge((make_rule("GEB101"),), Facts(graph=EMPTY), Selection())
    ((changed,), _) = judge((make_rule("GEB101"),), Facts(graph=EMPTY), configured)
    assert (plain.severity, plain.message) == (Severity.ERROR, "limit 2")
    assert (changed.severity, changed.message) == (Severity.INFO, "limit 5")


def test_option_of_another_type_is_a_usage_error() -> None:
    selection = Selection(options={"GEB101": {"limit": "high"}})
    with pytest.raises(UsageError, match="wants a number"):
        judge((make_rule("GEB101"),), Facts(graph=EMPTY), selection)


def finding(code: str, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(code=code, name="x", severity=severity, confidence=Confidence.HIGH, message="x")


@pytest.mark.parametrize(
    ("codes", "probed", "expected"),
    [
        ((), True, Verdict.STABLE),
        ((), False, Verdict.UNKNOWN),
        (("GEB501",), True, Verdict.EXPLODING),
        (("GEB302", "GEB501", "GEB601"), True, Verdict.EXPLODING),
        (("GEB501", "GEB503"), True, Verdict.EXPLODING),
        (("GEB502",), True, Verdict.VANISHING),
        (("GEB101", "GEB502"), True, Verdict.BROKEN),
        (("GEB503",), True, Verdict.BROKEN),
        (("GEB101",), False, Verdict.BROKEN),
        (("GEB507",), True, Verdict.EXPLODING),
        (("GEB304", "GEB503"), True, Verdict.EXPLODING),
        (("GEB304",), False, Verdict.EXPLODING),
        (("GEB704",), True, Verdict.BROKEN),
        # A file that is dangerous to load says nothing of how its model trains.
        (("GEB901", "GEB906"), False, Verdict.UNKNOWN),
        (("GEB901",), True, Verdict.STABLE),
        (("GEB901", "GEB101"), False, Verdict.BROKEN),
    ],
)
def test_verdict(codes: tuple[str, ...], probed: bool, expected: Verdict) -> None:
    assert verdict(tuple(map(finding, codes)), probed=probed) is expected


def test_warnings_leave_a_model_stable() -> None:
    assert verdict((finding("GEB502", Severity.WARNING),), probed=True) is Verdict.STABLE


def test_fingerprint_stays_while_code_and_place_do() -> None:
    first = finding("GEB501")
    assert first.fingerprint == finding("GEB501", Severity.INFO).fingerprint
    assert first.fingerprint != finding("GEB502").fingerprint
    assert len(first.fingerprint) == 16


@pytest.mark.parametrize(
    ("growth", "expected"),
    [(2.3, Verdict.EXPLODING), (0.3, Verdict.VANISHING), (None, Verdict.BROKEN)],
)
def test_an_unmeasured_initialization_is_named_by_its_forecast(
    growth: float | None, expected: Verdict
) -> None:
    found = (finding("GEB302"),)
    assert verdict(found, probed=False, forecast_growth=growth) is expected
    assert verdict(found, probed=True, forecast_growth=growth) is Verdict.BROKEN
