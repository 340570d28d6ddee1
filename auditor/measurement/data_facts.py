"""What is known of a user's data before any of it goes through a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class RowFacts:
    """The rows along an array's last axis, where that has two or more entries.

    one_hot: share of the rows with a single 1 and zeros else. several: with two or more ones and
    zeros else. empty: with zeros alone. distributions: with no negative entry and a sum of 1, the
    one-hot rows among them. counts: of the one-hot rows by the place of their 1.
    """

    one_hot: float
    several: float
    empty: float
    distributions: float
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FeatureFacts:
    """Places in a sample, each over all samples.

    count: how many there are. constant: how many have one and the same value in all samples.
    narrowest, widest: index and standard deviation of the ones that vary least and most, constant
    ones apart; None where there is none.
    """

    count: int
    constant: int
    narrowest: tuple[int, float] | None = None
    widest: tuple[int, float] | None = None


@dataclass(frozen=True, kw_only=True)
class ArrayFacts:
    """One array of the data, samples along its first axis.

    name, dtype (NumPy's), shape: as the file has them. place: index of the model's input, or
    output, that it belongs to. seen: samples that the figures below are of, all or an even spread
    of blocks. nonfinite: NaN and infinities among all values.

    Of the finite values, None where there is none or they are no numbers: minimum, maximum, mean
    and (standard) deviation; whole, the share of them that are integers.

    Of targets alone: below_minus_one, below_zero, above_one, shares that lie beyond a bound by more
    than a thousandth; distinct, the values and how often each occurs, ascending, where they are
    few; rows. Of inputs alone: features.
    """

    name: str
    place: int
    dtype: str
    shape: tuple[int, ...]
    seen: int
    nonfinite: int = 0
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    whole: float = 0.0
    below_minus_one: float = 0.0
    below_zero: float = 0.0
    above_one: float = 0.0
    distinct: tuple[tuple[float, int], ...] = ()
    rows: RowFacts | None = None
    features: FeatureFacts | None = None

    @property
    def samples(self) -> int:
        """How many samples the array has."""
        return self.shape[0]

    @property
    def sampled(self) -> bool:
        """Whether only a part of the samples was looked at."""
        return self.seen < self.samples

    @property
    def textual(self) -> bool:
        """Whether it holds text."""
        return self.dtype.startswith(("<U", ">U", "|S", "str", "bytes"))

    @property
    def one_number_each(self) -> bool:
        """Whether there is a single number a sample: shape (n,) or (n, 1)."""
        return len(self.shape) == 1 or (len(self.shape) == 2 and self.shape[1] == 1)

    @property
    def root_mean_square(self) -> float | None:
        """√(mean² + deviation²) of the finite values."""
        if self.mean is None or self.deviation is None:
            return None
        return math.hypot(self.mean, self.deviation)

    @property
    def class_counts(self) -> Mapping[float, int]:
        """How often each class occurs: of class numbers, or of one-hot rows; empty if neither."""
        if self.rows is not None and self.rows.one_hot == 1.0:
            return {float(place): count for place, count in enumerate(self.rows.counts)}
        return dict(self.distinct) if self.whole == 1.0 else {}


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """A user's data, array by array.

    title: what a report calls it. samples: how many there are. inputs, targets: the arrays of the
    model's inputs and of its outputs that have a loss, as far as the data have them. unbound: why
    some have none, a sentence each.
    """

    title: str
    samples: int
    inputs: tuple[ArrayFacts, ...] = ()
    targets: tuple[ArrayFacts, ...] = ()
    unbound: tuple[str, ...] = field(default=())

    @property
    def arrays(self) -> tuple[ArrayFacts, ...]:
        """Inputs, then targets."""
        return (*self.inputs, *self.targets)

    @property
    def nonfinite(self) -> tuple[str, ...]:
        """Arrays with NaN or an infinity, each as "x: 3 of 4,096 values"."""
        told = []
        for array in self.arrays:
            if array.nonfinite:
                size = math.prod(array.shape)
                told.append(f"{array.name}: {array.nonfinite:,} of {size:,} values")
        return tuple(told)
