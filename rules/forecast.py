"""GEB512, GEB513: propagation as mean-field theory forecasts it, where no probe ran."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerGraph
from auditor.graph.depth_kind import DepthKind, depth_kind
from auditor.graph.forecast import Forecast
from auditor.graph.freshness import fresh_share
from auditor.graph.operators import KERNEL_OPS
from auditor.rule import Context, Option, rule

from .weight_scale import accounts_for

#: Share of the kernels that must still be their initializers' draws.
FRESH = 0.5
#: Covered shares from which on confidence is medium, and high.
MEDIUM_COVER, HIGH_COVER = 0.75, 0.95
NAMED = 5
THEORY = "mean-field forecast from the weights, or from their initializers"


@rule(
    "GEB512",
    "forecast-exploding",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="ratio",
            default=1e3,
            meaning="least predicted growth of the gradient's norm from output to input",
        ),
        Option(
            name="normalized-ratio",
            default=1e6,
            meaning="the same where every layer is normalized",
        ),
    ),
)
def forecast_exploding(context: Context) -> Iterator[Finding | Skipped]:
    """The gradient is predicted to grow on its way to the input.

    ## What it does
    Carries mean and variance of a signal forward through the graph, and the variance of a gradient
    back, by the formulas of mean-field theory, and compares the gradient's norm at the first
    kernel-bearing layers with that at the last. Fires when it grows by `ratio` or more, by the
    ratio of both ends and by the rate a layer over the depth alike. It is silent where the probe
    ran: GEB501 then says what was measured. It is a note where the scale of the initial weights
    explains half of the growth or more: that is GEB302's finding, and its remedy serves both.

    ## Why is this bad
    The first layers get steps that are orders of magnitude too large for them, or the last ones
    steps too small to matter. In float32 the gradient soon overflows and the loss becomes NaN.

    ## Evidence
    The predicted ratio and growth rate, and the share of the calls that the theory covers, which
    sets the confidence.

    ## Example
    ```python
    keras.Sequential(
        [keras.Input((256,))]
        + [
            keras.layers.Dense(256, "relu", kernel_initializer=RandomNormal(stddev=0.2))
            for _ in range(30)
        ]
        + [keras.layers.Dense(10, "softmax")]
    )
    ```

    ## Use instead
    ```python
    keras.Sequential(
        [keras.Input((256,))]
        + [keras.layers.Dense(256, "relu", kernel_initializer="he_normal") for _ in range(30)]
        + [keras.layers.Dense(10, "softmax")]
    )
    ```

    ## Options
    - `ratio`: least predicted growth of the gradient's norm from output to input, 1000 by default
      as in GEB501.
    - `normalized-ratio`: the same where every layer is normalized, 10⁶ by default: deep stacks of
      normalized layers train, slowly, with less.

    ## Known problems
    The theory takes layers as wide and weights as independent of the data. Weights that were
    trained are not, and a model of them is not judged; nor is an ONNX file, which does not say how
    its weights were drawn. Inputs are taken as standardised.

    ## References
    - Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli 2016, Exponential expressivity in deep neural
      networks through transient chaos, https://arxiv.org/abs/1606.05340
    - Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation,
      https://arxiv.org/abs/1611.01232
    - Yang, Pennington, Rao, Sohl-Dickstein, Schoenholz 2019, A mean field theory of batch
      normalization, https://arxiv.org/abs/1902.08129
    """
    if context.optional_probe is not None:
        return
    predicted = _judgeable(context)
    if isinstance(predicted, Skipped):
        yield predicted
        return
    growth = _growth(predicted, smaller=True)
    kind = depth_kind(context.graph)
    option = "normalized-ratio" if kind is DepthKind.NORMALIZED else "ratio"
    if growth < math.log(context.number(option)):
        return
    scale = accounts_for(context, growth)
    yield context.finding(
        f"The gradient's norm is predicted to grow {_times(predicted)} from the last layers to "
        f"the first: by {predicted.growth_rate:.3g} a layer. "
        + (BY_SCALE if scale else "One learning rate cannot fit both ends."),
        layers=_worst(context.graph, predicted, largest=True),
        evidence=_evidence(predicted),
        remedy=REMEDIES[kind],
        severity=Severity.INFO if scale else None,
        confidence=_confidence(predicted),
    )


@rule(
    "GEB513",
    "forecast-vanishing",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="ratio",
            default=1e-3,
            meaning="predicted gradient norm at the first layers over that at the last",
        ),
    ),
)
def forecast_vanishing(context: Context) -> Iterator[Finding | Skipped]:
    """The gradient is predicted to shrink on its way to the input.

    ## What it does
    Carries mean and variance of a signal forward through the graph, and the variance of a gradient
    back, by the formulas of mean-field theory, and compares the gradient's norm at the first
    kernel-bearing layers with that at the last. Fires when it shrinks to `ratio` or less, by the
    ratio of both ends and by the rate a layer over the depth alike. It is silent where the probe
    ran: GEB502 then says what was measured. It is a note where the scale of the initial weights
    explains half of the loss or more: that is GEB302's finding, and its remedy serves both.

    ## Why is this bad
    The first layers hardly move, so the model trains as if it had only its last few layers, on
    features that are random.

    ## Evidence
    The predicted ratio and growth rate, and the share of the calls that the theory covers, which
    sets the confidence.

    ## Example
    ```python
    keras.Sequential(
        [keras.Input((64,))]
        + [keras.layers.Dense(64, "sigmoid") for _ in range(20)]
        + [keras.layers.Dense(10, "softmax")]
    )
    ```

    ## Use instead
    ```python
    keras.Sequential(
        [keras.Input((64,))]
        + [keras.layers.Dense(64, "relu", kernel_initializer="he_normal") for _ in range(20)]
        + [keras.layers.Dense(10, "softmax")]
    )
    ```

    ## Options
    - `ratio`: predicted gradient norm at the first layers over that at the last, at or below which
      the rule fires; 0.001 by default, as GEB502 warns.

    ## Known problems
    The theory takes layers as wide and weights as independent of the data. Weights that were
    trained are not, and a model of them is not judged; nor is an ONNX file, which does not say how
    its weights were drawn. Adam forgives a gradient that is small and even over time.

    ## References
    - Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli 2016, Exponential expressivity in deep neural
      networks through transient chaos, https://arxiv.org/abs/1606.05340
    - Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation,
      https://arxiv.org/abs/1611.01232
    """
    if context.optional_probe is not None:
        return
    predicted = _judgeable(context)
    if isinstance(predicted, Skipped):
        yield predicted
        return
    growth = _growth(predicted, smaller=False)
    if growth > math.log(context.number("ratio")):
        return
    scale = accounts_for(context, growth)
    yield context.finding(
        f"The gradient's norm is predicted to shrink {_times(predicted)} from the last layers to "
        f"the first: by {predicted.growth_rate:.3g} a layer. "
        + (BY_SCALE if scale else "The first layers will hardly learn."),
        layers=_worst(context.graph, predicted, largest=False),
        evidence=_evidence(predicted),
        remedy=RESCALED
        if scale
        else (
            "Use activations that do not saturate (ReLU, GELU) with he_normal, add skip "
            "connections or normalization between the layers, or make the stack shallower."
        ),
        severity=Severity.INFO if scale else None,
        confidence=_confidence(predicted),
    )


BY_SCALE = "It is the scale of the initial weights that does it (GEB302)."
RESCALED = (
    "Initialize the named layers to their activation's scale (he_normal before ReLU, "
    "glorot_uniform before tanh), or normalize between them."
)
REMEDIES = {
    DepthKind.PLAIN: RESCALED,
    DepthKind.NORMALIZED: (
        "The layers are normalized already, and it is their number that does it. Put a skip "
        "connection around every two or three layers, or use fewer of them."
    ),
    DepthKind.RESIDUAL: (
        "Every sum adds a branch as large as what it is added to. Start each branch at nothing, or "
        "normalize at its beginning.\n\n"
        "```python\n"
        'branch = keras.layers.Dense(units, kernel_initializer="zeros")(branch)\n'
        "x = keras.layers.Add()([x, branch])\n"
        "```\n"
    ),
}


def _judgeable(context: Context) -> Forecast | Skipped:
    """The forecast, where it can be relied on."""
    graph, predicted = context.graph, context.forecast
    if predicted is None or predicted.growth_rate is None or predicted.gradient_ratio is None:
        covered = predicted.covered if predicted is not None else 0.0
        return context.skip(
            f"the forecast covers {covered:.0%} of the calls, and gives no growth rate: too few "
            "layers of one stage in sequence"
        )
    share = fresh_share(graph)
    if share is not None and share < FRESH:
        return context.skip("the weights were trained: theory takes them as drawn at random")
    if share is None and graph.weight_statistics:
        return context.skip("the file does not say how its weights were drawn")
    return predicted


def _growth(predicted: Forecast, *, smaller: bool) -> float:
    """Log of the growth of the gradient's norm: the smaller or larger of two estimates."""
    rate, ratio = predicted.growth_rate or 0.0, predicted.gradient_ratio or 0.0
    if rate <= 0 or ratio <= 0:
        return -math.inf
    both = predicted.depth * math.log(rate), math.log(ratio)
    return min(both) if smaller else max(both)


