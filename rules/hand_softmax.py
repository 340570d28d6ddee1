"""GEB804: a softmax made by hand."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.intervals import intervals
from auditor.rule import Context, Option, rule

from .wording import ids, names

#: What a sum may pass on its way to being a divisor.
PASSED = frozenset({Op.IDENTITY, Op.CAST, Op.SCALE, Op.REPEAT, Op.RESHAPE})
SUMS = frozenset({"Sum", "ReduceSum"})
LARGEST = frozenset({"Max", "Amax", "ReduceMax"})


@rule(
    "GEB804",
    "unstable-softmax",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="largest-logit",
            default=80.0,
            meaning="highest logit that may be raised to a power of e without a shift",
        ),
    ),
)
def unstable_softmax(context: Context) -> Iterator[Finding | Skipped]:
    """A softmax is computed by hand, without subtracting the largest logit.

    ## What it does
    Looks for a quotient of an exponential and a sum of exponentials of the same value. Fires where
    the value is not a difference from its own largest element and where nothing bounds it below
    `largest-logit`.

    ## Why is this bad
    exp(89) is infinite in float32, exp(12) in float16. One large logit gives ∞/∞, which is NaN, in
    the loss and in every weight after the next step. Softmax is the same for logits shifted by
    their maximum, and cannot overflow then.

    ## Evidence
    The calls, and the range of what is exponentiated.

    ## Example
    ```python
    weights = keras.ops.exp(scores)
    weights = weights / keras.ops.sum(weights, axis=-1, keepdims=True)
    ```

    ## Use instead
    ```python
    weights = keras.ops.softmax(scores, axis=-1)
    ```

    ## Options
    - `largest-logit`: highest logit that may be raised to a power of e without a shift, 80 by
      default: float32 ends at 88.7.

    ## Known problems
    What a Lambda or a custom layer computes is not seen.

    ## References
    - Blanchard, Higham, Higham 2021, Accurately computing the log-sum-exp and softmax functions,
      https://doi.org/10.1093/imanum/draa038
    """
    graph = context.graph
    found = [
        (call, logits)
        for call in graph.calls
        if call.op is Op.DIVIDE and (logits := _logits(graph, call)) is not None
    ]
    found = [(call, logits) for call, logits in found if not _shifted(graph, logits)]
    if not found:
        return
    ranges = intervals(graph, {logits.id for _, logits in found})
    least = context.number("largest-logit")
    unstable = [
        call for call, logits in found if logits.id not in ranges or ranges[logits.id].high > least
    ]
    if not unstable:
        return
    known = [ranges[logits.id] for call, logits in found if logits.id in ranges]
    yield context.finding(
        f"{names(unstable)} divides an exponential by a sum of exponentials that nothing keeps "
        "from overflowing: a logit of 89 makes it NaN in float32.",
        layers=ids(unstable),
        evidence=tuple(
            Evidence(name="range of the logits", value=str(span), method="interval analysis")
            for span in known[:1]
        ),
        remedy=(
            "Use the softmax that subtracts the largest logit first.\n\n"
            "```python\n"
            "weights = keras.ops.softmax(scores, axis=-1)\n"
            "```\n"
        ),
        confidence=Confidence.HIGH,
    )


def _logits(graph: LayerGraph, divide: LayerCall) -> LayerCall | None:
    """What both operands are exponentials of."""
    operands = graph.predecessors(divide.id)
    if len(operands) != 2:
        return None
    above, below = operands
    total = _back(graph, below)
    if total.op is not Op.REDUCE or total.kind not in SUMS:
        return None
    logits, summed = _exponent(graph, above), None
    before = graph.predecessors(total.id)
    if before:
        summed = _exponent(graph, before[0])
    return logits if logits is not None and summed is not None and logits is summed else None


def _back(graph: LayerGraph, call: LayerCall) -> LayerCall:
    """The call before what only passes a value on, or shifts and scales it."""
    while call.op in PASSED and len(before := graph.predecessors(call.id)) == 1:
        call = before[0]
    return call


def _exponent(graph: LayerGraph, call: LayerCall) -> LayerCall | None:
    if call.kind != "Exp" and call.activation != "exponential":
        return None
    if call.op not in (Op.ELEMENTWISE, Op.ACTIVATION):
        return None
    before = graph.predecessors(call.id)
    return before[0] if len(before) == 1 else None


def _shifted(graph: LayerGraph, logits: LayerCall) -> bool:
    """Whether the logits are a difference from their largest element."""
    call = _back(graph, logits)
    operands = graph.predecessors(call.id)
    if call.op is not Op.SUBTRACT or len(operands) != 2:
        return False
    largest = _back(graph, operands[1])
    return largest.op is Op.GLOBAL_MAX_POOL or (largest.op is Op.REDUCE and largest.kind in LARGEST)
