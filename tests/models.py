"""Healthy models as textbooks and papers have them, small enough to build in a test."""

from collections.abc import Callable

import keras
from keras import layers, ops


def application(name: str) -> Callable[[], keras.Model]:
    """A model of keras.applications with random weights on 96-pixel inputs."""

    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        make = getattr(keras.applications, name)
        model = make(weights=None, input_shape=(96, 96, 3), classes=10)
        model.compile(
            optimizer=keras.optimizers.Adam(1e-3), loss="categorical_crossentropy", metrics=["acc"]
        )
        return model

    return build


def lstm_classifier() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(2000, 64, mask_zero=True),
            layers.LSTM(64, return_sequences=True),
            layers.LSTM(32),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def transformer_encoder() -> keras.Model:
    keras.utils.set_random_seed(0)
    tokens = keras.Input((32,), dtype="int32")
    x = layers.Embedding(1000, 64)(tokens)
    positions = layers.Embedding(32, 64)(ops.arange(32))
    x = x + positions
    for _ in range(4):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(4, 16, dropout=0.1)(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(256, activation="gelu")(y)
        y = layers.Dense(64)(y)
        x = layers.Add()([x, layers.Dropout(0.1)(y)])
    x = layers.LayerNormalization()(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(tokens, layers.Dense(5, activation="softmax")(x))
    model.compile(keras.optimizers.AdamW(3e-4), "sparse_categorical_crossentropy")
    return model


def autoencoder() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(48, activation="relu"),
            layers.Dense(16, activation="relu"),
            layers.Dense(48, activation="relu"),
            layers.Dense(64, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    return model


def convolutional_autoencoder() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 1))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(x)
    model = keras.Model(inputs, layers.Conv2D(1, 3, padding="same")(x))
    model.compile("adam", "mse")
    return model


def unet() -> keras.Model:
    keras.utils.set_random_seed(0)

    def double(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
        for _ in range(2):
            x = layers.Conv2D(
                filters, 3, padding="same", activation="relu", kernel_initializer="he_normal"
            )(x)
        return x

    inputs = keras.Input((64, 64, 3))
    skips = []
    x = inputs
    for filters in (8, 16, 32):
        x = double(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.3)(double(x, 64))
    for filters in (32, 16, 8):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = double(layers.Concatenate()([skips.pop(), x]), filters)
    model = keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))
    model.compile(keras.optimizers.Adam(1e-4), "binary_crossentropy")
    return model


def wgan_critic() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 5, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Conv2D(64, 5, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Conv2D(128, 5, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.RMSprop(5e-5), "mse")
    return model


def dcgan_generator() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((100,)),
            layers.Dense(4 * 4 * 64, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((4, 4, 64)),
            layers.Conv2DTranspose(32, 5, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(
                3, 5, strides=2, padding="same", use_bias=False, activation="tanh"
            ),
        ]
    )
    model.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), "mse")
    return model


def tabular_regressor() -> keras.Model:
    keras.utils.set_random_seed(0)
    normalize = layers.Normalization()
    normalize.build((None, 13))
    model = keras.Sequential(
        [
            keras.Input((13,)),
            normalize,
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.RMSprop(1e-3), "mse", metrics=["mae"])
    return model


def tanh_mlp() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((20,))]
        + [layers.Dense(32, activation="tanh") for _ in range(3)]
        + [layers.Dense(3, activation="softmax")]
    )
    model.compile("adam", "categorical_crossentropy")
    return model


def gru_forecaster() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((24, 4)),
            layers.Bidirectional(layers.GRU(32)),
            layers.Dropout(0.2),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mae")
    return model


def siamese() -> keras.Model:
    keras.utils.set_random_seed(0)
    tower = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(32),
        ],
        name="tower",
    )
    left, right = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    distance = ops.abs(tower(left) - tower(right))
    model = keras.Model([left, right], layers.Dense(1, activation="sigmoid")(distance))
    model.compile("adam", "binary_crossentropy")
    return model


def multi_output() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32,))
    x = layers.Dense(64, activation="relu")(inputs)
    kind = layers.Dense(4, activation="softmax", name="kind")(x)
    size = layers.Dense(1, name="size")(x)
    model = keras.Model(inputs, {"kind": kind, "size": size})
    model.compile("adam", {"kind": "sparse_categorical_crossentropy", "size": "mse"})
    return model


def logits_classifier() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((20,)), layers.Dense(64, activation="relu"), layers.Dense(10)]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def frozen_sigmoids() -> keras.Model:
    """Random features of a frozen stack, normalized: only what follows is trained."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,))]
        + [layers.Dense(64, activation="sigmoid", trainable=False) for _ in range(10)]
        + [layers.BatchNormalization(), layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def frozen_wide_relu() -> keras.Model:
    keras.utils.set_random_seed(0)
    normal = [keras.initializers.RandomNormal(stddev=0.3, seed=index) for index in range(12)]
    model = keras.Sequential(
        [keras.Input((256,))]
        + [
            layers.Dense(256, activation="relu", kernel_initializer=law, trainable=False)
            for law in normal
        ]
        + [layers.LayerNormalization(), layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def frozen_backbone() -> keras.Model:
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(96, 96, 3), pooling="avg"
    )
    backbone.trainable = False
    model = keras.Sequential(
        [keras.Input((96, 96, 3)), backbone, layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def deep_normalized_cnn() -> keras.Model:
    """Fifty normalized convolutions without a skip: it reaches 80 % on digits in 25 epochs."""
    keras.utils.set_random_seed(0)
    stack: list[keras.Layer] = [keras.Input((8, 8, 1))]
    for _ in range(50):
        stack += [
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
        ]
    model = keras.Sequential(
        [*stack, layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")]
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def still_residual_mlp() -> keras.Model:
    """Sixty residual blocks without normalization, whose branches start at nothing (Fixup)."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    x = layers.Dense(64)(inputs)
    for _ in range(60):
        y = layers.Dense(64, activation="relu", kernel_initializer="he_normal")(x)
        y = layers.Dense(64, kernel_initializer="zeros")(y)
        x = layers.Add()([x, y])
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def identity_rnn() -> keras.Model:
    """Le, Jaitly, Hinton 2015: rectified units that begin by remembering everything."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((100, 4)),
            layers.SimpleRNN(32, activation="relu", recurrent_initializer="identity"),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model


def long_tanh_rnn() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((100, 4)), layers.SimpleRNN(32), layers.Dense(5, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


HEALTHY: dict[str, Callable[[], keras.Model]] = {
    **{
        name: application(name)
        for name in ("MobileNetV3Small", "ResNet50", "EfficientNetB0", "DenseNet121", "VGG16")
    },
    "lstm_classifier": lstm_classifier,
    "transformer_encoder": transformer_encoder,
    "autoencoder": autoencoder,
    "convolutional_autoencoder": convolutional_autoencoder,
    "unet": unet,
    "wgan_critic": wgan_critic,
    "dcgan_generator": dcgan_generator,
    "tabular_regressor": tabular_regressor,
    "tanh_mlp": tanh_mlp,
    "gru_forecaster": gru_forecaster,
    "siamese": siamese,
    "multi_output": multi_output,
    "logits_classifier": logits_classifier,
    "frozen_sigmoids": frozen_sigmoids,
    "frozen_wide_relu": frozen_wide_relu,
    "frozen_backbone": frozen_backbone,
    "deep_normalized_cnn": deep_normalized_cnn,
    "still_residual_mlp": still_residual_mlp,
    "identity_rnn": identity_rnn,
    "long_tanh_rnn": long_tanh_rnn,
}
