"""GEB405: penalties and decay that are stronger than what the model is to learn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerGraph
from auditor.graph.penalties import Penalty, penalties
from auditor.measurement import ProbeResult
from auditor.rule import Context, Option, rule

from .wording import ids, names

#: Keras' default decay of optimizers that have one without being asked.
DEFAULT_DECAY = {"adamw": 0.004, "muon": 0.004}


@rule(
    "GEB405",
    "excessive-regularization",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(name="l2", default=0.1, meaning="L2 coefficient that is excessive unmeasured"),
        Option(name="l1", default=0.03, meaning="L1 coefficient that is excessive unmeasured"),
        Option(
            name="decay",
            default=0.005,
            meaning="share of every weight that decay may take in one step",
            most=1.0,
        ),
        Option(
            name="dominance",
            default=5.0,
            meaning="times the loss' gradient that the penalties' may be, where it is measured",
        ),
    ),
)
def excessive_regularization(context: Context) -> Iterator[Finding | Skipped]:
    """Penalties or weight decay outweigh the loss, or both are set and act twice.

    ## What it does
    With a probe: holds the gradient of the L1 and L2 penalties on weights against what is left of
    the measured gradient without it, and warns when it is `dominance` times that and more. Without
    one, and for penalties on activations: warns of coefficients of `l2` or `l1` and more. In
    either case warns when the optimizer's decay takes `decay` or more of every weight in each step,
    and when an L2 penalty on kernels stands beside decoupled decay. Compiled models only.

    ## Why is this bad
    Where the penalty's gradient is larger than the loss's, what training minimizes is the weights.
    They shrink layer by layer, the signal with them, until the output is a constant: the loss
    falls at first, which looks like learning, and accuracy stays at chance. L2 in the loss and
    decay in the optimizer pull at the same weights; with adaptive optimizers the L2 part is
    divided by the gradient's size, so that neither coefficient means what it says.

    ## Evidence
    The coefficients; where measured, both gradients' norms over the layers that have a penalty.
    The penalties' is known from the weights, entry by entry, and is taken from the whole.

    ## Example
    ```python
    x = keras.layers.Dense(128, kernel_regularizer=keras.regularizers.L2(1.0))(x)
    ```

    ## Use instead
    ```python
    x = keras.layers.Dense(128, kernel_regularizer=keras.regularizers.L2(1e-4))(x)
    ```

    ## Options
    - `l2`: L2 coefficient that is excessive unmeasured, 0.1 by default.
    - `l1`: L1 coefficient that is excessive unmeasured, 0.03 by default.
    - `decay`: share of every weight that decay may take in one step, 0.005 by default: a half-life
      of 140 steps.
    - `dominance`: times the loss' gradient that the penalties' may be where it is measured, 5 by
      default.

    ## Known problems
    The measure is of the start. Synthetic batches have the scale of normalized data; a loss in
    other units (prices, say) has other gradients, so measure with `--data`. A schedule that lowers
    the rate lowers the decay with it.

    ## References
    - Loshchilov, Hutter 2019, Decoupled weight decay regularization,
      https://arxiv.org/abs/1711.05101
    - Krogh, Hertz 1991, A simple weight decay can improve generalization.
    """
    graph = context.graph
    if graph.compile is None:
        yield context.skip("the model was saved uncompiled")
        return
    found = penalties(graph)
    measured = context.optional_probe
    share = None if measured is None else _share(graph, measured, found)
    if share is not None:
        yield from _dominating(context, found, share)
    yield from _large(context, [p for p in found if share is None or not p.weights])
    yield from _decay(context)
    yield from _twice(context, found)


def _dominating(
    context: Context, found: Sequence[Penalty], norms: tuple[float, float]
) -> Iterator[Finding]:
    penalty, rest = norms
    if penalty < context.number("dominance") * rest or penalty == 0:
        return
    on = [p.call for p in found if p.weights]
    times = f"{penalty / rest:.2g} times" if rest > 1e-3 * penalty else "over a thousand times"
    yield context.finding(
        f"The penalties on {names(on)} pull at the weights with {times} the gradient of the loss: "
        "training shrinks the weights before it learns anything.",
        layers=ids(on),
        evidence=(
            Evidence(
                name="gradient of the penalties", value=penalty, method="‖l1·sign w + 2·l2·w‖"
            ),
            Evidence(name="gradient of the loss", value=rest, method="measured, the former taken"),
            *_coefficients([p for p in found if p.weights]),
        ),
        remedy=_LIGHTER,
        confidence=Confidence.HIGH,
    )


def _large(context: Context, found: Sequence[Penalty]) -> Iterator[Finding]:
    large = [p for p in found if p.l2 >= context.number("l2") or p.l1 >= context.number("l1")]
    if not large:
        return
    worst = max(large, key=lambda p: max(p.l2, p.l1))
    which = f"L2({worst.l2:g})" if worst.l2 >= worst.l1 else f"L1({worst.l1:g})"
    calls = [p.call for p in large]
    yield context.finding(
        f"{names(calls)} {'has' if len(large) == 1 else 'have'} penalties as strong as {which}, "
        "where 1e-5 to 1e-2 is usual: they outweigh most losses, and the weights shrink to where "
        "the output is a constant.",
        layers=ids(calls),
        evidence=_coefficients(large),
        remedy=_LIGHTER,
        confidence=Confidence.MEDIUM,
    )


_LIGHTER = """\
Start without a penalty; where the model then overfits, add one in steps of ten from 1e-5 on.

