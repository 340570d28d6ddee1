"""Small models that mistakes are made in, compiled, and the ways to pair them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from mistakes import Make, Mistake

INTEGERS = "sparse_categorical_crossentropy"


def mlp(*stack: keras.Layer, features: int = 20, **compiled: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((features,)), *stack])
    model.compile(**{"optimizer": "adam", **compiled})
    return model


def classifier(*hidden: keras.Layer, **compiled: Any) -> keras.Model:
    """Ten classes by softmax, behind the layers given or one of 64 units."""
    body = hidden or (layers.Dense(64, activation="relu"),)
    head = layers.Dense(10, activation="softmax")
    return mlp(*body, head, **{"loss": INTEGERS, **compiled})


def deeper(optimizer: Any) -> keras.Model:
    hidden = [layers.Dense(64, activation="relu") for _ in range(4)]
    return classifier(*hidden, optimizer=optimizer)


def regressor(**compiled: Any) -> keras.Model:
    body = (layers.Dense(64, activation="relu"), layers.Dense(1))
    return mlp(*body, **{"loss": "mean_squared_error", **compiled})


def headed(units: int, activation: str | None, loss: Any, **compiled: Any) -> keras.Model:
    body = (layers.Dense(64, activation="relu"), layers.Dense(units, activation=activation))
    return mlp(*body, loss=loss, **compiled)


def by(code: str, name: str, broken: Make, mended: Make) -> Mistake:
    return Mistake(name=name, broken=broken, mended=mended, code=code)


def measured(code: str, name: str, broken: Make, mended: Make) -> Mistake:
    return Mistake(name=name, broken=broken, mended=mended, code=code, probed=True)


def optimized(
    code: str, name: str, broken: Callable[[], Any], mended: Callable[[], Any]
) -> Mistake:
    """The same classifier under two optimizers."""
    return by(
        code,
        name,
        lambda: classifier(optimizer=broken()),
        lambda: classifier(optimizer=mended()),
    )


def rated(code: str, name: str, broken: Callable[[], Any], mended: Callable[[], Any]) -> Mistake:
    """The same, measured."""
    return measured(
        code,
        name,
        lambda: classifier(optimizer=broken()),
        lambda: classifier(optimizer=mended()),
    )
