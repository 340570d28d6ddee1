"""Judging a model: every selected rule over the facts, and the verdict they amount to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from auditor.errors import UsageError
from auditor.finding import Finding, Severity, Skipped
from auditor.graph.unbuilt import NOT_BUILT, unbuilt
from auditor.measurement import ProbeResult
from auditor.result import Verdict
from auditor.rule import Context, Facts, Needs, OptionValue, Rule

#: Rules whose error says what propagation does; an error of any other rule says "broken".
EXPLODING = frozenset({"GEB501", "GEB304", "GEB506", "GEB507"})
VANISHING = frozenset({"GEB502"})
#: What such a model shows besides: no reason by itself to call it broken.
BESIDES = frozenset({"GEB503", "GEB302", "GEB205", "GEB508", "GEB601"})
#: Findings on what a file does to whoever loads it, which say nothing of training.
SAFETY = "GEB9"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rules run, and how they are configured.

    `select`, `ignore` and `extend_select` hold codes or prefixes of codes; the longest prefix
    decides, `ignore` before `select` at equal length. `options` maps code to option values,
    `severities` code to severity.
    """

    select: tuple[str, ...] = ("GEB",)
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, OptionValue]] = field(default_factory=dict)
    severities: Mapping[str, Severity] = field(default_factory=dict)

    def takes(self, code: str) -> bool:
        """Whether the rule of this code runs."""

        def reach(prefixes: tuple[str, ...]) -> int:
            return max((len(p) for p in prefixes if code.startswith(p.upper())), default=-1)

        return reach((*self.select, *self.extend_select)) > reach(self.ignore)

    def check(self, rules: tuple[Rule, ...]) -> None:
        """Raise `UsageError` for a code no rule has, or an option its rule does not take.

        A selection of nothing is told too: every model passes a gate without rules.
        """
        codes = {rule.code for rule in rules}
        if not (*self.select, *self.extend_select):
            raise UsageError("no rule is selected; give --select codes, such as GEB or GEB5")
        for prefix in (*self.select, *self.extend_select, *self.ignore):
            if not any(code.startswith(prefix.upper()) for code in codes):
                raise UsageError(f"no rule's code starts with {prefix!r}; see `geb-audit rules`")
        for code in (*self.options, *self.severities):
            rule = next((rule for rule in rules if rule.code == code), None)
            if rule is None:
                raise UsageError(f"configuration names a rule {code!r} that does not exist")
            _check_options(rule, self.options.get(code, {}))


def _check_options(rule: Rule, values: Mapping[str, OptionValue]) -> None:
    known = {option.name: option for option in rule.options}
    for name, value in values.items():
        if name not in known:
            names = ", ".join((*known, "severity"))
            raise UsageError(f"{rule.code} has no option {name!r}; it has: {names}")
        if wanted := known[name].wanted(value):
            raise UsageError(f"option {name!r} of {rule.code} must be {wanted}, not {value!r}")


def judge(
    rules: tuple[Rule, ...], facts: Facts, selection: Selection
) -> tuple[tuple[Finding, ...], tuple[Skipped, ...]]:
    """Findings, worst first, and the rules that could not be judged."""
    findings: list[Finding] = []
    skipped: list[Skipped] = []
    for rule in rules:
        if not selection.takes(rule.code):
            continue
        reason = unmet(rule, facts)
        if reason:
            skipped.append(Skipped(code=rule.code, reason=reason))
            continue
        context = Context(
            rule=rule,
            facts=facts,
            severity=selection.severities.get(rule.code, rule.severity),
            configured=selection.options.get(rule.code, {}),
        )
        for said in rule.judge(context):
            if isinstance(said, Skipped):
                skipped.append(said)
            else:
                findings.append(said)
    findings.sort(key=lambda finding: (-finding.severity.rank, finding.code, finding.layers))
    return tuple(findings), tuple(skipped)


def unmet(rule: Rule, facts: Facts) -> str:
    """Why a rule cannot be judged on these facts; empty when it can."""
    if Needs.DATA in rule.needs and facts.data is None:
        return NO_DATA
    if Needs.PROBE in rule.needs and facts.probe is None:
        return facts.probe_skipped or "no probe ran"
    if Needs.PROBE in rule.needs and facts.probe is not None and void(facts.probe):
        return VOID
    if Needs.COMPILED in rule.needs and facts.graph.compile is None:
        return "the model was saved uncompiled"
    if Needs.WEIGHTS in rule.needs and not any(
        weight.read for call in facts.graph.calls for weight in call.weights
    ):
        if unbuilt(facts.graph):
            return NOT_BUILT
        if facts.graph.parameters == 0:
            return "the model has no weights"
        return "the file holds no weight values"
    return ""


NO_DATA = "no data were given: --data names a file of them"
VOID = "the probe's data hold NaN or an infinity (GEB704): what came of it is not the model's doing"


def void(probe: ProbeResult) -> bool:
    """Whether what was measured is that of data that are no numbers, and not of the model."""
    measured = (probe.loss_at_start, probe.gradient_norm.mean if probe.gradient_norm else None)
    return bool(probe.nonfinite_data) and any(
        value is not None and not math.isfinite(value) for value in measured
    )


def verdict(
    findings: tuple[Finding, ...], *, probed: bool, forecast_growth: float | None = None
) -> Verdict:
    """The verdict that findings amount to. Without a probe, no finding means `unknown`.

    A model that cannot be trained at all is broken whatever its gradients do; one that merely
    blows up or dies away is named so, also when the same run found NaN. Where nothing was measured
    and the initialization is at fault, `forecast_growth` (a factor a layer) says which of the two.
    Whether a file is safe to load is another question, which the verdict does not answer.
    """
    errors = {
        finding.code
        for finding in findings
        if finding.severity is Severity.ERROR and not finding.code.startswith(SAFETY)
    }
    if errors - EXPLODING - VANISHING - BESIDES:
        return Verdict.BROKEN
    if errors & EXPLODING:
        return Verdict.EXPLODING
    if errors & VANISHING:
        return Verdict.VANISHING
    if errors == {"GEB302"} and not probed and forecast_growth is not None:
        return Verdict.EXPLODING if forecast_growth > 1 else Verdict.VANISHING
    if errors:
        return Verdict.BROKEN
    return Verdict.STABLE if probed else Verdict.UNKNOWN
