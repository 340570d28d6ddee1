"""The models of the outcome benchmark: several hundred small ones, drawn by number.

Axes: family, depth, width, activation, scale of the initialization, normalization, optimizer and
learning rate. A number and a seed give the same model always. Activations are layers of their own,
so that a kernel's output is what its activation takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as kl

#: Rates that are usual with each optimizer: the middle of those drawn.
USUAL_RATES = {"sgd": 0.05, "momentum": 0.01, "adam": 1e-3, "rmsprop": 1e-3, "adamw": 1e-3}
ACTIVATIONS = ("relu", "tanh", "sigmoid", "selu", "gelu", "elu", "leaky_relu", "silu")
NORMALIZATIONS = ("none", "none", "batch", "layer")
#: Families, and what share of the models each has.
FAMILIES = {
    "plain": 0.3,
    "convolutional": 0.14,
    "residual": 0.14,
    "recurrent": 0.12,
    "attention": 0.1,
    "dense_connections": 0.1,
    "gated": 0.1,
}
#: From this number on, models are deep, without normalization and drawn at a wrong scale, mostly at
#: usual rates: too few of the others explode or vanish to hold a verdict against.
MIS_SCALED = 600
#: From this number on, models were drawn when rules and coefficients stood, two in five of them at
#: a wrong scale: nothing was fitted to them, nor any threshold chosen by them.
FRESH = 1000
MIS_SCALED_FAMILIES = {"plain": 0.45, "convolutional": 0.1, "residual": 0.25, "gated": 0.2}
#: Families that nothing is fitted on.
HELD_OUT = ("attention", "gated")
#: Families that are not repaired, a run of theirs taking a minute: why they fail is not told.
UNREPAIRED = frozenset({"attention"})


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One model. `scale` multiplies the initialization that is right for the activation."""

    number: int
    family: str
    task: str
    depth: int
    width: int
    activation: str
    scale: float
    normalization: str
    optimizer: str
    rate: float


def spec(number: int, seed: int = 0) -> Spec:
    """The model of a number."""
    rng = np.random.default_rng([seed, number])
    wrong = number % 5 >= 3 if number >= FRESH else number >= MIS_SCALED
    families = MIS_SCALED_FAMILIES if wrong else FAMILIES
    family = str(rng.choice(list(families), p=np.array(list(families.values()))))
    deep = {"plain": 40, "residual": 24, "recurrent": 4, "attention": 6, "convolutional": 16}
    shallow = 8 if wrong else 1 if family in ("recurrent", "attention") else 3
    depth = int(np.exp(rng.uniform(np.log(shallow), np.log(deep.get(family, 20)))) + 0.5)
    optimizer = str(rng.choice(list(USUAL_RATES)))
    # Most rates are usual ones; some are one to three decades off, either way.
    kind = rng.choice(["usual", "high", "low"], p=[0.8, 0.1, 0.1] if wrong else [0.55, 0.25, 0.2])
    decades = {
        "usual": rng.uniform(-0.5, 0.5),
        "high": rng.uniform(1, 3),
        "low": rng.uniform(-3, -1),
    }
    scale = float(np.exp(rng.uniform(np.log(0.3), np.log(3.0)))) if rng.random() < 0.5 else 1.0
    if wrong:
        scale = float(np.exp(rng.choice([-1, 1]) * rng.uniform(np.log(1.25), np.log(3.0))))
    tasks = (
        ["digits_rows", "sequence"]
        if family in ("recurrent", "attention")
        else ["digits", "regression"]
    )
    return Spec(
        number=number,
        family=family,
        task="digits_image" if family == "convolutional" else str(rng.choice(tasks, p=[0.7, 0.3])),
        depth=max(1, depth),
        width=int(rng.choice([16, 32, 64, 128])),
        activation=str(rng.choice(ACTIVATIONS)),
        scale=scale,
        normalization="none" if wrong else str(rng.choice(NORMALIZATIONS)),
        optimizer=optimizer,
        rate=float(USUAL_RATES[optimizer] * 10 ** decades[str(kind)]),
    )


def build(one: Spec, shape: tuple[int, ...], outputs: int) -> keras.Model:
    """The model, uncompiled, with weights of its number."""
    keras.utils.set_random_seed(one.number + 1)
    inputs = keras.Input(shape)
    x = BODIES[one.family](one, inputs)
    if one.task == "regression":
        x = kl.Dense(outputs)(x)
    else:
        x = kl.Dense(outputs, activation="softmax")(x)
    return keras.Model(inputs, x, name=f"model_{one.number}")


