"""GEB5, the loss before any training against that of a head that knows nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph
from auditor.graph.freshness import fresh_share
from auditor.graph.operators import KERNEL_OPS, RECURRENT_OPS
from auditor.measurement import ProbeResult
from auditor.rule import Context, Needs, Option, rule

from .wording import ids

#: Losses that go with the square of the output: the root of their quotient is the signal's.
SQUARED = frozenset({"mean_squared_error", "mse"})
#: Losses in the targets' own unit, which synthetic targets do not know.
IN_UNITS = SQUARED | {"mean_absolute_error", "mae", "huber", "log_cosh"}
#: Excess of a cross-entropy from which its head is sure of answers that are wrong. Keras bounds
#: the loss of a sample, so that it does not tell how far out such a head is.
SURE = 1.5
#: Growth of the signal that makes such a head flat. On digits all but a few models with it and
#: without a gradient ended where they began, at any rate.
FAR_OUT = 100.0
#: Growth of the signal within the model from which it has a part in a loss far off.
LEAST_GROWTH = 10.0


@rule(
    "GEB507",
    "loss-at-start",
    severity=Severity.WARNING,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(name="warning-factor", default=15.0, meaning="output's excess that is a warning"),
        Option(
            name="error-factor",
            default=20.0,
            meaning="the same for an error, of fresh weights on synthetic batches",
        ),
        Option(
            name="data-error-factor", default=1e3, meaning="the same for an error, on given data"
        ),
    ),
)
def loss_at_start(context: Context) -> Iterator[Finding | Skipped]:
    """The loss starts far above that of a head that knows nothing yet.

    ## What it does
    Compares the loss before any training with what a head gives that knows nothing: ln C for C
    classes, the targets' variance for a squared error. What counts is by how much the outputs are
    off, so that of a squared error the root of the quotient is taken. A warning from
    `warning-factor` on; an error from `error-factor` on where the weights are fresh from their
    initializers and the batches synthetic (inputs of unit scale), and from `data-error-factor` on
    where the data are the user's own; an error only where the signal grows as much before the last
    layer with weights. What that layer's bias or a fixed scaling behind it makes is a choice of
    unit, which synthetic targets do not know: there nothing is said of it. A cross-entropy that is
    so far out that no gradient comes back, or that a trial of the optimizer does not move at all,
    is judged by that growth instead: its value is bounded.

    ## Why is this bad
    Outputs a hundred times too large mean that the signal has exploded on its way through the
    model. The gradient then is as large, and more so at the weights before; the first steps throw
    the weights far from where they were drawn, and what follows is NaN, or a plateau that is not
    left again.

    ## Evidence
    Both losses, and the call with the largest output against what goes into it. A recurrent net
    of 100 steps with ReLU whose recurrent weights are a quarter too wide starts at 460 times the
    right signal, and after six epochs of Adam its loss is still 12 times the targets' variance;
    two layers of exponentials start at 1,500 times, and become NaN.

    ## Example
    ```python
    keras.Sequential([
        keras.Input((64,)),
        keras.layers.Dense(64, activation="exponential"),
        keras.layers.Dense(64, activation="exponential"),
        keras.layers.Dense(1),
    ])
    ```

    ## Use instead
    ```python
    keras.Sequential([
        keras.Input((64,)),
        keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal"),
        keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal"),
        keras.layers.Dense(1),
    ])
    ```

    ## Options
    - `warning-factor`: excess of the output that is a warning, 15 by default.
    - `error-factor`: the same for an error, of fresh weights on synthetic batches, 20 by default.
    - `data-error-factor`: the same for an error on given data, 1000 by default.

    ## Known problems
    Trained weights are not judged on synthetic batches, which are not what they were trained on.
    For losses other than cross-entropies, squared and absolute errors no such value is known.

    ## References
    - Karpathy 2019, A recipe for training neural networks (verify loss at init),
      https://karpathy.github.io/2019/04/25/recipe/
    - Zhang, Dauphin, Ma 2019, Fixup initialization: residual learning without normalization,
      https://arxiv.org/abs/1901.09321
    """
    graph, probe = context.graph, context.probe
    loss, expected = probe.loss_at_start, probe.loss_expected
    if loss is None or expected is None or expected <= 0:
        yield context.skip(f"what {probe.loss} starts at in a healthy model is not known")
        return
    if not math.isfinite(loss):
        yield context.skip("the loss is not finite: see GEB503")
        return
    fresh = fresh_share(graph) == 1.0
    given = probe.data != "synthetic"
    if not fresh and not given:
        yield context.skip(
            "the weights are not fresh from known initializers, and synthetic batches are not "
            "what they were trained on: give --data"
        )
        return
    excess = loss / expected
    if probe.loss in SQUARED:
        excess = math.sqrt(max(excess, 0.0))
    grown = _grown(graph, probe)
    flat = excess >= SURE and ((grown >= FAR_OUT and _flat(probe)) or _stuck(probe))
    if flat:
        excess = max(excess, grown)
    if excess < context.number("warning-factor"):
        return
    if not given and set(probe.loss.split(", ")) & IN_UNITS and grown < min(excess, LEAST_GROWTH):
        return
    limit = context.number("data-error-factor" if given else "error-factor")
    severe = min(excess, grown) >= limit
    loudest = _loudest(graph, probe, excess)
    heads = [graph.by_id[call_id] for call_id, _ in graph.outputs if call_id in graph.by_id]
    where = ""
    evidence = [
        Evidence(name="loss at start", value=loss, method=f"{probe.loss}, mean over batches"),
        Evidence(name="loss of a head that knows nothing", value=expected, method=probe.targets),
        Evidence(name="excess of the outputs", value=excess, unit="times"),
    ]
    if loudest is not None:
        call, rms, before = loudest
        entering = f", from {before:.3g} that go into it" if before is not None else ""
        where = (
            f" The signal grows most in `{call.id}`, to a root mean square of {rms:.3g}{entering}."
        )
        evidence.append(Evidence(name=f"output of {call.id}", value=rms, unit="root mean square"))
    yield context.finding(
        f"The loss starts at {loss:.3g}, where a head that knows nothing has {expected:.3g}: "
        f"{_how_far(probe, excess, grown, flat=flat)}.{where}",
        layers=ids([*([loudest[0]] if loudest is not None else []), *heads]),
        evidence=tuple(evidence),
        remedy=_remedy(given=given, grown=grown >= LEAST_GROWTH),
        severity=Severity.ERROR if severe else Severity.WARNING,
        confidence=Confidence.HIGH if severe and fresh else Confidence.MEDIUM,
    )


def _loudest(
    graph: LayerGraph, probe: ProbeResult, excess: float
) -> tuple[LayerCall, float, float | None] | None:
    """The call that multiplies the signal most: with its output's RMS, and its input's.

    None where the growth is spread over so many that no single one is to be named.
    """
    found: tuple[float, LayerCall, float, float | None] | None = None
    for call in graph.calls:
        seen = probe.calls.get(call.id)
        if seen is None or seen.rms is None or not math.isfinite(seen.rms):
            continue
        sources = [
            probe.calls[s.id].rms for s in graph.predecessors(call.id) if s.id in probe.calls
        ]
        entering = max((rms for rms in sources if rms is not None), default=None)
        growth = seen.rms / entering if entering else seen.rms
        if found is None or growth > found[0]:
            found = growth, call, seen.rms, entering
    return None if found is None or found[0] < math.sqrt(excess) else found[1:]


def _grown(graph: LayerGraph, probe: ProbeResult) -> float:
    """By how much the signal has grown where it enters the last layers with a kernel.

    Over what enters the first ones; inputs of the model count as of unit scale where they are
    synthetic, and as large as what the first layers make of them where they are not.
    """
    followed: set[str] = set()
    first: list[float] = []
    last: list[float] = []
    begun: set[str] = set()
    for call in reversed(graph.calls):
        if call.id in followed or call.op in KERNEL_OPS:
            followed.update(source.id for source in graph.predecessors(call.id))
    for call in graph.calls:
        sources = graph.predecessors(call.id)
        if any(source.id in begun for source in sources):
            begun.add(call.id)
        if call.op not in KERNEL_OPS:
            continue
        entering = [rms for s in sources if (rms := _rms(probe, s)) is not None]
        own = _rms(probe, call)
        if call.id not in begun:
            begun.add(call.id)
            if entering:
                first.extend(entering)
            elif probe.data == "synthetic":
                first.append(1.0)
            elif own is not None:
                first.append(own)
        if call.id not in followed:
            # A recurrent layer's growth is within it.
            within = [own] if own is not None and call.op in RECURRENT_OPS else []
            last.extend((*entering, *within))
    if not first or not last:
        return 1.0
    return max(last) / max(*first, 1.0)


def _rms(probe: ProbeResult, call: LayerCall) -> float | None:
    seen = probe.calls.get(call.id)
    return seen.rms if seen is not None and seen.rms and math.isfinite(seen.rms) else None


def _flat(probe: ProbeResult) -> bool:
    """Whether no layer gets a gradient from some batch: float32 keeps no slope so far out."""
    return probe.gradient_norm is not None and probe.growth_points == 0


def _stuck(probe: ProbeResult) -> bool:
    """Whether all steps of the trial left the loss what it was, to the last bit."""
    losses = (*probe.trial_losses, *probe.trial_further)
    return len(losses) > 1 and len(set(losses)) == 1


def _how_far(probe: ProbeResult, excess: float, grown: float, *, flat: bool) -> str:
    if flat:
        return (
            f"the head's inputs are some {grown:.3g} times too large, so far out in its range that "
            "no gradient comes back"
        )
    if grown >= LEAST_GROWTH:
        return f"the outputs are some {excess:.2g} times too large"
    if set(probe.loss.split(", ")) & IN_UNITS:
        return f"outputs and targets are some {excess:.2g} times the targets' spread apart"
    return "the head is sure of answers that are wrong, as if its inputs were too large"


def _remedy(*, given: bool, grown: bool) -> str:
    if given and not grown:
        return (
            "Scale inputs and targets to about zero mean and unit variance (a Normalization layer "
            "adapted to the data), or start the last bias at the targets' mean."
        )
    scaled = (
        "Scale inputs and targets to about unit variance first "
        "(a Normalization layer adapted to the data). "
        if given
        else ""
    )
    return (
        f"{scaled}Draw the weights to their activation's scale (he_normal before ReLU, an "
        "orthogonal recurrent kernel, zeros at the end of residual branches), bound what grows "
        "without bound (exponentials, powers), or normalize before the output."
    )
