"""GEB506: gradients along time, as the probe measured them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import CompileSettings, LayerCall
from auditor.graph.freshness import fresh_share
from auditor.measurement import TimeGrowth
from auditor.rule import Context, Needs, Option, rule

from .wording import among, ids

CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


@dataclass(frozen=True, kw_only=True)
class _Grown:
    """A recurrent layer, and the growth over a whole sequence: as estimated, and at least."""

    call: LayerCall
    time: TimeGrowth
    total: float
    least: float


@rule(
    "GEB506",
    "recurrent-explosion",
    severity=Severity.WARNING,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(name="growth", default=1e3, meaning="growth over a sequence that is a warning"),
        Option(
            name="error-growth",
            default=1e8,
            meaning="the same for an error, where the gradient is not clipped",
        ),
    ),
)
def recurrent_explosion(context: Context) -> Iterator[Finding | Skipped]:
    """The gradient grows from step to step, back through time.

    ## What it does
    Takes the factor by which a recurrent layer multiplies a gradient in each step back in time
    and raises it to the length of the sequences. Fires where the lower end of its 95 % interval
    still gives `growth` or more; an error from `error-growth` on, with fresh weights and without
    clipping. Layers whose weights and inputs are frozen do not count.

    ## Why is this bad
    What the first steps of a sequence contribute to the gradient then outweighs all the rest, and
    it is all but random: the direction in which a step of training is most uncertain decides where
    it goes. Losses of such nets jump and do not come down, or end in NaN.

    ## Evidence
    Measured by the probe: the cell is run over the data step by step and a random cotangent of
    its last state pulled back. The spectral norm of the recurrent kernel alone does not tell: the
    activation's slope belongs to it.

    ## Example
    ```python
    keras.layers.SimpleRNN(
        64, kernel_initializer="he_normal", recurrent_initializer=RandomNormal(stddev=0.5)
    )
    ```

    ## Use instead
    ```python
    keras.layers.SimpleRNN(64, recurrent_initializer="orthogonal")
    ```

    ## Options
    - `growth`: growth over a sequence that is a warning, 1000 by default.
    - `error-growth`: the same for an error, 10⁸ by default: beyond the precision of float32, so
      that nothing is left of what the later steps say.

    ## Known problems
    The growth is that along a typical direction. Truncated backpropagation through time is not
    known to the file: `TimeGrowth.length` is the whole sequence.

    ## References
    - Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks,
      https://arxiv.org/abs/1211.5063
    - Vogt, Puelma Touzel, Shlizerman, Lajoie 2022, On Lyapunov exponents for RNNs,
      doi:10.3389/fams.2022.818799
    """
    graph, probe = context.graph, context.probe
    measured = [
        (call, time)
        for call in graph.calls
        if (seen := probe.calls.get(call.id)) is not None
        and (time := seen.time) is not None
        and (call.trainable_parameters or seen.weight_gradient_norm)
    ]
    if not measured:
        yield context.skip("no recurrent layer was measured along time")
        return
    grown = [found for call, time in measured if (found := _grown(call, time)) is not None]
    exploding = [item for item in grown if item.least >= context.number("growth")]
    if not exploding:
        return
    worst = max(exploding, key=lambda item: item.least)
    severe = (
        worst.least >= context.number("error-growth")
        and fresh_share(graph) == 1.0
        and not _clipped(graph.compile)
    )
    yield context.finding(
        f"{among([item.call for item in exploding])}the gradient grows back through time by "
        f"{worst.time.growth.value:.3g} a step in `{worst.call.id}`, "
        f"{worst.total:.1g}-fold over {worst.time.length} steps.",
        layers=ids([item.call for item in exploding]),
        evidence=tuple(
            Evidence(
                name=f"growth of {item.call.id}",
                value=item.time.growth.value,
                unit="factor a step",
                # A 95 % bound is about two standard errors.
                stderr=item.time.growth.error / 2,
                method=f"{item.time.growth.method}, {item.time.steps} steps",
            )
            for item in exploding
        ),
        remedy=(
            "Use an orthogonal recurrent kernel with tanh, or an LSTM or GRU; clip the gradient's "
            "norm; cut long sequences.\n\n"
            "```python\n"
            'keras.layers.LSTM(units, recurrent_initializer="orthogonal")\n'
            "keras.optimizers.Adam(1e-3, global_clipnorm=1.0)\n"
            "```\n"
        ),
        severity=Severity.ERROR if severe else Severity.WARNING,
        confidence=Confidence.HIGH if severe else Confidence.MEDIUM,
    )


def _grown(call: LayerCall, time: TimeGrowth) -> _Grown | None:
    """Growth over the sequence; None where it does not grow for certain."""
    low = time.growth.value - time.growth.error
    if not math.isfinite(time.growth.value) or not low > 1.0:
        return None
    return _Grown(
        call=call,
        time=time,
        total=_power(time.growth.value, time.length),
        least=_power(low, time.length),
    )


def _power(factor: float, steps: int) -> float:
    exponent = steps * math.log(factor)
    return math.exp(exponent) if exponent < 700.0 else math.inf


def _clipped(settings: CompileSettings | None) -> bool:
    optimizer = settings.optimizer if settings is not None else None
    return optimizer is not None and any(optimizer.number(name) for name in CLIPPING)
