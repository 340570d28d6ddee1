"""GEB3, scale: the variance of the weights against what the activations need."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.bypass import bypassed
from auditor.graph.operators import SATURATING_ACTIVATIONS
from auditor.graph.scale_spans import ScaledLayer, ScaleSpan, scale_spans
from auditor.graph.unbuilt import NOT_BUILT, unbuilt
from auditor.rule import Context, Option, rule

from .wording import ids, plural

#: Predicted change over a span that is a warning.
FACTOR = 1e3


@rule(
    "GEB302",
    "mis-scaled-initialization",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(name="factor", default=FACTOR, meaning="predicted change over a span: warning"),
        Option(
            name="error-factor", default=1e6, meaning="the same, of weights fresh from their law"
        ),
        Option(
            name="layer-factor",
            default=100.0,
            meaning="excess of a single layer's standard deviation, either way: warning",
        ),
    ),
)
def mis_scaled_initialization(context: Context) -> Iterator[Finding | Skipped]:
    """The scale of the initial weights makes signal or gradient grow or die layer by layer.

    ## What it does
    Takes each span of dense and convolutional layers without normalization, skip or branch, and
    predicts from the scale of their weights how much the gradient's norm, and the signal, changes
    over it. Warns when that is `factor` or more, either way, and the weights' scale is the cause:
    a single layer counts when its standard deviation is `layer-factor` off. It is an error when
    the change is `error-factor` or more, the weights are still what their initializer drew, and
    there is no way around the span.

    ## Why is this bad
    A layer multiplies the gradient by √(fan-in · σ² · E φ′²). Where that is not close to 1, depth
    makes a power of it: 2.26 a layer is 10¹⁰ over 30 layers. The gradient at one end of the
    network is then worlds larger than at the other, and no learning rate, clipping or optimizer
    suits both; beyond 10³ networks fail nearly always.

    ## Evidence
    Standard deviation of each kernel, read from the file (or by its initializer), against what its
    activation needs; the compounded change, by mean-field theory. Whether the weights are fresh is
    tested: mean, variance and range within sampling error of the initializer's law, biases
    untouched. Trained weights, and weights of unknown law (ONNX), are named only where the change
    is beyond `error-factor`, with low confidence.

    ## Example
    ```python
    normal = keras.initializers.RandomNormal(stddev=0.2)
    keras.Sequential(
        [keras.Input((256,))]
        + [keras.layers.Dense(256, "relu", kernel_initializer=normal) for _ in range(30)]
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
    - `factor`: predicted change over a span that is a warning, 1000 by default.
    - `error-factor`: the same for an error, where the weights are fresh, 10⁶ by default.
    - `layer-factor`: factor of a single layer's standard deviation over, or under, what it needs,
      that is a warning, 100 by default.

    ## Known problems
    The theory is that of wide layers with independent weights; over narrow layers the actual
    change scatters around the predicted. What sigmoids lose by themselves is GEB201's matter. An
    output layer made small on purpose is left alone. Of frozen layers only what their signal
    becomes counts, and only as a warning. Recurrent and attention layers are not predicted.

    ## References
    - Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural
      networks.
    - He, Zhang, Ren, Sun 2015, Delving deep into rectifiers, https://arxiv.org/abs/1502.01852
    - Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli 2016, Exponential expressivity in deep neural
      networks through transient chaos, https://arxiv.org/abs/1606.05340
    - Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation,
      https://arxiv.org/abs/1611.01232
    """
    graph = context.graph
    spans = scale_spans(graph, context.forecast)
    if not spans:
        if graph.parameters:
            yield context.skip("no layer whose scale the forecast covers")
        elif unbuilt(graph):
            yield context.skip(NOT_BUILT)
        return
    judged: dict[tuple[Severity, Confidence], list[ScaleSpan]] = {}
    for span in spans:
        verdict = _verdict(context, span)
        if verdict is not None:
            judged.setdefault(verdict, []).append(span)
    for (severity, confidence), found in judged.items():
        yield _mis_scaled(context, found, severity, confidence)


def _verdict(context: Context, span: ScaleSpan) -> tuple[Severity, Confidence] | None:
    change, caused = _size(span.change), span.caused
    if span.frozen and (span.normalized or not span.untouched):
        return None  # its scale is taken out again, or it was trained and is kept as it is
    huge = caused and change >= context.number("error-factor")
    if not span.untouched:
        return (Severity.WARNING, Confidence.LOW) if huge else None
    if huge and not span.frozen and not bypassed(context.graph, [call.id for call in span.calls]):
        return Severity.ERROR, Confidence.HIGH
    if caused and change >= context.number("factor"):
        return Severity.WARNING, Confidence.HIGH
    if _outlier(span, context.number("layer-factor")) is not None:
        return Severity.WARNING, Confidence.MEDIUM
    return None


def _outlier(span: ScaleSpan, factor: float) -> ScaledLayer | None:
    """The layer farthest from its right scale, if it is off by this factor.

    The last layer before a normalization is not counted: its scale is divided out again.
    """
    counted = span.layers[:-1] if span.normalized else span.layers
    worst = max(counted, key=lambda layer: abs(math.log(layer.excess)), default=None)
    if worst is None or abs(math.log(worst.excess)) < math.log(factor):
        return None
    return worst


def _mis_scaled(
    context: Context, spans: list[ScaleSpan], severity: Severity, confidence: Confidence
) -> Finding:
    worst = max(spans, key=lambda span: (abs(math.log(span.change)), abs(math.log(span.excess))))
    typical = sorted(worst.layers, key=lambda layer: layer.excess)[len(worst.layers) // 2]
    outlier = _outlier(worst, context.number("layer-factor"))
    large = worst.excess > 1
    grows_over_depth = worst.caused and _size(worst.change) >= context.number("factor")
    if len(worst.layers) == 1 or (outlier is not None and not grows_over_depth):
        one = outlier or typical
        message = (
            f"The weights of `{one.call.id}` are {_times(one.excess)} what "
            f"{_before(one)} needs: the signal {'blows up' if one.excess > 1 else 'dies'} there."
        )
    else:
        what = "gradient" if worst.change == worst.gradient else "signal"
        verb = "grows" if worst.change > 1 else "shrinks"
        rate = sorted(layer.gain for layer in worst.layers)[len(worst.layers) // 2]
        message = (
            f"Over the {plural(len(worst.layers), 'layer')} from `{worst.layers[0].call.id}` to "
            f"`{worst.layers[-1].call.id}` the {what} {verb} {_size(worst.change):.1e}-fold, "
            f"{rate:.3g} a layer: "
            f"their weights are typically {_times(typical.excess)} what {_before(typical)} needs."
        )
    if len(spans) > 1:
        message += f" It is the worst of {len(spans)} such places."
    if worst.frozen:
        message += " The layers are frozen: what is trained behind them gets that signal."
    if not worst.untouched:
        message += " The weights are not fresh from a known initializer, so this is a guess."
    layers = [layer.call for span in spans for layer in span.layers]
    return context.finding(
        message,
        layers=ids(layers),
        evidence=(
            Evidence(
                name="predicted factor on the gradient over the span",
                value=worst.gradient,
                method="mean-field",
            ),
            Evidence(
                name="predicted factor on the signal over the span",
                value=worst.forward,
                method="mean-field",
            ),
            Evidence(
                name="typical standard deviation over what is needed",
                value=typical.excess,
                method="weights read" if context.graph.weight_statistics else "initializers",
            ),
        ),
        remedy=_remedy(typical, large=large),
        severity=severity,
        confidence=confidence,
    )


def accounts_for(context: Context, growth: float) -> bool:
    """Whether mis-scaled initial weights explain half of a forecast growth, or more.

    `growth` is the logarithm of the factor on the gradient's norm from the last layers to the
    first. Counted are spans that change it by `FACTOR` or more because of their weights' scale.
    """
    explained = sum(
        math.log(span.gradient)
        for span in scale_spans(context.graph, context.forecast)
        if span.untouched and not span.frozen and span.caused and _size(span.change) >= FACTOR
    )
    return explained * math.copysign(1, growth) >= 0.5 * abs(growth)


def _size(factor: float) -> float:
    """A factor, upward."""
    return max(factor, 1 / factor)


def _times(excess: float) -> str:
    return f"{excess:.3g} times"


def _before(layer: ScaledLayer) -> str:
    return layer.activation or "a linear layer"


def _remedy(layer: ScaledLayer, *, large: bool) -> str:
    initializer = recommended_initializer(layer.activation)
    return (
        f"Use {initializer}, whose scale follows the layer's width; BatchNormalization between "
        f"the layers also takes weights out that are too {'large' if large else 'small'}.\n\n"
        "```python\n"
        f'keras.layers.{layer.call.kind}(..., kernel_initializer="{initializer}")\n'
        "```\n"
    )


def recommended_initializer(activation: str | None) -> str:
    """The Keras initializer whose variance an activation needs."""
    if activation == "selu":
        return "lecun_normal"
    if activation is None or activation in SATURATING_ACTIVATIONS:
        return "glorot_uniform"
    return "he_normal"
