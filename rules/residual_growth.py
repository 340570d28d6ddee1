"""GEB509: the signal's variance along residual blocks, as the probe measured it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerGraph, Shape
from auditor.measurement import BlockProfile
from auditor.rule import Context, Needs, Option, rule

#: Fewer blocks show no law of growth.
FEWEST = 4


@rule(
    "GEB509",
    "residual-variance-growth",
    severity=Severity.WARNING,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(name="growth", default=1e3, meaning="variance behind the last block over the first"),
        Option(
            name="second-half",
            default=10.0,
            meaning="the same over the second half of the blocks: what tells powers from sums",
        ),
    ),
)
def residual_variance_growth(context: Context) -> Iterator[Finding | Skipped]:
    """The signal's variance grows geometrically along residual blocks.

    ## What it does
    Follows the variance of the signal behind each residual block of a stage (blocks with outputs
    of one shape). Fires where it has grown by `growth` or more from the first to the last, and by
    `second-half` over their second half.

    ## Why is this bad
    A block whose branch is as large as its input doubles the variance: thirty of them make 10⁹.
    The last blocks then see nothing but the sum of the others, the head gets numbers in the ten
    thousands, and the gradient is as much larger at the first blocks. Branches that normalize
    their input add a constant instead, and the variance grows with the number of blocks only.

    ## Evidence
    Variance over samples and positions, averaged over channels, measured by the probe behind each
    sum. Growth with the number of blocks doubles over the second half; what doubles each block
    does so as often as there are blocks in it. A transformer that starts from a small embedding
    grows 70-fold over 8 sums, and twofold over the last 4.

    ## Example
    ```python
    for _ in range(30):
        branch = keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal")(x)
        x = keras.layers.Add()([x, keras.layers.Dense(64)(branch)])
    ```

    ## Use instead
    ```python
    for _ in range(30):
        branch = keras.layers.LayerNormalization()(x)
        branch = keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal")(branch)
        x = keras.layers.Add()([x, keras.layers.Dense(64, kernel_initializer="zeros")(branch)])
    ```

    ## Options
    - `growth`: variance behind the last block over that behind the first, 1000 by default.
    - `second-half`: the same over the second half of the blocks, 10 by default.

    ## Known problems
    Stages of fewer than four blocks are not judged.

    ## References
    - Brock, De, Smith 2021, Characterizing signal propagation to close the performance gap in
      unnormalized ResNets, https://arxiv.org/abs/2101.08692
    - Zhang, Dauphin, Ma 2019, Fixup initialization, https://arxiv.org/abs/1901.09321
    """
    graph, probe = context.graph, context.probe
    stages = [stage for stage in _stages(graph, probe.residual_profile) if len(stage) >= FEWEST]
    if not stages:
        yield context.skip(f"no stage of {FEWEST} residual blocks or more was measured")
        return
    least, late = context.number("growth"), context.number("second-half")
    for stage in stages:
        first, middle, last = (
            stage[place].variance for place in (0, (len(stage) - 1) // 2, len(stage) - 1)
        )
        if last < least * first or last < late * middle:
            continue
        blocks = len(stage) - 1
        growth = (last / first) ** (1 / blocks)
        yield context.finding(
            f"Over {len(stage)} residual blocks the signal's variance grows from {first:.3g} to "
            f"{last:.3g}, {growth:.2g}-fold a block.",
            layers=tuple(block.call for block in stage),
            evidence=(
                Evidence(
                    name="growth of the variance",
                    value=growth,
                    unit="factor a block",
                    method="last over first, probe",
                ),
                Evidence(name="growth over the second half", value=last / middle, unit="factor"),
            ),
            remedy=(
                "Normalize at the beginning of each branch, or start the branches at nothing: "
                "zeros in their last kernel, or a factor of 1/√(number of blocks).\n\n"
                "```python\n"
                'branch = keras.layers.Dense(units, kernel_initializer="zeros")(branch)\n'
                "x = keras.layers.Add()([x, branch])\n"
                "```\n"
            ),
            confidence=Confidence.HIGH,
        )


def _stages(graph: LayerGraph, profile: Sequence[BlockProfile]) -> list[list[BlockProfile]]:
    """Blocks in order, by the shape of their output."""
    stages: dict[Shape | None, list[BlockProfile]] = {}
    for block in profile:
        call = graph.by_id.get(block.call)
        usable = math.isfinite(block.variance) and block.variance > 0.0
        if call is not None and call.out_shape is not None and usable:
            stages.setdefault(call.out_shape, []).append(block)
    return list(stages.values())
