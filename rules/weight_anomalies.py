"""GEB3, values: kernels that no initializer draws and no sound training leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.finding import Bound, Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph
from auditor.graph.freshness import fresh_share, laws
from auditor.graph.kernel_laws import connections
from auditor.graph.kernel_spectrum import KernelSpectrum, edge, kernel_spectrum
from auditor.graph.weight import Weight
from auditor.rule import Context, Needs, Option, rule

from .wording import ids, names

#: Kernels with fewer inputs or units have no spectrum to speak of.
NARROW = 16
ROLES = frozenset({"kernel", "pointwise_kernel", "query_kernel", "key_kernel", "value_kernel"})


@dataclass(frozen=True, kw_only=True)
class SeenKernel:
    """A kernel, its spectrum, and the standard deviation its initializer's law has at most."""

    call: LayerCall
    spectrum: KernelSpectrum
    deviation: float
    drawn: bool

    @property
    def excess(self) -> float:
        """Largest singular value over that of a draw of the law; 0 where it was not needed."""
        spectrum = self.spectrum
        if spectrum.largest is None:
            return 0.0
        return spectrum.largest / edge(spectrum.inputs, spectrum.units, self.deviation**2)


@rule(
    "GEB306",
    "anomalous-weights",
    severity=Severity.WARNING,
    needs=Needs.WEIGHTS,
    since="0.1",
    options=(
        Option(
            name="factor",
            default=100.0,
            meaning="largest singular value over that of a fresh draw",
        ),
        Option(name="rank", default=0.1, meaning="share of full rank that is a collapse", most=1.0),
        Option(
            name="dead",
            default=0.5,
            meaning="share of a layer's units without any incoming weight",
            most=1.0,
        ),
    ),
)
def anomalous_weights(context: Context) -> Iterator[Finding | Skipped]:
    """Kernels whose values neither an initializer draws nor sound training leaves.

    ## What it does
    Looks at the kernels as matrices. Fires where the largest singular value is `factor` times what
    a draw of the initializer has, where the rank is `rank` of full rank or less, and where the
    incoming weights of `dead` of a layer's units or more are all exactly zero.

    ## Why is this bad
    Training moves the largest singular values of a kernel by a factor of a few; a hundredfold one
    is what remains of steps that were far too large, or of weights copied from elsewhere, and it
    multiplies whatever signal points its way. A kernel of low rank passes a few directions on and
    loses all others for every layer behind. Units without incoming weights give the same for every
    input.

    ## Evidence
    The largest singular value, exact for kernels of up to 256 inputs or units, for larger ones a
    lower bound by subspace iteration; numerical rank, singular values above 10⁻⁵ of the largest;
    units counted exactly. Ranks of 48 and more are not told. Of kernels with more than half a
    million values, evenly spaced inputs are decomposed. The law is that of the initializer in the
    file, or He's where that is larger.

    ## Example
    ```python
    kernel, bias = model.layers[1].get_weights()
    kernel[:, 8:] = 0.0  # "pruned", and trained on from there
    model.layers[1].set_weights([kernel, bias])
    ```

    ## Use instead
    ```python
    layer = model.layers[1]
    kernel = layer.kernel_initializer(layer.kernel.shape)
    layer.set_weights([kernel, layer.bias])
    ```

    ## Options
    - `factor`: largest singular value over that of a fresh draw, 100 by default. In thirty trained
      networks the largest seen was 43.
    - `rank`: share of full rank that counts as a collapse, 0.1 by default.
    - `dead`: share of a layer's units without any incoming weight, 0.5 by default.

    ## Known problems
    A network trained on targets in the thousands may rightly have grown so. Structured pruning and
    weight decay leave dead units in models that work: of trained models they are told for
    information. A law is known for Keras models only; of ONNX models ranks and dead units are
    judged, for information.

    ## References
    - Bai, Yin 1993, Limit of the smallest eigenvalue of a large dimensional sample covariance
      matrix, Annals of Probability 21.
    - Halko, Martinsson, Tropp 2011, Finding structure with randomness: probabilistic algorithms for
      constructing approximate matrix decompositions, https://arxiv.org/abs/0909.4061
    - Martin, Mahoney 2021, Implicit self-regularization in deep neural networks,
      https://arxiv.org/abs/1810.01075
    """
    graph = context.graph
    factor, share = context.number("factor"), context.number("rank")
    seen = _seen(graph, factor, share)
    if not seen:
        yield context.skip("no kernel whose values could be looked at")
        return
    fresh = fresh_share(graph)
    trained = graph.format == "onnx" or (fresh is not None and fresh < 0.5)
    if large := [kernel for kernel in seen if kernel.drawn and kernel.excess >= factor]:
        yield _large(context, large)
    dead = [
        kernel
        for kernel in seen
        if _units(kernel.call) >= NARROW
        and context.number("dead") <= kernel.spectrum.dead / _units(kernel.call) < 1
    ]
    if dead:
        yield _dead(context, dead, trained=trained)
    low = [kernel for kernel in seen if kernel not in dead and _collapsed(kernel, share)]
    if low:
        yield _low_rank(context, low, trained=trained)


