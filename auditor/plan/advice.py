"""What one part of the plan says: settings, and notes where there is nothing to set."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.plan.settings import Setting


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Settings of one kind, and sentences that say why there are no others."""

    settings: tuple[Setting, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def setting(self) -> Setting | None:
        """The setting, where there can be only one."""
        return self.settings[0] if self.settings else None
