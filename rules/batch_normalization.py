"""GEB4, batch normalization: what stands before it, and how it is set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.dimensions import channels_first, number, own_config
from auditor.graph.operators import AFFINE_OPS, CONVOLUTION_OPS, POOLING_OPS, SHAPE_OPS
from auditor.graph.paths import only_successor, reaching_outputs
from auditor.rule import Context, Option, rule

from .wording import ids, names, plural

#: What hands a dropped signal on with its shifted variance: nothing is learned in between.
HANDING_OPS = SHAPE_OPS | POOLING_OPS | {Op.ACTIVATION, Op.IDENTITY, Op.CAST, Op.SCALE}
#: Normalizations that subtract each channel's own mean, and a bias with it.
CENTRING_OPS = frozenset({Op.BATCH_NORM, Op.INSTANCE_NORM})
#: Dropout that keeps mean and variance as they are (Klambauer et al. 2017).
VARIANCE_KEEPING = frozenset({"AlphaDropout"})


@rule(
    "GEB401",
    "dropout-before-batchnorm",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="rate",
            default=0.1,
            meaning="dropout rate from which the variance shifts enough to matter",
            most=1.0,
        ),
    ),
)
def dropout_before_batchnorm(context: Context) -> Iterator[Finding | Skipped]:
    """Dropout directly before batch normalization, whose statistics then do not fit inference.

    ## What it does
    Looks, behind every dropout of `rate` or more, for a batch normalization that takes its output,
    with nothing but activation, pooling and reshaping in between.

    ## Why is this bad
    Dropout scales what it keeps by 1/(1 − rate), which keeps the mean and raises the variance.
    Batch normalization learns that variance, and divides by it at inference, where nothing is
    dropped and the variance is smaller: each layer behind works on a signal of another scale than
    it was trained on. Validation is then worse than training says, and jumps about.

    ## Evidence
    The layers and their rates, and the factor on a centred signal's variance between training and
    inference, 1 − rate.

    ## Example
    ```python
    x = keras.layers.Dense(128, activation="relu")(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.BatchNormalization()(x)
    ```

    ## Use instead
    ```python
    x = keras.layers.Dense(128, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Dropout(0.5)(x)
    ```

    ## Options
    - `rate`: dropout rate from which the variance shifts enough to matter, 0.1 by default.

    ## Known problems
    A layer with weights between the two softens the shift without removing it; such blocks are
    common and train, and are not accused. Wide residual networks drop out right before
    normalization and do well, because wide layers average the shift away.

    ## References
    - Li, Chen, Hu, Yang 2019, Understanding the disharmony between dropout and batch
      normalization by variance shift, https://arxiv.org/abs/1801.05134
    """
    graph = context.graph
    used = reaching_outputs(graph)
    least = context.number("rate")
    pairs = [
        (dropout, call)
        for call in graph.calls
        if call.op is Op.BATCH_NORM and call.trainable and call.id in used
        if (dropout := _dropout_before(graph, call)) is not None
        and dropout.kind not in VARIANCE_KEEPING
        and (_rate(dropout) or 0.0) >= least
    ]
    if not pairs:
        return
    dropouts = list({dropout.id: dropout for dropout, _ in pairs}.values())
    highest = max(_rate(dropout) or 0.0 for dropout in dropouts)
    norms = [call for _, call in pairs]
    yield context.finding(
        f"{names(norms)} {_verb(norms, 'normalizes', 'normalize')} what {names(dropouts)} "
        f"{_verb(dropouts, 'has', 'have')} dropped from: at inference the variance is down to "
        f"{1 - highest:.0%} of the one that was learned.",
        layers=ids([*dropouts, *norms]),
        evidence=(
            *(
                Evidence(
                    name=f"rate of {call.id}", value=_rate(call) or 0.0, method="configuration"
                )
                for call in dropouts
            ),
            Evidence(
                name="variance at inference over that in training",
                value=1 - highest,
                method="1 − rate, for a centred signal",
            ),
        ),
        remedy=(
            "Move the dropout behind the normalization and its activation, or behind the last "
            "normalization of the model."
        ),
        confidence=Confidence.MEDIUM,
    )


def _dropout_before(graph: LayerGraph, call: LayerCall) -> LayerCall | None:
    """The dropout whose output the call takes, through nothing that learns."""
    sources = graph.predecessors(call.id)
    while len(sources) == 1 and sources[0].op in HANDING_OPS:
        sources = graph.predecessors(sources[0].id)
    return sources[0] if len(sources) == 1 and sources[0].op is Op.DROPOUT else None


def _rate(call: LayerCall) -> float | None:
    return number(own_config(call).get("rate"))


def _verb(calls: list[LayerCall], one: str, many: str) -> str:
    return one if len(calls) == 1 else many


@rule("GEB403", "redundant-bias", severity=Severity.INFO, since="0.1")
def redundant_bias(context: Context) -> Iterator[Finding | Skipped]:
    """A bias directly under a normalization that subtracts it again.

    ## What it does
    Counts the layers with a trainable bias whose only use is to be batch- or instance-normalized
    along their channels. One finding a model, for information.

    ## Why is this bad
    The normalization subtracts each channel's mean, and the bias with it: whatever its value, the
    output is the same, and its gradient is zero. It costs memory in weights, gradients and
    optimizer state, weight decay pulls at it, and it suggests an effect that it does not have. The
    normalization's own beta does what it was meant for.

    ## Evidence
    The layers, and how many values their biases hold.

    ## Example
    ```python
    x = keras.layers.Conv2D(64, 3, padding="same")(x)
    x = keras.layers.BatchNormalization()(x)
    ```

    ## Use instead
    ```python
    x = keras.layers.Conv2D(64, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    ```

    ## Options
    None.

    ## Known problems
    Under a frozen batch normalization the bias does act; that is let pass. Layer and group
    normalization subtract one mean from several channels, so that a bias keeps a meaning.
    Pretrained weights come as they are: the bias does no harm there. ONNX graphs are not to be
    trained, and are not judged.

    ## References
    - Ioffe, Szegedy 2015, Batch normalization: accelerating deep network training by reducing
      internal covariate shift, section 3.2, https://arxiv.org/abs/1502.03167
    """
    graph = context.graph
    if graph.format == "onnx":
        yield context.skip("an ONNX graph is not trained, so nothing is spent on its biases")
        return
    shared = Counter(call.layer for call in graph.calls)
    found = [
        call for call in graph.layers() if shared[call.layer] == 1 and _bias_is_lost(graph, call)
    ]
    if not found:
        return
    values = sum(weight.size for call in found for weight in call.weights if weight.role == "bias")
    yield context.finding(
        f"The bias of {names(found)} is subtracted again by the normalization behind: "
        f"{plural(values, 'weight')} that training cannot use.",
        layers=ids(found),
        evidence=(
            Evidence(name="layers", value=len(found), method="graph"),
            Evidence(name="values in their biases", value=values, method="counted"),
        ),
        remedy="Set `use_bias=False` in these layers; the normalization's beta takes its place.",
    )


def _bias_is_lost(graph: LayerGraph, call: LayerCall) -> bool:
    bias = call.weight("bias")
    if call.op not in AFFINE_OPS or bias is None or not (bias.trainable and call.trainable):
        return False
    if call.activation is not None:
        return False
    following = only_successor(graph, call)
    while following is not None and following.op in (Op.IDENTITY, Op.CAST):
        following = only_successor(graph, following)
    if following is None or following.op not in CENTRING_OPS or not following.trainable:
        return False
    return following.op is not Op.BATCH_NORM or _is_channel_axis(call, following)


def _is_channel_axis(producer: LayerCall, norm: LayerCall) -> bool:
    """Whether a batch normalization works along the axis that its producer's bias has."""
    axis = _axis(norm)
    rank = len(norm.in_shape) if norm.in_shape else None
    if axis is None or rank is None:
        return False
    first = producer.op in CONVOLUTION_OPS and channels_first(producer)
    return axis == (1 if first else rank - 1)


