"""The verdict in a word, a sentence and headline numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.finding import Severity
from auditor.measurement import ProbeResult, few_normalized, least_loss
from auditor.result import AuditResult, Verdict

from . import estimate_view, printable, prose, quantity, wording
from .jacobian_view import local_gains
from .prose import Span
from .time_view import furthest, reach

PROBE_SKIPPED = "probe skipped: "
#: A growth a layer whose 95 % interval spans more than this factor is not told from any other.
TELLING = 10.0


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One number that counts, with what it is and how sure it is."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class VerdictView:
    """`key` names the verdict for styling; `word` and `sentence` are what people read."""

    key: str
    word: str
    sentence: tuple[Span, ...]
    tally: str
    headlines: tuple[Headline, ...]
    risk: RiskView | None


@dataclass(frozen=True, kw_only=True)
class RiskView:
    """What the risk's number rests on: what speaks for a failure, and the calibration."""

    reasons: tuple[str, ...]
    calibration: str


def verdict_view(result: AuditResult) -> VerdictView:
    """The verdict on one model."""
    return VerdictView(
        key=result.verdict.value,
        word=wording.VERDICTS[result.verdict],
        sentence=_sentence(result),
        tally=wording.tally(tuple(finding.severity for finding in result.findings)),
        headlines=tuple(_headlines(result)),
        risk=None
        if result.risk is None
        else RiskView(reasons=result.risk.reasons, calibration=result.risk.calibration),
    )


def probe_reason(result: AuditResult) -> str:
    """Why no probe ran, without the words "probe skipped:"."""
    return prose.plain(result.probe_skipped.removeprefix(PROBE_SKIPPED))


def _sentence(result: AuditResult) -> tuple[Span, ...]:
    probe = result.probe
    errors = result.at_least(Severity.ERROR)
    if result.verdict in (Verdict.EXPLODING, Verdict.VANISHING) and probe is not None:
        said = _propagation(result.verdict, probe)
        if said:
            return prose.spans(said)
    if errors:
        more = len(errors) - 1
        rest = f" And {wording.plural(more, 'more error', 'more errors')}." if more else ""
        return prose.spans(errors[0].message + rest)
    if probe is None:
        reason = probe_reason(result) or "no probe ran"
        return prose.spans(f"No error found, but propagation was not measured: {reason}.")
    if reason := few_normalized(probe):
        return prose.spans(f"No error found, but propagation was not judged: {reason}.")
    if not _determined(probe):
        return prose.spans("No error found in the file or in what was measured.")
    over = f", {quantity.factor(probe.gradient_ratio)} from the last eighth of them to the first"
    return prose.spans(
        f"No error found. The gradient changes by {quantity.factor(probe.growth_rate)} a layer "
        f"toward the input{over if _usable(probe.gradient_ratio) else ''}."
    )


def _propagation(verdict: Verdict, probe: ProbeResult) -> str:
    if probe.growth_rate is None or not _determined(probe):
        return ""
    rate = quantity.number(probe.growth_rate)
    ends = quantity.number(probe.gradient_ratio) if _usable(probe.gradient_ratio) else ""
    if verdict is Verdict.EXPLODING:
        if probe.growth_rate <= 1:
            return ""
        end = f"; the first eighth of the layers gets {ends} times that of the last" if ends else ""
        return f"The gradient grows by a factor of {rate} a layer toward the input{end}."
    end = f"; the first eighth of the layers receives {ends} of what the last does" if ends else ""
    return f"The gradient shrinks by a factor of {rate} a layer toward the input{end}."


def _headlines(result: AuditResult) -> Iterator[Headline]:
    risk = result.risk
    if risk is not None:
        yield Headline(
            label="Risk that training fails",
            value=_per_cent(risk.probability),
            detail=f"95 %: {_per_cent(risk.low)} to {_per_cent(risk.high)}, calibrated on outcomes",
        )
    if result.probe is not None:
        yield from _measured(result, result.probe)
    elif result.forecast is not None and result.forecast.growth_rate is not None:
        yield Headline(
            label="Forecast growth a layer",
            value=quantity.factor(result.forecast.growth_rate),
            detail=f"not measured; covers {quantity.share(result.forecast.covered)} of the calls",
        )


