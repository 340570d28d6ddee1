"""GEB1, resolution: height and width that are gone before the convolutions are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.dimensions import own_config, sizes, spatial
from auditor.graph.operators import CONVOLUTION_OPS, POOLING_OPS
from auditor.graph.paths import kernel_depth, reaching_outputs
from auditor.rule import Context, Option, rule

from .wording import ids, names, plural, sample_shape, times


@rule(
    "GEB107",
    "collapsed-resolution",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="unused",
            default=0.5,
            meaning="share of a kernel's taps that only ever meet padding",
            most=1.0,
        ),
        Option(
            name="share",
            default=0.25,
            meaning="share of the model's parameters that these taps are, where a way leads around",
            most=1.0,
        ),
    ),
)
def collapsed_resolution(context: Context) -> Iterator[Finding | Skipped]:
    """Height and width are used up before the convolutions are.

    ## What it does
    Looks at the positions each convolution still has. Warns where most taps of a kernel can only
    ever meet padding, as those of a 3×3 kernel on a 1×1 map, and every way to the output leads
    through such layers, or they hold a good part of the parameters. Warns where the whole image is
    pooled to one position before any layer has seen it, and where a stride is larger than the
    kernel, so that positions are never read. An error where a dimension has size 0.

    ## Why is this bad
    On a 1×1 map a 3×3 convolution is a Dense layer with eight ninths of its weights unused: they
    are stored, regularized and updated by nothing but noise. What could tell one place in the
    image from another was thrown away earlier, as a rule by an input much smaller than the
    architecture was made for.

    ## Evidence
    The shapes, kernels, strides and dilations of the layers; taps counted exactly.

    ## Example
    ```python
    keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=10)
    ```

    ## Use instead
    ```python
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Resizing(128, 128)(inputs)
    outputs = keras.applications.MobileNetV2(
        weights=None, input_shape=(128, 128, 3), classes=10
    )(x)
    model = keras.Model(inputs, outputs)
    ```

    ## Options
    - `unused`: share of a kernel's taps that only meet padding, from which on a layer is counted,
      0.5 by default.
    - `share`: share of the model's parameters that such taps are, from which on they are named
      although there is a way around them, 0.25 by default.

    ## Known problems
    Detectors and feature pyramids end in maps of 1×1 on purpose; their other levels are a way
    around. A layer that is shared among levels is judged by the largest. Inputs of unknown size
    are not judged.

    ## References
    - Chen, Papandreou, Schroff, Adam 2017, Rethinking atrous convolution for semantic image
      segmentation (section 3.3: kernels that degenerate to 1×1), https://arxiv.org/abs/1706.05587
    - He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition (section 4.2: a network
      for 32×32 images keeps its resolution), https://arxiv.org/abs/1512.03385
    """
    graph = context.graph
    used = reaching_outputs(graph)
    calls = [call for call in graph.calls if call.id in used]
    if empty := [call for call in calls if graph.format != "onnx" and _empty(call)]:
        yield _nothing_left(context, empty)
        return
    if wasted := _wasted(calls, context.number("unused")):
        ratio = sum(unused for _, unused in wasted) / max(graph.parameters, 1)
        if _cut(graph, [call.id for call, _ in wasted]) or ratio >= context.number("share"):
            yield _padding_only(context, [call for call, _ in wasted], ratio)
    depth = kernel_depth(graph)
    pooled = [call for call in calls if not depth[call.id] and _pools_all(call)]
    if pooled and _cut(graph, [call.id for call in pooled]):
        yield context.finding(
            f"{names(pooled)} reduces the whole image to one position before any layer has seen "
            "it: all that is left is a number for each channel.",
            layers=ids(pooled),
            evidence=(Evidence(name="positions before", value=_positions(pooled[0])),),
            remedy="Put the convolutions before the pooling.",
        )
    skipping = [call for call in calls if _skips(call)]
    if skipping:
        yield context.finding(
            f"The stride of {names(skipping)} is larger than the kernel: part of the input is "
            "never read.",
            layers=ids(skipping),
            evidence=tuple(
                Evidence(name=f"kernel and stride of {call.id}", value=_window(call))
                for call in skipping
            ),
            remedy="Make the stride no larger than the kernel, or the kernel larger.",
            confidence=Confidence.MEDIUM,
        )


def _nothing_left(context: Context, empty: list[LayerCall]) -> Finding:
    return context.finding(
        f"The output of `{empty[0].id}` has shape {sample_shape(empty[0].out_shape)}: there is "
        "nothing in it, and nothing behind it can learn.",
        layers=ids(empty[:1]),
        evidence=(
            Evidence(name="input", value=sample_shape(empty[0].in_shape), method="graph"),
            Evidence(name="output", value=sample_shape(empty[0].out_shape), method="graph"),
        ),
        remedy='Pool less often, use `padding="same"`, or give the model larger inputs.',
        severity=Severity.ERROR,
    )


def _padding_only(context: Context, calls: list[LayerCall], ratio: float) -> Finding:
    first = calls[0]
    more = f", and so it is in {plural(len(calls) - 1, 'more layer')}" if len(calls) > 1 else ""
    lost = f": {ratio:.0%} of the model's parameters meet no input" if ratio >= 0.01 else ""
    return context.finding(
        f"On a map of {_positions(first)} positions most of the {_taps(first)} kernel of "
        f"`{first.id}` only ever meets padding{more}{lost}.",
        layers=ids(calls),
        evidence=(
            Evidence(name="positions", value=_positions(first), method="graph"),
            Evidence(name="kernel", value=_taps(first), method="configuration"),
            Evidence(name="parameters that meet padding only", value=ratio, unit="share"),
        ),
        remedy=(
            "Give the model larger images (`keras.layers.Resizing`), or take out strides and "
            "pooling until the last convolutions have at least 4×4 positions."
        ),
    )


def _wasted(calls: list[LayerCall], share: float) -> list[tuple[LayerCall, float]]:
    """Layers whose kernels lie on padding by this share, each with the weights that do."""
    least: dict[str, tuple[LayerCall, float]] = {}
    for call in calls:
        if call.op not in (Op.CONV, Op.DEPTHWISE_CONV, Op.SEPARABLE_CONV):
            continue
        unused = _unused_share(call)
        if call.layer not in least or unused < least[call.layer][1]:
            least[call.layer] = (call, unused)
    return [
        (call, unused * _spatial_weights(call))
        for call, unused in least.values()
        if unused >= share
    ]


def _spatial_weights(call: LayerCall) -> int:
    kernel = call.weight("depthwise_kernel") or call.weight("kernel")
    return kernel.size if kernel is not None else 0


def _unused_share(call: LayerCall) -> float:
    """Share of the kernel's taps that no position of the output reads an input with."""
    positions, taps = spatial(call.in_shape, call), _extents(call)
    if positions is None or len(taps) != len(positions) or not _padded(call):
        return 0.0
    steps = _fitted(own_config(call).get("dilation_rate", 1), len(positions))
    if len(steps) != len(positions):
        return 0.0
    used = 1.0
    for size, count, step in zip(positions, taps, steps, strict=True):
        reached = sum(abs(tap - (count - 1) / 2) * step < size for tap in range(min(count, 4096)))
        used *= reached / min(count, 4096)
    return 1 - used


