"""How many products with the Hessian a probe takes: as asked, or as many as the model is worth."""

from __future__ import annotations

from auditor.graph.layer_graph import LayerGraph
from auditor.probe.pass_cost import pass_cost

#: Lanczos steps where nothing is asked. On networks of some hundred weights eight gave 0.92 to
#: 1.00 of the exact λ₁(H), median 1.00.
STEPS = 8
#: Multiply-adds of all products together up to which they are taken unasked: a few seconds on
#: two cores.
MULTIPLY_ADDS = 10**11
#: Calls up to which they are: the derivative is traced a second time, which takes longest.
CALLS = 100
#: Passes forward that a product costs: forward, backward, and each differentiated again.
PASSES = 6
#: Numbers touched for each weight in a product, outside of the model.
WEIGHT_OPERATIONS = 100


def curvature_steps(
    graph: LayerGraph, asked: int | None, *, weights: int, batch: int
) -> tuple[int, str]:
    """Lanczos steps to take for each eigenvalue, and why there are none, if there are none.

    `asked` is the number of steps that was asked for, 0 for none, None for a decision by cost.
    The decision is by the graph alone, so that it is the same on every machine; it counts both
    eigenvalues, whether or not the optimizer calls for the second.
    """
    if asked is not None:
        return asked, "" if asked else "not asked for: --curvature 0"
    hint = f"; give --curvature {STEPS}"
    if len(graph.calls) > CALLS:
        return 0, (
            f"differentiating {len(graph.calls):,} calls twice takes long "
            f"(done unasked for up to {CALLS}){hint}"
        )
    total = 2 * STEPS * (PASSES * pass_cost(graph, weights) * batch + WEIGHT_OPERATIONS * weights)
    if total > MULTIPLY_ADDS:
        return 0, (
            f"{2 * STEPS} products with the Hessian cost about {total:.1e} multiply-adds "
            f"(done unasked for up to {MULTIPLY_ADDS:.0e}){hint}"
        )
    return STEPS, ""
