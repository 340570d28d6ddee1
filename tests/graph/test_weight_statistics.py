"""Statistics of large weights, taken in parts: what differs in the last part counts."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.graph.statistics import CHUNK, weight_statistics
from auditor.graph.weight import Weight

ROWS, UNITS = 3 * CHUNK // 256 + 1, 256


def kernel(values: np.ndarray[Any, Any], unit_axis: int = 1) -> Weight:
    return Weight(
        name="w",
        role="kernel",
        shape=values.shape,
        dtype=values.dtype.name,
        unit_axes=(unit_axis,),
        read=lambda: values,
    )


@pytest.mark.parametrize("unit_axis", [0, 1])
@pytest.mark.parametrize("odd", [None, (0, 1), (-1, -1)])
def test_symmetries_hold_only_without_exception(
    odd: tuple[int, int] | None, unit_axis: int
) -> None:
    for rows_differ in (True, False):
        values = np.ones((ROWS, UNITS), np.float32)
        values *= np.arange(ROWS)[:, None] + 1 if rows_differ else np.arange(UNITS) + 1
        if odd is not None:
            values[odd] += 1
        seen = weight_statistics(kernel(values if unit_axis else values.T, unit_axis))
        assert seen is not None
        assert seen.identical_units == (rows_differ and odd is None)
        assert seen.constant_units == (not rows_differ and odd is None)


def test_mapped_values_give_the_same(tmp_path: Path) -> None:
    """Pages given back on the way are read again where they are needed."""
    values = np.random.default_rng(0).normal(size=(ROWS, UNITS)).astype(np.float32)
    path = tmp_path / "values"
    values.tofile(path)
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    view = np.frombuffer(memoryview(mapped), np.float32).reshape(values.shape)
    assert weight_statistics(kernel(view)) == weight_statistics(kernel(values))
