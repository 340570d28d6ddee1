"""GEB609: metrics that measure something else than they seem to."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerGraph
from auditor.graph.compile_settings import LossSettings, MetricSettings
from auditor.graph.dimensions import number
from auditor.graph.heads import Head, heads, loss_of
from auditor.rule import Context, Needs, rule

from .losses import BINARY, COMPETING, INDEPENDENT, MULTICLASS
from .wording import ids
from .wrong_loss import NUMBERS

ONE_HOT = frozenset({"categorical_accuracy", "top_k_categorical_accuracy"})
SPARSE = frozenset({"sparse_categorical_accuracy", "sparse_top_k_categorical_accuracy"})
#: Compare each prediction with a threshold of 0.5, unless another is set.
THRESHOLDED = frozenset(
    {
        *("binary_accuracy", "precision", "recall", "true_positives", "false_positives"),
        *("true_negatives", "false_negatives"),
    }
)
#: Want predictions between 0 and 1.
OF_PROBABILITIES = THRESHOLDED | {
    *("auc", "precision_at_recall", "recall_at_precision"),
    *("sensitivity_at_specificity", "specificity_at_sensitivity"),
}
#: Take labels of the predictions' own shape, not integers of classes.
OF_VECTORS = OF_PROBABILITIES | {"f1_score", "f_beta_score", "r2_score", "mean_squared_error"}
OF_VECTORS |= {"mean_absolute_error", "root_mean_squared_error"}
CLASSIFYING = ONE_HOT | SPARSE | OF_PROBABILITIES | {"accuracy", "f1_score", "f_beta_score"}
PREDICTIONS = COMPETING | INDEPENDENT


@rule("GEB609", "metric-mismatch", severity=Severity.WARNING, since="0.1", needs=Needs.COMPILED)
def metric_mismatch(context: Context) -> Iterator[Finding | Skipped]:
    """A metric does not measure what the model predicts.

    ## What it does
    Holds each built-in metric against the loss and the head of its output. Warns of accuracy and
    kin for a regression; of accuracy for integer labels where the loss wants one-hot ones, and the
    reverse; of binary accuracy for one of several classes, and of the accuracy of the largest unit
    for one unit or for several labels a sample (as which Keras also takes the string "accuracy"
    there); of thresholds at 0.5 over logits; of Precision, Recall and others, which compare unit
    by unit, for integer labels; and of the class `Accuracy`, which counts predictions that are
    equal to their label.

    ## Why is this bad
    Training does not see a metric, people do: models are chosen, stopped and published by it.
    Accuracy of a regression is 0 however good it is. Binary accuracy over ten classes starts at
    90 % and says nothing. The largest of one unit is always the first, so that every sample is
    right, or none. A logit of 0.3 is a yes, and counts as a no.

    ## Evidence
    The metric, the loss with its `from_logits`, and the head's activation and width, as the file
    states them.

    ## Example
    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("adam", "mean_squared_error", metrics=["accuracy"])
    ```

    ## Use instead
    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("adam", "mean_squared_error", metrics=["mean_absolute_error"])
    ```

    ## Options
    None.

    ## Known problems
    A least-squares classifier, linear units trained on one-hot labels, is taken for a regression.
    Custom metrics and custom losses are not judged, nor metrics whose output cannot be told.

    ## References
    - Keras documentation, Metrics, https://keras.io/api/metrics/
    - Stack Overflow 48775305, What function defines accuracy in Keras when the loss is mean
      squared error, https://stackoverflow.com/questions/48775305
    """
    graph = context.graph
    for index, head in enumerate(heads(graph)):
        loss = loss_of(graph, index)
        if loss is None or loss.custom:
            continue
        seen: set[str] = set()
        for metric in _metrics_of(graph, index):
            why, instead = _mismatch(head, loss, metric)
            if not why or metric.name in seen:
                continue
            seen.add(metric.name)
            yield context.finding(
                f"`{head.output.id}`: {why}.",
                layers=ids([head.output]),
                evidence=(
                    Evidence(name="metric", value=metric.name, method="compile settings"),
                    Evidence(name="loss", value=loss.name, method="compile settings"),
                    Evidence(name="head", value=head.activation or "linear", method="graph"),
                    Evidence(name="width", value=head.width or "unknown", method="graph"),
                ),
                remedy=instead,
                confidence=Confidence.HIGH if head.known else Confidence.MEDIUM,
                place=metric.name,
            )


def _metrics_of(graph: LayerGraph, index: int) -> list[MetricSettings]:
    """The metrics of the output with this index, those left out whose output is not told."""
    metrics = graph.compile.metric_settings if graph.compile is not None else ()
    call = graph.by_id[graph.outputs[index][0]]
    names = (call.name, call.id, call.layer, call.path[0])
    alone = len(graph.outputs) == 1
    return [m for m in metrics if (m.output is None and alone) or m.output in names]


def _mismatch(head: Head, loss: LossSettings, metric: MetricSettings) -> tuple[str, str]:
    """What is wrong with a metric, and what to use instead; both empty where nothing is."""
    name = _resolved(head, loss, metric)
    if name == "equal" and loss.name not in NUMBERS:
        return (
            "the metric Accuracy counts predictions that are equal to their label to the last "
            "digit, which probabilities and logits never are",
            f'Use metrics=["accuracy"], a string: Keras takes {_accuracy(head, loss)} for it.',
        )
    if loss.name in NUMBERS:
        return _of_regression(head, metric, name)
    if name in OF_PROBABILITIES and head.known and head.activation is None and loss.from_logits:
        return _of_logits(metric, name)
    if loss.name in MULTICLASS and (head.width or 0) > 1:
        return _of_classes(head, loss, name)
    if loss.name in BINARY:
        return _of_labels(head, name, str(metric.name))
    return "", ""


def _resolved(head: Head, loss: LossSettings, metric: MetricSettings) -> str:
    """The metric that Keras takes: for the string "accuracy" it depends on head and labels."""
    if metric.name != "accuracy":
        return metric.name
    function = metric.config.get("fn")
    if isinstance(function, str):  # Keras 2 writes the one it took
        return function
    return "equal" if metric.config else _accuracy(head, loss)


def _accuracy(head: Head, loss: LossSettings) -> str:
    if head.width == 1:
        return "binary_accuracy"
    if loss.name.startswith("sparse_"):
        return "sparse_categorical_accuracy"
    return "categorical_accuracy"


def _of_regression(head: Head, metric: MetricSettings, name: str) -> tuple[str, str]:
    if metric.name not in CLASSIFYING or not head.known:
        return "", ""
    if head.activation in PREDICTIONS | {"tanh"} and name != "equal":
        return "", ""
    return (
        f"{metric.name} of a regression counts hits among numbers that are never exactly hit",
        'Use metrics=["mean_absolute_error"], or RootMeanSquaredError or R2Score.',
    )


def _of_logits(metric: MetricSettings, name: str) -> tuple[str, str]:
    if name == "auc":
        if metric.config.get("from_logits") is True:
            return "", ""
        return (
            "AUC takes its thresholds between 0 and 1, and the head gives logits",
            "Use keras.metrics.AUC(from_logits=True).",
        )
    if name in THRESHOLDED:
        given = metric.config.get("threshold", metric.config.get("thresholds"))
        thresholds = given if isinstance(given, list) else [given]
        if any(number(value) not in (None, 0.5) for value in thresholds):
            return "", ""
    shown = metric.name if metric.name == name else f"{metric.name} ({name})"
    argument = "threshold" if name == "binary_accuracy" else "thresholds"
    kind = "".join(part.title() for part in name.split("_"))
    return (
        f"{shown} takes 0.5 for the boundary, and that of logits is 0: between the two a yes "
        "counts as a no",
        f"Use keras.metrics.{kind}({argument}=0.0), or end the model in a sigmoid."
        if name in THRESHOLDED
        else "End the model in a sigmoid, and leave from_logits=False.",
    )


def _of_classes(head: Head, loss: LossSettings, name: str) -> tuple[str, str]:
    sparse = loss.name.startswith("sparse_")
    if sparse and name in ONE_HOT:
        return (
            f"{name} looks for the largest entry of a one-hot label, and {loss.name} takes "
            "integers: the largest of one is always the first",
            f"Use sparse_{name}.",
        )
    if not sparse and name in SPARSE:
        return (
            f"{name} takes integer labels, and {loss.name} one-hot ones",
            f"Use {name.removeprefix('sparse_')}.",
        )
    if name == "binary_accuracy" and (sparse or (head.width or 0) > 2):
        return (
            f"binary_accuracy counts each of the {head.width} units by itself: with one class a "
            f"sample, saying no to all is {1 - 1 / (head.width or 1):.0%} right",
            f"Use {'sparse_' if sparse else ''}categorical_accuracy.",
        )
    if sparse and name in OF_VECTORS:
        return (
            f"{name} compares unit by unit, and {loss.name} takes one integer a sample",
            "Use sparse_categorical_accuracy, or one-hot labels and categorical_crossentropy.",
        )
    return "", ""


def _of_labels(head: Head, name: str, given: str) -> tuple[str, str]:
    if name in ONE_HOT | SPARSE and head.width == 1:
        return (
            f"{name} looks for the largest of one unit, which is always the first, whatever is "
            "predicted",
            "Use binary_accuracy.",
        )
    if name in ONE_HOT | SPARSE and (head.width or 0) > 1 and head.activation not in COMPETING:
        shown = name if given == name else f'"{given}", which Keras takes for {name} here,'
        return (
            f"{shown} looks for the largest of {head.width} units, and under a binary loss each "
            "is a label of its own",
            "Use binary_accuracy, or F1Score for labels that are rare.",
        )
    return "", ""
