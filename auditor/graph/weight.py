"""Weights of a layer call: what they are, and a lazy way to their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


class TensorReader(Protocol):
    """Reads one stored tensor when asked. Implementations are small, picklable and re-readable."""

    def __call__(self) -> np.ndarray[Any, Any]:
        """The values. Raises `UnreadableModel` when the bytes are gone or changed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Initializer:
    """The law a weight was drawn from, as its configuration states it.

    `name` is the snake_case Keras name: `glorot_uniform`, `random_normal`, `zeros`, …
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One stored tensor of a layer.

    `role` is one of: kernel, depthwise_kernel, pointwise_kernel, recurrent_kernel, bias,
    embeddings, gamma, beta, moving_mean, moving_variance, query_kernel, key_kernel, value_kernel,
    output_kernel, other.
    `fan_in` and `fan_out` count connections a unit has (receptive field included); `unit_axes`
    are the axes that number the output units, so that `kernel.T`-like comparisons of units need
    not know the format's layout. All three are empty for weights that are not kernels.
    `read` is None where the file holds no values (architecture only).
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool = True
    fan_in: int | None = None
    fan_out: int | None = None
    unit_axes: tuple[int, ...] = ()
    initializer: Initializer | None = None
    read: TensorReader | None = None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)
