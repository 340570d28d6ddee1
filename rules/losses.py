"""What a head with some activation does under a loss: the matrix behind GEB203 and GEB204."""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditor.finding import Confidence, Severity
from auditor.graph import LossSettings, Op
from auditor.graph.heads import Head

MULTICLASS = frozenset(
    {
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
        "categorical_focal_crossentropy",
    }
)
#: Keras divides these losses' predictions by their sum over the classes.
NORMALIZING = frozenset({"categorical_crossentropy", "categorical_focal_crossentropy"})
BINARY = frozenset({"binary_crossentropy", "binary_focal_crossentropy"})
CROSSENTROPY = MULTICLASS | BINARY
PROBABILITY_LOSSES = CROSSENTROPY | {"kl_divergence", "kullback_leibler_divergence"}
HINGE = frozenset({"hinge", "squared_hinge"})
REGRESSION = frozenset(
    {
        "mean_squared_error",
        "mse",
        "mean_absolute_error",
        "mae",
        "huber",
        "huber_loss",
        "log_cosh",
        "logcosh",
        "mean_absolute_percentage_error",
    }
)
#: Values between 0 and 1, one by one.
INDEPENDENT = frozenset({"sigmoid", "hard_sigmoid", "sparse_sigmoid"})
#: Values between 0 and 1 that sum to 1.
COMPETING = frozenset({"softmax", "sparsemax"})
PROBABILITIES = INDEPENDENT | COMPETING
ONE_SIDED = frozenset({"relu", "relu6"})
#: Flat on one side, at a value not far below zero, by activation.
NEARLY_ONE_SIDED = {"elu": "−1", "selu": "−1.76", "gelu": "−0.17", "silu": "−0.28", "mish": "−0.31"}
#: Between −1 and 1: the largest probability that a softmax makes of such logits is far from 1.
BOUNDED = frozenset({"tanh", "softsign", "hard_tanh"})
NEVER_NEGATIVE = PROBABILITIES | ONE_SIDED | {"softplus", "exponential", "sparse_plus"}


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A head that does not go with its loss: why, what instead, and how bad it is."""

    why: str
    instead: str
    severity: Severity = Severity.WARNING
    confidence: Confidence = Confidence.HIGH


def single_softmax(head: Head, width: int | None) -> Mismatch | None:
    """A softmax over one unit, which is constant whatever the loss."""
    if head.activation != "softmax" or width != 1:
        return None
    return Mismatch(
        why="softmax over a single unit is always exactly 1, so its gradient is always zero",
        instead=(
            "For two classes use one unit with sigmoid and binary_crossentropy; for a number use "
            "one linear unit and mean_squared_error."
        ),
        severity=Severity.ERROR,
    )


def mismatch(head: Head, loss: LossSettings) -> Mismatch | None:
    """What is wrong with this head under this loss, a missing activation apart."""
    name, width, activation = loss.name, head.width, head.activation
    if name in MULTICLASS and width == 1 and loss.config.get("axis", -1) == -1:
        return Mismatch(
            why=f"{name} compares the units of the last axis, and there is only one: a single "
            "class has probability 1 and loss 0, whatever is predicted",
            instead="Use one sigmoid unit with binary_crossentropy, or one unit for each class.",
            severity=Severity.ERROR,
        )
    if (axis := _other_axis(head, loss)) is not None:
        return axis
    if name in CROSSENTROPY and loss.from_logits:
        return _from_logits(name, activation, width)
    if name == "ctc" and activation in PROBABILITIES:
        return Mismatch(
            why=f"ctc takes logits and applies softmax by itself, and gets the output of "
            f"{activation}: it squashes a second time",
            instead="Make the output linear.",
        )
    if name in CROSSENTROPY:
        return _probabilities(name, activation, width)
    if name == "poisson" and activation not in NEVER_NEGATIVE:
        return Mismatch(
            why="poisson takes the logarithm of the prediction, which this head can make "
            "negative: the loss is then NaN",
            instead='Use `activation="exponential"` or "softplus" in the output layer.',
            severity=Severity.ERROR,
        )
    if name in HINGE and activation in NEVER_NEGATIVE:
        return Mismatch(
            why=f"{name} wants scores on both sides of zero (its labels are −1 and 1), and "
            f"{activation} gives none below it",
            instead="Leave the output linear, or use tanh.",
        )
    if name in REGRESSION and activation in ONE_SIDED and len(head.shape or ()) == 2:
        return Mismatch(
            why=f"a {activation} output cannot be negative, and a unit that falls below zero for "
            "every sample gets no gradient again",
            instead="Leave the output linear; for targets that are never negative use softplus.",
            confidence=Confidence.LOW,
        )
    if name in REGRESSION and activation in NEARLY_ONE_SIDED and len(head.shape or ()) == 2:
        return Mismatch(
            why=f"the output of {activation} cannot go below {NEARLY_ONE_SIDED[activation]}, and "
            "gets hardly any gradient near it",
            instead="Leave the output linear; hidden layers are where such activations belong.",
            confidence=Confidence.LOW,
        )
    return None


def _other_axis(head: Head, loss: LossSettings) -> Mismatch | None:
    """A softmax that sums to 1 along another axis than the one the loss takes for the classes."""
    call = head.activated
    if call is None or call.op is not Op.ACTIVATION or call.activation != "softmax":
        return None
    rank, axis = len(call.out_shape or ()), call.config.get("axis", -1)
    wanted = loss.config.get("axis", -1)
    if loss.name not in MULTICLASS or not isinstance(axis, int) or not isinstance(wanted, int):
        return None
    if rank < 2 or axis % rank == wanted % rank or head.output.out_shape != call.out_shape:
        return None
    over = "the samples of a batch" if axis % rank == 0 else f"axis {axis}"
    return Mismatch(
        why=f"its softmax makes {over} sum to 1, and {loss.name} takes axis {wanted} for the "
        "classes",
        instead="Use softmax along the axis of the classes, as a rule the last.",
    )


def missing_activation(head: Head, loss: LossSettings) -> Mismatch | None:
    """A linear head under a loss that expects probabilities."""
    if loss.from_logits or loss.name not in PROBABILITY_LOSSES or head.activation is not None:
        return None
    if loss.name in MULTICLASS and head.width == 1:
        return None
    wanted = "sigmoid" if loss.name in BINARY else "softmax"
    divided = ", or is divided by a sum that can be zero or negative"
    return Mismatch(
        why=f"{loss.name} takes the linear output for probabilities: what lies outside 0 … 1 is "
        f"clipped and gets no gradient{divided if loss.name in NORMALIZING else ''}",
        instead=(
            f'Add `activation="{wanted}"` to the output layer, or keep it linear and say so in '
            "the loss, which is the more exact of the two."
        ),
    )


def _from_logits(name: str, activation: str | None, width: int | None) -> Mismatch | None:
    if activation in PROBABILITIES or activation in ("log_softmax", "log_sigmoid"):
        if activation == "log_softmax" and name in MULTICLASS:
            return None  # a softmax of log-probabilities gives the probabilities back
        return Mismatch(
            why=f"the loss is told to expect logits (`from_logits=True`) and gets the output of "
            f"{activation}, so it squashes a second time",
            instead="Make the output linear, or set `from_logits=False`.",
        )
    if activation in ONE_SIDED:
        return Mismatch(
            why=f"{activation} cuts off every negative logit, so no class can be ruled out",
            instead="Make the output linear.",
        )
    if activation in BOUNDED:
        return Mismatch(
            why=f"{activation} keeps the logits between −1 and 1, so that no probability can "
            f"exceed {_most_probable(name, width):.2g}: the loss never comes near zero",
            instead="Make the output linear.",
        )
    return None


def _most_probable(name: str, width: int | None) -> float:
    """The largest probability that logits between −1 and 1 give."""
    others = 1 if name in BINARY else max((width or 2) - 1, 1)
    # One logit of a sigmoid is held against 0, one of a softmax against −1.
    least = 0.0 if name in BINARY else -1.0
    return math.e / (math.e + others * math.exp(least))


def _probabilities(name: str, activation: str | None, width: int | None) -> Mismatch | None:
    if activation in ONE_SIDED:
        return _one_sided(name, str(activation))
    if activation in INDEPENDENT and name in MULTICLASS:
        return Mismatch(
            why=f"{name} expects one distribution over {width or 'the'} classes, and {activation} "
            "judges every class by itself: the units do not sum to 1",
            instead="Use softmax for one label a sample, or binary_crossentropy for several.",
        )
    if activation in COMPETING and name in BINARY:
        return Mismatch(
            why=f"{name} judges every unit by itself, and {activation} makes them compete",
            instead="Use categorical_crossentropy for one label a sample, sigmoid for several.",
            # With two classes both losses are the same function of the same probability.
            severity=Severity.INFO if width == 2 else Severity.WARNING,
        )
    if activation is not None and activation not in PROBABILITIES | {"softplus", "exponential"}:
        return Mismatch(
            why=f"{name} expects probabilities, and {activation} gives values outside 0 … 1, "
            "which are clipped and get no gradient",
            instead=_activation_for(name),
        )
    if activation in ("softplus", "exponential") and name in BINARY:
        return Mismatch(
            why=f"{name} expects probabilities, and {activation} gives values above 1, which are "
            "clipped and get no gradient",
            instead=_activation_for(name),
        )
    return None


def _one_sided(name: str, activation: str) -> Mismatch:
    """ReLU under a loss of probabilities: NaN where the loss divides by the sum of the units."""
    if name in NORMALIZING:
        return Mismatch(
            why=f"{name} divides the outputs by their sum, and after {activation} all of them are "
            "zero for some sample sooner or later: the loss is then NaN",
            instead=_activation_for(name),
            severity=Severity.ERROR,
        )
    return Mismatch(
        why=f"{name} expects probabilities: {activation} gives exactly 0 for about half of the "
        "units at start, where the loss is clipped, so whole classes get no gradient",
        instead=_activation_for(name),
    )


def _activation_for(name: str) -> str:
    wanted = "sigmoid" if name in BINARY else "softmax"
    return f'Use `activation="{wanted}"` in the output layer.'
