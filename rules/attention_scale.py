"""GEB510: attention that sees one key alone, as the probe measured it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.freshness import fresh_share
from auditor.rule import Context, Needs, Option, rule

from .wording import among, ids

#: Of fewer keys a sharp choice is no sign of anything.
FEWEST_KEYS = 8


@rule(
    "GEB510",
    "attention-saturation",
    severity=Severity.WARNING,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(
            name="entropy",
            default=0.5,
            meaning="entropy of the weights over that of even ones, at or below which it fires",
            most=1.0,
        ),
        Option(
            name="scale",
            default=1.0,
            meaning="logits' standard deviation, in units of √(2 ln keys), from which it fires",
        ),
    ),
)
def attention_saturation(context: Context) -> Iterator[Finding | Skipped]:
    """Attention falls on single keys before anything is learned.

    ## What it does
    Looks at the logits of attention layers with fresh weights. Fires where their standard
    deviation over the keys is `scale` · √(2 ln keys) or more and the entropy of the weights has
    fallen to `entropy` of what even weights have, in half of the heads or more.

    ## Why is this bad
    There the softmax is flat: its gradient in the logits is p(1 − p), and p is near 0 or 1 for
    every key. Which keys a query sees was decided by chance, and the gradient cannot change it.
    Mostly the logits are not divided by √(width of a head), or queries and keys come unnormalized.

    ## Evidence
    Standard deviation of the logits and entropy of the weights, measured by the probe, by head.
    For independent normal logits √(2 ln n) is where the sum over n keys comes to be that of a few
    of them (the freezing of the random energy model). With Keras' initial weights and normalized
    inputs it is 0.4 to 0.7 nats, and the entropy 0.94 and more, where √(2 ln 32) is 2.6.

    ## Example
    ```python
    scores = keras.ops.matmul(query, keras.ops.transpose(key, (0, 1, 3, 2)))
    weights = keras.ops.softmax(scores)
    ```

    ## Use instead
    ```python
    scores = keras.ops.matmul(query, keras.ops.transpose(key, (0, 1, 3, 2)))
    weights = keras.ops.softmax(scores / keras.ops.sqrt(float(query.shape[-1])))
    ```

    ## Options
    - `entropy`: entropy of the weights over that of even ones, at or below which it fires, 0.5 by
      default.
    - `scale`: logits' standard deviation, in units of √(2 ln keys), from which it fires, 1 by
      default.

    ## Known problems
    Trained heads are sharp with reason and are not judged. Attention that is written in single
    operations is not measured.

    ## References
    - Derrida 1981, Random-energy model: an exactly solvable model of disordered systems,
      doi:10.1103/PhysRevB.24.2613
    - Zhai et al. 2023, Stabilizing transformer training by preventing attention entropy collapse,
      https://arxiv.org/abs/2303.06296
    - Vaswani et al. 2017, Attention is all you need, section 3.2.1,
      https://arxiv.org/abs/1706.03762
    """
    graph, probe = context.graph, context.probe
    measured = [
        (call, seen.attention)
        for call in graph.calls
        if (seen := probe.calls.get(call.id)) is not None
        and seen.attention is not None
        and seen.attention.keys >= FEWEST_KEYS
    ]
    if not measured:
        yield context.skip(f"no attention over {FEWEST_KEYS} keys or more was measured")
        return
    if fresh_share(graph) != 1.0:
        yield context.skip("the weights are not fresh: trained heads may be sharp")
        return
    scale, limit = context.number("scale"), context.number("entropy")
    frozen = [
        (call, found)
        for call, found in measured
        if found.entropy.p50 <= limit
        and found.logit_scale.p50 >= scale * math.sqrt(2 * math.log(found.keys))
    ]
    if not frozen:
        return
    worst, sharpest = max(frozen, key=lambda pair: pair[1].logit_scale.p50)
    yield context.finding(
        f"{among([call for call, _ in frozen])}each query of `{worst.id}` looks at a few keys "
        f"alone, chosen by chance (logits spread by {sharpest.logit_scale.p50:.2g} nats, entropy "
        f"{sharpest.entropy.p50:.0%} of even weights).",
        layers=ids([call for call, _ in frozen]),
        evidence=tuple(
            item
            for call, found in frozen
            for item in (
                Evidence(
                    name=f"logits of {call.id}",
                    value=found.logit_scale.p50,
                    unit="nats, standard deviation",
                    method=f"median over heads, {found.keys} keys",
                ),
                Evidence(
                    name=f"entropy of {call.id}",
                    value=found.entropy.p50,
                    unit="of even weights",
                    method="median over heads",
                ),
            )
        ),
        remedy=(
            "Divide the logits by √(width of a head), as keras.layers.MultiHeadAttention does, "
            "normalize what goes into the layer (LayerNormalization), and keep its kernels at "
            "glorot_uniform."
        ),
        confidence=Confidence.HIGH,
    )
