"""GEB504 and GEB505: the Jacobians of single layers, as the probe measured them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.freshness import fresh_share
from auditor.graph.layer_tail import layer_tail
from auditor.graph.operators import AFFINE_OPS, KERNEL_OPS, NORMALIZATION_OPS
from auditor.graph.trainable_reach import learned_calls
from auditor.measurement import JacobianMeasurement, ProbeResult
from auditor.rule import Context, Needs, Option, rule

from .wording import among, ids, names

#: Fewer layers have no neighbours to compare one with.
FEWEST = 4
#: Singular values below which a low rank is a matter of course.
NARROW = 16
#: Share of flat units from which a low rank is theirs, and not the kernel's.
MOSTLY = 0.5


@dataclass(frozen=True, kw_only=True)
class _Gain:
    """A layer with its measured Jacobian."""

    call: LayerCall
    jacobian: JacobianMeasurement

    @property
    def least(self) -> float:
        """The smaller of forward and backward gain: only both together are the layer's doing."""
        return min(self.jacobian.forward_gain, self.jacobian.backward_gain)

    @property
    def most(self) -> float:
        return max(self.jacobian.forward_gain, self.jacobian.backward_gain)

    @property
    def middle(self) -> float:
        """Their geometric mean, in which a change of width cancels."""
        return math.sqrt(self.jacobian.forward_gain * self.jacobian.backward_gain)


@rule(
    "GEB504",
    "hot-layer",
    severity=Severity.WARNING,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(name="factor", default=10.0, meaning="gain over that of the others, and over 1"),
        Option(
            name="cold-factor",
            default=100.0,
            meaning="the same below that of the others, and below 1",
        ),
    ),
)
def hot_layer(context: Context) -> Iterator[Finding | Skipped]:
    """One layer multiplies the signal far more, or far less, than the others.

    ## What it does
    Compares the gain of each layer with a kernel, ‖J‖_F over the root of its width, with the
    median over all of them. Fires where forward and backward gain are both `factor` times the
    median and more, and above `factor` themselves, or both below by `cold-factor`. Layers that are
    normalized behind their kernel, zero-initialized ones and, among the cold ones, outputs are
    left out.

    ## Why is this bad
    Where one layer is off by an order of magnitude, the signal behind it and the gradient before
    it are, too. Every learning rate is then too large on one side of it or too small on the other.

    ## Evidence
    The Jacobian's Frobenius norm, measured by the probe, against the median over the layers. At
    fresh weights the gains of textbook models and of keras.applications lie between 0.02
    (depthwise convolutions) and 1.6, that of nearly all between 0.3 and 1.3.

    ## Example
    ```python
    keras.layers.Dense(256, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0))
    ```

    ## Use instead
    ```python
    keras.layers.Dense(256, kernel_initializer="he_normal")
    ```

    ## Options
    - `factor`: gain over the median, and over 1, from which a layer is hot, 10 by default.
    - `cold-factor`: gain below the median, and below 1, from which it is cold, 100 by default.

    ## Known problems
    Trained layers differ more than fresh ones. A scale that the next layer takes back on purpose
    is named all the same.

    ## References
    - Doshi, He, Gromov 2021, Critical initialization of wide and deep neural networks through
      partial Jacobians, https://arxiv.org/abs/2111.12143
    - Bachlechner et al. 2020, ReZero is all you need, https://arxiv.org/abs/2003.04887
    """
    graph = context.graph
    gains = [gain for gain in _gains(graph, context.probe) if math.isfinite(gain.most)]
    if len(gains) < FEWEST:
        yield context.skip(f"fewer than {FEWEST} layers with a kernel have a measured Jacobian")
        return
    median = statistics.median(gain.middle for gain in gains)
    if median <= 0.0:
        yield context.skip("most layers pass nothing on at the start")
        return
    judged = [gain for gain in gains if not _normalized(graph, gain.call)]
    limit = context.number("factor")
    hot = [gain for gain in judged if gain.least >= limit * max(median, 1.0)]
    if hot:
        worst = max(hot, key=lambda gain: gain.middle)
        yield context.finding(
            f"{among([gain.call for gain in hot])}`{worst.call.id}` multiplies what passes it "
            f"by {worst.middle:.3g}, where the other layers have {median:.2g}.",
            layers=ids([gain.call for gain in hot]),
            evidence=_evidence(hot, median),
            remedy=(
                "Draw its kernel to the scale of its fan-in (he_normal before ReLU, glorot_uniform "
                "else), or normalize behind it."
            ),
            confidence=Confidence.HIGH,
        )
    outputs = {call.id for call in graph.output_calls}
    floor = min(median, 1.0) / context.number("cold-factor")
    cold = [
        gain
        for gain in judged
        if 0.0 < gain.most <= floor and layer_tail(graph, gain.call)[-1].id not in outputs
    ]
    if cold:
        worst = min(cold, key=lambda gain: gain.middle)
        yield context.finding(
            f"{among([gain.call for gain in cold])}`{worst.call.id}` leaves {worst.middle:.2g} "
            f"of what passes it, where the other layers leave {median:.2g}.",
            layers=ids([gain.call for gain in cold]),
            evidence=_evidence(cold, median),
            remedy=(
                "Draw its kernel to the scale of its fan-in (he_normal before ReLU, glorot_uniform "
                "else), look at whether its inputs saturate it, or normalize behind it."
            ),
            confidence=Confidence.MEDIUM,
        )