def _measured(result: AuditResult, probe: ProbeResult) -> Iterator[Headline]:
    if probe.growth_rate is not None:
        interval = probe.growth_interval
        sure = f"95 %: {quantity.interval(*interval)}, " if interval else ""
        calls = wording.plural(probe.growth_points, "layer", "layers")
        told = _determined(probe)
        yield Headline(
            label="Gradient growth a layer",
            value=quantity.factor(probe.growth_rate) if told else "not determined",
            detail=f"{sure}fitted to {calls}" if told else f"{calls} do not tell",
        )
    if probe.gradient_ratio is not None:
        yield Headline(
            label="Gradient, first ÷ last eighth",
            value=quantity.factor(probe.gradient_ratio),
            detail=f"medians, of {wording.plural(probe.growth_points, 'layer', 'layers')} with a "
            "kernel; no activated head",
        )
    if probe.forward_ratio is not None:
        yield Headline(
            label="Activations, last ÷ first",
            value=quantity.factor(probe.forward_ratio),
            detail="rms of the outputs",
        )
    if probe.loss_at_start is not None:
        healthy = probe.loss_expected
        yield Headline(
            label="Loss at start",
            value=quantity.number(probe.loss_at_start),
            detail=wording.words(printable.name(probe.loss))
            if healthy is None
            else f"a healthy head: {quantity.number(healthy)}",
        )
    yield from _local(result)
    norm = probe.gradient_norm
    if norm is not None:
        yield Headline(
            label="Gradient norm, median",
            value=quantity.number(norm.p50),
            detail=f"10 to 90 %: {quantity.interval(norm.p10, norm.p90)}",
        )
    yield from _trials(result, probe)


def _trials(result: AuditResult, probe: ProbeResult) -> Iterator[Headline]:
    """The loss over the first steps; over a long trial, and that of rescaled kernels."""
    if len(probe.trial_losses) > 1:
        lost = "" if math.isfinite(probe.trial_losses[-1]) else "; not finite from there on"
        yield Headline(
            label="Loss, first steps",
            value=_from_to(probe.trial_losses, probe.trial_losses[-1]),
            detail=f"over {_steps(probe.trial_losses)}{_optimizer(result)}{lost}",
        )
    if probe.trial_long:
        yield Headline(
            label="Loss, long trial",
            value=_from_to(probe.trial, least_loss(probe.trial)),
            detail=f"least of {_steps(probe.trial)} on one batch",
        )
    if probe.rescaled_trial is not None:
        losses = probe.rescaled_trial.losses
        kernels = wording.plural(probe.rescaled_trial.kernels, "kernel", "kernels")
        yield Headline(
            label="The same, rescaled",
            value=_from_to(losses, least_loss(losses)),
            detail=f"least of {_steps(losses)}, {kernels} at unit variance (LSUV)",
        )


def _from_to(losses: tuple[float, ...], then: float) -> str:
    return f"{quantity.number(losses[0])} → {quantity.number(then)}"


def _steps(losses: tuple[float, ...]) -> str:
    return wording.plural(len(losses) - 1, "step", "steps")


def _per_cent(probability: float) -> str:
    """In whole per cent; a chance that is not quite none or all never says so."""
    if probability < 0.01:
        return "< 1 %"
    return "> 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def _local(result: AuditResult) -> Iterator[Headline]:
    """The Jacobians of single calls, and of a recurrent layer's steps."""
    gains = local_gains(result)
    if gains is not None:
        of = "layers with a kernel" if gains.kernels else "calls"
        yield Headline(
            label="Local gains",
            value=quantity.interval(gains.low, gains.high),
            detail=f"middle 80 % of {of}; largest σ₁ {estimate_view.value(gains.largest)} at "
            f"{printable.name(gains.where, 60)}",
        )
    recurrent = furthest(result)
    if recurrent is not None:
        call_id, time = recurrent
        yield Headline(
            label="Growth along time",
            value=quantity.factor(time.growth.value),
            detail=f"a step, {printable.name(call_id, 60)}; {reach(time)}",
        )


def _optimizer(result: AuditResult) -> str:
    optimizer = result.graph.compile.optimizer if result.graph.compile else None
    if optimizer is None:
        return ""
    rate = optimizer.learning_rate
    at = "" if rate is None else f" at {quantity.number(rate)}"
    if optimizer.schedule is not None:
        at = " on its schedule"
    return f" of {wording.optimizer(printable.name(optimizer.name, 24))}{at}"


def _determined(probe: ProbeResult) -> bool:
    """Whether the growth a layer is told well enough to be shown."""
    if not _usable(probe.growth_rate):
        return False
    if probe.growth_interval is None:
        return True
    low, high = probe.growth_interval
    return low > 0 and high / low <= TELLING


def _usable(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
