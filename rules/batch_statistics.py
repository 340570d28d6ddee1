"""GEB404: batch normalization whose statistics cannot be what inference needs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.dimensions import number, own_config
from auditor.graph.heads import heads
from auditor.graph.operators import KERNEL_OPS
from auditor.graph.paths import reaching_outputs
from auditor.rule import Context, Option, rule

from .batch_normalization import HANDING_OPS, misplaced_axes
from .wording import ids, names

#: Activations that end a prediction of probabilities.
PROBABILITIES = frozenset({"softmax", "sigmoid", "hard_sigmoid", "sparsemax"})


@rule(
    "GEB404",
    "batchnorm-pathology",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="lowest-momentum",
            default=0.5,
            meaning="least share of the running statistics that each step has to keep",
            most=1.0,
        ),
        Option(
            name="highest-momentum",
            default=0.9999,
            meaning="largest share that each step may keep",
            most=1.0,
        ),
        Option(
            name="epsilon", default=0.1, meaning="constant that swamps the variance it is added to"
        ),
    ),
)
def batchnorm_pathology(context: Context) -> Iterator[Finding | Skipped]:
    """Batch normalization set so that its statistics are noise, stale, or of the wrong things.

    ## What it does
    Looks at every batch normalization. Fires when its momentum keeps less than `lowest-momentum`
    or more than `highest-momentum` of the running statistics a step; when its epsilon is `epsilon`
    or more; when it stands behind a convolution and works along a spatial axis; when the model is
    compiled for a fixed batch of one sample (an error where that leaves one value to a channel);
    when it is frozen with the statistics it was born with, behind a layer that is trained; and
    when it normalizes the probabilities that the model predicts.

    ## Why is this bad
    Inference uses the running statistics. In Keras `momentum` is what is kept of them, in PyTorch
    what is replaced: 0.1 carried over from there leaves the statistics of the last batch, and
    validation jumps about; 1.0 leaves them at 0 and 1 for good. A large epsilon stops the division
    from normalizing. Along a spatial axis the rows of an image are normalized, and not its
    channels. A single value minus its own mean is zero whatever it was, so nothing before it
    learns. A frozen normalization with untouched statistics only scales by one. Normalized
    probabilities are none any more.

    ## Evidence
    Momentum, epsilon, axis, shapes, and the stored statistics, as the file has them.

    ## Example
    ```python
    x = keras.layers.Conv2D(64, 3, use_bias=False)(x)
    x = keras.layers.BatchNormalization(axis=1, momentum=0.1)(x)
    ```

    ## Use instead
    ```python
    x = keras.layers.Conv2D(64, 3, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    ```

    ## Options
    - `lowest-momentum`: least share of the running statistics that a step has to keep, 0.5 by
      default.
    - `highest-momentum`: largest share that it may keep, 0.9999 by default.
    - `epsilon`: constant that swamps the variance, 0.1 by default.

    ## Known problems
    Fine-tuning with frozen, trained statistics is right, and let pass. ONNX graphs hold statistics
    for inference only, and conventions of their own; they are not judged. The batch that training
    uses is known only where the input fixes it.

    ## References
    - Ioffe, Szegedy 2015, Batch normalization, https://arxiv.org/abs/1502.03167
    - Wu, Johnson 2021, Rethinking "batch" in batch normalization,
      https://arxiv.org/abs/2105.07576
    - Keras documentation, BatchNormalization layer (momentum, axis),
      https://keras.io/api/layers/normalization_layers/batch_normalization/
    """
    graph = context.graph
    if graph.format == "onnx":
        yield context.skip("an ONNX graph keeps batch statistics for inference only")
        return
    used = reaching_outputs(graph)
    norms = [call for call in graph.layers() if call.op is Op.BATCH_NORM and call.id in used]
    trained = [call for call in norms if call.trainable]
    yield from _momenta(context, trained)
    yield from _epsilons(context, norms)
    if axes := misplaced_axes(graph, trained):
        yield context.finding(
            f"{names(axes)} {_works(axes)} along a spatial axis of a convolution's output: rows "
            "are normalized, and the channels keep their scales.",
            layers=ids(axes),
            evidence=_settings(axes, "axis"),
            remedy="Leave `axis` at its default, the last, where the channels are.",
        )
    if graph.compile is not None:
        yield from _batches_of_one(context, trained)
        yield from _frozen(context, norms)
        yield from _behind_probabilities(context)


def _momenta(context: Context, norms: list[LayerCall]) -> Iterator[Finding]:
    low, high = context.number("lowest-momentum"), context.number("highest-momentum")
    momenta = {call.id: number(own_config(call).get("momentum", 0.99)) for call in norms}
    forgetful = [c for c in norms if (m := momenta[c.id]) is not None and m < low]
    if forgetful:
        least = min(momenta[call.id] or 0.0 for call in forgetful)
        yield context.finding(
            f"{names(forgetful)}: with a momentum of {least:g} the running statistics are little "
            "more than those of the last batch. Keras' momentum is the share that is kept, "
            f"PyTorch's the share that is replaced: its {least:g} is {1 - least:g} here.",
            layers=ids(forgetful),
            evidence=_settings(forgetful, "momentum"),
            remedy="Use a momentum between 0.9 and 0.999; 0.99 is the default.",
        )
    frozen = [c for c in norms if (m := momenta[c.id]) is not None and m > high]
    if frozen:
        most = max(momenta[call.id] or 0.0 for call in frozen)
        steps = f"take {1 / (1 - most):,.0f} steps to follow" if most < 1 else "never move"
        yield context.finding(
            f"{names(frozen)}: with a momentum of {most:g} the running statistics {steps}, so "
            "inference normalizes by what they were at the start.",
            layers=ids(frozen),
            evidence=_settings(frozen, "momentum"),
            remedy="Use a momentum between 0.9 and 0.999; 0.99 is the default.",
        )


def _epsilons(context: Context, norms: list[LayerCall]) -> Iterator[Finding]:
    large = [
        call
        for call in norms
        if (number(own_config(call).get("epsilon")) or 0.0) >= context.number("epsilon")
    ]
    if large:
        most = max(number(own_config(call).get("epsilon")) or 0.0 for call in large)
        yield context.finding(
            f"{names(large)}: an epsilon of {most:g} is added to the variance before the division, "
            "so that a signal of that variance or less is not brought to unit scale.",
            layers=ids(large),
            evidence=_settings(large, "epsilon"),
            remedy="Use an epsilon of 0.001 (Keras' default) or 1e-5 (PyTorch's).",
        )


def _batches_of_one(context: Context, norms: list[LayerCall]) -> Iterator[Finding]:
    graph = context.graph
    if not norms or not graph.inputs:
        return
    if any(spec.shape is None or not spec.shape or spec.shape[0] != 1 for spec in graph.inputs):
        return
    single = [call for call in norms if _values_a_channel(call) == 1]
    named = single or norms
    outcome = (
        "a single value minus its own mean is always 0, so nothing before it can learn"
        if single
        else "each sample is normalized by itself in training, and by running averages at inference"
    )
    yield context.finding(
        f"The model takes a fixed batch of one sample, and {names(named)} "
        f"{'normalizes' if len(named) == 1 else 'normalize'} over the batch: {outcome}.",
        layers=ids(named),
        evidence=(Evidence(name="batch", value=1, unit="samples", method="shape of the input"),),
        remedy=(
            "Leave the batch size open in `keras.Input(shape)` and train on batches of 16 or more, "
            "or use LayerNormalization or GroupNormalization, which do not look at the batch."
        ),
        severity=Severity.ERROR if single else Severity.WARNING,
    )


def _values_a_channel(call: LayerCall) -> int | None:
    """Values that one channel's statistics are over, for one sample."""
    sizes = call.in_shape[1:-1] if call.in_shape else ()
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None


