"""Where a kernel's windows lie over the spatial axes of a tensor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from .table import Node, Value


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows of a convolution or a pooling: one entry a spatial axis.

    pads: (before, after) as the operator declares them. counts: how many windows there are.
    """

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """What a window spans, holes included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def margins(self) -> tuple[tuple[int, int], ...]:
        """The padding (negative: the cropping) that makes the windows cover a tensor exactly."""
        return tuple(
            (before, (n - 1) * s + e - size - before)
            for (before, _), n, s, e, size in zip(
                self.pads, self.counts, self.strides, self.extents, self.sizes, strict=True
            )
        )

    @property
    def dilated(self) -> bool:
        """Whether the kernel has holes."""
        return any(d > 1 for d in self.dilations)

    @property
    def strided(self) -> bool:
        """Whether windows are left out."""
        return any(s > 1 for s in self.strides)

    def same_as_frameworks(self) -> bool:
        """Whether a framework's own "same" padding would choose these windows."""
        for size, n, s, e, (before, _) in zip(
            self.sizes, self.counts, self.strides, self.extents, self.pads, strict=True
        ):
            total = max((-(-size // s) - 1) * s + e - size, 0)
            if n != -(-size // s) or before != total // 2:
                return False
        return True

    def inside(self, with_declared_pads: bool = False) -> np.ndarray[Any, Any]:
        """(*counts): how many elements of each window lie in the tensor (or its padding)."""
        counts = np.ones((), np.int64)
        for axis, size in enumerate(self.sizes):
            before, after = self.pads[axis]
            places = self.places(axis)
            low, high = (-before, size + after) if with_declared_pads else (0, size)
            along = ((places >= low) & (places < high)).sum(axis=1)
            counts = np.multiply.outer(counts, along)
        return counts

    def slices(self) -> Iterator[tuple[slice, ...]]:
        """For each place in the kernel, in row-major order, what all windows have there.

        They index the spatial axes of a tensor that the margins are applied to.
        """
        for place in itertools.product(*map(range, self.kernel)):
            starts = [k * d for k, d in zip(place, self.dilations, strict=True)]
            yield tuple(
                slice(start, start + (n - 1) * s + 1, s)
                for start, n, s in zip(starts, self.counts, self.strides, strict=True)
            )

    def places(self, axis: int) -> np.ndarray[Any, Any]:
        """(counts[axis], kernel[axis]): coordinates in the tensor; negative ones are padding."""
        starts = np.arange(self.counts[axis]) * self.strides[axis] - self.pads[axis][0]
        return starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]


def windows_of(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], *, ceil: bool = False
) -> Windows:
    """The windows that a node's attributes describe.

    ceil: whether a last window that is not covered wholly counts too; one that begins in the
    padding behind the tensor does not.
    Raises: Unsupported where no window fits.
    """
    rank = len(kernel)
    if len(sizes) != rank or any(not isinstance(size, int) for size in sizes):
        raise ValueError(f"a kernel of {rank} axes over spatial sizes {tuple(sizes)}")
    strides = tuple(int(s) for s in node.get("strides") or (1,) * rank)
    dilations = tuple(int(d) for d in node.get("dilations") or (1,) * rank)
    declared = tuple(int(p) for p in node.get("pads") or (0,) * (2 * rank))
    auto = node.get("auto_pad", "NOTSET") or "NOTSET"
    pads = []
    counts = []
    for axis in range(rank):
        size, stride = sizes[axis], strides[axis]
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            count = -(-size // stride)
            total = max((count - 1) * stride + extent - size, 0)
            small, large = total // 2, total - total // 2
            before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
        else:
            before, after = (0, 0) if auto == "VALID" else (declared[axis], declared[axis + rank])
            room = size + before + after - extent
            count = (-(-room // stride) if ceil else room // stride) + 1
            if ceil and (count - 1) * stride >= size + before:
                count -= 1
        if count < 1:
            raise ValueError(f"a window of {extent} over {size} elements")
        pads.append((before, after))
        counts.append(count)
    return Windows(
        sizes=tuple(sizes),
        kernel=tuple(int(k) for k in kernel),
        strides=strides,
        dilations=dilations,
        pads=tuple(pads),
        counts=tuple(counts),
    )


def fit(x: Value, margins: Sequence[tuple[int, int]], *, first: int, fill: float = 0) -> Value:
    """A tensor padded (where a margin is negative: cropped) on the axes from `first` on."""
    if any(before < 0 or after < 0 for before, after in margins):
        slices = [slice(None)] * len(x.shape)
        for axis, (before, after) in enumerate(margins, first):
            slices[axis] = slice(max(-before, 0), x.shape[axis] + min(after, 0))
        x = x[tuple(slices)]
    padding = [(0, 0)] * len(x.shape)
    for axis, (before, after) in enumerate(margins, first):
        padding[axis] = (max(before, 0), max(after, 0))
    if not any(map(any, padding)):
        return x
    return ops.pad(x, padding, constant_values=fill) if fill else ops.pad(x, padding)


def covered(x: Value, windows: Windows, fill: float = 0) -> Iterator[Value]:
    """For each place in the kernel the (N, C, *counts) elements that all windows have there.

    x: (N, C, *sizes). In the kernel's row-major order.
    """
    padded = fit(x, windows.margins, first=2, fill=fill)
    for slices in windows.slices():
        yield padded[(slice(None), slice(None), *slices)]


def spread(x: Value, strides: Sequence[int], *, first: int) -> Value:
    """A tensor with stride − 1 zeros between neighbours on the axes from `first` on."""
    for axis, stride in enumerate(strides, first):
        size = x.shape[axis]
        if stride == 1 or size == 1:
            continue
        apart = ops.expand_dims(x, axis + 1)
        apart = fit(apart, [(0, stride - 1)], first=axis + 1)
        shape = list(ops.shape(x))
        shape[axis] = size * stride
        slices = [slice(None)] * len(shape)
        slices[axis] = slice(0, (size - 1) * stride + 1)
        x = ops.reshape(apart, shape)[tuple(slices)]
    return x


def elements(sizes: Sequence[int]) -> int:
    """How many elements a block of these sizes has."""
    return math.prod(sizes)
