"""Healthy models by family and name, built and saved for false_alarms.py to audit their files.

    python bench/healthy_models.py applications                      # names, one a line
    python bench/healthy_models.py applications FOLDER ResNet50 …    # saves FOLDER/ResNet50.keras

Models of keras.applications have random weights and the smallest image that they accept, and are
compiled with the optimizer of their paper. Textbook models are those of the tests.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import keras
from keras_applications import constructors, smallest
from models import HEALTHY
from textbook import TEXTBOOK

Makers = dict[str, Callable[[], keras.Model]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A paper's optimizer: Keras' class, its settings, its rate for batches of so many images."""

    optimizer: str
    rate: float
    batch: int
    settings: Mapping[str, Any]


def _sgd(rate: float, batch: int, decay: float | None, *, nesterov: bool = False) -> Recipe:
    settings = {"momentum": 0.9, "weight_decay": decay, "nesterov": nesterov}
    return Recipe(optimizer="SGD", rate=rate, batch=batch, settings=settings)


def _rmsprop(rate: float, batch: int, epsilon: float, momentum: float = 0.9) -> Recipe:
    settings = {"rho": 0.9, "momentum": momentum, "epsilon": epsilon}
    return Recipe(optimizer="RMSprop", rate=rate, batch=batch, settings=settings)


#: By the beginning of a constructor's name.
RECIPES: Mapping[str, Recipe] = {
    "ConvNeXt": Recipe(optimizer="AdamW", rate=4e-3, batch=4096, settings={"weight_decay": 0.05}),
    "DenseNet": _sgd(0.1, 256, 1e-4, nesterov=True),
    "EfficientNet": _rmsprop(0.256, 4096, 1e-3),
    "Inception": _rmsprop(0.045, 1600, 1.0, momentum=0.0),
    "MobileNet": _rmsprop(0.045, 96, 1.0),
    "NASNet": _rmsprop(0.04, 1600, 1.0),
    "ResNet": _sgd(0.1, 256, 1e-4),
    "VGG": _sgd(0.01, 256, 5e-4),
    "Xception": _sgd(0.045, 256, None),
}
#: Images a batch that a model is compiled for: the rate in proportion (Goyal et al. 2017).
BATCH = 32


def main(arguments: list[str]) -> int:
    """Print the names of a family, or save models of it."""
    family, *rest = arguments
    makers = FAMILIES[family]()
    if not rest:
        print("\n".join(makers))
        return 0
    folder, *names = rest
    for name in names:
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        makers[name]().save(Path(folder, f"{name}.keras"))
    return 0


def textbook() -> Makers:
    """The models of the tests, those of keras.applications aside."""
    own = {name: make for name, make in HEALTHY.items() if not hasattr(keras.applications, name)}
    return {**own, **TEXTBOOK}


def applications() -> Makers:
    """The models of keras.applications, compiled."""

    def maker(name: str, make: Callable[..., keras.Model]) -> Callable[[], keras.Model]:
        return lambda: _compiled(name, smallest(make))

    return {name: maker(name, make) for name, make in constructors().items()}


def _compiled(name: str, model: keras.Model) -> keras.Model:
    (recipe,) = (recipe for start, recipe in RECIPES.items() if name.startswith(start))
    rate = recipe.rate * BATCH / recipe.batch
    optimizer = getattr(keras.optimizers, recipe.optimizer)(rate, **recipe.settings)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


FAMILIES: Mapping[str, Callable[[], Makers]] = {"textbook": textbook, "applications": applications}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
