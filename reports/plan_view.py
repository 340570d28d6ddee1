"""What a report shows of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from auditor.plan.settings import Setting
from auditor.result import AuditResult

from . import printable, prose, quantity, wording
from .prose import Span

#: Layers named one by one in a setting; the rest are counted.
NAMED_LAYERS = 6


@dataclass(frozen=True, kw_only=True)
class Because:
    """A finding that a setting answers."""

    code: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class SettingView:
    """A setting, ready to show.

    `argument` is its name in Keras; `interval` is "–" where there is none; `current` says what the
    model has now, and is empty where it has none.
    """

    title: str
    argument: str
    value: str
    details: tuple[str, ...]
    interval: str
    current: str
    reason: tuple[Span, ...]
    formula: tuple[Span, ...]
    because: tuple[Because, ...]
    layers: str


@dataclass(frozen=True, kw_only=True)
class PlanView:
    """The plan: settings, what else to know, and the Python that applies it."""

    settings: tuple[SettingView, ...]
    notes: tuple[tuple[Span, ...], ...]
    snippet: str


def plan_view(result: AuditResult, finding_anchors: Mapping[str, Because]) -> PlanView:
    """The plan; `finding_anchors` maps fingerprints to the findings on the page."""
    return PlanView(
        settings=tuple(_setting(setting, finding_anchors) for setting in result.plan.settings()),
        notes=tuple(prose.sentence(note) for note in result.plan.notes),
        snippet=printable.block(result.plan.snippet).rstrip(),
    )


def layers_named(layers: tuple[str, ...]) -> str:
    """Layers in a few words: all of them when they are few, else the first, the last, how many."""
    names = tuple(printable.name(layer, 48) for layer in layers)
    if len(names) <= NAMED_LAYERS:
        return ", ".join(names)
    return f"{names[0]}, {names[1]}, … {names[-1]} ({len(names):,} calls)"


def _setting(setting: Setting, finding_anchors: Mapping[str, Because]) -> SettingView:
    named = isinstance(setting.value, str)
    interval = quantity.interval(setting.low, setting.high)
    if not named and setting.low == setting.high == setting.value:
        interval = quantity.ABSENT
    return SettingView(
        title=wording.setting(printable.name(setting.name)),
        argument=printable.name(setting.name),
        value=_with_unit(setting.value, "" if named else setting.unit),
        details=tuple(
            f"{printable.name(key)} = {_value(value)}" for key, value in setting.config.items()
        ),
        interval=_joined(interval, setting.unit if named else ""),
        current=_current(setting),
        reason=prose.sentence(setting.reason),
        formula=prose.sentence(setting.formula),
        because=tuple(
            dict.fromkeys(
                finding_anchors[print_] for print_ in setting.because if print_ in finding_anchors
            )
        ),
        layers=layers_named(setting.layers),
    )


def _current(setting: Setting) -> str:
    if setting.current is None:
        return ""
    if setting.current == setting.value:
        return "as it is"
    return f"now {_with_unit(setting.current, setting.unit)}"


def _with_unit(value: float | int | str | None, unit: str) -> str:
    return _joined(_value(value), unit)


def _joined(shown: str, unit: str) -> str:
    return f"{shown} {printable.name(unit)}" if unit and shown != quantity.ABSENT else shown


def _value(value: float | int | str | bool | None) -> str:
    return printable.name(value) if isinstance(value, str) else quantity.number(value)
