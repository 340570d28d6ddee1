"""Settings from a configuration file: `[tool.geb-audit]` in pyproject.toml, or geb-audit.toml."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.finding import Severity
from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.plain_file import other_kind
from auditor.probe.availability import BACKENDS
from auditor.probe.settings import DEVICES
from auditor.rule import OptionValue

FILE_NAME = "geb-audit.toml"
FAIL_ON = ("error", "warning", "info", "never")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the command line and a configuration file can set, with the defaults.

    In a file the names are written with hyphens; `rules` is a table of rule codes, each with
    `severity` and the rule's own options, and `limits` one of the readers' bounds. What lifts a
    protection (`--unsafe`) or names a file of the moment (`--data`) is for the command line alone.
    """

    probe: bool | None = None
    backend: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    batches: int = 3
    seed: int = 0
    loss: str | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    curvature: int | None = None
    select: tuple[str, ...] = ("GEB",)
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: str = "error"
    output: tuple[str, ...] = ()
    html: bool = True
    timeout: float = 300.0
    max_memory: int = 8192
    limits: Limits = DEFAULT_LIMITS
    options: Mapping[str, Mapping[str, OptionValue]] = field(default_factory=dict)
    severities: Mapping[str, Severity] = field(default_factory=dict)

    def lines(self, origin: Mapping[str, str]) -> list[str]:
        """The settings as TOML, each with where it came from."""
        shown = []
        for item in fields(self):
            if item.name in ("limits", "options", "severities"):
                continue
            value = getattr(self, item.name)
            name = item.name.replace("_", "-")
            # What is not set has no value in TOML: its line is a comment.
            text = f"# {name} =" if value is None else f"{name} = {toml(value)}"
            shown.append(f"{text:<40} # {origin.get(item.name, 'default')}")
        shown += ["", "[limits]"]
        for bound in fields(Limits):
            value = getattr(self.limits, bound.name)
            changed = value != getattr(DEFAULT_LIMITS, bound.name)
            text = f"{bound.name.replace('_', '-')} = {toml(value)}"
            shown.append(f"{text:<40} # {origin.get('limits') if changed else 'default'}")
        for code in sorted({*self.options, *self.severities}):
            shown += ["", f"[rules.{code}]"]
            if code in self.severities:
                shown.append(f"severity = {toml(str(self.severities[code]))}")
            shown += [f"{key} = {toml(value)}" for key, value in self.options.get(code, {}).items()]
        return shown


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return str(value)


def nearest_config(start: Path) -> Path | None:
    """The nearest configuration file in `start` or a folder above it; geb-audit.toml goes first.

    A pyproject.toml without a `[tool.geb-audit]` table is passed over.
    """
    for folder in (start, *start.parents):
        own = folder / FILE_NAME
        if own.is_file():
            return own
        project = folder / "pyproject.toml"
        if project.is_file() and "geb-audit" in _parse(project).get("tool", {}):
            return project
    return None


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Field values of `Settings` that a file sets, and for each the file's name.

    Raises `UsageError` for a file that cannot be read, an unknown name or a value of another type.
    """
    document = _parse(path)
    if path.name == "pyproject.toml":
        document = document.get("tool", {}).get("geb-audit", {})
    if not isinstance(document, dict):
        raise UsageError(f"{path}: [tool.geb-audit] must be a table")
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key == "rules":
            values["options"], values["severities"] = _rule_tables(path, value)
            continue
        if key == "limits":
            values["limits"] = _limits(path, value)
            continue
        name = key.replace("-", "_")
        if name not in _CHECKS or name != key.replace("-", "_").lower():
            known = ", ".join(
                sorted(check.replace("_", "-") for check in (*_CHECKS, "limits", "rules"))
            )
            raise UsageError(f"{path}: unknown setting {key!r}; there are {known}")
        values[name] = _CHECKS[name](path, key, value)
    return values, dict.fromkeys(values, str(path))


def _parse(path: Path) -> dict[str, Any]:
    if kind := other_kind(path):
        raise UsageError(f"{path}: {kind}, not a configuration file")
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error


def _rule_tables(
    path: Path, tables: Any
) -> tuple[dict[str, dict[str, OptionValue]], dict[str, Severity]]:
    options: dict[str, dict[str, OptionValue]] = {}
    severities: dict[str, Severity] = {}
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise UsageError(f"{path}: `rules` must hold one table a rule, such as [rules.GEB402]")
    for code, table in tables.items():
        for key, value in table.items():
            if key == "severity":
                severities[code] = Severity(_one_of(tuple(Severity))(path, "severity", value))
            elif isinstance(value, (bool, int, float, str)):
                options.setdefault(code, {})[key] = value
            else:
                raise UsageError(f"{path}: option {key!r} of {code} must be a single value")
    return options, severities


def _limits(path: Path, table: Any) -> Limits:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: `limits` must be a table, such as [tool.geb-audit.limits]")
    known = {item.name.replace("_", "-"): item for item in fields(Limits)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{path}: unknown limit {key!r}; there are {', '.join(sorted(known))}")
        check = _positive if isinstance(known[key].default, float) else _whole(1)
        values[known[key].name] = check(path, key, value)
    return Limits(**values)


def _wants(path: Path, key: str, what: str, value: Any) -> UsageError:
    return UsageError(f"{path}: {key} must be {what}, not {value!r}")


def _boolean(path: Path, key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wants(path, key, "true or false", value)
    return value


def _text(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wants(path, key, "a name", value)
    return value


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wants(path, key, "a list of strings", value)
    return tuple(value)


def _one_of(allowed: tuple[str, ...]) -> Any:
    def check(path: Path, key: str, value: Any) -> str:
        if value not in allowed:
            raise _wants(path, key, "one of " + ", ".join(allowed), value)
        return str(value)

    return check


def _whole(least: int) -> Any:
    def check(path: Path, key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise _wants(path, key, f"a whole number of at least {least}", value)
        return value

    return check


def _positive(path: Path, key: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # At most the largest float: TOML has nan, inf, and whole numbers of any length.
    if not number or not 0 < value <= sys.float_info.max:
        raise _wants(path, key, "a positive number", value)
    return float(value)


_CHECKS: Mapping[str, Any] = {
    "probe": _boolean,
    "backend": _one_of(BACKENDS),
    "device": _one_of(DEVICES),
    "batch_size": _whole(1),
    "batches": _whole(1),
    "seed": _whole(0),
    "loss": _text,
    "optimizer": _text,
    "learning_rate": _positive,
    "curvature": _whole(0),
    "select": _texts,
    "extend_select": _texts,
    "ignore": _texts,
    "fail_on": _one_of(FAIL_ON),
    "output": _texts,
    "html": _boolean,
    "timeout": _positive,
    "max_memory": _whole(1),
}
