"""Products with the Hessian of a batch's loss: exact ones, and differences of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from auditor.probe.backends import Backend, Program, Tensor
from auditor.probe.estimators.lanczos import RitzPair, norm
from auditor.probe.state import copied
from auditor.probe.trial import Gradients

Array = np.ndarray[Any, Any]

#: Size of the difference, against the norm of each variable that the direction moves. An
#: activation with a kink gives a jump of the gradient for each unit that crosses it, divided by
#: the difference: smaller ones make the few jumps within them larger, while the error on a
#: smooth net is below 0.1 % even with this one.
RELATIVE_DIFFERENCE = 1e-2
#: A variable of a smaller norm is measured against this one: biases begin at zero, and what they
#: are added to is of the order of 1.
LEAST_NORM = 1.0
#: Rounding of a product, in units of the last place of its largest Ritz value.
ROUNDINGS = 32.0


class HessianProducts(Protocol):
    """v ↦ H v on flat vectors `(n,)`."""

    @property
    def method(self) -> str:
        """How products are taken, in a few words."""
        ...

    @property
    def rounding(self) -> float:
        """Unit roundoff of the coarsest dtype that the model computes in."""
        ...

    def __call__(self, vector: Array) -> Array:
        """H v. Raises whatever the framework raises where there is no second derivative."""
        ...

    def doubt(self, pair: RitzPair, weight: Array | None) -> tuple[float, int]:
        """A bound on ‖ΔA y‖, ΔA the error of the products, and the products that took.

        `pair` is of A = S H S, S the diagonal matrix of `weight`; H itself where that is None.
        """
        ...


class Weights:
    """Variables as one flat vector `(n,)`, in single precision unless one of them is in double."""

    def __init__(self, variables: Sequence[Any]) -> None:
        self.variables = tuple(variables)
        self.shapes = [tuple(variable.shape) for variable in variables]
        double = any(str(variable.dtype) == "float64" for variable in variables)
        self.dtype = np.dtype(np.float64 if double else np.float32)
        self.size = sum(math.prod(shape) for shape in self.shapes)

    def flat(self, arrays: Sequence[Array]) -> Array:
        """Arrays of the variables' shapes as a vector."""
        vector = np.empty(self.size, self.dtype)
        for part, array in zip(self._parts(vector), arrays, strict=True):
            part[...] = np.reshape(array, -1)
        return vector

    def split(self, vector: Array) -> list[Array]:
        """The vector in the variables' shapes; views."""
        parts = zip(self._parts(vector), self.shapes, strict=True)
        return [part.reshape(shape) for part, shape in parts]

    def _parts(self, vector: Array) -> list[Array]:
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        return list(np.split(vector, ends[:-1]))


