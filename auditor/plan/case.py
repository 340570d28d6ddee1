"""The case a plan is made for: the model, what was found of it and what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeGuard

from auditor.finding import Finding
from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.forecast import Forecast
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import RECURRENT_OPS, Op
from auditor.measurement import ProbeResult

#: The optimizer of a model that was saved without one.
DEFAULT_OPTIMIZER = "adam"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Everything the plan may look at. `forecast` and `probe` are None where there was none."""

    graph: LayerGraph
    findings: tuple[Finding, ...] = ()
    forecast: Forecast | None = None
    probe: ProbeResult | None = None

    @property
    def declared(self) -> OptimizerSettings | None:
        """The optimizer the model was saved with."""
        return self.graph.compile.optimizer if self.graph.compile else None

    @property
    def optimizer_name(self) -> str:
        """The declared optimizer's name, or that of the one an uncompiled model is given."""
        return self.declared.name if self.declared else DEFAULT_OPTIMIZER

    @property
    def declared_rate(self) -> float | None:
        """The declared learning rate: of a schedule, the highest it starts from or warms up to."""
        declared = self.declared
        if declared is None:
            return None
        peak = declared.schedule_config.get("warmup_target") if declared.schedule else None
        rates = [float(rate) for rate in (declared.learning_rate, peak) if is_positive(rate)]
        return max(rates, default=None)

    def because(self, *codes: str) -> tuple[str, ...]:
        """Fingerprints of the findings of these codes."""
        return tuple(finding.fingerprint for finding in self.of(*codes))

    def of(self, *codes: str) -> tuple[Finding, ...]:
        """The findings of these codes."""
        return tuple(finding for finding in self.findings if finding.code in codes)

    @property
    def recurrent(self) -> bool:
        """Whether the model has a recurrent layer."""
        return any(call.op in RECURRENT_OPS for call in self.graph.calls)

    @property
    def attentive(self) -> bool:
        """Whether the model has an attention layer."""
        ops = (Op.ATTENTION, Op.DOT_ATTENTION)
        return any(call.op in ops for call in self.graph.calls)


def is_positive(value: object) -> TypeGuard[float]:
    """Whether a value out of a file or a measurement is a usable positive number."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )


def rounded(value: float, digits: int = 2) -> float:
    """To so many significant digits: a recommendation is no more precise than its evidence."""
    return float(f"{value:.{digits}g}")
