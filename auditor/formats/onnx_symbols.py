"""Products and quotients of dimensions of which some are names: 4 · batch, and back.

A product is written as torch writes it, "4*batch", numbers first and names sorted, so that two
ways to the same product give the same name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

Dim = int | str | None

#: Names that are products; any other name is taken as a whole.
PRODUCT = re.compile(r"[\w.]+(\*[\w.]+)+\Z")
#: Characters beyond which a product is unknown.
MAX_LENGTH = 200


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions; None where one is unknown."""
    factors = _factors(dims)
    return None if factors is None else _dimension(*factors)


def quotient(whole: Iterable[Dim], parts: Iterable[Dim]) -> Dim:
    """product(whole) / product(parts); None where it does not come out whole."""
    above, below = _factors(whole), _factors(parts)
    if above is None or below is None or below[1] - above[1] or not below[0]:
        return None
    number, rest = divmod(above[0], below[0])
    return None if rest else _dimension(number, above[1] - below[1])


def _factors(dims: Iterable[Dim]) -> tuple[int, Counter[str]] | None:
    """A number and names, how often each."""
    number = 1
    names: Counter[str] = Counter()
    for dim in dims:
        if not isinstance(dim, (int, str)):  # unknown, or a number that counts nothing
            return None
        for factor in dim.split("*") if isinstance(dim, str) and PRODUCT.match(dim) else [dim]:
            if isinstance(factor, int):
                number *= factor
            elif factor.isascii() and factor.isdigit() and len(factor) < 19:
                number *= int(factor)
            else:
                names[factor] += 1
    return number, names


def _dimension(number: int, names: Counter[str]) -> Dim:
    if not names or not number:
        return number
    text = "*".join([*([] if number == 1 else [str(number)]), *sorted(names.elements())])
    return text if len(text) <= MAX_LENGTH else None
