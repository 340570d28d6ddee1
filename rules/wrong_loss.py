"""GEB604: a loss that cannot teach what the model's head is for."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.compile_settings import CompileSettings, LossSettings
from auditor.graph.heads import Head, heads, loss_of
from auditor.rule import Context, Needs, rule

from .losses import COMPETING, INDEPENDENT, REGRESSION, Mismatch
from .wording import ids

#: Losses of numbers: those of `REGRESSION`, and the relative ones.
NUMBERS = REGRESSION | {"mean_absolute_percentage_error", "mean_squared_logarithmic_error"}
#: Counts of right decisions, which are the same for all small changes of the weights. Others, such
#: as F1 or IoU, have differentiable forms, which their authors may call the same.
COUNTS = frozenset(
    {
        *("accuracy", "acc", "binary_accuracy", "categorical_accuracy"),
        *("sparse_categorical_accuracy", "top_k_categorical_accuracy"),
        "sparse_top_k_categorical_accuracy",
    }
)
#: Metrics that a classifier is measured by.
DECISIONS = COUNTS | {"precision", "recall", "f1_score", "auc", "mean_io_u", "binary_io_u"}
OVERLAP = frozenset({"dice", "tversky"})
#: Activations whose values are never negative.
NOT_NEGATIVE = COMPETING | INDEPENDENT | {"relu", "relu6", "softplus", "exponential", "sparse_plus"}
CROSSENTROPY = (
    "Use categorical_crossentropy, or sparse_categorical_crossentropy for integer labels."
)


@rule("GEB604", "wrong-loss", severity=Severity.WARNING, since="0.1", needs=Needs.COMPILED)
def wrong_loss(context: Context) -> Iterator[Finding | Skipped]:
    """The loss belongs to another task than the model's output.

    ## What it does
    Holds each loss against what its output is. Errors, because there is no gradient or no value:
    accuracy as a loss; cosine similarity of a single unit; CTC
    over anything but sequences of classes. Warnings: a squared or absolute error over a softmax
    of two or more classes, or over a sigmoid that is measured by accuracy; a logarithmic error
    over outputs that may be negative; Dice and Tversky over outputs that are no probabilities.

    ## Why is this bad
    Accuracy is the same for all small changes of the weights, so its gradient is zero. The cosine
    of two numbers is 1 or −1, whatever their size. A squared error over softmax or sigmoid has a
    gradient that vanishes where the model is surely wrong, which is where it has most to learn:
    it may sit at chance for many epochs where cross-entropy starts at once. A logarithm of a
    negative output is clipped, and clipped values get no gradient.

    ## Evidence
    The loss, the head's activation and shape, and the metrics, as the file states them.

    ## Example
    ```python
    model = keras.Sequential([
        keras.Input((20,)),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    model.compile("adam", "mean_squared_error", metrics=["accuracy"])
    ```

    ## Use instead
    ```python
    model = keras.Sequential([
        keras.Input((20,)),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    ```

    ## Options
    None.

    ## Known problems
    A squared error over softmax is the Brier score, a proper one, and does train; distillation and
    regression of distributions use it on purpose. Custom losses are not judged, and what targets
    hold is not known without data. GEB203 and GEB204 hold the activation against the loss.

    ## References
    - Golik, Doetsch, Ney 2013, Cross-entropy vs. squared error training: a theoretical and
      experimental comparison, Interspeech.
    - Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural
      networks, section 4.1 (plateaus of the quadratic cost).
    - Keras documentation, Losses, https://keras.io/api/losses/
    """
    graph = context.graph
    settings = graph.compile
    if settings is None:
        return
    for index, head in enumerate(heads(graph)):
        loss = loss_of(graph, index)
        if loss is None:
            continue
        found = _unfit(head, loss, settings, alone=len(graph.outputs) == 1)
        if found is None:
            continue
        yield context.finding(
            f"`{head.output.id}`: {found.why}.",
            layers=ids([head.output]),
            evidence=(
                Evidence(name="loss", value=loss.name, method="compile settings"),
                Evidence(name="head", value=head.activation or "linear", method="graph"),
                Evidence(name="width", value=head.width or "unknown", method="graph"),
            ),
            remedy=found.instead,
            severity=found.severity,
            confidence=found.confidence,
        )


def _unfit(
    head: Head, loss: LossSettings, settings: CompileSettings, *, alone: bool
) -> Mismatch | None:
    name = loss.name
    if loss.custom:
        if name not in COUNTS:
            return None
        return Mismatch(
            why=f"{name} as a loss has no gradient: a decision stays the same for all small "
            "changes of the weights",
            instead="Train on a cross-entropy, and give accuracy as a metric.",
            severity=Severity.ERROR,
        )
    if name == "cosine_similarity" and head.width == 1 and loss.config.get("axis", -1) == -1:
        return Mismatch(
            why="the cosine between two single numbers is 1 or −1, whatever their size: there is "
            "no gradient",
            instead="Use mean_squared_error for a number, binary_crossentropy for two classes.",
            severity=Severity.ERROR,
        )
    if name == "ctc" and head.shape is not None and len(head.shape) != 3:
        return Mismatch(
            why="CTC takes a sequence of class scores (batch, time, classes), and the output has "
            f"{len(head.shape)} dimensions",
            instead="Keep the time axis: return_sequences=True, and a Dense over the classes.",
            severity=Severity.ERROR,
        )
    return _of_numbers(head, loss, settings, alone=alone) if head.known else None


def _of_numbers(
    head: Head, loss: LossSettings, settings: CompileSettings, *, alone: bool
) -> Mismatch | None:
    name, activation = loss.name, head.activation
    if name in NUMBERS and activation in COMPETING and (head.width or 0) > 1:
        return Mismatch(
            why=f"{name} over a softmax of {head.width} classes has hardly a gradient where the "
            "model is surely wrong",
            instead=CROSSENTROPY,
            confidence=Confidence.MEDIUM,
        )
    classifies = alone and any(metric in DECISIONS for metric in settings.metrics)
    if name in NUMBERS and activation in INDEPENDENT and classifies:
        return Mismatch(
            why=f"{name} over {activation}, measured as a classifier, has hardly a gradient where "
            "the model is surely wrong",
            instead="Use binary_crossentropy.",
            confidence=Confidence.MEDIUM,
        )
    if name == "mean_squared_logarithmic_error" and activation not in NOT_NEGATIVE:
        return Mismatch(
            why=f"{name} clips what is below zero, and {activation or 'a linear output'} can be: "
            "such predictions get no gradient",
            instead='Use `activation="softplus"` in the output layer, or mean_squared_error on the '
            "logarithm of the targets.",
        )
    if name in OVERLAP and activation not in COMPETING | INDEPENDENT:
        return Mismatch(
            why=f"{name} measures the overlap of probabilities, and "
            f"{activation or 'a linear output'} gives none: the quotient has no bounds",
            instead='Use `activation="sigmoid"` or "softmax" in the output layer.',
        )
    return None
