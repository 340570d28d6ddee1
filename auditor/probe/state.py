"""The state of a live model, kept through a probe and put back to the bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

#: Name Keras gives the state variable of every SeedGenerator.
SEED_STATE = "seed_generator_state"
#: Where Keras keeps its own generator, for layers and operations that are given none. There is no
#: public way to it, and keras.utils.set_random_seed would not put it back.
GLOBAL_GENERATOR = "global_seed_generator"


class ModelState:
    """Values of every variable of a model, as they were when this was made.

    Optimizer variables are not among them: a probe never touches the model's own optimizer.
    """

    def __init__(self, model: Any) -> None:
        self._saved = [(v, copied(v)) for v in _variables(model)]
        trainable = {id(variable) for variable in model.trainable_variables}
        self._others = [(v, value) for v, value in self._saved if id(v) not in trainable]
        self._seeds = [v for v, _ in self._others if v.name == SEED_STATE]
        modules = _torch_modules(model)
        self._modes = [(module, module.training) for module in modules]
        buffers = {id(b): b for module in modules for b in module.buffers(recurse=False)}
        self._buffers = [(buffer, buffer.clone()) for buffer in buffers.values()]

    def restore(self) -> None:
        """Put every variable back, and what modules of PyTorch keep besides."""
        for variable, value in self._saved:
            variable.assign(value)
        self._restore_buffers()
        for module, training in self._modes:
            if module.training is not training:
                module.training = training

    def begin_pass(self, seed: int) -> None:
        """Put back what a pass changes besides weights, and seed its random layers.

        Statistics of normalization move in every training pass; the same `seed` gives the same
        dropout masks.
        """
        for variable, value in self._others:
            variable.assign(value)
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Seed the random layers."""
        rng = np.random.default_rng([seed, 0x6472])
        for variable in self._seeds:
            variable.assign(rng.integers(0, 2**31, variable.shape))
        generator = _global_generator()
        generator.state.assign(rng.integers(0, 2**31, generator.state.shape))

    def _restore_buffers(self) -> None:
        for buffer, value in self._buffers:
            buffer.copy_(value)


@contextmanager
def preserved(model: Any) -> Iterator[ModelState]:
    """The model's state; on leaving, however that happens, all of it is as it was before.

    So are the random states of Python, NumPy and Keras, and the losses that layers had added.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    had_generator = _has_global_generator()
    generator = _global_generator()
    generator_state = copied(generator.state)
    own_losses = [(layer, list(layer._losses)) for layer in _layers(model)]  # noqa: SLF001
    state = ModelState(model)
    try:
        yield state
    finally:
        state.restore()
        for layer, losses in own_losses:
            layer._losses[:] = losses  # noqa: SLF001
        generator.state.assign(generator_state)
        if not had_generator:
            _forget_global_generator()
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def untrained_state(model: Any) -> tuple[Any, ...]:
    """The `keras.Variable`s that a pass reads or moves besides trainable weights.

    Statistics, frozen weights and seeds of the model, and the state of Keras' own generator.
    """
    trainable = {id(variable) for variable in model.trainable_variables}
    others = [variable for variable in _variables(model) if id(variable) not in trainable]
    return (*others, _global_generator().state)


def copied(variable: Any) -> np.ndarray[Any, Any]:
    """The values of a `keras.Variable`, on their own."""
    # By way of a tensor: NumPy 2 warns of the conversion that variables themselves offer.
    return np.array(keras.ops.convert_to_numpy(keras.ops.copy(variable)))


def _variables(model: Any) -> list[Any]:
    """Every variable of the model once, and the states that recurrent layers keep between batches.

    On TensorFlow Keras loses track of these, and `model.variables` is without them.
    """
    states = [keras.tree.flatten(getattr(layer, "states", None)) for layer in _layers(model)]
    kept = [v for found in states for v in found if isinstance(v, keras.Variable)]
    return list({id(variable): variable for variable in (*model.variables, *kept)}.values())


def _layers(model: Any) -> list[Any]:
    return list(model._flatten_layers())  # noqa: SLF001


def _torch_modules(model: Any) -> list[Any]:
    """On PyTorch, all its modules in the model: layers are such, and may hold such.

    Their buffers, such as the statistics of `torch.nn.BatchNorm2d`, are no variables of Keras.
    """
    if keras.backend.backend() != "torch":
        return []
    modules = {id(module): module for layer in _layers(model) for module in layer.modules()}
    return list(modules.values())


def _global_generator() -> Any:
    """Keras' own generator, made if there is none yet."""
    from keras.src.random import seed_generator

    return seed_generator.global_seed_generator()


def _has_global_generator() -> bool:
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute(GLOBAL_GENERATOR) is not None


def _forget_global_generator() -> None:
    from keras.src.backend.common import global_state

    global_state.set_global_attribute(GLOBAL_GENERATOR, None)
