"""What an optimizer's first step divides the gradient by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from auditor.probe.optimizers import innermost

Array = np.ndarray[Any, Any]
#: The divisor `(n,)` of a gradient `(n,)`, by the optimizer's configuration.
Divisor = Callable[[Array, Mapping[str, Any]], Array]


def first_divisor(optimizer: Any, gradients: Sequence[Array]) -> list[Array] | None:
    """The diagonal P with Δw = −c η P⁻¹ g for the optimizer's first step from zero state.

    η is the learning rate and c what momentum makes of a first gradient (1, but for Nadam).
    Decoupled weight decay is no part of it. Clipping changes g to ĝ before it is divided by
    P(ĝ): in terms of g the step divides by P(ĝ) g / ĝ, so that clipping a gradient that is
    divided by its own size changes nothing, as it should.

    Args:
        optimizer: a fresh Keras optimizer, one that wraps another, or None.
        gradients: g for each variable, without loss scale.

    Returns:
        P for each variable in its gradient's shape and double precision, or None for an
        optimizer that does not divide each component by the gradient's size (SGD, Lion), by more
        than its own (Adafactor, LAMB, Muon), or in a way not known: a class with a step of its
        own.
    """
    divisor = _divisor(innermost(optimizer))
    if divisor is None:
        return None
    config = innermost(optimizer).get_config()
    exact = [gradient.astype(np.float64) for gradient in gradients]
    found = []
    for gradient, clipped in zip(exact, _clipped(exact, config), strict=True):
        ratio = np.ones_like(gradient)
        np.divide(gradient, clipped, out=ratio, where=clipped != 0)
        found.append(divisor(clipped, config) * ratio)
    return found


def _divisor(optimizer: Any) -> Divisor | None:
    """By the step and not by the class: a class of the user's may inherit it, or change it."""
    step = getattr(type(optimizer), "update_step", None)
    known = (formula for owner, formula in _DIVISORS if step is owner.update_step)
    return next(known, None)


def _adam(g: Array, config: Mapping[str, Any]) -> Array:
    """With v = (1−β₂)g², ε is added before the bias is corrected (Kingma and Ba 2015, §2)."""
    divisor: Array = np.abs(g) + config["epsilon"] / math.sqrt(1 - config["beta_2"])
    return divisor


def _corrected(g: Array, config: Mapping[str, Any]) -> Array:
    """Nadam's √v̂ (Dozat 2016) and Adamax' infinity norm u (Kingma and Ba 2015, §7.1) are |g|."""
    divisor: Array = np.abs(g) + config["epsilon"]
    return divisor


def _rmsprop(g: Array, config: Mapping[str, Any]) -> Array:
    """The average starts at zero and is not corrected: v = (1−ρ)g², less ((1−ρ)g)² if centred."""
    rho = config["rho"]
    share = rho * (1 - rho) if config["centered"] else 1 - rho
    divisor: Array = np.sqrt(share * np.square(g) + config["epsilon"])
    return divisor


def _adagrad(g: Array, config: Mapping[str, Any]) -> Array:
    """The sum of squares (Duchi et al. 2011) begins at a value above zero."""
    divisor: Array = np.sqrt(config["initial_accumulator_value"] + config["epsilon"] + np.square(g))
    return divisor


def _adadelta(g: Array, config: Mapping[str, Any]) -> Array:
    """Over the average of the steps before (Zeiler 2012), of which there are none: √ε."""
    epsilon = config["epsilon"]
    divisor: Array = np.sqrt(((1 - config["rho"]) * np.square(g) + epsilon) / epsilon)
    return divisor


#: AdamW and AMSGrad take Adam's step.
_DIVISORS: tuple[tuple[Any, Divisor], ...] = (
    (keras.optimizers.Adam, _adam),
    (keras.optimizers.Nadam, _corrected),
    (keras.optimizers.Adamax, _corrected),
    (keras.optimizers.RMSprop, _rmsprop),
    (keras.optimizers.Adagrad, _adagrad),
    (keras.optimizers.Adadelta, _adadelta),
)


def _clipped(gradients: Sequence[Array], config: Mapping[str, Any]) -> list[Array]:
    """As Keras clips: by the norm of each, or else of all, or else each component."""
    if bound := config.get("clipnorm"):
        return [gradient * _shrink(bound, gradient) for gradient in gradients]
    if bound := config.get("global_clipnorm"):
        factor = _shrink(bound, *gradients)
        return [gradient * factor for gradient in gradients]
    if bound := config.get("clipvalue"):
        return [np.clip(gradient, -bound, bound) for gradient in gradients]
    return list(gradients)


def _shrink(bound: float, *gradients: Array) -> float:
    length = math.sqrt(sum(float(np.sum(np.square(gradient))) for gradient in gradients))
    return bound / max(length, bound)
