"""Programs for XLA: alike ones compiled once, and on a CPU with less effort than by default."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

#: Compiling takes a hundred times as long as running, of which a probe does little. Matrix products
#: and convolutions come from libraries, whatever is asked for here.
LITTLE_EFFORT: Mapping[str, Any] = {"xla_backend_optimization_level": 0}


class Programs:
    """Compiled programs by their text, so that layers of a kind share one.

    Whatever a function closes over enters its program as an argument rather than as a constant:
    layers that differ in their weights, masks or tables alone come to the same text, and XLA
    spends no time on folding constants.
    """

    def __init__(self) -> None:
        self._by_text: dict[Any, Any] = {}

    @property
    def compiled(self) -> int:
        """How many have been compiled."""
        return len(self._by_text)

    def jit(self, function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """`function(values, *arguments)` compiled as one of its arguments, for each kind of them.

        The values are those of `variables` as they are at each call.
        """
        known: dict[Any, Callable[[list[Any]], Any]] = {}

        def run(*arguments: Any) -> Any:
            flat, tree = jax.tree.flatten(arguments)
            kind = (tree, tuple((jnp.shape(leaf), _dtype(leaf)) for leaf in flat))
            if kind not in known:
                known[kind] = self._program(function, variables, arguments)
            return known[kind](flat)

        return run

    def _program(
        self,
        function: Callable[..., Any],
        variables: Sequence[Any],
        arguments: tuple[Any, ...],
    ) -> Callable[[list[Any]], Any]:
        """The function as a program of its flattened arguments, traced with these."""
        values = [variable.value for variable in variables]
        traced, shape = jax.make_jaxpr(function, return_shape=True)(values, *arguments)
        jaxpr = traced.jaxpr
        closed_over = [_array(value) for value in traced.consts]
        # What is not read is no argument of the program: programs that read the same would be
        # others for each place that it stands at.
        read = _read(jaxpr)
        split = len(variables)
        of_variables = [i for i in range(split) if jaxpr.invars[i] in read]
        of_arguments = [i for i in range(split, len(jaxpr.invars)) if jaxpr.invars[i] in read]
        mine = [variables[index] for index in of_variables]

        def program(closed_over: list[Any], given: list[Any]) -> list[Any]:
            leaves: list[Any] = [None] * len(jaxpr.invars)
            for place, leaf in zip([*of_variables, *of_arguments], given, strict=True):
                leaves[place] = leaf
            return list(jax.core.eval_jaxpr(jaxpr, closed_over, *leaves))

        def given(flat: list[Any]) -> list[Any]:
            return [v.value for v in mine] + [flat[place - split] for place in of_arguments]

        leaves = jax.tree.leaves(arguments)
        lowered = jax.jit(program, keep_unused=True).lower(closed_over, given(leaves))
        # How many there are of each is no part of the text.
        text = lowered.as_text().encode()
        key = (len(closed_over), hashlib.sha256(text).digest())
        if key not in self._by_text:
            self._by_text[key] = lowered.compile(compiler_options=_options())
        compiled = self._by_text[key]
        tree = jax.tree.structure(shape)
        return lambda flat: jax.tree.unflatten(tree, compiled(closed_over, given(flat)))


def _read(jaxpr: Any) -> set[Any]:
    """The variables that an output is, or that any equation takes."""
    atoms = [*jaxpr.outvars, *(atom for equation in jaxpr.eqns for atom in equation.invars)]
    return {atom for atom in atoms if not hasattr(atom, "val")}


def _array(value: Any) -> jax.Array:
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


def _dtype(leaf: Any) -> Any:
    return getattr(leaf, "dtype", type(leaf))


def _options() -> dict[str, Any]:
    """Options of the compiler, for the device at hand."""
    (device,) = jnp.zeros(()).devices()
    return dict(LITTLE_EFFORT) if device.platform == "cpu" else {}
