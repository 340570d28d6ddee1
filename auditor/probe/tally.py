"""From the reduced values of a few passes to the measurements of each call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from auditor.graph.layer_graph import LayerCall
from auditor.measurement import CallMeasurement, Distribution
from auditor.probe.statistics import CallSlots, PassSlots, can_die, sample_median
from auditor.probe.weight_penalties import PenaltyShare

Array = np.ndarray[Any, Any]
Values = Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """‖w‖₂, ‖∂L/∂w‖₂ and ‖Δw‖/‖w‖ over all trainable weights of one layer.

    `penalties` is the part that L1 and L2 penalties have in the gradient; None without them.
    """

    norm: float
    gradient_norm: float | None
    update_ratio: float | None
    penalties: PenaltyShare | None = None


@dataclass(frozen=True, kw_only=True)
class ChannelMoments:
    """Means over the channels of a call's output; the fields are as in `BlockProfile`."""

    squared_mean: float
    variance: float


@dataclass(kw_only=True)
class Tally:
    """Collects passes over different batches; gradients in it are those of single samples.

    `sample_factor` brings a gradient of the batch's loss to one sample's: the batch size where
    the loss is a mean.
    """

    slots: PassSlots
    calls: Mapping[str, LayerCall]
    batch: int
    sample_factor: float
    passes: list[Values] = field(default_factory=list)

    def add(self, values: Values, scale: float) -> None:
        """Take in one pass, whose gradients are `scale` times what they should be."""
        factor = self.sample_factor / scale
        norms = values.get("gradient_norms", np.zeros((0, self.batch)))
        self.passes.append({**values, "gradient_norms": norms * factor})

    def measurement(self, slots: CallSlots, weights: LayerWeights | None) -> CallMeasurement:
        """Everything measured of one call."""
        norms = np.array([values["forward_norms"][slots.row] for values in self.passes])
        peaks = np.array([values["peaks"][slots.peaks] for values in self.passes])
        size = slots.values_per_sample
        forward_size = size if slots.per_sample else size / self.batch
        gradient_norm = self.gradient_norm(slots)
        penalties = None if weights is None else weights.penalties
        return CallMeasurement(
            mean=self._median("means", slots.row),
            rms=float(np.median(_root_mean_square(norms) / math.sqrt(forward_size))),
            max_abs=float(np.median(peaks.max(axis=1))),
            zero_share=self._median("zeros", slots.row),
            dead_share=float(np.mean(peaks.max(axis=0) == 0.0))
            if can_die(self.calls.get(slots.id))
            else None,
            saturated_share=None
            if slots.saturated is None
            else self._median("saturated", slots.saturated),
            saturation=self.saturation(slots),
            gradient_norm=gradient_norm,
            gradient_rms=None if gradient_norm is None else gradient_norm / math.sqrt(size),
            weight_norm=None if weights is None else weights.norm,
            weight_gradient_norm=None if weights is None else weights.gradient_norm,
            penalty_gradient_norm=None if penalties is None else penalties.penalty,
            unpenalized_gradient_norm=None if penalties is None else penalties.rest,
            update_ratio=None if weights is None else weights.update_ratio,
            finite_forward=bool(np.isfinite(norms).all()),
            finite_backward=self._finite_backward(slots),
        )

    def gradient_norm(self, slots: CallSlots) -> float | None:
        """‖∂L/∂h‖₂ of a sample: median over samples, then over batches."""
        norms = self.gradient_norms(slots)
        return None if norms is None else float(np.median(norms))

    def gradient_norms(self, slots: CallSlots) -> Array | None:
        """‖∂L/∂h‖₂ of a sample, median over the samples of each batch, `(batches,)`."""
        if slots.gradient is None or not slots.per_sample:
            return None
        return np.array(
            [
                sample_median(
                    values["gradient_norms"][slots.gradient], _alive(values["gradient_norms"])
                )
                for values in self.passes
            ]
        )

    def activation_norm(self, slots: CallSlots) -> float:
        """‖h‖₂ of a sample, median over samples, then over batches."""
        return float(
            np.median([np.median(values["forward_norms"][slots.row]) for values in self.passes])
        )

    def channel_moments(self, slots: CallSlots) -> ChannelMoments | None:
        """Squared mean and variance of the channels, medians over batches; None if not taken."""
        if slots.channels is None:
            return None
        return ChannelMoments(
            squared_mean=self._median_square("channel_means", slots.channels),
            variance=self._median_square("channel_deviations", slots.channels),
        )

    def saturation(self, slots: CallSlots) -> Distribution | None:
        """|h − c| / r over all values of all batches; None where the range is not bounded."""
        if slots.saturated is None:
            return None
        row = slots.saturated
        counts = sum(values["saturation_counts"][row].astype(np.int64) for values in self.passes)
        means = [values["saturation_means"][row] for values in self.passes]
        peaks = [values["saturation_peaks"][row] for values in self.passes]
        return _binned(counts, mean=float(np.mean(means)), peak=float(np.max(peaks)))

    def _finite_backward(self, slots: CallSlots) -> bool:
        if slots.gradient is None:
            return True
        rows = (values["gradient_norms"][slots.gradient] for values in self.passes)
        return all(bool(np.isfinite(row).all()) for row in rows)

    def _median_square(self, name: str, row: int) -> float:
        # The root fits single precision where the square does not.
        return float(np.median([float(values[name][row]) ** 2 for values in self.passes]))

    def _median(self, name: str, row: int) -> float:
        return float(np.median([values[name][row] for values in self.passes]))


def distribution(values: Sequence[float]) -> Distribution | None:
    """A quantity over batches; None where there is nothing."""
    if not values:
        return None
    array = np.array(values, float)
    p10, p50, p90 = (float(value) for value in np.quantile(array, (0.1, 0.5, 0.9)))
    return Distribution(
        mean=float(array.mean()),
        p10=p10,
        p50=p50,
        p90=p90,
        max=float(array.max()),
        count=len(array),
    )


def _binned(counts: Array, *, mean: float, peak: float) -> Distribution:
    """A distribution over [0, 1] from counts in bins of one width, `(bins,)`, and what is exact.

    Within a bin values are taken to lie evenly, so that a quantile is off by a bin at most.
    """
    occupied = np.flatnonzero(counts)
    reached = np.cumsum(counts[occupied]) / counts.sum()

    def quantile(share: float) -> float:
        if not math.isfinite(mean):
            return math.nan
        index = min(int(np.searchsorted(reached, share)), len(occupied) - 1)
        before = float(reached[index - 1]) if index else 0.0
        within = (share - before) / (float(reached[index]) - before)
        return min((float(occupied[index]) + within) / len(counts), peak)

    return Distribution(
        mean=mean,
        p10=quantile(0.1),
        p50=quantile(0.5),
        p90=quantile(0.9),
        max=peak,
        count=int(counts.sum()),
    )


def _alive(gradient_norms: Array) -> Array:
    """Samples with a gradient anywhere, `(batch,)`.

    A sample that a saturated head already gets right has none at all, and says nothing of how
    gradients grow on their way.
    """
    alive: Array = (gradient_norms != 0.0).any(axis=0)
    return alive


def _root_mean_square(norms: Array) -> Array:
    """Over the samples, `(passes, batch)` → `(passes,)`."""
    rms: Array = np.sqrt(np.mean(np.square(norms), axis=1))
    return rms
