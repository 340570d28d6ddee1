"""GEB3, residual branches: sums that grow block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall
from auditor.graph.depth_kind import OpenBranch, open_branches
from auditor.graph.freshness import fresh_share
from auditor.graph.residual_blocks import Block, residual_blocks
from auditor.graph.trainable_reach import learned_calls
from auditor.rule import Context, Option, rule

from .wording import ids


@rule(
    "GEB307",
    "residual-scaling",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="growth",
            default=1e3,
            meaning="predicted factor on the signal over the residual blocks",
        ),
    ),
)
def residual_scaling(context: Context) -> Iterator[Finding | Skipped]:
    """Residual branches that nothing scales down, so that the signal grows with depth.

    ## What it does
    Looks at residual blocks without any normalization, and predicts from the weights by how much
    each branch adds to the signal it is added to. Fires when the root mean square grows `growth`
    times or more over the blocks.

    ## Why is this bad
    With initial weights of the usual scale a branch is about as large as its shortcut, so that
    every sum doubles the variance: 2²⁰ after twenty blocks, in the signal and, on the way back, in
    the gradient. The first steps then blow the model up unless the learning rate is tiny. A branch
    that starts at zero, or scaled by 1/√L for L blocks, keeps the growth to a constant.

    ## Evidence
    The predicted variance of the sums by mean-field theory, branch and shortcut taken as
    uncorrelated; the number of blocks. Only fresh weights, or initializers, are judged.

    ## Example
    ```python
    x = inputs = keras.Input((64,))
    for _ in range(24):
        y = keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal")(x)
        y = keras.layers.Dense(64, kernel_initializer="he_normal")(y)
        x = keras.layers.Add()([x, y])
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    ```

    ## Use instead
    ```python
    x = inputs = keras.Input((64,))
    for _ in range(24):
        y = keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal")(x)
        y = keras.layers.Dense(64, kernel_initializer="zeros")(y)
        x = keras.layers.Add()([x, y])
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    ```

    ## Options
    - `growth`: predicted factor on the root mean square of the signal over the residual blocks,
      1000 by default: twenty blocks that double the variance. Networks for super-resolution with
      sixteen plain blocks, which train, reach 700.

    ## Known problems
    Networks with a normalization in, before or behind their branches are left alone: their growth
    is linear, or undone. Branches that the forecast does not cover count as adding nothing.

    ## References
    - Zhang, Dauphin, Ma 2019, Fixup initialization: residual learning without normalization,
      https://arxiv.org/abs/1901.09321
    - De, Smith 2020, Batch normalization biases residual blocks towards the identity function in
      deep networks, https://arxiv.org/abs/2002.10444
    - Bachlechner et al. 2020, ReZero is all you need: fast convergence at large depth,
      https://arxiv.org/abs/2003.04887
    """
    graph, predicted = context.graph, context.forecast
    branches = open_branches(graph)
    if not branches or predicted is None:
        return
    fresh = fresh_share(graph)
    initialized = any(
        weight.initializer is not None for call in graph.calls for weight in call.weights
    )
    if (fresh is not None and fresh < 0.5) or not initialized:
        return
    learned = learned_calls(graph)
    variances = {call_id: made.variance for call_id, made in predicted.calls.items()}
    blocks = {block.merge.id: block for block in residual_blocks(graph)}
    growing: list[tuple[OpenBranch, float]] = []
    for branch in {branch.merge.id: branch for branch in branches}.values():
        factor = _growth(blocks[branch.merge.id], variances)
        if branch.last.id in learned and factor > 1:
            growing.append((branch, factor))
    growth = math.exp(min(sum(math.log(factor) for _, factor in growing), 700.0))
    if growth < context.number("growth"):
        return
    yield _grows(context, growing, growth)


def _growth(block: Block, variances: Mapping[str, float]) -> float:
    """Factor on the signal's root mean square from the block's shortcut to its sum."""
    shortcut = block.shortcut
    before = variances.get(shortcut.end.id) if shortcut is not None else None
    after = variances.get(block.merge.id)
    if not before or not after or before <= 0:
        return 1.0
    return math.sqrt(after / before)


def _grows(context: Context, growing: list[tuple[OpenBranch, float]], growth: float) -> Finding:
    last = [branch.last for branch, _ in growing]
    typical = sorted(factor for _, factor in growing)[len(growing) // 2]
    # A kernel of zeros behind whose activation nothing moves must be scaled down instead.
    still = not any(branch.activated for branch, _ in growing)
    return context.finding(
        f"Over {len(growing)} residual blocks without normalization the signal grows "
        f"{growth:.1e}-fold, {typical:.3g} a block: nothing scales their branches down.",
        layers=ids(last),
        evidence=(
            Evidence(name="residual blocks", value=len(growing), method="graph"),
            Evidence(name="predicted growth of the signal", value=growth, method="mean-field"),
        ),
        remedy=_start_at_nothing(last[0], len(growing), zeros=still),
        confidence=Confidence.HIGH,
    )


def _start_at_nothing(call: LayerCall, blocks: int, *, zeros: bool) -> str:
    scaled = f"y = keras.layers.Rescaling({1 / math.sqrt(blocks):.2g})(y)  # 1/√blocks"
    line = f'y = keras.layers.{call.kind}(..., kernel_initializer="zeros")(y)' if zeros else scaled
    return (
        "Let each branch start at zero or scaled by 1/√L, or put a normalization at its "
        f"beginning.\n\n```python\n{line}\nx = keras.layers.Add()([x, y])\n```\n"
    )
