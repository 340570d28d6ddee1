"""GEB8: numerics, by intervals through the graph."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, Op
from auditor.graph.dimensions import number
from auditor.graph.freshness import fresh_share
from auditor.graph.interval_pointwise import constant_operand
from auditor.graph.operators import KERNEL_OPS, NORMALIZATION_OPS
from auditor.rule import Context, Option, rule

from .export import inference_export
from .hand_softmax import unstable_softmax
from .unguarded import unguarded_domain
from .wording import ids, names

__all__ = [
    "epsilon_underflow",
    "half_precision_overflow",
    "inference_export",
    "unguarded_domain",
    "unstable_softmax",
]

HALF = "float16"
#: Share of the kernels that must still be their initializers' draws for a forecast.
FRESH = 0.5
LARGEST_HALF = float(np.finfo(np.float16).max)
#: Calls that bring constants of their own into a sum, a product or a bound.
CONSTANT_OPS = frozenset({Op.SCALE, Op.ELEMENTWISE})
#: Precisions that constants are judged by.
FORMATS = frozenset({"float16", "float32"})
#: What a guard is: a small number added, or the least value let through.
GUARDING_KINDS = frozenset({"Add", "Maximum", "Clip", "Max"})


@rule(
    "GEB801",
    "half-precision-overflow",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="margin",
            default=4.0,
            meaning="times the typical size of a layer's values that must stay below 65504",
        ),
    ),
)
def half_precision_overflow(context: Context) -> Iterator[Finding | Skipped]:
    """Values in half precision reach beyond 65504.

    ## What it does
    Looks at the calls that compute in float16. Fires where a constant of the model is beyond
    ±65504, the largest number of that format; where the largest value that the probe saw behind a
    layer with a kernel is above a fraction 1/`margin` of it; and, without a probe, where the
    forecast's typical value is, on weights that are fresh from their initializers.

    ## Why is this bad
    A number beyond 65504 becomes infinity in float16, and NaN in the next subtraction or product
    with zero. A mask of −1e9 that is added to attention scores is −∞ there, and a row that is
    masked whole becomes NaN in the softmax.

    ## Evidence
    The constant; or the largest value measured; or the predicted root mean square.

    ## Example
    ```python
    keras.config.set_dtype_policy("mixed_float16")
    scores = scores + (1.0 - mask) * -1e9
    ```

    ## Use instead
    ```python
    keras.config.set_dtype_policy("mixed_bfloat16")  # the range of float32
    scores = scores + (1.0 - mask) * -3e4  # or a bound that float16 holds
    ```

    ## Options
    - `margin`: times the typical size of a layer's values that must stay below 65504, 4 by
      default: of Gaussian values one in 16,000 is farther than that.

    ## Known problems
    Without a probe the forecast knows standardised inputs only. Sums inside a layer (means and
    variances of a normalization) may overflow before the output does, where a layer does not
    compute them in float32.

    ## References
    - Micikevicius et al. 2018, Mixed precision training, https://arxiv.org/abs/1710.03740
    - IEEE 754-2019, binary16: the largest number is 65504.
    """
    halves = [call for call in context.graph.calls if call.dtype == HALF]
    if not halves:
        return
    constants = [
        (call, found[0].magnitude)
        for call in halves
        if call.op in CONSTANT_OPS
        and (found := constant_operand(call)) is not None
        and LARGEST_HALF < found[0].magnitude < math.inf
    ]
    if constants:
        calls = [call for call, _ in constants]
        largest = max(size for _, size in constants)
        yield context.finding(
            f"{names(calls)} computes in float16 with the constant {largest:.3g}, which is "
            "infinite there: the largest number is 65504.",
            layers=ids(calls),
            evidence=(Evidence(name="largest constant", value=largest, method="configuration"),),
            remedy="Use a constant of at most 65504 in size (−3e4 does for a mask), or bfloat16.",
        )
        return  # what follows is large on its account
    # A mask is large on purpose; what a kernel gives is not.
    yield from _large_values(context, [call for call in halves if call.op in KERNEL_OPS])


def _large_values(context: Context, halves: list[LayerCall]) -> Iterator[Finding]:
    limit = LARGEST_HALF / context.number("margin")
    probe, predicted = context.optional_probe, context.forecast
    sizes: dict[str, float] = {}
    if probe is not None:
        seen = {call.id: probe.calls[call.id].max_abs for call in halves if call.id in probe.calls}
        sizes = {id_: size for id_, size in seen.items() if size and limit < size < math.inf}
        what, method, confidence = "largest value", "probe", Confidence.HIGH
    elif predicted is not None and (fresh_share(context.graph) or 0.0) >= FRESH:
        for call in halves:
            if call.id in predicted.calls:
                size = math.sqrt(predicted.calls[call.id].variance)
                if size > limit:
                    sizes[call.id] = size
        what, method, confidence = "predicted typical value", "mean-field", Confidence.MEDIUM
    else:
        return
    if not sizes:
        return
    calls = [call for call in halves if call.id in sizes]
    largest = max(sizes.values())
    yield context.finding(
        f"The values of {names(calls)} are near the largest number of float16 or beyond it: "
        f"{largest:.3g} of 65504.",
        layers=ids(calls),
        evidence=(Evidence(name=what, value=largest, method=method),),
        remedy=(
            "Compute in bfloat16, which has float32's range, or bring the scale down: an "
            "initializer that follows the layer's width, a normalization before the layer.\n\n"
            "```python\n"
            'keras.config.set_dtype_policy("mixed_bfloat16")\n'
            "```\n"
        ),
        confidence=confidence,
    )


@rule("GEB803", "epsilon-underflow", severity=Severity.WARNING, since="0.1")
def epsilon_underflow(context: Context) -> Iterator[Finding | Skipped]:
    """A small constant that guards a division or a logarithm is zero in its own precision.

    ## What it does
    Looks at constants that are added, or that values are kept above, in calls that compute in
    float16 or float32, and at the epsilon of normalizations in ONNX files. Fires where such a
    constant is not zero as written, and is rounded to zero by the precision of the call.

    ## Why is this bad
    The constant is there so that a logarithm, a root or a divisor never meets zero. Rounded to
    zero it guards nothing: 1e-8, harmless in float32, is zero in float16, whose smallest number is
    6e-8.

    ## Evidence
    The constant, and the precision it is rounded by.

    ## Example
    ```python
    keras.config.set_dtype_policy("float16")
    y = keras.ops.log(x + 1e-8)
    ```

    ## Use instead
    ```python
    keras.config.set_dtype_policy("float16")
    y = keras.ops.log(keras.ops.cast(x, "float32") + 1e-8)
    ```

    ## Options
    None.

    ## Known problems
    Keras' own normalization layers compute in float32 whatever their policy, and are not judged.
    A constant that precision holds, and that is lost when it is added to something much larger
    than itself, is not seen.

    ## References
    - IEEE 754-2019, binary16: the smallest number above zero is 2⁻²⁴, about 6e-8.
    - Micikevicius et al. 2018, Mixed precision training, https://arxiv.org/abs/1710.03740
    """
    lost = [
        (call, value)
        for call in context.graph.calls
        if (value := _guard(call)) is not None and _is_lost(value, call.dtype)
    ]
    if not lost:
        return
    calls = [call for call, _ in lost]
    smallest = min(value for _, value in lost)
    dtype = calls[0].dtype
    yield context.finding(
        f"The constant {smallest:.3g} of {names(calls)} is zero in {dtype}, so that it guards "
        "nothing.",
        layers=ids(calls),
        evidence=(
            Evidence(name="constant as written", value=smallest, method="configuration"),
            Evidence(
                name=f"smallest number above zero in {dtype}",
                value=float(np.finfo(dtype).smallest_subnormal),
            ),
        ),
        remedy=(
            "Compute what it guards in float32, or use a constant the precision holds (1e-6 or "
            "more in float16).\n\n"
            "```python\n"
            'y = keras.ops.log(keras.ops.cast(x, "float32") + 1e-8)\n'
            "```\n"
        ),
    )


def _guard(call: LayerCall) -> float | None:
    """The small constant a call guards with."""
    if call.op in NORMALIZATION_OPS and call.nodes and call.op is not Op.LAYER_NORM:
        return number(call.config.get("epsilon"))
    if call.op not in CONSTANT_OPS or call.kind not in GUARDING_KINDS:
        return None
    if call.kind == "Clip":
        return number(call.config.get("x_min", call.config.get("min")))
    found = constant_operand(call)
    return found[0].low if found is not None and found[0].low == found[0].high else None


def _is_lost(value: float, dtype: str) -> bool:
    if dtype not in FORMATS or value <= 0:
        return False
    with np.errstate(under="ignore", over="ignore"):
        return bool(np.array(value).astype(dtype) == 0)
