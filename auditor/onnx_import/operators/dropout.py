"""Dropout: nothing in inference; in training mode one mask, drawn once."""

from __future__ import annotations

import numpy as np
from keras import ops

from .table import Node, Value, known, operator
from .tensors import dtype_of, filled, shape_of, tensor


@operator("Dropout", note="in training mode one mask, drawn from `seed`, for every call")
def dropout(node: Node, value: Value, ratio: Value = None, training: Value = None) -> Value:
    """The input, or what a mask leaves of it divided by 1 − ratio.

    The mask is NumPy's `RandomState(seed).uniform() >= ratio`, as in onnx's own evaluator, so
    that a model gives the same output at every call.
    """
    value = tensor(value)
    shape = shape_of(value)
    active = training is not None and bool(known(training, "the training mode").reshape(()))
    share = 0.5 if ratio is None else float(known(ratio, "the ratio").reshape(()))
    if not active or share == 0:
        dtype = "bool" if node.since >= 10 else dtype_of(value)
        return (value, filled(shape, 1, dtype)) if node.outputs > 1 else value
    seed = int(node.get("seed", 0))
    mask = np.random.RandomState(seed & 0xFFFFFFFF).uniform(0, 1.0, shape) >= share
    kept = ops.where(tensor(mask), value * (1 / (1 - share)), ops.zeros_like(value))
    return (kept, mask) if node.outputs > 1 else kept
