"""GEB3, SELU: the conditions under which it normalizes itself."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.freshness import law_of
from auditor.graph.operators import AFFINE_OPS, NORMALIZATION_OPS, SHAPE_OPS
from auditor.graph.paths import before_kernels
from auditor.graph.trainable_reach import learned_calls
from auditor.rule import Context, Option, rule

from .wording import ids, names


@rule(
    "GEB303",
    "selu-contract",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="factor",
            default=1.2,
            meaning="factor of fan-in · variance away from 1, either way, that is a fault",
        ),
    ),
)
def selu_contract(context: Context) -> Iterator[Finding | Skipped]:
    """SELU without what it needs to normalize itself.

    ## What it does
    Looks at hidden layers with SELU. Fires where their kernels are not drawn with variance
    1/fan-in (`lecun_normal`), where plain Dropout acts on them instead of AlphaDropout, and where a
    normalization follows them.

    ## Why is this bad
    SELU keeps mean 0 and variance 1 from layer to layer by itself, but only as a fixed point of
    weights with variance 1/fan-in: `he_normal` doubles the variance at every layer. Dropout sets
    units to 0 where SELU's "off" is −1.76, and so shifts mean and variance. With a normalization
    behind it SELU only costs an exponential.

    ## Evidence
    The initializer's law for each kernel, or its values while they are fresh; the kinds of the
    layers behind. Kernels that were trained are not held against the law.

    ## Example
    ```python
    keras.Sequential([
        keras.Input((64,)),
        keras.layers.Dense(128, activation="selu", kernel_initializer="he_normal"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(128, activation="selu", kernel_initializer="he_normal"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Use instead
    ```python
    keras.Sequential([
        keras.Input((64,)),
        keras.layers.Dense(128, activation="selu", kernel_initializer="lecun_normal"),
        keras.layers.AlphaDropout(0.2),
        keras.layers.Dense(128, activation="selu", kernel_initializer="lecun_normal"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Options
    - `factor`: factor of fan-in times variance away from 1, either way, from which on a kernel is
      named, 1.2 by default. `glorot_uniform` keeps within it where a layer is about as wide as its
      input.

    ## Known problems
    The proof is for dense layers; in convolutional and residual networks SELU does not normalize
    exactly either way. Whether the inputs are standardized, which it needs as well, is not in the
    file.

    ## References
    - Klambauer, Unterthiner, Mayr, Hochreiter 2017, Self-normalizing neural networks,
      https://arxiv.org/abs/1706.02515
    - Keras documentation, AlphaDropout,
      https://keras.io/api/layers/regularization_layers/alpha_dropout/
    """
    graph = context.graph
    followed, learned = before_kernels(graph), learned_calls(graph)
    layers = [
        (call, kernel)
        for call in graph.calls
        if call.activation == "selu"
        and call.id in followed
        and call.id in learned
        and (kernel := _kernel_of(graph, call)) is not None
    ]
    if not layers:
        return
    scaled = {
        kernel.layer: (kernel, share)
        for _, kernel in layers
        if (share := _variance_share(graph, kernel)) is not None
        and abs(math.log(share)) > math.log(max(context.number("factor"), 1.0))
    }
    if scaled:
        yield _wrong_scale(context, list(scaled.values()))
    behind = [following for call, _ in layers for following in _behind(graph, call)]
    plain = [
        call for call in behind if call.op is Op.DROPOUT and call.kind not in ("AlphaDropout",)
    ]
    if plain:
        yield context.finding(
            f"{names(plain)} {'sets' if len(plain) == 1 else 'set'} SELU's units to 0, which is "
            "not their off state: mean and variance, which SELU keeps, are shifted.",
            layers=ids(plain),
            evidence=tuple(Evidence(name=f"kind of {call.id}", value=call.kind) for call in plain),
            remedy=(
                "Use AlphaDropout behind SELU.\n\n"
                "```python\n"
                f"x = keras.layers.AlphaDropout({plain[0].config.get('rate', 0.1)})(x)\n"
                "```\n"
            ),
        )
    normalized = [call for call in behind if call.op in NORMALIZATION_OPS]
    if normalized:
        yield context.finding(
            f"{names(normalized)} {'normalizes' if len(normalized) == 1 else 'normalize'} what "
            "SELU keeps normalized by itself.",
            layers=ids(normalized),
            evidence=(Evidence(name="normalizations behind SELU", value=len(normalized)),),
            remedy="Leave the normalization out, or use ReLU with he_normal and keep it.",
            confidence=Confidence.MEDIUM,
        )


def _wrong_scale(context: Context, scaled: list[tuple[LayerCall, float]]) -> Finding:
    calls = [call for call, _ in scaled]
    worst, share = max(scaled, key=lambda pair: abs(math.log(pair[1])))
    kernel = worst.weight("kernel")
    drawn = kernel.initializer.name if kernel is not None and kernel.initializer else "unknown"
    return context.finding(
        f"SELU keeps its variance where weights have 1/fan-in; those of {names(calls)} do not: "
        f"in `{worst.id}` ({drawn}) it is {share:.3g} times that.",
        layers=ids(calls),
        evidence=tuple(
            Evidence(name=f"fan-in · variance of {call.id}", value=value, method="initializer")
            for call, value in scaled
        ),
        remedy=(
            'Set `kernel_initializer="lecun_normal"` in every layer with SELU.\n\n'
            "```python\n"
            f"keras.layers.{worst.kind}(..., "
            'activation="selu", kernel_initializer="lecun_normal")\n'
            "```\n"
        ),
        confidence=Confidence.HIGH if max(share, 1 / share) >= 1.8 else Confidence.MEDIUM,
    )


def _kernel_of(graph: LayerGraph, call: LayerCall) -> LayerCall | None:
    """The affine call whose output the SELU is of, nothing between but its shape."""
    while call.op not in AFFINE_OPS:
        sources = graph.predecessors(call.id)
        if len(sources) != 1 or call.op not in SHAPE_OPS | {Op.ACTIVATION, Op.IDENTITY, Op.CAST}:
            return None
        (call,) = sources
        if call.activation is not None:
            return None
    return call


def _variance_share(graph: LayerGraph, call: LayerCall) -> float | None:
    """fan-in · variance by the kernel's law; None where it is unknown or the kernel was trained."""
    for index, weight in enumerate(call.weights):
        if weight.role != "kernel" or weight.initializer is None or not weight.fan_in:
            continue
        law = law_of(weight, graph.weight_statistics.get((call.layer, index)))
        if law is None or law.variance <= 0:
            return None
        return weight.fan_in * law.variance
    return None


def _behind(graph: LayerGraph, call: LayerCall) -> list[LayerCall]:
    """What acts on the SELU's units next, shapes apart."""
    found: list[LayerCall] = []
    pending = list(graph.successors(call.id))
    while pending:
        step = pending.pop(0)
        if step.op in SHAPE_OPS | {Op.IDENTITY, Op.CAST}:
            pending.extend(graph.successors(step.id))
        else:
            found.append(step)
    return found
