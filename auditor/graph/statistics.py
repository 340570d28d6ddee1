"""Statistics of a weight's values, taken in one pass."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.errors import UnreadableModel
from auditor.graph.weight import Weight

#: Values converted to float64 at a time: half a mebibyte stays in the processor's cache, and a
#: tensor of gigabytes costs no second copy.
CHUNK = 1 << 16
#: Values after which the pages of a mapped tensor are given back; a multiple of CHUNK.
RELEASED = CHUNK << 7
#: Kinds of numpy dtype that are numbers; "V" is how bfloat16 and float8 present themselves.
NUMERIC_KINDS = frozenset("fiubV")


@dataclass(frozen=True, kw_only=True)
class WeightStatistics:
    """What the values of one weight are like; moments and range are over the finite values.

    variance: about the mean, divided by `count - nonfinite`.
    identical_units: whether all units (two or more) have the same incoming weights.
    constant_units: whether within each unit all incoming weights (two or more) are the same.
        Both are False for a weight that is not a kernel.
    """

    count: int
    nonfinite: int
    mean: float
    variance: float
    low: float
    high: float
    identical_units: bool = False
    constant_units: bool = False

    @property
    def mean_square(self) -> float:
        """Mean of the squared values."""
        return self.mean**2 + self.variance

    @property
    def zero(self) -> bool:
        """Whether every value is exactly zero."""
        return self.low == self.high == 0.0 and not self.nonfinite


def weight_statistics(weight: Weight) -> WeightStatistics | None:
    """Statistics of the weight's values; None where there are none, or none that can be read."""
    if weight.read is None:
        return None
    try:
        values = np.asarray(weight.read())
    except UnreadableModel:
        return None
    if values.size == 0 or values.dtype.kind not in NUMERIC_KINDS:
        return None
    try:
        return _statistics(values, weight.unit_axes)
    except (TypeError, ValueError):  # a dtype numpy can hold but not convert
        return None


def _statistics(values: np.ndarray[Any, Any], unit_axes: tuple[int, ...]) -> WeightStatistics:
    flat = values.reshape(-1)
    mapped = _mapping(values)
    count, mean, squares = 0, 0.0, 0.0
    low, high = math.inf, -math.inf
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, flat.size, CHUNK):
            finite = flat[start : start + CHUNK].astype(np.float64)
            if start % RELEASED == 0:
                _release(mapped)
            part = float(finite.mean())
            if not math.isfinite(part):
                finite = finite[np.isfinite(finite)]
                if finite.size == 0:
                    continue
                part = float(finite.mean())
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            # Chan, Golub, LeVeque 1979: moments of a union from the moments of its parts.
            delta, total = part - mean, count + finite.size
            finite -= part
            squares += float(np.square(finite, out=finite).sum())
            squares += delta**2 * count * finite.size / total
            mean += delta * finite.size / total
            count = total
    identical, constant = _symmetries(values, unit_axes, mapped)
    _release(mapped)
    return WeightStatistics(
        count=flat.size,
        nonfinite=flat.size - count,
        mean=mean if count else math.nan,
        variance=squares / count if count else math.nan,
        low=low if count else math.nan,
        high=high if count else math.nan,
        identical_units=identical,
        constant_units=constant,
    )


def _mapping(values: np.ndarray[Any, Any]) -> mmap.mmap | None:
    """The file that large values are mapped from, if its pages can be given back."""
    base: object = values
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") else None


def _release(mapped: mmap.mmap | None) -> None:
    """Give back the pages of a mapped tensor; what is still needed comes from the file again."""
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def _symmetries(
    values: np.ndarray[Any, Any], unit_axes: tuple[int, ...], mapped: mmap.mmap | None
) -> tuple[bool, bool]:
    """(all units alike, all incoming weights of each unit alike)."""
    if not unit_axes or max(unit_axes) >= values.ndim or min(unit_axes) < -values.ndim:
        return False, False
    last = tuple(range(-len(unit_axes), 0))
    units = math.prod(values.shape[axis] for axis in unit_axes)
    matrix = np.moveaxis(values, unit_axes, last).reshape(-1, units)
    inputs = matrix.shape[0]
    identical, constant = units > 1, inputs > 1
    # The first rows settle nearly every real kernel; only then is the whole compared.
    rows = max(CHUNK // units, 1)
    for start in range(0, inputs, rows):
        if not identical and not constant:
            break
        block = matrix[start : start + rows]
        identical = identical and bool((block == block[:, :1]).all())
        constant = constant and bool((block == matrix[:1]).all())
        if start % (rows << 7) == 0:
            _release(mapped)
    return identical, constant
