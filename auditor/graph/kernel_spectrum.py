"""Singular values of a kernel: the largest, the numerical rank, and units without any weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnreadableModel
from auditor.graph.weight import Weight

Values = NDArray[Any]
#: Values of a kernel that are decomposed; of a larger one, every second, third, … input.
LOOKED_AT = 1 << 19
#: Up to so many inputs or units, whichever are fewer, all singular values are computed.
SMALL = 256
#: Directions a larger kernel is sketched in: a rank below this is seen, a higher one is not told.
SKETCHED = 128
#: Directions and rounds of the subspace iteration that finds its largest singular value.
DIRECTIONS, ROUNDS = 8, 6
#: Rows and columns of the corner whose rank says that the whole kernel's is no less.
CORNER = 48
#: Singular values below this share of the largest are zero. Products in float32 are exact to about
#: √n · 6e-8 of it, and training leaves nothing near so small.
NUMERICAL_ZERO = 1e-5


@dataclass(frozen=True, kw_only=True)
class KernelSpectrum:
    """A kernel as the matrix (inputs, units) of the connections of its units.

    inputs, units: size of what was decomposed. dead: units whose incoming weights are all exactly
    zero, of all `units`. rank: singular values above 1e-5 of the largest, None where it is more
    than could be told or than was asked for. largest: the largest singular value, None where it
    cannot reach what was asked for; `exact` or else a lower bound that subspace iteration reached.
    """

    inputs: int
    units: int
    dead: int
    rank: int | None = None
    largest: float | None = None
    exact: bool = True


def edge(inputs: int, units: int, variance: float, mean: float = 0.0) -> float:
    """The largest singular value of independent draws, about σ(√inputs + √units).

    The edge of the Marchenko–Pastur law (Bai & Yin 1993); a mean that is not zero adds a component
    of size |μ|·√(inputs · units).
    """
    spread = math.sqrt(variance) * (math.sqrt(inputs) + math.sqrt(units))
    return spread + abs(mean) * math.sqrt(inputs * units)


def kernel_spectrum(weight: Weight, *, above: float, rank_share: float) -> KernelSpectrum | None:
    """The spectrum of a kernel, as far as it matters.

    None for what is no kernel, is quantized, or holds values that are not finite. What is cheap
    rules out most kernels: no singular value exceeds the Frobenius norm, and no corner of a matrix
    has a higher rank than the matrix.

    Args:
        weight: the kernel; its values are read once more.
        above: the largest singular value matters where it exceeds that of draws with this standard
            deviation.
        rank_share: the rank matters where it is at most this share of full rank, and below
            `CORNER` where the kernel is larger than that.
    """
    matrix = _matrix(weight)
    if matrix is None or min(matrix.shape) < 2:
        return None
    dead = int(np.count_nonzero(~matrix.any(axis=0)))
    step = -(-matrix.size // LOOKED_AT)
    looked_at = np.ascontiguousarray(matrix[::step], dtype=np.float32)
    inputs, units = looked_at.shape
    scale = float(np.abs(looked_at).max(initial=0.0))
    if min(inputs, units) < 2 or not math.isfinite(scale):
        return None
    found = KernelSpectrum(inputs=inputs, units=units, dead=dead)
    if scale == 0:
        return KernelSpectrum(inputs=inputs, units=units, dead=dead, rank=0, largest=0.0)
    unit = looked_at / np.float32(scale)
    bound = scale * float(np.linalg.norm(unit))
    if bound < edge(inputs, units, above**2) and not _corner_lacks(unit, rank_share):
        return found
    exact = min(inputs, units) <= SMALL
    largest, rank = _all_values(unit) if exact else _sketched(unit)
    return KernelSpectrum(
        inputs=inputs, units=units, dead=dead, rank=rank, largest=largest * scale, exact=exact
    )


def _matrix(weight: Weight) -> Values | None:
    """The values as (inputs, units)."""
    axes = weight.unit_axes
    if weight.read is None or not axes or "int" in weight.dtype:
        return None
    if max(axes) >= len(weight.shape) or min(axes) < -len(weight.shape) or not weight.size:
        return None
    try:
        values = np.asarray(weight.read())
        values = values if values.dtype.kind == "f" else values.astype(np.float32)
    except (UnreadableModel, TypeError, ValueError):  # gone, or a dtype numpy cannot convert
        return None
    if values.shape != weight.shape:
        return None
    units = math.prod(values.shape[axis] for axis in axes)
    last = tuple(range(-len(axes), 0))
    return np.moveaxis(values, axes, last).reshape(-1, units)


def _corner_lacks(unit: Values, rank_share: float) -> bool:
    """Whether a corner of evenly spaced rows and columns lets the matrix be of low rank.

    The matrix has at least the corner's rank: it is not of low rank where that is above the share
    of full rank, nor is it told where the corner is of full rank.
    """
    # A corner of twice the rank that counts settles nearly every real kernel.
    first = min(2 * int(rank_share * min(unit.shape)) + 2, CORNER)
    return all(_rank_fits(unit, size, rank_share) for size in (first, CORNER))


def _rank_fits(unit: Values, size: int, rank_share: float) -> bool:
    rows, columns = (np.linspace(0, n - 1, min(n, size)).astype(int) for n in unit.shape)
    corner = unit[np.ix_(rows, columns)].astype(np.float64)
    narrow = corner if corner.shape[0] >= corner.shape[1] else corner.T
    _, rank = _of_gram(narrow.T @ narrow)
    told = size < CORNER or rank < min(corner.shape)
    return bool(told and rank <= rank_share * min(unit.shape))


def _all_values(unit: Values) -> tuple[float, int]:
    """(largest, rank) by the eigenvalues of the smaller Gram matrix, in double precision.

    Squaring leaves singular values above 1e-8 of the largest, a thousandth of `NUMERICAL_ZERO`.
    """
    narrow = (unit if unit.shape[0] >= unit.shape[1] else unit.T).astype(np.float64)
    return _of_gram(narrow.T @ narrow)


def _sketched(unit: Values) -> tuple[float, int | None]:
    """(largest, rank if it is below `SKETCHED`) from products with random vectors.

    Halko, Martinsson & Tropp 2011: a sketch of more directions than the rank has that rank.
    """
    random = np.random.default_rng(0)
    tests = random.standard_normal((unit.shape[1], SKETCHED), dtype=np.float32)
    image = (unit @ tests).astype(np.float64)
    _, rank = _of_gram(image.T @ image)
    basis = image[:, :DIRECTIONS].astype(np.float32)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(unit @ (unit.T @ np.linalg.qr(basis)[0]))[0]
    reduced = (unit.T @ basis).astype(np.float64)
    largest, _ = _of_gram(reduced.T @ reduced)
    return largest, rank if rank < SKETCHED else None


def _of_gram(gram: NDArray[np.float64]) -> tuple[float, int]:
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    largest = float(values[-1])
    return largest, int(np.count_nonzero(values > NUMERICAL_ZERO * largest))
