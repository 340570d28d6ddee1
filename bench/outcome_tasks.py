"""The tasks of the outcome benchmark: data to learn from, standardised, always the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

Array = np.ndarray[Any, Any]

SPARSE = "sparse_categorical_crossentropy"


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data to learn from. baseline: the loss of the best constant guess."""

    x: Array
    y: Array
    outputs: int
    loss: str
    baseline: float


def task(name: str) -> Task:
    """The data of a task."""
    rng = np.random.default_rng(7)
    if name == "regression":
        # Friedman's first function (1991), five of ten inputs without a meaning.
        u = rng.random((2000, 10))
        y = (
            10 * np.sin(np.pi * u[:, 0] * u[:, 1])
            + 20 * (u[:, 2] - 0.5) ** 2
            + 10 * u[:, 3]
            + 5 * u[:, 4]
        )
        y = (y - y.mean()) / y.std()
        x = (u - 0.5) * math.sqrt(12)
        return Task(x=_single(x), y=_single(y[:, None]), outputs=1, loss="mse", baseline=1.0)
    if name == "sequence":
        # Which of four channels carries a bump, wherever it is.
        labels = rng.integers(0, 4, 2000)
        x = rng.standard_normal((2000, 32, 4))
        for row, (label, begin) in enumerate(zip(labels, rng.integers(0, 24, 2000), strict=True)):
            x[row, begin : begin + 8, label] += 2.0
        return Task(x=_single(x), y=labels, outputs=4, loss=SPARSE, baseline=math.log(4))
    digits = load_digits()
    x = (digits.data - digits.data.mean()) / digits.data.std()
    shape = {"digits": (64,), "digits_image": (8, 8, 1), "digits_rows": (8, 8)}[name]
    return Task(
        x=_single(x.reshape(-1, *shape)),
        y=digits.target,
        outputs=10,
        loss=SPARSE,
        baseline=math.log(10),
    )


def _single(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float32)