```python
kernel_regularizer=keras.regularizers.L2(1e-4)
```
"""


def _decay(context: Context) -> Iterator[Finding]:
    decay, rate = declared_decay(context.graph), _rate(context.graph)
    if decay is None or rate is None or not decay * rate >= context.number("decay"):
        return
    yield context.finding(
        f"A weight decay of {decay:g} at a learning rate of {rate:g} takes {decay * rate:.2g} of "
        f"every weight in each step: half of it is gone after {_half_life(decay * rate):.0f}.",
        evidence=(
            Evidence(name="weight decay", value=decay, method="compile settings"),
            Evidence(name="learning rate", value=rate, method="compile settings"),
        ),
        remedy="Lower `weight_decay`: 0.004 is Keras' default for AdamW, 0.1 is used at 3e-4.",
        confidence=Confidence.MEDIUM,
    )


def _half_life(share: float) -> float:
    return math.log(2) / -math.log1p(-share) if share < 1 else 0.0


def _twice(context: Context, found: Sequence[Penalty]) -> Iterator[Finding]:
    decay = declared_decay(context.graph)
    decayed = [p for p in found if p.l2 > 0 and p.weights and p.target != "bias"]
    if not decay or not decayed:
        return
    settings = context.graph.compile
    name = settings.optimizer.name if settings and settings.optimizer else "the optimizer"
    calls = [p.call for p in decayed]
    yield context.finding(
        f"{names(calls)} {'has' if len(calls) == 1 else 'have'} an L2 penalty, and {name} decays "
        f"the same weights by {decay:g} besides: they are pulled to zero twice.",
        layers=ids(calls),
        evidence=(
            Evidence(name="weight decay", value=decay, method="compile settings"),
            *_coefficients(decayed),
        ),
        remedy="Keep the optimizer's `weight_decay`, and drop `kernel_regularizer`.",
        confidence=Confidence.MEDIUM,
    )


def declared_decay(graph: LayerGraph) -> float | None:
    """The decoupled decay of the optimizer, by default or as set; None for none."""
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    if optimizer is None:
        return None
    if "weight_decay" in optimizer.config:
        return optimizer.number("weight_decay")
    return DEFAULT_DECAY.get(optimizer.name)


def _rate(graph: LayerGraph) -> float | None:
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    return optimizer.learning_rate if optimizer is not None else None


def _share(
    graph: LayerGraph, probe: ProbeResult, found: Sequence[Penalty]
) -> tuple[float, float] | None:
    """Norms of the penalties' gradient and of what is left without it, over penalized layers."""
    layers = {penalty.call.layer for penalty in found if penalty.weights}
    norms: dict[str, tuple[float, float]] = {}
    for call in graph.calls:
        seen = probe.calls.get(call.id)
        if call.layer not in layers or seen is None:
            continue
        penalty, rest = seen.penalty_gradient_norm, seen.unpenalized_gradient_norm
        if penalty is not None and rest is not None:
            norms.setdefault(call.layer, (penalty, rest))
    if not layers or norms.keys() != layers:
        return None
    penalty, rest = (math.hypot(*one) for one in zip(*norms.values(), strict=True))
    return (penalty, rest) if math.isfinite(penalty) and math.isfinite(rest) else None


def _coefficients(found: Sequence[Penalty]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            name=f"{kind} on the {penalty.target} of {penalty.call.id}",
            value=value,
            method="configuration",
        )
        for penalty in found
        for kind, value in (("l1", penalty.l1), ("l2", penalty.l2))
        if value
    )
