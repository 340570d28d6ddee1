"""Backends: what a probe needs of a framework beyond `keras.ops`, and the one place it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np

#: A tensor of the framework at hand.
Tensor = Any
#: Called with a tensor whose gradient is wanted, as it arises.
Watch = Callable[[Tensor], None]


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """A forward pass as it is traced: the scalar to differentiate, and the watched tensors."""

    objective: Tensor
    watched: tuple[Tensor, ...]


class Program(Protocol):
    """What one pass computes, written with Keras alone."""

    @property
    def variables(self) -> Sequence[Any]:
        """The `keras.Variable`s the objective is differentiated for."""
        ...

    def forward(self, x: Sequence[Tensor], y: Sequence[Tensor], watch: Watch) -> ForwardPass:
        """Run the model and its loss; `watch` is called with each tensor to differentiate for."""
        ...

    def reduce(
        self,
        forward: ForwardPass,
        gradients: Sequence[Tensor | None],
        variable_gradients: Sequence[Tensor | None],
        sample_norms: Callable[[Tensor], Tensor],
    ) -> Mapping[str, Tensor]:
        """Small tensors in place of the large ones: gradients of `watched`, then of `variables`."""
        ...


@dataclass(frozen=True, kw_only=True)
class PassResult:
    """What came out of one pass: the reduced values, and the gradient for each variable.

    `gradients` stay tensors of the framework, None where the objective does not depend on the
    variable; they are multiplied by the pass' scale.
    """

    values: Mapping[str, np.ndarray[Any, Any]]
    gradients: tuple[Tensor | None, ...]


#: A compiled pass: (x, y, scale) → result, the objective multiplied by scale before backward.
CompiledPass = Callable[
    [Sequence[np.ndarray[Any, Any]], Sequence[np.ndarray[Any, Any]], float], PassResult
]


class Backend(Protocol):
    """A framework that Keras runs on."""

    @property
    def name(self) -> str:
        """Its Keras name."""
        ...

    def device(self) -> str:
        """The device passes run on, such as "CPU" or "GPU: NVIDIA H200"."""
        ...

    def on_device(self, asked: str) -> AbstractContextManager[None]:
        """Run on the asked device: auto, cpu or gpu. Raises `ProbeFailed` if there is none."""
        ...

    def compile(self, program: Program) -> CompiledPass:
        """Compile a program; it is traced once for each shape of batch."""
        ...


def load_backend(name: str) -> Backend:
    """The backend of this name, its framework imported. Raises `ImportError`."""
    made: Backend = import_module(f"{__name__}.{name}").make()
    return made