@rule(
    "GEB505",
    "poor-isometry",
    severity=Severity.WARNING,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(name="rank", default=2.0, meaning="stable rank at or below which a layer is named"),
    ),
)
def poor_isometry(context: Context) -> Iterator[Finding | Skipped]:
    """A wide layer passes hardly more than one direction.

    ## What it does
    Takes the stable rank of each layer's Jacobian, ‖J‖_F² / σ₁²: in how many directions, counted
    by their weight, something passes. Fires where a layer that could pass 16 or more passes
    `rank` or fewer, with fresh weights.

    ## Why is this bad
    Samples that differ look alike behind such a layer, and their gradients before it point the
    same way. Training then moves all units together, and a deep net cannot be trained at all: its
    Jacobian is a product, whose singular values spread with every factor.

    ## Evidence
    Frobenius and spectral norm of the Jacobian, measured by the probe. The spectral norm is a
    lower bound, so that the rank is one from above. Independent weights give about a quarter of
    the width; the least found in textbook models and keras.applications is 4, of 16.

    ## Example
    ```python
    keras.layers.Dense(256, kernel_initializer=keras.initializers.RandomUniform(0.0, 0.1))
    ```

    ## Use instead
    ```python
    keras.layers.Dense(256, kernel_initializer="orthogonal")
    ```

    ## Options
    - `rank`: stable rank at or below which a layer is named, 2 by default.

    ## Known problems
    Trained classifiers end in few directions, one fewer than there are classes; so trained
    weights are not judged, and neither are layers of which most units are dead or saturated.

    ## References
    - Pennington, Schoenholz, Ganguli 2017, Resurrecting the sigmoid in deep learning through
      dynamical isometry, https://arxiv.org/abs/1711.04735
    - Papyan, Han, Donoho 2020, Prevalence of neural collapse during the terminal phase of deep
      learning training, https://arxiv.org/abs/2008.08186
    """
    graph, probe = context.graph, context.probe
    if fresh_share(graph) != 1.0:
        yield context.skip("the weights are not fresh from known initializers")
        return
    wide = [
        gain
        for gain in _gains(graph, probe)
        if gain.call.op in AFFINE_OPS
        and min(gain.jacobian.inputs, gain.jacobian.outputs) >= NARROW
        and not _flat(probe, gain.call)
    ]
    if not wide:
        yield context.skip("no layer of some width has a measured Jacobian")
        return
    ranks = {gain.call.id: rank for gain in wide if (rank := _stable_rank(gain)) is not None}
    limit = context.number("rank")
    poor = [gain for gain in wide if ranks.get(gain.call.id, math.inf) <= limit]
    if not poor:
        return
    worst = min(poor, key=lambda gain: ranks[gain.call.id])
    possible = min(worst.jacobian.inputs, worst.jacobian.outputs)
    calls = [gain.call for gain in poor]
    yield context.finding(
        f"{names(calls)} {'passes' if len(calls) == 1 else 'pass'} hardly more than one direction: "
        f"`{worst.call.id}` {ranks[worst.call.id]:.2g} of {possible:,}.",
        layers=ids(calls),
        evidence=tuple(
            Evidence(
                name=f"stable rank of {gain.call.id}",
                value=ranks[gain.call.id],
                unit="directions",
                method=f"‖J‖_F²/σ₁², {gain.jacobian.spectral_norm.method}",
                products=gain.jacobian.spectral_norm.products,
            )
            for gain in poor
        ),
        remedy=(
            "Draw the kernel around zero and independently (he_normal, glorot_uniform, "
            "orthogonal): weights of one sign, or copies of one unit, make one direction."
        ),
        confidence=Confidence.MEDIUM,
    )


def _gains(graph: LayerGraph, probe: ProbeResult) -> list[_Gain]:
    """Layers with a kernel on the way of a gradient, with what was measured of them."""
    learned = learned_calls(graph)
    return [
        _Gain(call=call, jacobian=seen.jacobian)
        for call in graph.calls
        if call.op in KERNEL_OPS
        and call.op is not Op.EMBEDDING
        and call.id in learned
        and (seen := probe.calls.get(call.id)) is not None
        and seen.jacobian is not None
    ]


def _flat(probe: ProbeResult, call: LayerCall) -> bool:
    """Whether most of its units are saturated or dead, which is told as that (GEB205, GEB206)."""
    seen = probe.calls[call.id]
    return max(seen.saturated_share or 0.0, seen.dead_share or 0.0) > MOSTLY


def _stable_rank(gain: _Gain) -> float | None:
    isometry = gain.jacobian.isometry
    if isometry is None or not math.isfinite(isometry):
        return None
    return isometry * min(gain.jacobian.inputs, gain.jacobian.outputs)


def _normalized(graph: LayerGraph, call: LayerCall) -> bool:
    return any(member.op in NORMALIZATION_OPS for member in layer_tail(graph, call))


def _evidence(gains: Sequence[_Gain], median: float) -> tuple[Evidence, ...]:
    return (
        *(
            Evidence(
                name=f"gain of {gain.call.id}",
                value=gain.middle,
                unit="factor",
                method=f"‖J‖_F/√n, {gain.jacobian.frobenius_norm.method}",
                products=gain.jacobian.frobenius_norm.products,
            )
            for gain in gains
        ),
        Evidence(name="median of the layers", value=median, unit="factor", method="the same"),
    )
