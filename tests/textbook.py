"""Healthy models of textbooks by name, beyond those of `models`: each the same at every call."""

from collections.abc import Callable

import keras
from textbook_generative import GENERATIVE
from textbook_images import IMAGES
from textbook_sequences import SEQUENCES
from textbook_tables import TABLES


def seeded(make: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    """The model with its weights drawn from a seed, its layers numbered from the beginning."""

    def build() -> keras.Model:
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        return make()

    return build


TEXTBOOK: dict[str, Callable[[], keras.Model]] = {
    name: seeded(make) for name, make in {**IMAGES, **SEQUENCES, **GENERATIVE, **TABLES}.items()
}
