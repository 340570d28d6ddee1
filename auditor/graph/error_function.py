"""The error function of whole arrays, which numpy lacks."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: The table of erf: its end, beyond which erf is 1 in double precision, and its places a unit.
ERF_END, ERF_PLACES = 6.0, 256


def erf(x: Floats) -> Floats:
    """The error function, elementwise: a Taylor polynomial about the nearest place of a table.

    With d = x − a, erf x = erf a + 2/√π · e^(−a²) · (d − a·d² + (2a² − 1)/3·d³ − a(2a² − 3)/6·d⁴),
    to within 1e-14 as |d| ≤ 1/512.
    """
    exact, slopes = _erf_table()
    within = np.clip(x, -ERF_END, ERF_END)
    place = np.rint(within * ERF_PLACES)
    near = place / ERF_PLACES
    away = within - near
    index = np.nan_to_num(place).astype(np.intp) + round(ERF_END * ERF_PLACES)
    twice = 2 * near * near
    series = 1 - away * (near - away * ((twice - 1) / 3 - away * near * (twice - 3) / 6))
    return exact[index] + slopes[index] * away * series


@cache
def _erf_table() -> tuple[Floats, Floats]:
    """The values of erf and of its derivative at every place from −ERF_END to ERF_END."""
    places = np.arange(-ERF_END * ERF_PLACES, ERF_END * ERF_PLACES + 1) / ERF_PLACES
    exact = np.array([math.erf(place) for place in places])
    return exact, 2 / math.sqrt(math.pi) * np.exp(-np.square(places))
