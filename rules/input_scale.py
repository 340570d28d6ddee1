"""GEB701: the scale of the inputs as the first layers with weights get them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.freshness import drawn
from auditor.graph.input_uses import InputUse, input_uses
from auditor.graph.layer_tail import layer_tail
from auditor.graph.operators import KERNEL_OPS, NORMALIZATION_OPS
from auditor.graph.target_fit import BINARY, BY_NUMBER, BY_ROW
from auditor.measurement import ArrayFacts, DataFacts
from auditor.rule import Context, Needs, Option, rule

#: Activations that pass a factor on: a normalization behind them takes it out again.
HOMOGENEOUS = frozenset({None, "relu", "leaky_relu", "prelu"})


@rule(
    "GEB701",
    "unscaled-input",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    since="0.1",
    options=(
        Option(name="large", default=10.0, meaning="root mean square from which inputs are large"),
        Option(
            name="huge",
            default=1e6,
            meaning="the same for an error, where nothing normalizes and the targets are small",
        ),
        Option(name="small", default=0.02, meaning="range of values below which inputs are small"),
        Option(
            name="unequal",
            default=1e3,
            meaning="quotient of features' standard deviations from which they are too unequal",
        ),
    ),
)
def unscaled_input(context: Context) -> Iterator[Finding | Skipped]:
    """The inputs are far from unit scale where the first weights meet them.

    ## What it does
    Follows each input through the Rescaling and Normalization layers of the model to the first
    layers with weights, and looks at the data as these get them. Fires where their root mean
    square is `large` or more, where their whole range is below `small` (above all where the data
    are scaled and the model scales them once more), and where the features of a table differ by
    the factor `unequal` in their standard deviations.

    But for what is scaled twice, nothing is said of an input that is normalized before the next
    weights, and of weights that are no fresh draw of their initializer: what scale trained weights
    take is not known. Nor of one that only looks up rows of an Embedding.

    ## Why is this bad
    Initial weights are drawn for inputs of about unit variance. Pixels of 0 to 255 start every
    unit two hundred times too far out: sigmoid and tanh units saturate, the loss starts in the
    hundreds, and the gradients of the first kernel are larger than those of its bias by the same
    factor, so that no learning rate suits both. Inputs that are too small leave the output at its
    bias for a long time.

    ## Evidence
    Mean and standard deviation of the array, over all samples, and the factors of the model's own
    scaling layers.

    ## Example
    ```python
    (x, y), _ = keras.datasets.mnist.load_data()  # 0 to 255
    model.fit(x, y)
    ```

    ## Use instead
    ```python
    (x, y), _ = keras.datasets.mnist.load_data()
    model.fit(x / 255.0, y)
    ```

    ## Options
    - `large`: root mean square from which inputs are large, 10 by default; scikit-learn's digits,
      of 0 to 16, are below it.
    - `huge`: the same for an error, 10⁶ by default, where the model normalizes nowhere and the
      targets are classes or a hundredth of that at most.
    - `small`: range of values below which inputs are small, 0.02 by default.
    - `unequal`: quotient of the features' standard deviations from which they are too unequal,
      1000 by default.

    ## Known problems
    Adam often trains on unscaled pixels all the same, only worse. A first layer that was made for
    raw values, with weights drawn accordingly, is named wrongly.

    ## References
    - LeCun, Bottou, Orr, Müller 1998, Efficient BackProp, section 4.3 (normalizing the inputs).
    - Keras guide, Working with preprocessing layers,
      https://keras.io/guides/preprocessing_layers/
    """
    data, graph = context.data, context.graph
    if not data.inputs:
        yield context.skip("; ".join(data.unbound) or "the data hold no inputs")
        return
    unknown: list[str] = []
    for array in data.inputs:
        if array.minimum is None or array.dtype == "bool" or array.place >= len(graph.inputs):
            continue
        for use in input_uses(graph, graph.inputs[array.place].call):
            if use.call.op not in KERNEL_OPS or use.call.op is Op.EMBEDDING:
                continue
            arriving = _Arriving(array=array, use=use)
            twice = arriving.range < context.number("small") and use.factor < 1.0
            if not twice and _normalized(graph, use.call):
                continue
            if not twice and not _fresh(graph, use.call):
                unknown.append(use.call.id)
                continue
            finding = _judged(context, arriving)
            if finding is not None:
                yield finding
                break
    if unknown:
        yield context.skip(
            f"`{unknown[0]}` has trained or frozen weights, and what scale they take is not known"
        )


@dataclass(frozen=True, kw_only=True)
class _Arriving:
    """An input's values as a layer gets them."""

    array: ArrayFacts
    use: InputUse

    @property
    def mean(self) -> float:
        return (self.array.mean or 0.0) * self.use.factor + self.use.offset

    @property
    def root_mean_square(self) -> float:
        return math.hypot(self.mean, (self.array.deviation or 0.0) * self.use.factor)

    @property
    def range(self) -> float:
        low, high = self.array.minimum or 0.0, self.array.maximum or 0.0
        return (high - low) * abs(self.use.factor)

    @property
    def unequal(self) -> float:
        """Standard deviation of the widest feature of a table over that of the narrowest."""
        features = self.array.features
        if len(self.array.shape) != 2 or features is None or not features.narrowest:
            return 1.0
        widest = features.widest[1] if features.widest else 0.0
        return widest / features.narrowest[1] if features.narrowest[1] > 0 else 1.0

    @property
    def widest(self) -> float:
        features = self.array.features
        found = features.widest[1] if features is not None and features.widest else 0.0
        return found * abs(self.use.factor)


