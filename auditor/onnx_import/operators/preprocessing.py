"""Arranging images: Col2Im, CenterCropPad."""

from __future__ import annotations

from keras import ops

from .table import Node, Unsupported, Value, known, operator
from .tensors import tensor
from .windows import elements, fit, spread, windows_of


@operator("Col2Im", since=18)
def col2im(node: Node, columns: Value, image_shape: Value, block_shape: Value) -> Value:
    """(N, C · block, blocks) → (N, C, *image): the sum of overlapping blocks."""
    sizes = [int(size) for size in known(image_shape, "the image's shape")]
    kernel = [int(size) for size in known(block_shape, "the block's shape")]
    windows = windows_of(node, sizes, kernel)
    if columns.shape[2] != elements(windows.counts):
        raise Unsupported(f"{columns.shape[2]} blocks where {elements(windows.counts)} fit")
    columns = tensor(columns)
    block = elements(kernel)
    channels = columns.shape[1] // block
    apart = ops.reshape(columns, (-1, channels, block, *windows.counts))
    # A block's elements land a stride apart: each place in the block is one padded sum.
    padded = [
        before + size + after
        for (before, after), size in zip(windows.margins, windows.sizes, strict=True)
    ]
    total = None
    for place, slices in enumerate(windows.slices()):
        part = spread(apart[:, :, place], windows.strides, first=2)
        margins = [(cut.start, size - cut.stop) for cut, size in zip(slices, padded, strict=True)]
        part = fit(part, margins, first=2)
        total = part if total is None else total + part
    return fit(total, [(-before, -after) for before, after in windows.margins], first=2)


@operator("CenterCropPad", since=18)
def center_crop_pad(node: Node, x: Value, shape: Value) -> Value:
    """Cut or padded with zeros to a shape, about the centre; an odd rest goes behind."""
    rank = len(x.shape)
    axes = [int(axis) % rank for axis in node.get("axes") or range(rank)]
    margins = [(0, 0)] * rank
    for axis, size in zip(axes, known(shape, "the shape").tolist(), strict=True):
        missing = size - x.shape[axis]
        before = abs(missing) // 2 * (1 if missing > 0 else -1)
        margins[axis] = (before, missing - before)
    return fit(x, margins, first=0)
