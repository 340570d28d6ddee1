"""Finding rules and reporters through entry points, ours exactly as a third party's."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from auditor.errors import UsageError
from auditor.rule import Rule

if TYPE_CHECKING:
    from auditor.reporter import Reporter

RULES_GROUP = "geb_audit.rules"
REPORTERS_GROUP = "geb_audit.reporters"


@cache
def rules() -> tuple[Rule, ...]:
    """Every installed rule, by code. An entry point names a module; all `Rule`s in it count."""
    found: dict[str, Rule] = {}
    for entry_point in entry_points(group=RULES_GROUP):
        for value in vars(_load(entry_point)).values():
            if not isinstance(value, Rule) or found.get(value.code) is value:
                continue
            if value.code in found:
                raise UsageError(f"two installed rules have the code {value.code}")
            found[value.code] = value
    return tuple(found[code] for code in sorted(found))


def rule_by_code(code: str) -> Rule:
    """The rule of this code. Raises `UsageError` if there is none."""
    for rule in rules():
        if rule.code == code.upper():
            return rule
    raise UsageError(f"no rule has the code {code!r}; `geb-audit rules` lists them")


@cache
def reporter_names() -> tuple[str, ...]:
    """Names of the installed reporters."""
    return tuple(sorted(entry_point.name for entry_point in entry_points(group=REPORTERS_GROUP)))


@cache
def reporter(name: str) -> Reporter:
    """The reporter of this name. Raises `UsageError` if there is none."""
    for entry_point in entry_points(group=REPORTERS_GROUP):
        if entry_point.name == name:
            made: Reporter = _load(entry_point)()
            return made
    known = ", ".join(reporter_names())
    raise UsageError(f"no output format is called {name!r}; there are {known}")


def reporter_for_suffix(suffix: str) -> Reporter:
    """The reporter for a file suffix such as ".html". Raises `UsageError` if there is none."""
    for name in reporter_names():
        if suffix.lower() in reporter(name).suffixes:
            return reporter(name)
    raise UsageError(f"no report format has the file suffix {suffix!r}")


def _load(entry_point: EntryPoint) -> Any:
    try:
        return entry_point.load()
    except ImportError as error:
        message = f"the plug-in {entry_point.name!r} ({entry_point.value}) cannot be imported"
        raise UsageError(f"{message}: {error}") from error
