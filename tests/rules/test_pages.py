"""Every rule's page: complete, in order, and about the rule it belongs to."""

import ast
import re
from pathlib import Path

import pytest

from auditor.registry import rules
from auditor.rule import Rule
from auditor.rule_pages import pages

SECTIONS = [
    "What it does",
    "Why is this bad",
    "Evidence",
    "Example",
    "Use instead",
    "Options",
    "Known problems",
    "References",
]


def sections(rule: Rule) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", rule.page, flags=re.MULTILINE)
    return {name.strip(): body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.fixture(params=rules(), ids=lambda rule: rule.code)
def rule(request: pytest.FixtureRequest) -> Rule:
    return request.param


def test_sections_stand_in_order_and_are_not_empty(rule: Rule) -> None:
    assert list(sections(rule)) == SECTIONS
    assert all(sections(rule).values())


def test_title_is_one_sentence(rule: Rule) -> None:
    first, _, rest = rule.page.partition("\n")
    assert first.endswith(".")
    assert rest.startswith("\n")
    assert len(first) < 100


def test_references_are_a_list(rule: Rule) -> None:
    assert rule.references
    assert all(len(reference) > 20 for reference in rule.references)


def test_every_option_is_explained(rule: Rule) -> None:
    told = sections(rule)["Options"]
    if not rule.options:
        assert told == "None."
    for option in rule.options:
        assert f"- `{option.name}`" in told
        assert option.meaning


def test_examples_are_python(rule: Rule) -> None:
    for name in ("Example", "Use instead"):
        body = sections(rule)[name]
        fences = re.findall(r"```python\n(.*?)```", body, flags=re.DOTALL)
        for code in fences:
            ast.parse(code)
        assert fences or rule.code.startswith("GEB9"), name


def test_code_and_name_are_told_apart() -> None:
    assert len({rule.name for rule in rules()}) == len(rules())
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name) for rule in rules())


def test_the_pages_in_docs_are_those_of_the_rules() -> None:
    folder = Path(__file__).parents[2] / "docs" / "rules"
    made = pages()
    assert {path.name for path in folder.iterdir()} == set(made)
    for name, text in made.items():
        told = "run python -m auditor.rule_pages docs/rules"
        assert (folder / name).read_text(encoding="utf-8") == text, told