def _judged(context: Context, arriving: _Arriving) -> Finding | None:
    array, use = arriving.array, arriving.use
    rms, large = arriving.root_mean_square, context.number("large")
    apart = arriving.unequal >= context.number("unequal") and arriving.widest >= large
    low, high = array.minimum or 0.0, array.maximum or 0.0
    severity = Severity.WARNING
    if rms >= large:
        what = (
            f"`{array.name}` holds values from {low:.4g} to {high:.4g}, and `{use.call.id}` gets "
            f"them with a root mean square of {rms:.3g}: its weights are drawn for about 1."
        )
        if rms >= context.number("huge") and _hopeless(context, rms):
            severity = Severity.ERROR
    elif apart:
        what = (
            f"The features of `{array.name}` differ in scale: standard deviations go from "
            f"{_spread(array)}, and the largest drown the others."
        )
    elif 0.0 < arriving.range < context.number("small"):
        again = f" after {use.scalings[0].kind}" if use.scalings else ""
        twice = " The data seem to be scaled already." if use.scalings and high <= 1.0 else ""
        what = (
            f"`{array.name}` reaches `{use.call.id}`{again} with a range of only "
            f"{arriving.range:.2g}: the output hardly depends on it at first.{twice}"
        )
    else:
        return None
    return context.finding(
        what,
        layers=(use.call.id,),
        evidence=(
            Evidence(name="mean", value=arriving.mean, method=f"of {array.name}, as scaled"),
            Evidence(name="root mean square", value=rms, method=f"of {array.name}, as scaled"),
            Evidence(name="range", value=arriving.range, method="largest less least value"),
            *(
                (Evidence(name="widest feature over narrowest", value=arriving.unequal),)
                if apart
                else ()
            ),
        ),
        remedy=_remedy(arriving),
        severity=severity,
        confidence=Confidence.MEDIUM if array.sampled else Confidence.HIGH,
    )


def _spread(array: ArrayFacts) -> str:
    features = array.features
    if features is None or features.narrowest is None or features.widest is None:
        return ""
    (narrow, small), (wide, big) = features.narrowest, features.widest
    return f"{small:.2g} (column {narrow}) to {big:.2g} (column {wide})"


def _remedy(arriving: _Arriving) -> str:
    array, use = arriving.array, arriving.use
    low, high = array.minimum or 0.0, array.maximum or 0.0
    if arriving.range < 1.0 and use.scalings:
        return f"Scale once: give the raw values, or take `{use.scalings[0].id}` out of the model."
    if low >= 0 and high <= 255 and high > 100 and len(array.shape) > 2 and not use.scalings:
        return f"Scale the pixels.\n\n```python\n{array.name} = {array.name} / 255.0\n```\n"
    numbers = array.whole == 1.0 and low >= 0 and high > 255
    words = (
        "If they are numbers of words or categories, begin with an Embedding; else standardize "
        if numbers
        else "Standardize "
    )
    return (
        f"{words}the inputs, in the data or by a layer that adapts to them.\n\n"
        "```python\n"
        "normalize = keras.layers.Normalization()\n"
        f"normalize.adapt({array.name})\n"
        "```\n"
    )


def _hopeless(context: Context, rms: float) -> bool:
    """Whether outputs of such inputs are nowhere near the targets, and no layer mends it."""
    graph = context.graph
    if graph.compile is None or any(call.op in NORMALIZATION_OPS for call in graph.calls):
        return False
    names = {loss.name for loss in graph.compile.losses}
    return names <= BY_ROW | BINARY | {BY_NUMBER} or _largest(context.data) <= rms / 100


def _largest(data: DataFacts) -> float:
    return max(
        (max(abs(t.minimum or 0.0), abs(t.maximum or 0.0)) for t in data.targets),
        default=math.inf,
    )


def _normalized(graph: LayerGraph, call: LayerCall) -> bool:
    """Whether a normalization behind the call takes out the scale of what it gets."""
    for member in layer_tail(graph, call):
        if member.op in NORMALIZATION_OPS:
            return True
        if member.activation not in HOMOGENEOUS:
            return False
    return False


def _fresh(graph: LayerGraph, call: LayerCall) -> bool:
    """Whether the call's kernels can still be what their initializers drew."""
    if not call.trainable:
        return False
    for index, weight in enumerate(call.weights):
        seen = graph.weight_statistics.get((call.layer, index))
        if len(weight.shape) < 2 or seen is None:
            continue
        if not drawn(weight, seen):
            return False
    return True