class ExactProducts:
    """H v by differentiating the gradient's product with v, compiled once.

    Where activations have kinks this is the Hessian of the piece that the weights lie in, as in
    the literature on sharpness (Cohen et al. 2021).
    """

    method = "Lanczos on Hessian-vector products"

    def __init__(
        self,
        backend: Backend,
        program: Program,
        weights: Weights,
        x: Sequence[Array],
        y: Sequence[Array],
        *,
        begin_pass: Callable[[], None],
        scale: float,
        rounding: float,
    ) -> None:
        """Nothing is traced yet.

        Args:
            backend: the one Keras runs on.
            program: its `forward` gives the objective; it is run a second time for the trace.
            weights: the variables to differentiate for, of the program's.
            x: the batch's inputs.
            y: the batch's targets.
            begin_pass: seeds random layers and puts statistics back, before every product.
            scale: of the loss in half precision, else 1.
            rounding: unit roundoff of the coarsest dtype that the model computes in.
        """
        self._weights = weights
        self._batch = ([*x], [*y])
        self._begin_pass = begin_pass
        self._scale = scale
        self.rounding = rounding
        self._dtypes = [copied(variable).dtype for variable in weights.variables]

        def objective(values: tuple[Tensor, ...], x: Any, y: Any) -> tuple[Tensor, ...]:
            # What the state holds is read before the scope, which hides one around it.
            state = [(variable, variable.value) for variable in program.state]
            moved = zip(weights.variables, values, strict=True)
            others = [
                (variable, variable.value)
                for variable in program.variables
                if all(variable is not own for own in weights.variables)
            ]
            with keras.StatelessScope(state_mapping=[*state, *others, *moved]):
                found = program.forward(x, y, _as_it_is).objective
            return (scale * keras.ops.cast(found, weights.dtype.name),)

        def product(values: Any, v: Any, x: Any, y: Any) -> tuple[Tensor, ...]:
            def gradient(at: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                one = keras.ops.ones((), weights.dtype.name)
                return backend.vjp(lambda values: objective(values, x, y), at, (one,))

            # H is symmetric: its transposed product is the cheaper one.
            return backend.vjp(gradient, tuple(values), tuple(v))

        self._product = backend.jit(product, [*program.variables, *program.state])

    def __call__(self, vector: Array) -> Array:
        """H v."""
        self._begin_pass()
        weights = self._weights
        direction = [
            part.astype(dtype)
            for part, dtype in zip(weights.split(vector), self._dtypes, strict=True)
        ]
        values = [variable.value for variable in weights.variables]
        found = self._product(values, direction, *self._batch)
        flat = weights.flat([_numbers(part) for part in found])
        flat /= flat.dtype.type(self._scale)
        return flat

    def doubt(self, pair: RitzPair, weight: Array | None) -> tuple[float, int]:
        """Rounding."""
        del weight
        return ROUNDINGS * self.rounding * abs(pair.value), 0


class DifferenceProducts:
    """H v ≈ (g(w + εv) − g(w − εv)) / 2ε, for what has no second derivative.

    ε is such that each variable moves by a small part of its norm. Every call puts the weights
    back to the bit, also when it raises.
    """

    method = "Lanczos on differences of gradients"

    def __init__(
        self, gradients_at: Callable[[], Gradients], weights: Weights, *, rounding: float
    ) -> None:
        """`gradients_at` gives the gradients at the variables' current values, of one batch.

        They are those of `weights`, in its order. `rounding` is the unit roundoff of the
        coarsest dtype that the model computes in: its cube root balances the error of rounding
        against that of a central difference (Press et al. 2007, §5.7).
        """
        self._gradients_at = gradients_at
        self._weights = weights
        self.rounding = rounding
        self._relative = max(RELATIVE_DIFFERENCE, rounding ** (1 / 3))

    def __call__(self, vector: Array) -> Array:
        """H v, to the error of a difference."""
        return self._difference(vector, 1.0)

    def doubt(self, pair: RitzPair, weight: Array | None) -> tuple[float, int]:
        """How far A y, taken as one product over half the difference, is from the recursion's.

        Over half of it the error of a smooth function is a quarter, that of rounding twice; and
        differences that do not act linearly show as well, since A y was put together from others.
        """
        moved = pair.vector if weight is None else weight * pair.vector
        found = self._difference(moved, 0.5)
        return norm((found if weight is None else weight * found) - pair.image), 1

    def _difference(self, vector: Array, share: float) -> Array:
        weights = self._weights
        start = [copied(variable) for variable in weights.variables]
        parts = weights.split(vector)
        moves = max(
            norm(part.reshape(-1)) / max(norm(value.astype(weights.dtype).reshape(-1)), LEAST_NORM)
            for part, value in zip(parts, start, strict=True)
        )
        if moves == 0.0 or not math.isfinite(moves):
            return vector * 0
        step = share * self._relative / moves
        try:
            difference = self._at(start, parts, step)
            difference -= self._at(start, parts, -step)
        finally:
            for variable, value in zip(weights.variables, start, strict=True):
                variable.assign(value)
        difference /= difference.dtype.type(2 * step)
        return difference

    def _at(self, start: Sequence[Array], parts: Sequence[Array], step: float) -> Array:
        for variable, value, part in zip(self._weights.variables, start, parts, strict=True):
            moved = value.astype(np.float64) + step * part
            variable.assign(moved.astype(value.dtype))
        return flat_gradients(self._gradients_at(), self._weights)


def flat_gradients(found: Gradients, weights: Weights) -> Array:
    """Gradients of the weights' variables as a vector, without their scale."""
    parts = [
        np.zeros(shape, weights.dtype) if gradient is None else _numbers(gradient)
        for gradient, shape in zip(found.gradients, weights.shapes, strict=True)
    ]
    flat = weights.flat(parts)
    flat /= flat.dtype.type(found.scale)
    return flat


def _numbers(tensor: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
