"""GEB4: normalization and regularization."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.dimensions import number
from auditor.graph.heads import heads
from auditor.graph.operators import SHAPE_OPS, TRAINING_ONLY_OPS
from auditor.graph.paths import reaching_outputs
from auditor.rule import Context, Option, rule

from .batch_normalization import dropout_before_batchnorm, redundant_bias
from .batch_statistics import batchnorm_pathology
from .clipping import clip_misuse
from .missing_normalization import missing_normalization
from .normalized_extent import single_value_normalization
from .regularization import excessive_regularization
from .wording import ids, names

__all__ = [
    "batchnorm_pathology",
    "clip_misuse",
    "dropout_before_batchnorm",
    "excessive_regularization",
    "misplaced_or_excessive_dropout",
    "missing_normalization",
    "redundant_bias",
    "single_value_normalization",
]

#: Before a dropout these still leave it a dropout on the raw input.
RAW_OPS = SHAPE_OPS | TRAINING_ONLY_OPS | {Op.IDENTITY, Op.CAST, Op.SCALE, Op.ACTIVATION}


@rule(
    "GEB402",
    "misplaced-or-excessive-dropout",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="rate", default=0.7, meaning="dropout rate that is excessive anywhere", most=1.0
        ),
        Option(
            name="input-rate",
            default=0.2,
            meaning="highest dropout rate that the raw input bears",
            zero=True,
            most=1.0,
        ),
    ),
)
def misplaced_or_excessive_dropout(context: Context) -> Iterator[Finding | Skipped]:
    """Dropout on the raw input, on the prediction, or at a rate that leaves little.

    ## What it does
    Looks at every dropout layer. Fires when it acts on the model's raw input at more than
    `input-rate`, when it acts after the last layer with weights, so that it masks the prediction
    itself, or when its rate is `rate` or more.

    ## Why is this bad
    Dropout teaches a layer not to rely on any single unit of the layer before. On the raw input it
    deletes data: a quarter of the pixels gone is a quarter of the evidence gone, at every step. On
    the output it deletes the prediction: the loss then punishes the model for entries that were
    set to zero at random, and no weight can do anything about it. At 0.7 and above fewer than a
    third of the units remain, and their scaled-up noise drowns the gradient.

    ## Evidence
    The layers, their rates, and where they stand in the graph.

    ## Example
    ```python
    keras.Sequential([
        keras.Input((32, 32, 3)),
        keras.layers.Dropout(0.25),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10, activation="softmax"),
        keras.layers.Dropout(0.5),
    ])
    ```

    ## Use instead
    ```python
    keras.Sequential([
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Options
    - `rate`: dropout rate that is excessive anywhere, 0.7 by default.
    - `input-rate`: highest dropout rate that the raw input bears, 0.2 by default, the rate that
      Hinton et al. used for inputs.

    ## Known problems
    Denoising autoencoders mask their input on purpose: where the output has the input's shape, the
    finding is for information. A flat input may be features that another network extracted, which
    bear more dropout than raw data; confidence is low there.

    ## References
    - Hinton et al. 2012, Improving neural networks by preventing co-adaptation of feature
      detectors, https://arxiv.org/abs/1207.0580
    - Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting,
      Journal of Machine Learning Research 15.
    - Vincent et al. 2008, Extracting and composing robust features with denoising autoencoders.
    """
    graph = context.graph
    used = reaching_outputs(graph)
    dropouts = [call for call in graph.calls if call.op is Op.DROPOUT and call.id in used]
    # Each dropout is named once, by the worst that is wrong with it.
    entries = {call.id: entry for call in dropouts if (entry := _raw_input(graph, call))}
    limit = context.number("input-rate")
    raw = [call for call in dropouts if call.id in entries and rate_of(call) > limit]
    if raw:
        yield _on_input(context, raw, [entries[call.id] for call in raw])
    predictions = _behind_prediction(graph)
    masked = [
        call
        for call in dropouts
        if call.id in predictions and call not in raw and rate_of(call) > 0
    ]
    if masked:
        yield _on_output(context, masked)
    excessive = [
        call
        for call in dropouts
        if rate_of(call) >= context.number("rate") and call not in (*raw, *masked)
    ]
    if excessive:
        highest = max(rate_of(call) for call in excessive)
        kept = 1 - highest
        yield context.finding(
            f"{names(excessive)} {'drops' if len(excessive) == 1 else 'drop'} up to "
            f"{highest:.0%} of the units: {kept:.0%} remain, scaled up by {1 / kept:.3g}."
            if kept > 0
            else f"{names(excessive)} drop every unit: nothing passes in training.",
            layers=ids(excessive),
            evidence=rates(excessive),
            remedy="Start from 0.5 or less; where that overfits, make the layer smaller instead.",
        )


def _on_input(context: Context, calls: list[LayerCall], entries: list[LayerCall]) -> Finding:
    graph = context.graph
    shapes = {entry.out_shape for entry in entries}
    rank = max((len(shape) for shape in shapes if shape is not None), default=0)
    reconstructs = any(
        head.shape is not None and head.shape in shapes and head.learned for head in heads(graph)
    )
    lost = max(rate_of(call) for call in calls)
    verb = "acts" if len(calls) == 1 else "act"
    behind = _behind_prediction(graph)
    never = " Nor does any layer with weights come after." if calls[-1].id in behind else ""
    return context.finding(
        f"{names(calls)} {verb} on the raw input: up to {lost:.0%} of its values are deleted at "
        f"every training step, before any layer has seen them.{never}",
        layers=ids(calls),
        evidence=rates(calls),
        remedy=(
            "Move the dropout behind the layers that extract features, or use augmentation "
            "(flips, crops, noise) on the input."
        ),
        severity=Severity.INFO if reconstructs else None,
        confidence=(
            Confidence.HIGH if rank >= 4 else Confidence.MEDIUM if rank == 3 else Confidence.LOW
        ),
    )


def _raw_input(graph: LayerGraph, dropout: LayerCall) -> LayerCall | None:
    """The input that the dropout acts on before anything was learned from it."""
    sources = graph.predecessors(dropout.id)
    while len(sources) == 1 and sources[0].op in RAW_OPS:
        sources = graph.predecessors(sources[0].id)
    return sources[0] if len(sources) == 1 and sources[0].op is Op.INPUT else None


def _behind_prediction(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls that only pass a prediction on, after whatever forms it.

    An encoder saved uncompiled may end in dropout, since its output is no prediction.
    """
    return frozenset(
        step.id
        for head in heads(graph)
        if graph.compile is not None
        or not graph.parameters
        or head.activation in ("softmax", "sigmoid")
        for step in head.after
    )


def _on_output(context: Context, calls: list[LayerCall]) -> Finding:
    verb = "acts" if len(calls) == 1 else "act"
    return context.finding(
        f"{names(calls)} {verb} on the output side, with no layer with weights after: in training "
        "the prediction itself is masked at random.",
        layers=ids(calls),
        evidence=rates(calls),
        remedy=(
            "Move the dropout before the output layer.\n\n"
            "```python\n"
            "x = keras.layers.Dropout(0.5)(x)\n"
            'outputs = keras.layers.Dense(number_of_classes, activation="softmax")(x)\n'
            "```\n"
        ),
    )


def rate_of(call: LayerCall) -> float:
    """The dropout rate, 0 where it is not stated as a number."""
    return number(call.config.get("rate", call.config.get("ratio"))) or 0.0


def rates(calls: list[LayerCall]) -> tuple[Evidence, ...]:
    """The rate of each of the layers."""
    return tuple(
        Evidence(name=f"rate of {call.id}", value=rate_of(call), method="configuration")
        for call in calls
    )