def _padded(call: LayerCall) -> bool:
    """Whether the convolution reads padding of its own."""
    config = own_config(call)
    pads = config.get("pads")
    return config.get("padding") == "same" or (
        isinstance(pads, (list, tuple)) and any(isinstance(pad, int) and pad > 0 for pad in pads)
    )


def _extents(call: LayerCall) -> tuple[int, ...]:
    config = own_config(call)
    taps = config.get("kernel_size", config.get("kernel_shape", config.get("pool_size", 1)))
    return _fitted(taps, len(call.in_shape or ()) - 2)


def _fitted(value: object, rank: int) -> tuple[int, ...]:
    """A size for each of `rank` dimensions."""
    found = sizes(value)
    return found * rank if len(found) == 1 else found


def _skips(call: LayerCall) -> bool:
    """Whether positions lie between one window and the next. A 1×1 shortcut does so on purpose."""
    if call.op not in (Op.CONV, Op.DEPTHWISE_CONV, Op.SEPARABLE_CONV, Op.AVERAGE_POOL, Op.MAX_POOL):
        return False
    taps, positions = _extents(call), spatial(call.in_shape, call)
    steps = _fitted(own_config(call).get("strides") or 1, len(taps))
    if len(steps) != len(taps) or positions is None or len(positions) != len(taps):
        return False
    return max(taps, default=1) > 1 and any(
        step > extent > 1 and size > extent
        for step, extent, size in zip(steps, taps, positions, strict=True)
    )


def _window(call: LayerCall) -> str:
    return f"{_taps(call)}, {times(sizes(own_config(call).get('strides') or 1))}"


def _empty(call: LayerCall) -> bool:
    return call.op in CONVOLUTION_OPS | POOLING_OPS and any(
        size == 0 for shape in call.out_shapes if shape is not None for size in shape[1:]
    )


def _pools_all(call: LayerCall) -> bool:
    """Whether an image, many positions high and wide, comes out as one position."""
    positions = spatial(call.in_shape, call)
    if call.op not in POOLING_OPS or positions is None or len(positions) < 2:
        return False
    if math.prod(positions) < 4:
        return False
    if call.op in (Op.GLOBAL_AVERAGE_POOL, Op.GLOBAL_MAX_POOL):
        return True
    left = spatial(call.out_shape, call)
    return left is not None and max(left) == 1


def _cut(graph: LayerGraph, removed: Iterable[str]) -> bool:
    """Whether no output depends on an input once these calls are gone."""
    gone, reached = frozenset(removed), set[str]()
    for call in graph.calls:
        if call.id not in gone and (
            call.op is Op.INPUT
            or any(source.id in reached for source in graph.predecessors(call.id))
        ):
            reached.add(call.id)
    return not any(call_id in reached for call_id, _ in graph.outputs)


def _positions(call: LayerCall) -> str:
    return times(spatial(call.in_shape, call) or ("?",))


def _taps(call: LayerCall) -> str:
    return times(_extents(call))
