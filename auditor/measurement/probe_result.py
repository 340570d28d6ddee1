"""What a probe measured of a whole model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from auditor.measurement.call import CallMeasurement
from auditor.measurement.estimate import Distribution, Estimate
from auditor.measurement.trials import RateTrial, RescaledTrial

#: Values that a batch normalization needs to be the one of usual batches: it keeps √(6/8) of the
#: gradient's norm of 8, and nothing of 2.
FEWEST_NORMALIZED = 8


@dataclass(frozen=True, kw_only=True)
class StageGrowth:
    """Gradient growth within one stage: outputs of the same shape, compared among themselves.

    Outside residual blocks a stage's points are its kernel layers, and the rate is a layer's.
    Residual blocks in a row have their sums for points, on the trunk, and the rate is a block's:
    a gradient inside a branch is of another size than the trunk's.

    shape: that of a sample's output. calls: ids of the points' calls, from the input on.
    residual: whether the points are the sums of residual blocks.
    rate, interval: as `ProbeResult.growth_rate` and its interval, over this stage alone.
    """

    shape: tuple[int, ...]
    calls: tuple[str, ...]
    rate: float
    interval: tuple[float, float] | None
    residual: bool = False


@dataclass(frozen=True, kw_only=True)
class BlockProfile:
    """The signal at one residual block: a point of Brock et al.'s signal propagation plot (2021).

    call: id of the sum that ends the block; branch: of the call that ends its residual branch.
    squared_mean: mean over channels of the squared mean of the sum's output (over samples and
        positions); variance: mean over channels of its variance; branch_variance: the same of the
        branch's end, None where it was not measured.
    """

    call: str
    branch: str | None
    squared_mean: float
    variance: float
    branch_variance: float | None


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """Curvature of the batch's loss, penalties included, at the start.

    largest: λ₁(H), the algebraically largest eigenvalue of the Hessian in the trainable weights.
    preconditioned: λ₁(P⁻¹H) for a declared optimizer that divides by the gradient's size, P being
        what its first step divides by; None for the others.
    Both by Lanczos: a lower bound, `error` the residual, so that an eigenvalue is that near.
    """

    largest: Estimate
    preconditioned: Estimate | None


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """A probe of a whole model: what ran, and what it measured.

    data: "synthetic" or the file's name; `assumptions` say in sentences what was assumed.
    targets: how the targets came about.
    normalized_values: the fewest values that a batch normalization took its mean over, where the
        model would take larger batches; None where nothing is normalized over the batch, or the
        model takes batches of this size alone.
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
    trial_further: the losses of the steps after these, taken where they cost little.
    trial_long: the losses after these, where the model has hardly learned by then and more steps
        cost little: until it does, or for some two hundred steps.
    trial_constant: the loss of the best constant answer on the trial's batch, None where unknown:
        what a model falls to that tells no sample from another.
    rate_trials: where that trial's loss rose, the same at lower rates, each a tenth of the one
        before, until one falls.
    rescaled_trial: where the long trial does not learn either, the same with kernels of unit
        variance: whether their scale keeps it from it.
    step_slope, step_curvature: dᵀ∇L and dᵀ∇²L d on one batch, d the declared optimizer's first
        update divided by its learning rate: a quadratic model of the loss along the step.
    first_nonfinite_forward, first_nonfinite_backward: id of the first call, in the order of
        execution forward and backward, whose output or gradient held NaN or Inf.
    stages: the growth within each stage of equal shape that has enough points for a regression
        with an interval, from the input on.
    residual_profile: the signal at the residual blocks of the graph, from input to output.
    sharpness: the loss' curvature; `sharpness_skipped` says why there is none.
    noise_scale: the gradient noise scale B = tr Σ / |G|² in samples (McCandlish et al. 2018),
        from gradients of single batches and of all of them together; None where there are fewer
        than two batches, or the estimate of |G|² is not positive.
    incomplete: why the probe ended early, and with what undone; "" where it came to its end.
    incomplete_detail: what lies behind that, over several lines, for whoever asks: a traceback, the
        end of what the probe's process wrote to standard error.
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
    normalized_values: int | None = None
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
    trial_further: tuple[float, ...] = ()
    trial_long: tuple[float, ...] = ()
    trial_constant: float | None = None
    rate_trials: tuple[RateTrial, ...] = ()
    rescaled_trial: RescaledTrial | None = None
    step_slope: float | None = None
    step_curvature: float | None = None
    first_nonfinite_forward: str | None = None
    first_nonfinite_backward: str | None = None
    stages: tuple[StageGrowth, ...] = ()
    residual_profile: tuple[BlockProfile, ...] = ()
    sharpness: Sharpness | None = None
    sharpness_skipped: str = ""
    noise_scale: Estimate | None = None
    incomplete: str = ""
    incomplete_detail: str = ""
    calls: Mapping[str, CallMeasurement] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def trial(self) -> tuple[float, ...]:
        """All losses of the trial."""
        return (*self.trial_losses, *self.trial_further, *self.trial_long)


def few_normalized(probe: ProbeResult) -> str:
    """Why gradients are those of this batch size alone; empty where they tell of larger ones.

    Batch normalization over m values takes 2 of m directions from the gradient behind it: of two
    values nothing but a sign is left and no gradient at all, and layer after layer multiplies that.
    """
    count = probe.normalized_values
    if count is None or count >= FEWEST_NORMALIZED:
        return ""
    values = "one value" if count == 1 else f"{count} values"
    return (
        f"in batches of {probe.batch_size} a batch normalization has {values} to normalize, "
        "through which the gradient of larger batches does not pass; probe with a larger batch size"
    )
