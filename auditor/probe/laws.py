"""Laws that values of an input are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]

#: Share of the values of a sparse input that are not zero.
SPARSE_SHARE = 0.1


class Domain(Protocol):
    """A law that values of an input are drawn from."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        ...

    def describe(self) -> str:
        """The law in words."""
        ...


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Normal values. `mean` and `deviation` are numbers or broadcast over the last axes."""

    mean: Any = 0.0
    deviation: Any = 1.0
    because: str = ""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        return np.asarray(self.mean + self.deviation * rng.standard_normal(shape))

    def describe(self) -> str:
        """The law in words."""
        return f"normal{self.because}" if self.because else "standard normal"


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Values evenly between `low` and `high`."""

    low: float
    high: float
    because: str = ""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        return rng.uniform(self.low, self.high, shape)

    def describe(self) -> str:
        """The law in words."""
        return f"uniform from {self.low:g} to {self.high:g}{self.because}"


@dataclass(frozen=True, kw_only=True)
class Ids:
    """Whole numbers from `low` up to, not including, `end`."""

    low: int
    end: int
    because: str = ""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        return rng.integers(self.low, max(self.end, self.low + 1), shape)

    def describe(self) -> str:
        """The law in words."""
        return f"whole numbers from {self.low} to {max(self.end, self.low + 1) - 1}{self.because}"


@dataclass(frozen=True, kw_only=True)
class Mask:
    """True for four in five, and always for the first of the last axis: no sample is all masked."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        drawn = rng.random(shape) < 0.8
        drawn[..., :1] = True
        return drawn

    def describe(self) -> str:
        """The law in words."""
        return "a mask, true for four in five"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Values of a list, each as likely as any other."""

    values: tuple[int, ...]
    because: str = ""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        return rng.choice(np.asarray(self.values), shape)

    def describe(self) -> str:
        """The law in words."""
        return f"{len(self.values):,} whole numbers{self.because}"


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Values in any bin with the same probability, evenly within it.

    `boundaries` rise; the bins at the ends, which have no outer boundary, are taken as wide as
    their neighbours, and as 1 where there is a single boundary.
    """

    boundaries: tuple[float, ...]
    because: str = ""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        edges = np.asarray(self.boundaries, np.float64)
        first, last = (edges[1] - edges[0], edges[-1] - edges[-2]) if edges.size > 1 else (1, 1)
        edges = np.concatenate([[edges[0] - first], edges, [edges[-1] + last]])
        chosen = rng.integers(0, edges.size - 1, shape)
        share = rng.random(shape)
        return np.asarray(edges[chosen] + share * (edges[chosen + 1] - edges[chosen]))

    def describe(self) -> str:
        """The law in words."""
        return f"evenly over {len(self.boundaries) + 1:,} bins{self.because}"


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The nearest whole numbers to those of another law, none below `least` or above `most`."""

    law: Domain
    least: int
    most: int

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape."""
        drawn = np.rint(np.asarray(self.law.draw(rng, shape), np.float64))
        return np.asarray(np.clip(drawn, self.least, self.most))

    def describe(self) -> str:
        """The law in words."""
        return f"{self.law.describe()}, rounded"


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """Another law at one value in ten, zero elsewhere; never zero along the whole last axis."""

    law: Domain

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Values of this shape, of one axis at least."""
        kept = rng.random(shape) < SPARSE_SHARE
        one = rng.integers(0, shape[-1], (*shape[:-1], 1))
        np.put_along_axis(kept, one, True, axis=-1)
        return np.where(kept, self.law.draw(rng, shape), 0)

    def describe(self) -> str:
        """The law in words."""
        kept = round(1 / SPARSE_SHARE)
        return f"{self.law.describe()}, and zero but for one in {kept}: the input is sparse"
