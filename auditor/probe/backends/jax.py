"""The probe on JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from auditor.errors import ProbeFailed
from auditor.probe.backends import (
    Backend,
    CompiledPass,
    ForwardPass,
    Function,
    OptimizerStep,
    PassInputs,
    PassResult,
    Program,
    Share,
    Shares,
    Tensor,
)
from auditor.probe.backends.jax_programs import Programs


class Jax:
    """JAX: one program of XLA's a pass, gradients by one reverse pass.

    Variables enter every compiled function as arguments, by way of a `keras.StatelessScope`: they
    are not compiled in as constants, and what a pass does to them is dropped.
    """

    name = "jax"

    def __init__(self) -> None:
        self._programs = Programs()

    def device(self) -> str:
        """The device passes run on."""
        device = next(iter(jnp.zeros(()).devices()))
        if device.platform == "cpu":
            return "CPU"
        return f"{device.platform.upper()}: {device.device_kind}"

    @contextmanager
    def on_device(self, asked: str) -> Iterator[None]:
        """Run on the asked device: auto, cpu or gpu. Raises `ProbeFailed` if there is none."""
        if asked == "auto":
            yield
            return
        try:
            device = jax.local_devices(backend=asked)[0]
        except RuntimeError as error:
            raise ProbeFailed(
                f"JAX sees no {asked.upper()} here; use another --device, or auto",
                detail=str(error),
            ) from error
        with jax.default_device(device):
            yield

    def compile(self, program: Program) -> CompiledPass:
        """Compile a program; it is traced once for each shape of batch."""
        variables, state = tuple(program.variables), tuple(program.state)

        def trace(
            given: list[Tensor],
            x: list[Tensor],
            y: list[Tensor],
            cotangents: list[Tensor],
            share: Tensor,
            scale: Tensor,
        ) -> tuple[Mapping[str, Tensor], tuple[Tensor | None, ...]]:
            def run(handle: Tensor) -> tuple[tuple[Tensor, ...], list[Tensor]]:
                catch = _Catch(handle)
                own = [catch(value) for value in given[: len(variables)]]
                mapping = [
                    *zip(variables, own, strict=True),
                    *zip(state, given[len(variables) :], strict=True),
                ]
                with keras.StatelessScope(state_mapping=mapping, collect_losses=True):
                    forward = program.forward(x, y, catch)
                traced.append((catch, own, forward))
                objective = forward.objective.astype(jnp.float32) * share * scale
                return (objective, *forward.outputs), list(_tensors(forward).values())

            traced: list[tuple[_Catch, list[Tensor], ForwardPass]] = []
            targets, pull, concrete = jax.vjp(run, jnp.zeros(()), has_aux=True)
            ((catch, own, forward),) = traced
            # The cotangents enter as seeds of the reverse pass, not as a product in the sum: there
            # an output that is not finite would make it NaN even with cotangents of zero.
            seeds = (
                jnp.ones_like(targets[0]),
                *(
                    (scale * u.astype(jnp.float32)).astype(h.dtype)
                    for u, h in zip(cotangents, targets[1:], strict=True)
                ),
            )
            pull(seeds)
            watched = [catch.caught(tensor) for tensor in forward.watched]
            gradients = tuple(catch.caught(value) for value in own)
            known = dict(zip(_tensors(forward), concrete, strict=True))
            values_out = program.reduce(
                _exchanged(forward, known), watched, gradients, _sample_norms
            )
            return values_out, gradients

        compiled = self._programs.jit(trace, (*variables, *state))

        def run_pass(inputs: PassInputs) -> PassResult:
            values, gradients = compiled(
                list(inputs.x),
                list(inputs.y),
                list(inputs.cotangents),
                np.float32(inputs.loss_share),
                np.float32(inputs.scale),
            )
            return PassResult(
                values={name: _wide(value) for name, value in values.items()},
                gradients=gradients,
            )

        return run_pass

    def optimizer_step(self, optimizer: Any) -> OptimizerStep:
        """The optimizer's step in one program: run by itself, each operation would be compiled."""

        def apply(_: list[Tensor], *arguments: list[Tensor]) -> Any:
            return optimizer.stateless_apply(*arguments)

        compiled = self._programs.jit(apply, ())

        def step(gradients: Sequence[Tensor], variables: Sequence[Any]) -> None:
            if not optimizer.built:
                optimizer.build(list(variables))
            moved, state = compiled(
                _values(optimizer.variables), list(gradients), _values(variables)
            )
            pairs = [*zip(variables, moved, strict=True)]
            pairs += zip(optimizer.variables, state, strict=True)
            for variable, value in pairs:
                variable.assign(value)

        return step

    def jit(self, function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """Compile a function of nested lists of tensors; `variables` enter as they are now."""
        return self._programs.jit(_stateless(function, variables), tuple(variables))

    def jit_each(
        self, functions: Sequence[Callable[..., Share]], variables: Sequence[Any]
    ) -> Callable[[Sequence[Sequence[Any]]], Shares]:
        """Compile each by itself: XLA's time to compile grows faster than a program."""
        compiled = [self.jit(function, variables) for function in functions]

        def run(arguments: Sequence[Sequence[Any]]) -> Shares:
            made = [one(*given) for one, given in zip(compiled, arguments, strict=True)]
            return [kept for kept, _ in made], [_wide(figures) for _, figures in made]

        return run

    def once(self, function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """The function compiled, which each of its operations would be: by itself if it has to."""
        stateless = _stateless(function, variables)
        compiled = self._programs.jit(stateless, tuple(variables))

        def run(*arguments: Any) -> Any:
            try:
                return compiled(*arguments)
            except Exception:  # of code that looks at values, or whatever it says of these
                return stateless(_values(variables), *arguments)

        return run

    def vjp(
        self, function: Function, primals: tuple[Tensor, ...], cotangents: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Jᵀ u by one reverse pass."""
        _, pull = jax.vjp(lambda *given: function(given), *primals)
        pulled: tuple[Tensor, ...] = pull(tuple(cotangents))
        return pulled

    def jvp(
        self, function: Function, primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """J v in forward mode; functions with a gradient of their own have none, see below."""

        def apart(*given: Tensor) -> tuple[Tensor, ...]:
            return function(given)

        moved: tuple[Tensor, ...]
        try:
            _, moved = jax.jvp(apart, tuple(primals), tuple(tangents))
        except TypeError:
            # `keras.ops.custom_gradient` knows the reverse direction alone. Jᵀ u is linear in u,
            # and its own transpose at v is J v.
            outputs, pull = jax.vjp(apart, *primals)
            _, push = jax.vjp(pull, tuple(jnp.zeros_like(output) for output in outputs))
            (moved,) = push(tuple(tangents))
        return moved


def _stateless(function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    """`(values, *arguments)`, with the variables at these values, and nothing done to them."""

    def run(values: Sequence[Tensor], *arguments: Any) -> Any:
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True):
            return function(*arguments)

    return run


class _Catch:
    """Catches the cotangents of tensors where the reverse pass comes by.

    What it is called with goes on unchanged, tied to `handle` by a rule of its own: the pass must
    differentiate for `handle`, and only for it. So shapes need not be known beforehand, as they
    would for a perturbation that is added, and the model is traced once. A tensor that no
    cotangent comes to, because nothing that is differentiated depends on it, stays apart from one
    whose cotangent is zero.
    """

    def __init__(self, handle: Tensor) -> None:
        self._handle = handle
        # Tensors are known by their identity, and kept so that it is theirs alone.
        self._places: dict[int, tuple[Tensor, int]] = {}
        self._cotangents: dict[int, Tensor] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        """The tensor, watched."""
        place = len(self._places)

        @jax.custom_vjp
        def watch(tensor: Tensor, handle: Tensor) -> Tensor:
            del handle
            return tensor

        def forward(tensor: Tensor, handle: Tensor) -> tuple[Tensor, Tensor]:
            # Named, it is another tensor to JAX than the one a layer may have handed through.
            named = checkpoint_name(tensor, "watched")  # type: ignore[no-untyped-call]
            return named, handle

        def backward(handle: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
            self._cotangents[place] = cotangent
            return cotangent, jnp.zeros_like(handle)

        watch.defvjp(forward, backward)
        watched = watch(tensor, self._handle)
        self._places[id(watched)] = (watched, place)
        return watched

    def caught(self, watched: Tensor) -> Tensor | None:
        """The cotangent of a tensor that was watched, None where none came by."""
        return self._cotangents.get(self._places[id(watched)][1])


def _tensors(value: Any) -> dict[int, Tensor]:
    """The tensors in a value made of dataclasses, tuples, lists and mappings, by identity."""
    if isinstance(value, jax.Array):
        return {id(value): value}
    found: dict[int, Tensor] = {}
    for part in _parts(value):
        found.update(_tensors(part))
    return found


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (tuple, list)):
        return list(value)
    return [getattr(value, field.name) for field in fields(value)] if _is_record(value) else []


def _exchanged(value: Any, by_identity: Mapping[int, Tensor]) -> Any:
    """The value with other tensors in it, see `_tensors`."""
    if id(value) in by_identity:
        return by_identity[id(value)]
    if isinstance(value, Mapping):
        return {key: _exchanged(part, by_identity) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_exchanged(part, by_identity) for part in value)
    if _is_record(value):
        names = [field.name for field in fields(value)]
        return replace(value, **{n: _exchanged(getattr(value, n), by_identity) for n in names})
    return value


def _is_record(value: Any) -> bool:
    """Whether it is a dataclass; a layer that happens to be one is left alone."""
    return (
        is_dataclass(value)
        and not isinstance(value, type)
        and not isinstance(value, keras.Operation)
    )


def _values(variables: Sequence[Any]) -> list[Tensor]:
    return [variable.value for variable in variables]


def _wide(value: Tensor) -> np.ndarray[Any, Any]:
    """On the host in double precision: what is done with norms there includes squaring them."""
    array = np.asarray(value)
    return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _sample_norms(tensor: Tensor) -> Tensor:
    """‖·‖₂ along the last axis of a matrix `(rows, values)`, in single precision at least.

    JAX has no double precision by default, so that squares would overflow: rows of very large or
    small values are scaled, by powers of two whose inverse is no subnormal number, which devices
    take for zero. A norm is finite exactly when all its values are: one beyond the largest number
    of its type is that number.
    """
    single = tensor.astype(jnp.promote_types(tensor.dtype, jnp.float32))
    limits = jnp.finfo(single.dtype)  # type: ignore[no-untyped-call]
    # In single precision 2^±40 and 2^±84: squares, and sums of billions of them, are in range.
    far, scale = 2.0 ** (limits.maxexp * 5 // 16), 2.0 ** (limits.maxexp * 21 // 32)
    peak = jnp.max(jnp.abs(single), axis=-1, keepdims=True, initial=0.0)
    unit = jnp.where(peak > far, scale, jnp.where(peak < 1 / far, 1 / scale, 1.0))
    inverse = jnp.where(peak > far, 1 / scale, jnp.where(peak < 1 / far, scale, 1.0))
    norms = jnp.sqrt(jnp.sum(jnp.square(single * inverse), axis=-1)) * unit[..., 0]
    return jnp.where(jnp.isfinite(peak[..., 0]), jnp.minimum(norms, limits.max), norms)


def make() -> Backend:
    """The backend."""
    return Jax()
