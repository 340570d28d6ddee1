"""GEB802: operations whose input may lie outside their domain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.interval import Interval
from auditor.graph.interval_pointwise import constant_operand, exponent_of
from auditor.graph.intervals import intervals
from auditor.rule import Context, rule

from .wording import ids, names

#: Functions of one value: the least value of their domain, and whether it belongs to it.
LEAST = {
    "Log": (0.0, False),
    "Log2": (0.0, False),
    "Log10": (0.0, False),
    "Log1p": (-1.0, False),
    "Sqrt": (0.0, True),
    "Rsqrt": (0.0, False),
    "Arccosh": (1.0, True),
}
#: Functions with a pole at zero.
POLES = frozenset({"Reciprocal"})
#: Functions of values from −1 to 1.
OF_UNIT = frozenset({"Arccos", "Arcsin", "Acos", "Asin"})
#: Largest exponents of e whose power the precision holds.
LARGEST_EXPONENT = {"float16": 11.09, "float32": 88.72, "bfloat16": 88.72, "float64": 709.78}
QUOTIENTS = frozenset({"Divide", "TrueDivide", "Div"})


@dataclass(frozen=True, kw_only=True)
class _Fault:
    """A call, which of its inputs, what range that has, and what goes wrong there.

    edge: whether only an end of the range is bad.
    """

    call: LayerCall
    span: Interval
    why: str
    edge: bool


@rule("GEB802", "unguarded-domain", severity=Severity.WARNING, since="0.1")
def unguarded_domain(context: Context) -> Iterator[Finding | Skipped]:
    """A logarithm, root, division or power meets values outside its domain.

    ## What it does
    Follows the range of values through the graph: from activations, clipping, constants and
    weights, and from inputs where their range is known. Fires where the range of what goes into a
    logarithm, square root, division, inverse cosine, power or (bounded) exponential holds a point
    at which the operation, or its derivative, is not finite.

    ## Why is this bad
    A logarithm of zero is −∞, a root of a negative number NaN, and one such value makes the loss
    and then every weight NaN. A root has no finite derivative at zero: a distance √Σ(a − b)² of two
    equal vectors gives a NaN gradient though its value is fine.

    ## Evidence
    The range that interval analysis finds, which holds every value that can occur, and may hold
    some that cannot.

    ## Example
    ```python
    probabilities = keras.layers.Dense(10, activation="softmax")(x)
    entropy = -keras.ops.sum(probabilities * keras.ops.log(probabilities), axis=-1)
    ```

    ## Use instead
    ```python
    logits = keras.layers.Dense(10)(x)
    probabilities = keras.ops.softmax(logits)
    entropy = -keras.ops.sum(probabilities * keras.ops.log_softmax(logits), axis=-1)
    ```

    ## Options
    None.

    ## Known problems
    Ranges forget how values depend on each other: a difference that is never zero may have a range
    that holds zero. Of a value whose range is not known nothing is said, nor of the zeros and
    edges of files in ONNX, which are not trained. What a Lambda or a custom layer computes is not
    seen.

    ## References
    - Moore 1966, Interval analysis, Prentice-Hall.
    - Zhang, Ren, Chen, Xiong, Cheung, Xie 2020, Detecting numerical bugs in neural network
      architectures, https://doi.org/10.1145/3368089.3409720
    """
    graph = context.graph
    suspects = [call for call in graph.calls if _operand(call) is not None]
    if not suspects:
        return
    wanted = {source.id for call in suspects for source in graph.predecessors(call.id)}
    ranges = intervals(graph, wanted)
    faults = [
        fault
        for call in suspects
        if (fault := _fault(graph, call, ranges.get(_source(graph, call)))) is not None
    ]
    if graph.format == "onnx":
        faults = [fault for fault in faults if not fault.edge]
    for edge in (False, True):
        found = [fault for fault in faults if fault.edge is edge]
        if not found:
            continue
        first, calls = found[0], [fault.call for fault in found]
        yield context.finding(
            f"{names(calls)}: {first.why}, and `{first.call.id}` gets values from {first.span}.",
            layers=ids(calls),
            evidence=tuple(
                Evidence(
                    name=f"range of the input of {fault.call.id}",
                    value=str(fault.span),
                    method="interval analysis",
                )
                for fault in found[:5]
            ),
            remedy=_remedy(first.call),
            confidence=Confidence.MEDIUM if edge else Confidence.HIGH,
        )


def _operand(call: LayerCall) -> int | None:
    """Which input is the dangerous one; None for a call that is not of this kind."""
    if call.op is Op.DIVIDE:
        return None if call.kind == "DivideNoNan" else 1
    if call.op is not Op.ELEMENTWISE:
        return None
    if call.kind in LEAST or call.kind in POLES or call.kind in OF_UNIT or call.kind == "Exp":
        return 0
    if call.kind in ("Power", "Pow"):
        return 0 if exponent_of(call) is not None else None
    if call.kind in QUOTIENTS:
        found = constant_operand(call)
        return 0 if found is not None and not found[1] else None
    return None


def _source(graph: LayerGraph, call: LayerCall) -> str:
    before, slot = graph.predecessors(call.id), _operand(call)
    return before[slot].id if slot is not None and slot < len(before) else ""


def _fault(graph: LayerGraph, call: LayerCall, span: Interval | None) -> _Fault | None:
    if span is None:
        return None

    def fault(why: str, *, edge: bool) -> _Fault:
        return _Fault(call=call, span=span, why=why, edge=edge)

    if call.kind in LEAST:
        least, belongs = LEAST[call.kind]
        name = call.kind.lower()
        if span.low < least:
            return fault(f"the {name} of values below {least:g} is NaN", edge=False)
        if span.low == least and not belongs:
            return fault(f"the {name} of {least:g} is infinite", edge=True)
        if span.low == least and call.kind == "Sqrt":
            return fault("the square root has no finite derivative at 0", edge=True)
        return None
    if call.op is Op.DIVIDE or call.kind in QUOTIENTS or call.kind in POLES:
        if not span.holds(0.0) or _same_source(graph, call):
            return None
        inside = span.low < 0 < span.high
        return fault("a division by 0 is infinite or NaN", edge=not inside)
    if call.kind in OF_UNIT:
        if span.low < -1 or span.high > 1:
            return fault("there is no such angle beyond −1 … 1", edge=False)
        return None
    if call.kind == "Exp":
        most = LARGEST_EXPONENT.get(call.dtype, math.inf)
        # An unbounded exponent is the rule (log-variances, scores) and says nothing.
        if most < span.high < math.inf:
            return fault(f"the exponential overflows beyond {most:g}", edge=False)
        return None
    exponent = exponent_of(call)
    if exponent is None:
        return None
    if span.low < 0 and exponent != math.floor(exponent):
        return fault(f"a negative number has no power {exponent:g}", edge=False)
    if exponent < 0 and span.holds(0.0):
        return fault(f"0 to the power {exponent:g} is infinite", edge=span.low >= 0)
    if 0 < exponent < 1 and span.low == 0:
        return fault(f"the power {exponent:g} has no finite derivative at 0", edge=True)
    return None


def _same_source(graph: LayerGraph, call: LayerCall) -> bool:
    """Whether a value is divided by itself."""
    before = graph.predecessors(call.id)
    return len(before) == 2 and before[0].id == before[1].id


def _remedy(call: LayerCall) -> str:
    if call.kind in ("Log", "Log2", "Log10"):
        return (
            "Take the logarithm of logits with log_softmax or log_sigmoid, or keep the value above "
            "zero.\n\n"
            "```python\n"
            "y = keras.ops.log(keras.ops.maximum(x, 1e-7))\n"
            "```\n"
        )
    if call.kind in ("Sqrt", "Power", "Pow", "Rsqrt"):
        return (
            "Keep the value above zero.\n\n"
            "```python\n"
            "y = keras.ops.sqrt(keras.ops.maximum(x, 1e-7))\n"
            "```\n"
        )
    if call.op is Op.DIVIDE or call.kind in QUOTIENTS or call.kind in POLES:
        return (
            "Keep the divisor away from zero.\n\n"
            "```python\n"
            "y = x / keras.ops.maximum(total, 1e-7)\n"
            "```\n"
        )
    return (
        "Clip the value to the operation's domain first.\n\n"
        "```python\n"
        "x = keras.ops.clip(x, lowest, highest)\n"
        "```\n"
    )