def _axis(norm: LayerCall) -> int | None:
    """The one axis a batch normalization keeps statistics for, counted from the front."""
    axis = own_config(norm).get("axis", -1)
    if isinstance(axis, (list, tuple)):
        axis = axis[0] if len(axis) == 1 else None
    if not isinstance(axis, int) or isinstance(axis, bool) or norm.in_shape is None:
        return None
    rank = len(norm.in_shape)
    return axis % rank if -rank <= axis < rank else None


def misplaced_axes(graph: LayerGraph, norms: Iterable[LayerCall]) -> list[LayerCall]:
    """The batch normalizations behind a convolution that work along a spatial axis.

    Inside a wrapper, which adds an axis of its own, they are not judged.
    """
    found = []
    for norm in norms:
        if "layer" in norm.config:
            continue
        sources = graph.predecessors(norm.id)
        while len(sources) == 1 and sources[0].op in (Op.ACTIVATION, Op.DROPOUT, Op.IDENTITY):
            sources = graph.predecessors(sources[0].id)
        if (
            len(sources) == 1
            and sources[0].op in CONVOLUTION_OPS
            and "layer" not in sources[0].config
            and isinstance(own_config(sources[0]).get("data_format"), str)
            and _axis(norm) is not None
            and not _is_channel_axis(sources[0], norm)
        ):
            found.append(norm)
    return found
