"""Over how many values the model's batch normalizations took their statistics in a probe."""

from __future__ import annotations

import math

import keras

from auditor.probe.statistics import CallSlots


def fewest_normalized(calls: tuple[CallSlots, ...]) -> int | None:
    """The fewest of any; None where no layer that ran normalizes over the batch in training."""
    counts = []
    for call in calls:
        layer = call.operation
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            axes = layer.axis if isinstance(layer.axis, (list, tuple)) else (layer.axis,)
            apart = {axis % len(call.shape) for axis in axes}
            sizes = [size for place, size in enumerate(call.shape) if place not in apart]
            counts.append(math.prod(sizes))
    return min(counts, default=None)
