"""How each call changes the gradient, and how such a factor is shaded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from auditor.graph.layer_graph import LayerCall
from auditor.measurement import CallMeasurement
from auditor.result import AuditResult

#: |log₁₀| at which a factor's shade deepens: 1.2, 1.6, 2.5, 5 and 16 times either way.
GAIN_STEPS = (0.08, 0.2, 0.4, 0.7, 1.2)
#: The same for a level against the model's median: half a decade, 1½, 3, 6 and 12 decades.
LEVEL_STEPS = (0.5, 1.5, 3.0, 6.0, 12.0)

#: Shades run from "d5" (five steps down) through "0" to "u5" (five steps up); "na" is unknown,
#: "nf" is NaN or infinite.
UNKNOWN, NONFINITE = "na", "nf"


@dataclass(frozen=True, kw_only=True)
class Shades:
    """One call's shades: its own gain, the gradient that reaches it, the size of its output."""

    gain: str = UNKNOWN
    gradient: str = UNKNOWN
    activation: str = UNKNOWN


def gains(result: AuditResult) -> Mapping[str, float]:
    """Factor on ‖∂L/∂h‖ from each call's output to its input, where it is known.

    Measured: the gradient at what feeds the call over the gradient at its own output, taken only
    where the call is all that is fed, because a gradient that several branches sum up into is no
    single branch's. Several inputs count by their geometric mean. Without a probe: the forecast.
    """
    if result.probe is not None:
        measured = ((call, _measured(result, call)) for call in result.graph.calls)
        return {call.id: value for call, value in measured if value is not None}
    if result.forecast is not None:
        return {call_id: call.gain for call_id, call in result.forecast.calls.items()}
    return {}


def random_gains(result: AuditResult) -> Mapping[str, float]:
    """Factor on a random gradient's norm, by the call's Jacobian, for calls without a gain.

    ‖J‖_F/√n_out, as E‖Jᵀg‖² = ‖J‖²_F ‖g‖²/n_out for a g of random direction. Of calls with one
    input only: of several, it is no single one's.
    """
    if result.probe is None:
        return {}
    own, found = gains(result), {}
    for call in result.graph.calls:
        measured = result.probe.calls.get(call.id)
        if measured is None or measured.jacobian is None or call.id in own:
            continue
        factor = measured.jacobian.forward_gain
        if len(result.graph.predecessors(call.id)) == 1 and math.isfinite(factor) and factor > 0:
            found[call.id] = factor
    return found


def measured_change(
    calls: Mapping[str, CallMeasurement], source: str | None, target: str
) -> float | None:
    """‖∂L/∂h‖ at `source` over that at `target`; None unless both are finite and positive."""
    if source is None:
        return None
    before, after = (calls.get(call_id) for call_id in (source, target))
    if before is None or after is None or not before.finite_backward or not after.finite_backward:
        return None
    return _quotient(before.gradient_norm, after.gradient_norm)


def shades(result: AuditResult) -> Mapping[str, Shades]:
    """Shades of every call that something is known of."""
    calls = result.probe.calls if result.probe is not None else {}
    gradient_median = _median(call.gradient_norm for call in calls.values())
    rms_median = _median(call.rms for call in calls.values())
    known = {**gains(result), **random_gains(result)}
    shaded: dict[str, Shades] = {}
    for call in result.graph.calls:
        measured = calls.get(call.id)
        if measured is None:
            shaded[call.id] = Shades(gain=shade(known.get(call.id), GAIN_STEPS))
            continue
        bad = not (measured.finite_forward and measured.finite_backward)
        shaded[call.id] = Shades(
            gain=NONFINITE if bad else shade(known.get(call.id), GAIN_STEPS),
            gradient=_level(measured.gradient_norm, gradient_median, measured.finite_backward),
            activation=_level(measured.rms, rms_median, measured.finite_forward),
        )
    return shaded


def shade(value: float | None, steps: tuple[float, ...]) -> str:
    """The shade of a factor: "0" near one, "u" above, "d" below, deeper with each step."""
    if value is None:
        return UNKNOWN
    if not math.isfinite(value) or value < 0:
        return NONFINITE
    if value == 0:
        return f"d{len(steps)}"
    size = math.log10(value)
    depth = sum(abs(size) >= step for step in steps)
    return f"{'u' if size > 0 else 'd'}{depth}" if depth else "0"


def _measured(result: AuditResult, call: LayerCall) -> float | None:
    if result.probe is None:
        return None
    sources = result.graph.predecessors(call.id)
    if not sources or any(len(result.graph.successors(source.id)) != 1 for source in sources):
        return None
    changes = [measured_change(result.probe.calls, source.id, call.id) for source in sources]
    known = [math.log(change) for change in changes if change]
    return math.exp(sum(known) / len(known)) if len(known) == len(sources) else None


def _level(value: float | None, median: float | None, finite: bool) -> str:
    if not finite:
        return NONFINITE
    if value is None or not median:
        return UNKNOWN
    return shade(value / median, LEVEL_STEPS)


def _quotient(above: float | None, below: float | None) -> float | None:
    if not above or not below or not (math.isfinite(above) and math.isfinite(below)):
        return None
    quotient = above / below
    return quotient if math.isfinite(quotient) and quotient > 0 else None


def _median(values: Iterable[float | None]) -> float | None:
    """Median of those that are finite and positive, taken on a log scale by nature of a rank."""
    usable = sorted(value for value in values if value and math.isfinite(value) and value > 0)
    return usable[len(usable) // 2] if usable else None