def _times(predicted: Forecast) -> str:
    ratio = predicted.gradient_ratio or 0.0
    return f"{max(ratio, 1 / ratio) if ratio else math.inf:.1e}-fold"


def _confidence(predicted: Forecast) -> Confidence:
    if predicted.covered >= HIGH_COVER:
        return Confidence.HIGH
    return Confidence.MEDIUM if predicted.covered >= MEDIUM_COVER else Confidence.LOW


def _evidence(predicted: Forecast) -> tuple[Evidence, ...]:
    return (
        Evidence(
            name="predicted gradient ratio",
            value=predicted.gradient_ratio or 0.0,
            unit="‖∂L/∂h‖ first layers / last layers",
            method=THEORY,
        ),
        Evidence(
            name="predicted growth rate",
            value=predicted.growth_rate or 0.0,
            unit="factor a kernel layer, toward the input",
            method=THEORY,
        ),
        Evidence(
            name="covered by the forecast",
            value=predicted.covered,
            unit="share of the calls on the way to an output",
        ),
    )


def _worst(graph: LayerGraph, predicted: Forecast, *, largest: bool) -> tuple[str, ...]:
    """The kernel-bearing calls with the most extreme predicted gain."""
    gains = [
        (predicted.calls[call.id].gain, call.id)
        for call in graph.calls
        if call.op in KERNEL_OPS and call.id in predicted.calls
    ]
    gains.sort(key=lambda pair: pair[0], reverse=largest)
    return tuple(call_id for _, call_id in gains[:NAMED])
