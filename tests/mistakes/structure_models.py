"""The small models that the mistakes in structure and heads are made in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
from keras import initializers, layers, ops

from mistakes import Make, Mistake

CATEGORICAL, SPARSE = "categorical_crossentropy", "sparse_categorical_crossentropy"
BINARY = "binary_crossentropy"
#: Makes the layers of a stack; called once for each model.
Stack = Callable[[], Sequence[keras.Layer]]


def stacked(shape: tuple[int | None, ...], stack: Stack, loss: Any, **given: Any) -> keras.Model:
    model = keras.Sequential([keras.Input(shape, **given), *stack()])
    model.compile("adam", loss)
    return model


def head(
    units: int, activation: str | None, loss: Any, *, inputs: int = 20, hidden: str = "relu"
) -> keras.Model:
    """A network of one hidden layer, which differs in how it ends."""
    return stacked(
        (inputs,),
        lambda: [layers.Dense(64, activation=hidden), layers.Dense(units, activation=activation)],
        loss,
    )


def segmentation(activation: str | None, loss: Any, classes: int = 1) -> keras.Model:
    return stacked(
        (32, 32, 3),
        lambda: [
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(classes, 1, activation=activation),
        ],
        loss,
    )


def convolutional(
    *,
    flatten: keras.Layer | None,
    shape: tuple[int, int, int] = (28, 28, 1),
    loss: str = SPARSE,
    units: int = 10,
    activation: str | None = "softmax",
) -> keras.Model:
    end = [flatten] if flatten is not None else []
    return stacked(
        shape,
        lambda: [
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            *end,
            layers.Dense(units, activation=activation),
        ],
        loss,
    )


def deep(
    depth: int, activation: str, *, width: int = 64, normalized: bool = False, **dense: Any
) -> keras.Model:
    def stack() -> list[keras.Layer]:
        made: list[keras.Layer] = []
        for _ in range(depth):
            made.append(layers.Dense(width, activation=activation, **dense))
            made += [layers.BatchNormalization()] if normalized else []
        return [*made, layers.Dense(10, activation="softmax")]

    return stacked((width,), stack, SPARSE)


def hidden(stack: Stack, *, shape: tuple[int | None, ...] = (64,), **given: Any) -> keras.Model:
    """A classifier with these hidden layers."""
    return stacked(
        shape, lambda: [*stack(), layers.Dense(10, activation="softmax")], SPARSE, **given
    )


def selu(*, law: str = "lecun_normal", dropout: str = "AlphaDropout", norm: bool = False):
    def stack() -> list[keras.Layer]:
        made: list[keras.Layer] = []
        for _ in range(3):
            made.append(layers.Dense(128, activation="selu", kernel_initializer=law))
            made += [layers.BatchNormalization()] if norm else []
            made.append(getattr(layers, dropout)(0.1))
        return made

    return hidden(stack)


def residual(blocks: int, law: str, *, normalized: bool = False, scale: float = 1.0):
    x = inputs = keras.Input((64,))
    for _ in range(blocks):
        y = layers.LayerNormalization()(x) if normalized else x
        y = layers.Dense(64, activation="relu", kernel_initializer="he_normal")(y)
        y = layers.Dense(64, kernel_initializer=law)(y)
        x = layers.Add()([x, layers.Rescaling(scale)(y) if scale != 1 else y])
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile("adam", SPARSE)
    return model


def residual_convolutions(law: str) -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    for _ in range(20):
        y = layers.Conv2D(16, 3, padding="same", activation="relu", kernel_initializer="he_normal")
        z = layers.Conv2D(16, 3, padding="same", kernel_initializer=law)
        x = layers.Add()([x, z(y(x))])
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile("adam", SPARSE)
    return model


def with_codes(*, hard: bool) -> keras.Model:
    """Codes that are looked up by their index, or mixed by their weights."""
    inputs = keras.Input((64,))
    if hard:
        codes = layers.Dense(16)(layers.Dense(32, activation="relu")(inputs))
        x = layers.Embedding(16, 8)(ops.argmax(codes, axis=-1))
    else:
        codes = layers.Dense(32, activation="relu")(inputs)
        x = layers.Dense(8, activation="relu")(layers.Dense(16, activation="sigmoid")(codes))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile("adam", SPARSE)
    return model


def rounded(*, smooth: bool) -> keras.Model:
    inputs = keras.Input((64,))
    x = layers.Dense(32, activation="sigmoid")(inputs)
    x = x if smooth else ops.round(x)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", BINARY)
    return model


def two_outputs(losses: dict[str, str]) -> keras.Model:
    inputs = keras.Input((32,))
    x = layers.Dense(64, activation="relu")(inputs)
    y = layers.Dense(32, activation="relu", name="box_features")(x)
    outputs = {
        "label": layers.Dense(5, activation="softmax", name="label")(x),
        "box": layers.Dense(4, name="box")(y),
    }
    model = keras.Model(inputs, outputs)
    model.compile("adam", loss=losses)
    return model


def frozen(*, last: bool = False, every: bool = False) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    for layer in model.layers if every else model.layers[-1:] if last else ():
        layer.trainable = False
    model.compile("adam", SPARSE)
    return model


def application(size: int) -> keras.Model:
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(size, size, 3), classes=10, alpha=0.35
    )
    model.compile("adam", SPARSE)
    return model


def pooled(times: int) -> keras.Model:
    """Convolution and pooling in turn, then one more convolution."""

    def stack() -> list[keras.Layer]:
        made: list[keras.Layer] = []
        for index in range(times):
            made += [
                layers.Conv2D(8 * 2**index, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(padding="same"),
            ]
        made.append(layers.Conv2D(64, 3, padding="same", activation="relu"))
        return [*made, layers.Flatten()]

    return hidden(stack, shape=(28, 28, 1))


def changed(change: Callable[[Any], Any] | None) -> keras.Model:
    """A classifier whose second kernel was set by hand."""
    model = hidden(
        lambda: [layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu")]
    )
    if change is not None:
        kernel, bias = model.layers[1].get_weights()
        model.layers[1].set_weights([change(kernel), bias])
    return model


def recurrent(**lstm: Any) -> keras.Model:
    return stacked(
        (20, 8),
        lambda: [
            layers.LSTM(32, return_sequences=True, **lstm),
            layers.LSTM(16),
            layers.Dense(1),
        ],
        "mse",
    )


def softmax_along(axis: int) -> keras.Model:
    return stacked(
        (20,),
        lambda: [layers.Dense(64, activation="relu"), layers.Dense(10), layers.Softmax(axis=axis)],
        CATEGORICAL,
    )


def dense_images(*, flatten: bool, shape: tuple[int, ...] = (28, 28)) -> keras.Model:
    return hidden(
        lambda: [*([layers.Flatten()] if flatten else []), layers.Dense(32, activation="relu")],
        shape=shape,
    )


def embedded(*, pooled: bool) -> keras.Model:
    return stacked(
        (40,),
        lambda: [
            layers.Embedding(1000, 16),
            *([layers.GlobalAveragePooling1D()] if pooled else []),
            layers.Dense(16, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ],
        BINARY,
        dtype="int32",
    )


def signal(*, flatten: bool) -> keras.Model:
    return stacked(
        (128, 3),
        lambda: [
            layers.Conv1D(16, 5, activation="relu"),
            layers.MaxPooling1D(),
            *([layers.Flatten()] if flatten else []),
            layers.Dense(6, activation="softmax"),
        ],
        SPARSE,
    )


def squares(times: int) -> keras.Model:
    x = inputs = keras.Input((64,))
    for _ in range(times):
        x = ops.square(layers.Dense(64)(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile("adam", SPARSE)
    return model


def image(*stack: Callable[[], keras.Layer]) -> keras.Model:
    return hidden(lambda: [make() for make in stack], shape=(32, 32, 3))


def relu(units: int = 64, **given: Any) -> keras.Layer:
    return layers.Dense(units, activation="relu", **given)


NORMAL = initializers.RandomNormal
LOGITS = keras.losses.SparseCategoricalCrossentropy
CONVOLUTION = partial(layers.Conv2D, 16, 3, activation="relu")


def table(*rows: tuple[str, str, Make, Make]) -> tuple[Mistake, ...]:
    """Mistakes of rows (name, code, broken, mended)."""
    return tuple(
        Mistake(name=name, code=code, broken=broken, mended=mended)
        for name, code, broken, mended in rows
    )
