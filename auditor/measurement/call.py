"""What a probe measured of one layer call."""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditor.measurement.estimate import Distribution, Estimate


@dataclass(frozen=True, kw_only=True)
class JacobianMeasurement:
    """J = ∂h/∂x of one call: of one sample, or of the whole batch where the call couples samples.

    x are all floating inputs of the call, h all its floating outputs, in training mode (with
    one draw of the dropout masks).

    spectral_norm: σ₁(J), the growth in the worst direction.
    frobenius_norm: ‖J‖_F.
    inputs, outputs: floating values in x and h, n_in and n_out.
    samples: how many Jacobians the medians and ranges are over.
    couples_samples: whether a sample's output depends on the other samples of its batch.
    """

    spectral_norm: Estimate
    frobenius_norm: Estimate
    inputs: int
    outputs: int
    samples: int
    couples_samples: bool = False

    @property
    def forward_gain(self) -> float:
        """‖J‖_F / √n_out: the averaged partial Jacobian norm (Doshi et al. 2021)."""
        return self.frobenius_norm.value / math.sqrt(self.outputs)

    @property
    def backward_gain(self) -> float:
        """‖J‖_F / √n_in: the factor on the RMS of a random gradient (He et al. 2022)."""
        return self.frobenius_norm.value / math.sqrt(self.inputs)

    @property
    def isometry(self) -> float | None:
        """Mean σ² over σ₁², 1 where all singular values are equal; None where J is zero.

        Over the min(n_in, n_out) singular values that J can have (Pennington et al. 2017).
        """
        if self.spectral_norm.value == 0.0:
            return None
        # Multiplied and not squared: a power raises where it overflows.
        ratio = self.frobenius_norm.value / self.spectral_norm.value
        return ratio * ratio / min(self.inputs, self.outputs)


@dataclass(frozen=True, kw_only=True)
class TimeGrowth:
    """A recurrent layer along time.

    growth: the factor on ‖∂L/∂s_t‖ a step back in time, s_t the cell's state (all of it) at step
        t, by regression of its logarithm on t over a random cotangent of the last state.
    steps: how many time steps were run; length: how many a sequence of the batch has.
    """

    growth: Estimate
    steps: int
    length: int


@dataclass(frozen=True, kw_only=True)
class AttentionMeasurement:
    """Attention at the start, over heads and queries; keys that a mask hides are left out.

    logit_scale: standard deviation over the keys of a query's logits, in nats.
    entropy: of a query's weights, over the logarithm of the keys it can see: 1 is uniform, 0 one
        key alone. Means over queries; the distributions are over heads (and samples).
    keys: the most keys that a query can see.
    """

    logit_scale: Distribution
    entropy: Distribution
    keys: int


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
    weight_norm, weight_gradient_norm: ‖w‖₂ and ‖∂L/∂w‖₂ over all trainable weights of the call's
        layer; L is the objective of a batch as training minimizes it, its loss and all penalties.
    penalty_gradient_norm, unpenalized_gradient_norm: ‖∂R/∂w‖₂ and ‖∂(L − R)/∂w‖₂, R the L1 and L2
        penalties on weights, over the same weights; None for a layer without them, or with a
        penalty on its weights of another kind.
    update_ratio: ‖Δw‖/‖w‖ of the declared optimizer's first step.
    saturation: how |h − c| / r is distributed over all values of the output, c and r the centre
        and half width of a bounded activation's range: 0 in the middle, 1 in full saturation;
        only for the same calls as `saturated_share`. Quantiles to 1/40.
    to_output_norm: ‖∂y/∂h‖_F of a sample, y the outputs with a loss (the logits of a softmax or
        sigmoid head), h the call's output.
    gsc: the gradient scale coefficient ‖∂y/∂h‖_F ‖h‖₂ / (√(values in h) ‖y‖₂) of Philipp et al.
        2017, arXiv:1712.05577: to_output_norm with all scale taken out.
    jacobian: the call's own Jacobian; `jacobian_skipped` says why there is none.
    time: a recurrent layer's growth along time. attention: of a layer that attends.
    `time_skipped` and `attention_skipped` say why such a layer has none.
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
    penalty_gradient_norm: float | None = None
    unpenalized_gradient_norm: float | None = None
    update_ratio: float | None = None
    saturation: Distribution | None = None
    to_output_norm: Estimate | None = None
    gsc: float | None = None
    jacobian: JacobianMeasurement | None = None
    jacobian_skipped: str | None = None
    time: TimeGrowth | None = None
    time_skipped: str | None = None
    attention: AttentionMeasurement | None = None
    attention_skipped: str | None = None
    finite_forward: bool = True
    finite_backward: bool = True
