"""Targets drawn to fit a loss and a head, and the loss a healthy head starts at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from auditor.errors import UsageError
from auditor.probe.data_file import beyond
from auditor.probe.losses import FunctionLoss, HeadLoss, LossChoice

Array = np.ndarray[Any, Any]
Drawer = Callable[[np.random.Generator, tuple[int, ...]], Array]

#: Outputs an activation can reach, where that is less than the whole line: (lowest, highest).
RANGES = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
}
#: Activations that give nothing below zero and have no upper bound.
HALF_LINE = frozenset({"relu", "softplus", "exponential", "squareplus"})
ENTROPY_BINARY = math.log(2.0)


def draw_targets(head: HeadLoss, rng: np.random.Generator, batch: int) -> Array:
    """Targets of one batch, of the shape and range that the head's loss expects."""
    shape = (batch, *head.output.shape[1:])
    drawer = _DRAWERS.get(head.name)
    return _continuous(head, rng, shape) if drawer is None else drawer(rng, shape)


def describe_targets(choice: LossChoice) -> str:
    """How `draw_targets` draws, in words."""
    words = [_words(head) for head in choice.heads]
    return ", ".join(dict.fromkeys(words))


def expected_loss(choice: LossChoice, targets: list[list[Array]]) -> float | None:
    """The loss of a head that knows nothing yet, over `targets` (batches of targets by head).

    ln C for a cross-entropy over C classes, ln 2 for a binary one, the targets' variance a unit
    for the squared error, their mean distance from the median for the absolute one (the best
    constant guess of each); None where no such value is known.
    """
    total = 0.0
    for index, head in enumerate(choice.heads):
        drawn = np.concatenate([batch[index].astype(np.float64) for batch in targets])
        expected = _expected(head, drawn)
        if expected is None:
            return None
        total += head.weight * expected
    return total


def constant_loss(choice: LossChoice, targets: list[Array]) -> float | None:
    """The loss of the best constant answer on one batch, `targets` by head.

    The entropy of the classes that occur, for a cross-entropy; None where no such value is known.
    """
    total = 0.0
    for head, drawn in zip(choice.heads, targets, strict=True):
        known = _expected(head, drawn.astype(np.float64))
        if known is None:
            return None
        constant = _entropy(head, drawn) if "crossentropy" in head.name else known
        total += head.weight * constant
    return total


def _entropy(head: HeadLoss, drawn: Array) -> float:
    """Of the classes over the samples, mean over the other axes."""
    if head.name == "sparse_categorical_crossentropy":
        shape = head.output.shape[:-1]
        ids = np.reshape(drawn, (shape[0], -1)).astype(np.int64)
        shares = [np.unique(column, return_counts=True)[1] / len(column) for column in ids.T]
        return float(np.mean([_nats(share).sum() for share in shares]))
    share = drawn.astype(np.float64).mean(axis=0)
    if head.name == "binary_crossentropy":
        return float(np.mean(_nats(share) + _nats(1.0 - share)))
    return float(np.mean(_nats(share).sum(axis=-1)))


def _nats(share: Array) -> Array:
    """-p ln p, 0 where p is."""
    held: Array = np.clip(share, 0.0, 1.0)
    nats: Array = -held * np.log(np.where(held > 0.0, held, 1.0))
    return nats


def check_targets(head: HeadLoss, data: str, name: str, array: Array) -> None:
    """Check the targets a user gives for one head; `data` is what messages call the data.

    Raises `UsageError` in one line for what no loss can take, and for class numbers that the head
    has no unit for: a framework says so in other words, or takes them for something else.
    """
    classes = head.output.shape[-1]
    by_number = head.name == "sparse_categorical_crossentropy" and not head.custom
    wanted = (
        f"whole class numbers from 0 to {classes - 1}, {head.output.name} having "
        f"{classes} {'unit' if classes == 1 else 'units'}"
        if by_number
        else "numbers"
    )
    found = ""
    if array.dtype.kind not in "biuf":
        found = "text" if array.dtype.kind in "SU" else f"values of type {array.dtype}"
    elif by_number:
        found = _no_classes(array, classes, _ignored_class(head))
    elif (extreme := beyond(array, "float32")) is not None:
        found, wanted = f"{extreme:g}", "numbers of single precision"
    if found:
        raise UsageError(f"{data}: {name} holds {found}; {head.name} takes {wanted}")


