"""The rule decorator, and the context a rule is judged in."""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from auditor.errors import UsageError
from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.hazard import Hazard

if TYPE_CHECKING:
    from auditor.graph.forecast import Forecast
    from auditor.graph.layer_graph import LayerGraph
    from auditor.measurement import DataFacts, ProbeResult

OptionValue = float | int | str | bool


class Needs(enum.Flag):
    """What a rule must have to be judged. An unmet need makes it skipped, with the reason."""

    GRAPH = 0
    WEIGHTS = enum.auto()
    PROBE = enum.auto()
    COMPILED = enum.auto()
    DATA = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Option:
    """A parameter of a rule that configuration can set.

    A configured value is of the default's type, and a number is above 0: at least 0 where `zero`
    makes sense, and at most `most`, as 1 for a share.
    """

    name: str
    default: OptionValue
    meaning: str
    zero: bool = False
    most: float = sys.float_info.max

    def wanted(self, value: OptionValue) -> str:
        """What a value must be, in words; empty where `value` is that."""
        if isinstance(self.default, bool):
            return "" if isinstance(value, bool) else "true or false"
        if isinstance(self.default, str):
            return "" if isinstance(value, str) else "a string"
        whole = isinstance(self.default, int)
        if isinstance(value, int if whole else (int, float)) and not isinstance(value, bool):
            reached = value >= 0 if self.zero else value > 0
            if reached and value <= self.most:
                return ""
        noun = "a whole number" if whole else "a number"
        low = "of at least 0" if self.zero else "above 0"
        high = f" and at most {self.most:g}" if self.most < sys.float_info.max else ""
        return f"{noun} {low}{high}"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of one model when rules are judged: shared by all rules of an audit."""

    graph: LayerGraph
    forecast: Forecast | None = None
    probe: ProbeResult | None = None
    probe_skipped: str = ""
    data: DataFacts | None = None
    hazards: tuple[Hazard, ...] = ()


RuleFunction = Callable[["Context"], Iterator[Finding | Skipped]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A coded rule: its identity, what it needs, its options, and its page (the docstring)."""

    code: str
    name: str
    severity: Severity
    needs: Needs
    since: str
    options: tuple[Option, ...]
    judge: RuleFunction

    @property
    def page(self) -> str:
        """The rule's page: the docstring of its function, dedented, in Markdown."""
        import inspect

        return inspect.cleandoc(self.judge.__doc__ or "")

    @property
    def title(self) -> str:
        """First line of the page, without its full stop."""
        return self.page.partition("\n")[0].rstrip(".")

    @property
    def references(self) -> tuple[str, ...]:
        """The entries of the page's References section, one a list item."""
        section = self.page.partition("## References")[2].partition("\n## ")[0]
        items = re.split(r"^- ", section, flags=re.MULTILINE)[1:]
        return tuple(" ".join(item.split()) for item in items)


@dataclass(frozen=True, kw_only=True)
class Context:
    """One rule's view of the facts, its configured options, and the maker of its findings."""

    rule: Rule
    facts: Facts
    severity: Severity
    configured: Mapping[str, OptionValue] = field(default_factory=dict)

    @property
    def graph(self) -> LayerGraph:
        """The model's layer graph."""
        return self.facts.graph

    @property
    def forecast(self) -> Forecast | None:
        """The static forecast of propagation, where one could be made."""
        return self.facts.forecast

    @property
    def probe(self) -> ProbeResult:
        """The probe's measurements. Only for rules that declare `Needs.PROBE`."""
        if self.facts.probe is None:
            raise LookupError(f"{self.rule.code} reads the probe without needing it")
        return self.facts.probe

    @property
    def optional_probe(self) -> ProbeResult | None:
        """The probe's measurements where there are some, for rules that sharpen with them."""
        return self.facts.probe

    @property
    def data(self) -> DataFacts:
        """The facts of the user's data. Only for rules that declare `Needs.DATA`."""
        if self.facts.data is None:
            raise LookupError(f"{self.rule.code} reads the data without needing them")
        return self.facts.data

    @property
    def hazards(self) -> tuple[Hazard, ...]:
        """What the reader saw of this rule's own code."""
        return tuple(h for h in self.facts.hazards if h.code == self.rule.code)

    def number(self, name: str) -> float:
        """A numeric option, as configured or by default."""
        value = self._option(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"option {name!r} of {self.rule.code} wants a number, got {value!r}")
        return float(value)

    def text(self, name: str) -> str:
        """A textual option, as configured or by default."""
        return str(self._option(name))

    def _option(self, name: str) -> OptionValue:
        default = next(option.default for option in self.rule.options if option.name == name)
        return self.configured.get(name, default)

    def finding(
        self,
        message: str,
        *,
        layers: tuple[str, ...] = (),
        evidence: tuple[Evidence, ...] = (),
        remedy: str = "",
        severity: Severity | None = None,
        confidence: Confidence = Confidence.HIGH,
        place: str = "",
    ) -> Finding:
        """A finding of this rule; `severity` departs from the rule's default where the case does.

        A severity set in the configuration wins over both.
        """
        departs = severity is not None and self.severity is self.rule.severity
        return Finding(
            code=self.rule.code,
            name=self.rule.name,
            severity=severity if departs and severity is not None else self.severity,
            confidence=confidence,
            message=message,
            layers=layers,
            evidence=evidence,
            remedy=remedy,
            references=self.rule.references,
            place=place,
        )

    def skip(self, reason: str) -> Skipped:
        """This rule could not be judged on this model."""
        return Skipped(code=self.rule.code, reason=reason)


CODE = re.compile(r"GEB[0-9]{3}\Z")


def rule(
    code: str,
    name: str,
    *,
    severity: Severity,
    needs: Needs = Needs.GRAPH,
    since: str,
    options: tuple[Option, ...] = (),
) -> Callable[[RuleFunction], Rule]:
    """Make a `Rule` of a function from `Context` to findings; its docstring is the rule's page."""
    if not CODE.match(code):
        raise ValueError(f"not a rule code: {code!r}")

    def make(judge: RuleFunction) -> Rule:
        return Rule(
            code=code,
            name=name,
            severity=severity,
            needs=needs,
            since=since,
            options=options,
            judge=judge,
        )

    return make
