"""Parts of generative models, and models that compare, as keras.io and papers have them.

Each is compiled as its source does it; what a source trains by a loop of its own stays uncompiled.
"""

from collections.abc import Callable

import keras
from keras import layers, ops

#: What DCGAN and its successors draw their kernels from.
NARROW = keras.initializers.RandomNormal(stddev=0.02)


def denoising_autoencoder() -> keras.Model:
    inputs = x = keras.Input((28, 28, 1))
    for _ in range(2):
        x = layers.Conv2D(32, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D(padding="same")(x)
    for _ in range(2):
        x = layers.Conv2DTranspose(32, 3, strides=2, activation="relu", padding="same")(x)
    model = keras.Model(inputs, layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x))
    model.compile("adam", "binary_crossentropy")
    return model


def sparse_autoencoder() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(32, activation="relu", activity_regularizer=keras.regularizers.L1(1e-5)),
            layers.Dense(784, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    return model


def anomaly_autoencoder() -> keras.Model:
    """The electrocardiogram tutorial of TensorFlow."""
    stack: list[keras.Layer] = [keras.Input((140,))]
    stack += [layers.Dense(units, activation="relu") for units in (32, 16, 8, 16, 32)]
    model = keras.Sequential([*stack, layers.Dense(140, activation="sigmoid")])
    model.compile("adam", "mae")
    return model


def variational_encoder() -> keras.Model:
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Conv2D(64, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, [layers.Dense(2, name="mean")(x), layers.Dense(2, name="log")(x)])


def variational_decoder() -> keras.Model:
    inputs = keras.Input((2,))
    x = layers.Dense(7 * 7 * 64, activation="relu")(inputs)
    x = layers.Reshape((7, 7, 64))(x)
    x = layers.Conv2DTranspose(64, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(32, 3, activation="relu", strides=2, padding="same")(x)
    return keras.Model(
        inputs, layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    )


def discriminator() -> keras.Model:
    model = keras.Sequential([keras.Input((64, 64, 3))], name="discriminator")
    for filters in (16, 32, 32):
        model.add(layers.Conv2D(filters, 4, strides=2, padding="same"))
        model.add(layers.LeakyReLU(negative_slope=0.2))
    model.add(layers.Flatten())
    model.add(layers.Dropout(0.2))
    model.add(layers.Dense(1, activation="sigmoid"))
    return model


def dcgan_discriminator() -> keras.Model:
    model = discriminator()
    model.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), "binary_crossentropy")
    return model


def dcgan_combined() -> keras.Model:
    """The generator's training: what judges its images is frozen."""
    generator = keras.Sequential(
        [
            keras.Input((100,)),
            layers.Dense(8 * 8 * 32),
            layers.Reshape((8, 8, 32)),
            layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2DTranspose(16, 4, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(3, 5, padding="same", activation="tanh"),
        ],
        name="generator",
    )
    judge = discriminator()
    judge.trainable = False
    noise = keras.Input((100,))
    model = keras.Model(noise, judge(generator(noise)))
    model.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), "binary_crossentropy")
    return model


def wgan_gp_generator() -> keras.Model:
    noise = keras.Input((128,))
    x = layers.Dense(4 * 4 * 64, use_bias=False)(noise)
    x = layers.LeakyReLU(negative_slope=0.2)(layers.BatchNormalization()(x))
    x = layers.Reshape((4, 4, 64))(x)
    for filters, activation in (
        (32, layers.LeakyReLU(negative_slope=0.2)),
        (16, layers.LeakyReLU(negative_slope=0.2)),
        (1, layers.Activation("tanh")),
    ):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(layers.UpSampling2D()(x))
        x = activation(layers.BatchNormalization()(x))
    return keras.Model(noise, layers.Cropping2D((2, 2))(x))


