"""Output shapes of operations on images and volumes: windows, borders, sizes, blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from auditor.formats.keras_operands import Operands
from auditor.formats.keras_shapes_rearranging import OperandRule
from auditor.formats.keras_shapes_spatial import transposed_window, window
from auditor.formats.shape_arithmetic import UNKNOWN, Shapes
from auditor.formats.untrusted import integers, text

Size = int | str | None


def _parts(call: Operands) -> tuple[Size, list[Size], Size] | None:
    """Batch, spatial sizes and channels of a sequence, an image or a volume."""
    given = call.first
    if not 3 <= len(given) <= 5:
        return None
    if call.channels_last:
        return given[0], list(given[1:-1]), given[-1]
    return given[0], list(given[2:]), given[1]


def _joined(call: Operands, batch: Size, spatial: list[Size], channels: Size) -> Shapes:
    if call.channels_last:
        return ((batch, *spatial, channels),)
    return ((batch, channels, *spatial),)


def _windows(call: Operands, spatial: list[Size], taps: tuple[int, ...]) -> list[Size] | None:
    rank = len(spatial)
    strides = integers(call.setting("strides"), rank)
    if strides is None:
        strides = taps if call.kind.endswith("Pool") else (1,) * rank
    dilation = integers(call.setting("dilation_rate"), rank) or (1,) * rank
    if len(taps) != rank:
        return None
    padding = text(call.setting("padding"), "valid")
    return [
        window(size, k, s, d, padding)
        for size, k, s, d in zip(spatial, taps, strides, dilation, strict=True)
    ]


def _kernel(call: Operands, place: int = 1) -> tuple[int, ...] | None:
    given = call.shapes[place] if len(call.shapes) > place else None
    if given is None or not all(isinstance(size, int) for size in given) or len(given) < 3:
        return None
    return tuple(size for size in given if isinstance(size, int))


def _conv(call: Operands) -> Shapes:
    parts, kernel = _parts(call), _kernel(call)
    if parts is None or kernel is None:
        return UNKNOWN
    batch, spatial, channels = parts
    sizes = _windows(call, spatial, kernel[:-2])
    width: Size = kernel[-1]
    if call.kind == "DepthwiseConv":
        width = channels * kernel[-1] if isinstance(channels, int) else None
    elif call.kind == "SeparableConv":
        points = _kernel(call, 2)
        width = None if points is None else points[-1]
    return UNKNOWN if sizes is None else _joined(call, batch, sizes, width)


def _conv_transpose(call: Operands) -> Shapes:
    parts, kernel = _parts(call), _kernel(call)
    if parts is None or kernel is None:
        return UNKNOWN
    batch, spatial, _ = parts
    sizes = transposed_window(call.settings, spatial, kernel[:-2])
    return UNKNOWN if sizes is None else _joined(call, batch, sizes, kernel[-2])


def _pool(call: Operands) -> Shapes:
    parts = _parts(call)
    if parts is None:
        return UNKNOWN
    batch, spatial, channels = parts
    taps = integers(call.setting("pool_size", 1), len(spatial))
    sizes = None if taps is None else _windows(call, spatial, taps)
    return UNKNOWN if sizes is None else _joined(call, batch, sizes, channels)


def _adaptive_pool(call: Operands) -> Shapes:
    parts = _parts(call)
    if parts is None:
        return UNKNOWN
    batch, spatial, channels = parts
    sizes = integers(call.setting("output_size", 1), len(spatial))
    return UNKNOWN if sizes is None else _joined(call, batch, list(sizes), channels)


def _image(change: Callable[[Operands, Size, Size], tuple[Size, Size]]) -> OperandRule:
    """A rule that changes height and width of (batch, height, width, channels) or without batch."""

    def rule(call: Operands) -> Shapes:
        given = call.first
        if len(given) not in (3, 4):
            return UNKNOWN
        first = len(given) - (3 if call.channels_last else 2)
        height, width = change(call, given[first], given[first + 1])
        return ((*given[:first], height, width, *given[first + 2 :]),)

    return rule


def _resized(call: Operands, *_: Size) -> tuple[Size, Size]:
    size = integers(call.setting("size", 1), 2)
    return size if size is not None else (None, None)  # type: ignore[return-value]


def _bordered(sign: int, what: str) -> OperandRule:
    def size(call: Operands, given: Size, sides: tuple[str, str], target: str) -> Size:
        if call.integer(target) is not None:
            return call.integer(target)
        edges = [call.integer(f"{side}_{what}") for side in sides]
        known = [edge for edge in edges if edge is not None]
        if not isinstance(given, int) or len(known) != 2:
            return None
        return given + sign * sum(known)

    def change(call: Operands, height: Size, width: Size) -> tuple[Size, Size]:
        return (
            size(call, height, ("top", "bottom"), "target_height"),
            size(call, width, ("left", "right"), "target_width"),
        )

    return _image(change)


def _blocks(sign: int) -> OperandRule:
    """Depth into space (sign 1), a block of channels becoming one of positions, or back (-1)."""

    def rule(call: Operands) -> Shapes:
        parts, block = _parts(call), call.integer("block_size", 1)
        if parts is None or not block or block < 1:
            return UNKNOWN
        batch, spatial, channels = parts
        area = block ** len(spatial)

        def scaled(size: Size, factor: int, up: bool) -> Size:
            if not isinstance(size, int):
                return None
            return size * factor if up else size // factor

        sizes = [scaled(size, block, sign > 0) for size in spatial]
        return _joined(call, batch, sizes, scaled(channels, area, sign < 0))

    return rule


def _patches(call: Operands) -> Shapes:
    parts = _parts(call)
    if parts is None:
        return UNKNOWN
    batch, spatial, channels = parts
    taps = integers(call.setting("size", 1), len(spatial))
    if taps is None:
        return UNKNOWN
    strides = integers(call.setting("strides"), len(spatial)) or taps
    dilation = integers(call.setting("dilation_rate"), len(spatial)) or (1,) * len(spatial)
    padding = text(call.setting("padding"), "valid")
    sizes = [
        window(size, k, s, d, padding)
        for size, k, s, d in zip(spatial, taps, strides, dilation, strict=True)
    ]
    width = channels * math.prod(taps) if isinstance(channels, int) else None
    return _joined(call, batch, list(sizes), width)


def _unfold(call: Operands) -> Shapes:
    given = call.first
    taps, strides = call.integers("kernel_size", 1), call.integers("stride")
    dilation, padding = call.integers("dilation"), call.integers("padding")
    if len(given) != 4 or not (taps and strides and dilation and padding) or 0 in strides:
        return UNKNOWN
    count: Size = 1
    for axis, size in enumerate(given[2:]):
        k, s, d, p = (pair[axis % len(pair)] for pair in (taps, strides, dilation, padding))
        inside = (size + 2 * p - d * (k - 1) - 1) // s + 1 if isinstance(size, int) else None
        count = count * inside if isinstance(count, int) and inside is not None else None
    area = taps[0] * taps[-1]
    return ((given[0], given[1] * area if isinstance(given[1], int) else None, count),)


def _fold(call: Operands) -> Shapes:
    given, size = call.first, integers(call.setting("output_size", 1), 2)
    taps = call.integers("kernel_size", 2)
    if len(given) != 3 or size is None or not taps or not taps[0] * taps[-1]:
        return UNKNOWN
    channels = given[1] // (taps[0] * taps[-1]) if isinstance(given[1], int) else None
    return ((given[0], channels, *size),)


def _entries() -> Iterator[tuple[str, OperandRule]]:
    for name in ("Conv", "DepthwiseConv", "SeparableConv"):
        yield name, _conv
    yield "ConvTranspose", _conv_transpose
    yield "MaxPool", _pool
    yield "AveragePool", _pool
    yield "AdaptiveMaxPool", _adaptive_pool
    yield "AdaptiveAveragePool", _adaptive_pool
    yield "Resize", _image(_resized)
    yield "PadImages", _bordered(1, "padding")
    yield "CropImages", _bordered(-1, "cropping")
    yield "ExtractPatches", _patches
    yield "DepthToSpace", _blocks(1)
    yield "SpaceToDepth", _blocks(-1)
    yield "Unfold", _unfold
    yield "Fold", _fold


WINDOWS: Mapping[str, OperandRule] = dict(_entries())