def _frozen(context: Context, norms: list[LayerCall]) -> Iterator[Finding]:
    graph = context.graph
    stale = [
        call
        for call in norms
        if not call.trainable and _untouched(graph, call) and _trained_before(graph, call)
    ]
    if stale:
        yield context.finding(
            f"{names(stale)} {'is' if len(stale) == 1 else 'are'} frozen with running means of 0 "
            "and variances of 1, as they were created: behind layers that are trained, nothing "
            "is normalized.",
            layers=ids(stale),
            evidence=(
                Evidence(name="frozen layers", value=len(stale), method="stored statistics"),
            ),
            remedy=(
                "Set `trainable = True` on these layers and compile again, or load pretrained "
                "statistics before freezing them."
            ),
        )


def _untouched(graph: LayerGraph, call: LayerCall) -> bool:
    seen = {
        weight.role: graph.weight_statistics.get((call.layer, index))
        for index, weight in enumerate(call.weights)
    }
    mean, variance = seen.get("moving_mean"), seen.get("moving_variance")
    return (
        mean is not None
        and mean.zero
        and variance is not None
        and variance.low == variance.high == 1.0
    )


def _trained_before(graph: LayerGraph, call: LayerCall) -> bool:
    """Whether what the call normalizes comes out of a kernel that training changes."""
    sources = graph.predecessors(call.id)
    while len(sources) == 1 and sources[0].op in HANDING_OPS | {Op.DROPOUT}:
        sources = graph.predecessors(sources[0].id)
    return len(sources) == 1 and sources[0].op in KERNEL_OPS and sources[0].trainable_parameters > 0


def _behind_probabilities(context: Context) -> Iterator[Finding]:
    for head in heads(context.graph):
        if head.activation not in PROBABILITIES or head.activated is None:
            continue
        chain = (head.former, *head.after)
        index = next(i for i, call in enumerate(chain) if call.id == head.activated.id)
        found = [call for call in chain[index + 1 :] if call.op is Op.BATCH_NORM]
        if found:
            yield context.finding(
                f"{names(found)} {'normalizes' if len(found) == 1 else 'normalize'} the "
                f"probabilities that {head.activation} gives: what comes out is neither between 0 "
                "and 1 nor a distribution.",
                layers=ids([head.activated, *found]),
                evidence=(Evidence(name="head", value=head.activation, method="graph"),),
                remedy="Normalize before the output layer, and end the model in it.",
            )


def _settings(calls: list[LayerCall], name: str) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(name=f"{name} of {call.id}", value=str(value), method="configuration")
        for call in calls
        if (value := own_config(call).get(name)) is not None
    )


def _works(calls: list[LayerCall]) -> str:
    return "works" if len(calls) == 1 else "work"