def pix2pix_generator() -> keras.Model:
    """Isola et al. 2017, on images of 64 pixels in place of 256."""
    inputs = x = keras.Input((64, 64, 3))
    skips = []
    for index, filters in enumerate((16, 32, 64, 64, 64)):
        x = layers.Conv2D(
            filters, 4, strides=2, padding="same", kernel_initializer=NARROW, use_bias=False
        )(x)
        x = layers.BatchNormalization()(x) if index else x
        x = layers.LeakyReLU()(x)
        skips.append(x)
    for index, skip in enumerate(reversed(skips[:-1])):
        x = layers.Conv2DTranspose(
            skip.shape[-1], 4, strides=2, padding="same", kernel_initializer=NARROW, use_bias=False
        )(x)
        x = layers.BatchNormalization()(x)
        x = layers.Dropout(0.5)(x) if index < 2 else x
        x = layers.Concatenate()([layers.ReLU()(x), skip])
    x = layers.Conv2DTranspose(
        3, 4, strides=2, padding="same", kernel_initializer=NARROW, activation="tanh"
    )(x)
    model = keras.Model(inputs, x)
    model.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), "mae")
    return model


def cyclegan_generator() -> keras.Model:
    """keras.io: residual blocks under instance normalization; trained by a loop of its own."""

    def normalized(x: keras.KerasTensor, convolution: keras.Layer) -> keras.KerasTensor:
        return layers.GroupNormalization(groups=-1)(convolution(x))

    def conv(filters: int, size: int = 3, strides: int = 1) -> keras.Layer:
        return layers.Conv2D(
            filters, size, strides, "same", kernel_initializer=NARROW, use_bias=False
        )

    inputs = keras.Input((64, 64, 3))
    x = layers.Activation("relu")(normalized(inputs, conv(16, 7)))
    for filters in (32, 64):
        x = layers.Activation("relu")(normalized(x, conv(filters, strides=2)))
    for _ in range(4):
        y = layers.Activation("relu")(normalized(x, conv(64)))
        x = layers.add([normalized(y, conv(64)), x])
    for filters in (32, 16):
        up = layers.Conv2DTranspose(
            filters, 3, strides=2, padding="same", kernel_initializer=NARROW, use_bias=False
        )
        x = layers.Activation("relu")(normalized(x, up))
    return keras.Model(inputs, layers.Conv2D(3, 7, padding="same", activation="tanh")(x))


def super_resolution() -> keras.Model:
    """keras.io, after Shi et al. 2016: channels rearranged to three times as many pixels."""
    inputs = x = keras.Input((24, 24, 1))
    for filters, size in ((64, 5), (64, 3), (32, 3), (9, 3)):
        x = layers.Conv2D(
            filters, size, padding="same", activation="relu", kernel_initializer="orthogonal"
        )(x)
    x = ops.transpose(ops.reshape(x, (-1, 24, 24, 3, 3)), (0, 1, 3, 2, 4))
    model = keras.Model(inputs, ops.reshape(x, (-1, 72, 72, 1)))
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


def contrastive_siamese() -> keras.Model:
    """keras.io: LeNet's tanh and average pooling, a distance, a score."""
    image = keras.Input((28, 28, 1))
    x = layers.BatchNormalization()(image)
    for filters in (4, 16):
        x = layers.AveragePooling2D(2)(layers.Conv2D(filters, 5, activation="tanh")(x))
    x = layers.BatchNormalization()(layers.Flatten()(x))
    tower = keras.Model(image, layers.Dense(10, activation="tanh")(x))
    left, right = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    squares = ops.sum(ops.square(tower(left) - tower(right)), axis=1, keepdims=True)
    distance = ops.sqrt(ops.maximum(squares, keras.config.epsilon()))
    score = layers.Dense(1, activation="sigmoid")(layers.BatchNormalization()(distance))
    model = keras.Model([left, right], score)
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    return model


def triplet_embedding() -> keras.Model:
    """keras.io: distances of an anchor to its like and its unlike, under a loop of its own."""
    tower = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(32),
            layers.UnitNormalization(),
        ]
    )
    inputs = [keras.Input((32, 32, 3), name=name) for name in ("anchor", "like", "unlike")]
    anchor, like, unlike = (tower(x) for x in inputs)
    distances = [ops.sum(ops.square(anchor - other), axis=-1) for other in (like, unlike)]
    return keras.Model(inputs, distances)


GENERATIVE: dict[str, Callable[[], keras.Model]] = {
    make.__name__: make
    for make in (
        denoising_autoencoder,
        sparse_autoencoder,
        anomaly_autoencoder,
        variational_encoder,
        variational_decoder,
        dcgan_discriminator,
        dcgan_combined,
        wgan_gp_generator,
        pix2pix_generator,
        cyclegan_generator,
        super_resolution,
        contrastive_siamese,
        triplet_embedding,
    )
}
