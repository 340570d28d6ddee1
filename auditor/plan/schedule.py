"""Dynamic adjustment of the learning rate: on a plateau, with a warm-up, or as declared."""

from __future__ import annotations

import math

from auditor.plan.advice import Advice
from auditor.plan.case import Case, is_positive, rounded
from auditor.plan.settings import Setting

#: Schedules of keras.optimizers.schedules, and the arguments of each that a plan hands on.
KERAS_SCHEDULES = {
    "CosineDecay": (
        "initial_learning_rate",
        "decay_steps",
        "alpha",
        "warmup_target",
        "warmup_steps",
    ),
    "CosineDecayRestarts": (
        "initial_learning_rate",
        "first_decay_steps",
        "t_mul",
        "m_mul",
        "alpha",
    ),
    "ExponentialDecay": ("initial_learning_rate", "decay_steps", "decay_rate", "staircase"),
    "InverseTimeDecay": ("initial_learning_rate", "decay_steps", "decay_rate", "staircase"),
    "PolynomialDecay": (
        "initial_learning_rate",
        "decay_steps",
        "end_learning_rate",
        "power",
        "cycle",
    ),
}
#: Arguments that are rates, and scale with the rate the plan recommends.
RATES = ("initial_learning_rate", "end_learning_rate", "warmup_target")
REQUIRED = {
    "CosineDecay": ("decay_steps",),
    "CosineDecayRestarts": ("first_decay_steps",),
    "ExponentialDecay": ("decay_steps", "decay_rate"),
    "InverseTimeDecay": ("decay_steps", "decay_rate"),
    "PolynomialDecay": ("decay_steps",),
}
#: A warm-up starts at this share of the rate.
WARMUP_START = 0.01
#: Warm-up steps where no β₂ says how many (Goyal 2017 takes five epochs).
WARMUP_STEPS = 500
OTHERS = (
    "schedule: when the length of the run is known, keras.optimizers.schedules.CosineDecay over "
    "its steps does as well (Loshchilov & Hutter 2017)"
)


def schedule(case: Case, rate: Setting | None, *, redrawn: bool) -> Advice:
    """A declared schedule is kept; a warm-up where the first steps overshoot; else on a plateau.

    `rate` is the recommended learning rate, which the schedule starts from or leads to; `redrawn`
    says that the plan replaces the weights the first step was measured with.
    """
    if rate is None or not isinstance(rate.value, (int, float)):
        return Advice()
    if case.declared is not None and case.declared.schedule is not None:
        return _declared(case, float(rate.value))
    why = _why_warmup(case, float(rate.value), redrawn=redrawn)
    if why:
        return _warmup(case, float(rate.value), why)
    return _plateau(float(rate.value), rate.because)


def _plateau(rate: float, because: tuple[str, ...]) -> Advice:
    return Advice(
        settings=(
            Setting(
                name="schedule",
                value="ReduceLROnPlateau",
                because=because,
                reason="the run's length is not known, so the rate is halved whenever the loss has "
                'stalled for five epochs; monitor "val_loss" where there is validation data',
                formula="halving on a plateau (Keras' ReduceLROnPlateau; patience of 5 epochs)",
                config={
                    "monitor": "loss",
                    "factor": 0.5,
                    "patience": 5,
                    "cooldown": 1,
                    "min_lr": rounded(rate / 1000),
                },
            ),
        ),
        notes=(OTHERS,),
    )


def _why_warmup(case: Case, rate: float, *, redrawn: bool) -> str:
    """Why the first steps want a lower rate; empty when nothing says so."""
    if case.of("GEB605"):
        return "GEB605 advises a warm-up"
    if case.attentive:
        return "attention models trained from scratch overshoot in their first steps"
    probe = case.probe
    if redrawn or probe is None or probe.step_slope is None or probe.step_curvature is None:
        return ""
    slope, curvature = abs(probe.step_slope), probe.step_curvature
    if not is_positive(slope) or not is_positive(curvature) or rate * curvature <= 2 * slope:
        return ""
    return (
        f"a first step at {rate:g} overshoots: the quadratic model of the loss along it turns up "
        f"beyond {2 * slope / curvature:.2g}"
    )


def _warmup(case: Case, rate: float, why: str) -> Advice:
    beta = _beta_2(case)
    steps = WARMUP_STEPS if beta is None else round(1 / (1 - beta))
    return Advice(
        settings=(
            Setting(
                name="schedule",
                value="PolynomialDecay",
                low=rounded(steps / 10),
                high=float(2 * steps),
                unit="steps of warm-up",
                because=case.because("GEB605"),
                reason=f"{why}; the rate rises over {steps} steps, then stays",
                formula="linear warm-up over 1/(1−β₂) steps, half of Ma & Yarats 2021's; Gilmer "
                "2021: needed where η·dᵀHd > 2·|dᵀ∇L|"
                if beta is not None
                else "linear warm-up (Goyal 2017); Gilmer 2021: needed where η·dᵀHd > 2·|dᵀ∇L|",
                config={
                    "initial_learning_rate": rounded(rate * WARMUP_START),
                    "decay_steps": steps,
                    "end_learning_rate": rate,
                    "power": 1.0,
                },
            ),
        ),
        notes=(
            f"schedule: in a run shorter than {10 * steps} steps, warm up over a tenth of it",
            "schedule: when the length of the run is known, CosineDecay with warmup_target and "
            "warmup_steps also lowers the rate toward the end (Loshchilov & Hutter 2017)",
        ),
    )


def _beta_2(case: Case) -> float | None:
    """β₂ of an Adam-like optimizer, as declared or by default."""
    if case.optimizer_name not in {"adam", "adamw", "adamax", "nadam", "lamb"}:
        return None
    declared = case.declared.number("beta_2") if case.declared else None
    return declared if declared is not None and 0.9 <= declared <= 0.9999 else 0.999


def _declared(case: Case, rate: float) -> Advice:
    """The declared schedule, its rates scaled to the recommended one."""
    declared = case.declared
    if declared is None or declared.schedule not in KERAS_SCHEDULES:
        name = declared.schedule if declared else None
        return Advice(
            notes=(
                f"schedule: the declared {name!r} cannot be written out here; to keep it, hand it "
                "to the optimizer in place of the recommended rate, scaled to start from that",
            )
        )
    scale = rate / case.declared_rate if case.declared_rate else 1.0
    config: dict[str, float | int | str | bool] = {}
    for key in KERAS_SCHEDULES[declared.schedule]:
        value = declared.schedule_config.get(key)
        if isinstance(value, bool):
            config[key] = value
        elif isinstance(value, (int, float)) and math.isfinite(value):
            config[key] = rounded(value * scale, 6) if key in RATES else value
    config.setdefault("initial_learning_rate", rate)
    if any(not is_positive(config.get(key)) for key in REQUIRED[declared.schedule]):
        return Advice(
            notes=(f"schedule: the declared {declared.schedule} has no usable length; not kept",)
        )
    return Advice(
        settings=(
            Setting(
                name="schedule",
                value=declared.schedule,
                current=declared.schedule,
                reason="the declared schedule is kept"
                + ("" if scale == 1.0 else f", its rates times {scale:.3g}"),
                formula="as declared",
                config=config,
            ),
        )
    )
