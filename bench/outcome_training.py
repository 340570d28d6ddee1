"""Training of the outcome benchmark: short runs, what became of them, and why.

A run fails where its loss is not finite or ends above half that of the best constant guess. Why is
found by repairs, each alone: the same training after the scale of every kernel's output is set to
1 on one batch (LSUV, Mishkin & Matas 2016, without its orthogonal start), and at rates a power of
ten away. If the former trains, the scale was the cause: the model exploded where the repair had to
shrink its kernels, and vanished where it had to enlarge them. Else, if a rate trains, the rate was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from outcome_models import USUAL_RATES, Spec, optimizer_of
from sklearn.datasets import load_digits

Array = np.ndarray[Any, Any]

STEPS = 250
BATCH = 32
LAST = 25
#: Losses above this share of the best constant guess's are a failure.
FAILED = 0.5
#: Powers of ten that other rates are away from the declared one.
OTHER_RATES = (-1, 1, -2, 2, -3, 3)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data to learn from. baseline: the loss of the best constant guess."""

    x: Array
    y: Array
    outputs: int
    loss: str
    baseline: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a model.

    final: mean loss of the last steps over the best constant guess's; infinite if one was not
    finite. cause: "" where it trained; exploding, vanishing, rate_high, rate_low, other.
    best_rate: the declared rate, or the nearest of the others that trains; None if none does.
    """

    start: float
    final: float
    cause: str
    best_rate: float | None

    @property
    def fails(self) -> bool:
        """Whether it did not learn as declared."""
        return not self.final <= FAILED


def task(name: str) -> Task:
    """The data of a task, standardised, always the same."""
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


SPARSE = "sparse_categorical_crossentropy"


def observe(one: Spec, model: keras.Model, data: Task) -> Outcome:
    """Train, and where that fails find out why. The model's weights are used up."""
    start = [np.array(weight) for weight in model.get_weights()]
    first, final = _run(one, model, data, start, one.rate)
    if final <= FAILED:
        return Outcome(start=first, final=final, cause="", best_rate=one.rate)
    repaired, factor = _rescaled(model, data, start)
    usual = USUAL_RATES[one.optimizer]
    nearest = None
    for power in OTHER_RATES:
        if _run(one, model, data, start, one.rate * 10.0**power)[1] <= FAILED:
            nearest = one.rate * 10.0**power
            break
    cause = "other"
    # Behind a normalization the scale of a kernel is of no account.
    scaled = one.normalization == "none" and abs(math.log(factor)) > math.log(1.5)
    if scaled and (
        _run(one, model, data, repaired, one.rate)[1] <= FAILED
        or (nearest is None and _run(one, model, data, repaired, usual)[1] <= FAILED)
    ):
        cause = "exploding" if factor < 1 else "vanishing"
    elif nearest is not None:
        cause = "rate_high" if nearest < one.rate else "rate_low"
    return Outcome(start=first, final=final, cause=cause, best_rate=nearest)


def _run(
    one: Spec, model: keras.Model, data: Task, weights: list[Array], rate: float
) -> tuple[float, float]:
    """Losses at the start and at the end, over that of the best constant guess."""
    model.set_weights(weights)
    model.compile(optimizer_of(one, rate), data.loss)
    rng = np.random.default_rng(one.number)
    order = np.concatenate(
        [rng.permutation(len(data.x)) for _ in range(1 + STEPS * BATCH // len(data.x))]
    )
    losses = []
    for step in range(STEPS):
        rows = order[step * BATCH : (step + 1) * BATCH]
        losses.append(float(model.train_on_batch(data.x[rows], data.y[rows])))
        if not math.isfinite(losses[-1]):
            return losses[0] / data.baseline, math.inf
        # Beyond return: what has not moved by then in that order of magnitude does not.
        if step == STEPS // 2 and min(losses) > 20 * data.baseline:
            break
    return losses[0] / data.baseline, float(np.mean(losses[-LAST:])) / data.baseline


def _rescaled(model: keras.Model, data: Task, start: list[Array]) -> tuple[list[Array], float]:
    """Weights with every kernel's output of deviation 1, and the geometric sum of what it took.

    The factor is the product of all kernels', the head left out.
    """
    model.set_weights(start)
    batch = data.x[:256]
    total = 1.0
    kernels = [
        layer
        for layer in model.layers[:-1]
        if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))
    ]
    for layer in kernels:
        inner = keras.Model(model.input, layer.output)
        deviation = float(np.std(keras.ops.convert_to_numpy(inner(batch, training=False))))
        if not (math.isfinite(deviation) and deviation > 1e-30):
            continue
        kernel, *rest = layer.get_weights()
        layer.set_weights([kernel / deviation, *rest])
        total /= deviation
    return [np.array(weight) for weight in model.get_weights()], min(max(total, 1e-30), 1e30)


def _single(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float32)
