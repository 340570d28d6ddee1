"""What a probe measured: frozen values, written by `auditor.probe`, read by rules and plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A quantity over batches or samples. With one value, all fields are that value."""

    mean: float
    p10: float
    p50: float
    p90: float
    max: float
    count: int


@dataclass(frozen=True, kw_only=True)
class CallMeasurement:
    """One layer call, measured. A field is None where the measure does not apply to the call.

    All are medians over batches unless said otherwise; gradients are of the mean loss of a batch,
    scaled back to one sample (times the batch size), so that they do not depend on it. Where the
    values are not finite, so are the measures of them.

    mean, rms, max_abs: of the call's output, all samples and units.
    zero_share: share of exact zeros in the output.
    dead_share: share of units (last axis, or channels) zero over all samples of all batches; only
        for calls that end in an activation with a flat zero side (relu and kin). The samples are
        few: `ProbeResult.batch_size` times `batches`.
    saturated_share: share of output values in the outer 5 % of the activation's half range
        (|h| > 0.95 for tanh, |2h − 1| > 0.95 for sigmoid); only for bounded activations, softmax
        left out.
    gradient_norm: median over samples of ‖∂L/∂h‖₂, h the call's output of one sample; over those
        samples that have a gradient anywhere. Of a softmax or sigmoid head that Keras computes
        the loss of from its logits: with respect to these. None where the loss does not depend
        on the call, or its output has no batch axis.
    gradient_rms: the same divided by √(values in h).
    weight_norm, weight_gradient_norm: ‖w‖₂ and ‖∂L/∂w‖₂ of the batch loss, over all trainable
        weights of the call's layer.
    update_ratio: ‖Δw‖/‖w‖ of the declared optimizer's first step.
    finite_forward, finite_backward: whether every value of the output, and of ∂L/∂h, was finite.
    """

    mean: float | None = None
    rms: float | None = None
    max_abs: float | None = None
    zero_share: float | None = None
    dead_share: float | None = None
    saturated_share: float | None = None
    gradient_norm: float | None = None
    gradient_rms: float | None = None
    weight_norm: float | None = None
    weight_gradient_norm: float | None = None
    update_ratio: float | None = None
    finite_forward: bool = True
    finite_backward: bool = True


@dataclass(frozen=True, kw_only=True)
class RateTrial:
    """The loss of one batch before each of a few steps at a rate that is not the declared one."""

    rate: float
    losses: tuple[float, ...]

    @property
    def falls(self) -> bool:
        """Whether the loss stays at or below its start, and ends below it."""
        return falls(self.losses)


def falls(losses: tuple[float, ...]) -> bool:
    """Whether a trial's losses are finite, stay at or below the first, and end below it."""
    return (
        len(losses) > 1
        and all(math.isfinite(loss) for loss in losses)
        and max(losses) <= losses[0]
        and losses[-1] < losses[0]
    )


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """A probe of a whole model: what ran, and what it measured.

    data: "synthetic" or the file's name; `assumptions` say in sentences what was assumed.
    targets: how the targets came about.
    nonfinite_data: arrays of a user's data that hold NaN or an infinity, each as
        "x: 3 of 4,096 values"; synthetic batches hold none.
    loss: the loss name used; loss_at_start: its value, mean over batches; loss_expected: what a
        healthy head starts at (ln C, or the targets' variance), None where unknown.
    depth: number of kernel-bearing layers on the longest path that a gradient has to come back on,
        from the first trainable weight to the output.
    growth_rate: factor on ‖∂L/∂h‖ a kernel-bearing layer, toward the input (> 1 grows, explodes;
        < 1 shrinks, vanishes), by regression of log ‖∂L/∂h‖ on depth, within stages of equal
        shape; growth_interval its 95 % interval, growth_points the calls that entered: those
        behind a trainable weight whose gradient is finite and not zero, a head that ends in an
        activation left out.
        Without a graph (a subclassed model) depth is the order of execution.
    gradient_ratio: ‖∂L/∂h_first‖ / ‖∂L/∂h_last‖: medians over the first and last eighth of the
        calls that entered the regression.
    forward_ratio: rms h_last / rms h_first over the same calls.
    gsc: gradient scale coefficient over the same ends: gradient_ratio × ‖h_first‖/‖h_last‖.
    gradient_norm: global norm of all weight gradients, over batches.
    trial_losses: loss of one and the same batch, penalties included, before each of the first
        steps of the declared optimizer at its declared learning rate, on a copy of the weights;
        it ends with the first that is not finite, and with NaN where a step leaves a weight that
        is not finite, which an activation may hide from the loss; empty if uncompiled.
    rate_trials: where that trial's loss rose, the same at lower rates, each a tenth of the one
        before, until one falls.
    step_slope, step_curvature: dᵀ∇L and dᵀ∇²L d on one batch, d the declared optimizer's first
        update divided by its learning rate: a quadratic model of the loss along the step.
    first_nonfinite_forward, first_nonfinite_backward: id of the first call, in the order of
        execution forward and backward, whose output or gradient held NaN or Inf.
    skipped: calls not measured, with the reason.
    """

    backend: str
    device: str
    dtype: str
    seed: int
    batch_size: int
    batches: int
    data: str
    targets: str
    loss: str
    seconds: float
    assumptions: tuple[str, ...] = ()
    nonfinite_data: tuple[str, ...] = ()
    loss_at_start: float | None = None
    loss_expected: float | None = None
    depth: int = 0
    growth_rate: float | None = None
    growth_interval: tuple[float, float] | None = None
    growth_points: int = 0
    gradient_ratio: float | None = None
    forward_ratio: float | None = None
    gsc: float | None = None
    gradient_norm: Distribution | None = None
    trial_losses: tuple[float, ...] = ()
    rate_trials: tuple[RateTrial, ...] = ()
    step_slope: float | None = None
    step_curvature: float | None = None
    first_nonfinite_forward: str | None = None
    first_nonfinite_backward: str | None = None
    calls: Mapping[str, CallMeasurement] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
