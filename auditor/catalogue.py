"""The rule catalogue as text: the list, and a rule's page."""

from __future__ import annotations

import json

from auditor.registry import rules
from auditor.rule import Needs, Rule


def rules_text() -> str:
    """One line a rule: code, default severity, name, title."""
    return "\n".join(
        f"{rule.code}  {rule.severity:<8} {rule.name:<27} {rule.title}" for rule in rules()
    )


def rules_json() -> str:
    """The rules with severity, needs and options, as a JSON array."""
    return json.dumps(
        [
            {
                "code": rule.code,
                "name": rule.name,
                "title": rule.title,
                "severity": rule.severity,
                "needs": needs(rule),
                "since": rule.since,
                "options": {
                    option.name: {"default": option.default, "meaning": option.meaning}
                    for option in rule.options
                },
            }
            for rule in rules()
        ],
        indent=2,
        ensure_ascii=False,
    )


def rule_page(rule: Rule) -> str:
    """A rule's page in Markdown, under a heading with its code and default."""
    wanted = ", ".join(needs(rule))
    head = f"# {rule.code} {rule.name}\n\nDefault: {rule.severity}. Needs: {wanted}. "
    return f"{head}Since: {rule.since}.\n\n{rule.page}"


def needs(rule: Rule) -> list[str]:
    """What a rule needs, in words; every rule needs the graph."""
    return ["graph", *(str(need.name).lower() for need in Needs if need in rule.needs)]
