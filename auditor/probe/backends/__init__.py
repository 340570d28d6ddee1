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
#: Called with a tensor whose gradient is wanted, as it arises; the pass goes on with what it
#: returns, which has the same value.
Watch = Callable[[Tensor], Tensor]
#: A differentiable function of a few tensors, such as one layer call at its recorded arguments.
Function = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
#: What one of many functions gives: nested tensors that stay on the device, and figures `(n,)`.
Share = tuple[Any, Tensor]
#: The same of all of them, the figures in double precision on the host.
Shares = tuple[list[Any], list[np.ndarray[Any, Any]]]


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """A forward pass as it is traced.

    objective: the scalar that training minimizes; outputs: the tensors whose products with
    given cotangents are differentiated beside it; watched: what is differentiated for, besides
    the program's variables.
    """

    objective: Tensor
    outputs: tuple[Tensor, ...]
    watched: tuple[Tensor, ...]


class Program(Protocol):
    """What one pass computes, written with Keras alone."""

    @property
    def variables(self) -> Sequence[Any]:
        """The `keras.Variable`s the objective is differentiated for."""
        ...

    @property
    def state(self) -> Sequence[Any]:
        """All other `keras.Variable`s that a pass reads or moves."""
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


@dataclass(frozen=True, kw_only=True)
class PassInputs:
    """What one compiled pass runs on.

    The pass differentiates scale · (loss_share · objective + Σ ⟨cotangents, outputs⟩): with no
    cotangents it is a training step's backward pass, with a `loss_share` of 0 it pulls the
    cotangents back from the outputs.
    """

    x: Sequence[np.ndarray[Any, Any]]
    y: Sequence[np.ndarray[Any, Any]]
    cotangents: Sequence[np.ndarray[Any, Any]]
    loss_share: float = 1.0
    scale: float = 1.0


#: One step: given gradients, moves the `keras.Variable`s that they are for.
OptimizerStep = Callable[[Sequence[Tensor], Sequence[Any]], None]
#: A compiled pass.
CompiledPass = Callable[[PassInputs], PassResult]


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

    def optimizer_step(self, optimizer: Any) -> OptimizerStep:
        """Steps of a Keras optimizer, compiled where running it operation by operation is slow.

        The optimizer must be a fresh one; its own state advances with the steps.
        """
        ...

    def jit(self, function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """Compile a function of nested lists and tuples of tensors that returns such.

        `variables` are all the `keras.Variable`s that it reads or moves; what it does to them
        may be lost. It may call `jvp` and `vjp`. The arguments may be NumPy arrays.
        """
        ...

    def jit_each(
        self, functions: Sequence[Callable[..., Share]], variables: Sequence[Any]
    ) -> Callable[[Sequence[Sequence[Any]]], Shares]:
        """Compile many functions that run one after the other, each on arguments of its own.

        Into one program, or into one each, as the framework is faster; otherwise as `jit`.
        """
        ...

    def once(self, function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """As `jit`, of a function that is run a single time: compiled only if that is faster."""
        ...

    def vjp(
        self, function: Function, primals: tuple[Tensor, ...], cotangents: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Jᵀ u: for each of `primals`, zero where nothing depends on it.

        Raises whatever the framework raises where there is no derivative.
        """
        ...

    def jvp(
        self, function: Function, primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """J v: for each output of `function`. Raises as `vjp`."""
        ...


def load_backend(name: str) -> Backend:
    """The backend of this name, its framework imported. Raises `ImportError`."""
    made: Backend = import_module(f"{__name__}.{name}").make()
    return made
