"""What was measured, as JSON values."""

from __future__ import annotations

from typing import Any

from auditor.measurement import (
    AttentionMeasurement,
    BlockProfile,
    CallMeasurement,
    Distribution,
    Estimate,
    JacobianMeasurement,
    ProbeResult,
    RateTrial,
    RescaledTrial,
    Sharpness,
    StageGrowth,
    TimeGrowth,
)

from .json_value import json_value


def probe_document(probe: ProbeResult) -> dict[str, Any]:
    """The `probe` of a document; keys in the order of the contract, the additions beside kin."""
    noise = probe.noise_scale
    return {
        "backend": probe.backend,
        "device": json_value(probe.device),
        "dtype": probe.dtype,
        "seed": probe.seed,
        "batch_size": probe.batch_size,
        "batches": probe.batches,
        "data": json_value(probe.data),
        "targets": json_value(probe.targets),
        "assumptions": json_value(probe.assumptions),
        "normalized_values": probe.normalized_values,
        "nonfinite_data": json_value(probe.nonfinite_data),
        "seconds": json_value(probe.seconds),
        "incomplete": json_value(probe.incomplete) or None,
        "loss": json_value(probe.loss),
        "depth": probe.depth,
        "growth_rate": json_value(probe.growth_rate),
        "growth_interval": json_value(probe.growth_interval),
        "growth_points": probe.growth_points,
        "stages": [_stage(stage) for stage in probe.stages],
        "gradient_norm": _distribution(probe.gradient_norm),
        "gradient_ratio": json_value(probe.gradient_ratio),
        "forward_ratio": json_value(probe.forward_ratio),
        "gsc": json_value(probe.gsc),
        "loss_at_start": json_value(probe.loss_at_start),
        "loss_expected": json_value(probe.loss_expected),
        "trial_losses": json_value(probe.trial_losses),
        "trial_further": json_value(probe.trial_further),
        "trial_long": json_value(probe.trial_long),
        "trial_constant": json_value(probe.trial_constant),
        "rate_trials": [_rate_trial(trial) for trial in probe.rate_trials],
        "rescaled_trial": _rescaled_trial(probe.rescaled_trial),
        "step_slope": json_value(probe.step_slope),
        "step_curvature": json_value(probe.step_curvature),
        "first_nonfinite_forward": json_value(probe.first_nonfinite_forward),
        "first_nonfinite_backward": json_value(probe.first_nonfinite_backward),
        "sharpness": _sharpness(probe.sharpness),
        "sharpness_skipped": json_value(probe.sharpness_skipped) or None,
        "noise_scale": None if noise is None else json_value(noise.value),
        "noise_scale_estimate": _estimate(noise),
        "residual_profile": [_block(block) for block in probe.residual_profile],
        "layers": {json_value(call_id): _call(call) for call_id, call in probe.calls.items()},
        "skipped": json_value(probe.skipped),
    }


def _call(call: CallMeasurement) -> dict[str, Any]:
    return {
        "mean": json_value(call.mean),
        "rms": json_value(call.rms),
        "max_abs": json_value(call.max_abs),
        "zero_share": json_value(call.zero_share),
        "dead_share": json_value(call.dead_share),
        "saturated_share": json_value(call.saturated_share),
        "saturation": _distribution(call.saturation),
        "gradient_norm": json_value(call.gradient_norm),
        "gradient_rms": json_value(call.gradient_rms),
        "weight_norm": json_value(call.weight_norm),
        "weight_gradient_norm": json_value(call.weight_gradient_norm),
        "penalty_gradient_norm": json_value(call.penalty_gradient_norm),
        "unpenalized_gradient_norm": json_value(call.unpenalized_gradient_norm),
        "update_ratio": json_value(call.update_ratio),
        "jacobian": _jacobian(call.jacobian),
        "jacobian_skipped": json_value(call.jacobian_skipped),
        "to_output_norm": _estimate(call.to_output_norm),
        "gsc": json_value(call.gsc),
        "time": _time(call.time),
        "attention": _attention(call.attention),
        "finite_forward": call.finite_forward,
        "finite_backward": call.finite_backward,
    }


def _jacobian(jacobian: JacobianMeasurement | None) -> dict[str, Any] | None:
    if jacobian is None:
        return None
    return {
        "spectral_norm": _estimate(jacobian.spectral_norm),
        "frobenius_norm": _estimate(jacobian.frobenius_norm),
        "forward_gain": json_value(jacobian.forward_gain),
        "backward_gain": json_value(jacobian.backward_gain),
        "isometry": json_value(jacobian.isometry),
        "inputs": jacobian.inputs,
        "outputs": jacobian.outputs,
        "samples": jacobian.samples,
        "couples_samples": jacobian.couples_samples,
    }


def _time(time: TimeGrowth | None) -> dict[str, Any] | None:
    if time is None:
        return None
    return {"growth": _estimate(time.growth), "steps": time.steps, "length": time.length}


def _attention(attention: AttentionMeasurement | None) -> dict[str, Any] | None:
    if attention is None:
        return None
    return {
        "logit_scale": _distribution(attention.logit_scale),
        "entropy": _distribution(attention.entropy),
        "keys": attention.keys,
    }


def _stage(stage: StageGrowth) -> dict[str, Any]:
    return {
        "shape": json_value(stage.shape),
        "calls": json_value(stage.calls),
        "residual": stage.residual,
        "growth_rate": json_value(stage.rate),
        "growth_interval": json_value(stage.interval),
    }


def _block(block: BlockProfile) -> dict[str, Any]:
    return {
        "call": json_value(block.call),
        "branch": json_value(block.branch),
        "squared_mean": json_value(block.squared_mean),
        "variance": json_value(block.variance),
        "branch_variance": json_value(block.branch_variance),
    }


def _rate_trial(trial: RateTrial) -> dict[str, Any]:
    return {"rate": json_value(trial.rate), "losses": json_value(trial.losses)}


def _rescaled_trial(trial: RescaledTrial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    return {
        "decades": json_value(trial.decades),
        "kernels": trial.kernels,
        "losses": json_value(trial.losses),
    }


def _sharpness(sharpness: Sharpness | None) -> dict[str, Any] | None:
    if sharpness is None:
        return None
    return {
        "largest": _estimate(sharpness.largest),
        "preconditioned": _estimate(sharpness.preconditioned),
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {
        "value": json_value(estimate.value),
        "low": json_value(estimate.low),
        "high": json_value(estimate.high),
        "error": json_value(estimate.error),
        "bound": estimate.bound.value,
        "method": json_value(estimate.method),
        "products": estimate.products,
    }


def _distribution(distribution: Distribution | None) -> dict[str, Any] | None:
    if distribution is None:
        return None
    return {
        "mean": json_value(distribution.mean),
        "p10": json_value(distribution.p10),
        "p50": json_value(distribution.p50),
        "p90": json_value(distribution.p90),
        "max": json_value(distribution.max),
        "count": distribution.count,
    }
