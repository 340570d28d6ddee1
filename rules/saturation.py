"""GEB206: units at the ends of their range, as the probe measured them."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph
from auditor.graph.freshness import fresh_share
from auditor.graph.heads import heads
from auditor.graph.operators import AFFINE_OPS, Op
from auditor.graph.trainable_reach import learned_calls
from auditor.rule import Context, Needs, Option, rule

from .wording import ids, names

#: Calls whose own output is what an activation makes of a sum: gates inside of cells are not.
ACTIVATED_OPS = AFFINE_OPS | {Op.ACTIVATION, Op.SIMPLE_RNN}


@rule(
    "GEB206",
    "saturated-units",
    severity=Severity.WARNING,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(
            name="share",
            default=0.5,
            meaning="share of a layer's values at the ends of the range from which it fires",
            most=1.0,
        ),
    ),
)
def saturated_units(context: Context) -> Iterator[Finding | Skipped]:
    """Most units of a bounded activation sit at the ends of its range.

    ## What it does
    Counts, in hidden layers that end in tanh, sigmoid, softsign or their hard variants, the values
    in the outer twentieth of the half range (|h| above 0.95 for tanh). Fires where they are more
    than `share`.

    ## Why is this bad
    There the activation is flat: the slope of tanh at 0.95 is a tenth of that at zero, that of
    the sigmoid likewise, and it falls exponentially further out. The units are switches that no
    gradient moves, and the layers before them get next to none.

    ## Evidence
    The share of such values over the probe's batches, and the median of |h| in half ranges.
    Ordinary initial weights leave 3 % there, on inputs of unit scale.

    ## Example
    ```python
    keras.Sequential([
        keras.Input((64,)),  # pixels, 0 to 255
        keras.layers.Dense(64, activation="tanh"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Use instead
    ```python
    keras.Sequential([
        keras.Input((64,)),
        keras.layers.Rescaling(1 / 127.5, offset=-1.0),
        keras.layers.Dense(64, activation="tanh"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    ```

    ## Options
    - `share`: share of a layer's values at the ends of the range from which it fires, 0.5 by
      default.

    ## Known problems
    Codes of zeros and ones (hashing, binary attention) saturate on purpose once they are trained.
    Trained weights are judged on their own data alone, and outputs and gates are left out: to be
    sure is their task.

    ## References
    - Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural
      networks.
    - Rakitianskaia, Engelbrecht 2015, Measuring saturation in neural networks,
      doi:10.1109/SSCI.2015.202
    """
    graph, probe = context.graph, context.probe
    measured = [
        (call, share)
        for call in _hidden(graph)
        if (seen := probe.calls.get(call.id)) is not None
        and (share := seen.saturated_share) is not None
    ]
    if not measured:
        yield context.skip("no hidden layer with a bounded activation was measured")
        return
    if probe.data == "synthetic" and fresh_share(graph) != 1.0:
        yield context.skip(
            "the weights are not fresh from known initializers, and synthetic batches are not "
            "what they were trained on: give --data"
        )
        return
    limit = context.number("share")
    saturated = [(call, share) for call, share in measured if share > limit]
    if not saturated:
        return
    calls = [call for call, _ in saturated]
    worst, share = max(saturated, key=lambda pair: pair[1])
    yield context.finding(
        f"{names(calls)} {'sits' if len(calls) == 1 else 'sit'} at the ends of the activation's "
        f"range: {share:.0%} of the values of `{worst.id}`, where its slope is next to nothing.",
        layers=ids(calls),
        evidence=tuple(
            Evidence(
                name=f"saturated values of {call.id}", value=value, unit="share", method="probe"
            )
            for call, value in saturated
        ),
        remedy=(
            "Scale the inputs to about unit variance, draw the weights with glorot_uniform, or "
            "normalize before the activation; in hidden layers ReLU or GELU do not saturate."
        ),
        confidence=Confidence.HIGH if probe.data != "synthetic" else Confidence.MEDIUM,
    )


def _hidden(graph: LayerGraph) -> tuple[LayerCall, ...]:
    """Calls that end in an activation and are neither an output nor a gate.

    A gate is what is multiplied with something else, as in squeeze-and-excite blocks.
    """
    learned = learned_calls(graph)
    outputs = {head.output.id for head in heads(graph)} | {
        head.activated.id for head in heads(graph) if head.activated is not None
    }
    return tuple(
        call
        for call in graph.calls
        if call.op in ACTIVATED_OPS
        and call.id in learned
        and call.id not in outputs
        and not any(after.op is Op.MULTIPLY for after in graph.successors(call.id))
    )
