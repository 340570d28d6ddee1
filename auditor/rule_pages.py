"""The rules' pages as a folder of Markdown files, with an index.

Made by: python -m auditor.rule_pages docs/rules
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from auditor.catalogue import needs, rule_page
from auditor.registry import rules
from auditor.rule import Rule

#: What the first digit of a code says.
FAMILIES = {
    "1": "Structure",
    "2": "Activations",
    "3": "Initialization and weights",
    "4": "Normalization and regularization",
    "5": "Propagation",
    "6": "Training configuration",
    "7": "Data",
    "8": "Numerics",
    "9": "File safety",
}
INDEX = "README.md"


def pages() -> Mapping[str, str]:
    """The files of the folder by name: one a rule, and the index. Rules of geb-audit alone."""
    own = [rule for rule in rules() if rule.code.startswith("GEB")]
    return {INDEX: _index(own), **{f"{rule.code}.md": f"{rule_page(rule)}\n" for rule in own}}


def _index(own: list[Rule]) -> str:
    lines = [
        "# Rules",
        "",
        "An error means: as saved, this model will not train, or must not be loaded. Severities",
        "are defaults; configuration can change each. `geb-audit explain CODE` prints a page.",
    ]
    for digit, family in groupby(own, key=lambda rule: rule.code[3]):
        lines += ["", f"## {FAMILIES.get(digit, 'Others')}", ""]
        lines += ["| rule | default | needs | |", "|---|---|---|---|"]
        lines += [
            f"| [{rule.code} {rule.name}]({rule.code}.md) | {rule.severity} "
            f"| {', '.join(needs(rule))} | {rule.title} |"
            for rule in family
        ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Write the folder anew; pages of rules that are no more are removed."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for stale in folder.glob("GEB*.md"):
        if stale.name not in made:
            stale.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
