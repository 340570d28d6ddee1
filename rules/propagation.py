"""GEB5: propagation, as the probe measured it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.depth_kind import DepthKind, depth_kind
from auditor.measurement import ProbeResult, few_normalized
from auditor.risk import Risk, assess, rate_too_high
from auditor.rule import Context, Needs, Option, rule

from .attention_scale import attention_saturation
from .forecast import forecast_exploding, forecast_vanishing
from .gradient_noise import gradient_noise
from .local_gain import hot_layer, poor_isometry
from .loss_at_start import loss_at_start
from .non_finite import non_finite
from .recurrent_growth import recurrent_explosion
from .residual_growth import residual_variance_growth
from .saturation import saturated_units
from .stuck_trial import (
    divides_by_gradient,
    kept_by_propagation,
    moves_as_usual,
    rescaled_evidence,
    rescaled_remedy,
)
from .zero_gradient import zero_gradient_parameters

__all__ = [
    "attention_saturation",
    "exploding_gradient",
    "forecast_exploding",
    "forecast_vanishing",
    "gradient_noise",
    "hot_layer",
    "loss_at_start",
    "non_finite",
    "poor_isometry",
    "recurrent_explosion",
    "residual_variance_growth",
    "saturated_units",
    "vanishing_gradient",
    "zero_gradient_parameters",
]

#: The chance that the rate is too high from which it is that, and not the propagation.
RATE_AT_FAULT = 0.8
REGRESSION = "least squares of log ‖∂L/∂h‖ on depth, within stages of equal shape"
ENDS = "median over the first eighth of the kernel layers over that of the last eighth"


@rule(
    "GEB501",
    "exploding-gradient",
    severity=Severity.ERROR,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(
            name="ratio",
            default=1e3,
            meaning="least growth of the gradient's norm from output to input that is an error",
        ),
        Option(
            name="normalized-ratio",
            default=1e6,
            meaning="the same where every layer is normalized; a warning below it",
        ),
        Option(
            name="likely-ratio",
            default=12.0,
            meaning="the same where the calibrated risk of failing is as high as `risk`",
        ),
        Option(name="risk", default=0.8, meaning="calibrated risk from which that counts"),
    ),
)
def exploding_gradient(context: Context) -> Iterator[Finding | Skipped]:
    """The gradient grows from layer to layer on its way to the input.

    ## What it does
    Compares the norm of the loss's gradient at the first layers with that at the last ones, and
    fits the growth a kernel-bearing layer. Fires when the gradient grows by `ratio` or more over
    the depth of the model *and* the 95 % interval of the growth rate lies above 1. Where nearly
    every layer is normalized it is a warning below `normalized-ratio`. Elsewhere `likely-ratio` is
    enough where the risk that training fails is calibrated for such a model, is `risk` or more,
    and the learning rate is not the likelier cause. Layers before the first trainable weight do
    not count: no gradient is needed there.

    ## Why is this bad
    The first layers get steps that are orders of magnitude too large for them, or the last ones
    steps too small to matter: no single learning rate fits both. In float32 the gradient soon
    overflows and the loss becomes NaN. On plain networks trained on digits, a ratio beyond 10³
    either way failed nearly always, while healthy networks stay within two decades of 1.

    ## Evidence
    Measured by the probe on sample batches: the ratio of gradient norms between both ends, the
    growth rate with its 95 % interval. Both must agree, so that a change of resolution or one
    odd layer does not look like an explosion.

    ## Example
    ```python
    keras.Sequential(
        [keras.Input((256,))]
        + [
            keras.layers.Dense(256, "relu", kernel_initializer=RandomNormal(stddev=0.2))
            for _ in range(30)
        ]
        + [keras.layers.Dense(10, "softmax")]
    )
    ```

    ## Use instead
    ```python
    keras.Sequential(
        [keras.Input((256,))]
        + [keras.layers.Dense(256, "relu", kernel_initializer="he_normal") for _ in range(30)]
        + [keras.layers.Dense(10, "softmax")]
    )
    ```

    ## Options
    - `ratio`: least growth of the gradient's norm from output to input that is an error.
    - `normalized-ratio`: the same where every layer is normalized, 10⁶ by default; less is a
      warning.
    - `likely-ratio`: least growth where the calibrated risk is high, 12 by default.
    - `risk`: the risk from which that counts, 0.8 by default.

    ## Known problems
    A model with few kernel layers gives the regression few points, and the rule stays silent.
    Deep networks with BatchNormalization before every ReLU grow by about 1.2 a layer at any
    weight scale, √(π/(π−1)) in theory; at some 40 such layers without skips the ratio passes 10³.
    A normalized layer does not mind the scale of its weights, so that a step too large for it
    makes its next ones smaller: 50 convolutions on digits reach 80 % in 25 epochs, slowly.

    ## References
    - Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks.
    - Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation.
    - Philipp, Song, Carbonell 2017, The exploding gradient problem demystified.
    - Yang, Pennington, Rao, Sohl-Dickstein, Schoenholz 2019, A mean field theory of batch
      normalization, https://arxiv.org/abs/1902.08129
    """
    probe = context.probe
    if probe.growth_rate is None or probe.growth_interval is None or probe.gradient_ratio is None:
        yield context.skip(no_growth(probe))
        return
    if reason := few_normalized(probe):
        yield context.skip(reason)
        return
    # The milder of the two measures decides: both have to be that large.
    ratio = min(probe.gradient_ratio, probe.growth_rate**probe.depth)
    low, high = probe.growth_interval
    if low <= 1:
        return
    kind = depth_kind(context.graph)
    if ratio < context.number("ratio"):
        likely = ratio >= context.number("likely-ratio") and kind is not DepthKind.NORMALIZED
        if not likely or not propagation_fails(context, context.number("risk")):
            return
    mild = kind is DepthKind.NORMALIZED and ratio < context.number("normalized-ratio")
    yield context.finding(
        f"The gradient's norm grows {factor(probe.gradient_ratio)} from the last eighth of the "
        f"layers to the first. {fitted(probe.growth_rate, low, high, probe.growth_points)}",
        layers=worst_gradient(probe, largest=True),
        evidence=growth_evidence(probe),
        remedy=REMEDIES[kind] + rescaled_remedy(probe),
        severity=Severity.WARNING if mild else Severity.ERROR,
        confidence=Confidence.MEDIUM if mild else Confidence.HIGH,
    )


REMEDIES = {
    DepthKind.PLAIN: (
        "Re-initialize the accused layers to their activation's scale (he_normal before ReLU, "
        "glorot_uniform before tanh), or normalize between them; gradient clipping keeps single "
        "steps bounded, but does not mend the ratio between layers."
    ),
    DepthKind.NORMALIZED: (
        "The layers are normalized already, and it is their number that does it: every batch "
        "normalization before a ReLU adds some 20 %, at any scale of the weights. Put a skip "
        "connection around every two or three layers, or use fewer of them."
    ),
    DepthKind.RESIDUAL: (
        "Every sum adds a branch as large as what it is added to, so the signal grows block by "
        "block, however the branches are drawn. Start each branch at nothing (zeros in its last "
        "kernel), scale it by 1/√(number of blocks), or normalize at its beginning.\n\n"
        "```python\n"
        'branch = keras.layers.Dense(units, kernel_initializer="zeros")(branch)\n'
        "x = keras.layers.Add()([x, branch])\n"
        "```\n"
    ),
}


@rule(
    "GEB502",
    "vanishing-gradient",
    severity=Severity.ERROR,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(
            name="error-ratio",
            default=1e-4,
            meaning="gradient norm at the first layers over that at the last: error at or below",
        ),
        Option(
            name="likely-ratio",
            default=4e-3,
            meaning="the same where the calibrated risk of failing is as high as `risk`",
        ),
        Option(name="risk", default=0.5, meaning="calibrated risk from which that counts"),
        Option(
            name="stuck-ratio",
            default=2e-2,
            meaning="the same where two hundred steps on one batch, neither tiny nor huge, do not "
            "learn it",
        ),
        Option(
            name="adam-ratio",
            default=1e-6,
            meaning="the same for Adam and its kin, whatever the risk",
        ),
        Option(name="warning-ratio", default=1e-3, meaning="the same: warning at or below"),
    ),
)
def vanishing_gradient(context: Context) -> Iterator[Finding | Skipped]:
    """The gradient shrinks from layer to layer on its way to the input.

    ## What it does
    Compares the norm of the loss's gradient at the first layers with that at the last ones, and
    fits the shrinkage a kernel-bearing layer. Fires when both say that the gradient shrinks by
    the configured factor and the 95 % interval of the rate lies below 1. Layers before the first
    trainable weight do not count: no gradient is needed there.

    ## Why is this bad
    The first layers hardly move, so the model trains as if it had only its last few layers, on
    features that are random. Adam and its kin make up for it, dividing each weight's step by the
    size of its gradient, until that falls below their epsilon.

    ## Evidence
    Measured by the probe on sample batches: the ratio of gradient norms between both ends, the
    rate with its 95 % interval. A warning at or below `warning-ratio`, an error at or below
    `error-ratio`; also at or below `likely-ratio`, where the risk that training fails is calibrated
    for such a model and is `risk` or more, and at or below `stuck-ratio`, where the long trial does
    not learn its one batch (`trial_long`): both only where the learning rate is not the likelier
    cause, by its own risk and by the size of the first steps. Under Adam, AdamW, Adamax, Nadam or
    LAMB it is an error at or below `adam-ratio`, or `error-ratio` with such a trial. Of 1,000
    networks trained on digits and on regressions (docs/outcomes.md) SGD and RMSprop trained none of
    94 with a ratio of 10⁻⁴ or less; Adam and AdamW 27 of 40 between 10⁻⁶ and 10⁻³ and none of 32
    below 10⁻⁶. Where the long trial did not learn, the same trial of rescaled kernels is given.

    ## Example
    ```python
    keras.Sequential(
        [keras.Input((64,))]
        + [keras.layers.Dense(64, "sigmoid") for _ in range(20)]
        + [keras.layers.Dense(10, "softmax")]
    )
    ```

    ## Use instead
    ```python
    keras.Sequential(
        [keras.Input((64,))]
        + [keras.layers.Dense(64, "relu", kernel_initializer="he_normal") for _ in range(20)]
        + [keras.layers.Dense(10, "softmax")]
    )
    ```

    ## Options
    - `error-ratio`: ratio of gradient norms, first layers over last, at or below which it is an
      error.
    - `likely-ratio`: the same where the calibrated risk is high.
    - `risk`: the risk from which that counts, 0.5 by default.
    - `stuck-ratio`: the same where the long trial does not learn, 0.02 by default.
    - `adam-ratio`: the same for Adam and its kin, whatever the risk, 10⁻⁶ by default.
    - `warning-ratio`: the same for a warning.

    ## Known problems
    A model with few kernel layers gives the regression few points, and the rule stays silent.
    The probe sees the model as saved; a trained model near a minimum has small gradients
    everywhere, which leaves their ratio alone.

    ## References
    - Bengio, Simard, Frasconi 1994, Learning long-term dependencies with gradient descent is
      difficult.
    - Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural
      networks.
    - Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation.
    """
    probe = context.probe
    if probe.growth_rate is None or probe.growth_interval is None or probe.gradient_ratio is None:
        yield context.skip(no_growth(probe))
        return
    if reason := few_normalized(probe):
        yield context.skip(reason)
        return
    # The milder of the two measures decides: both have to be that small.
    ratio = max(probe.gradient_ratio, probe.growth_rate**probe.depth)
    if probe.growth_interval[1] >= 1:
        return
    divides = divides_by_gradient(context.graph)
    certain = ratio <= context.number("adam-ratio" if divides else "error-ratio")
    if not certain and not divides and ratio <= context.number("likely-ratio"):
        certain = moves_as_usual(context.graph, probe) and propagation_fails(
            context, context.number("risk")
        )
    if not certain and ratio <= context.number("error-ratio" if divides else "stuck-ratio"):
        certain = kept_by_propagation(context.graph, probe) and not _rate_at_fault(context)
    if not certain and ratio > context.number("warning-ratio"):
        return
    low, high = probe.growth_interval
    shrinkage = 1 / probe.gradient_ratio if probe.gradient_ratio else math.inf
    yield context.finding(
        f"The gradient's norm shrinks {factor(shrinkage)} from the last eighth of the layers to "
        f"the first. {fitted(probe.growth_rate, low, high, probe.growth_points)}",
        layers=worst_gradient(probe, largest=False),
        evidence=growth_evidence(probe),
        remedy=(
            "Use activations that do not saturate (ReLU, GELU) with he_normal, add skip "
            "connections or normalization between the layers, or make the stack shallower."
            + rescaled_remedy(probe)
        ),
        severity=Severity.ERROR if certain else Severity.WARNING,
        confidence=(
            Confidence.HIGH if certain else Confidence.LOW if divides else Confidence.MEDIUM
        ),
    )


def propagation_fails(context: Context, least: float) -> bool:
    """Whether training is known to fail at a risk of `least` or more, and not for its rate."""
    risk = assess(context.graph, context.probe)
    if not isinstance(risk, Risk):
        return False
    return risk.probability >= least and not _rate_at_fault(context)


def _rate_at_fault(context: Context) -> bool:
    chance = rate_too_high(context.graph, context.probe)
    return chance is not None and chance >= RATE_AT_FAULT


def no_growth(probe: ProbeResult) -> str:
    """Why there is no growth rate to judge."""
    if probe.growth_points < 3:
        return (
            f"only {probe.growth_points} kernel-bearing layer(s) with a gradient on the way to "
            "the output, from the first trainable weight on: no growth rate can be fitted"
        )
    return "the growth rate could not be fitted: too few layers of one stage in sequence"


def factor(value: float) -> str:
    """A factor in words: "2.3-fold", "4e+10-fold"."""
    return f"{value:.2g}-fold"


def fitted(rate: float, low: float, high: float, layers: int) -> str:
    """The regression in words: another estimate than the ratio between the ends."""
    return (
        f"Fitted to all {layers} layers it changes by a factor of {rate:.3g} a layer toward the "
        f"input (95 % interval {low:.3g} to {high:.3g})."
    )


def growth_evidence(probe: ProbeResult) -> tuple[Evidence, ...]:
    """What both propagation rules rest on."""
    rate = probe.growth_rate if probe.growth_rate is not None else math.nan
    low, high = probe.growth_interval or (math.nan, math.nan)
    rows = [
        Evidence(
            name="growth rate",
            value=rate,
            unit="factor a kernel layer, toward the input",
            # A 95 % interval is about four standard errors wide.
            stderr=(high - low) / 4,
            method=f"{REGRESSION}, {probe.growth_points} layers",
        ),
        Evidence(
            name="gradient ratio",
            value=probe.gradient_ratio if probe.gradient_ratio is not None else math.nan,
            unit="‖∂L/∂h‖ first layers / last layers",
            method=ENDS,
        ),
    ]
    if probe.gsc is not None:
        rows.append(
            Evidence(
                name="gradient scale coefficient",
                value=probe.gsc,
                unit="gradient ratio × ‖h‖ first / last",
                method="Philipp et al. 2017; what no rescaling of weights removes",
            )
        )
    return (*rows, *rescaled_evidence(probe))


def worst_gradient(probe: ProbeResult, *, largest: bool) -> tuple[str, ...]:
    """Up to five calls with the most extreme gradient norm."""
    measured = [
        (call.gradient_norm, call_id)
        for call_id, call in probe.calls.items()
        if call.gradient_norm is not None and call.weight_norm is not None
    ]
    measured.sort(key=lambda pair: pair[0], reverse=largest)
    return tuple(call_id for _, call_id in measured[:5])