def optimizer_of(one: Spec, rate: float) -> keras.optimizers.Optimizer:
    """The declared optimizer, at a rate."""
    made: dict[str, Callable[[], Any]] = {
        "sgd": lambda: keras.optimizers.SGD(rate),
        "momentum": lambda: keras.optimizers.SGD(rate, momentum=0.9),
        "adam": lambda: keras.optimizers.Adam(rate),
        "rmsprop": lambda: keras.optimizers.RMSprop(rate),
        "adamw": lambda: keras.optimizers.AdamW(rate),
    }
    return made[one.optimizer]()


def _law(one: Spec) -> Any:
    """The initialization that keeps an activation's signal, times the scale."""
    variance = {"relu": 2.0, "leaky_relu": 2.0, "gelu": 2.0, "silu": 2.0, "elu": 1.55}
    if one.activation == "sigmoid":  # as users do: Glorot
        return kl_initializer(one.scale**2, "fan_avg")
    return kl_initializer(variance.get(one.activation, 1.0) * one.scale**2, "fan_in")


def kl_initializer(scale: float, mode: str) -> Any:
    """Normal weights of variance `scale` over a fan."""
    return keras.initializers.VarianceScaling(scale, mode=mode, distribution="untruncated_normal")


def _normalized(one: Spec, x: Any) -> Any:
    if one.normalization == "batch":
        return kl.BatchNormalization()(x)
    return kl.LayerNormalization()(x) if one.normalization == "layer" else x


def _dense(one: Spec, x: Any, width: int | None = None) -> Any:
    x = kl.Dense(width or one.width, kernel_initializer=_law(one))(x)
    return kl.Activation(one.activation)(_normalized(one, x))


def _plain(one: Spec, x: Any) -> Any:
    for _ in range(one.depth):
        x = _dense(one, x)
    return x


def _convolutional(one: Spec, x: Any) -> Any:
    width = max(8, one.width // 4)
    for place in range(one.depth):
        x = kl.Conv2D(width, 3, padding="same", kernel_initializer=_law(one))(x)
        x = kl.Activation(one.activation)(_normalized(one, x))
        if place in (one.depth // 3, 2 * one.depth // 3) and x.shape[1] > 2:
            x = kl.MaxPooling2D()(x)
    return kl.GlobalAveragePooling2D()(x)


def _residual(one: Spec, x: Any) -> Any:
    x = kl.Dense(one.width, kernel_initializer=_law(one))(x)
    for _ in range(one.depth):
        branch = _dense(one, _normalized(one, x))
        x = x + kl.Dense(one.width, kernel_initializer=_law(one))(branch)
    return kl.Activation(one.activation)(x)


def _recurrent(one: Spec, x: Any) -> Any:
    kind = {"none": kl.SimpleRNN, "batch": kl.LSTM, "layer": kl.GRU}[one.normalization]
    recurrent = keras.initializers.Orthogonal(gain=one.scale)
    for place in range(one.depth):
        x = kind(
            one.width // 2 or 8,
            recurrent_initializer=recurrent,
            return_sequences=place < one.depth - 1,
        )(x)
    return x


def _attention(one: Spec, x: Any) -> Any:
    x = kl.Dense(one.width, kernel_initializer=_law(one))(x)
    before = one.normalization != "batch"
    for _ in range(one.depth):
        y = kl.LayerNormalization()(x) if before else x
        heads = kl.MultiHeadAttention(
            4, one.width // 4, kernel_initializer=kl_initializer(one.scale**2, "fan_avg")
        )
        x = x + heads(y, y)
        x = x if before else kl.LayerNormalization()(x)
        y = kl.LayerNormalization()(x) if before else x
        x = x + kl.Dense(one.width, kernel_initializer=_law(one))(
            _dense_plain(one, y, 2 * one.width)
        )
        x = x if before else kl.LayerNormalization()(x)
    return kl.GlobalAveragePooling1D()(x)


def _dense_plain(one: Spec, x: Any, width: int) -> Any:
    return kl.Activation(one.activation)(kl.Dense(width, kernel_initializer=_law(one))(x))


def _dense_connections(one: Spec, x: Any) -> Any:
    growth = max(8, one.width // 4)
    for _ in range(one.depth):
        x = kl.Concatenate()([x, _dense(one, x, growth)])
    return x


def _gated(one: Spec, x: Any) -> Any:
    for _ in range(one.depth):
        gate = kl.Dense(one.width, activation="sigmoid")(x)
        x = kl.Multiply()([gate, _dense(one, x)])
    return x


BODIES: dict[str, Callable[[Spec, Any], Any]] = {
    "plain": _plain,
    "convolutional": _convolutional,
    "residual": _residual,
    "recurrent": _recurrent,
    "attention": _attention,
    "dense_connections": _dense_connections,
    "gated": _gated,
}
