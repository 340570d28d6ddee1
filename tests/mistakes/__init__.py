"""Mistakes that people make, each as a broken model, its mended twin, and the code it should get.

One file a family holds a tuple of `Mistake`; the test beside the rules audits both sides of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from auditor import AuditResult, Finding, audit

#: Makes a model, compiled as its author would. Called once for each audit.
Make = Callable[[], keras.Model]
#: Makes what `audit(..., data=…)` takes: arrays x and y.
MakeData = Callable[[], tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake.

    name: unique within its file, in words with underscores. broken, mended: the model as people
    write it, and the same with nothing but the mistake mended. code: the rule that has to say it,
    at warning or above. data: arrays (x, y) both are audited with; None for none. mended_data:
    the arrays of the mended twin, where the mistake is in the data. probed: whether only the probe
    can see it.
    """

    name: str
    broken: Make
    mended: Make
    code: str
    data: MakeData | None = None
    mended_data: MakeData | None = None
    probed: bool = False

    def audited(self, *, mended: bool, **options: Any) -> AuditResult:
        """The audit of one side, live and in this process, from seed 0."""
        keras.utils.set_random_seed(0)
        model = (self.mended if mended else self.broken)()
        data = self.mended_data if mended and self.mended_data is not None else self.data
        given = {} if data is None else {"data": data()}
        return audit(model, probe=self.probed, **{**given, **options})

    def told(self, *, mended: bool, **options: Any) -> tuple[Finding, ...]:
        """What is said of one side under the intended code, at warning or above."""
        result = self.audited(mended=mended, **options)
        return tuple(f for f in result.at_least("warning") if f.code == self.code)


def missed(mistakes: Iterable[Mistake], **options: Any) -> Mapping[str, str]:
    """The mistakes whose broken side does not get the intended code, with what it got instead."""
    wrong = {}
    for mistake in mistakes:
        found = mistake.audited(mended=False, **options).at_least("warning")
        if all(finding.code != mistake.code for finding in found):
            got = sorted({finding.code for finding in found})
            wrong[mistake.name] = f"wanted {mistake.code}, got {', '.join(got) or 'nothing'}"
    return wrong


def accused(mistakes: Iterable[Mistake], **options: Any) -> Mapping[str, str]:
    """The mistakes whose mended twin gets the intended code, with what is said of it."""
    return {
        mistake.name: "; ".join(finding.message for finding in found)
        for mistake in mistakes
        if (found := mistake.told(mended=True, **options))
    }
