"""GEB5, numbers: NaN and infinities that arise in a pass, or in the first step."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerGraph, Op
from auditor.measurement import ProbeResult
from auditor.rule import Context, Needs, rule

from .wording import ids, names

#: Outputs beyond this have squares that single precision does not hold.
SQUARE_OVERFLOWS = 1e19


@rule(
    "GEB503",
    "non-finite",
    severity=Severity.ERROR,
    needs=Needs.PROBE,
    since="0.1",
)
def non_finite(context: Context) -> Iterator[Finding | Skipped]:
    """NaN or Inf arises in a forward or backward pass, or in the first step.

    ## What it does
    Names where numbers stop being finite: the first call, in the order of execution, whose output
    holds NaN or Inf; the loss; the first call on the way back whose gradient does; weights whose
    gradient does though no single call's shows it; weights that the optimizer's first step turns
    into NaN though their gradient is finite.

    ## Why is this bad
    One NaN in the loss makes every weight NaN in the first step; nothing is learnt from then on.
    It need not show: `relu(NaN)` is 0 on some devices, and the loss then stays finite over weights
    that are lost.

    ## Evidence
    Seen by the probe on sample batches, call by call and weight by weight.

    ## Example
    ```python
    outputs = keras.ops.log(keras.layers.Dense(1, "relu")(features))
    ```

    ## Use instead
    ```python
    outputs = keras.ops.log(keras.layers.Dense(1, "softplus")(features) + 1e-6)
    ```

    ## Options
    None.

    ## Known problems
    With synthetic batches the values may be ones that real data never takes; `--data` settles
    it. A NaN that arises only after some training is not seen. A model without a trainable weight
    has no gradient to speak of: GEB102 says so.

    ## References
    - IEEE 754-2019, Standard for floating-point arithmetic.
    - Keras API documentation, TerminateOnNaN callback.
    """
    graph, probe = context.graph, context.probe
    forward = probe.first_nonfinite_forward
    if forward is None and _nothing_trains(graph):
        yield context.skip("nothing in the model is trained, so no gradient matters: see GEB102")
        return
    found = (
        _forward(context, probe)
        or _loss(context, probe)
        or _backward(context, probe)
        or _weight_gradients(context, probe)
        or _first_step(context, probe)
    )
    if found is not None:
        yield found


def _forward(context: Context, probe: ProbeResult) -> Finding | None:
    forward = probe.first_nonfinite_forward
    if forward is None:
        return None
    return context.finding(
        f"The output of {forward} holds NaN or Inf in the forward pass; everything after it "
        "is lost.",
        layers=(forward,),
        evidence=(_place("first non-finite output", forward),),
        remedy="Guard the operation (epsilon, softplus, clipping) or mend what feeds it.",
        confidence=_sureness(probe),
    )


def _loss(context: Context, probe: ProbeResult) -> Finding | None:
    if probe.loss_at_start is None or math.isfinite(probe.loss_at_start):
        return None
    heads = tuple(dict.fromkeys(call_id for call_id, _ in context.graph.outputs))
    peaks = [
        peak
        for call_id in heads
        if (seen := probe.calls.get(call_id)) is not None and (peak := seen.max_abs) is not None
    ]
    largest = max(peaks, default=0.0)
    evidence = [Evidence(name="loss at start", value=probe.loss_at_start, method="forward pass")]
    remedy = "Check that the head's range fits the loss: log of 0 or of a negative value."
    if largest > SQUARE_OVERFLOWS:
        evidence.append(Evidence(name="largest output", value=largest, method="forward pass"))
        remedy = (
            f"The output reaches {largest:.1e}, and its square overflows: look for what makes the "
            "signal grow on its way (initial weights, a recurrent kernel, unscaled inputs)."
        )
    return context.finding(
        f"The loss ({probe.loss}) is not finite though every layer's output is.",
        layers=heads,
        evidence=tuple(evidence),
        remedy=remedy,
    )


def _backward(context: Context, probe: ProbeResult) -> Finding | None:
    backward = probe.first_nonfinite_backward
    if backward is None:
        return None
    return context.finding(
        f"The gradient with respect to the output of {backward} holds NaN or Inf, while the "
        "forward pass is finite.",
        layers=(backward,),
        evidence=(_place("first non-finite gradient", backward),),
        remedy=(
            "Look at what follows this layer for a derivative that is infinite where its "
            "value is not (sqrt or a norm at 0, log at 0), or for a gradient that overflows."
        ),
        confidence=_sureness(probe),
    )


def _weight_gradients(context: Context, probe: ProbeResult) -> Finding | None:
    """NaN that comes into a weight's gradient from its input, or from a sum that overflows."""
    norms = probe.gradient_norm
    lost = {
        call_id
        for call_id, seen in probe.calls.items()
        if seen.weight_gradient_norm is not None and not math.isfinite(seen.weight_gradient_norm)
    }
    bad = [call for call in context.graph.calls if call.id in lost]
    if not bad and (norms is None or math.isfinite(norms.mean)):
        return None
    where = f"of the weights of {names(bad)}" if bad else "of the weights, all taken together,"
    return context.finding(
        f"The gradient {where} is not finite, though the output of every layer and the gradient "
        "with respect to it are: the first step makes NaN of them.",
        layers=ids(bad),
        evidence=(
            Evidence(
                name="global gradient norm",
                value=norms.mean if norms is not None else math.nan,
                method="mean over batches",
            ),
        ),
        remedy=(
            "Look for NaN or Inf in the data, which an activation such as ReLU can hide, and for "
            "gradients so large that their squares overflow."
        ),
        confidence=_sureness(probe),
    )


def _first_step(context: Context, probe: ProbeResult) -> Finding | None:
    """Weights that the optimizer itself makes NaN of."""
    lost = nan_steps(probe)
    if not lost:
        return None
    bad = [call for call in context.graph.calls if call.id in lost]
    settings = context.graph.compile
    optimizer = settings.optimizer if settings is not None else None
    name = optimizer.name if optimizer is not None else "the optimizer"
    return context.finding(
        f"The first step of {name} makes NaN of the weights of {names(bad)}, though their "
        "gradients are finite.",
        layers=ids(bad),
        evidence=(
            Evidence(
                name="weights with a step that is not finite",
                value=len(bad),
                unit="layers",
                method="one step on copied weights",
            ),
        ),
        remedy=(
            "Use another optimizer, such as Adam. Adafactor divides zero by zero where all "
            "weights of an input or of a unit have no gradient, as behind a feature that is "
            "always zero."
        ),
        confidence=_sureness(probe),
    )


def nan_steps(probe: ProbeResult) -> tuple[str, ...]:
    """Ids of the calls whose weights the first step makes NaN of. One too long is infinite."""
    return tuple(
        call_id
        for call_id, seen in probe.calls.items()
        if seen.update_ratio is not None and math.isnan(seen.update_ratio)
    )


def _nothing_trains(graph: LayerGraph) -> bool:
    """Whether the graph is known to hold no trainable weight."""
    unknown = any(call.op in (Op.OPAQUE, Op.RECURRENT) for call in graph.calls)
    return bool(graph.calls) and not unknown and graph.trainable_parameters == 0


def _sureness(probe: ProbeResult) -> Confidence:
    return Confidence.HIGH if probe.data != "synthetic" else Confidence.MEDIUM


def _place(name: str, call_id: str) -> Evidence:
    """Evidence naming the call where values stopped being finite."""
    return Evidence(
        name=name, value=call_id, method="order of execution, first batch that shows it"
    )
