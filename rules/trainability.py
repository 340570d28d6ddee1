"""GEB1, trainability: weights that no training of this model can reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph
from auditor.graph.freshness import drawn
from auditor.graph.heads import Head, heads, loss_of, trained_by_loss
from auditor.graph.initializers import weight_law
from auditor.graph.trainable_reach import TrainableReach, trainable_reach
from auditor.graph.unbuilt import NOT_BUILT, unbuilt
from auditor.rule import Context, rule

from .wording import ids, names, plural


@rule("GEB103", "unreachable-or-frozen", severity=Severity.WARNING, since="0.1")
def unreachable_or_frozen(context: Context) -> Iterator[Finding | Skipped]:
    """Trainable weights that no gradient reaches, or an output that is frozen.

    ## What it does
    Follows the gradient from the outputs with a loss back to the weights. Warns, on compiled
    models, of trainable layers that every gradient is stopped on the way to (argmax, rounding, a
    cast to integers, an index into a table), of trainable layers that only outputs without a loss
    depend on, and of an output with a loss whose layer is frozen at its random initial values, or
    that no trainable weight has a part in. For information: trainable layers that no output
    depends on, layers cut off by `stop_gradient`, and frozen layers that still hold what their
    initializer drew.

    ## Why is this bad
    The optimizer passes such weights over, with at most a warning that "gradients do not exist for
    variables". The loss goes down as far as the other layers can take it, and the model is worse
    than its size promises. A frozen output layer that was never trained maps good features to
    classes at random.

    ## Evidence
    The layers and what stands in the way, from the graph; whether frozen values are those of the
    initializer, by mean, variance and range. No estimate is involved but the last.

    ## Example
    ```python
    inputs = keras.Input((64,))
    codes = keras.ops.argmax(keras.layers.Dense(16)(inputs), axis=-1)
    outputs = keras.layers.Dense(10, "softmax")(keras.layers.Embedding(16, 8)(codes))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy")
    ```

    ## Use instead
    ```python
    inputs = keras.Input((64,))
    codes = keras.layers.Dense(16, "softmax")(inputs)  # a weight for each code, not an index
    outputs = keras.layers.Dense(10, "softmax")(keras.layers.Dense(8, use_bias=False)(codes))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy")
    ```

    ## Options
    None.

    ## Known problems
    Losses that layers add by themselves (`add_loss`) are not in the file: what only they train
    looks cut off. A straight-through estimator is a `stop_gradient` and is let pass. Random
    features are frozen on purpose. A frozen base of random values may be a base whose weights are
    loaded later. That all layers are frozen is GEB102.

    ## References
    - Keras documentation, Transfer learning and fine-tuning (the `trainable` attribute),
      https://keras.io/guides/transfer_learning/
    - Bengio, Léonard, Courville 2013, Estimating or propagating gradients through stochastic
      neurons for conditional computation, https://arxiv.org/abs/1308.3432
    """
    graph = context.graph
    if unbuilt(graph) and not graph.parameters:
        yield context.skip(NOT_BUILT)
        return
    if not graph.trainable_parameters:
        return
    reach = trainable_reach(graph)
    if reach.unused:
        yield _unused(context, reach)
    if graph.compile is None:
        return
    if reach.blocked:
        yield _blocked(context, reach)
    untaught = _without_loss(graph, reach)
    if untaught:
        yield _no_loss(context, untaught)
    frozen = [head for index, head in enumerate(heads(graph)) if _frozen(graph, head, index)]
    fixed = [
        call
        for call in reach.fixed_outputs
        if _taught_output(graph, call) and call.id not in {head.output.id for head in frozen}
    ]
    if frozen:
        yield _frozen_heads(context, frozen)
    if fixed:
        yield context.finding(
            f"No trainable weight has a part in {names(fixed)}: the loss of this output stays what "
            "it is.",
            layers=ids(fixed),
            evidence=(Evidence(name="fixed outputs", value=len(fixed), method="graph"),),
            remedy=(
                "Unfreeze the layers that form it, or leave this output out of the loss when "
                "compiling."
            ),
            confidence=Confidence.MEDIUM,
        )
    if raw := _raw_frozen(graph, {head.former.layer for head in frozen}):
        yield _random_frozen(context, raw)


def _unused(context: Context, reach: TrainableReach) -> Finding:
    return context.finding(
        f"No output depends on {names(reach.unused)}: nothing trains their weights.",
        layers=ids(reach.unused),
        evidence=_counted(reach.unused),
        remedy="Connect the layers to an output that has a loss, or leave them out of the model.",
        severity=Severity.INFO,
    )


def _blocked(context: Context, reach: TrainableReach) -> Finding:
    by = reach.blocking
    # Cutting a gradient by this very name is what the author asked for.
    meant = bool(by) and all(call.kind == "StopGradient" for call in by)
    through = f" {names(by)} ({by[0].kind}) lets none pass." if by else ""
    if len(by) > 1:
        through = f" {names(by)} let none pass."
    return context.finding(
        f"No gradient reaches {names(reach.blocked)}, though the weights are trainable:{through}",
        layers=ids((*reach.blocked, *by)),
        evidence=_counted(reach.blocked),
        remedy=(
            "Use something with a slope in its place (softmax for argmax, sigmoid for rounding or "
            "comparing), a straight-through estimator, or set `trainable = False` if the layers "
            "are meant to stay as they are."
        ),
        severity=Severity.INFO if meant else None,
    )


def _no_loss(context: Context, untaught: tuple[LayerCall, ...]) -> Finding:
    return context.finding(
        f"{names(untaught)} only lead to outputs without a loss, or whose loss has weight 0: they "
        "are not trained."
        if len(untaught) > 1
        else f"{names(untaught)} only leads to outputs without a loss, or whose loss has weight 0: "
        "it is not trained.",
        layers=ids(untaught),
        evidence=_counted(untaught),
        remedy=(
            "Give every output that is to be learned its loss, by name.\n\n"
            "```python\n"
            "model.compile(\n"
            '    "adam",\n'
            '    loss={"label": "sparse_categorical_crossentropy", "box": "huber"},\n'
            ")\n"
            "```\n"
        ),
        confidence=Confidence.MEDIUM,
    )


def _without_loss(graph: LayerGraph, reach: TrainableReach) -> tuple[LayerCall, ...]:
    """Trainable layers that a gradient would reach from outputs without a loss only."""
    taught = tuple(
        output for index, output in enumerate(graph.outputs) if trained_by_loss(graph, index)
    )
    if not taught or len(taught) == len(graph.outputs):
        return ()
    reached = {call.layer for call in trainable_reach(replace(graph, outputs=taught)).trained}
    return tuple(call for call in reach.trained if call.layer not in reached)


def _taught_output(graph: LayerGraph, call: LayerCall) -> bool:
    return any(
        call_id == call.id and trained_by_loss(graph, index)
        for index, (call_id, _) in enumerate(graph.outputs)
    ) and any(source.parameters for source in (call, *graph.predecessors(call.id)))


def _frozen(graph: LayerGraph, head: Head, index: int) -> bool:
    """Whether the layer that forms this output is frozen as its initializer drew it.

    A frozen model at the end (the discriminator over a generator) is another's, and trained there.
    """
    former = head.former
    return (
        loss_of(graph, index) is not None
        and head.learned
        and former.parameters > 0
        and former.trainable_parameters == 0
        and len(former.path) == 1
        and _fresh(graph, former) is True
    )


def _frozen_heads(context: Context, frozen: list[Head]) -> Finding:
    calls = [head.former for head in frozen]
    verb = "is" if len(calls) == 1 else "are"
    return context.finding(
        f"The output layer {names(calls)} {verb} frozen and still as initialized: it maps what the "
        "other layers learn by random weights.",
        layers=ids(calls),
        evidence=_counted(calls),
        remedy=(
            "Unfreeze the output layer and compile again.\n\n"
            "```python\n"
            "model.layers[-1].trainable = True\n"
            "model.compile(optimizer=model.optimizer, loss=model.loss)\n"
            "```\n"
        ),
        confidence=Confidence.MEDIUM,
    )


def _raw_frozen(graph: LayerGraph, told: set[str]) -> list[LayerCall]:
    """Frozen layers whose kernels are fresh draws, where they make up most of what is frozen."""
    frozen = [
        call
        for call in graph.layers()
        if call.parameters
        and not call.trainable_parameters
        and call.layer not in told
        and _fresh(graph, call) is not None
    ]
    fresh = [call for call in frozen if _fresh(graph, call)]
    return fresh if 2 * len(fresh) > len(frozen) else []


def _fresh(graph: LayerGraph, call: LayerCall) -> bool | None:
    """Whether the kernels are what a random initializer drew; None where that cannot be told."""
    known = [
        bool(drawn(weight, seen))
        for index, weight in enumerate(call.weights)
        if "kernel" in weight.role
        and weight.initializer is not None
        and (law := weight_law(weight.initializer, weight.shape)) is not None
        and law.variance > 0
        and (seen := graph.weight_statistics.get((call.layer, index))) is not None
    ]
    return all(known) if known else None


def _random_frozen(context: Context, calls: list[LayerCall]) -> Finding:
    return context.finding(
        f"{plural(len(calls), 'frozen layer')} ({names(calls)}) still "
        f"{'holds' if len(calls) == 1 else 'hold'} random initial values: features that nothing "
        "was learned for.",
        layers=ids(calls),
        evidence=_counted(calls),
        remedy=(
            "Load the weights the base was trained with before freezing it.\n\n"
            "```python\n"
            'base = keras.applications.MobileNetV2(weights="imagenet", include_top=False)\n'
            "base.trainable = False\n"
            "```\n"
        ),
        severity=Severity.INFO,
        confidence=Confidence.MEDIUM,
    )


def _counted(calls: list[LayerCall] | tuple[LayerCall, ...]) -> tuple[Evidence, ...]:
    return (
        Evidence(name="layers", value=len(calls), method="graph"),
        Evidence(name="parameters", value=sum(call.parameters for call in calls), method="counted"),
    )
