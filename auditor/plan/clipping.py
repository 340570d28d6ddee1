"""Gradient clipping: by the global norm, between a strict and a loose end measured on batches."""

from __future__ import annotations

import math

from auditor.graph.depth_kind import DepthKind, depth_kind
from auditor.measurement import Distribution
from auditor.plan.advice import Advice
from auditor.plan.case import Case, is_positive, rounded
from auditor.plan.settings import Setting

#: Keras' three ways to clip; an optimizer takes one of them.
CLIP_MODES = ("global_clipnorm", "clipnorm", "clipvalue")
#: Findings that clipping answers.
ANSWERED = ("GEB304", "GEB501", "GEB503", "GEB506", "GEB507", "GEB603", "GEB407")
#: A finding that clipping answers where a norm overflows: NaN stays NaN however it is clipped.
OF_NUMBERS = "GEB503"
#: Findings with which the norms measured are those of an explosion, and no measure of a spike.
EXPLODED = ("GEB304", "GEB507")
#: A finding that clipping does not answer where the layers are normalized: these do not mind the
#: scale of their weights, so that a long step makes the next ones shorter by itself.
OF_DEPTH = "GEB501"
#: The largest norm of a few batches over their median, above which the norms are heavy-tailed.
HEAVY_TAIL = 5.0
#: A clip so many times below the strict end removes scale, not spikes.
MISUSED = 100.0
#: The usual clip where no norm could be measured (Brown 2020; Touvron 2023).
USUAL = 1.0


def clipping(case: Case, *, redrawn: bool) -> Advice:
    """Whether to clip the global gradient norm, and at what.

    Strict end: the 10th percentile of the measured norms (AutoClip, Seetharaman 2020); loose end:
    ten times their mean (Pascanu 2013). The value is the geometric mean of the two: it cuts
    spikes, and leaves an ordinary step alone.
    """
    norms = case.probe.gradient_norm if case.probe else None
    usable = norms if norms and is_positive(norms.p10) and is_positive(norms.mean) else None
    mode, current = _declared(case)
    if mode and current is not None and not _misused(current, usable):
        return _keep(case, mode, current, usable, redrawn)
    why = _why(case, usable, misused=current is not None)
    if not why:
        return Advice(
            notes=(
                "clip: not needed: "
                + (_measured(usable) if usable else "no norms were measured")
                + "; no recurrent or attention layer, no finding of gradients that clipping mends",
            )
        )
    if redrawn or usable is None or case.of(*EXPLODED):
        reason, formula = (
            why,
            "prior: a global norm of 1, as in practice (Brown 2020; Touvron 2023)",
        )
        value, low, high = USUAL, USUAL / 10, USUAL * 10
        if redrawn and norms:
            reason += (
                f"; as saved the norm is {norms.p50:.3g}: clipping alone would leave steps whose "
                "direction is that of a few layers, so redraw the weights first"
            )
    else:
        low, high = usable.p10, 10 * usable.mean
        value = math.sqrt(low * high)
        reason = f"{why}; {_measured(usable)}"
        formula = (
            "√(p10 · 10·mean) of the measured global gradient norms: between AutoClip's strict end "
            "(Seetharaman 2020) and Pascanu 2013's loose end"
        )
    return Advice(
        settings=(
            Setting(
                name="global_clipnorm",
                value=rounded(value),
                low=rounded(low),
                high=rounded(high),
                because=case.because(*ANSWERED),
                reason=reason,
                formula=formula,
                current=current,
            ),
        ),
        notes=_invariance(case),
    )


def _declared(case: Case) -> tuple[str, float | None]:
    if case.declared is not None:
        for mode in CLIP_MODES:
            value = case.declared.number(mode)
            if value is not None and is_positive(value):
                return mode, value
    return "", None


def _misused(current: float, norms: Distribution | None) -> bool:
    return norms is not None and current < norms.p10 / MISUSED


def _keep(
    case: Case, mode: str, current: float, norms: Distribution | None, redrawn: bool
) -> Advice:
    measured = "" if redrawn or norms is None else f"; {_measured(norms)}"
    return Advice(
        settings=(
            Setting(
                name=mode,
                value=current,
                low=current / 10,
                high=current * 10,
                because=case.because(*ANSWERED),
                reason=f"the declared clip is kept{measured}",
                formula="as declared; a factor of ten either way clips alike in order",
                current=current,
            ),
        ),
        notes=_invariance(case),
    )


def _why(case: Case, norms: Distribution | None, *, misused: bool) -> str:
    """Why to clip; empty when nothing asks for it."""
    reasons = []
    if misused:
        reasons.append("the declared clip lies orders of magnitude below every measured norm")
    found = sorted({finding.code for finding in case.of(*ANSWERED)})
    if depth_kind(case.graph) is DepthKind.NORMALIZED:
        found = [code for code in found if code != OF_DEPTH]
    measured = case.probe.gradient_norm if case.probe else None
    if measured is None or not math.isinf(measured.mean):
        found = [code for code in found if code != OF_NUMBERS]
    if found:
        reasons.append(f"{', '.join(found)} found unstable gradients")
    if case.recurrent:
        reasons.append("recurrent layers meet occasional steep gradients")
    if case.attentive:
        reasons.append("attention models meet occasional steep gradients")
    if norms is not None and norms.count > 2 and norms.max > HEAVY_TAIL * norms.p50:
        reasons.append("the gradient norms are heavy-tailed")
    return "; ".join(reasons)


def _measured(norms: Distribution) -> str:
    return (
        f"over {norms.count} batches the global gradient norm is {norms.p50:.3g} (median), "
        f"{norms.max:.3g} (largest)"
    )


def _invariance(case: Case) -> tuple[str, ...]:
    if case.optimizer_name not in {"adam", "adamw", "adamax", "nadam", "rmsprop", "lion", "lamb"}:
        return ()
    return (
        f"clip: {case.optimizer_name} divides by the gradient's own scale, so a clip matters to it "
        "at spikes only, and its exact value little",
    )
