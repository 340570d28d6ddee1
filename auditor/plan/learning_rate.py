"""The learning rate: from one measured step where there was a probe, from practice where not.

`bench/learning_rate.py` is the evidence. Sixteen small networks (eight to fit on, eight of other
families), each at eleven rates with plain SGD, heavy ball and Adam, say of the estimates that a
plain audit can afford:

- Polyak's step L₀/s, s the slope of the loss along the optimizer's first update, is the most
  informative: it knows scale, depth and architecture, needs no curvature, and so does not fail on
  BatchNormalization, where the curvature along the first step is negative or near zero.
- It overshoots in proportion: between networks the best rate goes with its square root.
- A rate too high costs far more than one too low, so the constant k is the one with the lowest
  geometric mean of (loss reached / loss reached at the best rate), not the one that hits the best
  rate most nearly.

After 150 steps the best rate lay inside the interval in 47 of 48 cases measured on digits and in 47
of 48 on synthetic batches; the value was off by a factor 2.5 (median), 32 (worst: a declared rate
that was kept). After 600 steps it was 43 and 47 of 48. The cheapest constants of the eight networks
and of the eight others lie within a factor 1.6 of each other; the constants and the widths were
chosen with all sixteen in view, and so are no held-out result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditor.graph.freshness import fresh_share
from auditor.measurement import falls
from auditor.plan.advice import Advice
from auditor.plan.case import Case, is_positive, rounded
from auditor.plan.settings import Setting

#: Findings that say the declared rate is too high.
TOO_HIGH = ("GEB601",)
#: A trial has diverged when it ends at so many times its first loss (Smith 2017 stops there).
DIVERGED = 4.0
#: A quadratic model whose lowest point takes less than this share off the loss says nothing.
TELLS = 1e-3
#: A lowest point so far below the rates of practice is no measurement any more.
LEAST = 1e-3
#: A trial works when it takes this share off the loss of its batch, without ever raising it.
WORKS = 1e-2
#: The interval is so much wider either way where the batches were not real data.
SYNTHETIC = 1.5
#: Trained weights are tuned at rates about ten times below those of a fresh start, in practice.
FINE_TUNING = 10.0


@dataclass(frozen=True, kw_only=True)
class Law:
    """What is known of the best rate under one kind of optimizer.

    `factor` is k in η = k·√(L₀/|s|), None where it was not measured; the best rate lay between
    value/`below` and value·`above` in at least nine of ten cases. `usual`, between `low` and
    `high`, is the rate of practice where nothing was measured.
    """

    usual: float
    low: float
    high: float
    factor: float | None = None
    below: float = 4.0
    above: float = 6.0


ADAPTIVE = Law(usual=1e-3, low=1e-5, high=3e-2, factor=0.05, below=5.0, above=3.0)
HEAVY_BALL = Law(usual=1e-2, low=1e-4, high=3e-1, factor=0.05)
PLAIN_SGD = Law(usual=5e-2, low=1e-3, high=2.0, factor=0.2, above=8.0)
#: By lower-case Keras name; sgd is told apart by its momentum.
LAWS = {
    "adam": ADAPTIVE,
    "adamw": ADAPTIVE,
    "adamax": ADAPTIVE,
    "nadam": ADAPTIVE,
    "rmsprop": ADAPTIVE,
    # a sign step of constant size wants a rate 3 to 10 times lower than Adam's (Chen 2023, §4)
    "lion": Law(usual=2e-4, low=1e-5, high=3e-3),
    # Duchi 2011's own rate; at 0.001 a small network on digits hardly moves in six epochs, and the
    # best of 0.001, 0.01, 0.1 and 1 is 0.1
    "adagrad": Law(usual=1e-1, low=5e-3, high=5e-1),
    # Zeiler 2012; the same network: 2.34 at 0.001, 1.82 at 0.1, 0.12 at 1
    "adadelta": Law(usual=1.0, low=1e-1, high=10.0),
    "adafactor": Law(usual=1e-2, low=1e-3, high=1e-1),  # Shazeer & Stern 2018, relative steps
    "ftrl": Law(usual=1e-1, low=1e-2, high=1.0),
    # the same network: 1.29 at 0.001, 0.11 at 0.01 and 2.3 at 0.1; You 2020, table 1
    "lamb": Law(usual=5e-3, low=2e-3, high=2e-2),
    # the same network: 1.51 at 0.001, 0.03 at 0.01 and 1.22 at 0.1; Jordan 2024 takes 0.02
    "muon": Law(usual=1e-2, low=2e-3, high=5e-2),
}
#: Attention makes Adam want less: 1e-4 … 1e-3 in practice (Vaswani 2017; Touvron 2023).
ATTENTIVE = Law(usual=3e-4, low=1e-5, high=1e-2, factor=0.05, below=5.0, above=3.0)


def learning_rate(case: Case, *, redrawn: bool) -> Advice:
    """The rate to train with, and the interval its evidence supports.

    A declared rate inside the interval is kept; so is one above it that lowers the loss in every
    trial step, and on synthetic batches, whose scale is not that of the data, one below it that
    does. One that makes the loss rise gives way to the highest of those tried that does not, and
    to what the curvature along the first step allows. `redrawn` says that the plan replaces
    initial weights: what was measured with the old ones then tells nothing of the new ones.
    """
    law = _law(case)
    current = case.declared_rate
    if law is None:
        return Advice(
            settings=_declared(current),
            notes=(
                f"learning rate: nothing is known of the optimizer {case.optimizer_name!r}, so "
                "its declared rate is left as it is",
            ),
        )
    value, low, high, reason, formula = _from_probe(case, law, redrawn) or _from_practice(
        case, law, redrawn
    )
    value, low, high = rounded(value), rounded(low), rounded(high)
    if current is not None:
        blame = "" if redrawn else _too_high(case)
        if blame:
            value, high, tried = _lowered(case, value, min(high, current / 2), current)
            low = min(low, value / law.below)
            reason = f"{blame}; {tried}{reason}"
        elif low <= current <= high:
            value = current
            reason = f"current value is inside the interval; {reason}"
        elif not redrawn and _works(case, law, current, low):
            value, low, high = current, min(low, current), max(high, current)
            reason = f"the current value lowers the loss of its batch in every trial step; {reason}"
    if not redrawn:
        best = _lowest_point(case, law)
        if best is not None and value != current and value > best:
            formula += (
                f", held at the lowest point along the first step, slope/curvature = {best:.2g}"
            )
            value, low = best, min(low, best)
        if best is not None:
            high = max(min(high, 2 * best), value)
    return Advice(
        settings=(
            Setting(
                name="learning_rate",
                value=value if value == current else rounded(value),
                low=rounded(low),
                high=rounded(high),
                because=case.because(*TOO_HIGH, "GEB602"),
                reason=reason,
                formula=formula,
                current=current,
            ),
        )
    )


def _lowered(case: Case, value: float, high: float, current: float) -> tuple[float, float, str]:
    """Value, high and words after what was tried in place of a rate that is too high."""
    tried = case.probe.rate_trials if case.probe else ()
    calm = next((trial for trial in tried if trial.falls), None)
    if calm is None:
        return min(value, current / 10), high, ""
    losses = calm.losses
    return (
        min(value, calm.rate),
        min(high, 10 * calm.rate),  # the rate before it made the loss rise
        f"at {calm.rate:.2g} it was tried, and the loss fell from {losses[0]:.3g} to "
        f"{losses[-1]:.3g} in {len(losses) - 1} steps; ",
    )


def _lowest_point(case: Case, law: Law) -> float | None:
    """The rate at which a quadratic model of the loss along the first step is lowest.

    The loss goes down until twice that (Cohen 2021: η < 2/λ). None where the curvature is not
    positive, or where the model takes next to nothing off the loss and so says nothing.
    """
    probe = case.probe
    if probe is None or probe.step_slope is None or not is_positive(probe.step_curvature):
        return None
    slope, loss = abs(probe.step_slope), probe.loss_at_start
    best, gain = slope / probe.step_curvature, slope * slope / probe.step_curvature / 2
    if not is_positive(best) or not is_positive(loss) or not gain >= TELLS * loss:
        return None
    return best if best >= LEAST * law.low else None


def _works(case: Case, law: Law, current: float, low: float) -> bool:
    """Whether a declared rate outside the interval is one that practice knows and that trains.

    Below the interval that counts on synthetic batches only: the scale of the data, and with it
    how far the rate may be raised, is not theirs.
    """
    probe = case.probe
    if probe is None or not law.low <= current <= law.high or not falls(probe.trial_losses):
        return False
    first, last = probe.trial_losses[0], probe.trial_losses[-1]
    enough = first - last >= WORKS * abs(first)
    return enough and (current > low or probe.data == "synthetic")


def _law(case: Case) -> Law | None:
    name = case.optimizer_name
    if name == "sgd":
        return HEAVY_BALL if _momentum(case) >= 0.5 else PLAIN_SGD
    law = LAWS.get(name)
    return ATTENTIVE if law is ADAPTIVE and case.attentive else law


def _momentum(case: Case) -> float:
    return (case.declared.number("momentum") or 0.0) if case.declared else 0.0


def _from_probe(case: Case, law: Law, redrawn: bool) -> tuple[float, float, float, str, str] | None:
    """Value, low, high, reason and formula from the measured first step; None without one."""
    probe = case.probe
    if redrawn or law.factor is None or probe is None or case.declared is None:
        return None
    loss, slope = probe.loss_at_start, probe.step_slope
    if loss is None or slope is None or not is_positive(loss) or not is_positive(abs(slope)):
        return None
    if case.graph.compile and any(declared.custom for declared in case.graph.compile.losses):
        return None  # Polyak's step supposes that the loss ends near zero
    measured = law.factor * math.sqrt(loss / abs(slope))
    # A slope out of all proportion (gradients vanish or explode) would ask for a rate nobody uses.
    value = min(max(measured, law.low), law.high)
    held = "" if value == measured else f", held between {law.low:g} and {law.high:g}"
    reason = (
        f"the loss starts at {loss:.3g} and falls by {abs(slope):.3g} a unit of rate along "
        f"{case.optimizer_name}'s first update ({probe.data} data){_trial(case)}"
    )
    formula = (
        f"{law.factor:g}·√(loss / slope): Polyak 1987's step in geometric mean with one rate for "
        f"all, factor and interval measured on 16 networks (bench/learning_rate.py){held}"
    )
    wider = SYNTHETIC if probe.data == "synthetic" else 1.0
    low, high = value / (law.below * wider), value * law.above * wider
    if _trained(case):
        low /= FINE_TUNING
        reason += "; the weights are trained already, and such are tuned at lower rates"
    return value, low, high, reason, formula


def _from_practice(case: Case, law: Law, redrawn: bool) -> tuple[float, float, float, str, str]:
    if redrawn:
        why = "measured with weights that this plan redraws, so not from the measurement"
    elif case.probe is None:
        why = "no probe measured a step, so the interval is wide"
    else:
        why = "the probe gave no usable loss and slope of the first step, so the interval is wide"
    kind = " with attention" if law is ATTENTIVE else ""
    return (
        law.usual,
        law.low,
        law.high,
        f"usual for {case.optimizer_name}{kind}; {why}",
        "prior by optimizer and architecture, from practice (bench/learning_rate.py: the best "
        "rates of small networks spread over 1.5 decades for one optimizer)",
    )


def _trained(case: Case) -> bool:
    """Whether most kernels hold values that are no fresh draw of their initializers."""
    fresh = fresh_share(case.graph)
    return fresh is not None and fresh < 0.5


def _too_high(case: Case) -> str:
    """What says that the declared rate is too high; empty when nothing does."""
    findings = case.of(*TOO_HIGH)
    if findings:
        return f"{findings[0].code} finds the declared rate {case.declared_rate:g} too high"
    probe = case.probe
    # Without a slope, the gradient or the optimizer's own step was not finite: at whatever rate.
    losses = probe.trial_losses if probe and probe.step_slope is not None else ()
    if len(losses) > 1 and is_positive(losses[0]):
        if not all(math.isfinite(loss) for loss in losses):
            return f"the loss is not finite within {len(losses)} steps at {case.declared_rate:g}"
        if losses[-1] > DIVERGED * losses[0]:
            return (
                f"the loss of one batch rose from {losses[0]:.3g} to {losses[-1]:.3g} in "
                f"{len(losses) - 1} steps at {case.declared_rate:g}"
            )
    return ""


def _trial(case: Case) -> str:
    losses = case.probe.trial_losses if case.probe else ()
    if len(losses) < 2 or not all(math.isfinite(loss) for loss in losses):
        return ""
    return (
        f"; at the declared rate one batch's loss went from {losses[0]:.3g} to {losses[-1]:.3g} "
        f"in {len(losses) - 1} steps"
    )


def _declared(current: float | None) -> tuple[Setting, ...]:
    if current is None:
        return ()
    return (
        Setting(
            name="learning_rate",
            value=current,
            current=current,
            reason="the optimizer is not one geb-audit knows; its declared rate is kept",
            formula="as declared",
        ),
    )