def _no_classes(array: Array, classes: int, ignored: int | None) -> str:
    """What class numbers hold that is none; empty where all are."""
    values = array.reshape(-1)
    unusable = values.size - np.count_nonzero(np.isfinite(values))
    if unusable:
        return f"{unusable:,} values that are NaN or infinite"
    if ignored is not None:
        values = values[values != ignored]
    if not np.array_equal(values, np.floor(values)):
        return "fractions"
    if values.size and (values.min() < 0 or values.max() >= classes):
        return f"{values.min():g} to {values.max():g}"
    return ""


def _ignored_class(head: HeadLoss) -> int | None:
    """The class number that says "no label here", if the loss has one."""
    loss = head.loss
    found = (
        loss.arguments.get("ignore_class")
        if isinstance(loss, FunctionLoss)
        else getattr(loss, "ignore_class", None)
    )
    return found if isinstance(found, int) else None


def _expected(head: HeadLoss, drawn: Array) -> float | None:
    classes = head.output.shape[-1]
    match head.name:
        case "categorical_crossentropy" | "sparse_categorical_crossentropy":
            return math.log(classes) if head.fits_head and classes > 1 else None
        case "binary_crossentropy":
            return ENTROPY_BINARY if head.fits_head else None
        case "mean_squared_error":
            return float(np.mean(np.var(drawn, axis=0)))
        case "mean_absolute_error":
            return float(np.mean(np.abs(drawn - np.median(drawn, axis=0))))
        case _:
            return None


def _continuous(head: HeadLoss, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Numbers the head can reach: normal ones, folded or squeezed where its range is narrower."""
    activation = head.output.activation
    if activation == "softmax":
        return _one_hot(rng, shape)
    if activation in RANGES:
        low, high = RANGES[activation]
        return rng.uniform(low, high, shape).astype(np.float32)
    drawn = rng.standard_normal(shape).astype(np.float32)
    return np.abs(drawn) if activation in HALF_LINE else drawn


def _words(head: HeadLoss) -> str:
    """How the targets of one head are drawn."""
    activation = head.output.activation
    drawer = _DRAWERS.get(head.name, _one_hot if activation == "softmax" else None)
    if drawer is not None:
        return _DESCRIPTIONS[drawer]
    if activation in RANGES:
        return "uniform over the range of the head"
    return "standard normal, made positive" if activation in HALF_LINE else "standard normal"


def _one_hot(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    classes = np.arange(shape[-1])
    return np.equal(rng.integers(0, shape[-1], (*shape[:-1], 1)), classes).astype(np.float32)


def _class_ids(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(0, shape[-1], shape[:-1]).astype(np.int32)


def _zero_one(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(0, 2, shape).astype(np.float32)


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 2.0 * _zero_one(rng, shape) - 1.0


def _counts(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.poisson(1.0, shape).astype(np.float32)


def _positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)


def _labels(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    # Two members a class, so that there is something alike and something unlike in each batch.
    return rng.permutation(np.arange(shape[0]) // 2).astype(np.int32)


def _sequences(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    # Class 0 is CTC's blank; a label sequence must fit twice over into the time steps.
    length = max(1, shape[1] // 3)
    return rng.integers(1, max(2, shape[-1]), (shape[0], length)).astype(np.int32)


_DRAWERS: dict[str, Drawer] = {
    "categorical_crossentropy": _one_hot,
    "categorical_focal_crossentropy": _one_hot,
    "categorical_hinge": _one_hot,
    "kl_divergence": _one_hot,
    "sparse_categorical_crossentropy": _class_ids,
    "binary_crossentropy": _zero_one,
    "binary_focal_crossentropy": _zero_one,
    "dice": _zero_one,
    "tversky": _zero_one,
    "hinge": _signs,
    "squared_hinge": _signs,
    "poisson": _counts,
    "mean_squared_logarithmic_error": _positive,
    "mean_absolute_percentage_error": _positive,
    "circle": _labels,
    "ctc": _sequences,
}
_DESCRIPTIONS: dict[Drawer, str] = {
    _one_hot: "one-hot classes, evenly drawn",
    _class_ids: "class numbers, evenly drawn",
    _zero_one: "0 or 1, evenly drawn",
    _signs: "−1 or 1, evenly drawn",
    _counts: "counts, Poisson of mean 1",
    _positive: "uniform between 0.5 and 1.5",
    _labels: "labels, two samples to each",
    _sequences: "label sequences of a third of the time steps",
}
