"""Output shapes of layers on images, sequences and volumes: convolution, pooling, padding, size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from auditor.formats.keras_model import LayerConfig
from auditor.formats.shape_arithmetic import UNKNOWN, Shapes
from auditor.formats.untrusted import flag, integer, integers, sequence, text
from auditor.graph.layer_graph import Shape

Rule = Callable[[LayerConfig, Shapes], Shapes]
Size = int | str | None


def _split(given: Shape, config: Mapping[str, Any]) -> tuple[Size, list[Size], Size]:
    """Batch, spatial sizes and channels of a tensor in the layer's data format."""
    if text(config.get("data_format")) == "channels_first":
        return given[0], list(given[2:]), given[1]
    return given[0], list(given[1:-1]), given[-1]


def _joined(batch: Size, spatial: list[Size], channels: Size, config: Mapping[str, Any]) -> Shape:
    if text(config.get("data_format")) == "channels_first":
        return (batch, channels, *spatial)
    return (batch, *spatial, channels)


def _rank(kind: str) -> int:
    return next((int(digit) for digit in kind if digit in "123"), 2)


def window(size: Size, taps: int, stride: int, dilation: int, padding: str) -> int | None:
    """How many windows of `taps` fit a size; "same" and "causal" pad, and so round up."""
    if not isinstance(size, int) or stride < 1:
        return None
    if padding in ("same", "causal"):
        return -(-size // stride)
    span = (taps - 1) * dilation + 1
    return max((size - span) // stride + 1, 0)


def _on_image(
    inner: Callable[[LayerConfig, list[Size], Size], tuple[list[Size], Size] | None],
) -> Rule:
    def rule(layer: LayerConfig, inputs: Shapes) -> Shapes:
        given, rank = inputs[0], _rank(layer.kind)
        if given is None or len(given) != rank + 2:
            return UNKNOWN
        batch, spatial, channels = _split(given, layer.config)
        result = inner(layer, spatial, channels)
        return UNKNOWN if result is None else (_joined(batch, *result, layer.config),)

    return rule


def _windows(
    config: Mapping[str, Any], spatial: list[Size], taps: str, default_stride: str = ""
) -> list[Size] | None:
    rank = len(spatial)
    kernel = integers(config.get(taps), rank)
    strides = integers(config.get("strides"), rank)
    if strides is None:
        strides = kernel if default_stride else (1,) * rank
    dilation = integers(config.get("dilation_rate"), rank) or (1,) * rank
    if kernel is None or strides is None:
        return None
    padding = text(config.get("padding"), "valid")
    return [
        window(size, k, s, d, padding)
        for size, k, s, d in zip(spatial, kernel, strides, dilation, strict=True)
    ]


def _conv(
    layer: LayerConfig, spatial: list[Size], channels: Size
) -> tuple[list[Size], Size] | None:
    sizes = _windows(layer.config, spatial, "kernel_size")
    if sizes is None:
        return None
    if layer.kind.startswith("Depthwise"):
        multiplier = integer(layer.config.get("depth_multiplier"))
        known = isinstance(channels, int) and multiplier is not None
        return sizes, channels * multiplier if known else None  # type: ignore[operator]
    return sizes, integer(layer.config.get("filters"))


def _pool(
    layer: LayerConfig, spatial: list[Size], channels: Size
) -> tuple[list[Size], Size] | None:
    sizes = _windows(layer.config, spatial, "pool_size", "pool_size")
    return None if sizes is None else (sizes, channels)


def _adaptive_pool(
    layer: LayerConfig, spatial: list[Size], channels: Size
) -> tuple[list[Size], Size] | None:
    sizes = integers(layer.config.get("output_size"), len(spatial))
    return None if sizes is None else (list(sizes), channels)


def transposed_window(
    config: Mapping[str, Any], spatial: list[Size], kernel: tuple[int, ...]
) -> list[Size] | None:
    """Sizes after a transposed convolution, as Keras' `compute_conv_transpose_output_shape`."""
    rank = len(spatial)
    strides = integers(config.get("strides"), rank) or (1,) * rank
    dilation = integers(config.get("dilation_rate"), rank) or (1,) * rank
    extra = integers(config.get("output_padding"), rank)
    if len(kernel) != rank:
        return None
    padding = text(config.get("padding"), "valid")
    sizes: list[Size] = []
    for axis, size in enumerate(spatial):
        if not isinstance(size, int):
            sizes.append(None)
            continue
        span = (kernel[axis] - 1) * dilation[axis] + 1
        if extra is not None:
            pad = span // 2 if padding == "same" else 0
            sizes.append((size - 1) * strides[axis] + span - 2 * pad + extra[axis])
        elif padding == "same":
            sizes.append(size * strides[axis])
        else:
            sizes.append(size * strides[axis] + max(span - strides[axis], 0))
    return sizes


def _conv_transpose(
    layer: LayerConfig, spatial: list[Size], _: Size
) -> tuple[list[Size], Size] | None:
    kernel = integers(layer.config.get("kernel_size"), len(spatial))
    sizes = None if kernel is None else transposed_window(layer.config, spatial, kernel)
    return None if sizes is None else (sizes, integer(layer.config.get("filters")))


def _global_pool(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given = inputs[0]
    if given is None or len(given) != _rank(layer.kind) + 2:
        return UNKNOWN
    batch, spatial, channels = _split(given, layer.config)
    if flag(layer.config.get("keepdims"), False):
        return (_joined(batch, [1] * len(spatial), channels, layer.config),)
    return ((batch, channels),)


def _pairs(value: object, rank: int) -> list[tuple[int, int]] | None:
    """Padding or cropping on both sides: a number, a number an axis, or a pair an axis."""
    single = integers(value, rank) if rank > 1 or not isinstance(value, list) else None
    if single is not None:
        return [(size, size) for size in single]
    entries = sequence(value)
    if rank == 1 and integers(entries, 2) is not None:
        entries = [entries]
    pairs = [pair for entry in entries if (pair := integers(entry, 2)) is not None]
    return [(p[0], p[1]) for p in pairs] if len(pairs) == rank == len(entries) else None


def _resized(key: str, sign: int) -> Rule:
    def inner(
        layer: LayerConfig, spatial: list[Size], channels: Size
    ) -> tuple[list[Size], Size] | None:
        pairs = _pairs(layer.config.get(key), len(spatial))
        if pairs is None:
            return None
        return [
            max(size + sign * (low + high), 0) if isinstance(size, int) else None
            for size, (low, high) in zip(spatial, pairs, strict=True)
        ], channels

    return _on_image(inner)


def _upsample(
    layer: LayerConfig, spatial: list[Size], channels: Size
) -> tuple[list[Size], Size] | None:
    factors = integers(layer.config.get("size"), len(spatial))
    if factors is None:
        return None
    return [
        size * factor if isinstance(size, int) else None
        for size, factor in zip(spatial, factors, strict=True)
    ], channels


def _fixed_size(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given = inputs[0]
    height, width = integer(layer.config.get("height")), integer(layer.config.get("width"))
    if given is None or height is None or width is None or len(given) not in (3, 4):
        return UNKNOWN
    if text(layer.config.get("data_format")) == "channels_first":
        return ((*given[:-2], height, width),)
    return ((*given[:-3], height, width, given[-1]),)


def _conv_lstm(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, rank = inputs[0], _rank(layer.kind)
    if given is None or len(given) != rank + 3:
        return UNKNOWN
    batch, spatial, _ = _split((given[0], *given[2:]), layer.config)
    sizes = _windows(layer.config, spatial, "kernel_size")
    if sizes is None:
        return UNKNOWN
    state = _joined(batch, sizes, integer(layer.config.get("filters")), layer.config)
    output = state
    if flag(layer.config.get("return_sequences"), False):
        output = (state[0], given[1], *state[1:])
    return (output, state, state) if flag(layer.config.get("return_state"), False) else (output,)


def _per_rank(rule: Rule, *stems: str, suffix: str = "") -> dict[str, Rule]:
    return {f"{stem}{rank}D{suffix}": rule for stem in stems for rank in (1, 2, 3)}


SPATIAL: Mapping[str, Rule] = {
    **_per_rank(
        _on_image(_conv),
        *("Conv", "Convolution", "DepthwiseConv", "SeparableConv", "SeparableConvolution"),
        "LocallyConnected",
    ),
    **_per_rank(_on_image(_conv_transpose), "Conv", "Convolution", suffix="Transpose"),
    **_per_rank(_on_image(_pool), "MaxPooling", "MaxPool", "AveragePooling", "AvgPool"),
    **_per_rank(_on_image(_adaptive_pool), "AdaptiveMaxPooling", "AdaptiveAveragePooling"),
    **_per_rank(
        _global_pool, "GlobalMaxPooling", "GlobalMaxPool", "GlobalAveragePooling", "GlobalAvgPool"
    ),
    **_per_rank(_resized("padding", 1), "ZeroPadding"),
    **_per_rank(_resized("cropping", -1), "Cropping"),
    **_per_rank(_on_image(_upsample), "UpSampling"),
    **_per_rank(_conv_lstm, "ConvLSTM"),
    **dict.fromkeys(("Resizing", "CenterCrop", "RandomCrop"), _fixed_size),
}