def _seen(graph: LayerGraph, factor: float, share: float) -> list[SeenKernel]:
    found: list[SeenKernel] = []
    for call in graph.layers():
        for index, weight in enumerate(call.weights):
            statistics = graph.weight_statistics.get((call.layer, index))
            if weight.role not in ROLES or statistics is None or statistics.nonfinite:
                continue
            # Kernels of one value, or of equal units, are GEB301's.
            if statistics.identical_units or statistics.constant_units or statistics.zero:
                continue
            deviation, drawn = _deviation(call, weight)
            spectrum = kernel_spectrum(
                weight, above=factor * deviation if drawn else math.inf, rank_share=share
            )
            if spectrum is not None:
                found.append(
                    SeenKernel(call=call, spectrum=spectrum, deviation=deviation, drawn=drawn)
                )
    return found


def _deviation(call: LayerCall, weight: Weight) -> tuple[float, bool]:
    """(standard deviation of the initializer's law, at least He's; whether the law is known)."""
    fan = connections(call, weight.role)
    he = math.sqrt(2 / max(fan[0], 1.0)) if fan is not None else 0.0
    known = laws(weight)
    if not known:
        return he or 1.0, False
    return max(he, *(math.sqrt(law.mean_square) for law in known)), True


def _units(call: LayerCall) -> int:
    fan = next((fan for role in ROLES if (fan := connections(call, role)) is not None), None)
    return round(fan[1]) if fan is not None else 0


def _collapsed(kernel: SeenKernel, share: float) -> bool:
    spectrum = kernel.spectrum
    full = min(spectrum.inputs, spectrum.units)
    return spectrum.rank is not None and full >= NARROW and 0 < spectrum.rank <= share * full


def _large(context: Context, large: list[SeenKernel]) -> Finding:
    worst = max(large, key=lambda kernel: kernel.excess)
    largest = worst.spectrum.largest or 0.0
    return context.finding(
        f"The kernel of `{worst.call.id}` stretches some direction {largest:.3g}-fold, "
        f"{worst.excess:.3g} times what its initializer gives"
        + (f"; so do {len(large) - 1} more." if len(large) > 1 else "."),
        layers=ids([kernel.call for kernel in large]),
        evidence=tuple(
            Evidence(
                name=f"largest singular value of {kernel.call.id}",
                value=kernel.spectrum.largest or 0.0,
                bound=Bound.NONE if kernel.spectrum.exact else Bound.LOWER,
                method="eigenvalues" if kernel.spectrum.exact else "subspace iteration",
            )
            for kernel in large
        ),
        remedy=(
            "Go back to a checkpoint from before the weights grew, and train on with a lower "
            "learning rate or clipped gradients; scale targets to about unit variance."
        ),
        confidence=Confidence.MEDIUM,
    )


def _dead(context: Context, dead: list[SeenKernel], *, trained: bool) -> Finding:
    calls = [kernel.call for kernel in dead]
    worst = max(dead, key=lambda kernel: kernel.spectrum.dead / _units(kernel.call))
    return context.finding(
        f"{worst.spectrum.dead} of the {_units(worst.call)} units of `{worst.call.id}` have no "
        "incoming weight: they give the same for every input.",
        layers=ids(calls),
        evidence=tuple(
            Evidence(
                name=f"units of {kernel.call.id} without weights",
                value=kernel.spectrum.dead,
                method="counted",
            )
            for kernel in dead
        ),
        remedy=(
            "Draw the kernel anew; if the units were pruned, take them out of the layer and its "
            "readers, which makes both smaller."
        ),
        severity=Severity.INFO if trained else None,
        confidence=Confidence.HIGH,
    )


def _low_rank(context: Context, low: list[SeenKernel], *, trained: bool) -> Finding:
    calls = [kernel.call for kernel in low]
    first = low[0].spectrum
    return context.finding(
        f"The kernel of {names(calls[:1])} has rank {first.rank} of "
        f"{min(first.inputs, first.units)}"
        + (f", and {len(low) - 1} more are like it" if len(low) > 1 else "")
        + ": it passes a few directions on and loses all others.",
        layers=ids(calls),
        evidence=tuple(
            Evidence(
                name=f"rank of {kernel.call.id}",
                value=kernel.spectrum.rank or 0,
                method="singular values above 1e-5 of the largest",
            )
            for kernel in low
        ),
        remedy=(
            "Draw the kernel anew. If a low rank is meant, factor the layer in two narrow ones, "
            "which keeps it in training."
        ),
        severity=Severity.INFO if trained and context.graph.format == "onnx" else None,
        confidence=Confidence.HIGH if first.exact else Confidence.MEDIUM,
    )
