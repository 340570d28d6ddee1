"""Probing a live model, and the models several tests probe."""

from collections.abc import Callable
from typing import Any

import keras
import pytest
from keras import layers

from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.measurement import ProbeResult
from auditor.probe.live import probe_live
from auditor.probe.settings import ProbeSettings


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Layers draw their seeds as they are made: the same in every run of a test."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def probe() -> Callable[..., ProbeResult]:
    """Probe a live model: `probe(model, batches=2)`."""

    def run(model: keras.Model, **settings: Any) -> ProbeResult:
        graph = read_live_model(model, DEFAULT_LIMITS).graph
        return probe_live(model, graph, ProbeSettings(**settings), lambda _: None)

    return run


@pytest.fixture
def sequential() -> Callable[..., keras.Model]:
    """A compiled Sequential: `sequential(keras.Input((4,)), layers.Dense(1))`."""

    def build(*stack: Any, loss: Any = "mse", optimizer: Any = "sgd") -> keras.Model:
        model = keras.Sequential(list(stack))
        if loss is not None:
            model.compile(optimizer, loss)
        return model

    return build


@pytest.fixture
def plain_stack() -> Callable[..., keras.Model]:
    """A plain stack of dense layers with a softmax head: activation fused, or as own layers."""

    def build(
        depth: int, activation: str, initializer: str | Any, *, width: int = 256, fused: bool = True
    ) -> keras.Model:
        keras.utils.set_random_seed(1)
        stack: list[Any] = [keras.Input((width,))]
        for index in range(depth):
            # Every layer has an initializer of its own: one object draws the same values again.
            made = initializer() if callable(initializer) else initializer
            dense = layers.Dense(
                width,
                activation=activation if fused else None,
                kernel_initializer=made,
                name=f"dense_{index}",
            )
            stack += [dense] if fused else [dense, layers.Activation(activation)]
        model = keras.Sequential([*stack, layers.Dense(10, activation="softmax", name="head")])
        model.compile("adam", "categorical_crossentropy")
        return model

    return build
